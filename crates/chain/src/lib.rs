//! The canonical chain: one head, everything below it, and how a block gets on top.
//!
//! Owns which block is the head, how a block is executed and sealed on it ([`Chain::produce`]), and
//! that it becomes visible as a whole ([`Chain::commit`]): state, history, look-ups and the head
//! change in one step of the store, and subscribers hear of it once, in order.
//!
//! Promises: every block goes through the parallel executor and carries real roots. Readers are
//! never blocked by a block in the making; a [`State`] stays what it was when it was taken.
//!
//! Leaves to others: which transactions go into a block (`builder`), the tables (`store`), what
//! executing means (`evm`, `parallel`).

mod block;
mod chain;
mod error;
mod genesis;
mod produce;
mod state;

pub use block::ChainBlock;
pub use chain::{Chain, ChainEvent};
pub use error::ChainError;
pub use genesis::GenesisBlock;
pub use produce::{BlockAttributes, ProducedBlock};
pub use state::{CodeCache, State};

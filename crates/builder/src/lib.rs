//! Which transactions go into a block, in which order, and when a block is made.
//!
//! Owns the one thread that makes blocks ([`Miner`]) and its modes: instant (a transaction is mined
//! as soon as it is there; those that arrive meanwhile share the next block, which waits up to half a second for batches
//! whose senders are being recovered), by interval, and by request. While transactions come faster than blocks are made, a
//! sealed block is committed on a second thread and the next one executed on it meanwhile. Keeps the pool in step with the
//! chain: it hears of a block right after that is the head, and what is in a block that is still being committed is not
//! offered to the next one.
//!
//! Where it is asked for ([`MinerConfig::simulate`]), an idle core executes what waits on the head's state, to know before
//! the block is made what will touch what: the parallel executor is told, and among equal tips what much else waits for
//! goes first.
//!
//! Promises: transactions are offered by effective tip, then arrival (or, with simulation, then as many workers like it),
//! with each sender's nonces in order; whatever is executable in the pool gets mined in instant mode, in whatever order it
//! arrived; a failure to make a block stops nothing but that block.
//!
//! Leaves to others: what a transaction must look like (`pool`), executing and sealing (`chain`).

mod candidates;
mod clock;
mod committer;
mod error;
mod gather;
mod head_follower;
mod miner;
mod ordering;
mod shared;
mod simulation;
mod simulator;
mod worker;

pub use error::MineError;
pub use heddle_chain::ProducedBlock as PendingBlock;
pub use heddle_pool::{Origin, PoolError, PoolTransaction};
pub use miner::{Arrival, Miner, MinerConfig};

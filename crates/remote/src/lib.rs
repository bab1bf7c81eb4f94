//! Another node as a source.
//!
//! Owns JSON-RPC calls to a node ([`NodeClient`]): in batches, again after a while where that may help, with errors that
//! name the node without its secrets; a thread that makes them for threads without a runtime ([`RemoteNode`]); and the
//! state after one of its blocks ([`RemoteState`], found by [`Fork::open`]), read when something asks for it, kept in
//! memory and on disk.
//!
//! Promises: a value is what the node answered, or there is an error that says why not; never a zero for what could not
//! be read. Reads end within a minute. What is on disk and damaged is not used. Nothing grows without bound
//! ([`CACHE_FILE_BYTES_MAX`], [`CACHE_BYTES_MAX`]).
//!
//! Leaves to others: what a chain does on top of such a block (`chain`), bundles of historical blocks (`replay`).

mod cache;
mod client;
mod error;
mod fork;
mod node;
mod state;

pub use cache::{CACHE_BYTES_MAX, CACHE_FILE_BYTES_MAX};
pub use client::{Answer, Call, NodeClient, Patience};
pub use error::RemoteError;
pub use fork::{Fork, ForkBlock, ForkOptions};
pub use node::RemoteNode;
pub use state::RemoteState;

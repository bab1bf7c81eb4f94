//! Load for a running node: sends a workload, measures how it fares, and checks what came of it.
//!
//! Owns the accounts of a run (made for it and funded), the set-up on the node's chain, the signed and
//! encoded transactions, the connections that send them, the look-out for blocks that hold them, and
//! the accounting afterwards. It asks for nothing but the `eth` methods every node has.
//!
//! Promises: nothing is signed or encoded while the clock runs; a transaction's latency counts from
//! when it was *meant* to be sent until a block that holds it was seen, so that a node that stalls
//! cannot hide it; `included` counts what is in the chain once by the node's own receipts, and every
//! account's nonce, ether, tokens and every counter of the contracts is compared with what the
//! transactions should have done to it.
//!
//! Leaves to others: what the workloads do (`workload`), and printing.
//!
//! The timed part runs on one thread, so nothing in it is shared or locked.

mod answer;
mod check;
mod client;
mod connection;
mod drive;
mod encode;
mod endpoint;
mod error;
mod fees;
mod follow;
mod funding;
mod keys;
mod lane;
mod latency;
mod options;
mod report;
mod run;
mod tracker;

pub use endpoint::Endpoint;
pub use error::LoadError;
pub use latency::{Bar, Latencies};
pub use options::LoadOptions;
pub use report::{LoadReport, Progress};
pub use run::run;

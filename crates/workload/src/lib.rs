//! Blocks that are worth measuring: contracts and transaction generators for benches.
//!
//! Owns the workloads (each a block of transactions together with the state it starts from, the
//! same for the same size) and the measurement that runs one sequentially and in parallel,
//! alternating in one process, and checks that both give the same result.
//!
//! Promises: state is made by executing set-up transactions, never by guessing storage slots;
//! every transaction of a workload succeeds; what is reported was measured in that run.
//!
//! Leaves to others: printing.

mod contracts;
mod error;
mod measure;
mod memory_state;
mod setup;
mod workload;

pub use error::WorkloadError;
pub use measure::{Measurement, measure};
pub use memory_state::MemoryState;
pub use workload::{Workload, WorkloadKind};

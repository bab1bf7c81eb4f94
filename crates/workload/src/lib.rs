//! Blocks that are worth measuring: contracts and transaction generators for benches and load.
//!
//! Owns the workloads (each a block of transactions together with the state it starts from, the
//! same for the same seed and size) and the measurement that runs one sequentially and in
//! parallel, alternating in one process, and checks that both give the same result. Also the same
//! workloads as plans for a node that somebody else runs ([`LiveWorkload`]).
//!
//! Promises: state is made by executing set-up transactions, never by guessing storage slots; as
//! many transactions of a workload fail as are made to, which is none but in `mixed-defi`; what is
//! reported was measured in that run.
//!
//! Leaves to others: printing; keys, signing, and sending a plan to a node (`load`).

mod cold_reads;
mod contracts;
mod effects;
mod error;
mod kind;
mod live;
mod measure;
mod memory;
mod memory_state;
mod random;
mod scenario;
mod setup;
mod workload;

pub use cold_reads::{ColdRead, ColdState};
pub use effects::{Change, Reading};
pub use error::WorkloadError;
pub use kind::{WorkloadKind, WorkloadOptions};
pub use live::{AddressBook, Call, Group, LiveWorkload, PAYMENT_GAS, PAYMENTS_GAS, payments};
pub use measure::{MeasureOptions, Measurement, Side, measure};
pub use memory::MemoryUse;
pub use memory_state::MemoryState;
pub use workload::Workload;

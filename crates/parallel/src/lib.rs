//! The transactions of one block on many workers, with the result of running them one by one.
//!
//! Owns versions, scheduling, conflicts and the profile of a run. Every worker runs revm over a
//! multi-version memory above a read-only parent state. Reads record versions, writes publish
//! versions; a transaction is committed in block order after its reads were validated against
//! final values, and runs again if they went stale. The idea is that of Block-STM (Gelashvili et
//! al., PPoPP 2023) with validation at the commit point instead of validation waves: see
//! `scheduler` for the two rules that make the result right.
//!
//! Promises: [`ParallelExecutor::execute`] gives exactly what [`heddle_evm::execute_block`] gives
//! (receipts, gas, changes, requests, and the same error for the same invalid block), for every
//! block, number of workers and interleaving; no worker waits on a lock that another holds while
//! running the EVM; a panic in a worker or a failing state read is an error and leaves the
//! executor usable.
//!
//! Leaves to others: blocks on disk, roots, headers.

mod aftermath;
mod cell;
mod counter;
mod engine;
mod executor;
mod forecast;
mod guard;
mod hashes;
mod journal;
mod learner;
mod location;
mod memory;
mod payment;
mod profile;
mod scheduler;
mod solo;
mod sync;
mod table;
mod translation;
mod tx_evm;
mod vm;
mod worker;

#[cfg(all(test, feature = "shuttle"))]
mod model;

pub use executor::{Cancellation, ExecutedBlock, Execution, ParallelExecutor};
pub use forecast::AccessHint;
pub use location::{Incarnation, Location, TxIndex};
pub use profile::{Conflict, Ending, LocationConflicts, Profile, Span, WorkerTimes};

/// The policy by itself, for those who simulate it: what is known of a block before it runs, who
/// does what next, and how often a run looks whether it still makes sense.
pub mod scheduling {
    pub use crate::{
        cell::{balance_can_be_open, takes_credit},
        counter::Additions,
        forecast::{BlockForecast, Pace},
        payment::{Payment, PaymentRules},
        scheduler::{Forecast, PATIENCE, Plan, Scheduler, Stretch, Task},
        translation::JUMPS_UNWATCHED,
        worker::READS_UNWATCHED,
    };
}

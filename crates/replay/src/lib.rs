//! Real blocks again: verified, sequential against parallel, and explained.
//!
//! Owns bundles (one historical block with its full pre-state, see [`Bundle`]), what it means that
//! one verifies, the true dependency graph of a block and its critical path, the simulation of
//! more workers than there are, and the report made of all that.
//!
//! Promises: a bundle that is not one is an error that names file and JSON path, never a panic, and
//! never more than [`BUNDLE_BYTES_MAX`] bytes of it are read; a bundle verifies only if the
//! reference and the parallel executor agree in everything, in every repetition, and with the
//! header in all that a flat state lets one check. Times are measured in the run that reports
//! them, with sender recovery left out and the state in memory; what is simulated is called so.
//!
//! Leaves to others: fetching bundles from nodes, storing anything, printing.
//!
//! ```no_run
//! use heddle_replay::{Bundle, ReplayOptions, Replayer, Summary, find_bundles};
//!
//! let replayer = Replayer::new(ReplayOptions { repeat: 5, ..Default::default() })?;
//! let mut lines = Vec::new();
//! for path in find_bundles(&["bundles"])? {
//!     let report = replayer.replay(&Bundle::read(path)?)?;
//!     lines.push(report.line);
//! }
//! let summary = Summary::new(&lines);
//! # Ok::<(), heddle_replay::ReplayError>(())
//! ```
//!
//! What a bundle cannot give: ommers' rewards (it has their hashes only) and the state root (its
//! state is flat). Before Byzantium receipts hold state roots, so that of those blocks gas and
//! bloom are checked.

mod analysis;
mod bundle;
mod compare;
mod error;
mod graph;
mod line;
mod names;
mod prestate;
mod quantity;
mod record;
mod replay;
mod report;
mod simulate;
mod transaction_json;

pub use analysis::{Analysis, NamedLocation, SIMULATED_WORKERS};
pub use bundle::{BUNDLE_BYTES_MAX, Bundle, BundledReceipt, find_bundles};
pub use compare::{Checks, Mismatch};
pub use error::ReplayError;
pub use graph::{CriticalPath, Dependency, DependencyGraph, HotLocation, TransactionNode};
pub use line::{BlockLine, Summary};
pub use prestate::{FlatState, MissingRead};
pub use replay::{BlockReport, ReplayOptions, Replayer};
pub use report::{HtmlReport, REPORT_DETAILS_MAX};
pub use simulate::{SimulatedRun, SimulationCosts, simulate};
pub use transaction_json::BundledTransaction;

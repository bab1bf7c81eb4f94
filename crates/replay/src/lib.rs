//! Real blocks again: verified, sequential against parallel, and explained.
//!
//! Owns bundles (one historical block with its full pre-state, see [`Bundle`]) and where they come
//! from: files, any node with `prestateTracer` ([`BundleFetcher`]), our own chain
//! ([`export_bundles`]). Owns what it means that one verifies, the true dependency graph of a block
//! and its critical path, the simulation of more workers than there are, and the report made of
//! all that.
//!
//! Promises: a bundle that is not one is an error that names file and JSON path, never a panic, and
//! never more than [`BUNDLE_BYTES_MAX`] bytes of it are read; a bundle verifies only if the
//! reference and the parallel executor agree in everything, in every repetition, and with the
//! header in all that a flat state lets one check. Times are measured in the run that reports
//! them, with sender recovery left out and the state in memory; what is simulated is called so.
//!
//! Leaves to others: storing chains, printing.
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
//! What a bundle cannot give: the state root (its state is flat), and ommers' rewards where it has
//! only their hashes. Before Byzantium receipts hold state roots, so that of those blocks gas and
//! bloom are checked.

mod analysis;
mod block_json;
mod bundle;
mod bundle_file;
mod capture;
mod compare;
mod error;
mod export;
mod fetch;
mod flat_state;
mod graph;
mod input;
mod line;
mod merge;
mod names;
mod prestate;
mod quantity;
mod record;
mod replay;
mod report;
mod scale;
mod simulate;
mod simulation_check;
mod transaction_json;

pub use analysis::{Analysis, NamedLocation};
pub use bundle::{BUNDLE_BYTES_MAX, Bundle, BundledReceipt, find_bundles};
pub use bundle_file::{BundleFile, bundle_path};
pub use compare::{Checks, Mismatch};
pub use error::ReplayError;
pub use export::{ExportProgress, export_bundles};
pub use fetch::{BundleFetcher, FetchedBundle, SavedBundle};
pub use flat_state::{FlatState, MissingRead};
pub use graph::{CriticalPath, Dependency, DependencyGraph, HotLocation, TransactionNode, Writer};
pub use line::{BlockLine, Summary};
pub use prestate::{Prestate, PrestateAccount};
pub use replay::{BlockReport, ReplayOptions, Replayer};
pub use report::{HtmlReport, REPORT_DETAILS_MAX};
pub use scale::{SIMULATED_WORKERS, Scale, ScaleLine, ScalePoint};
pub use simulate::{SimulatedBlock, SimulatedRun, SimulationCosts, simulate};
pub use simulation_check::SimulationCheck;
pub use transaction_json::BundledTransaction;

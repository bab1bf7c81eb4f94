//! The Ethereum blockchain tests, run through the import path.
//!
//! Owns the format of the tests, what their networks mean ([`chain_config`]), and the judgement:
//! every valid block must be imported, every invalid one refused with nothing changed, and the head
//! and the state at the end must be the stated ones. Every block goes through
//! [`heddle_chain::Chain::import_rlp`] and so through the parallel executor.
//!
//! Promises: a test that cannot be run counts as failed unless it is about what the documentation
//! excludes (proof-of-work seals, forks to come); then it counts as skipped, with the reason. So
//! does JSON that is another kind of test, or none.
//!
//! Leaves to others: everything that a node does; this crate is for testing only.

mod format;
mod network;
mod report;
mod run;
mod source;

pub use format::{BlockchainTest, TestBlock};
pub use network::{UnknownNetwork, chain_config, unsupported_fork};
pub use report::{Report, TestResult, Verdict};
pub use run::{run_file, run_test};
pub use source::{SourceError, Suite, TestFile};

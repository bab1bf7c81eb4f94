//! One running node out of all the other crates.
//!
//! Owns what a node is configured with ([`NodeConfig`]), the order in which its parts start and
//! stop, the development accounts, and the metrics endpoint.
//!
//! Promises: [`Node::start`] either gives a node that answers, or an error and nothing left
//! running; [`Node::stop`] ends within [`STOP_TIME_MAX`] with everything on disk that was shown.
//!
//! Leaves to others: the command line and everything printed (`bin/heddle`).

mod config;
mod dev_accounts;
mod dump;
mod error;
mod fork;
mod running;

pub use config::{ChainSource, NodeConfig, workers_by_default};
pub use dev_accounts::{DEV_MNEMONIC, DevAccount, DevChain, dev_accounts};
pub use dump::has_dump;
pub use error::NodeError;
pub use fork::ForkConfig;
pub use heddle_chain::{Chain, ImportProgress, ImportSummary};
pub use heddle_chainspec::ChainSpec;
pub use heddle_remote::{ForkBlock, ForkOptions, Patience};
pub use heddle_rpc::{Apis, ForkDefaults, LogSwitch, RpcConfig, RpcLimits};
pub use heddle_store::{
    CACHE_BYTES, DURABILITY_WINDOW, DurabilityPolicy, PROOF_DEPTH_BLOCKS, PruneDistances, TableSize,
};
pub use running::{Node, STOP_TIME_MAX, check_store, init_datadir, open_chain, open_store};

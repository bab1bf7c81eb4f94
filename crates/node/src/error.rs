//! Why a node does not start.

use heddle_chain::ChainError;
use heddle_chainspec::ChainSpecError;
use heddle_rpc::RpcError;
use heddle_store::StoreError;
use std::{io, net::SocketAddr, path::PathBuf};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The genesis file cannot be read.
    #[error("cannot read the genesis file {}: {source}", path.display())]
    GenesisFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The development chain's genesis is no JSON.
    #[error("the development chain's genesis: {0}")]
    GenesisJson(#[source] serde_json::Error),
    /// The development chain cannot be as it was asked for.
    #[error("the development chain cannot be so: {0}")]
    DevChain(#[source] ChainSpecError),
    /// No keys can be derived.
    #[error("the mnemonic is wrong: {0}")]
    Mnemonic(String),
    /// The genesis file is wrong.
    #[error("{}: {source}", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the JSON path.
        source: ChainSpecError,
    },
    /// Neither `--dev` nor `--genesis` was given.
    #[error(
        "which chain? give --dev for the development chain, --genesis FILE, or the --datadir of a chain"
    )]
    NoChain,
    /// The data directory has no chain yet.
    #[error("{} holds no chain; run `heddle init --genesis FILE --datadir DIR` first", path.display())]
    NotInitialised {
        /// The data directory.
        path: PathBuf,
    },
    /// The state dump cannot be read.
    #[error("cannot read the state dump {}: {source}", path.display())]
    DumpFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The state dump is wrong, or none can be written.
    #[error("{}: {source}", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<heddle_dump::DumpError>,
    },
    /// Only a chain without blocks can start from a state dump.
    #[error(
        "the data directory has {blocks} blocks already; load the state dump into a new directory, or without --datadir"
    )]
    ChainHasBlocks {
        /// How many, without genesis.
        blocks: u64,
    },
    /// The other node's block cannot be read.
    #[error("cannot fork: {0}")]
    Fork(#[from] heddle_remote::RemoteError),
    /// What was loaded could not become the chain.
    #[error(transparent)]
    Load(Box<heddle_builder::MineError>),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain does not open.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The RPC server does not start.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The metrics endpoint does not start.
    #[error("cannot serve metrics on {address}: {reason}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The system refuses threads.
    #[error("cannot start a thread: {0}")]
    Threads(#[source] io::Error),
}

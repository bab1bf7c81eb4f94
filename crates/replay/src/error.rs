//! Why a bundle cannot be replayed at all. A bundle that replays and does not verify is no error
//! but a [`Mismatch`](crate::Mismatch).

use heddle_remote::RemoteError;
use std::{io, path::PathBuf};

/// Why a bundle cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file or directory cannot be read, or is damaged gzip.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A report cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A bundle is larger than any block can make it.
    #[error("{}: more than {limit_bytes} bytes of JSON, which no block's bundle needs", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The limit, after decompression.
        limit_bytes: u64,
    },
    /// The file is not a bundle.
    #[error("{}: {at}: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where in it, as a JSON path.
        at: String,
        /// What is wrong there.
        reason: String,
    },
    /// A directory without a single bundle.
    #[error("{} holds no bundle: no file ends in .json or .json.gz", path.display())]
    NoBundle {
        /// Which directory.
        path: PathBuf,
    },
    /// The rules of the bundle's chain are not known.
    #[error(
        "{}: chainId: the rules of chain {chain_id} are not built in; give its genesis file (--genesis)",
        path.display()
    )]
    UnknownChain {
        /// Which file.
        path: PathBuf,
        /// The chain that it names.
        chain_id: u64,
    },
    /// A block cannot be made a bundle.
    #[error("block {number}: {reason}")]
    Block {
        /// Which block.
        number: u64,
        /// Why.
        reason: String,
    },
    /// A block cannot be fetched.
    #[error("block {number}: {source}")]
    Fetch {
        /// Which block.
        number: u64,
        /// Why.
        source: Box<Self>,
    },
    /// A node cannot be read.
    #[error(transparent)]
    Node(#[from] RemoteError),
    /// The address of a node is none.
    #[error("--rpc: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// A node does not know a block.
    #[error("{node} has no block {number}; its newest is {newest}")]
    NoBlock {
        /// Which node.
        node: String,
        /// The block.
        number: u64,
        /// The newest that it has.
        newest: u64,
    },
    /// The system refuses threads.
    #[error("cannot start workers: {0}")]
    Workers(io::Error),
}

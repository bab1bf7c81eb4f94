//! Why another node could not be read.

use std::{io, path::PathBuf, sync::Arc};

/// Those that `method` takes, as the flag wants them.
fn namespaces(method: &str) -> String {
    match method.split('_').next() {
        None | Some("eth") => "eth".to_owned(),
        Some(namespace) => format!("eth,{namespace}"),
    }
}

/// Why another node could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RemoteError {
    /// The address of a node is none.
    #[error("the node's address: {reason}")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// A node cannot be asked.
    #[error("{node} does not answer {method}: {reason}")]
    Unreachable {
        /// Which one.
        node: String,
        /// What it was asked.
        method: &'static str,
        /// What happened.
        reason: String,
    },
    /// A node does not serve a method.
    #[error(
        "{node} does not serve {method}; it must offer more namespaces \
         (geth, reth, heddle: --http.api {})",
        namespaces(method)
    )]
    NoMethod {
        /// Which node.
        node: String,
        /// What it lacks.
        method: &'static str,
    },
    /// A node no longer has the state of a block.
    #[error(
        "{node} has not kept the state of this block: take an archive node (geth: \
         --gcmode archive; reth: not --full), or a newer block ({method}: {reason})"
    )]
    NoState {
        /// Which node.
        node: String,
        /// What it was asked.
        method: &'static str,
        /// What it says.
        reason: String,
    },
    /// A node answers with an error, or with what is no answer.
    #[error("{node} answers {method} with: {reason}")]
    Answer {
        /// Which node.
        node: String,
        /// What it was asked.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A node does not know the block that is asked for.
    #[error("{node} has no block {number}")]
    NoBlock {
        /// Which node.
        node: String,
        /// The block.
        number: u64,
    },
    /// Nothing can be built on a block of proof of work.
    #[error("block {number} of {node} is from before the merge, and no blocks are made on such")]
    BeforeMerge {
        /// Which node.
        node: String,
        /// The block.
        number: u64,
    },
    /// More requests are on their way than may be.
    #[error("{max} requests to {node} are waiting for their answers already; try again")]
    Busy {
        /// Which node.
        node: String,
        /// The limit.
        max: usize,
    },
    /// The connection was given up, because this node stops or turned to another one.
    #[error("{node} is not asked any more")]
    Stopped {
        /// Which node.
        node: String,
    },
    /// What was read cannot be kept on disk.
    #[error("cannot use the fork cache {}: {source}", path.display())]
    Cache {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The system refuses threads.
    #[error("cannot start the thread that asks the other node: {0}")]
    Threads(Arc<io::Error>),
}

//! What can go wrong when a block is asked for.

use heddle_chain::ChainError;

/// Why no block was made, or a request about making blocks was refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MineError {
    /// The chain refused or failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A block that somebody else made breaks a rule.
    #[error("the block is invalid: {0}")]
    Refused(String),
    /// There are not so many blocks.
    #[error("the chain cannot go back by {depth} blocks: it has {head}")]
    TooDeep {
        /// Asked for.
        depth: u64,
        /// Number of the head.
        head: u64,
    },
    /// Timestamps only grow.
    #[error("timestamp {timestamp} is not after the head's, {head}")]
    TimestampTooOld {
        /// Asked for, in seconds.
        timestamp: u64,
        /// Of the head, in seconds.
        head: u64,
    },
    /// Moving the clock so far would overflow it.
    #[error("the clock cannot be moved by {0} seconds")]
    ClockOverflow(u64),
    /// More blocks than one request may ask for.
    #[error("{asked} blocks are more than the {max} that one request may ask for")]
    TooManyBlocks {
        /// Asked for.
        asked: u64,
        /// The limit.
        max: u64,
    },
    /// The node is shutting down.
    #[error("no more blocks are made: the node is shutting down")]
    Stopped,
}

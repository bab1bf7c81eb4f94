use heddle_chain::ChainError;
use std::io;

/// Why a dump cannot be read, loaded or written.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is compressed, and what is compressed is damaged or cut off.
    #[error("the state dump cannot be decompressed: {0}; it is damaged or cut off")]
    Gzip(#[source] io::Error),
    /// There is more of it than anybody's development chain has.
    #[error("the state dump is larger than {max} bytes")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// It is not what Anvil writes.
    #[error("the state dump is wrong at {path}: {reason}")]
    Json {
        /// The place in it.
        path: String,
        /// What is wrong there.
        reason: String,
    },
    /// Its parts do not belong together.
    #[error("the state dump contradicts itself: {0}")]
    Inconsistent(String),
    /// The present state is too large to be put together with it, or to be dumped.
    #[error("the state has more than {max} accounts and slots, too many for a dump")]
    TooManyEntries {
        /// The limit.
        max: usize,
    },
    /// The chain failed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// It cannot be written.
    #[error("the state dump cannot be written: {0}")]
    Write(#[from] io::Error),
    /// The chain changed meanwhile.
    #[error("the chain was reorganised while it was dumped; try again")]
    Reorganised,
}

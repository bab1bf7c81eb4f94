//! What can be wrong with a chain's description.

use std::fmt::Display;

/// Why a chain specification could not be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainSpecError {
    /// The text is not JSON at all.
    #[error("the genesis file is not valid JSON: {reason}")]
    Syntax {
        /// What the parser says, with line and column.
        reason: String,
    },

    /// A value in the genesis file is missing, malformed or contradicts another one.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where: the JSON path from the root of the file, for example `alloc.0xabc….balance`.
        path: String,
        /// What is wrong there, and where possible what would be right.
        reason: String,
    },

    /// The chain's rules are built in, but its genesis accounts are not; they have to come from a genesis file.
    #[error(
        "the genesis accounts of {chain} are not built in: give its genesis file to start the chain from block 0"
    )]
    GenesisStateUnavailable {
        /// The chain's name, or its id where it has none.
        chain: String,
    },
}

impl ChainSpecError {
    /// A value at `path` that is wrong for `reason`.
    pub(crate) fn invalid(path: impl Into<String>, reason: impl Display) -> Self {
        Self::Invalid { path: path.into(), reason: reason.to_string() }
    }
}

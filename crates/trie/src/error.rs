use alloy_primitives::B256;
use nybbles::Nibbles;
use std::fmt;

/// Which trie a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrieId {
    /// The trie of accounts, whose root is the state root.
    Account,
    /// The storage trie of the account with this hashed address.
    Storage(B256),
}

impl fmt::Display for TrieId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("the account trie"),
            Self::Storage(hashed_address) => {
                write!(f, "the storage trie of hashed address {hashed_address}")
            }
        }
    }
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeDefect {
    /// The parent, or the account leaf above, refers to a node that is not there.
    #[error("it is missing (its hash should be {expected})")]
    Missing {
        /// The hash that the parent holds.
        expected: B256,
    },
    /// The node is not the one that its parent refers to.
    #[error("its hash is {actual} where the parent says {expected}")]
    WrongHash {
        /// The hash that the parent holds.
        expected: B256,
        /// The hash of the node as read.
        actual: B256,
    },
    /// The bytes are not the RLP of a trie node.
    #[error("its RLP does not decode: {0}")]
    Rlp(alloy_rlp::Error),
    /// The node decodes, but no trie over 32-byte keys can hold it here.
    #[error("it cannot stand there: {0}")]
    Shape(&'static str),
    /// The value of an account leaf is not the RLP of an account.
    #[error("the account in its leaf does not decode: {0}")]
    Account(alloy_rlp::Error),
    /// The value of a storage leaf is not the RLP of a 256-bit integer.
    #[error("the slot value in its leaf does not decode: {0}")]
    SlotValue(alloy_rlp::Error),
}

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePlace {
    /// The trie that holds the node.
    pub trie: TrieId,
    /// Its path from the root.
    pub path: Nibbles,
}

impl fmt::Display for NodePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node at path 0x")?;
        for nibble in self.path.iter() {
            write!(f, "{nibble:x}")?;
        }
        write!(f, " of {}", self.trie)
    }
}

/// Why a root or a proof could not be computed. `E` is the error of the node reader.
#[derive(Debug, thiserror::Error)]
pub enum TrieError<E> {
    /// The reader failed.
    #[error("reading {place}: {source}")]
    Read {
        /// What was to be read.
        place: Box<NodePlace>,
        /// What the reader said.
        source: E,
    },
    /// A stored node is damaged or missing. The stored tries cannot be trusted any more; they can
    /// be rebuilt from flat state.
    #[error("{place} is damaged: {defect}")]
    Node {
        /// Which node.
        place: Box<NodePlace>,
        /// What is wrong with it.
        defect: Box<NodeDefect>,
    },
}

impl<E> TrieError<E> {
    pub(crate) fn read(trie: TrieId, path: Nibbles, source: E) -> Self {
        Self::Read { place: Box::new(NodePlace { trie, path }), source }
    }

    pub(crate) fn damaged(trie: TrieId, path: Nibbles, defect: NodeDefect) -> Self {
        Self::Node { place: Box::new(NodePlace { trie, path }), defect: Box::new(defect) }
    }
}

use crate::Prunable;
use alloy_primitives::{Address, B256, U256};
use heddle_trie::TrieError;
use std::path::PathBuf;

/// What can go wrong in the store. Every message says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another `Store` of this one, has the directory open.
    #[error("the data directory {} is in use by another process; stop that one or choose another directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory belongs to another chain.
    #[error("the data directory {} holds chain {found_chain_id} with genesis {found}, not chain {expected_chain_id} with genesis {expected}; give that chain's genesis file or choose another directory", path.display())]
    ForeignGenesis {
        /// The data directory.
        path: PathBuf,
        /// Chain id in the directory.
        found_chain_id: u64,
        /// Genesis hash in the directory.
        found: B256,
        /// Chain id that was asked for.
        expected_chain_id: u64,
        /// Genesis hash that was asked for.
        expected: B256,
    },
    /// The directory was written by a newer Heddle.
    #[error("the data directory {} has schema version {found}, newer than this build's {supported}; upgrade heddle", path.display())]
    SchemaTooNew {
        /// The data directory.
        path: PathBuf,
        /// Version in the directory.
        found: u32,
        /// Version of this build.
        supported: u32,
    },
    /// The directory was written by an older Heddle and cannot be read any more.
    #[error("the data directory {} has schema version {found}, older than this build's {supported}; write its blocks with the build that made it (heddle export) and import them into a new directory (heddle import)", path.display())]
    SchemaTooOld {
        /// The data directory.
        path: PathBuf,
        /// Version in the directory.
        found: u32,
        /// Version of this build.
        supported: u32,
    },
    /// The database file is truncated, overwritten or no database at all.
    #[error("the database {} is damaged ({detail}); restore it from a backup, or remove it and import the chain again", path.display())]
    DamagedFile {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The path is a file.
    #[error("{} is not a directory; give the directory that holds, or is to hold, the database", path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("no permission to read and write {}; check its owner and mode", path.display())]
    PermissionDenied {
        /// What was refused.
        path: PathBuf,
    },
    /// There is no space. Nothing is written until there is.
    #[error("the disk is full at {}: no blocks are made until there is room", path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
    },
    /// Some other failure of the file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An earlier write or flush failed, so what is in memory may not reach the disk.
    #[error(
        "the store takes no more writes since one failed ({reason}); start again to continue from the last durable block"
    )]
    WritesStopped {
        /// The first failure.
        reason: String,
    },
    /// The database failed in a way that none of the above covers.
    #[error("database: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A stored value does not decode.
    #[error(
        "the table {table} holds a value that does not decode ({detail}); run `heddle db verify`"
    )]
    DamagedValue {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The database's own structure is not what it should be.
    #[error(
        "the structure of the database is damaged; run `heddle db verify`, and restore it from a backup or import the chain again"
    )]
    DamagedStructure,
    /// A stored trie node is damaged, or a root does not come out.
    #[error(transparent)]
    Trie(Box<TrieError<Self>>),
    /// The store has no genesis block yet.
    #[error("the store is empty; its genesis block has not been written")]
    Empty,
    /// The genesis block is already there.
    #[error("the store already has a genesis block")]
    GenesisExists,
    /// What is to be written as genesis is not the genesis of this store.
    #[error("block {number} with hash {hash} is not the genesis {expected} of this store")]
    WrongGenesis {
        /// Its number.
        number: u64,
        /// Its hash.
        hash: B256,
        /// The hash that the store was opened with.
        expected: B256,
    },
    /// The state of a block from before the one that the chain was loaded at.
    #[error("the state of block {number} is not kept: this chain's state begins at block {base}")]
    StateNotKept {
        /// Number of the block.
        number: u64,
        /// The first block whose state is kept.
        base: u64,
    },
    /// What was asked for was there and is not kept any more.
    #[error(
        "pruned history unavailable: the {what} of block {number} is not kept, only from block {first} on"
    )]
    Pruned {
        /// What it is.
        what: Prunable,
        /// The block.
        number: u64,
        /// The first block of which it is kept.
        first: u64,
    },
    /// Forks are kept in memory only.
    #[error("a chain that is kept on disk cannot become a fork; start without --datadir")]
    ForkOnDisk,
    /// The state of a fork is not all here.
    #[error(
        "this chain is a fork made at block {base}: its state is not known as a whole, so it has no state roots, \
         proofs or dumps"
    )]
    NotWhole {
        /// The block that was forked.
        base: u64,
    },
    /// The block does not extend the head.
    #[error(
        "block {number} with parent {parent_hash} does not extend the head, block {head_number} with hash {head_hash}"
    )]
    NotOnHead {
        /// Number of the block.
        number: u64,
        /// Its parent.
        parent_hash: B256,
        /// Number of the head.
        head_number: u64,
        /// Hash of the head.
        head_hash: B256,
    },
    /// The lists of a block do not belong together.
    #[error(
        "block {number} has {transactions} transactions but {senders} senders and {receipts} receipts"
    )]
    UnevenBatch {
        /// Number of the block.
        number: u64,
        /// How many transactions.
        transactions: usize,
        /// How many senders.
        senders: usize,
        /// How many receipts.
        receipts: usize,
    },
    /// The changes were computed over another state than the stored one.
    #[error("the changes of block {number} do not start from the stored state: account {address}{}", slot.map_or_else(String::new, |slot| format!(", slot {slot:#x}")))]
    StaleChanges {
        /// Number of the block.
        number: u64,
        /// The account that differs.
        address: Address,
        /// The slot that differs, `None` if the account itself does.
        slot: Option<U256>,
    },
    /// There is no such canonical block.
    #[error("there is no block {number}; the head is block {head}")]
    UnknownBlock {
        /// The number asked for.
        number: u64,
        /// The head's.
        head: u64,
    },
    /// Nodes are stored for the head state only.
    #[error("trie nodes are stored for the head only, and this is the state at block {number}")]
    NodesOfHistory {
        /// The block of the view.
        number: u64,
    },
    /// A proof that far back would cost too much.
    #[error(
        "block {number} is too far behind the head, block {head}, for a proof: the limit is {limit}"
    )]
    ProofTooOld {
        /// The number asked for.
        number: u64,
        /// The head's.
        head: u64,
        /// The limit that was passed, with its unit.
        limit: String,
    },
    /// The state root that comes out is not the one in the header.
    #[error(
        "the state of block {number} has root {actual}, but its header says {expected}; the stored state is damaged: restore it from a backup or import the chain again"
    )]
    WrongStateRoot {
        /// The block.
        number: u64,
        /// The root computed.
        actual: B256,
        /// The root in the header.
        expected: B256,
    },
    /// A block is not what its header says, or cannot be found.
    #[error(
        "block {number} is damaged: {what}; restore the database from a backup or import the chain again"
    )]
    WrongBlock {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Storage slots without an account.
    #[error(
        "the account {address} does not exist but has storage; the stored state is damaged: restore it from a backup or import the chain again"
    )]
    OrphanStorage {
        /// Whose slots they are.
        address: Address,
    },
}

impl From<TrieError<Self>> for StoreError {
    fn from(error: TrieError<Self>) -> Self {
        match error {
            TrieError::Read { source, .. } => source,
            damaged @ TrieError::Node { .. } => Self::Trie(Box::new(damaged)),
        }
    }
}

/// The operations of redb each have an error type of their own; all fit in `redb::Error`.
macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })+
    };
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// Does something with the database. redb trusts its file, and may panic where that was changed behind its back: such a
/// panic is an error that says so.
pub(crate) fn unless_damaged<T>(
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(_) => Err(StoreError::DamagedStructure),
    }
}

impl StoreError {
    pub(crate) fn damaged(table: &'static str, detail: impl Into<String>) -> Self {
        Self::DamagedValue { table, detail: detail.into() }
    }

    pub(crate) fn from_io(path: PathBuf, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied { path }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path },
            ErrorKind::NotADirectory => Self::NotADirectory { path },
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                Self::DamagedFile { path, detail: source.to_string() }
            }
            _ => Self::Io { path, source },
        }
    }

    /// Names the file in what redb reported without it.
    pub(crate) fn at(self, path: &std::path::Path) -> Self {
        match self {
            Self::Database(error) => match *error {
                redb::Error::Io(source) => Self::from_io(path.to_owned(), source),
                redb::Error::Corrupted(detail) => {
                    Self::DamagedFile { path: path.to_owned(), detail }
                }
                other => Self::Database(Box::new(other)),
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn what_the_system_refuses_is_told_apart_and_names_the_file() {
        let sentence = |kind| StoreError::from_io("/data/x".into(), Error::from(kind)).to_string();
        assert_eq!(
            sentence(ErrorKind::PermissionDenied),
            "no permission to read and write /data/x; check its owner and mode"
        );
        assert!(sentence(ErrorKind::ReadOnlyFilesystem).starts_with("no permission"));
        assert!(sentence(ErrorKind::StorageFull).starts_with("the disk is full at /data/x"));
        assert!(sentence(ErrorKind::NotADirectory).starts_with("/data/x is not a directory"));
        assert!(sentence(ErrorKind::InvalidData).starts_with("the database /data/x is damaged"));
        assert!(sentence(ErrorKind::TimedOut).starts_with("/data/x: "));
    }
}

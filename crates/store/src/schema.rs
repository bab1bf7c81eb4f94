//! The tables: names, keys and values. The page in `lib.rs` says what each is for.

use crate::pieces::{PieceKey, PieceTable};
use crate::{StoreError, TableSize, pending::Pending};
use alloy_primitives::{Address, B256, U256};
use heddle_trie::Nibbles;
use redb::{ReadTransaction, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

/// The version of the layout that this build reads and writes. Any change to a table's name, key
/// or value makes it a new one.
pub const SCHEMA_VERSION: u32 = 5;

/// The oldest version that this build reads.
pub(crate) const SCHEMA_OLDEST: u32 = 3;

type Bytes = &'static [u8];
type Key<const N: usize> = &'static [u8; N];

pub(crate) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
const HEADERS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("headers");
const BLOCK_NUMBERS: TableDefinition<'_, Key<32>, u64> = TableDefinition::new("block_numbers");
const BODIES: PieceTable = TableDefinition::new("bodies");
const RECEIPTS: PieceTable = TableDefinition::new("receipts");
const TRANSACTIONS: TableDefinition<'_, Key<16>, ()> = TableDefinition::new("transactions");
const TRANSACTION_SEGMENTS: TableDefinition<'_, u16, (u64, u64)> =
    TableDefinition::new("transaction_segments");
const ACCOUNTS: TableDefinition<'_, Key<20>, Bytes> = TableDefinition::new("accounts");
const STORAGE: TableDefinition<'_, Key<52>, Bytes> = TableDefinition::new("storage");
const CODE: TableDefinition<'_, Key<32>, Bytes> = TableDefinition::new("code");
const ACCOUNT_NODES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("account_nodes");
const STORAGE_NODES: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("storage_nodes");
const CHANGES: PieceTable = TableDefinition::new("changes");
const ACCOUNT_HISTORY: TableDefinition<'_, Key<28>, Bytes> =
    TableDefinition::new("account_history");
const STORAGE_HISTORY: TableDefinition<'_, Key<60>, Bytes> =
    TableDefinition::new("storage_history");
const RECENT_LOGS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("recent_logs");
const LOG_CHUNKS: TableDefinition<'_, (u64, u64, u32), Bytes> = TableDefinition::new("log_chunks");
const ALTERATIONS: TableDefinition<'_, PieceKey, Bytes> = TableDefinition::new("alteration_pieces");
/// What version 3 had in place of [`ALTERATIONS`]: all of a block's in one value.
pub(crate) const WHOLE_ALTERATIONS: TableDefinition<'_, u64, Bytes> =
    TableDefinition::new("alterations");
const SIDE_BLOCKS: TableDefinition<'_, Key<32>, Bytes> = TableDefinition::new("side_blocks");

type Writable<'t, K, V> = Table<'t, K, V>;
type Readable<K, V> = redb::ReadOnlyTable<K, V>;

macro_rules! tables {
    ($($field:ident: $definition:ident<$key:ty, $value:ty>),+ $(,)?) => {
        /// Every table of one write transaction.
        pub(crate) struct WriteTables<'t> {
            $(pub(crate) $field: Writable<'t, $key, $value>,)+
            /// What those of nodes and histories lack.
            pub(crate) pending: Pending,
        }

        impl<'t> WriteTables<'t> {
            /// Opens every table, creating the missing ones.
            pub(crate) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
                let pending = Pending::default();
                Ok(Self { $($field: transaction.open_table($definition)?,)+ pending })
            }

            /// Deletes every table with all that is in it.
            pub(crate) fn delete(transaction: &WriteTransaction) -> Result<(), StoreError> {
                $(transaction.delete_table($definition)?;)+
                Ok(())
            }
        }

        /// Every table of one read transaction, which lives as long as one of them does.
        pub(crate) struct ReadTables {
            $(pub(crate) $field: Readable<$key, $value>,)+
        }

        impl ReadTables {
            pub(crate) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
                Ok(Self { $($field: transaction.open_table($definition)?,)+ })
            }

            pub(crate) fn sizes(&self) -> Result<Vec<TableSize>, StoreError> {
                let mut sizes = Vec::new();
                $({
                    let name = stringify!($field);
                    let (entries, stats) = (self.$field.len()?, self.$field.stats()?);
                    let overhead_bytes = stats.metadata_bytes() + stats.fragmented_bytes();
                    sizes.push(TableSize { name, entries, bytes: stats.stored_bytes(), overhead_bytes });
                })+
                Ok(sizes)
            }
        }
    };
}

tables! {
    meta: META<&'static str, Bytes>,
    headers: HEADERS<u64, Bytes>,
    block_numbers: BLOCK_NUMBERS<Key<32>, u64>,
    bodies: BODIES<PieceKey, Bytes>,
    receipts: RECEIPTS<PieceKey, Bytes>,
    transactions: TRANSACTIONS<Key<16>, ()>,
    transaction_segments: TRANSACTION_SEGMENTS<u16, (u64, u64)>,
    accounts: ACCOUNTS<Key<20>, Bytes>,
    storage: STORAGE<Key<52>, Bytes>,
    code: CODE<Key<32>, Bytes>,
    account_nodes: ACCOUNT_NODES<Bytes, Bytes>,
    storage_nodes: STORAGE_NODES<Bytes, Bytes>,
    changes: CHANGES<PieceKey, Bytes>,
    account_history: ACCOUNT_HISTORY<Key<28>, Bytes>,
    storage_history: STORAGE_HISTORY<Key<60>, Bytes>,
    recent_logs: RECENT_LOGS<u64, Bytes>,
    log_chunks: LOG_CHUNKS<(u64, u64, u32), Bytes>,
    alterations: ALTERATIONS<PieceKey, Bytes>,
    side_blocks: SIDE_BLOCKS<Key<32>, Bytes>,
}

/// Keys of [`META`].
pub(crate) mod meta {
    pub(crate) const SCHEMA_VERSION: &str = "schema_version";
    pub(crate) const CHAIN_ID: &str = "chain_id";
    pub(crate) const GENESIS_HASH: &str = "genesis_hash";
    pub(crate) const FINALIZED: &str = "finalized";
    pub(crate) const SAFE: &str = "safe";
    /// The next block whose logs are to be indexed.
    pub(crate) const LOGS_INDEXED: &str = "logs_indexed";
    /// Where the state begins, if not at genesis; see `base.rs`.
    pub(crate) const BASE: &str = "base";
    /// There if the state of the base is somewhere else.
    pub(crate) const ELSEWHERE: &str = "elsewhere";
    /// Addresses, each with the number of a block that wiped its storage: only where the base is somewhere else.
    pub(crate) const WIPED: &str = "wiped";
    /// The last block whose nodes and histories are in their tables; see `pending.rs`.
    pub(crate) const SETTLED: &str = "settled";
    /// The first block whose state, receipts and transactions are kept; see `prune.rs`.
    pub(crate) const KEPT: &str = "kept";
    /// Addresses, one after the other.
    pub(crate) const STORAGE_ONLY: &str = "storage_only";
}

fn concatenated<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut rest = key.as_mut_slice();
    for part in parts {
        let (start, end) = rest.split_at_mut(part.len());
        start.copy_from_slice(part);
        rest = end;
    }
    debug_assert!(rest.is_empty(), "the parts of a key fill it");
    key
}

pub(crate) fn storage_key(address: &Address, slot: U256) -> [u8; 52] {
    concatenated(&[address.as_slice(), &slot.to_be_bytes::<32>()])
}

pub(crate) fn account_history_key(address: &Address, block: u64) -> [u8; 28] {
    concatenated(&[address.as_slice(), &block.to_be_bytes()])
}

pub(crate) fn storage_history_key(address: &Address, slot: U256, block: u64) -> [u8; 60] {
    concatenated(&[address.as_slice(), &slot.to_be_bytes::<32>(), &block.to_be_bytes()])
}

/// One byte a nibble: paths are short (the logarithm of the number of leaves), and their order in
/// the table is depth first, so that the nodes a block reads together lie together.
pub(crate) fn account_node_key(path: &Nibbles) -> Vec<u8> {
    path.to_vec()
}

pub(crate) fn storage_node_key(hashed_address: B256, path: &Nibbles) -> Vec<u8> {
    let mut key = Vec::with_capacity(32 + path.len());
    key.extend_from_slice(hashed_address.as_slice());
    key.extend(path.iter());
    key
}

/// The exclusive end of the keys of one storage trie: no nibble reaches 16.
pub(crate) fn storage_node_key_end(hashed_address: B256) -> [u8; 33] {
    concatenated(&[hashed_address.as_slice(), &[16]])
}

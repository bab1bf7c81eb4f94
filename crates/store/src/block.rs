use alloy_consensus::{EthereumTxEnvelope, Header, ReceiptEnvelope, TxEip4844};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, U256};
use heddle_trie::{StateChanges, TrieUpdates};
use std::sync::Arc;

/// A transaction in a block.
pub type Transaction = EthereumTxEnvelope<TxEip4844>;

/// Which chain a store belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainIdentity {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of the genesis header.
    pub genesis_hash: B256,
}

/// Number and hash of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockId {
    /// Number of the block.
    pub number: u64,
    /// Hash of its header.
    pub hash: B256,
}

/// A block to be committed, with everything it caused.
#[derive(Debug, Clone, Copy)]
pub struct BlockBatch<'a> {
    /// The header.
    pub header: &'a Header,
    /// The header's hash.
    pub hash: B256,
    /// Transactions in order.
    pub transactions: &'a [Transaction],
    /// The sender of each transaction.
    pub senders: &'a [Address],
    /// Ommers (uncles).
    pub ommers: &'a [Header],
    /// Withdrawals, `None` before Shanghai.
    pub withdrawals: Option<&'a [Withdrawal]>,
    /// The receipt of each transaction.
    pub receipts: &'a [ReceiptEnvelope],
    /// What the block changed in the state of its parent.
    pub changes: &'a StateChanges,
    /// What it changed in the stored trie nodes, as `heddle_trie::state_root` returned it for
    /// `changes`; shared, because it may be written with a later block.
    pub trie: &'a Arc<TrieUpdates>,
    /// Sum of the difficulties up to and including this block, where it is known.
    pub total_difficulty: Option<U256>,
}

/// A block as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// The header.
    pub header: Header,
    /// The header's hash.
    pub hash: B256,
    /// Transactions in order.
    pub transactions: Vec<Transaction>,
    /// The sender of each transaction.
    pub senders: Vec<Address>,
    /// Ommers (uncles).
    pub ommers: Vec<Header>,
    /// Withdrawals, `None` before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// Sum of the difficulties up to and including this block, where it is known.
    pub total_difficulty: Option<U256>,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionLocation {
    /// Number of its block.
    pub block: u64,
    /// Its place in the block, from zero.
    pub index: u32,
}

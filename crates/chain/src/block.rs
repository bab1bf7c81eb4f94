//! A block with everything known about it.

use alloy_consensus::{
    BlockBody, Header, Sealed,
    crypto::RecoveryError,
    transaction::{SignerRecoverable, TransactionInfo},
};
use alloy_eips::eip4895::{Withdrawal, Withdrawals};
use alloy_primitives::{B256, Bytes, U256};
use alloy_rlp::Encodable;
use heddle_evm::{Block, Receipt, RecoveredTransaction, Transaction};
use heddle_store::{BlockId, StoredBlock};

/// A block of the canonical chain, or one that has just left it, with its receipts.
#[derive(Debug, Clone)]
pub struct ChainBlock {
    /// The header and its hash.
    pub header: Sealed<Header>,
    /// Transactions in order, with their senders.
    pub transactions: Vec<RecoveredTransaction>,
    /// Ommers (uncles).
    pub ommers: Vec<Header>,
    /// Withdrawals, `None` before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// The receipt of each transaction.
    pub receipts: Vec<Receipt>,
    /// Sum of the difficulties up to and including this block.
    pub total_difficulty: U256,
    /// Length of the block's RLP in bytes.
    pub size: usize,
}

impl ChainBlock {
    /// A block out of its parts.
    pub fn new(
        header: Sealed<Header>,
        transactions: Vec<RecoveredTransaction>,
        ommers: Vec<Header>,
        withdrawals: Option<Vec<Withdrawal>>,
        receipts: Vec<Receipt>,
        total_difficulty: U256,
    ) -> Self {
        let mut block =
            Self { header, transactions, ommers, withdrawals, receipts, total_difficulty, size: 0 };
        block.size = block.to_block().length();
        block
    }

    /// Where the transaction at `index` is, for those who show it.
    pub fn transaction_info(&self, index: usize) -> TransactionInfo {
        TransactionInfo {
            hash: self.transactions.get(index).map(|transaction| *transaction.inner().tx_hash()),
            index: Some(index as u64),
            block_hash: Some(self.hash()),
            block_number: Some(self.number()),
            base_fee: self.header.base_fee_per_gas,
            block_timestamp: Some(self.header.timestamp),
        }
    }

    /// A block that is not on the chain, with the senders its signatures tell, and without receipts.
    ///
    /// # Errors
    /// If a signature belongs to nobody.
    pub fn from_block(block: Block) -> Result<Self, RecoveryError> {
        let header = Sealed::new(block.header);
        let BlockBody { transactions, ommers, withdrawals } = block.body;
        let recovered = transactions.into_iter().map(Transaction::try_into_recovered_unchecked);
        let transactions = recovered.collect::<Result<_, _>>()?;
        let withdrawals = withdrawals.map(Withdrawals::into_inner);
        Ok(Self::new(header, transactions, ommers, withdrawals, Vec::new(), U256::ZERO))
    }

    pub(crate) fn from_store(block: StoredBlock, receipts: Vec<Receipt>) -> Self {
        let transactions = block
            .transactions
            .into_iter()
            .zip(block.senders)
            .map(|(tx, sender)| RecoveredTransaction::new_unchecked(tx, sender))
            .collect();
        Self::new(
            Sealed::new_unchecked(block.header, block.hash),
            transactions,
            block.ommers,
            block.withdrawals,
            receipts,
            block.total_difficulty.unwrap_or_default(),
        )
    }

    /// Number of the block.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Hash of the header.
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// Number and hash.
    pub fn id(&self) -> BlockId {
        BlockId { number: self.number(), hash: self.hash() }
    }

    /// As the protocol has it, without senders and receipts.
    pub fn to_block(&self) -> Block {
        Block {
            header: self.header.inner().clone(),
            body: BlockBody {
                transactions: self.transactions.iter().map(|tx| tx.inner().clone()).collect(),
                ommers: self.ommers.clone(),
                withdrawals: self.withdrawals.clone().map(Withdrawals::new),
            },
        }
    }

    /// The RLP of the block.
    pub fn rlp(&self) -> Bytes {
        alloy_rlp::encode(self.to_block()).into()
    }
}

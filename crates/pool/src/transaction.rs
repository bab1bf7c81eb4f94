//! A transaction as the pool holds it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use alloy_consensus::{
    EthereumTxEnvelope, Signed, Transaction, TxEip4844, TxEip4844WithSidecar,
    transaction::Recovered,
};
use alloy_eips::{eip2718::Encodable2718, eip7594::BlobTransactionSidecarVariant};
use alloy_primitives::{Address, TxHash, U256, U512};

use crate::{
    PoolError,
    limits::{PRICE_BUMP_BLOB_PERCENT, PRICE_BUMP_PERCENT},
};

/// A transaction as it travels to the pool: blob transactions carry their sidecar.
pub type PoolTransaction = EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>>;

/// A transaction as it stands in a block: without sidecar.
pub type BlockTransaction = EthereumTxEnvelope<TxEip4844>;

/// A transaction in the pool with everything the pool derives from it once.
#[derive(Debug)]
pub struct PooledTx {
    transaction: Recovered<PoolTransaction>,
    hash: TxHash,
    encoded_length: usize,
    cost: U256,
    pub(crate) sequence: u64,
    arrived: Instant,
    /// Whether subscribers have heard of it. Written only under the pool's write lock.
    announced: AtomicBool,
}

impl PooledTx {
    /// # Errors
    /// [`PoolError::CostOverflow`] if no balance could ever pay for it.
    pub(crate) fn new(
        transaction: Recovered<PoolTransaction>,
        arrived: Instant,
    ) -> Result<Self, PoolError> {
        let cost = max_cost(transaction.inner());
        let cost = U256::checked_from_limbs_slice(cost.as_limbs())
            .ok_or(PoolError::CostOverflow { cost })?;
        Ok(Self {
            hash: *transaction.inner().tx_hash(),
            encoded_length: transaction.inner().encode_2718_len(),
            cost,
            sequence: 0,
            arrived,
            announced: AtomicBool::new(false),
            transaction,
        })
    }

    /// The transaction hash.
    pub const fn hash(&self) -> TxHash {
        self.hash
    }

    /// The account that signed it.
    pub const fn sender(&self) -> Address {
        self.transaction.signer()
    }

    /// The transaction itself, with its sidecar if it has blobs.
    pub const fn transaction(&self) -> &PoolTransaction {
        self.transaction.inner()
    }

    /// Length of its EIP-2718 encoding in bytes, sidecar included.
    pub const fn encoded_length(&self) -> usize {
        self.encoded_length
    }

    /// The most it can take from its sender, in wei: fee cap × gas limit + value + blob fee cap × blob gas.
    pub const fn cost(&self) -> U256 {
        self.cost
    }

    /// Its place in the order of arrival.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it arrived.
    pub const fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The sender's nonce that it uses.
    pub fn nonce(&self) -> u64 {
        self.transaction().nonce()
    }

    /// Fee cap in wei per gas (the gas price of types 0 and 1).
    pub fn max_fee(&self) -> u128 {
        self.transaction().max_fee_per_gas()
    }

    /// Priority fee cap in wei per gas (the gas price of types 0 and 1).
    pub fn tip_cap(&self) -> u128 {
        self.transaction().priority_fee_or_price()
    }

    /// Blob fee cap in wei per blob gas, for blob transactions.
    pub fn max_blob_fee(&self) -> Option<u128> {
        self.transaction().max_fee_per_blob_gas()
    }

    /// What the beneficiary gets per gas at `base_fee`; `None` if the fee cap is below it.
    pub fn effective_tip(&self, base_fee: u64) -> Option<u128> {
        let above = self.max_fee().checked_sub(u128::from(base_fee))?;
        Some(above.min(self.tip_cap()))
    }

    /// Gas limit.
    pub fn gas_limit(&self) -> u64 {
        self.transaction().gas_limit()
    }

    /// Number of blobs.
    pub fn blob_count(&self) -> usize {
        self.transaction().blob_versioned_hashes().map_or(0, <[_]>::len)
    }

    /// Whether its caps admit it in a block with these fees.
    pub fn is_executable_at(&self, base_fee: u64, blob_base_fee: u128) -> bool {
        self.max_fee() >= u128::from(base_fee)
            && self.max_blob_fee().is_none_or(|fee| fee >= blob_base_fee)
    }

    /// The transaction as it goes into a block. The sidecar stays behind and is not copied.
    pub fn into_block_transaction(&self) -> Recovered<BlockTransaction> {
        let transaction = match self.transaction() {
            PoolTransaction::Legacy(tx) => BlockTransaction::Legacy(tx.clone()),
            PoolTransaction::Eip2930(tx) => BlockTransaction::Eip2930(tx.clone()),
            PoolTransaction::Eip1559(tx) => BlockTransaction::Eip1559(tx.clone()),
            PoolTransaction::Eip4844(tx) => BlockTransaction::Eip4844(Signed::new_unchecked(
                tx.tx().tx().clone(),
                *tx.signature(),
                self.hash,
            )),
            PoolTransaction::Eip7702(tx) => BlockTransaction::Eip7702(tx.clone()),
        };
        Recovered::new_unchecked(transaction, self.sender())
    }

    /// Whether this one pays enough more than `old` to take its place.
    pub(crate) fn may_replace(&self, old: &Self) -> bool {
        let with_blobs = self.transaction().is_eip4844() || old.transaction().is_eip4844();
        let percent = if with_blobs { PRICE_BUMP_BLOB_PERCENT } else { PRICE_BUMP_PERCENT };
        let blob_fee_rises = match (self.max_blob_fee(), old.max_blob_fee()) {
            (Some(new), Some(old)) => is_bumped(new, old, percent),
            _ => true,
        };
        blob_fee_rises
            && is_bumped(self.max_fee(), old.max_fee(), percent)
            && is_bumped(self.tip_cap(), old.tip_cap(), percent)
    }

    /// Encoded bytes that count against the limit for blobs.
    pub(crate) fn blob_bytes(&self) -> usize {
        if self.transaction().is_eip4844() { self.encoded_length } else { 0 }
    }

    /// Marks it as announced; true the first time.
    pub(crate) fn announce(&self) -> bool {
        // Relaxed: every caller holds the pool's write lock, which orders the accesses.
        !self.announced.swap(true, Ordering::Relaxed)
    }
}

/// In 512 bits, because caps near 2^128 times the gas limit plus a value near 2^256 do not fit 256.
fn max_cost(transaction: &PoolTransaction) -> U512 {
    let gas = U512::from(transaction.max_fee_per_gas()) * U512::from(transaction.gas_limit());
    let blobs = U512::from(transaction.max_fee_per_blob_gas().unwrap_or(0))
        * U512::from(transaction.blob_gas_used().unwrap_or(0));
    gas + blobs + U512::from(transaction.value())
}

/// `new` is strictly more than `old` and at least `percent` percent more. geth's rule: the threshold is rounded down,
/// and an equal price never replaces.
fn is_bumped(new: u128, old: u128, percent: u128) -> bool {
    let threshold = U256::from(old) * U256::from(100 + percent) / U256::from(100);
    new > old && U256::from(new) >= threshold
}

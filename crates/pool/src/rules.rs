//! The consensus rules that the next block will apply to a transaction.

use std::fmt;

/// The forks that change what a transaction may be, oldest first. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolFork {
    /// The beginning: type 0 without replay protection.
    Frontier,
    /// EIP-2: contract creation costs 53,000 gas, signatures have a low `s`.
    Homestead,
    /// EIP-155: replay protection.
    SpuriousDragon,
    /// EIP-2028: 16 gas for a non-zero byte of data.
    Istanbul,
    /// EIP-2718 and EIP-2930: typed transactions, access lists.
    Berlin,
    /// EIP-1559: base fee.
    London,
    /// EIP-3860: limited and metered init code.
    Shanghai,
    /// EIP-4844: blobs.
    Cancun,
    /// EIP-7702 set code, EIP-7623 floor gas for data.
    Prague,
    /// EIP-7594 cell proofs in sidecars, EIP-7825 gas cap for a transaction.
    Osaka,
}

impl fmt::Display for PoolFork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What holds for a transaction in the **next** block. Replaced at each new head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRules {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The newest fork that is active in the next block.
    pub fork: PoolFork,
    /// Gas limit of a block.
    pub block_gas_limit: u64,
    /// Base fee of the next block in wei per gas; 0 before London.
    pub base_fee: u64,
    /// Blob base fee of the next block in wei per blob gas; 0 before Cancun.
    pub blob_base_fee: u128,
    /// Most blobs in one transaction (EIP-7594: 6).
    pub max_blobs_per_tx: u64,
    /// Most blobs in a block (EIP-7840 blob schedule).
    pub max_blobs_per_block: u64,
    /// Most gas a transaction may ask for (EIP-7825: 16,777,216), if there is a cap.
    pub tx_gas_limit_cap: Option<u64>,
    /// Most bytes of init code (EIP-3860: 49,152), applied from Shanghai on.
    pub max_initcode_bytes: usize,
    /// Lowest priority fee cap accepted from outside, in wei per gas. A policy of this node, not of the chain.
    pub min_tip: u128,
}

impl PoolRules {
    /// EIP-3860: twice the largest contract code of EIP-170.
    pub const MAX_INITCODE_BYTES: usize = 2 * 24_576;

    /// The most gas that a transaction of the next block can ask for.
    pub fn gas_limit_max(&self) -> u64 {
        self.tx_gas_limit_cap.map_or(self.block_gas_limit, |cap| cap.min(self.block_gas_limit))
    }

    /// The most blobs that a transaction of the next block can carry.
    pub fn blobs_max(&self) -> u64 {
        self.max_blobs_per_tx.min(self.max_blobs_per_block)
    }

    pub(crate) fn has(&self, fork: PoolFork) -> bool {
        self.fork >= fork
    }
}

//! How large blocks and transactions may be.

use std::ops::RangeInclusive;

use alloy_consensus::Header;
use alloy_eips::{eip1559::DEFAULT_ELASTICITY_MULTIPLIER, eip7825::MAX_TX_GAS_LIMIT_OSAKA};
use alloy_evm::revm::primitives::{eip170, eip3860, eip7954};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks};

use crate::ChainSpec;

/// A block's gas limit may differ from its parent's by less than the parent's divided by this (yellow paper, 4.4.4).
pub const GAS_LIMIT_BOUND_DIVISOR: u64 = 1024;

/// The smallest gas limit of a block after genesis (yellow paper, 4.4.4).
pub const GAS_LIMIT_MIN: u64 = 5_000;

/// The largest gas limit of a block: 2⁶³ − 1, as in geth and EIP-1985.
pub const GAS_LIMIT_MAX: u64 = i64::MAX as u64;

/// The largest RLP encoding of a block from Osaka on, in bytes: 10 MiB less 2 MiB for the beacon block around it
/// (EIP-7934).
pub const RLP_BLOCK_SIZE_MAX_OSAKA: usize = (10 - 2) * 1024 * 1024;

impl ChainSpec {
    /// The gas limits that a child of `parent` may have; empty where no child can be valid.
    ///
    /// The bounds follow the parent's limit, doubled where the child is the London block (EIP-1559).
    pub fn gas_limit_bounds(&self, parent: &Header) -> RangeInclusive<u64> {
        let base = if self.is_london_transition(parent) {
            parent.gas_limit.saturating_mul(DEFAULT_ELASTICITY_MULTIPLIER)
        } else {
            parent.gas_limit
        };
        // The difference has to stay below the bound, not reach it.
        let difference = (base / GAS_LIMIT_BOUND_DIVISOR).saturating_sub(1);
        let lowest = base.saturating_sub(difference).max(GAS_LIMIT_MIN);
        let highest = base.saturating_add(difference).min(GAS_LIMIT_MAX);
        lowest..=highest
    }

    /// The gas limit of a child of `parent` that comes closest to `desired`.
    pub fn next_gas_limit(&self, parent: &Header, desired: u64) -> u64 {
        let bounds = self.gas_limit_bounds(parent);
        desired.max(*bounds.start()).min(*bounds.end())
    }

    /// The most gas a single transaction may ask for, `None` before Osaka (EIP-7825).
    pub fn transaction_gas_limit_cap(&self, timestamp: u64) -> Option<u64> {
        self.is_osaka_active_at_timestamp(timestamp).then_some(MAX_TX_GAS_LIMIT_OSAKA)
    }

    /// The largest RLP encoding of a block in bytes, `None` before Osaka (EIP-7934).
    pub fn rlp_block_size_max(&self, timestamp: u64) -> Option<usize> {
        self.is_osaka_active_at_timestamp(timestamp).then_some(RLP_BLOCK_SIZE_MAX_OSAKA)
    }

    /// The largest deployed code in bytes, `None` before Spurious Dragon (EIP-170; EIP-7954 from
    /// Amsterdam on).
    pub fn code_size_max(&self, number: u64, timestamp: u64) -> Option<usize> {
        if self.is_amsterdam_active_at_timestamp(timestamp) {
            Some(eip7954::MAX_CODE_SIZE)
        } else {
            self.is_spurious_dragon_active_at_block(number).then_some(eip170::MAX_CODE_SIZE)
        }
    }

    /// The largest init code of a creation in bytes, `None` before Shanghai (EIP-3860; EIP-7954 from
    /// Amsterdam on).
    pub fn init_code_size_max(&self, timestamp: u64) -> Option<usize> {
        if self.is_amsterdam_active_at_timestamp(timestamp) {
            Some(eip7954::MAX_INITCODE_SIZE)
        } else {
            self.is_shanghai_active_at_timestamp(timestamp).then_some(eip3860::MAX_INITCODE_SIZE)
        }
    }

    /// Whether a child of `parent` is the first block with a base fee: its gas limit starts from twice the parent's
    /// and its base fee from 1 gwei (EIP-1559).
    pub fn is_london_transition(&self, parent: &Header) -> bool {
        let london = self.ethereum_fork_activation(EthereumHardfork::London);
        parent.number.checked_add(1).is_some_and(|number| london.active_at_block(number))
            && !london.active_at_block(parent.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(number: u64, gas_limit: u64) -> Header {
        Header { number, gas_limit, ..Default::default() }
    }

    #[test]
    fn a_gas_limit_moves_by_less_than_a_1024th_and_not_below_5000() {
        let spec = ChainSpec::dev();
        for (gas_limit, lowest, highest) in [
            (30_000_000, 29_970_705, 30_029_295),
            (1_000_000_000, 999_023_439, 1_000_976_561),
            (5_000, 5_000, 5_003),
            (5_120, 5_116, 5_124),
            (GAS_LIMIT_MAX, GAS_LIMIT_MAX - (GAS_LIMIT_MAX / 1024 - 1), GAS_LIMIT_MAX),
        ] {
            assert_eq!(spec.gas_limit_bounds(&parent(7, gas_limit)), lowest..=highest);
        }
        assert!(spec.gas_limit_bounds(&parent(7, 1_000)).is_empty());
    }

    #[test]
    fn the_gas_limit_doubles_at_the_london_block() {
        let spec = ChainSpec::mainnet();
        let last = parent(12_964_999, 15_000_000);
        assert!(spec.is_london_transition(&last));
        assert!(spec.gas_limit_bounds(&last).contains(&30_029_000));
        assert!(!spec.gas_limit_bounds(&last).contains(&15_000_000));
        for number in [12_964_998, 12_965_000, u64::MAX] {
            assert!(!spec.is_london_transition(&parent(number, 15_000_000)));
        }
    }

    #[test]
    fn the_next_gas_limit_goes_towards_the_desired_one() {
        let spec = ChainSpec::dev();
        let parent = parent(7, 30_000_000);
        assert_eq!(spec.next_gas_limit(&parent, 60_000_000), 30_029_295);
        assert_eq!(spec.next_gas_limit(&parent, 1), 29_970_705);
        assert_eq!(spec.next_gas_limit(&parent, 30_000_001), 30_000_001);
    }

    #[test]
    fn size_limits_come_with_their_forks() {
        let spec = ChainSpec::mainnet();
        let osaka = 1_764_798_551;
        assert_eq!(spec.transaction_gas_limit_cap(osaka - 1), None);
        assert_eq!(spec.transaction_gas_limit_cap(osaka), Some(16_777_216));
        assert_eq!(spec.rlp_block_size_max(osaka - 1), None);
        assert_eq!(spec.rlp_block_size_max(osaka), Some(8_388_608));
        assert_eq!(spec.code_size_max(2_674_999, 0), None);
        assert_eq!(spec.code_size_max(2_675_000, 0), Some(24_576));
        assert_eq!(spec.init_code_size_max(1_681_338_454), None);
        assert_eq!(spec.init_code_size_max(1_681_338_455), Some(49_152));
    }
}

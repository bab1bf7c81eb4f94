//! The fees that follow from the parent block: base fee (EIP-1559) and blob base fee (EIP-4844, EIP-7918).

use std::cmp::Ordering;

use alloy_consensus::Header;
use alloy_eips::{
    eip1559::{
        DEFAULT_BASE_FEE_MAX_CHANGE_DENOMINATOR, DEFAULT_ELASTICITY_MULTIPLIER, INITIAL_BASE_FEE,
    },
    eip4844::DATA_GAS_PER_BLOB,
};
use alloy_hardforks::EthereumHardforks;

use crate::{ChainSpec, blob_schedule::BLOBS_PER_BLOCK_MAX};

impl ChainSpec {
    /// The base fee per gas, in wei, of a child of `parent`; `None` before London.
    ///
    /// The first block of London has 1 gwei. A parent with a base fee decides by itself; a later parent without one is
    /// no valid header and counts as 0.
    pub fn next_base_fee(&self, parent: &Header) -> Option<u64> {
        if self.is_london_transition(parent) {
            return Some(INITIAL_BASE_FEE);
        }
        self.is_london_active_at_block(parent.number).then(|| {
            next_base_fee(
                parent.base_fee_per_gas.unwrap_or_default(),
                parent.gas_used,
                parent.gas_limit,
            )
        })
    }

    /// The excess blob gas of a child of `parent` with this timestamp (seconds); `None` before Cancun.
    ///
    /// The child's parameters apply, also in the first block of a fork. From Osaka on the excess does not fall while
    /// the blob price is below the reserve price that the parent's base fee sets (EIP-7918).
    pub fn next_excess_blob_gas(&self, parent: &Header, child_timestamp: u64) -> Option<u64> {
        let params = self.blob_params_at(child_timestamp)?;
        // A header that was not validated may claim anything; the sums must not overflow.
        let used_max = BLOBS_PER_BLOCK_MAX * DATA_GAS_PER_BLOB;
        let used = parent.blob_gas_used.unwrap_or_default().min(used_max);
        let excess = parent.excess_blob_gas.unwrap_or_default().min(u64::MAX - used);
        let base_fee = parent.base_fee_per_gas.unwrap_or_default();
        Some(params.next_block_excess_blob_gas_osaka(excess, used, base_fee))
    }

    /// The price of blob gas, in wei, in the block of `header`; `None` before Cancun.
    pub fn blob_base_fee(&self, header: &Header) -> Option<u128> {
        let params = self.blob_params_at(header.timestamp)?;
        Some(params.calc_blob_fee(header.excess_blob_gas?))
    }
}

/// The formula of EIP-1559, in 128 bits and saturating, so that no header can overflow it.
fn next_base_fee(base_fee: u64, gas_used: u64, gas_limit: u64) -> u64 {
    let target = gas_limit / DEFAULT_ELASTICITY_MULTIPLIER;
    if target == 0 {
        return base_fee;
    }
    let change = |gas: u64| {
        let change = u128::from(base_fee) * u128::from(gas)
            / u128::from(target)
            / u128::from(DEFAULT_BASE_FEE_MAX_CHANGE_DENOMINATOR);
        u64::try_from(change).unwrap_or(u64::MAX)
    };
    match gas_used.cmp(&target) {
        Ordering::Equal => base_fee,
        Ordering::Greater => base_fee.saturating_add(change(gas_used - target).max(1)),
        Ordering::Less => base_fee.saturating_sub(change(target - gas_used)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_hardforks::ethereum::mainnet::{
        MAINNET_BPO1_TIMESTAMP, MAINNET_CANCUN_TIMESTAMP, MAINNET_LONDON_BLOCK,
        MAINNET_OSAKA_TIMESTAMP, MAINNET_PRAGUE_TIMESTAMP,
    };

    const BLOB: u64 = DATA_GAS_PER_BLOB;

    #[test]
    fn the_base_fee_follows_the_formula_of_eip_1559() {
        for (base_fee, gas_used, gas_limit, expected) in [
            // At, above and below the target of half the limit.
            (1_000_000_000, 10_000_000, 20_000_000, 1_000_000_000),
            (1_000_000_000, 20_000_000, 20_000_000, 1_125_000_000),
            (1_000_000_000, 11_000_000, 20_000_000, 1_012_500_000),
            (1_000_000_000, 9_000_000, 20_000_000, 987_500_000),
            (1_000_000_000, 0, 20_000_000, 875_000_000),
            (1_072_671_875, 9_000_000, 10_000_000, 1_179_939_062),
            (1_059_263_476, 10_001_000, 14_000_000, 1_116_028_649),
            // It rises by at least 1 wei, also from 0, and falls below 8 wei no further.
            (0, 20_000_000, 20_000_000, 1),
            (7, 10_000_001, 20_000_000, 8),
            (7, 0, 20_000_000, 7),
            // Headers that cannot be valid must not overflow.
            (u64::MAX, u64::MAX, 2, u64::MAX),
            (u64::MAX, 0, u64::MAX, u64::MAX - u64::MAX / 8),
            (5, 1, 1, 5),
        ] {
            assert_eq!(next_base_fee(base_fee, gas_used, gas_limit), expected);
        }
    }

    #[test]
    fn the_first_london_block_costs_one_gwei() {
        let spec = ChainSpec::mainnet();
        let parent = |number, base_fee_per_gas| Header {
            number,
            base_fee_per_gas,
            gas_limit: 30_000_000,
            gas_used: 30_000_000,
            ..Default::default()
        };
        assert_eq!(spec.next_base_fee(&parent(MAINNET_LONDON_BLOCK - 2, None)), None);
        let first = spec.next_base_fee(&parent(MAINNET_LONDON_BLOCK - 1, None));
        assert_eq!(first, Some(1_000_000_000));
        let second = spec.next_base_fee(&parent(MAINNET_LONDON_BLOCK, first));
        assert_eq!(second, Some(1_125_000_000));
    }

    fn excess(child_timestamp: u64, excess: u64, used: u64, base_fee: u64) -> Option<u64> {
        let parent = Header {
            excess_blob_gas: Some(excess),
            blob_gas_used: Some(used),
            base_fee_per_gas: Some(base_fee),
            ..Default::default()
        };
        ChainSpec::mainnet().next_excess_blob_gas(&parent, child_timestamp)
    }

    #[test]
    fn excess_blob_gas_is_what_the_target_leaves() {
        assert_eq!(excess(MAINNET_CANCUN_TIMESTAMP - 1, 0, 0, 0), None);
        for (used, expected) in [(0, 0), (3, 0), (4, 1), (6, 3)] {
            let next = excess(MAINNET_CANCUN_TIMESTAMP, 0, used * BLOB, 1_000_000_000);
            assert_eq!(next, Some(expected * BLOB));
        }
        assert_eq!(excess(MAINNET_CANCUN_TIMESTAMP, 5 * BLOB, 0, 7), Some(2 * BLOB));
        // The first Prague block already has Prague's target of 6.
        assert_eq!(excess(MAINNET_PRAGUE_TIMESTAMP, 5 * BLOB, 6 * BLOB, 7), Some(5 * BLOB));
        // A parent from before Cancun has neither field.
        let spec = ChainSpec::mainnet();
        let next = spec.next_excess_blob_gas(&Header::default(), MAINNET_CANCUN_TIMESTAMP);
        assert_eq!(next, Some(0));
    }

    #[test]
    fn below_the_reserve_price_osaka_lets_the_excess_grow() {
        let prague = MAINNET_OSAKA_TIMESTAMP - 1;
        let osaka = MAINNET_OSAKA_TIMESTAMP;
        // A blob costs 131072 gas at the least price of 1 wei; the reserve price is 8192 times the base fee. They meet
        // at a base fee of 16 wei.
        assert_eq!(excess(osaka, 10 * BLOB, 6 * BLOB, 16), Some(10 * BLOB));
        assert_eq!(excess(osaka, 10 * BLOB, 6 * BLOB, 17), Some(10 * BLOB + 6 * BLOB * 3 / 9));
        assert_eq!(excess(prague, 10 * BLOB, 6 * BLOB, 17), Some(10 * BLOB));
        assert_eq!(excess(osaka, 10 * BLOB, 0, 1_000_000_000), Some(10 * BLOB));
        // Below the target the excess is 0 all the same.
        assert_eq!(excess(osaka, 0, 5 * BLOB, 1_000_000_000), Some(0));
        let bpo1 = MAINNET_BPO1_TIMESTAMP;
        assert_eq!(excess(bpo1, 10 * BLOB, 6 * BLOB, 17), Some(10 * BLOB + 6 * BLOB * 5 / 15));
        // Where blobs are dear enough the old formula holds.
        assert_eq!(excess(osaka, 1_000 * BLOB, 9 * BLOB, 1_000_000_000), Some(1_003 * BLOB));
    }

    #[test]
    fn no_header_overflows_the_excess_blob_gas() {
        for timestamp in [MAINNET_CANCUN_TIMESTAMP, MAINNET_BPO1_TIMESTAMP] {
            for base_fee in [0, u64::MAX] {
                assert!(excess(timestamp, u64::MAX, u64::MAX, base_fee).is_some());
                assert!(excess(timestamp, 0, u64::MAX, base_fee).is_some());
            }
        }
        let header = Header {
            timestamp: MAINNET_CANCUN_TIMESTAMP,
            excess_blob_gas: Some(u64::MAX),
            ..Default::default()
        };
        assert_eq!(ChainSpec::mainnet().blob_base_fee(&header), Some(u128::MAX));
    }

    #[test]
    fn the_blob_base_fee_depends_on_the_fork_of_the_block() {
        let spec = ChainSpec::mainnet();
        let fee = |timestamp, excess: u64| {
            let excess_blob_gas = Some(excess);
            spec.blob_base_fee(&Header { timestamp, excess_blob_gas, ..Default::default() })
        };
        // From the vectors of EIP-4844: the price first reaches 2 wei at an excess of 2,314,058.
        assert_eq!(fee(MAINNET_CANCUN_TIMESTAMP, 0), Some(1));
        assert_eq!(fee(MAINNET_CANCUN_TIMESTAMP, 2_314_057), Some(1));
        assert_eq!(fee(MAINNET_CANCUN_TIMESTAMP, 2_314_058), Some(2));
        assert_eq!(fee(MAINNET_CANCUN_TIMESTAMP, 10 * 1024 * 1024), Some(23));
        // Later fractions are larger, so that the same excess costs less.
        assert_eq!(fee(MAINNET_PRAGUE_TIMESTAMP, 10 * 1024 * 1024), Some(8));
        assert_eq!(fee(MAINNET_CANCUN_TIMESTAMP - 1, 0), None);
    }
}

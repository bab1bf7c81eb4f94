//! Difficulty of proof-of-work blocks, fork by fork.

use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::U256;
use heddle_chainspec::{ChainSpec, EthereumHardfork, EthereumHardforks};

/// No block is easier (yellow paper, 4.4.4).
const DIFFICULTY_MIN: U256 = U256::from_limbs([131_072, 0, 0, 0]);

/// One step of the adjustment is this part of the parent's difficulty.
const BOUND_DIVISOR: U256 = U256::from_limbs([2_048, 0, 0, 0]);

/// The difficulty bomb doubles after so many blocks.
const BOMB_PERIOD_BLOCKS: u64 = 100_000;

/// At most so many steps down from one block to the next (EIP-2).
const STEPS_DOWN_MAX: u64 = 99;

/// By how many blocks the bomb is delayed, newest fork first: EIP-5133, 4345, 3554, 2384, 1234, 649.
const BOMB_DELAYS_BLOCKS: [(EthereumHardfork, u64); 6] = [
    (EthereumHardfork::GrayGlacier, 11_400_000),
    (EthereumHardfork::ArrowGlacier, 10_700_000),
    (EthereumHardfork::London, 9_700_000),
    (EthereumHardfork::MuirGlacier, 9_000_000),
    (EthereumHardfork::Constantinople, 5_000_000),
    (EthereumHardfork::Byzantium, 3_000_000),
];

/// The difficulty of the child of `parent` with this timestamp (seconds), which must be later.
pub(super) fn child_difficulty(spec: &ChainSpec, parent: &Header, timestamp: u64) -> U256 {
    let number = parent.number.saturating_add(1);
    let seconds = timestamp.saturating_sub(parent.timestamp);
    let active = |fork| spec.is_ethereum_fork_active_at_block(fork, number);
    let delay = BOMB_DELAYS_BLOCKS.iter().find(|(fork, _)| active(*fork)).map(|(_, delay)| *delay);
    if let Some(delay) = delay {
        // EIP-100 aims at a time between blocks that counts ommers in.
        let calm = if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH { 1 } else { 2 };
        let adjusted = adjust(parent.difficulty, calm, seconds / 9).max(DIFFICULTY_MIN);
        return adjusted.saturating_add(bomb(number.saturating_sub(delay)));
    }
    if active(EthereumHardfork::Homestead) {
        let adjusted = adjust(parent.difficulty, 1, seconds / 10).max(DIFFICULTY_MIN);
        return adjusted.saturating_add(bomb(number));
    }
    let adjusted = adjust(parent.difficulty, 1, if seconds < 13 { 0 } else { 2 });
    adjusted.max(DIFFICULTY_MIN).saturating_add(bomb(number))
}

/// `parent` and `up − down` steps, of which at most [`STEPS_DOWN_MAX`] go down.
fn adjust(parent: U256, up: u64, down: u64) -> U256 {
    let step = parent / BOUND_DIVISOR;
    if down <= up {
        parent.saturating_add(step.saturating_mul(U256::from(up - down)))
    } else {
        parent.saturating_sub(step.saturating_mul(U256::from((down - up).min(STEPS_DOWN_MAX))))
    }
}

/// What the bomb adds to a block with this number (less the delay).
fn bomb(number: u64) -> U256 {
    match (number / BOMB_PERIOD_BLOCKS).checked_sub(2) {
        None => U256::ZERO,
        Some(exponent) => usize::try_from(exponent)
            .ok()
            .and_then(|exponent| U256::ONE.checked_shl(exponent))
            .unwrap_or(U256::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mainnet headers: parent number, parent timestamp, parent difficulty, whether the parent has
    /// ommers, timestamp, difficulty.
    #[test]
    fn mainnet_blocks_have_the_difficulty_that_follows_from_their_parent() {
        let spec = ChainSpec::mainnet();
        // Blocks 1 and 2: the first of all.
        let genesis = Header { difficulty: U256::from(17_179_869_184u64), ..Default::default() };
        let first = child_difficulty(&spec, &genesis, 1_438_269_988);
        assert_eq!(first, U256::from(17_171_480_576u64));
        let first =
            Header { number: 1, timestamp: 1_438_269_988, difficulty: first, ..Default::default() };
        assert_eq!(child_difficulty(&spec, &first, 1_438_270_017), U256::from(17_163_096_064u64));
    }

    #[test]
    fn nothing_overflows_or_falls_below_the_minimum() {
        let spec = ChainSpec::mainnet();
        for number in [0, 1_200_000, 4_400_000, 13_800_000, u64::MAX - 1, u64::MAX] {
            for difficulty in [U256::ZERO, U256::ONE, U256::MAX] {
                for timestamp in [0, 1, u64::MAX] {
                    let parent = Header { number, difficulty, ..Default::default() };
                    assert!(child_difficulty(&spec, &parent, timestamp) >= DIFFICULTY_MIN);
                }
            }
        }
    }

    #[test]
    fn the_bomb_starts_in_its_third_period_and_doubles() {
        assert_eq!(bomb(199_999), U256::ZERO);
        assert_eq!(bomb(200_000), U256::from(1));
        assert_eq!(bomb(399_999), U256::from(2));
        assert_eq!(bomb(1_200_000), U256::from(1_024));
        assert_eq!(bomb(u64::MAX), U256::MAX);
    }
}

//! From which block on the chain is proof of stake.
//!
//! The rule on the wire is the total difficulty of the parent (EIP-3675), but every chain that merged knows the block
//! by now, and geth decides by block number and time alone: merged where the terminal total difficulty is 0, from
//! `mergeNetsplitBlock` on, or where Shanghai is active. This does the same and resolves it to one block number, which
//! is what every other rule can be asked with.

use alloy_genesis::Genesis;
use alloy_hardforks::{ethereum::mainnet, ethereum::sepolia};
use alloy_primitives::U256;

use crate::{
    ChainSpecError,
    known::{MAINNET_CHAIN_ID, SEPOLIA_CHAIN_ID},
};

/// The number of the first proof-of-stake block; `None` where the chain has not merged as far as the file can tell.
///
/// # Errors
/// Where forks by timestamp are scheduled, which come after the merge, but nothing says at which block that happened.
pub(crate) fn first_proof_of_stake_block(genesis: &Genesis) -> Result<Option<u64>, ChainSpecError> {
    let config = &genesis.config;
    let genesis_number = genesis.number.unwrap_or(0);
    let terminal = config.terminal_total_difficulty;

    let is_shanghai_at_genesis = config.shanghai_time.is_some_and(|time| time <= genesis.timestamp);
    if terminal == Some(U256::ZERO) || is_shanghai_at_genesis {
        return Ok(Some(0));
    }
    // Both networks merged before their netsplit block, Sepolia by 285,000 blocks; mainnet has none.
    match (config.chain_id, terminal) {
        (MAINNET_CHAIN_ID, Some(mainnet::MAINNET_PARIS_TTD)) => {
            return Ok(Some(mainnet::MAINNET_PARIS_BLOCK));
        }
        (SEPOLIA_CHAIN_ID, Some(sepolia::SEPOLIA_PARIS_TTD)) => {
            return Ok(Some(sepolia::SEPOLIA_PARIS_BLOCK));
        }
        _ => {}
    }
    if let Some(block) = config.merge_netsplit_block {
        return Ok(Some(block));
    }
    if config.terminal_total_difficulty_passed {
        return Ok(Some(0));
    }
    // The genesis block itself reaches the terminal difficulty, so that its first child is proof of stake.
    if terminal.is_some_and(|terminal| genesis.difficulty >= terminal) {
        return Ok(Some(genesis_number.saturating_add(1)));
    }
    if config.shanghai_time.is_some() {
        return Err(ChainSpecError::invalid(
            "config.mergeNetsplitBlock",
            "is required, because config.shanghaiTime is set and proof of stake comes before it: give the number of \
             the first proof-of-stake block, or terminalTotalDifficulty 0 where there is no proof of work",
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_genesis::ChainConfig;

    fn genesis(config: ChainConfig) -> Genesis {
        Genesis { config: ChainConfig { chain_id: 7, ..config }, ..Default::default() }
    }

    fn first_block(config: ChainConfig) -> Option<u64> {
        first_proof_of_stake_block(&genesis(config)).unwrap()
    }

    #[test]
    fn a_terminal_difficulty_of_zero_is_proof_of_stake_from_genesis() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(U256::ZERO),
            merge_netsplit_block: Some(9),
            ..Default::default()
        };
        assert_eq!(first_block(config), Some(0));
    }

    #[test]
    fn a_terminal_difficulty_to_be_reached_waits_for_the_netsplit_block() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(U256::from(4_732_352)),
            merge_netsplit_block: Some(36),
            shanghai_time: Some(390),
            ..Default::default()
        };
        assert_eq!(first_block(config), Some(36));
    }

    #[test]
    fn a_terminal_difficulty_passed_is_proof_of_stake_from_genesis() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(U256::from(1_000)),
            terminal_total_difficulty_passed: true,
            ..Default::default()
        };
        assert_eq!(first_block(config), Some(0));
    }

    #[test]
    fn shanghai_at_genesis_implies_proof_of_stake_there() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(mainnet::MAINNET_PARIS_TTD),
            shanghai_time: Some(0),
            ..Default::default()
        };
        assert_eq!(first_block(config), Some(0));
    }

    #[test]
    fn a_genesis_as_difficult_as_the_terminal_difficulty_makes_its_child_proof_of_stake() {
        let mut genesis = genesis(ChainConfig {
            terminal_total_difficulty: Some(U256::from(100)),
            ..Default::default()
        });
        genesis.difficulty = U256::from(100);
        assert_eq!(first_proof_of_stake_block(&genesis), Ok(Some(1)));
    }

    #[test]
    fn a_chain_that_only_names_a_terminal_difficulty_has_not_merged() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(U256::from(0xC0000)),
            ..Default::default()
        };
        assert_eq!(first_block(config), None);
        assert_eq!(first_block(ChainConfig::default()), None);
    }

    #[test]
    fn timestamp_forks_without_a_known_merge_block_are_refused() {
        let config = ChainConfig {
            terminal_total_difficulty: Some(U256::from(1_000)),
            shanghai_time: Some(500),
            ..Default::default()
        };
        let error = first_proof_of_stake_block(&genesis(config)).unwrap_err();
        assert!(error.to_string().starts_with("config.mergeNetsplitBlock: is required"), "{error}");
    }
}

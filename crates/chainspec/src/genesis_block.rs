//! Block 0.

use alloy_consensus::{Header, constants::EMPTY_WITHDRAWALS};
use alloy_eips::{
    eip1559::INITIAL_BASE_FEE, eip7685::EMPTY_REQUESTS_HASH,
    eip7928::constants::EMPTY_BLOCK_ACCESS_LIST_HASH,
};
use alloy_hardforks::EthereumHardforks;
use alloy_primitives::{B64, B256};

use crate::ChainSpec;

impl ChainSpec {
    /// The header of the genesis block, given the root of the state that
    /// [`genesis_allocation`](Self::genesis_allocation) describes. The genesis hash is its `hash_slow()`.
    ///
    /// The optional fields are those of the forks that are active at genesis, with the file's values where it gives
    /// them: base fee (otherwise 1 gwei), withdrawals root, blob gas used and excess blob gas (otherwise 0), a zero
    /// parent beacon block root, the hash of no requests, the hash of an empty block access list.
    pub fn genesis_header(&self, state_root: B256) -> Header {
        let genesis = &self.genesis;
        let number = genesis.number.unwrap_or(0);
        let timestamp = genesis.timestamp;
        let is_london = self.is_london_active_at_block(number);
        let is_shanghai = self.is_shanghai_active_at_timestamp(timestamp);
        let is_cancun = self.is_cancun_active_at_timestamp(timestamp);
        let is_prague = self.is_prague_active_at_timestamp(timestamp);
        let is_amsterdam = self.is_amsterdam_active_at_timestamp(timestamp);
        // Validation saw to it that a base fee fits.
        let base_fee = genesis.base_fee_per_gas.and_then(|fee| u64::try_from(fee).ok());

        Header {
            parent_hash: genesis.parent_hash.unwrap_or_default(),
            beneficiary: genesis.coinbase,
            state_root,
            difficulty: genesis.difficulty,
            number,
            gas_limit: genesis.gas_limit,
            timestamp,
            extra_data: genesis.extra_data.clone(),
            mix_hash: genesis.mix_hash,
            nonce: B64::from(genesis.nonce),
            base_fee_per_gas: is_london.then(|| base_fee.unwrap_or(INITIAL_BASE_FEE)),
            withdrawals_root: is_shanghai.then_some(EMPTY_WITHDRAWALS),
            blob_gas_used: is_cancun.then(|| genesis.blob_gas_used.unwrap_or(0)),
            excess_blob_gas: is_cancun.then(|| genesis.excess_blob_gas.unwrap_or(0)),
            parent_beacon_block_root: is_cancun.then_some(B256::ZERO),
            requests_hash: is_prague.then_some(EMPTY_REQUESTS_HASH),
            block_access_list_hash: is_amsterdam.then_some(EMPTY_BLOCK_ACCESS_LIST_HASH),
            slot_number: is_amsterdam.then(|| genesis.slot_number.unwrap_or(0)),
            // The rest is what an empty block has.
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::{MAINNET_GENESIS_HASH, MAINNET_GENESIS_STATE_ROOT};
    use alloy_genesis::{ChainConfig, Genesis};
    use alloy_primitives::U256;

    #[test]
    fn the_mainnet_genesis_header_has_the_known_hash() {
        let header = ChainSpec::mainnet().genesis_header(MAINNET_GENESIS_STATE_ROOT);
        assert_eq!(header.hash_slow(), MAINNET_GENESIS_HASH);
    }

    fn header(config: ChainConfig, base_fee_per_gas: Option<u128>) -> Header {
        let genesis = Genesis { config, gas_limit: 5_000, base_fee_per_gas, ..Default::default() };
        ChainSpec::from_genesis(genesis).unwrap().genesis_header(B256::ZERO)
    }

    #[test]
    fn optional_fields_follow_the_forks_at_genesis() {
        let mut config = ChainConfig {
            homestead_block: Some(0),
            eip150_block: Some(0),
            eip155_block: Some(0),
            eip158_block: Some(0),
            byzantium_block: Some(0),
            constantinople_block: Some(0),
            petersburg_block: Some(0),
            istanbul_block: Some(0),
            berlin_block: Some(0),
            terminal_total_difficulty: Some(U256::ZERO),
            ..Default::default()
        };
        assert_eq!(header(config.clone(), Some(7)).base_fee_per_gas, None);

        config.london_block = Some(0);
        assert_eq!(header(config.clone(), None).base_fee_per_gas, Some(1_000_000_000));
        assert_eq!(header(config.clone(), Some(7)).base_fee_per_gas, Some(7));
        assert_eq!(header(config.clone(), None).withdrawals_root, None);

        config.shanghai_time = Some(0);
        let shanghai = header(config.clone(), None);
        assert_eq!(shanghai.withdrawals_root, Some(EMPTY_WITHDRAWALS));
        assert_eq!(shanghai.excess_blob_gas, None);

        config.cancun_time = Some(0);
        let cancun = header(config.clone(), None);
        assert_eq!((cancun.blob_gas_used, cancun.excess_blob_gas), (Some(0), Some(0)));
        assert_eq!(cancun.parent_beacon_block_root, Some(B256::ZERO));
        assert_eq!(cancun.requests_hash, None);

        config.prague_time = Some(0);
        assert_eq!(header(config.clone(), None).requests_hash, Some(EMPTY_REQUESTS_HASH));

        config.osaka_time = Some(0);
        config.amsterdam_time = Some(0);
        let amsterdam = header(config, None);
        assert_eq!(amsterdam.block_access_list_hash, Some(EMPTY_BLOCK_ACCESS_LIST_HASH));
        assert_eq!(amsterdam.slot_number, Some(0));
    }
}

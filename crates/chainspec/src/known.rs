//! Chains that are built in or known by their id.

use alloy_eips::{eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS, eip7840::BlobParams};
use alloy_genesis::{ChainConfig, Genesis};
use alloy_hardforks::ethereum::mainnet;
use alloy_primitives::{Address, B256, U256, b256, bytes};

use crate::ChainSpec;

pub(crate) const MAINNET_CHAIN_ID: u64 = 1;
pub(crate) const SEPOLIA_CHAIN_ID: u64 = 11_155_111;

/// The hash of Ethereum mainnet's block 0.
pub const MAINNET_GENESIS_HASH: B256 =
    b256!("0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");

/// The state root of Ethereum mainnet's block 0.
pub const MAINNET_GENESIS_STATE_ROOT: B256 =
    b256!("0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544");

/// The usual name of the chain with this id.
pub(crate) const fn chain_name(chain_id: u64) -> Option<&'static str> {
    match chain_id {
        MAINNET_CHAIN_ID => Some("mainnet"),
        17_000 => Some("holesky"),
        31_337 => Some("dev"),
        560_048 => Some("hoodi"),
        SEPOLIA_CHAIN_ID => Some("sepolia"),
        _ => None,
    }
}

/// The deposit contract of a chain whose file names none.
pub(crate) fn default_deposit_contract(chain_id: u64) -> Option<Address> {
    (chain_id == MAINNET_CHAIN_ID).then_some(MAINNET_DEPOSIT_CONTRACT_ADDRESS)
}

impl ChainSpec {
    /// Ethereum mainnet: its rules and its genesis header, to replay historical blocks.
    ///
    /// Its 8,893 genesis accounts are not built in, so [`genesis_allocation`](Self::genesis_allocation) is an error;
    /// [`MAINNET_GENESIS_STATE_ROOT`] gives the header all the same.
    pub fn mainnet() -> Self {
        let genesis = Genesis {
            config: mainnet_config(),
            nonce: 0x42,
            gas_limit: 5_000,
            difficulty: U256::from(17_179_869_184_u64),
            extra_data: bytes!(
                "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"
            ),
            ..Default::default()
        };
        Self::new(genesis, None)
            .expect("the built-in mainnet rules are consistent, as a test shows")
    }

    /// The chain of `heddle node --dev`, from `genesis/dev.json`.
    ///
    /// Chain id 31337 and proof of stake from block 0. Every fork up to BPO2 is active at genesis, with mainnet's blob
    /// schedule: BPO3 to BPO5 are left out, because mainnet has not given them parameters and a blob-parameter-only
    /// fork is nothing else. The genesis time is 0; block times come from the clock, so that block 1 is already now.
    ///
    /// The accounts are the ten of the mnemonic `test test test test test test test test test test test junk` with
    /// 10,000 ETH each, the four system contracts (EIP-2935, 4788, 7002, 7251), the deposit contract with the storage
    /// of an empty deposit tree, the deterministic deployment proxy and Multicall3, all with their mainnet code. The
    /// two request contracts start with empty storage, not with the inhibitor that their deployment leaves until the
    /// first block of Prague, so that they take requests from block 1 on.
    pub fn dev() -> Self {
        Self::from_genesis_json(include_str!("../../../genesis/dev.json"))
            .expect("genesis/dev.json is part of this program and a test reads it")
    }
}

fn mainnet_config() -> ChainConfig {
    ChainConfig {
        chain_id: MAINNET_CHAIN_ID,
        homestead_block: Some(mainnet::MAINNET_HOMESTEAD_BLOCK),
        dao_fork_block: Some(mainnet::MAINNET_DAO_BLOCK),
        dao_fork_support: true,
        eip150_block: Some(mainnet::MAINNET_TANGERINE_BLOCK),
        eip155_block: Some(mainnet::MAINNET_SPURIOUS_DRAGON_BLOCK),
        eip158_block: Some(mainnet::MAINNET_SPURIOUS_DRAGON_BLOCK),
        byzantium_block: Some(mainnet::MAINNET_BYZANTIUM_BLOCK),
        constantinople_block: Some(mainnet::MAINNET_CONSTANTINOPLE_BLOCK),
        petersburg_block: Some(mainnet::MAINNET_PETERSBURG_BLOCK),
        istanbul_block: Some(mainnet::MAINNET_ISTANBUL_BLOCK),
        muir_glacier_block: Some(mainnet::MAINNET_MUIR_GLACIER_BLOCK),
        berlin_block: Some(mainnet::MAINNET_BERLIN_BLOCK),
        london_block: Some(mainnet::MAINNET_LONDON_BLOCK),
        arrow_glacier_block: Some(mainnet::MAINNET_ARROW_GLACIER_BLOCK),
        gray_glacier_block: Some(mainnet::MAINNET_GRAY_GLACIER_BLOCK),
        terminal_total_difficulty: Some(mainnet::MAINNET_PARIS_TTD),
        terminal_total_difficulty_passed: true,
        shanghai_time: Some(mainnet::MAINNET_SHANGHAI_TIMESTAMP),
        cancun_time: Some(mainnet::MAINNET_CANCUN_TIMESTAMP),
        prague_time: Some(mainnet::MAINNET_PRAGUE_TIMESTAMP),
        osaka_time: Some(mainnet::MAINNET_OSAKA_TIMESTAMP),
        bpo1_time: Some(mainnet::MAINNET_BPO1_TIMESTAMP),
        bpo2_time: Some(mainnet::MAINNET_BPO2_TIMESTAMP),
        deposit_contract_address: Some(MAINNET_DEPOSIT_CONTRACT_ADDRESS),
        blob_schedule: [
            ("cancun", BlobParams::cancun()),
            ("prague", BlobParams::prague()),
            ("osaka", BlobParams::osaka()),
            ("bpo1", BlobParams::bpo1()),
            ("bpo2", BlobParams::bpo2()),
        ]
        .map(|(name, params)| (name.to_owned(), params))
        .into(),
        ..Default::default()
    }
}

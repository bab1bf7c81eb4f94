//! The chain specification itself and what is active when.

use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_eips::eip7840::BlobParams;
use alloy_evm::{
    EvmEnv,
    eth::spec::EthExecutorSpec,
    revm::{context_interface::cfg::gas_params::GasId, primitives::hardfork::SpecId},
};
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, U256};

use crate::{ChainSpecError, blob_schedule::BlobSchedule, genesis_file, known, merge, validation};

/// The gas of storage writes in Constantinople (EIP-1283): 200 for every write, what is missing to 20,000 or 5,000 for
/// the first one of a slot, and what of it comes back when the slot is restored.
const EIP_1283_GAS: [(GasId, u64); 5] = [
    (GasId::sstore_static(), 200),
    (GasId::sstore_set_without_load_cost(), 19_800),
    (GasId::sstore_reset_without_cold_load_cost(), 4_800),
    (GasId::sstore_set_refund(), 19_800),
    (GasId::sstore_reset_refund(), 4_800),
];

/// The rules of one chain, checked for consistency.
///
/// Cheap to share behind an `Arc`, not to clone: it holds the genesis accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSpec {
    /// The configuration and the header fields of block 0. Its `alloc` is empty; the accounts are in `allocation`.
    pub(crate) genesis: Genesis,
    /// The genesis accounts, `None` where they are not built in.
    allocation: Option<BTreeMap<Address, GenesisAccount>>,
    /// The number of the first proof-of-stake block, where there is one.
    merge_block: Option<u64>,
    blob_schedule: BlobSchedule,
    code_may_send: bool,
}

impl ChainSpec {
    /// Reads a genesis file in geth's format.
    ///
    /// # Errors
    /// [`ChainSpecError::Syntax`] where the text is not JSON, [`ChainSpecError::Invalid`] with the JSON path of a value
    /// that is missing, malformed or contradicts another one.
    pub fn from_genesis_json(json: &str) -> Result<Self, ChainSpecError> {
        Self::from_genesis(genesis_file::parse(json)?)
    }

    /// Takes a genesis that was read or put together elsewhere. Note that `ChainConfig::default()` has chain id 1.
    ///
    /// # Errors
    /// [`ChainSpecError::Invalid`] with the path, as in the file format, of a value that contradicts another one.
    pub fn from_genesis(mut genesis: Genesis) -> Result<Self, ChainSpecError> {
        let allocation = std::mem::take(&mut genesis.alloc);
        Self::new(genesis, Some(allocation))
    }

    pub(crate) fn new(
        genesis: Genesis,
        allocation: Option<BTreeMap<Address, GenesisAccount>>,
    ) -> Result<Self, ChainSpecError> {
        validation::check(&genesis)?;
        let merge_block = merge::first_proof_of_stake_block(&genesis)?;
        let blob_schedule = BlobSchedule::from_config(&genesis.config)?;
        Ok(Self { genesis, allocation, merge_block, blob_schedule, code_may_send: false })
    }

    /// The same rules with proof of stake from block `number` on: for a chain whose file gives a terminal total
    /// difficulty and no block, once the block that reached it is known.
    pub fn with_merge_block(mut self, number: u64) -> Self {
        self.merge_block = Some(number);
        self
    }

    /// The same rules without EIP-3607, so that accounts with code may send: for development chains, whose clients act
    /// in the name of any account.
    pub fn with_code_senders(mut self) -> Self {
        self.code_may_send = true;
        self
    }

    /// Whether accounts with code may send transactions.
    pub const fn code_may_send(&self) -> bool {
        self.code_may_send
    }

    /// The chain id of EIP-155.
    pub const fn chain_id(&self) -> u64 {
        self.genesis.config.chain_id
    }

    /// The chain's usual name, where its id is a known one.
    pub const fn name(&self) -> Option<&'static str> {
        known::chain_name(self.chain_id())
    }

    /// The configuration as the genesis file gives it, for reports. Rules are better asked of the methods here, which
    /// know the defaults.
    pub const fn config(&self) -> &ChainConfig {
        &self.genesis.config
    }

    /// When the chain begins, in seconds since 1970.
    pub const fn genesis_timestamp(&self) -> u64 {
        self.genesis.timestamp
    }

    /// The accounts that exist at genesis.
    ///
    /// # Errors
    /// [`ChainSpecError::GenesisStateUnavailable`] for a built-in chain whose accounts are not built in (mainnet).
    pub fn genesis_allocation(&self) -> Result<&BTreeMap<Address, GenesisAccount>, ChainSpecError> {
        self.allocation.as_ref().ok_or_else(|| ChainSpecError::GenesisStateUnavailable {
            chain: self.name().map_or_else(|| self.chain_id().to_string(), str::to_owned),
        })
    }

    /// The names in `config` that mean nothing here. They are ignored, as geth does; worth a warning, because one may
    /// be a misspelt fork.
    pub fn unrecognized_config_fields(&self) -> impl Iterator<Item = &str> {
        let names = self.config().extra_fields.keys().map(String::as_str);
        // The hash of the block of EIP-150, which old files give and nobody checks.
        names.filter(|name| *name != "eip150Hash")
    }

    /// The latest fork that is active in a block with this number and timestamp (seconds).
    pub fn fork_at(&self, number: u64, timestamp: u64) -> EthereumHardfork {
        let mut newest_first = EthereumHardfork::VARIANTS.iter().rev();
        newest_first
            .find(|fork| {
                let condition = self.ethereum_fork_activation(**fork);
                condition.active_at_timestamp_or_number(timestamp, number)
            })
            .copied()
            .unwrap_or(EthereumHardfork::Frontier)
    }

    /// The EVM's rules in a block with this number and timestamp (seconds).
    ///
    /// The EVM has no separate rules for Constantinople, so those few blocks on chains where Petersburg came later run
    /// with Petersburg's: the same but for the gas of storage writes (EIP-1283), which [`evm_env`](Self::evm_env) puts
    /// into the gas parameters.
    pub fn spec_id_at(&self, number: u64, timestamp: u64) -> SpecId {
        let spec = alloy_evm::spec_by_timestamp_and_block_number(self, timestamp, number);
        if spec == SpecId::BYZANTIUM && self.is_constantinople_active_at_block(number) {
            SpecId::PETERSBURG
        } else {
            spec
        }
    }

    /// The number of the first proof-of-stake block; `None` where the chain has not merged, as far as is known.
    pub const fn merge_block(&self) -> Option<u64> {
        self.merge_block
    }

    /// Whether the block with this number is proof of stake.
    pub fn is_proof_of_stake(&self, number: u64) -> bool {
        self.merge_block.is_some_and(|merge_block| number >= merge_block)
    }

    /// Whether a block whose *parent* has this total difficulty is proof of stake by the rule of EIP-3675. For chains
    /// with no known [`merge_block`](Self::merge_block).
    pub fn is_terminal_total_difficulty_reached(&self, parent_total_difficulty: U256) -> bool {
        let terminal = self.terminal_total_difficulty();
        terminal.is_some_and(|terminal| parent_total_difficulty >= terminal)
    }

    /// The total difficulty at which proof of work ends.
    pub const fn terminal_total_difficulty(&self) -> Option<U256> {
        self.genesis.config.terminal_total_difficulty
    }

    /// The block of the DAO fork, where the chain took part in it. Its extra data, and that of the nine blocks after
    /// it, is `dao-hard-fork` (EIP-779).
    pub const fn dao_fork_block(&self) -> Option<u64> {
        if self.genesis.config.dao_fork_support { self.genesis.config.dao_fork_block } else { None }
    }

    /// The blob parameters in force at `timestamp` (seconds), `None` before Cancun.
    pub fn blob_params_at(&self, timestamp: u64) -> Option<BlobParams> {
        self.blob_schedule.at(timestamp)
    }

    /// The EVM's view of the block that `header` describes: rules, limits, fees. The header may be of a block that is
    /// still being built; only number, timestamp, beneficiary, difficulty, mix hash, gas limit, base fee, excess blob
    /// gas and slot number matter.
    pub fn evm_env(&self, header: &Header) -> EvmEnv {
        let blob_params = self.blob_params_at(header.timestamp);
        let mut env = EvmEnv::for_eth_block(header, self, self.chain_id(), blob_params);
        // Differs only for Constantinople; see `spec_id_at`.
        let spec = self.spec_id_at(header.number, header.timestamp);
        if env.cfg_env.spec != spec {
            env.cfg_env.set_spec_and_mainnet_gas_params(spec);
            env.cfg_env.gas_params.override_gas(EIP_1283_GAS);
        }
        env.cfg_env.disable_eip3607 = self.code_may_send;
        env
    }
}

impl EthereumHardforks for ChainSpec {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        let config = &self.genesis.config;
        let block = |number: Option<u64>| number.map_or(ForkCondition::Never, ForkCondition::Block);
        let time = |time: Option<u64>| time.map_or(ForkCondition::Never, ForkCondition::Timestamp);
        match fork {
            EthereumHardfork::Frontier => ForkCondition::ZERO_BLOCK,
            EthereumHardfork::Homestead => block(config.homestead_block),
            EthereumHardfork::Dao => block(self.dao_fork_block()),
            EthereumHardfork::Tangerine => block(config.eip150_block),
            EthereumHardfork::SpuriousDragon => block(config.eip158_block),
            EthereumHardfork::Byzantium => block(config.byzantium_block),
            EthereumHardfork::Constantinople => block(config.constantinople_block),
            // As in geth: a file that leaves Petersburg out means it to come with Constantinople.
            EthereumHardfork::Petersburg => {
                block(config.petersburg_block.or(config.constantinople_block))
            }
            EthereumHardfork::Istanbul => block(config.istanbul_block),
            EthereumHardfork::MuirGlacier => block(config.muir_glacier_block),
            EthereumHardfork::Berlin => block(config.berlin_block),
            EthereumHardfork::London => block(config.london_block),
            EthereumHardfork::ArrowGlacier => block(config.arrow_glacier_block),
            EthereumHardfork::GrayGlacier => block(config.gray_glacier_block),
            EthereumHardfork::Paris => {
                self.merge_block.map_or(ForkCondition::Never, |activation_block_number| {
                    ForkCondition::TTD {
                        activation_block_number,
                        fork_block: config.merge_netsplit_block,
                        total_difficulty: config.terminal_total_difficulty.unwrap_or_default(),
                    }
                })
            }
            EthereumHardfork::Shanghai => time(config.shanghai_time),
            EthereumHardfork::Cancun => time(config.cancun_time),
            EthereumHardfork::Prague => time(config.prague_time),
            EthereumHardfork::Osaka => time(config.osaka_time),
            EthereumHardfork::Bpo1 => time(config.bpo1_time),
            EthereumHardfork::Bpo2 => time(config.bpo2_time),
            EthereumHardfork::Bpo3 => time(config.bpo3_time),
            EthereumHardfork::Bpo4 => time(config.bpo4_time),
            EthereumHardfork::Bpo5 => time(config.bpo5_time),
            EthereumHardfork::Amsterdam => time(config.amsterdam_time),
            EthereumHardfork::Bogota => time(config.bogota_time),
            _ => ForkCondition::Never,
        }
    }
}

impl EthExecutorSpec for ChainSpec {
    /// The deposit contract (EIP-6110): as the file says, otherwise mainnet's for mainnet and none for other chains.
    fn deposit_contract_address(&self) -> Option<Address> {
        let config = self.config();
        let default = known::default_deposit_contract(config.chain_id);
        config.deposit_contract_address.or(default)
    }
}

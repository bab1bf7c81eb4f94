//! The rules of one block, also where only the total difficulty tells that the chain has merged.

use alloy_consensus::Header;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, U256};
use heddle_chainspec::{
    ChainSpec, EthExecutorSpec, EthereumHardfork, EthereumHardforks, ForkCondition,
};

/// The rules of one block. A chain specification that names only a terminal total difficulty does
/// not know which block is the first of proof of stake; a block itself tells by its difficulty,
/// which validation has checked against its ancestors.
#[derive(Debug, Clone, Copy)]
pub struct BlockRules<'a> {
    spec: &'a ChainSpec,
    merged: bool,
}

impl<'a> BlockRules<'a> {
    /// The rules of the block that `header` heads.
    pub fn of(spec: &'a ChainSpec, header: &Header) -> Self {
        let by_difficulty = spec.merge_block().is_none()
            && spec.terminal_total_difficulty().is_some()
            && header.difficulty.is_zero();
        Self { spec, merged: spec.is_proof_of_stake(header.number) || by_difficulty }
    }

    /// Rules and block environment for executing it.
    pub fn evm_env(&self, header: &Header) -> EvmEnv {
        let mut env = self.spec.evm_env(header);
        if self.merged && !self.spec.is_proof_of_stake(header.number) {
            let blob_params = self.spec.blob_params_at(header.timestamp);
            env = EvmEnv::for_eth_block(header, *self, self.spec.chain_id(), blob_params);
        }
        env
    }
}

impl EthereumHardforks for BlockRules<'_> {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        if fork != EthereumHardfork::Paris {
            return self.spec.ethereum_fork_activation(fork);
        }
        if self.merged {
            ForkCondition::TTD {
                activation_block_number: 0,
                fork_block: None,
                total_difficulty: self.spec.terminal_total_difficulty().unwrap_or_default(),
            }
        } else {
            ForkCondition::Never
        }
    }
}

impl EthExecutorSpec for BlockRules<'_> {
    fn deposit_contract_address(&self) -> Option<Address> {
        self.spec.deposit_contract_address()
    }
}

/// Whether the child number `number` of a block with this total difficulty is proof of stake.
pub(crate) fn is_merged(spec: &ChainSpec, number: u64, parent_total_difficulty: U256) -> bool {
    match spec.merge_block() {
        Some(_) => spec.is_proof_of_stake(number),
        None => spec.is_terminal_total_difficulty_reached(parent_total_difficulty),
    }
}

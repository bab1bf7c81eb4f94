//! A block to measure, together with the state it starts from.

use crate::{
    MemoryState, WorkloadError, WorkloadKind, WorkloadOptions,
    random::Random,
    scenario::{self, Scenario},
    setup::Setup,
};
use alloy_consensus::Header;
use alloy_evm::EvmEnv;
use heddle_chainspec::ChainSpec;
use heddle_evm::{BlockInput, InvalidTransactions, RecoveredTransaction, block_context};

/// A block to measure, and the state it starts from.
#[derive(Debug)]
pub struct Workload {
    /// What it is.
    pub kind: WorkloadKind,
    /// The rules.
    pub spec: ChainSpec,
    /// The state before the block.
    pub state: MemoryState,
    /// The block's transactions.
    pub transactions: Vec<RecoveredTransaction>,
    /// How many of them are made to fail.
    pub failing: usize,
    header: Header,
    env: EvmEnv,
}

impl Workload {
    /// Makes the workload; the state by executing what leads to it.
    ///
    /// # Errors
    /// If a contract from npm is missing, or the set-up does not work.
    pub fn new(kind: WorkloadKind, options: &WorkloadOptions) -> Result<Self, WorkloadError> {
        let mut setup = Setup::new()?;
        let Scenario { transactions, failing } = scenario(kind, options, &mut setup)?;
        let failing = failing.len();
        let (header, env) = setup.next_header();
        Ok(Self { kind, spec: setup.spec, state: setup.state, transactions, failing, header, env })
    }

    /// The block as an executor wants it.
    pub fn input(&self) -> BlockInput<'_> {
        BlockInput {
            env: self.env.clone(),
            ctx: block_context(&self.header, &[], Some(&[])),
            transactions: &self.transactions,
            invalid: InvalidTransactions::Reject,
        }
    }
}

/// Sets the stage and gives the transactions.
pub(crate) fn scenario(
    kind: WorkloadKind,
    options: &WorkloadOptions,
    setup: &mut Setup,
) -> Result<Scenario, WorkloadError> {
    let count = options.transactions.unwrap_or_else(|| kind.default_size());
    let random = &mut Random::new(options.seed);
    Ok(match kind {
        WorkloadKind::Transfers => scenario::transfers(setup, count).into(),
        WorkloadKind::Erc20 => scenario::erc20(setup, count)?.into(),
        WorkloadKind::ChainErc20 => scenario::chain_erc20(setup, count)?.into(),
        WorkloadKind::Uniswap => scenario::uniswap(setup, count, options)?.into(),
        WorkloadKind::ChainUniswap => scenario::chain_uniswap(setup, count, options)?.into(),
        WorkloadKind::UniswapV2 => scenario::uniswap_v2(setup, count, options)?.into(),
        WorkloadKind::Hybrid => scenario::hybrid(setup, count, options, random)?.into(),
        WorkloadKind::NftMint => scenario::nft_mint(setup, count, random)?.into(),
        WorkloadKind::DaoVote => scenario::dao_vote(setup, count, random)?.into(),
        WorkloadKind::Lending => scenario::lending(setup, count, random)?.into(),
        WorkloadKind::MixedDefi => scenario::mixed_defi(setup, count, options, random)?,
    })
}

//! A development chain that goes on from a block of another node.

use crate::{ChainSource, NodeError};
use heddle_chainspec::ChainSpec;
use heddle_remote::{Fork, ForkOptions};

/// What to fork.
#[derive(Debug, Clone)]
pub struct ForkConfig {
    /// Which node, which block, and how to ask.
    pub options: ForkOptions,
    /// The chain id of the fork, if not the other node's.
    pub chain_id: Option<u64>,
}

/// The rules on the fork, over the genesis of the development chain.
///
/// Mainnet's are known. What the rules of another chain are, its block's header tells: Shanghai has withdrawals, Cancun
/// blob gas, Prague requests. Osaka and the blob-parameter forks have no mark; they hold if Prague does, as on a
/// development chain. Everything before the merge is long past.
pub(crate) fn rules(
    dev: &ChainSource,
    fork: &Fork,
    chain_id: Option<u64>,
) -> Result<ChainSource, NodeError> {
    let mut genesis = dev.genesis()?;
    let config = &mut genesis.config;
    let header = &fork.header;
    let mainnet = ChainSpec::mainnet();
    if fork.state.chain_id() == mainnet.chain_id() {
        let known = mainnet.config();
        config.shanghai_time = known.shanghai_time;
        config.cancun_time = known.cancun_time;
        config.prague_time = known.prague_time;
        config.osaka_time = known.osaka_time;
        config.bpo1_time = known.bpo1_time;
        config.bpo2_time = known.bpo2_time;
        config.blob_schedule = known.blob_schedule.clone();
        config.deposit_contract_address = known.deposit_contract_address;
    } else {
        let since = |mark: bool, time: Option<u64>| time.filter(|_| mark);
        let prague = header.requests_hash.is_some();
        config.shanghai_time = since(header.withdrawals_root.is_some(), config.shanghai_time);
        config.cancun_time = since(header.blob_gas_used.is_some(), config.cancun_time);
        config.prague_time = since(prague, config.prague_time);
        config.osaka_time = since(prague, config.osaka_time);
        config.bpo1_time = since(prague, config.bpo1_time);
        config.bpo2_time = since(prague, config.bpo2_time);
    }
    config.chain_id = chain_id.unwrap_or(fork.state.chain_id());
    ChainSource::from_genesis(&genesis)
}

//! What every method works with.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use heddle_builder::Miner;
use heddle_chain::{Chain, ChainBlock, ProducedBlock, State};
use heddle_pool::Pool;

use crate::{
    ForkDefaults, LogSwitch, RpcConfig, RpcError, RpcLimits, accounts::Accounts, errors::Failure,
    fees::TipOracle, filters::Filters, ingress::Ingress, methods, params::BlockParam,
    traffic::Unsent, work::HeavyWork,
};

/// The node as the methods see it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) chain: Arc<Chain>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) miner: Arc<Miner>,
    pub(crate) accounts: Accounts,
    pub(crate) filters: Filters,
    pub(crate) tips: TipOracle,
    pub(crate) work: HeavyWork,
    pub(crate) ingress: Ingress,
    /// Traces take seconds; they wait for one another, not others for them.
    pub(crate) traces: HeavyWork,
    /// On a fork, whatever may have to wait for another node.
    fork_work: HeavyWork,
    /// Answers on their way to clients.
    pub(crate) unsent: Arc<Unsent>,
    pub(crate) fork: ForkDefaults,
    pub(crate) limits: RpcLimits,
    pub(crate) dev: bool,
    pub(crate) client_version: String,
    pub(crate) log_switch: Option<LogSwitch>,
    /// Tells this run of the node from others.
    pub(crate) instance: B256,
}

/// A block that a parameter names and that exists.
#[derive(Clone, Debug)]
pub(crate) enum Position {
    /// On the chain, by number.
    Canonical(u64),
    /// The one that would be mined now.
    Pending(Arc<ProducedBlock>),
}

impl Context {
    pub(crate) fn new(miner: Arc<Miner>, config: &RpcConfig) -> Result<Self, RpcError> {
        let limits = config.limits.clone();
        let (chain, pool) = (miner.chain().clone(), miner.pool().clone());
        let accounts = Accounts::new(config.signers.clone());
        accounts.impersonate_all(config.dev && config.impersonate_all);
        Ok(Self {
            accounts,
            ingress: Ingress::new(limits.ingress_max)?,
            filters: Filters::new(&chain, &pool, &limits),
            tips: TipOracle::default(),
            work: HeavyWork::new(limits.heavy_calls_max, limits.heavy_calls_waiting_max),
            traces: HeavyWork::new(limits.traces_max, limits.traces_waiting_max),
            fork_work: HeavyWork::new(limits.fork_calls_max, limits.heavy_calls_waiting_max),
            unsent: Unsent::new(&limits),
            fork: config.fork.clone(),
            dev: config.dev,
            client_version: config.client_version.clone().unwrap_or_else(methods::client_version),
            log_switch: config.log_switch.clone(),
            instance: B256::random(),
            limits,
            chain,
            pool,
            miner,
        })
    }

    /// Computes an expensive method in its turn.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let work = if self.chain.is_fork() { &self.fork_work } else { &self.work };
        work.run(job).await
    }

    /// Answers what takes microseconds: here, unless another node may have to be asked.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.chain.is_fork() { self.fork_work.run(job).await } else { job() }
    }

    pub(crate) fn pending(&self) -> Result<Arc<ProducedBlock>, Failure> {
        self.miner.pending_block().map_err(Failure::server)
    }

    /// The number of a block on the chain; the pending block counts as the newest one.
    pub(crate) fn number(&self, block: BlockParam) -> Result<Option<u64>, Failure> {
        let head = || self.chain.head().number();
        Ok(match block {
            BlockParam::Latest | BlockParam::Pending => Some(head()),
            BlockParam::Safe => Some(self.chain.safe_number()),
            BlockParam::Finalized => Some(self.chain.finalized_number()),
            BlockParam::Earliest => Some(0),
            BlockParam::Number(number) => (number <= head()).then_some(number),
            BlockParam::Hash(hash) => self.chain.number_by_hash(hash)?,
        })
    }

    /// The block that is meant, `None` if there is none.
    pub(crate) fn position(&self, block: BlockParam) -> Result<Option<Position>, Failure> {
        match block {
            BlockParam::Pending => Ok(Some(Position::Pending(self.pending()?))),
            _ => Ok(self.number(block)?.map(Position::Canonical)),
        }
    }

    /// The block whose state is asked for; an error if there is none.
    pub(crate) fn state_position(&self, block: BlockParam) -> Result<Position, Failure> {
        self.position(block)?.ok_or_else(|| unknown(block))
    }

    /// The number of the block that is asked for; an error if there is none.
    pub(crate) fn known_number(&self, block: BlockParam) -> Result<u64, Failure> {
        self.number(block)?.ok_or_else(|| unknown(block))
    }

    /// The state after a block.
    pub(crate) fn state(&self, block: BlockParam) -> Result<State, Failure> {
        match block {
            // The common case, and the head cannot move between two reads.
            BlockParam::Latest => Ok(self.chain.latest_state()),
            _ => match self.state_position(block)? {
                Position::Canonical(number) => Ok(self.chain.state_at(number)?),
                Position::Pending(pending) => Ok(pending.state.clone()),
            },
        }
    }

    /// A block, on the chain or pending.
    pub(crate) fn block(&self, block: BlockParam) -> Result<Option<Arc<ChainBlock>>, Failure> {
        Ok(match block {
            BlockParam::Latest => Some(self.chain.head()),
            BlockParam::Pending => Some(self.pending()?.block.clone()),
            BlockParam::Hash(hash) => self.chain.block_by_hash(hash)?,
            _ => match self.number(block)? {
                Some(number) => self.chain.block_by_number(number)?,
                None => None,
            },
        })
    }

    /// The block of a transaction and its index there.
    pub(crate) fn mined(&self, hash: B256) -> Result<Option<(Arc<ChainBlock>, usize)>, Failure> {
        let Some((number, index)) = self.chain.transaction_location(hash)? else { return Ok(None) };
        let Some(block) = self.chain.block_by_number(number)? else { return Ok(None) };
        // A reorganisation between the two reads can put another block there.
        let is_there =
            block.transactions.get(index).is_some_and(|tx| *tx.inner().tx_hash() == hash);
        Ok(is_there.then_some((block, index)))
    }

    /// The nonce that the next transaction of this account should have.
    pub(crate) fn next_nonce(&self, address: Address) -> Result<u64, Failure> {
        // The pool first: a transaction that is mined between the two reads is then seen by one of them at least.
        let pooled = self.pool.pending_nonce(address).unwrap_or_default();
        let mined = self.chain.latest_state().account(address)?.unwrap_or_default().nonce;
        Ok(pooled.max(mined))
    }
}

/// geth's error for a block whose state nobody has.
fn unknown(block: BlockParam) -> Failure {
    Failure::server(match block {
        BlockParam::Hash(_) => "header for hash not found",
        _ => "header not found",
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use alloy_signer_local::PrivateKeySigner;
    use heddle_builder::MinerConfig;
    use heddle_chain::GenesisBlock;
    use heddle_chainspec::ChainSpec;
    use heddle_parallel::ParallelExecutor;
    use heddle_pool::PoolLimits;
    use heddle_store::Store;

    /// A development chain in memory that mines only when asked, as the methods see it.
    pub(crate) fn dev_context(limits: RpcLimits) -> Arc<Context> {
        let spec = Arc::new(ChainSpec::dev().with_code_senders());
        let genesis = GenesisBlock::new(&spec).unwrap();
        let store = Store::in_memory(&genesis.identity(&spec)).unwrap();
        let executor = ParallelExecutor::new(1).unwrap();
        let chain = Arc::new(Chain::open(spec, &genesis, store, executor).unwrap());
        let config = MinerConfig {
            automine: false,
            interval: None,
            coinbase: Address::ZERO,
            gas_limit: None,
            extra_data: Default::default(),
            pool_limits: PoolLimits::default(),
            funded: Vec::new(),
            simulate: false,
        };
        let miner = Miner::start(chain, config).unwrap();
        let config = RpcConfig { limits, ..RpcConfig::dev(vec![first_signer()]) };
        Arc::new(Context::new(miner, &config).expect("threads start"))
    }

    /// Sends a transaction from the first account and gives its hash; it waits in the pool.
    pub(crate) fn send(context: &Context, json: &str) -> B256 {
        let mut request: alloy_rpc_types_eth::TransactionRequest =
            serde_json::from_str(json).unwrap();
        request.from = Some(first_signer().address());
        crate::accounts::send(context, request).unwrap()
    }

    /// The first of the accounts with funds on the development chain; everybody knows its key.
    pub(crate) fn first_signer() -> PrivateKeySigner {
        "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80".parse().unwrap()
    }
}

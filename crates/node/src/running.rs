//! Start and stop.

use crate::{ChainSource, ForkConfig, NodeConfig, NodeError};
use alloy_primitives::B256;
use heddle_builder::{Miner, MinerConfig};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_remote::Fork;
use heddle_rpc::{RpcServer, RpcServerHandle};
use heddle_store::{Store, StoreConfig};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long stopping may take before the process ends all the same; what was committed is then on
/// disk but for the durability window.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// A running node.
#[derive(Debug)]
pub struct Node {
    chain: Arc<Chain>,
    miner: Arc<Miner>,
    rpc: RpcServerHandle,
}

impl Node {
    /// Starts a node. Must be called inside a tokio runtime.
    pub async fn start(mut config: NodeConfig) -> Result<Self, NodeError> {
        if let Some(address) = config.metrics {
            start_metrics(address)?;
        }
        let fork = match config.fork.take() {
            Some(ForkConfig { options, chain_id }) => {
                let fork = Fork::open(options).await?;
                config.chain = crate::fork::rules(&config.chain, &fork, chain_id)?;
                Some(fork)
            }
            None => None,
        };
        let mut spec = config.chain.spec.clone();
        if config.rpc.dev {
            spec = Arc::new(ChainSpec::clone(&spec).with_code_senders());
        }
        let genesis = GenesisBlock::new(&spec)?;
        let store = match &config.datadir {
            None => Store::in_memory_with(&genesis.identity(&spec), config.store_config())?,
            Some(path) => open(path, &config.chain, &genesis, config.store_config())?,
        };
        let executor = ParallelExecutor::new(config.workers).map_err(NodeError::Threads)?;
        let chain = Arc::new(Chain::open(spec, &genesis, store, executor)?);
        let miner = Miner::start(
            chain.clone(),
            MinerConfig {
                automine: config.automine,
                interval: config.block_time,
                coinbase: config.coinbase,
                gas_limit: config.gas_limit,
                extra_data: format!("heddle/v{}", env!("CARGO_PKG_VERSION")).into_bytes().into(),
                pool_limits: PoolLimits::default(),
                funded: config.funded,
                simulate: config.simulate,
            },
        )
        .map_err(NodeError::Threads)?;
        if let Some(fork) = fork {
            miner.fork(fork).await.map_err(|error| NodeError::Load(Box::new(error)))?;
        }
        if let Some(path) = &config.load_state {
            crate::dump::load(path, &miner).await?;
        }
        let rpc = RpcServer::start(config.rpc, miner.clone()).await?;
        Ok(Self { chain, miner, rpc })
    }

    /// The chain.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// The miner and its pool.
    pub fn miner(&self) -> &Arc<Miner> {
        &self.miner
    }

    /// Writes the chain into a file, in Anvil's format; a directory gets a `state.json`.
    ///
    /// # Errors
    /// If it cannot be written; a file that was there is as it was then.
    pub async fn dump_state(&self, path: &Path) -> Result<PathBuf, NodeError> {
        let (chain, path) = (self.chain.clone(), path.to_owned());
        let written = tokio::task::spawn_blocking(move || crate::dump::write(&chain, &path));
        match written.await {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Where JSON-RPC is served.
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc.local_addr()
    }

    /// Stops in the order in which work flows: no more requests, no more blocks, all on disk.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.rpc.stop().await;
        let Self { chain, miner, .. } = self;
        if let Some(remote) = chain.forked() {
            // Whoever waits for the other node must not hold this one up.
            remote.node().stop();
        }
        // Nor must a full disk.
        chain.store().stop_waiting_for_room();
        let stopped = tokio::task::spawn_blocking(move || {
            miner.stop();
            let store = chain.store();
            // So that the next start need not make anew what waits; in memory there is none.
            let settled = if store.is_on_disk() { store.settle() } else { Ok(()) };
            store.flush().and(settled)
        });
        match stopped.await {
            Ok(flushed) => Ok(flushed?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Opens the store of a data directory, or makes one. The genesis file is kept only once the
/// store has accepted the chain.
fn open(
    path: &Path,
    chain: &ChainSource,
    genesis: &GenesisBlock,
    config: StoreConfig,
) -> Result<Store, NodeError> {
    let store = Store::open_with(path, &genesis.identity(&chain.spec), config)?;
    chain.keep_in(path)?;
    Ok(store)
}

/// Opens the store of an initialised data directory, for commands that work on it without a node.
pub fn open_store(path: &Path) -> Result<Store, NodeError> {
    open_existing(path, StoreConfig::default())
}

/// As [`open_store`], after the checksum of every page of the file was found to be right.
pub fn check_store(path: &Path) -> Result<Store, NodeError> {
    open_existing(path, StoreConfig { check_file: true, ..StoreConfig::default() })
}

fn open_existing(path: &Path, config: StoreConfig) -> Result<Store, NodeError> {
    let chain = ChainSource::from_datadir(path)?;
    let genesis = GenesisBlock::new(&chain.spec)?;
    open(path, &chain, &genesis, config)
}

/// Opens the chain in a data directory without a node around it, making the directory the chain's
/// home if it is new.
pub fn open_chain(path: &Path, source: &ChainSource, workers: usize) -> Result<Chain, NodeError> {
    let genesis = GenesisBlock::new(&source.spec)?;
    let store = open(path, source, &genesis, StoreConfig::default())?;
    let executor = ParallelExecutor::new(workers).map_err(NodeError::Threads)?;
    Ok(Chain::open(source.spec.clone(), &genesis, store, executor)?)
}

/// Makes a data directory the home of a chain: writes its genesis block. Gives the genesis hash;
/// a directory that is the chain's already stays as it is.
pub fn init_datadir(path: &Path, chain: &ChainSource) -> Result<B256, NodeError> {
    let chain = open_chain(path, chain, 1)?;
    chain.store().flush()?;
    Ok(chain.genesis_hash())
}

fn start_metrics(address: SocketAddr) -> Result<(), NodeError> {
    let fail = |reason: String| NodeError::Metrics { address, reason };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .map_err(|error| fail(error.to_string()))
}

//! What a node is told.

use crate::{ForkConfig, NodeError};
use heddle_chainspec::{ChainSpec, Genesis};
use heddle_rpc::RpcConfig;
use heddle_store::{DurabilityPolicy, PruneDistances, StoreConfig};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The rules and the genesis.
    pub chain: ChainSource,
    /// Where the database is; `None` keeps it in memory.
    pub datadir: Option<PathBuf>,
    /// Executor workers.
    pub workers: usize,
    /// Instant mode.
    pub automine: bool,
    /// Interval mode.
    pub block_time: Option<Duration>,
    /// What waits is executed ahead of its block where a core is idle, to know what it touches.
    pub simulate: bool,
    /// Gas limit of new blocks, if not the head's.
    pub gas_limit: Option<u64>,
    /// Who gets the fees.
    pub coinbase: alloy_primitives::Address,
    /// How long a block may be shown before it is on disk.
    pub durability: DurabilityPolicy,
    /// Memory for pages of the database, in bytes.
    pub cache_bytes: usize,
    /// How far behind the head states, receipts and transactions are kept.
    pub prune: PruneDistances,
    /// How many blocks behind the head a branch may leave the chain, and proofs can be made.
    pub reorg_depth: u64,
    /// The block of another node that a development chain in memory goes on from.
    pub fork: Option<ForkConfig>,
    /// Accounts that have this balance on every fork.
    pub funded: Vec<(alloy_primitives::Address, alloy_primitives::U256)>,
    /// A state dump in Anvil's format that the chain starts from.
    pub load_state: Option<PathBuf>,
    /// The JSON-RPC server.
    pub rpc: RpcConfig,
    /// Where Prometheus finds the metrics, if anywhere.
    pub metrics: Option<SocketAddr>,
}

impl NodeConfig {
    pub(crate) fn store_config(&self) -> StoreConfig {
        StoreConfig {
            durability: self.durability,
            cache_bytes: self.cache_bytes,
            prune: self.prune,
            reorg_depth: self.reorg_depth,
            ..StoreConfig::default()
        }
    }
}

/// One worker for each core that this process may use.
pub fn workers_by_default() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A chain's rules together with the genesis file they come from.
#[derive(Debug, Clone)]
pub struct ChainSource {
    /// The rules.
    pub spec: Arc<ChainSpec>,
    json: String,
}

impl ChainSource {
    /// Where a data directory keeps the genesis file of its chain.
    const FILE: &str = "genesis.json";

    /// The development chain.
    pub fn dev() -> Self {
        let json = include_str!("../../../genesis/dev.json").to_owned();
        Self { spec: Arc::new(ChainSpec::dev()), json }
    }

    /// The genesis file as it is, to make another one of it.
    pub(crate) fn genesis(&self) -> Result<Genesis, NodeError> {
        serde_json::from_str(&self.json).map_err(NodeError::GenesisJson)
    }

    /// A chain with this genesis.
    pub(crate) fn from_genesis(genesis: &Genesis) -> Result<Self, NodeError> {
        let json = serde_json::to_string_pretty(genesis).map_err(NodeError::GenesisJson)?;
        let spec = ChainSpec::from_genesis_json(&json).map_err(NodeError::DevChain)?;
        Ok(Self { spec: Arc::new(spec), json })
    }

    /// Reads a genesis file in geth's format.
    pub fn from_file(path: &Path) -> Result<Self, NodeError> {
        let json = std::fs::read_to_string(path)
            .map_err(|source| NodeError::GenesisFile { path: path.to_owned(), source })?;
        let spec = ChainSpec::from_genesis_json(&json)
            .map_err(|source| NodeError::Genesis { path: path.to_owned(), source })?;
        for field in spec.unrecognized_config_fields() {
            tracing::warn!(field, "the genesis file has a config field that means nothing here");
        }
        Ok(Self { spec: Arc::new(spec), json })
    }

    /// The chain that a data directory was initialised with.
    pub fn from_datadir(datadir: &Path) -> Result<Self, NodeError> {
        let path = datadir.join(Self::FILE);
        if path.exists() {
            Self::from_file(&path)
        } else {
            Err(NodeError::NotInitialised { path: datadir.to_owned() })
        }
    }

    /// Notes in the data directory which chain it holds. By way of a second file, so that a crash
    /// leaves either the old or the new one.
    pub(crate) fn keep_in(&self, datadir: &Path) -> Result<(), NodeError> {
        let path = datadir.join(Self::FILE);
        let unfinished = datadir.join("genesis.json.unfinished");
        std::fs::write(&unfinished, &self.json)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .map_err(|source| NodeError::GenesisFile { path, source })
    }
}

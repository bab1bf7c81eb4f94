//! Chains of our own for the tests, served by a real node on a free loopback port.

use heddle_builder::{Miner, MinerConfig};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_node::dev_accounts;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_rpc::{Apis, RpcConfig, RpcServer, RpcServerHandle};
use heddle_store::Store;
use jsonrpsee::{
    core::{client::ClientT, params::ArrayParams},
    http_client::HttpClient,
};
use serde_json::{Value, json};
use std::{
    env,
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

/// A chain in memory and the node that serves it.
pub(crate) struct ServedChain {
    pub(crate) chain: Arc<Chain>,
    pub(crate) url: String,
    client: HttpClient,
    server: RpcServerHandle,
}

impl ServedChain {
    pub(crate) async fn start(spec: ChainSpec, import: Option<PathBuf>) -> Self {
        let genesis = GenesisBlock::new(&spec).expect("it has an allocation");
        let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
        let executor = ParallelExecutor::new(2).expect("threads can be started");
        let chain = Chain::open(Arc::new(spec), &genesis, store, executor).expect("it is empty");
        if let Some(path) = import {
            let file = File::open(path).expect("the fixture is complete");
            chain.import_chain_file(file, |_| {}).expect("all blocks are valid");
        }
        let chain = Arc::new(chain);
        let config = MinerConfig {
            automine: false,
            interval: None,
            coinbase: alloy_primitives::Address::repeat_byte(0xfe),
            gas_limit: None,
            extra_data: alloy_primitives::Bytes::new(),
            pool_limits: PoolLimits::default(),
            funded: Vec::new(),
            simulate: false,
        };
        let miner = Miner::start(chain.clone(), config).expect("threads can be started");
        let config = RpcConfig {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            apis: Apis::all(),
            dev: true,
            signers: dev_accounts().into_iter().map(|account| account.signer).collect(),
            ..RpcConfig::default()
        };
        let server = RpcServer::start(config, miner).await.expect("there is a free port");
        let url = format!("http://{}", server.local_addr());
        let client = HttpClient::builder().build(&url).expect("it is an address");
        Self { chain, url, client, server }
    }

    pub(crate) async fn call(&self, method: &str, params: &[Value]) -> Value {
        let mut given = ArrayParams::new();
        for param in params {
            given.insert(param).expect("it is JSON");
        }
        match self.client.request(method, given).await {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Sends a transaction of a development account.
    pub(crate) async fn send(&self, account: usize, mut transaction: Value) {
        transaction["from"] = json!(dev_accounts()[account].address);
        transaction["gas"] = json!("0x100000");
        self.call("eth_sendTransaction", &[transaction]).await;
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// The genesis file and the chain file of the execution-apis chain, which goes through every fork
/// from Frontier to BPO2; says aloud that a test is skipped where they are absent.
pub(crate) fn every_fork() -> Option<(ChainSpec, PathBuf)> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let fixtures = env::var_os("HEDDLE_FIXTURES").map_or(default, PathBuf::from);
    let folder = fixtures.join("rpc-compat");
    if !folder.is_dir() {
        // Past the capture of the test runner: a skipped test must not look like a passed one.
        let _ = writeln!(
            io::stderr(),
            "skipped: {} is not there (set HEDDLE_FIXTURES)",
            folder.display()
        );
        return None;
    }
    let json = std::fs::read_to_string(folder.join("genesis.json")).expect("it is complete");
    let spec = ChainSpec::from_genesis_json(&json).expect("the genesis file is valid");
    Some((spec, folder.join("chain.rlp")))
}

//! A node with a development chain in memory, and clients as plain as can be.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use heddle_builder::{Miner, MinerConfig};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_rpc::{RpcConfig, RpcServer, RpcServerHandle};
use heddle_store::Store;
use serde_json::{Value, json};

/// The first two development accounts.
pub(crate) const ALICE: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
pub(crate) const BOB: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
/// Deploys a contract that adds one to slot 0 whenever it is called and gives back what it was.
pub(crate) const DEPLOY_COUNTER: &str =
    "0x6011600c60003960116000f35f548060010160005560005260206000f3";
/// Keys that everybody knows.
const KEYS: [&str; 2] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];
/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A miner on a development chain, with a block for every transaction.
pub(crate) fn miner() -> Arc<Miner> {
    let spec = Arc::new(ChainSpec::dev().with_code_senders());
    let genesis = GenesisBlock::new(&spec).unwrap();
    let store = Store::in_memory(&genesis.identity(&spec)).unwrap();
    let chain = Chain::open(spec, &genesis, store, ParallelExecutor::new(2).unwrap()).unwrap();
    let config = MinerConfig {
        automine: true,
        interval: None,
        coinbase: Address::with_last_byte(0xfe),
        gas_limit: None,
        extra_data: Default::default(),
        pool_limits: PoolLimits::default(),
        funded: Vec::new(),
        simulate: false,
    };
    Miner::start(Arc::new(chain), config).unwrap()
}

pub(crate) fn signers() -> Vec<PrivateKeySigner> {
    KEYS.iter().map(|key| key.parse().unwrap()).collect()
}

/// Everything that a development node serves, on a free port.
pub(crate) fn dev_config() -> RpcConfig {
    RpcConfig { address: SocketAddr::from(([127, 0, 0, 1], 0)), ..RpcConfig::dev(signers()) }
}

pub(crate) async fn start(config: RpcConfig) -> RpcServerHandle {
    RpcServer::start(config, miner()).await.unwrap()
}

/// An HTTP client with one connection that stays open.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream: BufReader::new(stream) }
    }

    /// Sends a body; the status and the body of the answer.
    pub(crate) fn post(&mut self, host: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, body))
    }

    /// Calls a method; the whole answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let (_, body) = self.post("localhost", &request.to_string()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Calls a method that must succeed.
    pub(crate) fn result(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method}{params}: {answer}");
        answer["result"].clone()
    }
}

/// The receipt of a transaction, once it is mined.
pub(crate) fn receipt(client: &mut Http, hash: &Value) -> Value {
    loop {
        let receipt = client.result("eth_getTransactionReceipt", &json!([hash]));
        if receipt.is_object() {
            return receipt;
        }
        thread::yield_now();
    }
}

/// How much memory this process takes, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

//! The request-response pairs of the execution-apis test suite, sent to a node with its test chain.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{Address, Bytes};
use heddle_builder::{Miner, MinerConfig};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_pool::PoolLimits;
use heddle_rpc::{Apis, RpcConfig, RpcServer};
use heddle_store::Store;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The folder of public test data, `None` where this machine has none.
#[expect(clippy::print_stderr, reason = "a skipped test says so aloud")]
fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("HEDDLE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    let folder = folder.join("rpc-compat");
    if !folder.is_dir() {
        eprintln!("skipped: fixtures not found in {}", folder.display());
        return None;
    }
    Some(folder)
}

fn test_chain(folder: &Path) -> Arc<Miner> {
    let json = fs::read_to_string(folder.join("genesis.json")).unwrap();
    let spec = Arc::new(ChainSpec::from_genesis_json(&json).unwrap());
    let genesis = GenesisBlock::new(&spec).unwrap();
    let store = Store::in_memory(&genesis.identity(&spec)).unwrap();
    let chain = Chain::open(spec, &genesis, store, ParallelExecutor::new(2).unwrap()).unwrap();
    chain.import_chain_file(File::open(folder.join("chain.rlp")).unwrap(), |_| {}).unwrap();
    let config = MinerConfig {
        automine: false,
        interval: None,
        coinbase: Address::ZERO,
        gas_limit: None,
        extra_data: Bytes::new(),
        pool_limits: PoolLimits::default(),
        funded: Vec::new(),
        simulate: false,
    };
    Miner::start(Arc::new(chain), config).unwrap()
}

async fn post(address: SocketAddr, body: &str) -> Value {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The names in an answer, where the values are up to the node. A field that is null may as well not be there.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(name, value)| (name.clone(), shape(value))).collect()
        }
        Value::Array(items) => items.first().map_or(Value::Null, shape),
        Value::Null => Value::Null,
        _ => Value::Bool(true),
    }
}

/// Why the answer is not what the suite expects.
fn difference(answer: &Value, expected: &Value, is_exact: bool) -> Option<String> {
    let is_same = match (&expected["error"], is_exact) {
        (Value::Null, true) => answer.get("result") == expected.get("result"),
        (Value::Null, false) => {
            answer["error"].is_null() && shape(&answer["result"]) == shape(&expected["result"])
        }
        (error, _) => answer["error"] == *error,
    };
    (!is_same).then(|| format!("expected {expected}\n     got {answer}"))
}

fn io_files(folder: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    };
    let folders = entries(folder).into_iter().filter(|path| path.is_dir());
    folders.flat_map(|folder| entries(&folder)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_execution_apis_suite() {
    let Some(folder) = fixtures() else { return };
    let miner = test_chain(&folder);
    let config = RpcConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        apis: Apis::all(),
        ..RpcConfig::default()
    };
    let server = RpcServer::start(config, miner).await.unwrap();
    let mut differences = Vec::new();
    let mut checked = 0;
    for path in io_files(&folder) {
        let text = fs::read_to_string(&path).unwrap();
        let is_exact = !text.contains("speconly");
        let mut answer = None;
        for line in text.lines() {
            if let Some(request) = line.strip_prefix(">> ") {
                answer = Some(post(server.local_addr(), request).await);
            } else if let (Some(expected), Some(answer)) = (line.strip_prefix("<< "), &answer) {
                checked += 1;
                let expected = serde_json::from_str(expected).unwrap();
                if let Some(difference) = difference(answer, &expected, is_exact) {
                    let name = path.strip_prefix(&folder).unwrap().display();
                    differences.push(format!("{name}: {difference}"));
                }
            }
        }
    }
    server.stop().await;
    assert!(checked > 150, "only {checked} pairs were found");
    assert!(
        differences.is_empty(),
        "{} of {checked}:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

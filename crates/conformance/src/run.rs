//! Running tests.

use crate::{
    BlockchainTest, Report, SourceError, Suite, TestFile, TestResult, Verdict, chain_config,
    format::TestAccount, unsupported_fork,
};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_rlp::Decodable;
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::{ChainSpec, Genesis, GenesisAccount};
use heddle_parallel::ParallelExecutor;
use heddle_store::Store;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
};

/// Files read ahead of the threads that run them.
const FILES_AHEAD_MAX: usize = 16;

impl Suite {
    /// Runs the files that `selected` chooses, several at a time, every block on an executor with
    /// so many workers.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn run(
        &self,
        workers: usize,
        mut selected: impl FnMut(&TestFile) -> bool,
    ) -> Result<Report, SourceError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (files, waiting) = mpsc::sync_channel::<TestFile>(FILES_AHEAD_MAX);
        let waiting = Mutex::new(waiting);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().recv();
                        let Ok(file) = next else { break };
                        let done = run_file(&file, workers);
                        results.lock().extend(done);
                    }
                });
            }
            let read = self.for_each(&mut |file| {
                if selected(&file) {
                    files.send(file).expect("the receiver lives as long as this scope");
                }
            });
            // Tells the threads that there is no more.
            drop(files);
            read
        })?;
        Ok(Report::new(results.into_inner()))
    }
}

/// Runs all tests of a file.
pub fn run_file(file: &TestFile, workers: usize) -> Vec<TestResult> {
    let result = |name: String, verdict| TestResult { file: file.path.clone(), name, verdict };
    let whole = |verdict| vec![result(String::new(), verdict)];
    let json: Value = match serde_json::from_slice(&file.bytes) {
        Ok(json) => json,
        Err(error) => return whole(Verdict::Failed(format!("not JSON: {error}"))),
    };
    let tests = match json {
        Value::Object(tests) if tests.values().any(|test| kind(test) != Kind::None) => tests,
        _ => return whole(Verdict::Skipped("not a file of tests".to_owned())),
    };
    let run = |test: Value| match kind(&test) {
        Kind::Blockchain => match BlockchainTest::deserialize(test) {
            Ok(test) => judge(&test, workers),
            Err(error) => Verdict::Failed(format!("not a blockchain test: {error}")),
        },
        Kind::Other(kind) => Verdict::Skipped(kind.to_owned()),
        Kind::None => Verdict::Skipped("not a test".to_owned()),
    };
    tests.into_iter().map(|(name, test)| result(name, run(test))).collect()
}

/// What kind of test JSON is, by the fields that no other kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blockchain,
    Other(&'static str),
    None,
}

fn kind(test: &Value) -> Kind {
    let has = |field: &str| test.get(field).is_some();
    if has("genesisRLP") || (has("blocks") && has("network")) {
        Kind::Blockchain
    } else if has("engineNewPayloads") || has("syncPayload") {
        Kind::Other("an engine test")
    } else if has("transaction") && (has("post") || has("expect")) {
        Kind::Other("a state test")
    } else if has("txbytes") {
        Kind::Other("a transaction test")
    } else {
        Kind::None
    }
}

fn judge(test: &BlockchainTest, workers: usize) -> Verdict {
    if let Some(reason) = excluded(test) {
        return Verdict::Skipped(reason);
    }
    // A panic is a failure of one test, not of the run.
    match catch_unwind(AssertUnwindSafe(|| run_test(test, workers))) {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(reason)) => Verdict::Failed(reason),
        Err(_) => Verdict::Failed("panicked".to_owned()),
    }
}

/// Why a test is not run: it is about a fork to come, or a block is invalid for nothing but its
/// proof-of-work seal.
fn excluded(test: &BlockchainTest) -> Option<String> {
    if let Some(fork) = unsupported_fork(&test.network) {
        return Some(format!("the fork {fork} is not supported"));
    }
    let sealed = test.seal_engine.as_deref().is_some_and(|engine| engine != "NoProof");
    let for_its_seal = |exception: &str| {
        let exception = exception.to_ascii_lowercase();
        sealed && ["pow", "seal", "mixhash", "nonce"].iter().any(|word| exception.contains(word))
    };
    let exceptions = test.blocks.iter().filter_map(|block| block.expect_exception.as_deref());
    exceptions
        .filter(|exception| for_its_seal(exception))
        .map(|exception| format!("proof-of-work seals are not verified ({exception})"))
        .next()
}

/// Runs one test on an executor with so many workers.
///
/// # Errors
/// With what is not as the test says.
pub fn run_test(test: &BlockchainTest, workers: usize) -> Result<(), String> {
    let chain = open(test, workers)?;
    for (index, block) in test.blocks.iter().enumerate() {
        let before = chain.head().hash();
        let bytes = match (block.bytes(), &block.expect_exception) {
            (Ok(bytes), _) => bytes,
            // What is no bytes cannot be given to a node at all.
            (Err(_), Some(_)) => continue,
            (Err(error), None) => return Err(format!("block {index}: {error}")),
        };
        match (chain.import_rlp(&bytes), &block.expect_exception) {
            (Ok(_), None) => {}
            (Ok(_), Some(exception)) => {
                return Err(format!("block {index} was imported, but is invalid: {exception}"));
            }
            (Err(error), None) => return Err(format!("block {index}: {error}")),
            (Err(error), Some(exception)) => {
                let unknown_parent = exception.to_ascii_uppercase().contains("PARENT");
                if !error.is_invalid_block() && !unknown_parent {
                    return Err(format!("block {index} was not judged: {error}"));
                }
                let stored = chain.store().head().map(|head| head.hash);
                if chain.head().hash() != before || stored != Some(before) {
                    return Err(format!("block {index} was refused and changed the head"));
                }
            }
        }
    }
    let head = chain.head();
    if head.hash() != test.last_block_hash {
        let (number, hash) = (head.number(), head.hash());
        return Err(format!(
            "the head is block {number} ({hash}), but must be {}",
            test.last_block_hash
        ));
    }
    if let Some(accounts) = &test.post_state {
        check_accounts(&chain, accounts)?;
    }
    let verified = chain.store().verify_state().map_err(|error| error.to_string())?;
    let expected = match (&test.post_state, test.post_state_hash) {
        (Some(accounts), _) => genesis_of(test, accounts)?.1.header.state_root,
        (None, Some(root)) => root,
        (None, None) => return Err("the test has no post-state".to_owned()),
    };
    if verified.state_root != expected {
        return Err(format!("the state root is {}, but must be {expected}", verified.state_root));
    }
    Ok(())
}

fn open(test: &BlockchainTest, workers: usize) -> Result<Chain, String> {
    let (spec, mut genesis) = genesis_of(test, &test.pre)?;
    let header = genesis_header(test)?;
    if header.state_root != genesis.header.state_root {
        return Err(format!(
            "the genesis state has root {}, but its header says {}",
            genesis.header.state_root, header.state_root
        ));
    }
    genesis.hash = header.hash_slow();
    genesis.header = header;
    let store = Store::in_memory(&genesis.identity(&spec)).map_err(|error| error.to_string())?;
    let executor = ParallelExecutor::new(workers).map_err(|error| error.to_string())?;
    let executor = executor.with_all_workers_always().with_all_code_translated();
    Chain::open(Arc::new(spec), &genesis, store, executor).map_err(|error| error.to_string())
}

fn genesis_header(test: &BlockchainTest) -> Result<Header, String> {
    let mut payload = alloy_rlp::Header::decode_bytes(&mut test.genesis_rlp.as_ref(), true)
        .map_err(|error| format!("genesis: {error}"))?;
    Header::decode(&mut payload).map_err(|error| format!("genesis: {error}"))
}

/// The rules, and a genesis block with these accounts.
fn genesis_of(
    test: &BlockchainTest,
    accounts: &BTreeMap<Address, TestAccount>,
) -> Result<(ChainSpec, GenesisBlock), String> {
    let given = test.config.clone().unwrap_or_default();
    let config = chain_config(&test.network, &given).map_err(|error| error.to_string())?;
    let header = genesis_header(test)?;
    let account = |account: &TestAccount| GenesisAccount {
        nonce: Some(account.nonce.to()),
        balance: account.balance,
        code: Some(account.code.clone()),
        storage: Some(
            account
                .storage
                .iter()
                .map(|(slot, value)| (B256::from(*slot), B256::from(*value)))
                .collect(),
        ),
        ..Default::default()
    };
    let genesis = Genesis {
        config,
        timestamp: header.timestamp,
        gas_limit: header.gas_limit,
        difficulty: header.difficulty,
        extra_data: header.extra_data,
        mix_hash: header.mix_hash,
        coinbase: header.beneficiary,
        alloc: accounts.iter().map(|(address, it)| (*address, account(it))).collect(),
        ..Default::default()
    };
    let spec = ChainSpec::from_genesis(genesis).map_err(|error| error.to_string())?;
    let block = GenesisBlock::new(&spec).map_err(|error| error.to_string())?;
    Ok((spec, block))
}

/// Compares account by account, so that a failure says where.
fn check_accounts(chain: &Chain, expected: &BTreeMap<Address, TestAccount>) -> Result<(), String> {
    let state = chain.latest_state();
    for (address, expected) in expected {
        let actual = state.account(*address).map_err(|error| error.to_string())?;
        let actual = actual.ok_or_else(|| format!("account {address} does not exist"))?;
        let nonce: u64 = expected.nonce.to();
        if actual.nonce != nonce {
            return Err(format!("{address}: nonce is {}, but must be {nonce}", actual.nonce));
        }
        if actual.balance != expected.balance {
            let (is, must) = (actual.balance, expected.balance);
            return Err(format!("{address}: balance is {is}, but must be {must}"));
        }
        if actual.code_hash != keccak256(&expected.code) {
            return Err(format!("{address}: the code is another"));
        }
        for (slot, value) in &expected.storage {
            let is: U256 = state.storage_at(*address, *slot).map_err(|error| error.to_string())?;
            if is != *value {
                return Err(format!(
                    "{address}: slot {slot:#x} is {is:#x}, but must be {value:#x}"
                ));
            }
        }
    }
    Ok(())
}

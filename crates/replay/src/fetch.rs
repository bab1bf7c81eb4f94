//! Bundles of any node's blocks, by JSON-RPC.
//!
//! `prestateTracer` gives what each transaction touches. What the block itself touches (system
//! calls, withdrawals, the beneficiary), which hashes `BLOCKHASH` asks for, and what a tracer
//! leaves out because it is empty, no tracer says. So the block is executed here on what there is:
//! whatever it reads beyond that is asked for by `eth_getBalance`, `eth_getStorageAt` and so on,
//! until it reads nothing new. That gives exactly the hashes that are read, mostly none, where
//! fetching all that may be read would be 256 headers a block and tracing every step of it far
//! more.

use crate::{
    Bundle, BundleFile, FlatState, Mismatch, Prestate, PrestateAccount, ReplayError, bundle_path,
    capture::{Reads, capture},
    compare::check_header,
    export::rules_json,
    input::{block_input, find_rules, recover_senders},
    merge::{PrestateMerge, StateDiff},
};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use futures_util::StreamExt;
use heddle_chainspec::{ChainSpec, EthereumHardforks};
use heddle_evm::StateError;
use heddle_remote::{Call, NodeClient, Patience, RemoteError};
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

/// How often a block is executed to learn what it still reads. Each round adds what the one before
/// met; two are usual, and more need addresses or slots computed from values that were missing.
const ROUNDS_MAX: usize = 16;

/// Blocks that are fetched at the same time: enough to keep a node busy while a block is executed
/// here, and few enough not to be a burden.
const BLOCKS_AT_ONCE: usize = 4;

/// Precompiled contracts before Byzantium, at addresses from 1 on.
const FRONTIER_PRECOMPILES: u8 = 4;

/// How long a node may trace one block; its own default of 5 seconds is short for full ones.
const TRACE_TIME: &str = "240s";

/// Gets blocks and what they read from a node.
#[derive(Debug)]
pub struct BundleFetcher {
    client: NodeClient,
    chain_id: u64,
    spec: Arc<ChainSpec>,
}

/// A bundle as fetched.
#[derive(Debug)]
pub struct FetchedBundle {
    /// To be written.
    pub file: BundleFile,
    /// The same, to be replayed.
    pub bundle: Bundle,
    /// Why the sequential reference does not come to what the header says, if so.
    pub mismatch: Option<Mismatch>,
}

/// A bundle that is on disk.
#[derive(Debug, Clone)]
pub struct SavedBundle {
    /// The block.
    pub number: u64,
    /// Its transactions, if it was fetched.
    pub transactions: usize,
    /// Whether it was fetched, rather than there before.
    pub fetched: bool,
    /// Why the sequential reference does not come to what the header says, if so.
    pub mismatch: Option<Mismatch>,
}

/// One transaction's entry in the answer of `debug_traceBlockByNumber`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Traced<T> {
    tx_hash: Option<B256>,
    result: Option<T>,
    error: Option<String>,
}

impl BundleFetcher {
    /// Asks the node for its chain. `given` are the rules of a chain that is not built in.
    ///
    /// # Errors
    /// If the node does not answer, or nobody knows the rules of its chain.
    pub async fn connect(url: &str, given: Option<ChainSpec>) -> Result<Self, ReplayError> {
        let address = |error: RemoteError| ReplayError::Address { reason: error.to_string() };
        let client = NodeClient::new(url, Patience::TRACES).map_err(address)?;
        let chain_id: U64 = client.call(Call::new("eth_chainId", [])).await?;
        let chain_id = chain_id.to::<u64>();
        let known = given.into_iter().chain([ChainSpec::mainnet(), ChainSpec::dev()]);
        let spec = known
            .into_iter()
            .find(|spec| spec.chain_id() == chain_id)
            .ok_or_else(|| ReplayError::UnknownChain { path: client.name().into(), chain_id })?;
        Ok(Self { client, chain_id, spec: Arc::new(spec) })
    }

    /// The chain of the node (EIP-155).
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Number of the node's newest block.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn newest(&self) -> Result<u64, ReplayError> {
        let number: U64 = self.client.call(Call::new("eth_blockNumber", [])).await?;
        Ok(number.to())
    }

    /// The bundle of a block.
    ///
    /// # Errors
    /// With what the node lacks. A block that does not verify is none: what there is of it is
    /// given, with the reason.
    pub async fn fetch(&self, number: u64) -> Result<FetchedBundle, ReplayError> {
        let fetched = self.fetch_block(number).await;
        fetched.map_err(|source| match source {
            ReplayError::Block { .. } => source,
            source => ReplayError::Fetch { number, source: Box::new(source) },
        })
    }

    /// Fetches several blocks at a time, and writes each into `directory` as soon as it is whole.
    /// Blocks that are there already are passed over, so that what was interrupted is just started
    /// again. Tells `progress` of each, in order.
    ///
    /// # Errors
    /// At the first block that cannot be fetched or written; those before it stay.
    pub async fn save(
        &self,
        numbers: RangeInclusive<u64>,
        directory: &Path,
        mut progress: impl FnMut(&SavedBundle),
    ) -> Result<(), ReplayError> {
        fs::create_dir_all(directory)
            .map_err(|source| ReplayError::Write { path: directory.to_owned(), source })?;
        let blocks = futures_util::stream::iter(numbers);
        let mut blocks = pin!(
            blocks
                .map(|number| self.save_block(number, bundle_path(directory, number)))
                .buffered(BLOCKS_AT_ONCE)
        );
        while let Some(saved) = blocks.next().await {
            progress(&saved?);
        }
        Ok(())
    }

    async fn save_block(&self, number: u64, path: PathBuf) -> Result<SavedBundle, ReplayError> {
        let chain_id = self.chain_id;
        let there = path.clone();
        if blocking(move || is_fetched(chain_id, number, &there)).await {
            return Ok(SavedBundle { number, transactions: 0, fetched: false, mismatch: None });
        }
        let FetchedBundle { file, bundle, mismatch } = self.fetch(number).await?;
        blocking(move || file.write(&path)).await?;
        let transactions = bundle.transactions.len();
        Ok(SavedBundle { number, transactions, fetched: true, mismatch })
    }

    async fn fetch_block(&self, number: u64) -> Result<FetchedBundle, ReplayError> {
        if number == 0 {
            let reason = "there is no state before the genesis block".to_owned();
            return Err(ReplayError::Block { number, reason });
        }
        let at = hex(number);
        let calls = [
            Call::new("eth_getBlockByNumber", [json!(at), json!(true)]),
            Call::new("eth_getBlockReceipts", [json!(at)]),
        ];
        let mut answers = self.client.ask(&calls).await?.into_iter();
        let mut next = || answers.next().expect("ask gives an answer to each call");
        let block: Value = self.client.read(&calls[0], next())?;
        if block.is_null() {
            let (node, newest) = (self.client.name().to_owned(), self.newest().await?);
            return Err(ReplayError::NoBlock { node, number, newest });
        }
        // Only for naming the first transaction that differs: not every node has it.
        let receipts = self.client.read::<Vec<Value>>(&calls[1], next()).ok();
        let uncles = self.uncles(&at, &block).await?;
        let prestate = self.trace(&at, &block).await?;
        let file = BundleFile {
            chain_id: self.chain_id,
            config: rules_json(&self.spec)
                .map_err(|error| ReplayError::Block { number, reason: error.to_string() })?,
            block,
            uncles,
            prestate,
            block_hashes: BTreeMap::new(),
            receipts: receipts.map(|receipts| receipts.iter().map(shown_of_receipt).collect()),
        };
        self.complete(number, file).await
    }

    async fn uncles(&self, at: &str, block: &Value) -> Result<Vec<Value>, ReplayError> {
        let count = block["uncles"].as_array().map_or(0, Vec::len);
        let calls: Vec<Call> = (0..count)
            .map(|index| {
                let params = [json!(at), json!(hex(index as u64))];
                Call::new("eth_getUncleByBlockNumberAndIndex", params)
            })
            .collect();
        Ok(self.client.call_all(&calls).await?)
    }

    /// The merged pre-state of the block's transactions.
    async fn trace(&self, at: &str, block: &Value) -> Result<Prestate, ReplayError> {
        let hashes: Vec<&Value> = match block["transactions"].as_array() {
            Some(transactions) => transactions.iter().map(|tx| &tx["hash"]).collect(),
            None => Vec::new(),
        };
        if hashes.is_empty() {
            return Ok(Prestate::default());
        }
        let tracer = |config: Value| {
            let options = json!({
                "tracer": "prestateTracer", "tracerConfig": config, "timeout": TRACE_TIME
            });
            Call::new("debug_traceBlockByNumber", [json!(at), options])
        };
        // Not in one batch: both are slow, and large enough to break a limit together.
        let before: Vec<Prestate> =
            self.traces(&tracer(json!({ "diffMode": false })), &hashes).await?;
        let mut diffs: Vec<Option<StateDiff>> = Vec::new();
        match self.traces(&tracer(json!({ "diffMode": true })), &hashes).await {
            Ok(given) => diffs.extend(given.into_iter().map(Some)),
            // Some nodes have the tracer without this mode. Most blocks verify all the same.
            Err(error) => {
                tracing::warn!(%error, "no diffs: accounts made in this block may look older");
                diffs.resize_with(before.len(), || None);
            }
        }
        let mut merge = PrestateMerge::default();
        for (before, diff) in before.into_iter().zip(diffs) {
            merge.add(before, diff);
        }
        let mut prestate = merge.into_prestate();
        if self.chain_id == 1 {
            // They exist since somebody first called them, in 2015; calls of what does not exist
            // cost more before Spurious Dragon.
            for address in (1..=FRONTIER_PRECOMPILES).map(Address::with_last_byte) {
                if prestate.knows(address) && prestate.account(address).is_none() {
                    prestate.insert(address, Some(PrestateAccount::default()));
                }
            }
        }
        Ok(prestate)
    }

    async fn traces<T: serde::de::DeserializeOwned>(
        &self,
        call: &Call,
        hashes: &[&Value],
    ) -> Result<Vec<T>, ReplayError> {
        let wrong = |reason: String| {
            let (node, method) = (self.client.name().to_owned(), call.method);
            ReplayError::Node(RemoteError::Answer { node, method, reason })
        };
        let traced: Vec<Traced<T>> = self.client.call(call.clone()).await?;
        if traced.len() != hashes.len() {
            let (traces, count) = (traced.len(), hashes.len());
            return Err(wrong(format!("{traces} traces of {count} transactions")));
        }
        let mut results = Vec::with_capacity(traced.len());
        for (index, (traced, hash)) in traced.into_iter().zip(hashes).enumerate() {
            let other = |traced: &B256| hash.as_str() != Some(traced.to_string().as_str());
            if let Some(traced) = traced.tx_hash.filter(other) {
                return Err(wrong(format!(
                    "transaction {traced} in place {index}, which is {hash}: the chain was \
                     reorganised meanwhile"
                )));
            }
            results.push(traced.result.ok_or_else(|| {
                let reason = traced.error.unwrap_or_else(|| "no result".to_owned());
                wrong(format!("transaction {index}: {reason}"))
            })?);
        }
        Ok(results)
    }

    /// Adds what execution reads and the traces do not have.
    async fn complete(
        &self,
        number: u64,
        mut file: BundleFile,
    ) -> Result<FetchedBundle, ReplayError> {
        let mut bundle = file.to_bundle(self.client.name())?;
        let known = std::iter::once(&*self.spec);
        let spec = find_rules(known, self.chain_id, &bundle.header).map(|spec| spec.into_owned());
        let spec = Arc::new(spec.expect("the rules of this chain were found on connecting"));
        for _ in 0..ROUNDS_MAX {
            let rules = spec.clone();
            let round = blocking(move || Round::run(bundle, &rules)).await;
            bundle = round.bundle;
            if round.missing.is_nothing() {
                return Ok(FetchedBundle { file, bundle, mismatch: round.mismatch });
            }
            self.add(number - 1, &round.missing, &mut file).await?;
            let hashes = file.block_hashes.iter().map(|(number, hash)| (*number, *hash));
            bundle.state = FlatState::new(&bundle.header, &file.prestate, hashes).map_err(
                |(address, reason)| RemoteError::Answer {
                    node: self.client.name().to_owned(),
                    method: "eth_getCode",
                    reason: format!("{address}: {reason}"),
                },
            )?;
        }
        let reason = format!("it still reads new state after {ROUNDS_MAX} runs");
        Err(ReplayError::Block { number, reason })
    }

    /// Asks for what is missing of the state after block `parent`.
    async fn add(
        &self,
        parent: u64,
        missing: &Missing,
        file: &mut BundleFile,
    ) -> Result<(), ReplayError> {
        let at = json!(hex(parent));
        let of = |method, address: &Address| Call::new(method, [json!(address), at.clone()]);
        let accounts = &missing.accounts;
        let calls = |method| accounts.iter().map(|address| of(method, address)).collect::<Vec<_>>();
        let balances: Vec<U256> = self.client.call_all(&calls("eth_getBalance")).await?;
        let nonces: Vec<U64> = self.client.call_all(&calls("eth_getTransactionCount")).await?;
        let codes: Vec<Bytes> = self.client.call_all(&calls("eth_getCode")).await?;
        for (((address, balance), nonce), code) in
            accounts.iter().zip(balances).zip(nonces).zip(codes)
        {
            // Before Spurious Dragon an empty account may exist; this does not tell.
            let account = PrestateAccount::new(balance, nonce.to(), code);
            file.prestate.insert(*address, (!account.is_empty()).then_some(account));
        }
        let calls: Vec<Call> = (missing.slots.iter())
            .map(|(address, slot)| {
                let slot = json!(B256::from(*slot));
                Call::new("eth_getStorageAt", [json!(address), slot, at.clone()])
            })
            .collect();
        let values: Vec<U256> = self.client.call_all(&calls).await?;
        for ((address, slot), value) in missing.slots.iter().zip(values) {
            file.prestate.insert_slot(*address, *slot, value);
        }
        let calls: Vec<Call> = (missing.block_hashes.iter())
            .map(|number| Call::new("eth_getBlockByNumber", [json!(hex(*number)), json!(false)]))
            .collect();
        let blocks: Vec<HashOnly> = self.client.call_all(&calls).await?;
        let hashes = blocks.into_iter().map(|block| block.hash);
        file.block_hashes.extend(missing.block_hashes.iter().copied().zip(hashes));
        Ok(())
    }
}

/// Whether the file is a whole bundle of this block already.
fn is_fetched(chain_id: u64, number: u64, path: &Path) -> bool {
    Bundle::read(path).is_ok_and(|bundle| {
        bundle.chain_id == chain_id
            && bundle.header.number == number
            && bundle.hash == Some(bundle.header.hash_slow())
    })
}

/// Runs what takes its time away from the threads that wait for answers.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(run).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[derive(Deserialize)]
struct HashOnly {
    hash: B256,
}

/// What of a receipt a bundle keeps.
fn shown_of_receipt(receipt: &Value) -> Value {
    let mut shown = json!({});
    for field in ["cumulativeGasUsed", "status", "logsBloom"] {
        if let Some(value) = receipt.get(field).filter(|value| !value.is_null()) {
            shown[field] = value.clone();
        }
    }
    shown
}

/// One execution of a block on what is there of its state.
struct Round {
    bundle: Bundle,
    missing: Missing,
    mismatch: Option<Mismatch>,
}

/// What a block reads and nobody has said yet.
#[derive(Debug, Default)]
struct Missing {
    accounts: Vec<Address>,
    slots: Vec<(Address, U256)>,
    block_hashes: Vec<u64>,
}

impl Missing {
    fn new(reads: &Reads, state: &FlatState) -> Self {
        Self {
            accounts: (reads.accounts.keys())
                .filter(|address| !state.knows_account(**address))
                .copied()
                .collect(),
            slots: (reads.slots.keys())
                .filter(|(address, slot)| !state.knows_slot(*address, *slot))
                .copied()
                .collect(),
            block_hashes: (reads.block_hashes.keys())
                .filter(|number| !state.knows_block_hash(**number))
                .copied()
                .collect(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.accounts.is_empty() && self.slots.is_empty() && self.block_hashes.is_empty()
    }
}

impl Round {
    fn run(bundle: Bundle, spec: &ChainSpec) -> Self {
        let transactions = match recover_senders(&bundle, spec) {
            Ok(transactions) => transactions,
            Err(mismatch) => {
                return Self { bundle, missing: Missing::default(), mismatch: Some(*mismatch) };
            }
        };
        let input = block_input(&bundle, spec, &transactions);
        let (reads, output) = capture(spec, &Incomplete(&bundle.state), &input);
        let missing = Missing::new(&reads, &bundle.state);
        let byzantium = spec.is_byzantium_active_at_block(bundle.header.number);
        let mismatch = match output {
            Ok(output) => check_header(&bundle, &output, byzantium).1,
            Err(error) => Some(Mismatch::execution(&bundle, "a valid block", &error)),
        };
        Self { bundle, missing, mismatch }
    }
}

/// A state whose block hashes may be missing as well: they read as zero for now.
struct Incomplete<'a>(&'a FlatState);

impl DatabaseRef for Incomplete<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.0.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.0.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.0.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        if self.0.knows_block_hash(number) { self.0.block_hash_ref(number) } else { Ok(B256::ZERO) }
    }
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

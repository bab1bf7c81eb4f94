//! Every method with structured random parameters: right types with odd values, wrong types, too few, too many, deep
//! nesting, batches. Nothing may panic, every answer is well-formed JSON-RPC, and afterwards the node takes the same
//! memory and answers in the same time.
//!
//! `HEDDLE_FUZZ_REQUESTS` (200,000 by default) and `HEDDLE_FUZZ_SEED` choose another run.

mod support;

use std::{
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use heddle_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};
use support::{ALICE, BOB, Http, dev_config, resident_bytes, start};

// As the node: the memory that is compared is that of the allocator it runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: u64 = 200_000;
/// Clients at once.
const CLIENTS: u64 = 3;

/// Methods that put something on the chain or take it off, or into the pool: with them memory would grow because the
/// chain does. They are fuzzed first, on a chain of their own.
const CHANGING: [&str; 11] = [
    "anvil_",
    "hardhat_",
    "evm_",
    "testing_",
    "eth_send",
    "debug_setHead",
    "eth_newFilter",
    "eth_newBlockFilter",
    "eth_newPendingTransactionFilter",
    "eth_subscribe",
    "eth_unsubscribe",
];

fn is_changing(method: &str) -> bool {
    CHANGING.iter().any(|prefix| method.starts_with(prefix))
}

/// SplitMix64 (Steele, Lea, Flood 2014): every seed gives another run, and the same one again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn hex(&mut self, bytes: usize) -> String {
        let digits = (0..bytes).map(|_| format!("{:02x}", self.next() as u8)).collect::<String>();
        format!("0x{digits}")
    }
}

/// What the chain has that parameters can name.
struct Known {
    hashes: Vec<String>,
    addresses: Vec<String>,
    raw: Vec<String>,
}

/// What kind of parameter a method takes somewhere.
#[derive(Clone, Copy)]
enum Kind {
    Address,
    Hash,
    Block,
    Quantity,
    Bool,
    Bytes,
    Raw,
    Slots,
    Call,
    Calls,
    StateOverrides,
    BlockOverrides,
    Filter,
    TraceOptions,
    TraceTypes,
    TypedData,
    Percentiles,
    Simulation,
    Attributes,
    Text,
    Anything,
}
use Kind::{
    Address, Anything, Attributes, Block, BlockOverrides, Bool, Bytes, Call, Calls, Filter, Hash,
    Percentiles, Quantity, Raw, Simulation, Slots, StateOverrides, Text, TraceOptions, TraceTypes,
    TypedData,
};

/// What a method takes; methods that are not here are guessed at.
fn kinds(method: &str) -> &'static [Kind] {
    match method {
        "eth_getBalance"
        | "eth_getTransactionCount"
        | "eth_getCode"
        | "eth_getAccountInfo"
        | "eth_getAccount"
        | "ots_hasCode" => &[Address, Block],
        "eth_getStorageAt" => &[Address, Quantity, Block],
        "eth_getProof" => &[Address, Slots, Block],
        "eth_call" | "eth_estimateGas" | "eth_createAccessList" => {
            &[Call, Block, StateOverrides, BlockOverrides]
        }
        "eth_simulateV1" => &[Simulation, Block],
        "eth_callMany" | "debug_traceCallMany" => &[Calls, Anything, StateOverrides],
        "heddle_predictConflicts" => &[Calls],
        "heddle_getHotLocations" => &[Block, Block, Quantity],
        "eth_getLogs" | "eth_newFilter" | "trace_filter" => &[Filter],
        "eth_feeHistory" => &[Quantity, Block, Percentiles],
        "eth_sendRawTransaction" => &[Raw],
        "eth_sendTransaction"
        | "eth_signTransaction"
        | "eth_fillTransaction"
        | "eth_sendUnsignedTransaction" => &[Call],
        "eth_sign" => &[Address, Bytes],
        "personal_sign" => &[Bytes, Address],
        "eth_signTypedData_v4" => &[Address, TypedData],
        "debug_traceCall" => &[Call, Block, TraceOptions],
        "debug_traceTransaction" => &[Hash, TraceOptions],
        "debug_traceBlockByNumber" | "debug_traceBlockByHash" => &[Block, TraceOptions],
        "debug_traceBlock" => &[Raw, TraceOptions],
        "debug_storageRangeAt" => &[Hash, Quantity, Address, Bytes, Quantity],
        "debug_accountRange" => &[Block, Bytes, Quantity, Bool, Bool, Bool],
        "trace_call" => &[Call, TraceTypes, Block, StateOverrides, BlockOverrides],
        "trace_callMany" => &[Calls, Block],
        "trace_rawTransaction" => &[Raw, TraceTypes, Block],
        "trace_replayTransaction" | "trace_replayBlockTransactions" => &[Hash, TraceTypes],
        "testing_buildBlockV1" => &[Hash, Attributes, Raw, Bytes],
        "testing_commitBlockV1" => &[Attributes, Raw, Bytes],
        "web3_sha3" => &[Bytes],
        "ots_searchTransactionsBefore" | "ots_searchTransactionsAfter" => {
            &[Address, Quantity, Quantity]
        }
        "anvil_setBalance" | "anvil_addBalance" | "anvil_setNonce" => &[Address, Quantity],
        "anvil_setCode" => &[Address, Bytes],
        "anvil_setStorageAt" => &[Address, Quantity, Hash],
        "anvil_dealERC20" => &[Address, Address, Quantity],
        _ if method.contains("ByBlock") => &[Block, Quantity],
        _ if method.contains("BlockBy") || method.contains("HeaderBy") => &[Block, Bool],
        _ if method.contains("Transaction") || method.contains("Hash") => &[Hash, Quantity],
        _ if method.contains("lock") || method.contains("Raw") => &[Block, Quantity],
        _ => &[Anything, Anything],
    }
}

impl Known {
    fn value(&self, random: &mut Random, kind: Kind) -> Value {
        if random.one_in(8) {
            return odd(random, 0);
        }
        let kind = match kind {
            Anything => *random
                .pick(&[Address, Hash, Block, Quantity, Bool, Bytes, Call, Filter, Text, Slots]),
            kind => kind,
        };
        match kind {
            Address => match random.below(4) {
                0 => json!(random.hex(20)),
                1 => json!(format!("0x{:040x}", random.below(32))),
                _ => json!(random.pick(&self.addresses)),
            },
            Hash => match random.below(3) {
                0 => json!(random.hex(32)),
                _ => json!(random.pick(&self.hashes)),
            },
            Block => match random.below(6) {
                0 => self.value(random, Hash),
                1 => {
                    json!({"blockHash": self.value(random, Hash), "requireCanonical": random.one_in(2)})
                }
                2 => json!({"blockNumber": self.value(random, Quantity)}),
                3 => self.value(random, Quantity),
                _ => json!(random.pick(&["latest", "pending", "earliest", "safe", "finalized"])),
            },
            Quantity => match random.below(8) {
                0 => json!(format!("{:#x}", random.next())),
                1 => json!(format!("{:#x}", u64::MAX)),
                2 => json!(format!("0x{}", "f".repeat(1 + random.below(70)))),
                3 => json!(random.below(100)),
                4 => json!(format!("{}", random.next())),
                _ => json!(format!("{:#x}", random.below(16))),
            },
            Bool => json!(random.one_in(2)),
            Bytes => {
                let length = random.below(100);
                json!(random.hex(length))
            }
            Raw => {
                let mut raw = random.pick(&self.raw).clone();
                match random.below(4) {
                    0 => raw.truncate(2 + 2 * random.below(raw.len() / 2)),
                    1 => raw.push_str("00"),
                    2 => {
                        let at = 2 + random.below(raw.len() - 2);
                        raw.replace_range(at..=at, "7");
                    }
                    _ => {}
                }
                if random.one_in(3) { json!([raw]) } else { json!(raw) }
            }
            Slots => {
                let slots: Vec<_> =
                    (0..random.below(5)).map(|_| self.value(random, Quantity)).collect();
                if random.one_in(4) { json!({ALICE: slots}) } else { json!(slots) }
            }
            Call => self.call(random),
            Calls => {
                let calls = (0..random.below(4)).map(|_| match random.below(3) {
                    0 => json!({"transactions": [self.call(random), self.call(random)],
                        "blockOverride": self.value(random, BlockOverrides)}),
                    1 => json!([self.call(random), self.value(random, TraceTypes)]),
                    _ => self.call(random),
                });
                calls.collect()
            }
            StateOverrides => {
                let account = self.optional(
                    random,
                    &[
                        ("balance", Quantity),
                        ("nonce", Quantity),
                        ("code", Bytes),
                        ("movePrecompileToAddress", Address),
                    ],
                );
                let mut account = account;
                if random.one_in(2) {
                    let slot = random.hex(32);
                    account[*random.pick(&["state", "stateDiff"])] =
                        json!({slot: self.value(random, Hash)});
                }
                json!({self.value(random, Address).as_str().unwrap_or(BOB): account})
            }
            BlockOverrides => self.optional(
                random,
                &[
                    ("number", Quantity),
                    ("time", Quantity),
                    ("gasLimit", Quantity),
                    ("feeRecipient", Address),
                    ("prevRandao", Hash),
                    ("baseFeePerGas", Quantity),
                    ("blobBaseFee", Quantity),
                    ("difficulty", Quantity),
                    ("beaconRoot", Hash),
                ],
            ),
            Filter => {
                let mut filter = self.optional(
                    random,
                    &[
                        ("fromBlock", Block),
                        ("toBlock", Block),
                        ("blockHash", Hash),
                        ("address", Address),
                        ("fromAddress", Slots),
                        ("after", Quantity),
                        ("count", Quantity),
                    ],
                );
                if random.one_in(2) {
                    let topics: Vec<_> = (0..random.below(6))
                        .map(|_| match random.below(3) {
                            0 => Value::Null,
                            1 => json!([self.value(random, Hash), null]),
                            _ => self.value(random, Hash),
                        })
                        .collect();
                    filter["topics"] = json!(topics);
                }
                filter
            }
            TraceOptions => {
                let tracer = *random.pick(&[
                    "callTracer",
                    "prestateTracer",
                    "4byteTracer",
                    "flatCallTracer",
                    "muxTracer",
                    "noopTracer",
                    "erc7562Tracer",
                    "{result: 1}",
                    "",
                ]);
                let mut options = self.optional(
                    random,
                    &[
                        ("enableMemory", Bool),
                        ("disableStack", Bool),
                        ("disableStorage", Bool),
                        ("enableReturnData", Bool),
                        ("limit", Quantity),
                        ("txIndex", Quantity),
                        ("stateOverrides", StateOverrides),
                        ("blockOverrides", BlockOverrides),
                    ],
                );
                if random.one_in(2) {
                    options["tracer"] = json!(tracer);
                }
                if random.one_in(3) {
                    options["tracerConfig"] = json!({"onlyTopCall": random.one_in(2), "withLog": true,
                        "diffMode": random.one_in(2), "callTracer": {}, "prestateTracer": null});
                }
                if random.one_in(5) {
                    options["timeout"] =
                        json!(random.pick(&["1ms", "5s", "-1s", "99999999999h", "", "1µs"]));
                }
                options
            }
            TraceTypes => {
                let types = ["trace", "vmTrace", "stateDiff", "nonsense"];
                (0..random.below(4)).map(|_| json!(random.pick(&types))).collect()
            }
            TypedData => json!({
                "types": {"EIP712Domain": [{"name": "chainId", "type": "uint256"}],
                    "A": [{"name": "b", "type": random.pick(&["A", "A[]", "uint256", "bytes33", "string[2]", "Z", ""])}]},
                "primaryType": random.pick(&["A", "EIP712Domain", "Z"]),
                "domain": {"chainId": self.value(random, Quantity)},
                "message": {"b": odd(random, 0)},
            }),
            Percentiles => (0..random.below(4))
                .map(|_| json!(random.pick(&[0.0, 50.0, 100.0, -1.0, 1e300, 0.5])))
                .collect(),
            Simulation => {
                let blocks: Vec<_> = (0..random.below(3))
                    .map(|_| {
                        json!({
                            "blockOverrides": self.value(random, BlockOverrides),
                            "stateOverrides": self.value(random, StateOverrides),
                            "calls": [self.call(random), self.call(random)],
                        })
                    })
                    .collect();
                json!({"blockStateCalls": blocks, "traceTransfers": random.one_in(2), "validation": random.one_in(2),
                    "returnFullTransactions": random.one_in(2)})
            }
            Attributes => self.optional(
                random,
                &[
                    ("timestamp", Quantity),
                    ("prevRandao", Hash),
                    ("suggestedFeeRecipient", Address),
                    ("withdrawals", Slots),
                    ("parentBeaconBlockRoot", Hash),
                ],
            ),
            Text => json!(random.pick(&[
                "newHeads",
                "logs",
                "newPendingTransactions",
                "syncing",
                "",
                "\u{0}",
                "é😀"
            ])),
            Anything => Value::Null,
        }
    }

    fn call(&self, random: &mut Random) -> Value {
        let mut call = self.optional(
            random,
            &[
                ("from", Address),
                ("to", Address),
                ("gas", Quantity),
                ("gasPrice", Quantity),
                ("value", Quantity),
                ("maxFeePerGas", Quantity),
                ("maxPriorityFeePerGas", Quantity),
                ("nonce", Quantity),
                ("input", Bytes),
                ("data", Bytes),
                ("chainId", Quantity),
                ("type", Quantity),
                ("maxFeePerBlobGas", Quantity),
                ("blobVersionedHashes", Slots),
                ("accessList", Anything),
                ("authorizationList", Anything),
            ],
        );
        if random.one_in(2) {
            call["from"] = json!(ALICE);
            call.as_object_mut().expect("built as one").remove("gasPrice");
        }
        // Code instead of data, some of it endless or hungry for memory.
        if random.one_in(4) {
            call.as_object_mut().expect("built as one").remove("to");
            call["data"] = json!(random.pick(&[
                "0x5b600056",
                "0x7fffffffffffffffff600052",
                "0x60016000526001601ff3",
                "0x63ffffffff6000f3",
                "0x6000600060006000600030615af1f4",
                "0x60ff60005260206000a0",
                "0xfe",
                "0x5b5a5a5a600056",
            ]));
        }
        call
    }

    /// An object with some of these fields.
    fn optional(&self, random: &mut Random, fields: &[(&str, Kind)]) -> Value {
        let mut object = json!({});
        for (name, kind) in fields {
            if random.one_in(4) {
                object[*name] = self.value(random, *kind);
            }
        }
        object
    }

    fn request(&self, random: &mut Random, method: &str, id: u64) -> Value {
        let mut params: Vec<_> =
            kinds(method).iter().map(|kind| self.value(random, *kind)).collect();
        match random.below(12) {
            0 => params.truncate(random.below(params.len() + 1)),
            1 => params.push(odd(random, 0)),
            2 => {
                let at = random.below(params.len());
                params[at] = odd(random, 0);
            }
            3 => params.clear(),
            _ => {}
        }
        let params = match random.below(30) {
            0 => odd(random, 0),
            _ => json!(params),
        };
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }
}

/// A value that fits nowhere.
fn odd(random: &mut Random, depth: usize) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1e308),
        5 => json!(0.1),
        6 => json!(""),
        7 => json!("0x"),
        8 => json!(format!("0x{}", "0".repeat(random.below(200)))),
        9 => json!("x".repeat(random.below(5_000))),
        10 => json!("\u{0}\u{feff}\u{10ffff}"),
        11 if depth < 6 => (0..random.below(4)).map(|_| odd(random, depth + 1)).collect(),
        12 if depth < 6 => json!({"to": odd(random, depth + 1), "": odd(random, depth + 1)}),
        13 => (0..random.below(120)).fold(json!([]), |inner, _| json!([inner])),
        14 => json!(format!("-{:#x}", random.next())),
        _ => json!("0xg1"),
    }
}

/// Panics of the node, whichever thread they were on.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_panics() {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(info.to_string());
            usual(info);
        }));
    });
}

fn panics() -> Vec<String> {
    PANICS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
}

/// What is wrong with an answer to the request with this id.
fn complaint(answer: &Value, id: u64) -> Option<&'static str> {
    if answer["jsonrpc"] != "2.0" {
        return Some("no version");
    }
    if answer["id"] != id {
        return Some("another id");
    }
    match (answer.get("result"), answer.get("error")) {
        (Some(_), None) => None,
        (None, Some(error)) => {
            let message = error["message"].as_str().unwrap_or_default();
            let is_ours = message.contains("panic") || message.contains("internal error");
            let is_whole = error["code"].is_i64() && !message.is_empty();
            (!is_whole || is_ours).then_some("not an error as it should be")
        }
        _ => Some("neither result nor error, or both"),
    }
}

/// Sends so many requests over one connection.
fn fuzz(
    address: std::net::SocketAddr,
    known: &Known,
    methods: &[&'static str],
    seed: u64,
    requests: u64,
) {
    const BATCH_MAX: u64 = 5;
    let mut random = Random(seed);
    let mut client = Http::connect(address);
    let mut sent = 0;
    while sent < requests {
        let count = if random.one_in(20) { 1 + random.below(BATCH_MAX as usize) as u64 } else { 1 };
        let calls: Vec<_> = (0..count)
            .map(|id| {
                let method = *random.pick(methods);
                known.request(&mut random, method, id)
            })
            .collect();
        let is_batch = count > 1 || random.one_in(100);
        let body = if is_batch { json!(calls).to_string() } else { calls[0].to_string() };
        let describe = |what: &str| {
            let shown: String = body.chars().take(2_000).collect();
            format!("seed {seed}, after {sent} requests: {what}\n{shown}")
        };
        let (status, answer) = client
            .post("localhost", &body)
            .unwrap_or_else(|error| panic!("{}", describe(&error.to_string())));
        assert_eq!(status, 200, "{}", describe("status"));
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!("{}", describe(&format!("{error}: {}", String::from_utf8_lossy(&answer))))
        });
        let answers =
            if is_batch { answer.as_array().cloned().unwrap_or_default() } else { vec![answer] };
        assert_eq!(answers.len(), calls.len(), "{}", describe("answers"));
        for (id, answer) in answers.iter().enumerate() {
            if let Some(complaint) = complaint(answer, id as u64) {
                panic!("{}", describe(&format!("{complaint}: {answer}")));
            }
        }
        let panics = panics();
        assert!(panics.is_empty(), "{}", describe(&panics.join("\n")));
        sent += count;
    }
}

fn fuzz_by_all(
    address: std::net::SocketAddr,
    known: &Known,
    methods: &[&'static str],
    seed: u64,
    requests: u64,
) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                fuzz(address, known, methods, seed ^ (client << 32), requests / CLIENTS);
            });
        }
    });
}

/// A chain with some transactions of every kind, and what can be asked of it.
fn prepare(client: &mut Http) -> Known {
    // PUSH1 1 PUSH1 0 SSTORE, LOG1, and code that stores and logs whenever it is called.
    let deploy = "0x6001600055600160005560016000526008601860003960086000f3600160005560206000a0";
    let mut hashes = Vec::new();
    let mut addresses = vec![ALICE.to_owned(), BOB.to_owned()];
    for request in [
        json!({"from": ALICE, "data": deploy, "gas": "0x30d40"}),
        json!({"from": ALICE, "to": BOB, "value": "0x1"}),
        json!({"from": BOB, "to": ALICE, "value": "0x2", "accessList": []}),
        json!({"from": BOB, "data": "0x60206000a0", "gas": "0x30d40"}),
    ] {
        let hash = client.result("eth_sendTransaction", &json!([request]));
        let receipt = loop {
            let receipt = client.result("eth_getTransactionReceipt", &json!([hash]));
            if receipt.is_object() {
                break receipt;
            }
            thread::yield_now();
        };
        hashes.extend(
            [&receipt["transactionHash"], &receipt["blockHash"]]
                .map(|hash| hash.as_str().unwrap().to_owned()),
        );
        addresses.extend(receipt["contractAddress"].as_str().map(str::to_owned));
    }
    let raw = |client: &mut Http, method: &str, params: Value| {
        client.result(method, &params).as_str().unwrap().to_owned()
    };
    let raw = vec![
        raw(client, "eth_getRawTransactionByHash", json!([hashes[0]])),
        raw(client, "debug_getRawBlock", json!(["0x1"])),
        raw(client, "debug_getRawBlock", json!(["latest"])),
    ];
    Known { hashes, addresses, raw }
}

/// Small enough that no single request takes long.
fn config() -> RpcConfig {
    let limits = RpcLimits {
        call_time_max: Duration::from_millis(50),
        trace_time_max: Duration::from_millis(100),
        trace_bytes_max: 1 << 20,
        call_gas_max: 2_000_000,
        mined_blocks_max: 3,
        filters_max: 16,
        ..RpcLimits::default()
    };
    RpcConfig { limits, ..dev_config() }
}

/// How long a few hundred plain requests take: the fastest of several times.
fn answering_time(client: &mut Http) -> Duration {
    let rounds = (0..7).map(|_| {
        let started = Instant::now();
        for _ in 0..300 {
            client.result("eth_getBalance", &json!([ALICE, "latest"]));
        }
        started.elapsed()
    });
    rounds.min().expect("several rounds")
}

fn requests() -> u64 {
    std::env::var("HEDDLE_FUZZ_REQUESTS")
        .map_or(REQUESTS, |text| text.parse().expect("HEDDLE_FUZZ_REQUESTS is a number"))
}

fn seed() -> u64 {
    std::env::var("HEDDLE_FUZZ_SEED")
        .map_or(1, |text| text.parse().expect("HEDDLE_FUZZ_SEED is a number"))
}

// One test, so that nothing else takes memory or time meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn no_parameters_harm_the_node() {
    watch_panics();
    let (requests, seed) = (requests(), seed());

    // Everything, on a chain that the requests may well ruin.
    let server = start(config()).await;
    let address = server.local_addr();
    let all = server.methods();
    assert!(all.len() > 150, "{all:?}");
    let known =
        tokio::task::spawn_blocking(move || prepare(&mut Http::connect(address))).await.unwrap();
    let (known, all) = tokio::task::spawn_blocking(move || {
        fuzz_by_all(address, &known, &all, seed, requests / 5);
        (known, all)
    })
    .await
    .unwrap();
    server.stop().await;
    drop(known);

    // What only reads, on a chain that stays as it is.
    let server = start(config()).await;
    let address = server.local_addr();
    let reading: Vec<_> = all.into_iter().filter(|method| !is_changing(method)).collect();
    let measured = tokio::task::spawn_blocking(move || {
        let mut client = Http::connect(address);
        let known = prepare(&mut client);
        // Caches and pools are filled first; what is in use goes up and down by some megabytes, so the most of several
        // looks is what later ones are compared with.
        let mut before = (0, Duration::MAX);
        for part in 0..4 {
            fuzz_by_all(address, &known, &reading, seed + 1 + part, requests / 10);
            before = (before.0.max(resident_bytes()), before.1.min(answering_time(&mut client)));
        }
        fuzz_by_all(address, &known, &reading, seed + 5, requests * 2 / 5);
        // A long run leaves the former connection idle for longer than the node keeps such.
        let mut client = Http::connect(address);
        (before, (resident_bytes(), answering_time(&mut client)))
    });
    let ((bytes_before, time_before), (bytes, time)) = measured.await.unwrap();
    server.stop().await;
    #[expect(clippy::print_stdout, reason = "a measurement is to be seen")]
    {
        println!(
            "{requests} requests: {bytes_before} -> {bytes} bytes, {time_before:?} -> {time:?} for 300 answers"
        );
    }
    assert!(panics().is_empty(), "{:?}", panics());
    assert!(bytes * 10 <= bytes_before * 11, "memory grew from {bytes_before} to {bytes} bytes");
    // Other tests share the machine: only what is far slower counts.
    assert!(time <= time_before * 2, "300 answers took {time_before:?} before and {time:?} after");
}

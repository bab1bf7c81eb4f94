//! Every method with structured random parameters: right types with odd values, wrong types, too few, too many, deep
//! nesting, batches, over HTTP and WebSocket, with subscriptions. Nothing may panic, every answer is well-formed JSON-RPC,
//! and afterwards, and after a hundred clients that were slow or said nothing, the node takes the same memory and answers
//! in the same time.
//!
//! `HEDDLE_FUZZ_REQUESTS` (25,000 by default) and `HEDDLE_FUZZ_SEED` choose another run.

mod clients;
mod held_open;
mod parameters;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use clients::{fuzz_by_all, fuzz_by_websocket};
use heddle_rpc::{RpcConfig, RpcLimits};
use held_open::HeldOpen;
use parameters::Known;
use serde_json::{Value, json};
use support::{ALICE, BOB, Http, dev_config, resident_bytes, start};

// As the node: the memory that is compared is that of the allocator it runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const REQUESTS: u64 = 25_000;
/// How often it is looked whether the node takes as little memory as before.
const LOOKS_AT_MEMORY: u64 = 10;
/// How often it is looked whether the node answers as fast as before.
const LOOKS_AT_TIME: u32 = 20;

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
    let (known, all) = (Arc::new(known), Arc::new(all));
    let by_http = {
        let (known, all) = (known.clone(), all.clone());
        tokio::task::spawn_blocking(move || {
            fuzz_by_all(address, &known, &all, seed, requests * 3 / 20);
        })
    };
    fuzz_by_websocket(address, &known, &all, seed ^ (1 << 48), requests / 20).await;
    by_http.await.unwrap();
    server.stop().await;
    drop(known);

    // What only reads, on a chain that stays as it is.
    let server = start(config()).await;
    let address = server.local_addr();
    let reading: Vec<_> = all.iter().copied().filter(|method| !is_changing(method)).collect();
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
        let held_open = HeldOpen::new(address);
        fuzz_by_all(address, &known, &reading, seed + 5, requests * 2 / 5);
        drop(held_open);
        // The peak of the moment says little: what stays, and only that, is growth.
        let mut bytes = resident_bytes();
        for look in 0..LOOKS_AT_MEMORY {
            if bytes * 10 <= before.0 * 11 {
                break;
            }
            fuzz_by_all(address, &known, &reading, seed + 6 + look, requests / 100);
            bytes = bytes.min(resident_bytes());
        }
        // A long run leaves the former connection idle for longer than the node keeps such.
        let mut client = Http::connect(address);
        // Others share the machine: what is slow only for a while is not the node's.
        let mut time = answering_time(&mut client);
        for _ in 0..LOOKS_AT_TIME {
            if time <= before.1 * 2 {
                break;
            }
            thread::sleep(Duration::from_millis(500));
            time = time.min(answering_time(&mut client));
        }
        (before, (bytes, time))
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
    assert!(time <= time_before * 2, "300 answers took {time_before:?} before and {time:?} after");
}

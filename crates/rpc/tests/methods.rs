//! Methods beyond the standard: many calls, block access lists, intermediate roots, limits of log queries.

mod support;

use alloy_eips::eip7928::AccountChanges;
use alloy_primitives::{Address, U256};
use alloy_rlp::Decodable;
use heddle_rpc::{RpcConfig, RpcLimits};
use serde_json::{Value, json};
use support::{ALICE, BOB, DEPLOY_COUNTER, Http, dev_config, receipt, start};

/// Adds one to slot 0 and gives back what it was: PUSH0 SLOAD DUP1 PUSH1 1 ADD PUSH0 SSTORE PUSH0 MSTORE
/// PUSH1 32 PUSH0 RETURN.
const COUNTER: &str = "0x5f548060010160005560005260206000f3";
/// Logs with topic 7 whenever it is called: PUSH1 7 PUSH0 PUSH0 LOG1.
const DEPLOY_LOGGER: &str = "0x6006600c60003960066000f360075f5fa100";

/// Sends a transaction and waits for its receipt.
fn mined(client: &mut Http, transaction: &Value) -> Value {
    let hash = client.result("eth_sendTransaction", &json!([transaction]));
    receipt(client, &hash)
}

fn word(number: u64) -> String {
    format!("0x{number:064x}")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_see_what_the_ones_before_them_did() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let deployed =
        mined(&mut client, &json!({"from": ALICE, "data": DEPLOY_COUNTER, "gas": "0x30d40"}));
    let counter = &deployed["contractAddress"];
    assert_eq!(client.result("eth_getCode", &json!([counter])), COUNTER);
    let call = json!({"to": counter});
    let bundle = json!({"transactions": [call, call]});
    let answers = client.result("eth_callMany", &json!([[bundle, bundle]]));
    let values = [0, 1, 2, 3].map(|number| json!({"value": word(number)}));
    assert_eq!(answers, json!([[values[0], values[1]], [values[2], values[3]]]));
    assert_eq!(client.result("eth_call", &json!([call])), word(0), "nothing is kept");

    // A failing call is an answer like any other; overrides apply to the state and to a bundle's block.
    let number_code = "0x4360005260206000f3";
    let answers = client.result("eth_callMany", &json!([
        [{"transactions": [{"to": BOB}, {"to": BOB, "gas": "0x1"}], "blockOverride": {"number": "0x64"}}, {"transactions": [{"to": BOB}]}],
        {"blockNumber": "latest", "transactionIndex": -1},
        {BOB: {"code": number_code}}
    ]));
    assert_eq!(answers[0][0]["value"], word(100));
    assert!(
        answers[0][1]["error"].as_str().unwrap().contains("intrinsic gas too low"),
        "{answers}"
    );
    assert_eq!(answers[1][0]["value"], word(101), "the next bundle is in the next block");

    let traces =
        client.result("debug_traceCallMany", &json!([[bundle], {}, {"tracer": "callTracer"}]));
    assert_eq!(traces[0][0]["output"], word(0));
    assert_eq!(traces[0][1]["output"], word(1));

    // After a transaction inside a block: the first call of a block with two of them.
    client.result("evm_setAutomine", &json!([false]));
    let increment = json!({"from": ALICE, "to": counter, "gas": "0x30d40"});
    client.result("eth_sendTransaction", &json!([increment]));
    let last = client.result("eth_sendTransaction", &json!([increment]));
    client.result("evm_mine", &json!([]));
    let number = receipt(&mut client, &last)["blockNumber"].clone();
    for (index, expected) in
        [(json!(0), 0), (json!(1), 1), (json!(2), 2), (json!(-1), 2), (Value::Null, 2)]
    {
        let start = json!({"blockNumber": number, "transactionIndex": index});
        let answers = client.result("eth_callMany", &json!([[{"transactions": [call]}], start]));
        assert_eq!(answers[0][0]["value"], word(expected), "{start}");
    }
    let beyond = json!([[{"transactions": [call]}], {"transactionIndex": 3}]);
    assert!(client.call("eth_callMany", &beyond)["error"].is_object());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_access_list_says_what_every_transaction_read_and_left() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let deployed =
        mined(&mut client, &json!({"from": ALICE, "data": DEPLOY_COUNTER, "gas": "0x30d40"}));
    let counter = deployed["contractAddress"].clone();
    client.result("evm_setAutomine", &json!([false]));
    let increment = json!({"from": ALICE, "to": counter, "gas": "0x30d40"});
    client.result("eth_sendTransaction", &json!([increment]));
    client.result(
        "eth_sendTransaction",
        &json!([{"from": BOB, "to": ALICE, "value": "0x5", "gas": "0x5208"}]),
    );
    let last = client.result("eth_sendTransaction", &json!([increment]));
    client.result("evm_mine", &json!([]));
    let receipt = receipt(&mut client, &last);
    let block = client.result("eth_getBlockByHash", &json!([receipt["blockHash"], false]));
    let order: Vec<String> = block["transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash| {
            client.result("eth_getTransactionByHash", &json!([hash]))["from"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(order.len(), 3);

    let list = client.result("eth_getBlockAccessList", &json!([receipt["blockNumber"]]));
    let of = |address: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .find(|account| account["address"] == *address)
            .unwrap_or_else(|| panic!("{list}"))
    };
    let calls = (1..)
        .zip(&order)
        .filter(|(_, from)| *from == ALICE)
        .map(|(index, _)| format!("{index:#x}"));
    let calls: Vec<String> = calls.collect();
    let changes = &of(&counter)["storageChanges"];
    assert_eq!(changes.as_array().unwrap().len(), 1, "{changes}");
    let indexes: Vec<_> = changes[0]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["index"].clone())
        .collect();
    assert_eq!(indexes, calls, "{changes}");
    let nonces = &of(&json!(ALICE))["nonceChanges"];
    assert_eq!(nonces.as_array().unwrap().len(), 2, "{nonces}");
    // The last balance is the one that the account has after the block.
    let balance = client.result("eth_getBalance", &json!([BOB, receipt["blockNumber"]]));
    let balance: U256 = balance.as_str().unwrap().parse().unwrap();
    let raw = client.result("eth_getBlockAccessListRaw", &json!([receipt["blockHash"]]));
    let raw = alloy_primitives::hex::decode(raw.as_str().unwrap()).unwrap();
    let decoded = Vec::<AccountChanges>::decode(&mut raw.as_slice()).unwrap();
    assert_eq!(serde_json::to_value(&decoded).unwrap(), list);
    assert!(decoded.is_sorted_by_key(|account| account.address));
    let bob: Address = BOB.parse().unwrap();
    let bob = decoded.iter().find(|account| account.address == bob).unwrap();
    assert_eq!(bob.balance_changes.last().unwrap().post_balance, balance);

    assert_eq!(client.result("eth_getBlockAccessList", &json!(["0x0"])), json!([]));
    assert_eq!(client.result("eth_getBlockAccessList", &json!(["0x99"])), Value::Null);

    let roots = client.result("debug_intermediateRoots", &json!([receipt["blockHash"]]));
    let roots = roots.as_array().unwrap();
    assert_eq!(roots.len(), 3);
    assert!(roots[0] != roots[1] && roots[1] != roots[2]);

    let modified =
        client.result("debug_getModifiedAccountsByNumber", &json!([receipt["blockNumber"]]));
    for account in [&counter, &json!(ALICE), &json!(BOB)] {
        assert!(modified.as_array().unwrap().contains(account), "{account} in {modified}");
    }
    let of_both = client.result(
        "debug_getModifiedAccountsByHash",
        &json!([deployed["blockHash"], receipt["blockHash"]]),
    );
    assert_eq!(of_both, modified);

    let gas = client.result("trace_transactionOpcodeGas", &json!([last]));
    let stores =
        gas["opcodeGas"].as_array().unwrap().iter().find(|one| one["opcode"] == "SSTORE").unwrap();
    assert_eq!(stores["count"], 1);
    let of_block = client.result("trace_blockOpcodeGas", &json!([receipt["blockNumber"]]));
    assert!(of_block["transactions"].as_array().unwrap().contains(&gas));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_of_a_block_that_was_altered_by_hand_begin_with_what_was_altered() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    client.result("anvil_setBalance", &json!([word(0)[..42], "0x7"]));
    let receipt = mined(&mut client, &json!({"from": ALICE, "to": BOB, "value": "0x1"}));
    let roots = client.result("debug_intermediateRoots", &json!([receipt["blockHash"]]));
    // Nothing comes after the only transaction: no withdrawals, no requests.
    let header = client.result("eth_getBlockByNumber", &json!([receipt["blockNumber"], false]));
    assert_eq!(roots, json!([header["stateRoot"]]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_code_and_transactions_are_found_by_what_names_them() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let deployed =
        mined(&mut client, &json!({"from": ALICE, "data": DEPLOY_COUNTER, "gas": "0x30d40"}));
    let counter = &deployed["contractAddress"];
    mined(&mut client, &json!({"from": ALICE, "to": counter, "gas": "0x30d40"}));
    let account = client.result("eth_getAccount", &json!([counter, "latest"]));
    let proof = client.result("eth_getProof", &json!([counter, [], "latest"]));
    assert_eq!(account["storageRoot"], proof["storageHash"]);
    assert_eq!(account["codeHash"], proof["codeHash"]);
    assert_eq!(account["nonce"], "0x1");
    assert_eq!(
        client.result("eth_getAccount", &json!([word(99)[..42].replace("0x00", "0xab")])),
        Value::Null
    );
    assert_eq!(client.result("debug_codeByHash", &json!([account["codeHash"]])), COUNTER);

    let found = client.result("eth_getTransactionBySenderAndNonce", &json!([ALICE, "0x0"]));
    assert_eq!(found["hash"], deployed["transactionHash"]);
    client.result("evm_setAutomine", &json!([false]));
    let waiting = client.result("eth_sendTransaction", &json!([{"from": ALICE, "to": BOB}]));
    let found = client.result("eth_getTransactionBySenderAndNonce", &json!([ALICE, "0x2"]));
    assert_eq!((&found["hash"], &found["blockHash"]), (&waiting, &Value::Null));
    assert_eq!(
        client.result("eth_getTransactionBySenderAndNonce", &json!([ALICE, "0x3"])),
        Value::Null
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_query_that_is_too_broad_is_told_its_limit_and_what_to_ask_instead() {
    let limits = RpcLimits { logs_max: 3, logs_blocks_max: 6, ..RpcLimits::default() };
    let server = start(RpcConfig { limits, ..dev_config() }).await;
    let mut client = Http::connect(server.local_addr());
    let deployed =
        mined(&mut client, &json!({"from": ALICE, "data": DEPLOY_LOGGER, "gas": "0x30d40"}));
    let logger = &deployed["contractAddress"];
    for _ in 0..5 {
        mined(&mut client, &json!({"from": ALICE, "to": logger, "gas": "0x30d40"}));
    }
    let query = |from: &str, to: &str| json!([{"fromBlock": from, "toBlock": to, "address": logger, "topics": [word(7)]}]);
    assert_eq!(client.result("eth_getLogs", &query("0x1", "0x4")).as_array().unwrap().len(), 3);
    let answer = client.call("eth_getLogs", &query("0x1", "0x6"));
    assert_eq!(
        answer["error"],
        json!({"code": -32005, "message": "query exceeds max results 3, retry with the range 1-4"})
    );
    let answer = client.call("eth_getLogs", &query("0x0", "0x6"));
    assert_eq!(
        answer["error"],
        json!({"code": -32005, "message": "query exceeds max block range 6: it spans 7 blocks"})
    );
    server.stop().await;
}

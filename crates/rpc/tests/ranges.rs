//! States page by page, as `debug_storageRangeAt`, `debug_accountRange` and `debug_dumpBlock` hand them out.

mod support;

use alloy_primitives::{B256, U256, hex, keccak256};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{ALICE, BOB, Http, dev_config, receipt, start};

/// Stores what it is called with: CALLDATALOAD(32) into the slot CALLDATALOAD(0).
/// PUSH1 32 CALLDATALOAD PUSH0 CALLDATALOAD SSTORE.
const STORE: &str = "0x6020355f3555";
/// Its creation: PUSH1 6 DUP1 PUSH1 10 PUSH0 CODECOPY PUSH0 RETURN INVALID.
const DEPLOY_STORE: &str = "0x600680600a5f395ff3fe6020355f3555";

fn word(number: u64) -> String {
    format!("0x{number:064x}")
}

fn hash_of(slot: u64) -> String {
    format!("{:?}", keccak256(U256::from(slot).to_be_bytes::<32>()))
}

fn storing(contract: &Value, slot: u64, value: u64) -> Value {
    let data = format!("0x{slot:064x}{value:064x}");
    json!({"from": ALICE, "to": contract, "data": data, "gas": "0x30d40"})
}

fn send(client: &mut Http, transaction: &Value) -> Value {
    client.result("eth_sendTransaction", &json!([transaction]))
}

/// A contract with 40 slots (value = slot + 1), and a block that changes slot 3, makes slot 100 and takes slot 5 away, one
/// after the other. Gives the contract and the block.
fn prepare(client: &mut Http) -> (Value, Value) {
    let creation = send(client, &json!({"from": ALICE, "data": DEPLOY_STORE, "gas": "0x30d40"}));
    let contract = receipt(client, &creation)["contractAddress"].clone();
    assert_eq!(client.result("eth_getCode", &json!([contract])), STORE);
    client.result("evm_setAutomine", &json!([false]));
    for slot in 0..40 {
        send(client, &storing(&contract, slot, slot + 1));
    }
    client.result("evm_mine", &json!([]));
    let mut last = Value::Null;
    for (slot, value) in [(3, 333), (100, 1), (5, 0), (100, 0)] {
        last = send(client, &storing(&contract, slot, value));
    }
    client.result("evm_mine", &json!([]));
    let block = receipt(client, &last)["blockHash"].clone();
    client.result("evm_setAutomine", &json!([true]));
    (contract, block)
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_comes_by_hash_as_each_transaction_met_it() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let (contract, block) = prepare(&mut client);
    let mut at = |block: &Value, index: u64, start: &str, max: u64| {
        client.result("debug_storageRangeAt", &json!([block, index, contract, start, max]))
    };
    let expected = |changes: &[(u64, u64)]| {
        let mut values: BTreeMap<u64, u64> = (0..40).map(|slot| (slot, slot + 1)).collect();
        values.extend(changes.iter().copied());
        let entry = |(slot, value): (u64, u64)| {
            (hash_of(slot), json!({"key": word(slot), "value": word(value)}))
        };
        values.into_iter().filter(|(_, value)| *value != 0).map(entry).collect::<BTreeMap<_, _>>()
    };
    for (index, changes) in [
        (0, &[][..]),
        (1, &[(3, 333)]),
        (2, &[(3, 333), (100, 1)]),
        (3, &[(3, 333), (100, 1), (5, 0)]),
    ] {
        let all = at(&block, index, "0x", 1_000);
        assert_eq!(all, json!({"storage": expected(changes), "nextKey": null}), "{index}");
    }

    // Page by page it is the same.
    let mut pages = serde_json::Map::new();
    let mut next = word(0);
    for page in 0.. {
        let found = at(&block, 2, &next, 7);
        let entries = found["storage"].as_object().unwrap();
        assert!(entries.len() == 7 || found["nextKey"].is_null(), "{page}");
        pages.extend(entries.clone());
        let Some(more) = found["nextKey"].as_str() else { break };
        assert!(!pages.contains_key(more));
        more.clone_into(&mut next);
    }
    let whole = at(&block, 2, "0x00", 1_000);
    assert_eq!(Value::Object(pages), whole["storage"]);
    let first = whole["storage"].as_object().unwrap().keys().next().unwrap();
    assert_eq!(at(&block, 2, "0x", 0), json!({"storage": {}, "nextKey": first}));

    let nobody = json!([block, 0, BOB, "0x", 10]);
    let none = json!({"storage": null, "nextKey": null});
    assert_eq!(client.result("debug_storageRangeAt", &nobody), none);
    for (wrong, reason) in [
        (json!([block, 4, contract, "0x", 1]), "out of range"),
        (json!(["0x0", 0, contract, "0x", 1]), "genesis"),
        (json!(["pending", 0, contract, "0x", 1]), "pending"),
        (json!([word(9), 0, contract, "0x", 1]), "not found"),
        (json!([block, 0, contract, format!("{}00", word(1)), 1]), "longer than a hash"),
    ] {
        let answer = client.call("debug_storageRangeAt", &wrong);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(reason), "{wrong}: {answer}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_come_by_hash_in_the_form_of_geths_dumps() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let (contract, block) = prepare(&mut client);
    for account in 1..60u64 {
        client.result("anvil_setBalance", &json!([format!("0x{account:040x}"), "0x7"]));
    }
    // They show in the next block's state.
    client.result("evm_mine", &json!([]));
    let head = client.result("eth_getBlockByNumber", &json!(["latest", false]));

    let dump = client.result("debug_dumpBlock", &json!(["latest"]));
    let root = head["stateRoot"].as_str().unwrap();
    assert_eq!(dump["root"], root[2..]);
    let accounts = dump["accounts"].as_object().unwrap();
    assert!(accounts.len() > 60 && dump.get("next").is_none());
    for (name, account) in accounts {
        let told = client.result("eth_getProof", &json!([name, [], "latest"]));
        assert_eq!(account["address"], told["address"]);
        assert_eq!(account["root"], told["storageHash"]);
        assert_eq!(account["codeHash"], told["codeHash"]);
        let balance: U256 = told["balance"].as_str().unwrap().parse().unwrap();
        assert_eq!(account["balance"], balance.to_string());
        let nonce = u64::from_str_radix(&told["nonce"].as_str().unwrap()[2..], 16).unwrap();
        assert_eq!(account["nonce"], nonce);
        let address = hex::decode(name).unwrap();
        assert_eq!(account["key"], format!("{:?}", keccak256(&address)));
        let code = client.result("eth_getCode", &json!([name, "latest"]));
        assert_eq!(account.get("code").unwrap_or(&json!("0x")), &code);
    }
    let named = accounts
        .iter()
        .find(|(_, account)| account["address"] == contract)
        .map(|(name, account)| (name.clone(), account.clone()));
    let (name, of_contract) = named.unwrap();
    assert_ne!(name, name.to_lowercase(), "the name has its checksum");
    let storage = of_contract["storage"].as_object().unwrap();
    assert_eq!(storage.len(), 39);
    assert_eq!(storage[&word(3)], "014d", "333");
    assert!(!storage.contains_key(&word(5)));

    // Page by page it is the same, and an older block has what it had.
    let mut pages = serde_json::Map::new();
    let mut start = "0x".to_owned();
    loop {
        let page =
            client.result("debug_accountRange", &json!(["latest", start, 10, false, false, false]));
        pages.extend(page["accounts"].as_object().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        let next = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, next).unwrap();
        start = B256::from_slice(&next).to_string();
    }
    assert_eq!(Value::Object(pages), dump["accounts"]);
    let bare = client
        .result("debug_accountRange", &json!([{"blockHash": block}, "0x", 256, true, true, true]));
    let bare = bare["accounts"].as_object().unwrap();
    assert_eq!(bare.len() + 59, accounts.len());
    assert!(bare[&name].get("code").is_none() && bare[&name].get("storage").is_none());
    assert!(client.call("debug_dumpBlock", &json!(["pending"]))["error"].is_object());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_told_raw_and_the_chain_by_its_rules() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let (_, block) = prepare(&mut client);
    let raw = client.result("debug_getRawTransactions", &json!([{"blockHash": block}]));
    let hashes: Vec<_> = raw
        .as_array()
        .unwrap()
        .iter()
        .map(|raw| format!("{:?}", keccak256(hex::decode(raw.as_str().unwrap()).unwrap())))
        .collect();
    let told = client.result("eth_getBlockByHash", &json!([block, false]));
    assert_eq!(told["transactions"], json!(hashes));
    let number = &told["number"];
    assert_eq!(
        client.result("debug_executionWitnessByBlockHash", &json!([block])),
        client.result("debug_executionWitness", &json!([number])),
    );
    assert_eq!(
        client.result("debug_getBlockAccessList", &json!([number])),
        client.result("eth_getBlockAccessList", &json!([number])),
    );
    let rules = client.result("debug_chainConfig", &json!([]));
    assert_eq!((&rules["chainId"], &rules["osakaTime"]), (&json!(31337), &json!(0)));
    assert_eq!(client.result("eth_networkId", &json!([])), "31337");
    assert_eq!(
        client.result("eth_requestAccounts", &json!([])),
        client.result("eth_accounts", &json!([])),
    );
    assert_eq!(client.result("anvil_getGenesisTime", &json!([])), 0);
    server.stop().await;
}

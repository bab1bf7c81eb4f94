//! What parallel execution tells: profiles of blocks, hot locations, predicted conflicts.

mod support;

use serde_json::{Value, json};
use support::{ALICE, BOB, DEPLOY_COUNTER, Http, dev_config, receipt, start};

fn sent(client: &mut Http, transaction: &Value) -> Value {
    client.result("eth_sendTransaction", &json!([transaction]))
}

/// Deploys the counter and stops mining.
fn counter(client: &mut Http) -> Value {
    let hash = sent(client, &json!({"from": ALICE, "data": DEPLOY_COUNTER, "gas": "0x30d40"}));
    let address = receipt(client, &hash)["contractAddress"].clone();
    client.result("evm_setAutomine", &json!([false]));
    address
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no quantity"));
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_profile_shows_every_transaction_and_the_chain_of_those_that_depend() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let counter = counter(&mut client);
    let increment = |from: &str| json!({"from": from, "to": counter, "gas": "0x30d40"});
    for from in [ALICE, BOB, ALICE, BOB] {
        sent(&mut client, &increment(from));
    }
    client.result("evm_mine", &json!([]));
    let block = client.result("eth_getBlockByNumber", &json!(["latest", false]));
    let profile = client.result("heddle_getBlockProfile", &json!(["latest"]));
    assert_eq!((&profile["hash"], &profile["gasUsed"]), (&block["hash"], &block["gasUsed"]));
    assert_eq!(profile["transactions"], 4);
    // All four fight over one slot: the whole block is the critical path.
    assert_eq!(profile["criticalPath"]["gas"], block["gasUsed"]);
    assert_eq!(profile["criticalPath"]["transactions"], json!([0, 1, 2, 3]));
    assert_eq!(profile["speedupPossible"], 1.0);
    assert!(profile["sequentialNs"].as_u64().unwrap() > 0);
    assert!(profile["speedup"].as_f64().unwrap() > 0.0);
    let mut executed: Vec<u64> = profile["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|lane| lane["runs"].as_array().unwrap())
        .filter(|run| run["ending"] == "executed")
        .inspect(|run| assert!(run["startNs"].as_u64() <= run["endNs"].as_u64(), "{run}"))
        .map(|run| run["transaction"].as_u64().unwrap())
        .collect();
    executed.sort_unstable();
    executed.dedup();
    assert_eq!(executed, [0, 1, 2, 3]);
    for stage in ["executeNs", "stateRootNs", "bodyRootsNs", "commitNs"] {
        assert!(profile["whenAdded"][stage].as_u64().unwrap() > 0, "{stage}");
    }
    assert_eq!(client.result("heddle_getBlockProfile", &json!(["0x99"])), Value::Null);
    assert!(client.call("heddle_getBlockProfile", &json!(["0x0"]))["error"].is_object());
    // The chain is as it was.
    assert_eq!(client.result("eth_getBlockByNumber", &json!(["latest", false])), block);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_locations_are_added_up_over_blocks() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let counter = counter(&mut client);
    let mut gas = 0;
    for _ in 0..2 {
        let hashes = [ALICE, BOB]
            .map(|from| sent(&mut client, &json!({"from": from, "to": counter, "gas": "0x30d40"})));
        client.result("evm_mine", &json!([]));
        gas +=
            hashes.map(|hash| number(&receipt(&mut client, &hash)["gasUsed"])).iter().sum::<u64>();
    }
    let hot = client.result("heddle_getHotLocations", &json!(["0x2", "latest"]));
    assert_eq!((number(&hot["gasUsed"]), hot["transactions"].as_u64()), (gas, Some(4)));
    let hottest = &hot["locations"][0];
    assert_eq!(hottest["location"], json!({"kind": "slot", "address": counter, "slot": "0x0"}));
    assert_eq!((&hottest["blocks"], &hottest["transactions"]), (&json!(2), &json!(4)));
    assert_eq!(number(&hottest["gasSerialised"]), gas);
    assert_eq!(number(&hot["criticalPathGas"]), gas);
    let none = client.result("heddle_getHotLocations", &json!(["0x2", "latest", 0]));
    assert_eq!(none["locations"], json!([]));
    let answer = client.call("heddle_getHotLocations", &json!(["latest", "0x1"]));
    assert_eq!(answer["error"]["code"], -32602);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_with_each_other_and_with_what_is_pending_are_predicted() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    let counter = counter(&mut client);
    let from = |number: u8| format!("0x{}", format!("{number:02x}").repeat(20));
    let call = |sender: u8| json!({"from": from(sender), "to": counter});
    let pay = |sender: u8, to: u8| json!({"from": from(sender), "to": from(to)});
    let slot = json!({"kind": "slot", "address": counter, "slot": "0x0"});

    let apart =
        client.result("heddle_predictConflicts", &json!([[pay(1, 11), pay(2, 12), call(3)]]));
    assert_eq!((&apart["isIndependent"], &apart["pending"]), (&json!(true), &json!(0)), "{apart}");
    assert!(apart["speedupPossible"].as_f64().unwrap() > 1.0);

    let together =
        client.result("heddle_predictConflicts", &json!([[call(1), pay(2, 12), call(3)]]));
    assert_eq!(together["isIndependent"], false);
    assert_eq!(together["transactions"][0]["conflicts"], json!([]));
    assert_eq!(together["transactions"][1]["conflicts"], json!([]));
    assert_eq!(
        together["transactions"][2]["conflicts"],
        json!([{"with": {"index": 0}, "location": slot}])
    );
    let used: u64 =
        [0, 2].iter().map(|index| number(&together["transactions"][*index]["gasUsed"])).sum();
    assert_eq!(number(&together["criticalPathGas"]), used);

    // One sender's transactions follow each other by its nonce.
    let one = client.result("heddle_predictConflicts", &json!([[pay(1, 11), pay(1, 12)]]));
    assert_eq!(
        one["transactions"][1]["conflicts"][0],
        json!({"with": {"index": 0}, "location": {"kind": "account", "address": from(1)}})
    );

    let pending = sent(&mut client, &json!({"from": ALICE, "to": counter, "gas": "0x30d40"}));
    let with = client.result("heddle_predictConflicts", &json!([[call(5)]]));
    assert_eq!(with["pending"], 1);
    assert_eq!(
        with["transactions"][0]["conflicts"],
        json!([{"with": {"pending": pending}, "location": slot}])
    );
    let without = client.result("heddle_predictConflicts", &json!([[call(5)], false]));
    assert_eq!(without["isIndependent"], true);
    // A signed transaction, here the pending one itself.
    let raw = client.result("eth_getRawTransactionByHash", &json!([pending]));
    let signed = client.result("heddle_predictConflicts", &json!([[raw, call(5)], false]));
    assert_eq!(signed["transactions"][1]["conflicts"][0]["with"], json!({"index": 0}));

    // Fees that nobody could pay are no fees here.
    let dear = json!({"from": from(1), "to": counter, "gasPrice": format!("{:#x}", u128::MAX)});
    let dear = client.result("heddle_predictConflicts", &json!([[dear, call(5)], false]));
    assert_eq!(dear["transactions"][1]["conflicts"][0]["location"], slot);

    let many: Vec<_> = (0..1_001).map(|_| call(1)).collect();
    assert_eq!(client.call("heddle_predictConflicts", &json!([many]))["error"]["code"], -32005);
    server.stop().await;
}

//! Batches of signed transactions: as if they had come one by one.

mod support;

use serde_json::{Value, json};
use support::{ALICE, Http, dev_config, start};

const RECEIVER: &str = "0x00000000000000000000000000000000000abcde";

fn signed(client: &mut Http, nonce: u64) -> Value {
    let transaction = json!({
        "from": ALICE, "to": RECEIVER, "value": "0x1", "gas": "0x5208",
        "nonce": format!("{nonce:#x}"), "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1",
    });
    client.result("eth_signTransaction", &json!([transaction]))["raw"].clone()
}

fn batch(client: &mut Http, calls: &[Value]) -> Vec<Value> {
    let (status, body) = client.post("localhost", &Value::from(calls).to_string()).unwrap();
    assert_eq!(status, 200);
    serde_json::from_slice(&body).unwrap()
}

fn send(id: u64, raw: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw]})
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transaction_of_a_batch_gets_its_own_answer_in_order() {
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    client.result("evm_setAutomine", &json!([false]));
    let raw: Vec<Value> = (0..4).map(|nonce| signed(&mut client, nonce)).collect();
    let no_signature = {
        // The r of the signature is beyond the order of the curve.
        let text = raw[3].as_str().unwrap();
        let start = text.len() - 2 * (32 + 1 + 32);
        Value::from(format!("{}{}{}", &text[..start], "f".repeat(64), &text[start + 64..]))
    };
    let answers = batch(
        &mut client,
        &[
            send(1, &raw[0]),
            send(2, &json!("0x")),
            send(3, &raw[1]),
            send(4, &raw[0]),
            json!({"jsonrpc": "2.0", "method": "eth_sendRawTransaction", "params": [raw[3]]}),
            json!({"jsonrpc": "2.0", "id": 5, "method": "eth_getTransactionCount", "params": [ALICE, "pending"]}),
            send(6, &no_signature),
            send(7, &raw[2]),
            send(8, &json!(5)),
            json!({"jsonrpc": "2.0", "id": 9, "method": "eth_sendRawTransaction", "params": [raw[2], 1]}),
        ],
    );
    // The notification is not carried out.
    let ids: Vec<u64> = answers.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for index in [0, 2, 6] {
        let hash = &answers[index]["result"];
        let found = client.result("eth_getTransactionByHash", &json!([hash]));
        assert_eq!(found["hash"], *hash, "{answers:?}");
    }
    let error = |index: usize| answers[index]["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(error(1), "typed transaction too short");
    assert_eq!(error(3), "already known");
    // What came before it in the batch is there.
    assert_eq!(answers[4]["result"], "0x2");
    assert_eq!(error(5), "invalid sender: invalid transaction v, r, s values");
    assert_eq!(answers[7]["error"]["code"], -32602);
    assert_eq!(answers[8]["error"]["code"], -32602);

    client.result("evm_mine", &json!([]));
    assert_eq!(client.result("eth_getBalance", &json!([RECEIVER, "latest"])), "0x3");
    // Its sender is known now, and the pool looks at the rest as ever.
    let again = batch(&mut client, &[send(1, &raw[0]), send(2, &raw[3])]);
    let message = again[0]["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("nonce too low"), "{message}");
    assert!(again[1]["result"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_transactions_than_may_wait_for_their_senders_are_told_to_come_again() {
    let mut config = dev_config();
    config.limits.ingress_max = 2;
    let server = start(config).await;
    let mut client = Http::connect(server.local_addr());
    client.result("evm_setAutomine", &json!([false]));
    let raw: Vec<Value> = (0..3).map(|nonce| signed(&mut client, nonce)).collect();
    let three = [send(1, &raw[0]), send(2, &raw[1]), send(3, &raw[2])];
    for answer in batch(&mut client, &three) {
        assert_eq!(answer["error"]["code"], -32005);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.ends_with("try again"), "{message}");
    }
    for answer in batch(&mut client, &three[..2]) {
        assert!(answer["result"].is_string(), "{answer}");
    }
}

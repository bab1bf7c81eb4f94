//! Log queries over many blocks: what they find, and with `HEDDLE_LOGS_BLOCKS=10000`, a million logs, how fast.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{ALICE, Http, dev_config, start};

/// Blocks of the short run; each has a hundred logs.
const BLOCKS: u64 = 300;
const LOGS_PER_BLOCK: u64 = 100;
const SIGNATURE: u64 = 0x7777;
/// Emits a hundred logs: topics are the signature, a number that no other log has (call data + index), index modulo 10.
const DEPLOY: &str =
    "0x601d600c600039601d6000f35f5b80600a90065f35820161777760205fa360010180606411600157 00";

fn word(number: u64) -> String {
    format!("0x{number:064x}")
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_over_many_blocks_find_everything_and_take_little_time() {
    let blocks: u64 = std::env::var("HEDDLE_LOGS_BLOCKS")
        .map_or(BLOCKS, |text| text.parse().expect("HEDDLE_LOGS_BLOCKS is a number"));
    let server = start(dev_config()).await;
    let mut client = Http::connect(server.local_addr());
    client.result("evm_setAutomine", &json!([false]));
    let send = |client: &mut Http, to: &Value, data: &str| {
        let transaction = json!({"from": ALICE, "to": to, "data": data, "gas": "0x50000"});
        let hash = client.result("eth_sendTransaction", &json!([transaction]));
        client.result("evm_mine", &json!([]));
        hash
    };
    let hash = send(&mut client, &Value::Null, &DEPLOY.replace(' ', ""));
    let logger =
        client.result("eth_getTransactionReceipt", &json!([hash]))["contractAddress"].clone();
    let started = Instant::now();
    for block in 0..blocks {
        send(&mut client, &logger, &word(block * LOGS_PER_BLOCK));
    }
    let built = started.elapsed();

    let query = |topics: Value| json!([{"fromBlock": "0x0", "toBlock": "latest", "address": logger, "topics": topics}]);
    // The fastest of several, as another test may take the machine for a moment.
    let mut timed = |params: Value| -> (Value, Duration) {
        let runs = (0..5).map(|_| {
            let started = Instant::now();
            let answer = client.call("eth_getLogs", &params);
            (answer, started.elapsed())
        });
        runs.min_by_key(|(_, time)| *time).expect("several runs")
    };
    let all = blocks * LOGS_PER_BLOCK;
    // One log of all of them.
    let (answer, one) = timed(query(json!([null, word(all / 2)])));
    let found = answer["result"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["topics"], json!([word(SIGNATURE), word(all / 2), word((all / 2) % 10)]));
    // Fifty, all over the chain.
    let wanted: Vec<_> = (0..50).map(|part| word(part * all / 50 + 3)).collect();
    let (answer, fifty) = timed(query(json!([word(SIGNATURE), wanted])));
    assert_eq!(answer["result"].as_array().unwrap().len(), 50);
    // None.
    let (answer, none) = timed(query(json!([null, word(all + 1)])));
    assert_eq!(answer["result"], json!([]));
    // A tenth of all logs: too many where there are a million.
    let (answer, broad) = timed(query(json!([null, null, word(7)])));
    match answer["result"].as_array() {
        Some(found) => assert_eq!(found.len() as u64, all / 10),
        None => assert_eq!(answer["error"]["code"], -32005, "{answer}"),
    }
    let (everything, too_broad) = timed(query(json!([word(SIGNATURE)])));
    if all > 100_000 {
        let message = everything["error"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("query exceeds max results 100000, retry with the range 0-"),
            "{message}"
        );
    } else {
        assert_eq!(everything["result"].as_array().unwrap().len() as u64, all);
    }
    #[expect(clippy::print_stdout, reason = "a measurement is to be seen")]
    {
        println!(
            "{blocks} blocks, {all} logs, built in {built:?}; found one in {one:?}, fifty in {fifty:?}, none in {none:?}, a \
             tenth in {broad:?}, all in {too_broad:?}"
        );
    }
    for time in [one, none] {
        assert!(time < Duration::from_millis(20), "{time:?}");
    }
    server.stop().await;
}

//! The same blocks as other nodes would write them: fields left out, renamed, null, or with their
//! numbers in another form. Each must be read as the same block.

use crate::served::{ServedChain, every_fork};
use alloy_primitives::{U256, hex};
use heddle_chainspec::ChainSpec;
use heddle_node::dev_accounts;
use heddle_replay::{Bundle, ReplayOptions, Replayer, bundle_path, export_bundles};
use serde_json::{Map, Value, json};
use std::{fs, path::Path};

type Object = Map<String, Value>;

/// How one node differs from ours.
struct Dialect {
    name: &'static str,
    header: fn(&mut Object),
    transaction: fn(&mut Object),
    account: fn(&mut Object),
}

const fn keep(_: &mut Object) {}

fn rename(object: &mut Object, from: &str, to: &str) {
    if let Some(value) = object.remove(from) {
        object.insert(to.to_owned(), value);
    }
}

fn remove(object: &mut Object, fields: &[&str]) {
    for field in fields {
        object.remove(*field);
    }
}

fn is_legacy(transaction: &Object) -> bool {
    transaction["type"] == "0x0"
}

/// Each quantity of these as `form` writes it.
fn rewrite(object: &mut Object, fields: &[&str], form: fn(U256) -> Value) {
    for field in fields {
        if let Some(Value::String(text)) = object.get(*field) {
            let number = text.parse().expect("a quantity");
            object.insert((*field).to_owned(), form(number));
        }
    }
}

const HEADER_NUMBERS: [&str; 8] = [
    "number",
    "difficulty",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
];
const TRANSACTION_NUMBERS: [&str; 10] = [
    "nonce",
    "gas",
    "gasPrice",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "value",
    "v",
    "chainId",
    "maxFeePerBlobGas",
    "type",
];

const DIALECTS: [Dialect; 6] = [
    Dialect {
        name: "from before typed transactions",
        header: |block| remove(block, &["size", "hash", "totalDifficulty"]),
        transaction: |tx| {
            if is_legacy(tx) {
                remove(tx, &["type", "chainId", "yParity", "accessList"]);
            }
        },
        account: keep,
    },
    Dialect {
        name: "with other names",
        header: keep,
        transaction: |tx| {
            rename(tx, "input", "data");
            rename(tx, "gas", "gasLimit");
        },
        account: keep,
    },
    Dialect {
        name: "with both names, and types to be guessed",
        header: keep,
        transaction: |tx| {
            let (input, gas) = (tx["input"].clone(), tx["gas"].clone());
            tx.insert("data".to_owned(), input);
            tx.insert("gasLimit".to_owned(), gas);
            if is_legacy(tx) {
                tx.insert("accessList".to_owned(), json!([]));
            }
            tx.remove("type");
        },
        account: keep,
    },
    Dialect {
        name: "with null for what there is not",
        header: |block| {
            let fields = [
                "baseFeePerGas",
                "withdrawalsRoot",
                "withdrawals",
                "blobGasUsed",
                "excessBlobGas",
                "parentBeaconBlockRoot",
                "requestsHash",
            ];
            for field in fields {
                block.entry(field).or_insert(Value::Null);
            }
        },
        transaction: |tx| {
            let fields = [
                "to",
                "chainId",
                "accessList",
                "blobVersionedHashes",
                "authorizationList",
                "maxFeePerGas",
                "maxPriorityFeePerGas",
                "maxFeePerBlobGas",
                "yParity",
            ];
            for field in fields {
                tx.entry(field).or_insert(Value::Null);
            }
        },
        account: |account| {
            for field in ["code", "storage"] {
                account.entry(field).or_insert(Value::Null);
            }
        },
    },
    Dialect {
        name: "with numbers as numbers where they fit",
        header: |block| rewrite(block, &HEADER_NUMBERS, number),
        transaction: |tx| {
            rewrite(tx, &TRANSACTION_NUMBERS, number);
            if tx["to"].is_null() {
                tx.insert("to".to_owned(), json!("0x"));
            }
        },
        account: |account| rewrite(account, &["balance"], number),
    },
    Dialect {
        name: "with decimal text, parity by one name, and words without prefix",
        header: |block| rewrite(block, &HEADER_NUMBERS, decimal),
        transaction: |tx| {
            rewrite(tx, &TRANSACTION_NUMBERS, decimal);
            if tx.contains_key("yParity") {
                tx.remove("v");
            }
            tx.remove("from");
        },
        account: |account| {
            rewrite(account, &["balance"], decimal);
            if let Some(Value::Object(storage)) = account.get_mut("storage") {
                let bare = |text: &str| text.trim_start_matches("0x").to_owned();
                *storage = std::mem::take(storage)
                    .into_iter()
                    .map(|(slot, value)| (bare(&slot), bare(value.as_str().unwrap()).into()))
                    .collect();
            }
        },
    },
];

fn number(number: U256) -> Value {
    u64::try_from(number).map_or_else(|_| decimal(number), Value::from)
}

fn decimal(number: U256) -> Value {
    number.to_string().into()
}

fn in_dialect(bundle: &Value, dialect: &Dialect) -> Value {
    let mut bundle = bundle.clone();
    for account in bundle["prestate"].as_object_mut().expect("an object").values_mut() {
        if let Value::Object(account) = account {
            (dialect.account)(account);
        }
    }
    let block = bundle["block"].as_object_mut().expect("an object");
    for transaction in block["transactions"].as_array_mut().expect("a list") {
        (dialect.transaction)(transaction.as_object_mut().expect("an object"));
    }
    (dialect.header)(block);
    bundle
}

/// Types of the transactions that were seen.
fn check(directory: &Path, blocks: u64) -> Vec<u8> {
    let replayer = Replayer::new(ReplayOptions::default()).expect("threads can be started");
    let mut types = Vec::new();
    for number in 1..=blocks {
        let path = bundle_path(directory, number);
        let file = fs::File::open(&path).expect("it was written");
        let json: Value =
            serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("it is JSON");
        let ours = Bundle::read(&path).expect("a bundle");
        types.extend(ours.transactions.iter().map(|tx| u8::from(tx.transaction.tx_type())));
        for dialect in &DIALECTS {
            let name = dialect.name;
            let theirs = in_dialect(&json, dialect).to_string();
            let theirs = Bundle::parse(&path, theirs.as_bytes())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(theirs.header, ours.header, "{name}, block {number}");
            for (theirs, ours) in theirs.transactions.iter().zip(&ours.transactions) {
                assert_eq!(theirs.transaction, ours.transaction, "{name}, block {number}");
            }
            let report = replayer.replay(&theirs).expect("the bundle brings its rules");
            assert_eq!(report.mismatch, None, "{name}, block {number}");
        }
    }
    types
}

async fn check_chain(served: ServedChain) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let blocks = served.chain.head().number();
    export_bundles(&served.chain, 1..=blocks, directory.path(), |_| {}).expect("it is whole");
    let types = check(directory.path(), blocks);
    served.stop().await;
    types
}

#[tokio::test(flavor = "multi_thread")]
async fn a_development_chain_is_understood_in_every_dialect() {
    let served = ServedChain::start(ChainSpec::dev(), None).await;
    let to = dev_accounts()[9].address;
    let list = json!([{ "address": to, "storageKeys": [format!("0x{}", hex::encode([7; 32]))] }]);
    served.send(0, json!({ "to": to, "value": "0x1", "gasPrice": "0x77359400" })).await;
    served.send(1, json!({ "to": to, "gasPrice": "0x77359400", "accessList": list })).await;
    served.send(2, json!({ "to": to, "value": "0x1" })).await;
    served.send(3, json!({ "data": "0x600160015500" })).await;
    served.call("evm_mine", &[]).await;
    assert_eq!(check_chain(served).await, [0, 1, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_through_every_fork_is_understood_in_every_dialect() {
    let Some((spec, file)) = every_fork() else { return };
    let types = check_chain(ServedChain::start(spec, Some(file)).await).await;
    for kind in 0..=4 {
        assert!(types.contains(&kind), "a transaction of type {kind}");
    }
}

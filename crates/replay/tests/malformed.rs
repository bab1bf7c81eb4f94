//! What is no bundle is refused with the place of the fault, and without a panic.

use flate2::{Compression, write::GzEncoder};
use heddle_chainspec::ChainSpec;
use heddle_replay::{Bundle, ReplayError, ReplayOptions, Replayer, find_bundles};
use serde_json::{Value, json};
use std::{fs, io::Write};

/// An empty block of mainnet.
fn empty_block() -> Value {
    json!({
        "chainId": 1,
        "block": {
            "number": "0x5", "parentHash": format!("0x{}", "11".repeat(32)),
            "miner": "0x00000000000000000000000000000000000000aa",
            "receiptsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "gasLimit": 5000, "gasUsed": "0x0", "timestamp": "1438269988", "transactions": []
        },
        "prestate": {},
        "blockHashes": {}
    })
}

fn transaction() -> Value {
    json!({
        "from": "0x00000000000000000000000000000000000000bb", "nonce": "0x0", "gas": "0x5208",
        "gasPrice": "0x1", "to": null, "value": "0x0", "input": "0x"
    })
}

fn error(bundle: &Value) -> String {
    match Bundle::parse("b.json", bundle.to_string().as_bytes()) {
        Ok(_) => panic!("this is no bundle: {bundle}"),
        Err(error) => error.to_string(),
    }
}

/// The empty block with one value changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut bundle = empty_block();
    let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
    bundle.pointer_mut(parent).expect("the parent is there")[key] = value;
    bundle
}

#[test]
fn an_empty_block_verifies_under_whatever_name_its_numbers_have() {
    let bundle = Bundle::parse("b", empty_block().to_string().as_bytes()).expect("a bundle");
    let replayer = Replayer::new(ReplayOptions::default()).expect("threads can be started");
    let report = replayer.replay(&bundle).expect("mainnet is known");
    assert!(report.line.verified, "{:?}", report.mismatch);
    assert_eq!((report.line.spec.as_str(), report.line.max_speedup), ("Frontier", None));
    assert_eq!(report.line.checks.receipts_root, None);
}

#[test]
fn a_wrong_value_is_refused_with_its_json_path() {
    let cases = [
        (json!([]), "$"),
        (json!({}), "$: missing field `chainId`"),
        (with("/chainId", json!("one")), "chainId"),
        (with("/block/gasUsed", json!("0xzz")), "block.gasUsed"),
        (with("/block/number", json!("0x10000000000000000")), "block.number"),
        (with("/block/logsBloom", json!("0x00")), "block.logsBloom"),
        (with("/block/transactions", json!(["0xabcd"])), "block.transactions[0]"),
        (with("/block/transactions", json!([{}])), "block.transactions[0]"),
        (with("/prestate/0xaa", json!({})), "prestate"),
        (
            with("/prestate/0x00000000000000000000000000000000000000bb", json!({ "nonce": -1 })),
            "prestate.0x00000000000000000000000000000000000000bb.nonce",
        ),
        (
            with(
                "/prestate/0x00000000000000000000000000000000000000bb",
                json!({ "storage": { "0x1": "many" } }),
            ),
            "prestate.0x00000000000000000000000000000000000000bb.storage",
        ),
        (
            with(
                "/prestate/0x00000000000000000000000000000000000000bb",
                json!({ "code": "0xef01" }),
            ),
            "prestate.0x00000000000000000000000000000000000000bB.code",
        ),
        (with("/blockHashes/x", json!("0x00")), "blockHashes"),
    ];
    for (bundle, at) in cases {
        let error = error(&bundle);
        let place = error.strip_prefix("b.json: ").expect("the file is named");
        assert!(place.to_lowercase().starts_with(&at.to_lowercase()), "{at}: {error}");
    }
}

#[test]
fn a_transaction_that_lacks_what_its_type_needs_is_refused_with_the_field() {
    let cases = [
        ("from", Value::Null, "block.transactions[0].from"),
        ("gasPrice", Value::Null, "block.transactions[0].gasPrice"),
        ("type", json!("0x7f"), "block.transactions[0].type"),
        ("type", json!("0x2"), "block.transactions[0].chainId"),
        ("type", json!("0x3"), "block.transactions[0].chainId"),
        ("authorizationList", json!([]), "block.transactions[0].chainId"),
    ];
    for (field, value, at) in cases {
        let mut transaction = transaction();
        transaction[field] = value;
        let error = error(&with("/block/transactions", json!([transaction])));
        assert!(error.starts_with(&format!("b.json: {at}: ")), "{error}");
    }
    for v in ["0x2", "0x22", "0xffffffffffffffffffffffffffffffffff"] {
        let mut transaction = transaction();
        (transaction["r"], transaction["s"], transaction["v"]) =
            (json!("0x1"), json!("0x1"), json!(v));
        let error = error(&with("/block/transactions", json!([transaction])));
        assert!(error.starts_with("b.json: block.transactions[0].v: "), "{error}");
    }
}

#[test]
fn damaged_files_are_errors_that_name_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("it can be written");
        path
    };
    let text = empty_block().to_string();
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(text.as_bytes()).expect("in memory");
    let compressed = compressed.finish().expect("in memory");

    assert!(Bundle::read(file("5.json.gz", &compressed)).is_ok());
    assert!(Bundle::read(file("4.json", text.as_bytes())).is_ok());
    let named = find_bundles(&[directory.path()]).expect("two bundles");
    assert!(named[0].ends_with("4.json") && named[1].ends_with("5.json.gz"));

    let cut = file("cut.gz", &compressed[..compressed.len() / 2]);
    assert!(matches!(Bundle::read(&cut), Err(ReplayError::Read { path, .. }) if path == cut));
    for bytes in [&b""[..], b"{", b"\xff\xfe", b"null", b"[[[[[[", b"{}{}"] {
        let path = file("bad.json", bytes);
        let error = Bundle::read(&path).expect_err("this is no bundle");
        assert!(matches!(&error, ReplayError::Invalid { path: named, .. } if *named == path));
    }
    let nested = format!("{{\"chainId\": {}", "[".repeat(100_000));
    assert!(Bundle::read(file("deep.json", nested.as_bytes())).is_err());
    assert!(Bundle::read(directory.path().join("absent.json")).is_err());
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).expect("it can be made");
    assert!(matches!(find_bundles(&[&empty]), Err(ReplayError::NoBundle { .. })));
}

#[test]
fn a_chain_without_rules_is_an_error_and_with_its_genesis_file_none() {
    let bundle = with("/chainId", json!(31_338));
    let bundle = Bundle::parse("b.json", bundle.to_string().as_bytes()).expect("a bundle");
    let replayer = Replayer::new(ReplayOptions::default()).expect("threads can be started");
    let error = replayer.replay(&bundle).expect_err("the chain is not known");
    assert!(matches!(error, ReplayError::UnknownChain { chain_id: 31_338, .. }));
    let genesis = include_str!("../../../genesis/dev.json").replace("31337", "31338");
    let spec = ChainSpec::from_genesis_json(&genesis).expect("it is a genesis file");
    let report = replayer.with_chain(spec).replay(&bundle).expect("now it is");
    // Its rules want what this old block has not.
    assert!(!report.line.verified);
    assert!(report.mismatch.is_some());
}

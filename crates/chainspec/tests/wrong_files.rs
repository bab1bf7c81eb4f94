//! A genesis file that is wrong is refused with the path of what is wrong.

use heddle_chainspec::{ChainSpec, ChainSpecError};
use serde_json::{Value, json};

/// A sound file to break: every fork active at genesis up to Osaka, one account.
fn sound() -> Value {
    json!({
        "config": {
            "chainId": 7,
            "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "muirGlacierBlock": 0, "berlinBlock": 0, "londonBlock": 0, "mergeNetsplitBlock": 0,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0, "bpo1Time": 100,
            "terminalTotalDifficulty": 0,
            "blobSchedule": {
                "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
                "bpo1": {"target": 10, "max": 15, "baseFeeUpdateFraction": 8346193}
            }
        },
        "gasLimit": "0x1c9c380",
        "difficulty": "0x0",
        "alloc": {
            "00000000000000000000000000000000000000aa": {"balance": "1", "storage": {"0x1": "0x2"}}
        }
    })
}

/// Sets the value at a slash-separated path; `null` removes it.
fn set(file: &mut Value, path: &str, value: Value) {
    let mut steps: Vec<&str> = path.split('/').collect();
    let last = steps.pop().expect("a path has at least one step");
    let parent = steps.into_iter().fold(file, |value, step| &mut value[step]);
    match value {
        Value::Null => drop(parent.as_object_mut().expect("an object").remove(last)),
        value => parent[last] = value,
    }
}

#[track_caller]
fn assert_refused(json: &str, path: &str, reason: &str) {
    let error = ChainSpec::from_genesis_json(json).expect_err("the file is wrong");
    match &error {
        ChainSpecError::Invalid { path: actual, reason: said } => {
            assert_eq!(actual, path, "{error}");
            assert!(said.contains(reason), "{error}");
        }
        other => panic!("expected an error at {path}, got {other}"),
    }
}

#[test]
fn the_file_that_the_other_tests_break_is_sound() {
    ChainSpec::from_genesis_json(&sound().to_string()).unwrap();
}

#[test]
fn a_wrong_value_is_named_by_its_path() {
    const ACCOUNT: &str = "alloc/00000000000000000000000000000000000000aa";
    const ACCOUNT_PATH: &str = "alloc.00000000000000000000000000000000000000aa";
    let account = |field: &str| {
        (format!("{ACCOUNT}/{field}"), format!("{ACCOUNT_PATH}.{}", field.replace('/', ".")))
    };
    let at = |path: &str| (path.to_owned(), path.replace('/', "."));
    // Of two forks out of order, the later one is at fault.
    let between = |earlier: &str, later: &str| (earlier.to_owned(), later.to_owned());

    let cases: Vec<((String, String), Value, &str)> = vec![
        // Of the wrong form.
        (account("balance"), json!("0xzz"), "invalid number \"0xzz\""),
        (account("balance"), json!("-1"), "invalid number"),
        (account("balance"), json!(format!("0x1{}", "0".repeat(64))), "at most 256 bits"),
        (account("nonce"), json!("0x10000000000000000"), "at most 64 bits"),
        (account("code"), json!("0x6"), "valid hex string"),
        (account("code"), json!("0xgg"), "invalid"),
        (account("storage/0x1"), json!(format!("0x{}", "1".repeat(65))), "invalid storage value"),
        (account("storage/slot"), json!("0x1"), "invalid storage slot"),
        (account("storage"), json!([]), "storage values by slot"),
        (account("storage/1"), json!("0x1"), "given twice"),
        (at("alloc/0x00"), json!({"balance": "0"}), "invalid address"),
        (
            at("alloc/0x00000000000000000000000000000000000000AA"),
            json!({"balance": "0"}),
            "given twice",
        ),
        (at("alloc"), json!([]), "accounts by address"),
        (at("gasLimit"), json!("lots"), "invalid number"),
        (at("mixHash"), json!("0x12"), "invalid"),
        (at("coinbase"), json!("0x12"), "invalid"),
        (at("extraData"), json!(5), "invalid type"),
        (at("config/chainId"), json!("seven"), "invalid type"),
        (at("config/londonBlock"), json!("soon"), "invalid"),
        (at("config/londonBlock"), json!(-1), "invalid"),
        (at("config/osakaTime"), json!(1.5), "invalid"),
        (at("config/terminalTotalDifficulty"), json!("x"), "digit"),
        (at("config/depositContractAddress"), json!("0x12"), "invalid"),
        (at("config/blobSchedule/cancun/max"), json!("six"), "invalid type"),
        // Missing.
        (at("config"), Value::Null, "is required"),
        (at("config/chainId"), Value::Null, "is required"),
        (at("gasLimit"), Value::Null, "is required"),
        (at("alloc"), Value::Null, "is required"),
        (at("config/berlinBlock"), Value::Null, "because config.londonBlock is set"),
        (at("config/londonBlock"), Value::Null, "because config.mergeNetsplitBlock is set"),
        (at("config/shanghaiTime"), Value::Null, "because config.cancunTime is set (time 0)"),
        (at("config/cancunTime"), Value::Null, "because config.pragueTime is set"),
        (at("config/pragueTime"), Value::Null, "because config.osakaTime is set"),
        (at("config/osakaTime"), Value::Null, "because config.bpo1Time is set (time 100)"),
        (at("config/blobSchedule/bpo1"), Value::Null, "because config.bpo1Time is set"),
        // Contradictory.
        (at("gasLimit"), json!(0), "must be between 1 and"),
        (at("gasLimit"), json!("0x8000000000000000"), "must be between 1 and"),
        (at("config/chainId"), json!(0), "EIP-2294"),
        (at("config/chainId"), json!(u64::MAX), "EIP-2294"),
        (
            between("config/petersburgBlock", "config.istanbulBlock"),
            json!(5),
            "comes before config.petersburgBlock at 5",
        ),
        (
            between("config/shanghaiTime", "config.cancunTime"),
            json!(5),
            "comes before config.shanghaiTime at 5",
        ),
        (at("config/blobSchedule/cancun/target"), json!(7), "7 is more than 6"),
        (at("config/blobSchedule/cancun/max"), json!(0), "between 1 and"),
        (at("config/blobSchedule/cancun/max"), json!(u64::MAX), "between 1 and"),
        (at("config/blobSchedule/bpo1/baseFeeUpdateFraction"), json!(0), "must not be 0"),
        (at("config/parlia"), json!({"period": 3}), "not supported"),
    ];
    for ((pointer, path), value, reason) in cases {
        let mut file = sound();
        set(&mut file, &pointer, value);
        assert_refused(&file.to_string(), &path, reason);
    }
}

#[test]
fn a_missing_field_of_an_account_or_a_blob_entry_is_named() {
    let mut file = sound();
    set(&mut file, "alloc/00000000000000000000000000000000000000aa/balance", Value::Null);
    let account = "alloc.00000000000000000000000000000000000000aa";
    assert_refused(&file.to_string(), account, "missing field `balance`");

    let mut file = sound();
    set(&mut file, "config/blobSchedule/bpo1/target", Value::Null);
    assert_refused(&file.to_string(), "config.blobSchedule.bpo1", "missing field `target`");
}

#[test]
fn forks_that_follow_from_one_another_must_agree() {
    let mut file = sound();
    set(&mut file, "config/eip158Block", json!(1));
    set(&mut file, "config/byzantiumBlock", json!(1));
    for field in [
        "constantinople",
        "petersburg",
        "istanbul",
        "muirGlacier",
        "berlin",
        "london",
        "mergeNetsplit",
    ] {
        set(&mut file, &format!("config/{field}Block"), json!(1));
    }
    assert_refused(&file.to_string(), "config.eip158Block", "the same as config.eip155Block");

    let mut file = sound();
    for field in ["london", "mergeNetsplit"] {
        set(&mut file, &format!("config/{field}Block"), json!(9));
    }
    assert_refused(
        &file.to_string(),
        "config.shanghaiTime",
        "config.londonBlock takes effect only at block 9",
    );

    let mut file = sound();
    set(&mut file, "config/terminalTotalDifficulty", json!(1000));
    set(&mut file, "config/clique", json!({"period": 5, "epoch": 30000}));
    assert_refused(&file.to_string(), "config.clique", "not supported");
}

#[test]
fn text_that_is_not_json_is_a_syntax_error_with_its_place() {
    for text in
        ["", "{", "{]", "not json", "{\"config\": {\"chainId\": 7}} trailing", "{\"config\" 7}"]
    {
        let error = ChainSpec::from_genesis_json(text).expect_err("not JSON");
        assert!(matches!(error, ChainSpecError::Syntax { .. }), "{text}: {error}");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
    assert_refused("[]", "the genesis file", "invalid");
    assert_refused("7", "the genesis file", "invalid type");
}

#[test]
fn a_long_wrong_value_does_not_make_a_long_message() {
    let mut file = sound();
    let code = format!("0x{}", "é6".repeat(50_000));
    set(&mut file, "alloc/00000000000000000000000000000000000000aa/code", json!(code));
    let error = ChainSpec::from_genesis_json(&file.to_string()).unwrap_err().to_string();
    assert!(error.chars().count() < 500, "{} bytes", error.len());
    assert!(error.contains(".code: invalid value") && error.contains("at line 1"), "{error}");
}

#[test]
fn a_field_given_twice_is_refused() {
    let file = r#"{"config": {"chainId": 7}, "alloc": {}, "gasLimit": 5000, "gasLimit": 6000}"#;
    assert_refused(file, "the genesis file", "duplicate field");
}

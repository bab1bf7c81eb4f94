//! Whatever lies in a directory of tests is judged, skipped with a reason, or failed; nothing stops
//! the run.

use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_primitives::{B256, hex};
use flate2::{Compression, write::GzEncoder};
use heddle_chain::GenesisBlock;
use heddle_chainspec::{ChainSpec, Genesis};
use heddle_conformance::{Report, Suite, Verdict, chain_config};
use serde_json::{Value, json};
use std::{fs, io::Write, path::Path};

/// A test with the genesis block alone.
fn test(network: &str, blocks: &Value) -> Value {
    let rules = network.split_once("To").map_or(network, |(base, _)| base);
    let known = chain_config(rules, &Default::default()).unwrap_or_default();
    let genesis = Genesis { config: known, gas_limit: 5_000, ..Default::default() };
    let spec = ChainSpec::from_genesis(genesis).expect("it is consistent");
    let block = GenesisBlock::new(&spec).expect("it has an allocation");
    let header: Header = block.header;
    assert_eq!(header.ommers_hash, EMPTY_OMMER_ROOT_HASH);
    let body = alloy_consensus::Block::<heddle_evm::Transaction> {
        header: header.clone(),
        body: alloy_consensus::BlockBody {
            withdrawals: header.withdrawals_root.map(|_| Default::default()),
            ..Default::default()
        },
    };
    json!({
        "_info": {}, "network": network, "sealEngine": "NoProof",
        "genesisBlockHeader": {},
        "genesisRLP": hex::encode_prefixed(alloy_rlp::encode(body)),
        "pre": {}, "postState": {}, "blocks": blocks,
        "lastblockhash": header.hash_slow(),
    })
}

fn run(directory: &Path) -> Report {
    Suite::new(directory).run(2, |_| true).expect("the files are readable")
}

fn verdict<'a>(report: &'a Report, file: &str, name: &str) -> &'a Verdict {
    let results = report.results().iter();
    let mut of = results.filter(|result| result.file.ends_with(file) && result.name == name);
    &of.next().unwrap_or_else(|| panic!("{file} {name}: {report}")).verdict
}

fn skipped(reason: &str) -> Verdict {
    Verdict::Skipped(reason.to_owned())
}

#[test]
fn every_kind_of_file_gets_its_verdict() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(path, bytes).expect("writable");
    };
    let write_json = |name: &str, json: &Value| write(name, json.to_string().as_bytes());

    write_json("valid.json", &json!({ "t": test("London", &json!([])) }));
    let mut deep = GzEncoder::new(Vec::new(), Compression::fast());
    let tests = json!({ "t": test("Cancun", &json!([])) });
    deep.write_all(tests.to_string().as_bytes()).expect("in memory");
    write("a/b/c/d/e/deep.json.gz", &deep.finish().expect("in memory"));
    let mut newer = test("Prague", &json!([]));
    newer["config"] = json!({
        "network": "Prague", "chainid": "0x01",
        "blobSchedule": { "Cancun": { "target": "0x03", "max": "0x06", "baseFeeUpdateFraction": "0x32f0ed" } }
    });
    newer["postState"] = Value::Null;
    let genesis_root = B256::from(alloy_primitives::b256!(
        "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    ));
    newer["postStateHash"] = json!(genesis_root);
    write_json("newer.json", &json!({ "t": newer }));
    let undecodable = json!([
        { "rlp": "0x", "expectException": "BlockException.RLP_STRUCTURES_ENCODING" },
        { "rlp": "0xc0", "expectException": "BlockException.RLP_STRUCTURES_ENCODING", "hasBigInt": "true" },
        { "rlp": "0xzz", "expectException": "BlockException.RLP_STRUCTURES_ENCODING" },
        { "rlp": "0xf8", "expectException": "BlockException.RLP_STRUCTURES_ENCODING", "rlp_decoded": {} },
    ]);
    write_json("undecodable.json", &json!({ "t": test("Berlin", &undecodable) }));
    let named_wrong = json!([{ "rlp": "0xc0", "blocknumber": "1" }]);
    write_json("wrong.json", &json!({ "t": test("Berlin", &named_wrong) }));
    for (name, network) in [
        ("transition", "ShanghaiToCancunAtTime15k"),
        ("osaka", "Osaka"),
        ("bpo", "BPO1ToBPO2AtTime15k"),
        ("constantinople", "ByzantiumToConstantinopleFixAt5"),
        ("unfixed", "Constantinople"),
    ] {
        write_json(&format!("networks/{name}.json"), &json!({ "t": test(network, &json!([])) }));
    }
    let mut future = test("Osaka", &json!([]));
    for network in ["Amsterdam", "BPO2ToAmsterdamAtTime15k"] {
        future["network"] = network.into();
        write_json(&format!("networks/{network}.json"), &json!({ "t": future.clone() }));
    }
    future["network"] = "Nowhere".into();
    write_json("networks/nowhere.json", &json!({ "t": future }));

    write_json("package.json", &json!({ "name": "x", "dependencies": {} }));
    write_json("list.json", &json!([1, 2]));
    write_json(
        "state.json",
        &json!({ "s": { "pre": {}, "post": {}, "transaction": {}, "env": {} } }),
    );
    write_json("engine.json", &json!({ "e": { "engineNewPayloads": [], "network": "Cancun" } }));
    write("broken.json", b"{");
    write(".meta/index.json", b"{}");
    write("README.md", b"# Tests");

    let report = run(directory.path());
    let passed = [
        "valid.json",
        "deep.json.gz",
        "newer.json",
        "undecodable.json",
        "networks/transition.json",
        "networks/osaka.json",
        "networks/bpo.json",
        "networks/constantinople.json",
        "networks/unfixed.json",
    ];
    for file in passed {
        assert_eq!(verdict(&report, file, "t"), &Verdict::Passed, "{file}");
    }
    let to_come = skipped("the fork Amsterdam is not supported");
    assert_eq!(verdict(&report, "Amsterdam.json", "t"), &to_come);
    assert_eq!(verdict(&report, "BPO2ToAmsterdamAtTime15k.json", "t"), &to_come);
    assert_eq!(verdict(&report, "package.json", ""), &skipped("not a file of tests"));
    assert_eq!(verdict(&report, "list.json", ""), &skipped("not a file of tests"));
    assert_eq!(verdict(&report, "state.json", "s"), &skipped("a state test"));
    assert_eq!(verdict(&report, "engine.json", "e"), &skipped("an engine test"));
    for (file, name, reason) in [
        ("wrong.json", "t", "block 0"),
        ("nowhere.json", "t", "the network Nowhere is not known"),
        ("broken.json", "", "not JSON"),
    ] {
        let verdict = verdict(&report, file, name);
        assert!(
            matches!(verdict, Verdict::Failed(given) if given.starts_with(reason)),
            "{verdict:?}"
        );
    }
    assert!(!report.is_success());
    let last = report.to_string().lines().last().map(str::to_owned);
    assert_eq!(last.as_deref(), Some("9 passed, 3 failed, 6 skipped"));
}

#[test]
fn a_single_file_and_a_directory_without_tests_are_taken_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(!run(directory.path()).is_success(), "nothing was tested");
    let file = directory.path().join("one.json");
    fs::write(&file, json!({ "t": test("Istanbul", &json!([])) }).to_string()).expect("writable");
    let report = run(&file);
    assert!(report.is_success());
    assert_eq!(verdict(&report, "one.json", "t"), &Verdict::Passed);
    assert!(Suite::new(directory.path().join("absent")).run(2, |_| true).is_err());
}

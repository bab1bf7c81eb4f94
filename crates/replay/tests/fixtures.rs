//! The shared mainnet bundles: every one verifies, and what was tampered with is found.

mod shared_bundles;

use heddle_replay::{Bundle, ReplayOptions, Replayer, Summary};
use shared_bundles::bundles;
use std::env;

#[test]
fn every_shared_mainnet_block_verifies_on_1_2_4_and_8_workers() {
    let repeat = env::var("HEDDLE_REPLAY_REPEAT").map_or(2, |n| n.parse().expect("a number"));
    let replayers = [1, 2, 4, 8].map(|workers| {
        let options = ReplayOptions { workers, repeat, ..Default::default() };
        Replayer::new(options).expect("threads can be started")
    });
    let mut lines = Vec::new();
    for path in bundles() {
        let bundle = Bundle::read(&path).expect("a bundle");
        for replayer in &replayers {
            let report = replayer.replay(&bundle).expect("mainnet is known");
            let line = report.line;
            let mismatch = report.mismatch.map(|mismatch| mismatch.to_string());
            assert!(line.verified, "{}: {}", path.display(), mismatch.unwrap_or_default());
            assert_eq!(line.checks.receipts_root, (line.number >= 4_370_000).then_some(true));
            let ommers_only = report.notes.iter().all(|note| note.contains("ommer"));
            assert!(ommers_only, "header and transactions are whole: {:?}", report.notes);
            assert_eq!(report.graph.total_gas(), line.gas);
            assert!(line.critical_path_gas <= line.gas);
            lines.push(line);
        }
    }
    let summary = Summary::new(&lines);
    assert_eq!(summary.verified, summary.blocks);
}

/// How near the simulation comes to the clock depends on what else the machine does, so that is
/// asserted where it is quiet: `make simulation`.
#[test]
fn a_simulation_has_its_curve_its_bound_and_what_it_is_held_against() {
    let options = ReplayOptions { simulate: true, ..Default::default() };
    let replayer = Replayer::new(options).expect("threads can be started");
    for path in bundles().iter().step_by(7) {
        let bundle = Bundle::read(path).expect("a bundle");
        let report = replayer.replay(&bundle).expect("mainnet is known");
        let scale = report.scale.expect("a block that verifies can be simulated");
        let simulated = scale.simulated.iter().map(|run| run.workers);
        assert_eq!(simulated.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64]);
        assert!(scale.simulated.iter().all(|run| run.elapsed_ms > 0.0), "{:?}", scale.simulated);
        assert_eq!(scale.simulated_as_measured, scale.simulated[1]);
        let total: u64 = scale.transaction_ns.iter().sum();
        let path = scale.critical_path_ns.weight;
        assert!(path <= total && (path > 0 || bundle.transactions.is_empty()));
        // No schedule beats the critical path; slower runs and what is around them come on top.
        let best = scale.simulated.iter().map(|run| run.elapsed_ms).fold(f64::MAX, f64::min);
        assert!(best * 1e6 >= path as f64, "{best} ms against {path} ns");
        let line = report.line.simulation.expect("it is in the line");
        assert!(line.measured_ms > 0.0 && line.deviation.is_finite());
        assert_eq!(line.deviation, scale.deviation());
    }
}

/// The JSON of a shared bundle, to tamper with.
fn json(number: u64) -> Option<serde_json::Value> {
    let name = format!("{number}.json.gz");
    let path = bundles().into_iter().find(|path| path.ends_with(&name))?;
    let file = std::fs::File::open(path).expect("the fixture is readable");
    Some(serde_json::from_reader(flate2::read::MultiGzDecoder::new(file)).expect("it is JSON"))
}

fn replay(bundle: &serde_json::Value, options: ReplayOptions) -> heddle_replay::BlockReport {
    let bundle = Bundle::parse("tampered", bundle.to_string().as_bytes()).expect("a bundle");
    let replayer = Replayer::new(options).expect("threads can be started");
    replayer.replay(&bundle).expect("mainnet is known")
}

#[test]
fn a_tampered_transaction_is_named_by_its_hash_or_sender() {
    let Some(mut bundle) = json(19_426_587) else { return };
    let hash = bundle["block"]["transactions"][7]["hash"].clone();
    bundle["block"]["transactions"][7]["value"] = "0x123456789".into();
    let report = replay(&bundle, ReplayOptions::default());
    assert!(!report.line.verified);
    let mismatch = report.mismatch.expect("it does not verify");
    assert_eq!((mismatch.transaction, mismatch.field.as_str()), (Some(7), "hash"));
    assert_eq!(serde_json::to_value(mismatch.hash).unwrap(), hash);

    let transaction = bundle["block"]["transactions"][7].as_object_mut().unwrap();
    transaction.remove("hash");
    let mismatch = replay(&bundle, ReplayOptions::default()).mismatch.expect("as before");
    assert_eq!((mismatch.transaction, mismatch.field.as_str()), (Some(7), "from"));
}

#[test]
fn a_transaction_that_was_left_out_shows_in_gas_and_transactions_root() {
    let Some(mut bundle) = json(19_426_587) else { return };
    bundle["block"]["transactions"].as_array_mut().unwrap().pop();
    let report = replay(&bundle, ReplayOptions::default());
    assert_eq!(report.line.checks.gas_used, Some(false));
    assert!(report.notes.iter().any(|note| note.contains("have the root")), "{:?}", report.notes);
}

#[test]
fn a_sender_that_cannot_pay_is_named_and_the_line_still_written() {
    let Some(mut bundle) = json(4_370_000) else { return };
    let sender = bundle["block"]["transactions"][40]["from"].as_str().unwrap().to_owned();
    bundle["prestate"][&sender]["balance"] = "0x0".into();
    let first = bundle["block"]["transactions"].as_array().unwrap().iter();
    let first = first.clone().position(|transaction| transaction["from"] == *sender);
    let report = replay(&bundle, ReplayOptions { workers: 4, ..Default::default() });
    let mismatch = report.mismatch.expect("it does not verify");
    assert_eq!(mismatch.transaction, first);
    let line = serde_json::to_value(&report.line).unwrap();
    assert_eq!((&line["verified"], &line["spec"]), (&false.into(), &"Byzantium".into()));
    assert_eq!(line["checks"]["receiptsRoot"], false);
    assert!(line["sequential_ms"].is_null() && line["speedup"].is_null());
}

#[test]
fn a_header_that_execution_contradicts_fails_the_check_of_that_field() {
    let Some(original) = json(19_933_122) else { return };
    let wrong = |field: &str, value: String| {
        let mut bundle = original.clone();
        bundle["block"][field] = value.into();
        let report = replay(&bundle, ReplayOptions::default());
        assert!(!report.line.verified);
        assert!(report.notes.iter().any(|note| note.contains("not to")), "{:?}", report.notes);
        (report.line.checks, report.mismatch.expect("it does not verify"))
    };
    let (checks, mismatch) = wrong("receiptsRoot", format!("0x{}", "11".repeat(32)));
    assert_eq!((checks.gas_used, checks.receipts_root), (Some(true), Some(false)));
    assert_eq!((mismatch.field.as_str(), mismatch.transaction), ("receiptsRoot", None));
    let (checks, mismatch) = wrong("gasUsed", "0x1000000".to_owned());
    assert_eq!((checks.gas_used, checks.logs_bloom), (Some(false), Some(true)));
    assert_eq!(mismatch.field, "gasUsed");
    let (checks, mismatch) = wrong("logsBloom", format!("0x{}", "00".repeat(256)));
    assert_eq!(checks.logs_bloom, Some(false));
    assert_eq!(mismatch.field, "logsBloom");
    assert!(mismatch.transaction.is_some(), "the first transaction with a log");
}

#[test]
fn receipts_in_the_bundle_name_the_first_transaction_that_did_otherwise() {
    let Some(mut bundle) = json(19_933_122) else { return };
    let gas: Vec<u64> = {
        let text = bundle.to_string();
        let bundle = Bundle::parse("whole", text.as_bytes()).expect("a bundle");
        let replayer = Replayer::new(ReplayOptions::default()).expect("threads");
        let graph = replayer.replay(&bundle).expect("mainnet is known").graph;
        graph.transactions.iter().map(|node| node.gas).collect()
    };
    let mut sum = 0;
    let receipts = gas.iter().map(|gas| {
        sum += gas;
        serde_json::json!({ "cumulativeGasUsed": format!("{sum:#x}") })
    });
    bundle["receipts"] = receipts.collect();
    bundle["block"]["receiptsRoot"] = format!("0x{}", "11".repeat(32)).into();
    bundle["receipts"][9]["cumulativeGasUsed"] = "0x1".into();
    let mismatch = replay(&bundle, ReplayOptions::default()).mismatch.expect("it does not verify");
    assert_eq!(mismatch.transaction, Some(9));
    assert_eq!(mismatch.field, "cumulativeGasUsed");
    assert!(mismatch.to_string().starts_with("transaction 9 (0x"), "{mismatch}");
}

#[test]
fn strict_names_a_read_that_the_bundle_lacks() {
    let Some(mut bundle) = json(5_891_667) else { return };
    let strict = ReplayOptions { strict: true, ..Default::default() };
    assert!(replay(&bundle, strict).line.verified, "this bundle is complete");
    let recipient = bundle["block"]["transactions"][0]["to"].as_str().unwrap().to_owned();
    bundle["prestate"].as_object_mut().unwrap().remove(&recipient).expect("it is there");
    assert!(replay(&bundle, ReplayOptions::default()).line.verified, "an empty account will do");
    let report = replay(&bundle, strict);
    let mismatch = report.mismatch.expect("strict does not let it pass");
    assert_eq!((mismatch.transaction, mismatch.field.as_str()), (Some(0), "prestate"));
    assert!(mismatch.found.to_lowercase().contains(&recipient), "{mismatch}");
    assert_eq!(report.missing.len(), 1);
}

#[test]
fn senders_signatures_and_fields_that_nodes_leave_out_are_made_up_for() {
    let Some(mut bundle) = json(13_217_637) else { return };
    let transactions = bundle["block"]["transactions"].as_array_mut().unwrap();
    for (index, transaction) in transactions.iter_mut().enumerate() {
        let fields = transaction.as_object_mut().unwrap();
        for left_out in ["type", "hash", "blockHash", "blockNumber", "transactionIndex"] {
            fields.remove(left_out);
        }
        // One has to be there: every third transaction keeps its sender alone, the others their
        // signature, with the parity under either of its names.
        let left_out: &[&str] = match index % 3 {
            0 => &["v", "r", "s", "yParity"],
            1 => &["from", "yParity"],
            _ => &["from"],
        };
        for field in left_out {
            fields.remove(*field);
        }
    }
    let report = replay(&bundle, ReplayOptions::default());
    assert!(report.line.verified, "{}", report.mismatch.expect("there is a reason"));
    assert!(report.notes.iter().any(|note| note.contains("without signature")));
}

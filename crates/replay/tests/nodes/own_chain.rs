//! Bundles of chains that we serve ourselves: exported from the chain, and fetched from its node by
//! JSON-RPC as from any other. Both verify, lack nothing that is read, and say the same.

use crate::served::{ServedChain, every_fork};
use alloy_primitives::{Address, U256, hex};
use heddle_chainspec::ChainSpec;
use heddle_node::dev_accounts;
use heddle_replay::{
    Bundle, BundleFetcher, ReplayError, ReplayOptions, Replayer, bundle_path, export_bundles,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Counts in slot 0, keeps the hash of the block before the last in slot 1, writes a log.
const COUNTER: &str = concat!(
    "600054",
    "600101",
    "600055", // slot 0 += 1
    "6002430340",
    "600155", // slot 1 = blockhash(number - 2)
    "60006000a0",
    "00"
);

/// Takes the code after it as the new contract's.
const DEPLOYER: &str = "80600b6000396000f3";

/// Creates an account with what it is sent, which destroys itself for the benefit of 0xbeef.
const CREATES_AND_DESTROYS: &str = "6461beefff00600052600360186000f05000";

fn deployment(code: &str) -> String {
    let code = hex::decode(code).expect("it is hexadecimal");
    format!("0x60{:02x}{DEPLOYER}{}", code.len(), hex::encode(code))
}

/// A development chain with what is hard for tracers: contracts and accounts that come into being
/// and are used in one block, self-destruction, BLOCKHASH, slots that were zero.
async fn eventful_chain() -> ServedChain {
    let served = ServedChain::start(ChainSpec::dev(), None).await;
    let counter = dev_accounts()[0].address.create(0);
    let newcomer = Address::repeat_byte(0x77);
    for _ in 0..2 {
        served.call("evm_mine", &[]).await;
    }
    served.send(0, json!({ "data": deployment(COUNTER) })).await;
    served.send(1, json!({ "to": counter })).await;
    served.send(2, json!({ "to": newcomer, "value": "0x5" })).await;
    served.send(3, json!({ "to": newcomer, "value": "0x6" })).await;
    served.send(4, json!({ "data": deployment(CREATES_AND_DESTROYS), "value": "0x9" })).await;
    served.call("evm_mine", &[]).await;
    for account in 0..4 {
        served.send(account, json!({ "to": counter })).await;
    }
    served.send(5, json!({ "to": dev_accounts()[4].address.create(0), "value": "0x7" })).await;
    served.call("evm_mine", &[]).await;
    served.call("evm_mine", &[]).await;
    let count = served.chain.latest_state().storage_at(counter, U256::ZERO).expect("readable");
    assert_eq!(count, U256::from(5), "the transactions did what they are here for");
    served
}

/// All bundles in the directory verify and answer every read.
fn replay_strictly(directory: &Path, blocks: u64) {
    let options = ReplayOptions { strict: true, ..ReplayOptions::default() };
    let replayer = Replayer::new(options).expect("threads can be started");
    for number in 1..=blocks {
        let bundle = Bundle::read(bundle_path(directory, number)).expect("it was written");
        let report = replayer.replay(&bundle).expect("the bundle brings its rules");
        assert_eq!(report.mismatch, None, "block {number}");
        assert!(report.line.verified);
        assert_eq!(report.notes, [""; 0], "block {number}");
    }
}

fn json_of(directory: &Path, number: u64) -> Value {
    let file = fs::File::open(bundle_path(directory, number)).expect("it was written");
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("it is JSON")
}

/// What execution reads is in both; the tracer may have more, never other.
fn assert_agree(exported: &Value, fetched: &Value) {
    let number = &exported["block"]["number"];
    for same in ["chainId", "config", "block", "uncles", "receipts", "blockHashes"] {
        assert_eq!(exported[same], fetched[same], "{same} of block {number}");
    }
    let fetched = &fetched["prestate"];
    for (address, account) in exported["prestate"].as_object().expect("an object") {
        let other = fetched.get(address).unwrap_or_else(|| panic!("{address} in {number}"));
        for field in ["balance", "nonce", "code"] {
            assert_eq!(account.get(field), other.get(field), "{field} of {address} in {number}");
        }
        for (slot, value) in account["storage"].as_object().into_iter().flatten() {
            assert_eq!(Some(value), other["storage"].get(slot), "{slot} of {address} in {number}");
        }
    }
}

async fn both_ways(served: ServedChain, rules: Option<ChainSpec>) {
    let (exported, fetched) = (tempfile::tempdir(), tempfile::tempdir());
    let (exported, fetched) = (exported.expect("a directory"), fetched.expect("a directory"));
    let blocks = served.chain.head().number();
    let done = export_bundles(&served.chain, 1..=blocks, exported.path(), |_| {});
    assert_eq!(done.expect("the chain is whole").blocks, blocks);
    replay_strictly(exported.path(), blocks);

    let fetcher = BundleFetcher::connect(&served.url, rules).await.expect("it is served");
    let mut order = Vec::new();
    let saved = fetcher.save(1..=blocks, fetched.path(), |saved| {
        assert_eq!(saved.mismatch, None, "block {}", saved.number);
        assert!(saved.fetched);
        order.push(saved.number);
    });
    saved.await.expect("the node has all blocks");
    assert_eq!(order, (1..=blocks).collect::<Vec<_>>());
    replay_strictly(fetched.path(), blocks);
    for number in 1..=blocks {
        assert_agree(&json_of(exported.path(), number), &json_of(fetched.path(), number));
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blocks_of_a_development_chain_verify_both_ways() {
    both_ways(eventful_chain().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_before_which_the_state_was_altered_verifies_both_ways() {
    let served = eventful_chain().await;
    let counter = dev_accounts()[0].address.create(0);
    let word = |number: u64| json!(format!("0x{number:064x}"));
    let slot = [json!(counter), word(0), word(41)];
    served.call("anvil_setStorageAt", &slot).await;
    served.send(1, json!({ "to": counter })).await;
    served.call("evm_mine", &[]).await;
    let count = served.chain.latest_state().storage_at(counter, U256::ZERO).expect("readable");
    assert_eq!(count, U256::from(42));
    both_ways(served, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blocks_of_a_chain_through_every_fork_verify_both_ways() {
    let Some((spec, file)) = every_fork() else { return };
    both_ways(ServedChain::start(spec.clone(), Some(file)).await, Some(spec)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_fetched_again_and_what_is_damaged_is() {
    let served = eventful_chain().await;
    let directory = tempfile::tempdir().expect("a directory");
    let fetcher = BundleFetcher::connect(&served.url, None).await.expect("it is served");
    let fetched = async || {
        let mut fetched = Vec::new();
        let saved = fetcher.save(1..=4, directory.path(), |saved| {
            if saved.fetched {
                fetched.push(saved.number);
            }
        });
        saved.await.expect("the node has all blocks");
        fetched
    };
    assert_eq!(fetched().await, [1, 2, 3, 4]);
    assert_eq!(fetched().await, [0; 0]);
    let bytes = fs::read(bundle_path(directory.path(), 3)).expect("it is there");
    fs::write(bundle_path(directory.path(), 3), &bytes[..bytes.len() / 2]).expect("writable");
    // The bundle of another block.
    fs::copy(bundle_path(directory.path(), 1), bundle_path(directory.path(), 4)).expect("writable");
    assert_eq!(fetched().await, [3, 4]);
    replay_strictly(directory.path(), 4);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_there_and_a_chain_that_nobody_knows_are_named() {
    let served = eventful_chain().await;
    let fetcher = BundleFetcher::connect(&served.url, None).await.expect("it is served");
    let error = fetcher.fetch(9_999).await.expect_err("there are five blocks");
    let node = &served.url;
    assert_eq!(error.to_string(), format!("block 9999: {node} has no block 9999; its newest is 5"));
    let error = fetcher.fetch(0).await.expect_err("nothing is before it");
    assert_eq!(error.to_string(), "block 0: there is no state before the genesis block");
    let directory = tempfile::tempdir().expect("a directory");
    let error = export_bundles(&served.chain, 0..=1, directory.path(), |_| {});
    let error = error.expect_err("nothing is before it");
    assert_eq!(error.to_string(), "block 0: there is no state before the genesis block");
    let error = export_bundles(&served.chain, 6..=6, directory.path(), |_| {});
    assert!(matches!(error, Err(ReplayError::Block { number: 6, .. })));
    served.stop().await;

    let genesis = include_str!("../../../../genesis/dev.json").replace("31337", "31338");
    let spec = ChainSpec::from_genesis_json(&genesis).expect("it is a genesis file");
    let unknown = ServedChain::start(spec, None).await;
    let error = BundleFetcher::connect(&unknown.url, None).await.expect_err("nobody knows it");
    assert!(matches!(error, ReplayError::UnknownChain { chain_id: 31_338, .. }), "{error}");
    unknown.stop().await;
}

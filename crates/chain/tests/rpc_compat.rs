//! The conformance chain of the execution APIs: 54 blocks through every fork from Frontier to BPO2.

use alloy_primitives::{Address, B256, U256, b256};
use heddle_chain::{Chain, GenesisBlock, ImportStatus};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_store::Store;
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

const HEAD: B256 = b256!("0xd226371d0b1551adb03fb52b71f08e3e11247fe9b1af994768af8cdaa8e7dcd7");

/// The folder of the fixture; says so where it is absent.
fn fixture() -> Option<PathBuf> {
    let fixtures = std::env::var_os("HEDDLE_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")),
        PathBuf::from,
    );
    let folder = fixtures.join("rpc-compat");
    if folder.join("chain.rlp").is_file() {
        return Some(folder);
    }
    #[expect(clippy::print_stderr, reason = "a test that is skipped must say so")]
    {
        eprintln!("SKIPPED: {} is not there (set HEDDLE_FIXTURES)", folder.display());
    }
    None
}

fn open(folder: &std::path::Path) -> Chain {
    let json = fs::read_to_string(folder.join("genesis.json")).expect("the fixture is complete");
    let spec = ChainSpec::from_genesis_json(&json).expect("the genesis file is valid");
    let genesis = GenesisBlock::new(&spec).expect("it has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(4).expect("threads can be started");
    Chain::open(Arc::new(spec), &genesis, store, executor).expect("the store is empty")
}

fn chain_file(folder: &std::path::Path) -> Vec<u8> {
    fs::read(folder.join("chain.rlp")).expect("the fixture is complete")
}

#[derive(serde::Deserialize)]
struct HeadState {
    root: B256,
    accounts: BTreeMap<Address, HeadAccount>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadAccount {
    balance: String,
    nonce: u64,
    root: B256,
    code_hash: B256,
    #[serde(default)]
    storage: BTreeMap<B256, String>,
    key: B256,
}

#[test]
fn the_chain_imports_to_the_stated_head_and_state() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    let mut blocks = 0;
    let summary = chain
        .import_chain_file(&*chain_file(&folder), |progress| blocks = progress.blocks)
        .expect("all blocks are valid");
    assert_eq!((summary.head, summary.blocks, blocks), (HEAD, 54, 54));
    assert!(summary.transactions > 0 && summary.gas > 0);

    let expected = fs::read_to_string(folder.join("headstate.json")).expect("it is complete");
    let expected: HeadState = serde_json::from_str(&expected).expect("it is JSON");
    assert_eq!(chain.head().header.state_root, expected.root);
    let state = chain.latest_state();
    for (address, account) in &expected.accounts {
        assert_eq!(alloy_primitives::keccak256(address), account.key);
        let actual = state.account(*address).expect("readable").expect("the account exists");
        let balance: U256 = account.balance.parse().expect("a decimal number");
        assert_eq!((actual.nonce, actual.balance), (account.nonce, balance), "{address}");
        assert_eq!(actual.code_hash, account.code_hash, "{address}");
        let proof = chain.proof_at(54, *address, &[]).expect("of the head");
        let proven = proof.account.expect("the account exists");
        assert_eq!(proven.storage_root, account.root, "{address}");
        for (slot, value) in &account.storage {
            let value = U256::from_str_radix(value.trim_start_matches("0x"), 16).expect("hex");
            let actual = state.storage_at(*address, (*slot).into()).expect("readable");
            assert_eq!(actual, value, "{address} {slot}");
        }
    }
    chain.store().verify_state().expect("the root follows from the flat state");
}

#[test]
fn an_export_has_the_bytes_of_the_import() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    let file = chain_file(&folder);
    chain.import_chain_file(&*file, |_| {}).expect("all blocks are valid");
    let mut exported = Vec::new();
    assert_eq!(chain.export_chain_file(&mut exported, 1, 54).expect("all are there"), 54);
    assert!(exported == file);
}

#[test]
fn importing_again_changes_nothing() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    let file = chain_file(&folder);
    chain.import_chain_file(&*file, |_| {}).expect("all blocks are valid");
    let mut events = chain.subscribe();
    let again = chain.import_chain_file(&*file, |_| {}).expect("all blocks are known");
    assert_eq!((again.blocks, again.known, again.head), (0, 54, HEAD));
    assert!(events.try_recv().is_err(), "nothing changed");
    let head = chain.head().rlp();
    let imported = chain.import_rlp(&head).expect("it is known");
    assert_eq!(imported.status, ImportStatus::AlreadyKnown);
}

#[test]
fn an_import_that_stopped_goes_on_where_it_was() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    let file = chain_file(&folder);
    chain.import_chain_file(&file[..file.len() / 2], |_| {}).expect_err("the file is cut off");
    let half = chain.head().number();
    assert!(half > 0 && half < 54);
    let rest = chain.import_chain_file(&*file, |_| {}).expect("all blocks are valid");
    assert_eq!((rest.known, rest.blocks, rest.head), (half, 54 - half, HEAD));
}

#[test]
fn the_chain_can_be_unwound_and_imported_again() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    let file = chain_file(&folder);
    chain.import_chain_file(&*file, |_| {}).expect("all blocks are valid");
    assert_eq!(chain.unwind_to(0).expect("there is a genesis block").len(), 54);
    assert_eq!(chain.head().hash(), chain.genesis_hash());
    chain.store().verify_state().expect("the genesis state is back");
    let again = chain.import_chain_file(&*file, |_| {}).expect("all blocks are valid");
    assert_eq!((again.blocks, again.head), (54, HEAD));
}

#[test]
fn the_head_can_be_set_back_and_forth() {
    let Some(folder) = fixture() else { return };
    let chain = open(&folder);
    chain.import_chain_file(&*chain_file(&folder), |_| {}).expect("all blocks are valid");
    let mut events = chain.subscribe();
    for number in [53, 40, 20, 4, 0] {
        let hash = chain.hash_by_number(number).expect("readable").expect("it is there");
        assert_eq!(chain.set_head(hash).expect("it is on the chain").hash(), hash);
        let back = events.try_recv().expect("the head changed");
        assert_eq!((back.removed.len() as u64, back.added.len()), (54 - number, 0));
        assert_eq!(chain.set_head(HEAD).expect("it is kept beside the chain").hash(), HEAD);
        let forth = events.try_recv().expect("the head changed");
        assert_eq!((forth.removed.len(), forth.added.len() as u64), (0, 54 - number));
    }
}

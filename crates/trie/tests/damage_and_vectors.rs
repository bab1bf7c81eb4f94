//! Damaged nodes are errors that name the place; and the roots of a public test chain.

mod support;

use alloy_consensus::Header;
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::Decodable;
use heddle_trie::{
    AccountChange, AccountState, NoNodes, NodeDefect, NodePlace, SlotChange, StateChanges,
    TrieError, TrieId, prove_account, state_root,
};
use nybbles::Nibbles;
use std::path::PathBuf;
use support::Nodes;

fn account(index: u64) -> Address {
    Address::from_word(B256::from(U256::from(index)))
}

/// Fifty accounts with forty slots each.
fn populated() -> Nodes {
    let mut changes = StateChanges::default();
    for index in 0..50u64 {
        let mut change =
            AccountChange { after: Some(AccountState::default()), ..Default::default() };
        for slot in 0..40u64 {
            let slot_change = SlotChange { before: U256::ZERO, after: U256::from(slot + 1) };
            change.storage.insert(U256::from(slot), slot_change);
        }
        changes.accounts.insert(account(index), change);
    }
    let mut nodes = Nodes::default();
    let (_, updates) = state_root(&NoNodes, &changes).expect("nothing to read");
    nodes.apply(updates);
    nodes
}

/// Touches every account and every slot, so that every node is read.
fn touch_everything() -> StateChanges {
    let mut changes = StateChanges::default();
    for index in 0..50u64 {
        let before = Some(AccountState::default());
        let mut change = AccountChange { before, after: before, ..Default::default() };
        for slot in 0..40u64 {
            let slot_change = SlotChange { before: U256::from(slot + 1), after: U256::ZERO };
            change.storage.insert(U256::from(slot), slot_change);
        }
        changes.accounts.insert(account(index), change);
    }
    changes
}

#[test]
fn every_missing_node_is_an_error_that_names_trie_and_path() {
    let intact = populated();
    for path in intact.account.keys().filter(|path| !path.is_empty()) {
        let mut nodes = intact.clone();
        nodes.account.remove(path);
        match state_root(&nodes, &touch_everything()) {
            Err(TrieError::Node { place, defect }) => {
                assert_eq!(*place, NodePlace { trie: TrieId::Account, path: *path });
                assert!(matches!(*defect, NodeDefect::Missing { .. }), "{defect}");
            }
            other => panic!("node {path:?} is missing, but: {other:?}"),
        }
    }
    let hashed = keccak256(account(3));
    for path in intact.storage[&hashed].keys() {
        let mut nodes = intact.clone();
        nodes.storage.get_mut(&hashed).expect("account 3 has storage").remove(path);
        match state_root(&nodes, &touch_everything()) {
            Err(TrieError::Node { place, .. }) => {
                assert_eq!(place.trie, TrieId::Storage(hashed));
            }
            other => panic!("storage node {path:?} is missing, but: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_bit_of_a_node_below_the_root_is_an_error() {
    let intact = populated();
    for (path, rlp) in intact.account.iter().filter(|(path, _)| !path.is_empty()).take(12) {
        for byte in (0..rlp.len()).step_by(3) {
            let mut nodes = intact.clone();
            nodes.account.get_mut(path).expect("taken from there")[byte] ^= 1 << (byte % 8);
            let result = state_root(&nodes, &touch_everything());
            assert!(
                matches!(&result, Err(TrieError::Node { place, .. }) if place.path == *path),
                "byte {byte} of {path:?} is flipped, but: {result:?}"
            );
        }
    }
}

#[test]
fn no_garbage_in_place_of_the_root_node_panics() {
    let intact = populated();
    let root = intact.account[&Nibbles::new()].clone();
    let mut garbage: Vec<Vec<u8>> =
        vec![vec![], vec![0x80], vec![0xc0], vec![0xff; 40], b"not RLP at all".to_vec()];
    garbage.extend((0..root.len()).map(|length| root[..length].to_vec()));
    garbage.extend((0..root.len()).map(|byte| {
        let mut flipped = root.clone();
        flipped[byte] ^= 0x41;
        flipped
    }));
    for rlp in garbage {
        let mut nodes = intact.clone();
        nodes.account.insert(Nibbles::new(), rlp.clone());
        state_root(&nodes, &touch_everything()).expect_err("a garbled root cannot give a root");
        // A proof may happen not to touch what is garbled; it only must not panic.
        let _ = prove_account(&nodes, account(1), &[U256::ONE]);
    }
}

#[test]
fn an_error_reads_as_a_sentence_with_the_place_in_it() {
    let mut nodes = populated();
    let hashed = keccak256(account(3));
    nodes.storage.remove(&hashed);
    let error = state_root(&nodes, &touch_everything()).expect_err("a storage trie is gone");
    let message = error.to_string();
    assert!(message.contains(&hashed.to_string()), "{message}");
    assert!(message.contains("is missing"), "{message}");
}

/// The public fixtures, or `None` after saying that the test is skipped.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn rpc_compat(file: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("HEDDLE_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")),
        PathBuf::from,
    );
    let path = root.join("rpc-compat").join(file);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            eprintln!("skipped: cannot read the fixture {}: {error}", path.display());
            None
        }
    }
}

#[test]
fn the_genesis_of_the_conformance_chain_hashes_to_the_parent_of_its_first_block() {
    let (Some(genesis), Some(chain)) = (rpc_compat("genesis.json"), rpc_compat("chain.rlp")) else {
        return;
    };
    let genesis: Genesis = serde_json::from_slice(&genesis).expect("a geth genesis file");
    let mut block = chain.as_slice();
    let mut block = alloy_rlp::Header::decode_bytes(&mut block, true).expect("a list of blocks");
    let first = Header::decode(&mut block).expect("a block starts with its header");

    let mut changes = StateChanges::default();
    for (address, allocated) in &genesis.alloc {
        let after = Some(AccountState {
            nonce: allocated.nonce.unwrap_or_default(),
            balance: allocated.balance,
            code_hash: allocated.code.as_ref().map_or(KECCAK256_EMPTY, keccak256),
        });
        let mut change = AccountChange { after, ..Default::default() };
        for (slot, value) in allocated.storage.iter().flatten() {
            let slot_change = SlotChange { before: U256::ZERO, after: (*value).into() };
            change.storage.insert((*slot).into(), slot_change);
        }
        changes.accounts.insert(*address, change);
    }
    let (state_root, _) = state_root(&NoNodes, &changes).expect("nothing to read");
    let header = Header {
        state_root,
        difficulty: genesis.difficulty,
        gas_limit: genesis.gas_limit,
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data,
        mix_hash: genesis.mix_hash,
        nonce: genesis.nonce.into(),
        beneficiary: genesis.coinbase,
        ..Default::default()
    };
    assert_eq!(first.number, 1);
    assert_eq!(header.hash_slow(), first.parent_hash);
}

#[test]
fn the_head_state_of_the_conformance_chain_has_its_stated_root() {
    let Some(head_state) = rpc_compat("headstate.json") else {
        return;
    };
    let dump: serde_json::Value = serde_json::from_slice(&head_state).expect("JSON");
    let mut changes = StateChanges::default();
    for (address, account) in dump["accounts"].as_object().expect("accounts by address") {
        let text = |name: &str| account[name].as_str().expect("a string");
        let after = Some(AccountState {
            nonce: account["nonce"].as_u64().expect("a nonce"),
            balance: text("balance").parse().expect("a decimal balance"),
            code_hash: text("codeHash").parse().expect("a hash"),
        });
        let mut change = AccountChange { after, ..Default::default() };
        if let Some(storage) = account["storage"].as_object() {
            for (slot, value) in storage {
                let value = value.as_str().expect("a hex value");
                let after = U256::from_str_radix(value.trim_start_matches("0x"), 16);
                let slot: U256 = slot.parse().expect("a hex slot");
                let after = after.expect("a hex value");
                change.storage.insert(slot, SlotChange { before: U256::ZERO, after });
            }
        }
        changes.accounts.insert(address.parse().expect("an address"), change);
    }
    let expected = dump["root"].as_str().expect("a root");
    let expected: B256 = expected.parse().expect("a hash");
    let (root, _) = state_root(&NoNodes, &changes).expect("nothing to read");
    assert_eq!(root, expected);
}

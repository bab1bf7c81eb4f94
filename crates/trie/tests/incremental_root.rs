//! The incremental root and the nodes it leaves behind, against tries built from scratch.

mod support;

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::proof::verify_proof;
use heddle_trie::{
    AccountChange, AccountState, EMPTY_ROOT_HASH, NoNodes, OverlayReader, SlotChange, SparseTrie,
    StateChanges, StateTrie, TrieId, TrieUpdates, full_state_root, full_storage_root,
    prove_account, state_root,
};
use nybbles::Nibbles;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;
use support::{Model, Nodes, apply, from_scratch};

/// Keys that share prefixes of very different lengths, so that extensions split and join, branches
/// collapse into one another, and nodes become short enough to be embedded.
fn adversarial_key() -> impl Strategy<Value = B256> {
    let shared = prop::sample::select(vec![0usize, 0, 1, 2, 15, 31, 50, 58, 60, 61, 62, 63]);
    (shared, prop::collection::vec(0u8..3, 3), 0u8..2).prop_map(|(shared, tail, rest)| {
        let mut nibbles = vec![7u8; shared];
        nibbles.extend(tail);
        nibbles.resize(64, rest);
        let mut key = B256::ZERO;
        Nibbles::from_nibbles(nibbles).pack_to(key.as_mut_slice());
        key
    })
}

fn leaf_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(1u8.., 1..3),
        1 => prop::collection::vec(any::<u8>(), 20..80),
    ]
}

type Batch = Vec<(B256, Option<Vec<u8>>)>;

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let operation = (adversarial_key(), prop::option::weighted(0.55, leaf_value()));
    prop::collection::vec(prop::collection::vec(operation, 0..12), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_sparse_trie_that_stays_in_memory_has_root_and_nodes_of_one_built_from_scratch(
        batches in batches()
    ) {
        let mut leaves: BTreeMap<B256, Vec<u8>> = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let mut trie = SparseTrie::new(TrieId::Account, EMPTY_ROOT_HASH);
        for batch in batches {
            // The last of several changes to a key counts.
            let batch: BTreeMap<_, _> = batch.into_iter().collect();
            let batch: Batch = batch.into_iter().collect();
            let source = |path: &Nibbles| Ok::<_, Infallible>(nodes.get(path).cloned());
            trie.update(&source, &batch).expect("nodes are intact");
            for (key, value) in batch {
                match value {
                    Some(value) => leaves.insert(key, value),
                    None => leaves.remove(&key),
                };
            }
            let (root, updates) = trie.seal();
            apply(&mut nodes, updates);
            let (expected_root, expected_nodes) = from_scratch(&leaves);
            prop_assert_eq!(root, expected_root);
            prop_assert_eq!(&nodes, &expected_nodes);
        }
    }

    #[test]
    fn a_sparse_trie_over_adversarial_keys_has_root_and_nodes_of_one_built_from_scratch(
        batches in batches()
    ) {
        let mut leaves: BTreeMap<B256, Vec<u8>> = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let mut root = EMPTY_ROOT_HASH;
        for batch in batches {
            let source =
                |path: &Nibbles| Ok::<_, Infallible>(nodes.get(path).cloned());
            let mut trie = SparseTrie::new(TrieId::Account, root);
            for (key, value) in batch {
                match value {
                    Some(value) => {
                        trie.insert(&source, key, value.clone()).expect("nodes are intact");
                        leaves.insert(key, value);
                    }
                    None => {
                        trie.remove(&source, key).expect("nodes are intact");
                        leaves.remove(&key);
                    }
                }
                prop_assert_eq!(
                    trie.get(&source, key).expect("nodes are intact"),
                    leaves.get(&key).map(Vec::as_slice)
                );
            }
            let (new_root, updates) = trie.seal();
            root = new_root;
            apply(&mut nodes, updates);
            let (expected_root, expected_nodes) = from_scratch(&leaves);
            prop_assert_eq!(root, expected_root);
            prop_assert_eq!(&nodes, &expected_nodes);
        }
    }
}

/// One step of a random history: per account what happens to it.
#[derive(Debug, Clone)]
enum Step {
    Update { balance: u64, storage: Vec<(u8, u8)> },
    Wipe { storage: Vec<(u8, u8)> },
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let slots = || prop::collection::vec((0u8..24, 0u8..4), 0..10);
    prop_oneof![
        6 => (0u64..5, slots()).prop_map(|(balance, storage)| Step::Update { balance, storage }),
        2 => slots().prop_map(|storage| Step::Wipe { storage }),
        2 => Just(Step::Delete),
    ]
}

fn histories() -> impl Strategy<Value = Vec<BTreeMap<u8, Step>>> {
    prop::collection::vec(prop::collection::btree_map(0u8..40, step(), 0..12), 1..8)
}

/// The change set that does `steps` to `model`.
fn changes(model: &Model, steps: &BTreeMap<u8, Step>) -> StateChanges {
    let mut changes = StateChanges::default();
    for (account, step) in steps {
        let address = Address::with_last_byte(*account);
        let existing = model.accounts.get(&address);
        let before = existing.map(|(state, _)| *state);
        let mut change = AccountChange { before, ..Default::default() };
        let (wiped, slots) = match step {
            Step::Delete => {
                if before.is_none() {
                    continue;
                }
                change.wiped = true;
                changes.accounts.insert(address, change);
                continue;
            }
            Step::Update { balance, storage } => {
                change.after =
                    Some(AccountState { balance: U256::from(*balance), ..Default::default() });
                (false, storage)
            }
            Step::Wipe { storage } => {
                change.after = Some(AccountState { nonce: 1, ..Default::default() });
                (true, storage)
            }
        };
        change.wiped = wiped;
        for (slot, value) in slots {
            let (slot, after) = (U256::from(*slot), U256::from(*value));
            let before = existing
                .filter(|_| !wiped)
                .and_then(|(_, storage)| storage.get(&slot).copied())
                .unwrap_or_default();
            change.storage.insert(slot, SlotChange { before, after });
        }
        change.storage.retain(|_, slot| slot.before != slot.after);
        changes.accounts.insert(address, change);
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_state_root_of_every_step_and_its_nodes_are_those_of_a_build_from_scratch(
        history in histories(),
        kept_nodes in prop::sample::select(vec![usize::MAX, 20, 4, 0]),
    ) {
        let mut model = Model::default();
        let mut nodes = Nodes::default();
        let mut since_empty = TrieUpdates::default();
        let mut kept = StateTrie::stored(&nodes).expect("nothing to read");
        for steps in history {
            let changes = changes(&model, &steps);
            let (root, updates) = state_root(&nodes, &changes).expect("nodes are intact");
            // The same with what is in memory since the steps before, of which some is forgotten.
            let (mut after, kept_updates) = kept.after(&nodes, &changes).expect("nodes are intact");
            prop_assert_eq!(after.root(), root);
            prop_assert_eq!(&kept_updates, &updates);
            after.keep_at_most(kept_nodes);
            kept = after;
            // The same change over an overlay of everything so far, with nothing stored at all.
            let overlay = OverlayReader { base: NoNodes, updates: &since_empty };
            let (overlay_root, overlay_updates) =
                state_root(&overlay, &changes).expect("nodes are intact");
            prop_assert_eq!(overlay_root, root);
            prop_assert_eq!(&overlay_updates, &updates);
            since_empty.extend(overlay_updates);

            model.apply(&changes);
            nodes.apply(updates);
            let (expected_root, expected_nodes) = model.tries();
            prop_assert_eq!(root, expected_root);
            prop_assert_eq!(&nodes, &expected_nodes);
            prop_assert_eq!(full_root_of(&model), root);
            check_proofs(&model, &nodes, root)?;
        }
    }
}

fn full_root_of(model: &Model) -> B256 {
    let mut accounts = BTreeMap::new();
    for (address, (state, storage)) in &model.accounts {
        let slots: BTreeMap<B256, U256> =
            storage.iter().map(|(k, v)| (keccak256(k.to_be_bytes::<32>()), *v)).collect();
        let storage_root = full_storage_root(slots).expect("a map is in order");
        let account = heddle_trie::TrieAccount::new(
            state.nonce,
            state.balance,
            storage_root,
            state.code_hash,
        );
        accounts.insert(keccak256(address), account);
    }
    full_state_root(accounts).expect("a map is in order")
}

/// Proves accounts that are there and ones that are not, and verifies with `alloy_trie`.
fn check_proofs(model: &Model, nodes: &Nodes, root: B256) -> Result<(), TestCaseError> {
    for last_byte in (0..48).step_by(5) {
        let address = Address::with_last_byte(last_byte);
        let slots: Vec<U256> = (0..26).step_by(3).map(U256::from).collect();
        let proof = prove_account(nodes, address, &slots).expect("nodes are intact");
        let expected = model.accounts.get(&address);
        prop_assert_eq!(proof.account.is_some(), expected.is_some());
        let leaf = proof.account.map(alloy_rlp::encode);
        verify_proof(root, Nibbles::unpack(keccak256(address)), leaf, &proof.proof)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let storage_root = proof.account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
        for slot in proof.storage {
            let value = expected.and_then(|(_, storage)| storage.get(&slot.slot).copied());
            prop_assert_eq!(slot.value, value.unwrap_or_default());
            let key = Nibbles::unpack(keccak256(slot.slot.to_be_bytes::<32>()));
            verify_proof(storage_root, key, value.map(alloy_rlp::encode), &slot.proof)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }
    Ok(())
}

#[test]
fn a_change_large_enough_to_be_hashed_in_parallel_has_the_same_root_and_nodes() {
    let mut model = Model::default();
    let mut nodes = Nodes::default();
    let mut kept = StateTrie::stored(&nodes).expect("nothing to read");
    for round in 0u64..5 {
        let mut changes = StateChanges::default();
        for account in (0..3_000u64).step_by(if round < 3 { 1 + round as usize } else { 1 }) {
            let address = Address::from_word(B256::from(U256::from(account)));
            let existing = model.accounts.get(&address);
            let after = AccountState { nonce: round, ..Default::default() };
            // In the end all are gone but one, then that one too.
            let remains = match round {
                0 => true,
                1 | 2 => account % 7 != 0,
                _ => round == 3 && account == 1_234,
            };
            let mut change = AccountChange {
                before: existing.map(|(state, _)| *state),
                after: remains.then_some(after),
                ..Default::default()
            };
            change.wiped = change.after.is_none();
            if !change.wiped && account % 10 == 0 {
                for slot in 0..40u64 {
                    let slot = U256::from(slot);
                    let before = existing.and_then(|(_, s)| s.get(&slot).copied());
                    let (before, after) = (before.unwrap_or_default(), U256::from(round % 2));
                    if before != after {
                        change.storage.insert(slot, SlotChange { before, after });
                    }
                }
            }
            changes.accounts.insert(address, change);
        }
        let (root, updates) = state_root(&nodes, &changes).expect("nodes are intact");
        let (after, kept_updates) = kept.after(&nodes, &changes).expect("nodes are intact");
        assert_eq!(after.root(), root);
        assert!(kept_updates == updates, "tries kept in memory do other things to the nodes");
        kept = after;
        model.apply(&changes);
        nodes.apply(updates);
        let (expected_root, expected_nodes) = model.tries();
        assert_eq!(root, expected_root);
        assert!(nodes == expected_nodes, "stored nodes differ from those of a build from scratch");
    }
}

#[test]
fn the_proof_over_an_empty_state_is_an_empty_list() {
    let proof = prove_account(&NoNodes, Address::ZERO, &[U256::ZERO]).expect("nothing to read");
    assert_eq!(proof.account, None);
    assert!(proof.proof.is_empty());
    assert!(proof.storage[0].proof.is_empty());
    verify_proof(EMPTY_ROOT_HASH, Nibbles::unpack(B256::ZERO), None, &proof.proof)
        .expect("an empty proof shows absence from an empty trie");
}

#[test]
fn no_change_means_the_same_root_and_no_updates() {
    let mut nodes = Nodes::default();
    assert_eq!(
        state_root(&nodes, &StateChanges::default()).expect("nothing to read"),
        (EMPTY_ROOT_HASH, TrieUpdates::default())
    );
    let mut changes = StateChanges::default();
    let after = Some(AccountState::default());
    let change = AccountChange { after, ..Default::default() };
    changes.accounts.insert(Address::ZERO, change);
    let (root, updates) = state_root(&nodes, &changes).expect("nothing to read");
    nodes.apply(updates);
    assert_eq!(
        state_root(&nodes, &StateChanges::default()).expect("nodes are intact"),
        (root, TrieUpdates::default())
    );
}

//! The store against a chain in plain maps: every block, every state, forwards and backwards.

mod support;

use alloy_primitives::{B256, U256};
use heddle_store::{BlockBatch, PENDING_ENTRIES_MAX, StateView, Store, StoreConfig, StoreError};
use heddle_trie::{Nibbles, NodeReader, StateChanges, TrieUpdates};
use proptest::prelude::*;
use support::{ACCOUNTS, Chain, SLOTS, Step, Steps, address, check, check_proofs, slot, steps};

#[derive(Debug, Clone)]
enum Action {
    Commit(Steps),
    CommitMany(Vec<Steps>),
    /// To this fraction of the chain, in 256ths.
    Unwind(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let slots = || prop::collection::vec((0..SLOTS, 0u8..4), 0..6);
    prop_oneof![
        6 => (0u64..5, slots()).prop_map(|(balance, storage)| Step::Update { balance, storage }),
        2 => (slots(), 0u8..4).prop_map(|(storage, code)| Step::Wipe { storage, code }),
        2 => Just(Step::Delete),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let block = || prop::collection::btree_map(0..ACCOUNTS, step(), 0..6);
    prop_oneof![
        6 => block().prop_map(Action::Commit),
        2 => prop::collection::vec(block(), 0..4).prop_map(Action::CommitMany),
        2 => any::<u8>().prop_map(Action::Unwind),
        1 => Just(Action::Reopen),
    ]
}

fn with_genesis(store: &Store, chain: &Chain) {
    store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
}

/// Does `actions` to a store and to the model, and compares after each.
fn run(directory: Option<&std::path::Path>, actions: &[Action], pending_entries_max: usize) {
    let mut chain = Chain::new();
    let identity = chain.identity();
    let config = StoreConfig { pending_entries_max, ..StoreConfig::default() };
    let open = || match directory {
        Some(path) => Store::open_with(path, &identity, config).expect("the directory is free"),
        None => Store::in_memory_with(&identity, config).expect("memory"),
    };
    let mut store = open();
    with_genesis(&store, &chain);
    check(&store, &chain);
    for (salt, action) in (1u64..).zip(actions) {
        match action {
            Action::Commit(steps) => {
                let block = chain.extend(&store, steps, salt);
                store.commit_block(&block.batch()).expect("it extends the head");
            }
            Action::CommitMany(many) => {
                // Roots come from a second store that takes the blocks one by one.
                let scratch = Store::in_memory(&identity).expect("memory");
                for block in &chain.blocks {
                    let batch = block.batch();
                    match batch.header.number {
                        0 => scratch.commit_genesis(&batch),
                        _ => scratch.commit_block(&batch),
                    }
                    .expect("it extends the head");
                }
                let first = chain.blocks.len();
                for steps in many {
                    let block = chain.extend(&scratch, steps, salt);
                    scratch.commit_block(&block.batch()).expect("it extends the head");
                }
                let batches: Vec<_> =
                    chain.blocks[first..].iter().map(support::Block::batch).collect();
                store.commit_blocks(&batches).expect("they extend the head");
            }
            Action::Unwind(fraction) => {
                let target = chain.blocks.len() * usize::from(*fraction) / 256;
                let removed = chain.unwind_to(target);
                assert_eq!(store.unwind_to(target as u64).expect("a block of the chain"), removed);
                for hash in removed {
                    assert_eq!(store.block_number(&hash).expect("readable"), None);
                }
            }
            Action::Reopen if directory.is_some() => {
                drop(store);
                store = open();
            }
            Action::Reopen => {}
        }
        check(&store, &chain);
    }
    check_proofs(&store, &chain);
    store.settle().expect("it can be written");
    assert_eq!(store.unsettled_blocks(), 0);
    check(&store, &chain);
}

/// From writing nodes and histories with every block to never doing so.
fn entries_max() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 10usize..200, Just(PENDING_ENTRIES_MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn in_memory_every_state_and_block_of_a_random_history_reads_as_it_was(
        actions in prop::collection::vec(action(), 1..14), entries_max in entries_max(),
    ) {
        run(None, &actions, entries_max);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn on_disk_every_state_and_block_of_a_random_history_reads_as_it_was(
        actions in prop::collection::vec(action(), 1..14), entries_max in entries_max(),
    ) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        run(Some(directory.path()), &actions, entries_max);
    }
}

fn chain_of(length: u64) -> (Store, Chain) {
    let mut chain = Chain::new();
    let store = Store::in_memory(&chain.identity()).expect("memory");
    with_genesis(&store, &chain);
    for seed in 1..=length {
        let block = chain.extend(&store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
    (store, chain)
}

#[test]
fn an_unwind_longer_than_one_step_leaves_the_same_as_several_short_ones() {
    let (store, mut chain) = chain_of(600);
    let removed = chain.unwind_to(3);
    assert_eq!(store.unwind_to(3).expect("a block of the chain"), removed);
    check(&store, &chain);
}

#[test]
fn a_view_keeps_its_state_while_blocks_are_committed_and_unwound() {
    let (store, mut chain) = chain_of(8);
    let view = store.latest().expect("not empty");
    let then = chain.states.last().expect("a state for every block").clone();
    for seed in 100..110 {
        let block = chain.extend(&store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
    store.unwind_to(2).expect("a block of the chain");
    for index in 0..ACCOUNTS {
        let expected = then.get(&address(index)).map(|(account, _)| *account);
        assert_eq!(view.account(&address(index)).expect("readable"), expected);
    }
    assert_eq!(view.number(), 8);
}

#[test]
fn a_view_is_shared_by_reference_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<StateView>();
    shared::<Store>();
    let (store, chain) = chain_of(20);
    let view = store.state_at(10).expect("a block of the chain");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..ACCOUNTS {
                    let expected = chain.states[10].get(&address(index)).map(|(a, _)| *a);
                    assert_eq!(view.account(&address(index)).expect("readable"), expected);
                    view.storage(&address(index), slot(index)).expect("readable");
                }
            });
        }
    });
}

#[test]
fn a_block_that_does_not_extend_the_head_is_refused_and_changes_nothing() {
    let (store, mut chain) = chain_of(4);
    let block = chain.extend(&store, &steps(77), 1).clone();
    let expected = store.head();

    let mut later = block.stored.header.clone();
    later.number += 1;
    let result = store.commit_block(&BlockBatch { header: &later, ..block.batch() });
    assert!(matches!(result, Err(StoreError::NotOnHead { .. })), "{result:?}");

    let mut foreign = block.stored.header.clone();
    foreign.parent_hash = B256::repeat_byte(1);
    let result = store.commit_block(&BlockBatch { header: &foreign, ..block.batch() });
    assert!(matches!(result, Err(StoreError::NotOnHead { .. })), "{result:?}");

    let result = store.commit_block(&BlockBatch { senders: &[address(1); 9], ..block.batch() });
    assert!(matches!(result, Err(StoreError::UnevenBatch { .. })), "{result:?}");

    let result = store.commit_genesis(&chain.blocks[0].batch());
    assert!(matches!(result, Err(StoreError::GenesisExists)), "{result:?}");

    assert_eq!(store.head(), expected);
    store.commit_block(&block.batch()).expect("the store goes on");
    check(&store, &chain);
}

#[test]
fn changes_over_another_state_are_refused_and_change_nothing() {
    let (store, mut chain) = chain_of(4);
    let block = chain.extend(&store, &steps(78), 1).clone();
    for (address, change) in &block.changes.accounts {
        let mut account = block.changes.clone();
        let entry = account.accounts.get_mut(address).expect("taken from there");
        entry.before = Some(heddle_trie::AccountState { nonce: 99, ..Default::default() });
        let result = store.commit_block(&BlockBatch { changes: &account, ..block.batch() });
        assert!(matches!(result, Err(StoreError::StaleChanges { .. })), "{result:?}");

        if change.wiped {
            continue;
        }
        for slot in change.storage.keys() {
            let mut slots = block.changes.clone();
            let entry = slots.accounts.get_mut(address).expect("taken from there");
            entry.storage.get_mut(slot).expect("taken from there").before += U256::ONE;
            let result = store.commit_block(&BlockBatch { changes: &slots, ..block.batch() });
            assert!(matches!(result, Err(StoreError::StaleChanges { .. })), "{result:?}");
        }
    }
    store.commit_block(&block.batch()).expect("the store goes on");
    check(&store, &chain);
}

#[test]
fn a_wrong_state_root_is_found_by_verification_and_by_unwinding() {
    let (store, mut chain) = chain_of(3);
    let trie = TrieUpdates::default();
    chain.push(B256::repeat_byte(3), trie, StateChanges::default(), 1);
    let block = chain.blocks.last().expect("just pushed").clone();
    store.commit_block(&block.batch()).expect("the store does not compute roots");
    let result = store.verify_state();
    assert!(matches!(result, Err(StoreError::WrongStateRoot { number: 4, .. })), "{result:?}");
    store.unwind_to(3).expect("the block below is right");
    store.verify_state().expect("and so is its state");
}

#[test]
fn before_the_genesis_block_the_store_says_that_it_is_empty() {
    let chain = Chain::new();
    let store = Store::in_memory(&chain.identity()).expect("memory");
    assert_eq!(store.head(), None);
    assert!(matches!(store.latest(), Err(StoreError::Empty)));
    assert!(matches!(store.verify_state(), Err(StoreError::Empty)));
    let result = store.commit_block(&chain.blocks[0].batch());
    assert!(matches!(result, Err(StoreError::Empty)), "{result:?}");
    let other = BlockBatch { hash: B256::ZERO, ..chain.blocks[0].batch() };
    assert!(matches!(store.commit_genesis(&other), Err(StoreError::WrongGenesis { .. })));
}

#[test]
fn a_block_above_the_head_is_unknown_to_views_unwinds_proofs_and_tags() {
    let (store, _) = chain_of(2);
    let unknown = |error| matches!(error, StoreError::UnknownBlock { number: 3, head: 2 });
    assert!(store.state_at(3).is_err_and(unknown));
    assert!(store.unwind_to(3).is_err_and(unknown));
    assert!(store.proof_at(3, address(1), &[]).is_err_and(unknown));
    assert!(store.set_safe(3).is_err_and(unknown));
}

#[test]
fn a_proof_beyond_the_limit_is_refused_with_the_limit() {
    let (store, mut chain) = chain_of(1);
    for salt in 0..heddle_store::PROOF_DEPTH_BLOCKS {
        let block = chain.extend(&store, &Steps::new(), salt);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
    store.proof_at(1, address(1), &[]).expect("exactly at the limit");
    let error = store.proof_at(0, address(1), &[]).expect_err("one beyond it");
    assert!(error.to_string().contains("the limit is 1024 blocks"), "{error}");
}

#[test]
fn an_older_view_refuses_to_be_read_for_nodes() {
    let (store, _) = chain_of(2);
    let result = store.state_at(1).expect("a block of the chain").account_node(&Nibbles::new());
    assert!(matches!(result, Err(StoreError::NodesOfHistory { number: 1 })), "{result:?}");
}

#[test]
fn tags_stay_and_are_lowered_when_their_block_is_unwound() {
    let (store, _) = chain_of(6);
    assert_eq!(store.finalized().expect("readable"), None);
    store.set_finalized(2).expect("a block of the chain");
    store.set_safe(5).expect("a block of the chain");
    store.unwind_to(4).expect("a block of the chain");
    assert_eq!(store.finalized().expect("readable"), Some(2));
    assert_eq!(store.safe().expect("readable"), Some(4));
}

#[test]
fn side_blocks_are_kept_whole_until_they_are_finalized_away() {
    let (store, chain) = chain_of(6);
    for block in &chain.blocks {
        store.put_side_block(&block.stored).expect("writable");
    }
    store.unwind_to(0).expect("a block of the chain");
    store.remove_side_blocks_up_to(2).expect("writable");
    for (number, block) in chain.blocks.iter().enumerate() {
        let found = store.side_block(&block.stored.hash).expect("readable");
        assert_eq!(found, (number > 2).then(|| block.stored.clone()));
    }
}

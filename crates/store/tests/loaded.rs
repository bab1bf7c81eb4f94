//! A chain that was loaded at a later block than genesis, and what was altered by hand.

mod support;

use alloy_primitives::B256;
use heddle_store::{NewBase, Store, StoreError, StoredAccount};
use heddle_trie::{NoNodes, StateChanges, state_root};
use std::sync::Arc;
use support::{Block, Chain, Model, changes_from_nothing, check, steps};

/// A chain of so many blocks, in a store of its own.
fn chain_of(length: u64) -> (Store, Chain) {
    let mut chain = Chain::new();
    let store = Store::in_memory(&chain.identity()).expect("memory");
    store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    for seed in 1..=length {
        let block = chain.extend(&store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
    (store, chain)
}

fn without_state(block: &Block) -> Block {
    Block { changes: StateChanges::default(), trie: Arc::default(), ..block.clone() }
}

/// Puts the newest blocks of `chain`, from `first` on, in the place of what is in `store`.
fn load(store: &Store, chain: &Chain, first: usize) -> Result<(), StoreError> {
    let head = chain.blocks.last().expect("genesis is never removed");
    let state = changes_from_nothing(chain.states.last().expect("a state for every block"));
    let (root, trie) = state_root(&NoNodes, &state).expect("nothing to read");
    let codes = chain.blocks.iter().flat_map(|block| block.changes.code.clone());
    let state = StateChanges { code: codes.collect(), ..state };
    let earlier: Vec<Block> =
        chain.blocks[first..chain.blocks.len() - 1].iter().map(without_state).collect();
    let head = Block { changes: state, trie: trie.into(), ..head.clone() };
    let earlier: Vec<_> = earlier.iter().map(Block::batch).collect();
    store.replace(&NewBase { earlier: &earlier, head: head.batch(), root })
}

fn accounts_of(store: &Store) -> Vec<StoredAccount> {
    let mut accounts = Vec::new();
    let give = |account| {
        accounts.push(account);
        Ok::<_, StoreError>(())
    };
    store.latest().expect("there is a head").for_each_account(give).expect("readable");
    accounts
}

fn accounts_in(state: &Model) -> Vec<StoredAccount> {
    let account = |(address, (state, storage)): (&_, &(_, std::collections::BTreeMap<_, _>))| {
        let slots = storage.iter().map(|(slot, value)| (*slot, *value)).collect();
        StoredAccount { address: *address, state: *state, slots }
    };
    state.iter().map(account).collect()
}

#[test]
fn a_loaded_chain_goes_on_from_its_head_and_back_no_further_also_after_a_reopening() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut chain = chain_of(40).1;
    let identity = chain.identity();
    let open = || Store::open(directory.path(), &identity).expect("the directory is free");
    let mut store = open();
    store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    load(&store, &chain, 30).expect("the blocks follow on one another");
    assert_eq!((store.first_block().expect("readable"), store.first_state()), (30, 40));
    for seed in 41..=44 {
        let block = chain.extend(&store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
        drop(store);
        store = open();
    }
    assert!(store.is_loaded());
    assert_eq!(accounts_of(&store), accounts_in(chain.states.last().expect("there is one")));
    for number in 30..=44 {
        let stored = store.block(number).expect("readable");
        assert_eq!(stored.as_ref(), Some(&chain.blocks[number as usize].stored));
        let receipts = store.receipts(number).expect("readable");
        assert_eq!(receipts.as_ref(), Some(&chain.blocks[number as usize].receipts));
    }
    assert_eq!(store.block(29).expect("readable"), None);

    // States and proofs from the first head on, not before it.
    for number in 40..=44 {
        let view = store.state_at(number).expect("it is kept");
        for (address, (account, _)) in &chain.states[number as usize] {
            assert_eq!(view.account(address).expect("readable"), Some(*account));
        }
        store.past_nodes(number).expect("the root comes out");
    }
    let refused =
        |error| assert!(matches!(error, StoreError::StateNotKept { number: 39, base: 40 }));
    refused(store.state_at(39).expect_err("no state"));
    refused(store.past_nodes(39).expect_err("no state"));
    refused(store.changed_accounts(40, 44).expect_err("no state"));
    assert!(store.changed_accounts(41, 44).is_ok());
    refused(store.unwind_to(39).expect_err("no state"));
    assert_eq!(store.head(), Some(chain.head()));
    assert_eq!(store.unwind_to(40).expect("the first head"), chain.unwind_to(40));
    store.verify_state().expect("the state is that of the first head");
    assert_eq!(accounts_of(&store), accounts_in(chain.states.last().expect("there is one")));
}

#[test]
fn a_chain_whose_root_is_not_in_its_header_is_checked_against_its_own() {
    let mut chain = chain_of(9).1;
    let block = &mut chain.blocks[9].stored;
    block.header.state_root = B256::repeat_byte(0xbb);
    block.hash = block.header.hash_slow();
    let store = Store::in_memory(&chain.identity()).expect("memory");
    load(&store, &chain, 0).expect("the blocks follow on one another");
    store.verify_state().expect("the root is that of the state");
    store.past_nodes(9).expect("the root is that of the state");
    let block = chain.extend(&store, &steps(10), 10);
    store.commit_block(&block.batch()).expect("it extends the head");
    store.unwind_to(9).expect("the first head");
}

#[test]
fn blocks_that_do_not_follow_on_one_another_leave_what_was_there() {
    let (store, chain) = chain_of(12);
    let mut other = chain_of(9).1;
    other.blocks.remove(5);
    assert!(matches!(load(&store, &other, 0), Err(StoreError::NotOnHead { number: 6, .. })));
    let mut other = chain_of(9).1;
    other.blocks[7].receipts.pop();
    assert!(matches!(load(&store, &other, 0), Err(StoreError::UnevenBatch { number: 7, .. })));
    assert!(!store.is_loaded());
    check(&store, &chain);
}

#[test]
fn alterations_are_kept_for_the_block_that_starts_from_them_and_go_with_the_blocks_below() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_, chain) = chain_of(3);
    let identity = chain.identity();
    let mut store = Store::open(directory.path(), &identity).expect("opened");
    store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    let altered = |seed: u64| support::changes(&chain.states[seed as usize], &steps(99 + seed));
    for number in 0..3 {
        // Three pieces, then only the first of them, then that and another one.
        store.put_alterations(0, &[altered(number), altered(2), altered(0)]).expect("writable");
        store.put_alterations::<StateChanges>(1, &[]).expect("writable");
        assert_eq!(store.alterations(number + 1).expect("readable"), [altered(number)]);
        store.put_alterations(1, &[altered(1)]).expect("writable");
        drop(store);
        store = Store::open(directory.path(), &identity).expect("opened again");
        let block = &chain.blocks[number as usize + 1];
        store.commit_block(&block.batch()).expect("it extends the head");
    }
    for number in 0..3 {
        assert_eq!(store.alterations(number + 1).expect("readable"), [altered(number), altered(1)]);
    }
    store.unwind_to(1).expect("a block of the chain");
    store.put_alterations::<StateChanges>(0, &[]).expect("there are none");
    assert_eq!(store.alterations(1).expect("readable"), [altered(0), altered(1)]);
    assert_eq!(store.alterations(2).expect("readable"), []);
    assert_eq!(store.alterations(3).expect("readable"), []);
}

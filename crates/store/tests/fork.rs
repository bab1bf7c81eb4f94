//! A chain whose first state is somewhere else: what was changed here, and what is not known here, together are the
//! state of a chain that has it all.

mod support;

use alloy_primitives::U256;
use heddle_store::{StateView, Store, StoreError};
use heddle_trie::{AccountState, StateChanges};
use proptest::prelude::*;
use std::sync::Arc;
use support::{ACCOUNTS, Block, Chain, Model, SLOTS, address, slot, steps};

/// A chain of so many blocks in a store of its own, and a store that forks its head.
fn forked(length: u64) -> (Store, Chain, Store) {
    let mut chain = Chain::new();
    let whole = Store::in_memory(&chain.identity()).expect("memory");
    whole.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    for seed in 1..=length {
        let block = chain.extend(&whole, &steps(seed), seed);
        whole.commit_block(&block.batch()).expect("it extends the head");
    }
    let fork = Store::in_memory(&chain.identity()).expect("memory");
    let genesis = Chain::new();
    fork.commit_genesis(&genesis.blocks[0].batch()).expect("an empty store takes its genesis");
    let head = chain.blocks.last().expect("genesis is never removed");
    fork.fork(&without_state(head).batch()).expect("it is in memory");
    (whole, chain, fork)
}

fn without_state(block: &Block) -> Block {
    Block { changes: StateChanges::default(), trie: Arc::default(), ..block.clone() }
}

/// The block as it goes into the fork: no nodes, and of wiped slots that are written again what they were.
fn for_fork(block: &Block, parent: &Model) -> Block {
    let mut block = Block { trie: Arc::default(), ..block.clone() };
    let wiped = block.changes.accounts.iter().filter(|(_, change)| change.wiped);
    for address in wiped.map(|(address, _)| *address).collect::<Vec<_>>() {
        let change = block.changes.accounts.get_mut(&address).expect("just found");
        for slot in change.storage.keys().copied().collect::<Vec<_>>() {
            let change = change.storage.get_mut(&slot).expect("just found");
            change.before = value(parent, address, slot);
        }
    }
    block
}

fn value(state: &Model, address: alloy_primitives::Address, slot: U256) -> U256 {
    let slots = state.get(&address).map(|(_, slots)| slots);
    slots.and_then(|slots| slots.get(&slot).copied()).unwrap_or_default()
}

/// What a reader who knows the base finds.
fn account_of(view: &StateView, base: &Model, index: u8) -> Option<AccountState> {
    let found = view.account(&address(index)).expect("readable");
    if found.is_none() && !view.knows_account(&address(index)).expect("readable") {
        return base.get(&address(index)).map(|(account, _)| *account);
    }
    found
}

fn slot_of(view: &StateView, base: &Model, account: u8, index: u8) -> U256 {
    let found = view.storage(&address(account), slot(index)).expect("readable");
    if found.is_zero() && !view.knows_slot(&address(account), slot(index)).expect("readable") {
        return value(base, address(account), slot(index));
    }
    found
}

fn check(fork: &Store, chain: &Chain, first: usize) {
    let base = &chain.states[first];
    assert_eq!(fork.head(), Some(chain.head()));
    for (number, state) in chain.states.iter().enumerate().skip(first) {
        let view = fork.state_at(number as u64).expect("at or after the base");
        for account in 0..=ACCOUNTS {
            let expected = state.get(&address(account)).map(|(account, _)| *account);
            assert_eq!(account_of(&view, base, account), expected, "{account} at {number}");
            for index in 0..=SLOTS {
                let expected = value(state, address(account), slot(index));
                let found = slot_of(&view, base, account, index);
                assert_eq!(found, expected, "{account}, {index} at {number}");
            }
        }
    }
    if let Some(before) = first.checked_sub(1) {
        let error = fork.state_at(before as u64).expect_err("not here");
        assert!(matches!(error, StoreError::StateNotKept { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_fork_and_its_base_are_the_state_at_every_block_also_after_going_back(
        length in 0_u64..6,
        actions in prop::collection::vec((1_u64..1_000, 0_usize..4), 1..14),
    ) {
        let (whole, mut chain, fork) = forked(length);
        let first = length as usize;
        for (seed, back) in actions {
            if seed % 4 == 0 {
                let target = (chain.blocks.len() - 1 - back.min(chain.blocks.len() - 1)).max(first);
                let removed = chain.unwind_to(target);
                prop_assert_eq!(fork.unwind_to(target as u64).expect("not before the base"), removed);
                whole.unwind_to(target as u64).expect("a block of the chain");
            } else {
                let block = chain.extend(&whole, &steps(seed), seed).clone();
                whole.commit_block(&block.batch()).expect("it extends the head");
                let parent = &chain.states[chain.states.len() - 2];
                fork.commit_block(&for_fork(&block, parent).batch()).expect("it extends the head");
            }
            check(&fork, &chain, first);
        }
    }
}

#[test]
fn what_takes_the_whole_state_is_refused_and_so_is_a_fork_on_disk() {
    let (_, chain, fork) = forked(3);
    let refused = |error: StoreError| {
        assert!(matches!(error, StoreError::NotWhole { base: 3 }), "{error}");
    };
    refused(fork.verify_state().expect_err("not all here"));
    refused(fork.proof_at(3, address(1), &[]).expect_err("no trie"));
    refused(fork.past_nodes(3).expect_err("no trie"));
    let give = |_| Ok::<_, StoreError>(());
    refused(fork.latest().expect("a head").for_each_account(give).expect_err("not all here"));
    assert!(fork.unwind_to(2).is_err());

    let directory = tempfile::tempdir().expect("a temporary directory");
    let genesis = Chain::new();
    let kept = Store::open(directory.path(), &genesis.identity()).expect("a new directory");
    kept.commit_genesis(&genesis.blocks[0].batch()).expect("an empty store takes its genesis");
    let head = chain.blocks.last().expect("genesis is never removed");
    let error = kept.fork(&without_state(head).batch()).expect_err("on disk");
    assert!(matches!(error, StoreError::ForkOnDisk), "{error}");
    assert_eq!(kept.head(), Some(genesis.head()));
}

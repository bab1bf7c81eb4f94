//! State roots over large states: what they are, and with `HEDDLE_ROOT_ACCOUNTS=1000000` how fast.

#![allow(clippy::print_stdout, reason = "a test says what it has measured")]

use alloy_consensus::Header;
use alloy_primitives::{Address, B256, U256, keccak256};
use heddle_store::{BlockBatch, ChainIdentity, Store};
use heddle_trie::{
    AccountChange, AccountState, NoNodes, SlotChange, StateChanges, StateTrie, TrieUpdates,
    state_root,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Accounts of the short run; the token has as many slots.
const ACCOUNTS: u64 = 3_000;
const ROUNDS: u64 = 10;

fn address(index: u64) -> Address {
    Address::from_word(keccak256(index.to_be_bytes()))
}

fn slot(index: u64) -> U256 {
    keccak256(index.to_le_bytes()).into()
}

/// The `index`th of numbers below `end` that follow no order (splitmix64).
fn scattered(index: u64, end: u64) -> u64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % end
}

/// Accounts with a balance, and the last of them, the token, with as many slots.
fn genesis(accounts: u64) -> StateChanges {
    let mut changes: Vec<(Address, AccountChange)> = (0..accounts)
        .map(|index| {
            let balance = U256::from(1_000_000 + index);
            let after = Some(AccountState { balance, ..Default::default() });
            (address(index), AccountChange { after, ..Default::default() })
        })
        .collect();
    let mut slots: Vec<_> = (0..accounts)
        .map(|index| (slot(index), SlotChange { before: U256::ZERO, after: U256::from(index + 1) }))
        .collect();
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    changes[accounts as usize - 1].1.storage = slots.into_iter().collect();
    changes.sort_unstable_by_key(|(address, _)| *address);
    StateChanges { accounts: changes.into_iter().collect(), ..Default::default() }
}

fn block(parent: B256, number: u64, state_root: B256) -> (Header, B256) {
    let header = Header { parent_hash: parent, number, state_root, ..Default::default() };
    let hash = header.hash_slow();
    (header, hash)
}

fn batch<'a>(
    (header, hash): &'a (Header, B256),
    changes: &'a StateChanges,
    trie: &'a Arc<TrieUpdates>,
) -> BlockBatch<'a> {
    BlockBatch {
        header,
        hash: *hash,
        transactions: &[],
        senders: &[],
        ommers: &[],
        withdrawals: None,
        receipts: &[],
        changes,
        trie,
        total_difficulty: None,
    }
}

/// What a block changes: so many of the token's slots, or so many accounts, anywhere.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Slots,
    Accounts,
}

fn change(store: &Store, kind: Kind, round: u64, count: u64, accounts: u64) -> StateChanges {
    let view = store.latest().expect("genesis is stored");
    let chosen = (0..count).map(|index| scattered(round * count + index, accounts));
    let account = |index| view.account(&address(index)).expect("readable");
    let mut changes: Vec<(Address, AccountChange)> = match kind {
        Kind::Accounts => chosen
            .map(|index| {
                let before = account(index);
                let after = before.map(|state| AccountState { nonce: state.nonce + 1, ..state });
                (address(index), AccountChange { before, after, ..Default::default() })
            })
            .collect(),
        Kind::Slots => {
            let token = address(accounts - 1);
            let mut slots: Vec<_> = chosen
                .map(|index| {
                    let before = view.storage(&token, slot(index)).expect("readable");
                    (slot(index), SlotChange { before, after: before + U256::ONE })
                })
                .collect();
            slots.sort_unstable_by_key(|(slot, _)| *slot);
            slots.dedup_by_key(|(slot, _)| *slot);
            let state = account(accounts - 1);
            let storage = slots.into_iter().collect();
            vec![(token, AccountChange { before: state, after: state, wiped: false, storage })]
        }
    };
    changes.sort_unstable_by_key(|(address, _)| *address);
    changes.dedup_by_key(|(address, _)| *address);
    StateChanges { accounts: changes.into_iter().collect(), ..Default::default() }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

#[test]
fn roots_over_a_large_state_are_those_of_a_full_recomputation() {
    let accounts: u64 = std::env::var("HEDDLE_ROOT_ACCOUNTS")
        .map_or(ACCOUNTS, |text| text.parse().expect("HEDDLE_ROOT_ACCOUNTS is a number"));
    let changed = (accounts / 10).min(10_000);
    let changes = genesis(accounts);
    let (root, trie) = state_root(&NoNodes, &changes).expect("nothing to read");
    let mut head = block(B256::ZERO, 0, root);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let identity = ChainIdentity { chain_id: 1, genesis_hash: head.1 };
    let store = Store::open(directory.path(), &identity).expect("opened");
    store.commit_genesis(&batch(&head, &changes, &trie.into())).expect("an empty store takes it");
    drop(changes);

    let mut kept = StateTrie::stored(&store.latest().expect("stored")).expect("readable");
    for kind in [Kind::Slots, Kind::Accounts] {
        let (mut in_memory, mut from_disk) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let changes = change(&store, kind, round, changed, accounts);
            let view = store.latest().expect("stored");
            let started = Instant::now();
            let (root, _) = state_root(&view, &changes).expect("nodes are intact");
            from_disk.push(started.elapsed());
            let started = Instant::now();
            let (after, trie) = kept.after(&view, &changes).expect("nodes are intact");
            in_memory.push(started.elapsed());
            assert_eq!(after.root(), root);
            kept = after;
            head = block(head.1, head.0.number + 1, root);
            store.commit_block(&batch(&head, &changes, &trie.into())).expect("it extends the head");
        }
        println!(
            "{accounts} accounts, {changed} changed {kind:?} a block: {:.1} ms with the nodes that \
             recent blocks left in memory (first block {:.1}, last {:.1}), {:.1} ms with none",
            median(in_memory.clone()),
            in_memory[0].as_secs_f64() * 1_000.0,
            in_memory[in_memory.len() - 1].as_secs_f64() * 1_000.0,
            median(from_disk),
        );
    }
    let started = Instant::now();
    let report = store.verify_state().expect("the root comes out");
    println!("full recomputation: {:.1} s", started.elapsed().as_secs_f64());
    assert_eq!((report.accounts, report.slots), (accounts, accounts));
}

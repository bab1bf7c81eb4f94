//! What is forgotten is refused by name, and what is kept is as it was.

mod support;

use heddle_store::{Kept, Prunable, PruneDistances, Store, StoreConfig, StoreError};
use proptest::prelude::*;
use support::{Chain, check_block, check_state, steps};

fn distances() -> impl Strategy<Value = PruneDistances> {
    let distance = || prop::option::of(0u64..25);
    (distance(), distance(), distance()).prop_map(|(state, receipts, bodies)| PruneDistances {
        state,
        receipts,
        bodies,
    })
}

fn store_with(prune: PruneDistances, chain: &Chain) -> Store {
    let config = StoreConfig { prune, ..Default::default() };
    let store = Store::in_memory_with(&chain.identity(), config).expect("memory");
    store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    store
}

fn extend(store: &Store, chain: &mut Chain, blocks: u64) {
    for _ in 0..blocks {
        let seed = chain.blocks.len() as u64;
        let block = chain.extend(store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
}

fn is_pruned<T>(result: &Result<T, StoreError>, what: Prunable, kept: u64) -> bool {
    match result {
        Err(StoreError::Pruned { what: found, first, .. }) => *found == what && *first == kept,
        _ => false,
    }
}

/// Everything that is kept against the model, and everything else against its error.
fn check_kept(store: &Store, chain: &Chain, kept: Kept) {
    assert_eq!(store.kept(), kept);
    for (number, (block, state)) in (0u64..).zip(chain.blocks.iter().zip(&chain.states)) {
        assert_eq!(store.header(number).expect("readable").as_ref(), Some(&block.stored.header));
        if number >= kept.state {
            check_state(store, chain, number, state);
        } else {
            assert!(is_pruned(&store.state_at(number), Prunable::State, kept.state));
            assert!(is_pruned(&store.past_nodes(number), Prunable::State, kept.state));
        }
        if number >= kept.receipts.max(kept.bodies) {
            check_block(store, number, block);
        }
        if number < kept.receipts {
            assert!(is_pruned(&store.receipts(number), Prunable::Receipts, kept.receipts));
            let logs = store.blocks_with_logs(number, number, &[support::address(2)], &[]);
            assert!(is_pruned(&logs, Prunable::Receipts, kept.receipts));
        }
        if number < kept.bodies {
            assert!(is_pruned(&store.block(number), Prunable::Bodies, kept.bodies));
        }
    }
    store.verify_state().expect("the head's state is whole");
    let report = store.verify_blocks(|_| {}).expect("what is kept is right");
    let blocks = chain.blocks.len() as u64;
    let expected = (blocks, blocks - kept.bodies, blocks - kept.receipts);
    assert_eq!((report.headers, report.bodies, report.receipts), expected);
}

fn entries(store: &Store, table: &str) -> u64 {
    let sizes = store.table_sizes().expect("readable");
    sizes.iter().find(|size| size.name == table).expect("there").entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_kept_reads_as_ever_and_what_is_not_is_refused(distances in distances(), blocks in 1u64..40) {
        let mut chain = Chain::new();
        let store = store_with(distances, &chain);
        extend(&store, &mut chain, blocks);
        let first = |distance: Option<u64>| distance.map_or(0, |distance| blocks.saturating_sub(distance));
        let kept = Kept { state: first(distances.state), receipts: first(distances.receipts), bodies: first(distances.bodies) };
        check_kept(&store, &chain, kept);
        prop_assert_eq!(entries(&store, "changes"), blocks - kept.state);
        prop_assert_eq!(entries(&store, "receipts"), blocks + 1 - kept.receipts);
        prop_assert_eq!(entries(&store, "bodies"), blocks + 1 - kept.bodies);

        // Back as far as everything is kept, and on from there.
        let back = kept.state.max(kept.bodies);
        if back < blocks {
            chain.unwind_to(back as usize);
            store.unwind_to(back).expect("its state and its blocks are kept");
            let lowered = Kept { receipts: kept.receipts.min(back + 1), ..kept };
            check_kept(&store, &chain, lowered);
            extend(&store, &mut chain, 3);
            prop_assert!(store.kept().state >= kept.state);
            let kept = store.kept();
            check_kept(&store, &chain, kept);
        }
        if kept.state > 0 {
            let refused = store.unwind_to(kept.state - 1).is_err_and(|error| matches!(error, StoreError::Pruned { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn pruning_at_once_leaves_the_same_as_pruning_by_and_by(distances in distances(), blocks in 1u64..40) {
        let mut chain = Chain::new();
        let by_and_by = store_with(distances, &chain);
        extend(&by_and_by, &mut chain, blocks);
        let mut again = Chain::new();
        let at_once = store_with(PruneDistances::default(), &again);
        extend(&at_once, &mut again, blocks);
        prop_assert_eq!(at_once.kept(), Kept::default());
        let report = at_once.prune(&distances, |_| {}).expect("pruned");
        let kept = by_and_by.kept();
        prop_assert_eq!((report.state, report.receipts, report.bodies), (kept.state, kept.receipts, kept.bodies));
        check_kept(&at_once, &again, kept);
        at_once.settle().expect("it can be written");
        by_and_by.settle().expect("it can be written");
        for table in ["changes", "receipts", "bodies", "account_history", "storage_history", "recent_logs"] {
            prop_assert_eq!(entries(&at_once, table), entries(&by_and_by, table), "{}", table);
        }
    }
}

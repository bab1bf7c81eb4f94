//! Bytes of the file change behind the store's back: whatever is answered is right, or an error, or found by verifying.

mod support;

use heddle_store::{ChainIdentity, DATABASE_FILE, Store, StoreConfig, StoreError};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;
use support::{ACCOUNTS, Chain, SLOTS, address, slot, steps};

const BLOCKS: u64 = 60;

/// A chain, and the file of the store that it is in.
fn sample() -> &'static (Chain, Vec<u8>) {
    static SAMPLE: OnceLock<(Chain, Vec<u8>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut chain = Chain::new();
        let store = Store::open(directory.path(), &chain.identity()).expect("opened");
        store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
        for seed in 1..=BLOCKS {
            let block = chain.extend(&store, &steps(seed), seed);
            store.commit_block(&block.batch()).expect("it extends the head");
        }
        drop(store);
        let file = fs::read(directory.path().join(DATABASE_FILE)).expect("readable");
        (chain, file)
    })
}

/// Asks for everything. Whether all that was answered, with something other than an error, is right.
fn answers_are_right(store: &Store, chain: &Chain) -> bool {
    let mut all = true;
    let mut check = |is_right: bool| all &= is_right;
    // An error is no wrong answer.
    fn right<T: PartialEq>(found: Result<T, StoreError>, expected: &T) -> bool {
        found.is_ok_and(|found| found != *expected).eq(&false)
    }
    check(store.head() == Some(chain.head()));
    for (number, (block, state)) in (0u64..).zip(chain.blocks.iter().zip(&chain.states)) {
        check(right(store.block(number), &Some(block.stored.clone())));
        check(right(store.receipts(number), &Some(block.receipts.clone())));
        check(right(store.block_number(&block.stored.hash), &Some(number)));
        for transaction in &block.stored.transactions {
            check(
                store
                    .transaction_candidates(transaction.tx_hash())
                    .map_or(true, |found| found.len() == 1),
            );
        }
        let Ok(view) = store.state_at(number) else { continue };
        for address in (0..=ACCOUNTS).map(address) {
            let expected = state.get(&address);
            check(right(view.account(&address), &expected.map(|(account, _)| *account)));
            for slot in (0..SLOTS).map(slot) {
                let value = expected.and_then(|(_, storage)| storage.get(&slot).copied());
                check(right(view.storage(&address, slot), &value.unwrap_or_default()));
            }
        }
    }
    all
}

fn verify(directory: &Path, identity: &ChainIdentity) -> Result<(), StoreError> {
    let checking = StoreConfig { check_file: true, ..Default::default() };
    let store = Store::open_with(directory, identity, checking)?;
    store.verify_state()?;
    store.verify_blocks(|_| {})?;
    Ok(())
}

/// Always the same few, unless many are asked for.
fn config() -> ProptestConfig {
    let asked = std::env::var("HEDDLE_DAMAGE_CASES").ok().and_then(|cases| cases.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(7) };
    let failure_persistence = None;
    ProptestConfig {
        max_shrink_iters: 0,
        rng_seed,
        failure_persistence,
        ..ProptestConfig::with_cases(asked.unwrap_or(40))
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_changed_byte_makes_a_panic_and_none_goes_unnoticed(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..12),
        together in any::<bool>(),
    ) {
        let (chain, file) = sample();
        let mut damaged = file.clone();
        for (place, (index, flip)) in changes.iter().enumerate() {
            // One after the other, as where a sector went bad, or anywhere.
            let at = if together { (changes[0].0.index(file.len()) + place) % file.len() } else { index.index(file.len()) };
            damaged[at] ^= flip;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join(DATABASE_FILE);
        fs::write(&path, &damaged).expect("writable");
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let store = Store::open(directory.path(), &chain.identity())?;
            let is_right = answers_are_right(&store, chain);
            let _ = store.verify_state();
            let parent = chain.head();
            let mut longer = chain.clone();
            let root = longer.blocks[parent.number as usize].stored.header.state_root;
            let block = longer.push(root, Default::default(), Default::default(), 1).clone();
            let _ = store.commit_block(&block.batch());
            let _ = store.unwind_to(BLOCKS - 3);
            Ok::<_, StoreError>(is_right)
        }));
        prop_assert!(answered.is_ok(), "a panic got out");

        fs::write(&path, &damaged).expect("writable");
        let verified = catch_unwind(AssertUnwindSafe(|| verify(directory.path(), &chain.identity())));
        prop_assert!(verified.is_ok(), "a panic got out of verifying");
        if let (Ok(Ok(false)), Ok(Ok(()))) = (answered, verified) {
            prop_assert!(false, "a wrong answer, and verifying finds nothing");
        }
    }
}

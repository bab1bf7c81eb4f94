//! Opening: after crashes, and where it must be refused.

mod support;

use heddle_store::{
    ChainIdentity, DATABASE_FILE, DurabilityPolicy, SCHEMA_VERSION, Store, StoreConfig, StoreError,
};
use redb::{Database, ReadableTable, TableDefinition, TableHandle};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{Chain, address, check, commit, steps};
use tempfile::TempDir;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const NEVER: Duration = Duration::from_secs(3_600);

fn config(durability: DurabilityPolicy) -> StoreConfig {
    StoreConfig { durability, ..Default::default() }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// What a crash would leave: a copy of the file as the system has it now.
fn crashed(from: &Path, identity: &ChainIdentity) -> (TempDir, Store) {
    let copy = directory();
    fs::copy(from.join(DATABASE_FILE), copy.path().join(DATABASE_FILE)).expect("copied");
    let store = Store::open(copy.path(), identity).expect("a crash leaves a whole block");
    (copy, store)
}

#[test]
fn a_crash_goes_back_to_the_last_flushed_block_and_loses_nothing_before_it() {
    let directory = directory();
    let mut chain = Chain::new();
    let identity = chain.identity();
    let window = config(DurabilityPolicy::Window(NEVER));
    let store = Store::open_with(directory.path(), &identity, window).expect("opened");
    commit(&store, &mut chain, 20);
    store.flush().expect("flushed");
    let flushed = chain.clone();
    commit(&store, &mut chain, 30);
    check(&store, &chain);
    let (_copy, reopened) = crashed(directory.path(), &identity);
    check(&reopened, &flushed);

    store.unwind_to(10).expect("a block of the chain");
    let (_copy, reopened) = crashed(directory.path(), &identity);
    check(&reopened, &flushed);
    store.flush().expect("flushed");
    chain.unwind_to(10);
    let (_copy, reopened) = crashed(directory.path(), &identity);
    check(&reopened, &chain);
}

#[test]
fn with_the_policy_every_block_a_crash_loses_nothing() {
    let directory = directory();
    let mut chain = Chain::new();
    let identity = chain.identity();
    let every = config(DurabilityPolicy::EveryBlock);
    let store = Store::open_with(directory.path(), &identity, every).expect("opened");
    for _ in 0..4 {
        commit(&store, &mut chain, 3);
        let (_copy, reopened) = crashed(directory.path(), &identity);
        check(&reopened, &chain);
    }
}

#[test]
fn within_the_window_a_commit_becomes_durable_by_itself() {
    let directory = directory();
    let mut chain = Chain::new();
    let identity = chain.identity();
    let window = config(DurabilityPolicy::Window(Duration::from_millis(20)));
    let store = Store::open_with(directory.path(), &identity, window).expect("opened");
    commit(&store, &mut chain, 5);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let (_copy, reopened) = crashed(directory.path(), &identity);
        if reopened.head() == Some(chain.head()) {
            return check(&reopened, &chain);
        }
        assert!(Instant::now() < deadline, "still at {:?}", reopened.head());
    }
}

#[test]
fn closing_makes_everything_durable_even_with_a_view_still_held() {
    let directory = directory();
    let mut chain = Chain::new();
    let identity = chain.identity();
    let window = config(DurabilityPolicy::Window(NEVER));
    let store = Store::open_with(directory.path(), &identity, window).expect("opened");
    commit(&store, &mut chain, 5);
    let view = store.latest().expect("not empty");
    drop(store);
    let store = Store::open(directory.path(), &identity).expect("closed before");
    check(&store, &chain);
    // Whether the old view still answers from memory is left open; it must not be wrong.
    if let Ok(Some(account)) = view.account(&support::address(1)) {
        let now = store.latest().expect("not empty").account(&support::address(1));
        assert_eq!(Some(account), now.expect("readable"));
    }
}

fn closed_store() -> (TempDir, Chain) {
    let directory = directory();
    let mut chain = Chain::new();
    let store = Store::open(directory.path(), &chain.identity()).expect("opened");
    commit(&store, &mut chain, 12);
    drop(store);
    (directory, chain)
}

#[test]
fn a_second_open_of_the_same_directory_says_that_it_is_in_use() {
    let (directory, chain) = closed_store();
    let first = Store::open(directory.path(), &chain.identity()).expect("opened");
    let error = Store::open(directory.path(), &chain.identity()).expect_err("in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("in use by another process"), "{message}");
    assert!(message.contains(&directory.path().display().to_string()), "{message}");
    let clone = first.clone();
    drop(first);
    Store::open(directory.path(), &chain.identity()).expect_err("a clone still has it");
    drop(clone);
    Store::open(directory.path(), &chain.identity()).expect("free again");
}

#[test]
fn a_directory_of_another_chain_is_refused_with_both_genesis_hashes() {
    let (directory, chain) = closed_store();
    let ours = chain.identity();
    let other_genesis = ChainIdentity { genesis_hash: Default::default(), ..ours };
    for other in [other_genesis, ChainIdentity { chain_id: 1, ..ours }] {
        let error = Store::open(directory.path(), &other).expect_err("foreign");
        assert!(matches!(error, StoreError::ForeignGenesis { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(&ours.genesis_hash.to_string()), "{message}");
        assert!(message.contains(&other.genesis_hash.to_string()), "{message}");
    }
    check(&Store::open(directory.path(), &ours).expect("unharmed"), &chain);
}

#[test]
fn newer_and_older_schema_versions_are_told_apart() {
    let (directory, chain) = closed_store();
    let set_version = |version: u32| {
        let database = Database::open(directory.path().join(DATABASE_FILE)).expect("opened");
        let transaction = database.begin_write().expect("writable");
        let mut meta = transaction.open_table(META).expect("there");
        meta.insert("schema_version", version.to_be_bytes().as_slice()).expect("writable");
        drop(meta);
        transaction.commit().expect("committed");
    };
    set_version(SCHEMA_VERSION + 1);
    let error = Store::open(directory.path(), &chain.identity()).expect_err("newer");
    assert!(matches!(error, StoreError::SchemaTooNew { found, .. } if found == SCHEMA_VERSION + 1));
    assert!(error.to_string().contains("upgrade heddle"), "{error}");
    set_version(2);
    let error = Store::open(directory.path(), &chain.identity()).expect_err("older");
    assert!(matches!(error, StoreError::SchemaTooOld { .. }), "{error:?}");
    assert!(error.to_string().contains("heddle export"), "{error}");
    set_version(SCHEMA_VERSION);
    check(&Store::open(directory.path(), &chain.identity()).expect("unharmed"), &chain);
}

#[test]
fn a_database_of_the_version_before_is_taken_over_with_what_was_altered_in_it() {
    const PIECES: TableDefinition<'_, (u64, u32), &[u8]> =
        TableDefinition::new("alteration_pieces");
    const WHOLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("alterations");
    let (directory, chain) = closed_store();
    let altered = support::changes(chain.states.last().expect("genesis at least"), &steps(77));
    let store = Store::open(directory.path(), &chain.identity()).expect("opened");
    let next = store.head().expect("there").number + 1;
    store.put_alterations(0, std::slice::from_ref(&altered)).expect("writable");
    // As every block's nodes and histories were written with it.
    store.settle().expect("writable");
    drop(store);
    let database = Database::open(directory.path().join(DATABASE_FILE)).expect("opened");
    let transaction = database.begin_write().expect("writable");
    {
        let pieces = transaction.open_table(PIECES).expect("there");
        let bytes = pieces.get((next, 0)).expect("readable").expect("there").value().to_vec();
        let mut whole = transaction.open_table(WHOLE).expect("a new table");
        whole.insert(next, bytes.as_slice()).expect("writable");
        let mut meta = transaction.open_table(META).expect("there");
        meta.insert("schema_version", 3u32.to_be_bytes().as_slice()).expect("writable");
        meta.remove("settled").expect("writable").expect("there");
    }
    transaction.delete_table(PIECES).expect("writable");
    transaction.commit().expect("committed");
    drop(database);
    for _ in 0..2 {
        let store = Store::open(directory.path(), &chain.identity()).expect("taken over");
        assert_eq!(store.alterations(next).expect("readable"), std::slice::from_ref(&altered));
        check(&store, &chain);
    }
}

#[test]
fn a_database_that_lost_its_log_index_gets_one_when_it_is_opened() {
    let (directory, chain) = closed_store();
    let with_logs = |store: &Store| {
        store.blocks_with_logs(0, 12, &[address(2)], &[]).expect("the index is readable")
    };
    let expected: Vec<u64> = (0..=12).filter(|number| number % 4 >= 2).collect();
    assert_eq!(with_logs(&Store::open(directory.path(), &chain.identity()).unwrap()), expected);
    {
        let database = Database::open(directory.path().join(DATABASE_FILE)).expect("opened");
        let transaction = database.begin_write().expect("writable");
        for table in ["recent_logs", "log_chunks"] {
            let handles = transaction.list_tables().expect("readable");
            let table = handles.into_iter().find(|handle| handle.name() == table);
            assert!(transaction.delete_table(table.expect("there")).expect("writable"));
        }
        let mut meta = transaction.open_table(META).expect("there");
        meta.remove("logs_indexed").expect("writable").expect("there");
        drop(meta);
        transaction.commit().expect("committed");
    }
    let store = Store::open(directory.path(), &chain.identity()).expect("indexed anew");
    check(&store, &chain);
    assert_eq!(with_logs(&store), expected);
}

#[test]
fn a_truncated_file_is_called_damaged_wherever_it_is_cut() {
    let (directory, chain) = closed_store();
    let file = directory.path().join(DATABASE_FILE);
    let whole = fs::read(&file).expect("readable");
    let length = whole.len() as u64;
    for kept in
        [0, 1, 8, 100, 319, 320, 4_096, 5_000, length / 3, length / 2, length - 4_096, length - 1]
    {
        fs::write(&file, &whole).expect("writable");
        let truncated = OpenOptions::new().write(true).open(&file).expect("writable");
        truncated.set_len(kept).expect("truncated");
        drop(truncated);
        let error = match Store::open(directory.path(), &chain.identity()) {
            Err(error) => error,
            Ok(store) => panic!("opened with {kept} of {length} bytes at {:?}", store.head()),
        };
        assert!(matches!(error, StoreError::DamagedFile { .. }), "{kept} bytes: {error:?}");
        let message = error.to_string();
        assert!(message.contains(&file.display().to_string()), "{message}");
        assert!(message.contains("import the chain again"), "{message}");
    }
    fs::write(&file, &whole).expect("writable");
    check(&Store::open(directory.path(), &chain.identity()).expect("whole again"), &chain);
}

#[test]
fn with_the_file_check_an_altered_page_is_found_when_opening() {
    let (directory, chain) = closed_store();
    let file = directory.path().join(DATABASE_FILE);
    let whole = fs::read(&file).expect("readable");
    let checking = StoreConfig { check_file: true, ..Default::default() };
    let open = || Store::open_with(directory.path(), &chain.identity(), checking);
    let mut found = 0;
    for start in (4_096..whole.len()).step_by(16 * 4_096) {
        let mut altered = whole.clone();
        let end = altered.len().min(start + 16 * 4_096);
        altered[start..end].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10);
        fs::write(&file, &altered).expect("writable");
        match open() {
            Ok(store) => check(&store, &chain),
            Err(StoreError::DamagedFile { .. }) => found += 1,
            Err(other) => panic!("from byte {start}: {other:?}"),
        }
    }
    assert!(found > 0, "nothing of what was altered is in use");
    fs::write(&file, &whole).expect("writable");
    check(&open().expect("whole again"), &chain);
}

#[test]
fn a_file_that_is_no_store_is_called_damaged() {
    let chain = Chain::new();
    let garbage = directory();
    fs::write(garbage.path().join(DATABASE_FILE), vec![0x5a; 100_000]).expect("writable");
    let other_database = directory();
    let database = Database::create(other_database.path().join(DATABASE_FILE)).expect("created");
    drop(database);
    for directory in [garbage, other_database] {
        let error = Store::open(directory.path(), &chain.identity()).expect_err("no store");
        assert!(matches!(error, StoreError::DamagedFile { .. }), "{error:?}");
    }
}

#[test]
fn a_path_that_is_a_file_or_lies_below_one_is_called_no_directory() {
    let chain = Chain::new();
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, b"in the way").expect("writable");
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path, &chain.identity()).expect_err("a file");
        assert!(matches!(error, StoreError::NotADirectory { .. }), "{error:?}");
    }
}

#[test]
fn what_a_crash_during_creation_left_behind_does_not_matter() {
    let directory = directory();
    let unfinished = directory.path().join(format!("{DATABASE_FILE}.unfinished"));
    fs::write(&unfinished, b"half of a header").expect("writable");
    let mut chain = Chain::new();
    let store = Store::open(&directory.path().join("."), &chain.identity()).expect("opened");
    commit(&store, &mut chain, 1);
    check(&store, &chain);
    assert!(!unfinished.exists());
}

#[test]
fn missing_directories_on_the_way_are_created() {
    let directory = directory();
    let path = directory.path().join("a/b/c");
    let chain = Chain::new();
    Store::open(&path, &chain.identity()).expect("opened");
    assert!(path.join(DATABASE_FILE).exists());
}

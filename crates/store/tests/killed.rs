//! A process that is killed while it commits. Alone in its program: a process that is being started holds every lock of the
//! one that starts it for a moment, and other tests open directories again.

mod support;

use heddle_store::{DurabilityPolicy, Store, StoreConfig};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Chain, commit};

const CHILD_DIRECTORY: &str = "HEDDLE_STORE_TEST_CHILD_DIRECTORY";
const CHILD_WINDOW: Duration = Duration::from_millis(10);
/// What two busy cores and a slow disk may add to the window.
const SLACK: Duration = Duration::from_millis(900);

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Not a test of its own: what the test below runs in another process and kills. Says of each block
/// when it was committed.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_DIRECTORY) else {
        return;
    };
    let mut chain = Chain::new();
    let durability = DurabilityPolicy::Window(CHILD_WINDOW);
    let window = StoreConfig { durability, ..Default::default() };
    let store =
        Store::open_with(Path::new(&path), &chain.identity(), window).expect("opened by the child");
    let head = store.head().map_or(0, |head| head.number);
    // The chain is the same every time, so the blocks that are there are known.
    let scratch = Store::in_memory(&chain.identity()).expect("memory");
    commit(&scratch, &mut chain, head);
    loop {
        commit(&store, &mut chain, 1);
        let line = format!("\ncommitted {} {}\n", chain.head().number, since_epoch().as_millis());
        std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
    }
}

#[test]
fn a_process_killed_while_committing_leaves_a_whole_block_no_older_than_the_window() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut last_head = None;
    for round in 1..=3u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test has a file"))
            .args(["--exact", "child_that_commits_until_it_is_killed"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let lines = std::thread::spawn(move || output.lines().map_while(Result::ok).collect());
        std::thread::sleep(Duration::from_millis(1_300 + 37 * round));
        let killed_at = since_epoch();
        child.kill().expect("killed");
        child.wait().expect("gone");
        let lines: Vec<String> = lines.join().expect("the pipe is closed");
        let due = (killed_at - CHILD_WINDOW - SLACK).as_millis();
        let durable = lines
            .iter()
            .filter_map(|line| line.strip_prefix("committed ")?.split_once(' '))
            .filter(|(_, at)| at.parse::<u128>().is_ok_and(|at| at < due))
            .filter_map(|(number, _)| number.parse::<u64>().ok())
            .max();

        let mut chain = Chain::new();
        let store = Store::open(directory.path(), &chain.identity()).expect("a whole block");
        if let Some(head) = store.head() {
            let scratch = Store::in_memory(&chain.identity()).expect("memory");
            commit(&scratch, &mut chain, head.number);
            assert_eq!(store.head(), Some(chain.head()));
            store.verify_state().expect("the state is that of the head");
        }
        let head = store.head().map(|head| head.number);
        assert!(head >= durable, "block {durable:?} was due to be durable, head is {head:?}");
        assert!(head >= last_head, "went back from {last_head:?} to {head:?}");
        last_head = head;
    }
    assert!(last_head > Some(0), "no block in three rounds");
}

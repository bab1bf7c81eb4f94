//! Where the tests find the public mainnet bundles.

use heddle_replay::find_bundles;
use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

/// The shared bundles; says aloud that a test is skipped where they are absent.
pub(crate) fn bundles() -> Vec<PathBuf> {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let directory = env::var_os("HEDDLE_FIXTURES").map_or(default, PathBuf::from).join("mainnet");
    if !directory.is_dir() {
        // Past the capture of the test runner: a skipped test must not look like a passed one.
        let _ = writeln!(
            io::stderr(),
            "skipped: no bundles in {} (set HEDDLE_FIXTURES)",
            directory.display()
        );
        return Vec::new();
    }
    find_bundles(&[directory]).expect("the fixtures are readable")
}

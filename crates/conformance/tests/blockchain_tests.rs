//! A fixed third of the Ethereum blockchain tests; `make conformance` runs all of them.

use alloy_primitives::keccak256;
use heddle_conformance::Suite;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Workers of the executor: more than the cores of most machines that run this, so that executions
/// interleave.
const WORKERS: usize = 4;

fn main() -> ExitCode {
    let mut out = io::stdout();
    let fixtures = std::env::var_os("HEDDLE_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")),
        PathBuf::from,
    );
    let archive = fixtures.join("blockchain-tests.tar.zst");
    if !archive.is_file() {
        let _ = writeln!(out, "SKIPPED: {} is not there (set HEDDLE_FIXTURES)", archive.display());
        return ExitCode::SUCCESS;
    }
    let in_third =
        |path: &std::path::Path| keccak256(path.to_string_lossy().as_bytes())[0].is_multiple_of(3);
    match Suite::new(archive).run(WORKERS, |file| in_third(&file.path)) {
        Ok(report) => {
            let _ = writeln!(out, "{report}");
            if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(out, "{error}");
            ExitCode::FAILURE
        }
    }
}

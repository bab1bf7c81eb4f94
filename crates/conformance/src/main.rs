//! Runs a directory, a file or an archive of Ethereum blockchain tests.

use clap::Parser;
use heddle_conformance::Suite;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Runs Ethereum blockchain tests through the import path with the parallel executor.
#[derive(Debug, Parser)]
struct Arguments {
    /// A directory or file of JSON tests, or a .tar.zst archive of them.
    path: PathBuf,
    /// Workers of the parallel executor.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Run only files whose path contains this.
    #[arg(long, default_value = "")]
    filter: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let selected = |path: &std::path::Path| path.to_string_lossy().contains(&arguments.filter);
    let run = Suite::new(arguments.path).run(arguments.workers, |file| selected(&file.path));
    match run {
        Ok(report) => {
            // A closed pipe is the reader's decision.
            let _ = writeln!(io::stdout(), "{report}");
            if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

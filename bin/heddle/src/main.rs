//! The `heddle` command: parse, call, print. What the words mean is in the crates.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the program that prints")]

mod args;
mod banner;
mod bench;
mod chain_file;
mod commands;
mod logging;
mod replay;
mod rpc_args;

use clap::Parser;
use std::process::ExitCode;

// Blocks are many short-lived small allocations on every core at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 0 done, 1 failed or not verified, 2 wrong usage (clap's own).
fn main() -> ExitCode {
    let args = args::Heddle::parse();
    if let Err(error) = logging::start(&args.logging) {
        eprintln!("heddle: {error:#}");
        return ExitCode::from(2);
    }
    let result = match args.command {
        args::Command::Node(node) => commands::node(*node),
        args::Command::Init(init) => commands::init(&init),
        args::Command::Db(db) => commands::db(&db),
        args::Command::Import(import) => chain_file::import(&import),
        args::Command::Export(export) => chain_file::export(&export),
        args::Command::Bench(bench) => bench::run(&bench),
        args::Command::Replay(replay) => replay::run(&replay),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

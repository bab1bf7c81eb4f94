//! The `heddle` command: parse, call, print. What the words mean is in the crates.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the program that prints")]

mod args;
mod banner;
mod bench;
mod chain_file;
mod commands;
mod database;
mod fork_args;
mod load;
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
    let log_switch = match logging::start(&args.logging) {
        Ok(switch) => switch,
        Err(error) => {
            eprintln!("heddle: {}", told(&error));
            return ExitCode::from(2);
        }
    };
    let result = match args.command {
        args::Command::Node(node) => commands::node(*node, log_switch),
        args::Command::Init(init) => commands::init(&init),
        args::Command::Db(db) => commands::db(&db),
        args::Command::Import(import) => chain_file::import(&import),
        args::Command::Export(export) => chain_file::export(&export),
        args::Command::Bench(bench) => bench::run(&bench),
        args::Command::Load(load) => load::run(&load),
        args::Command::Replay(replay) => replay::run(&replay),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("heddle: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, each once: many errors have their cause in their own sentence.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("no such file").context("cannot read a.json: no such file");
        assert_eq!(told(&error), "cannot read a.json: no such file");
        let error = Err::<(), _>(error).context("cannot start").expect_err("just made");
        assert_eq!(told(&error), "cannot start: cannot read a.json: no such file");
    }
}

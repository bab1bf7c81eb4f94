//! `heddle bench`

use crate::{
    args::{Bench, MemorySide},
    replay::print_curve,
};
use anyhow::{Context, bail};
use heddle_node::workers_by_default;
use heddle_parallel::ParallelExecutor;
use heddle_replay::{DependencyGraph, Scale, ScaleLine, ScalePoint};
use heddle_workload::{
    ColdRead, MeasureOptions, Measurement, MemoryUse, Side, Workload, WorkloadKind,
    WorkloadOptions, measure,
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    let workers = args.workers.map_or_else(workers_by_default, usize::from);
    let executor = ParallelExecutor::new(workers).context("cannot start the workers")?;
    let kinds = if args.workload.is_empty() { &WorkloadKind::ALL[..] } else { &args.workload };
    if let Some(side) = args.memory_of {
        return print_memory_of(args, kinds[0], &executor, side);
    }
    let cold_read = args
        .cold_read_us
        .map(|target| ColdRead::calibrate(Duration::from_micros(u64::from(target))));
    let options = MeasureOptions { repeat: usize::from(args.repeat), cold_read };
    if !args.json {
        print_head(args, cold_read);
    }
    let mut identical = true;
    for kind in kinds {
        let row = bench_one(args, *kind, &executor, &options)?;
        identical &= row.measured.identical;
        if args.json {
            println!("{}", serde_json::to_string(&row)?);
        } else {
            print_row(&row);
        }
        std::io::stdout().flush()?;
    }
    if !identical {
        bail!("a parallel result differed from the sequential one");
    }
    Ok(())
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    measured: Measurement,
    #[serde(flatten)]
    memory: Option<Memory>,
    #[serde(flatten)]
    scale: Option<Scaled>,
}

/// What the dependencies allow, how much of it was reached, and what more workers would do.
#[derive(Debug, Serialize)]
struct Scaled {
    /// `min(workers, total / critical path)` by measured time.
    bound: f64,
    /// The measured speed-up over that.
    bound_share: f64,
    simulation: ScaleLine,
}

/// What a run added to the process's memory at most, in bytes.
#[derive(Debug, Serialize)]
struct Memory {
    sequential_memory: u64,
    parallel_memory: u64,
    memory_ratio: f64,
}

fn bench_one(
    args: &Bench,
    kind: WorkloadKind,
    executor: &ParallelExecutor,
    options: &MeasureOptions,
) -> anyhow::Result<Row> {
    let progress = ProgressBar::new_spinner().with_message(format!("{kind}: setting up"));
    progress.enable_steady_tick(Duration::from_millis(100));
    let workload = set_up(args, kind)?;
    // Nothing else may run while the clock does.
    progress.disable_steady_tick();
    progress.set_message(format!("{kind}: measuring"));
    progress.tick();
    let measured = measure(&workload, executor, options)?;
    progress.set_message(format!("{kind}: simulating"));
    progress.tick();
    let scale = args.scale.then(|| scale(&workload, executor, &measured)).transpose()?;
    drop(workload);
    progress.set_message(format!("{kind}: measuring memory"));
    progress.tick();
    let memory = if args.memory { Some(memory(args, kind)?) } else { None };
    progress.finish_and_clear();
    Ok(Row { measured, memory, scale })
}

fn scale(
    workload: &Workload,
    executor: &ParallelExecutor,
    measured: &Measurement,
) -> anyhow::Result<Scaled> {
    let single = ParallelExecutor::new(1).context("cannot start a worker")?;
    let (spec, state, input) = (&workload.spec, &workload.state, workload.input());
    let (graph, _) = DependencyGraph::record(spec, state, &input)?;
    let executors = [&single, executor];
    let scale = Scale::measure(spec, state, &input, &graph, executors, measured.repeat)?;
    let simulation = scale.line();
    let bound = simulation.bound(measured.workers);
    Ok(Scaled { bound, bound_share: measured.speedup / bound, simulation })
}

fn set_up(args: &Bench, kind: WorkloadKind) -> anyhow::Result<Workload> {
    let options = WorkloadOptions {
        transactions: args.txs.map(|txs| txs as usize),
        accounts: args.accounts as usize,
        hot_ratio: args.hot_ratio,
        seed: args.seed,
        node_modules: args.node_modules.clone(),
    };
    Ok(Workload::new(kind, &options)?)
}

fn memory(args: &Bench, kind: WorkloadKind) -> anyhow::Result<Memory> {
    let sequential_memory = memory_of(args, kind, "sequential")?;
    let parallel_memory = memory_of(args, kind, "parallel")?;
    let memory_ratio = parallel_memory as f64 / sequential_memory as f64;
    Ok(Memory { sequential_memory, parallel_memory, memory_ratio })
}

/// Starts this program anew to run one side once.
fn memory_of(args: &Bench, kind: WorkloadKind, side: &str) -> anyhow::Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("bench")
        .args(["--memory-of", side, "--workload", kind.name()])
        .args(["--accounts", &args.accounts.to_string()])
        .args(["--hot-ratio", &args.hot_ratio.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .arg("--node-modules")
        .arg(&args.node_modules)
        // What the set-up freed must not serve the run unseen.
        .env("MIMALLOC_PURGE_DELAY", "0")
        .stderr(Stdio::inherit());
    for (name, value) in [
        ("--txs", args.txs.map(|txs| txs.to_string())),
        ("--workers", args.workers.map(|workers| workers.to_string())),
    ] {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    let output = command.output().context("cannot start a process to measure memory in")?;
    if !output.status.success() {
        bail!("the process that measures memory failed");
    }
    let used: MemoryUse = serde_json::from_slice(&output.stdout)
        .context("the process that measures memory gave no answer")?;
    Ok(used.added())
}

fn print_memory_of(
    args: &Bench,
    kind: WorkloadKind,
    executor: &ParallelExecutor,
    side: MemorySide,
) -> anyhow::Result<()> {
    let workload = set_up(args, kind)?;
    let side = match side {
        MemorySide::Sequential => Side::Sequential,
        MemorySide::Parallel => Side::Parallel,
    };
    let used = MemoryUse::of(&workload, executor, side)?;
    let used = used.context("this system does not tell a process's peak of memory")?;
    println!("{}", serde_json::to_string(&used)?);
    Ok(())
}

fn print_head(args: &Bench, cold_read: Option<ColdRead>) {
    if let Some(read) = cold_read {
        println!("first reads wait for {:.1} µs on average", read.measured().as_secs_f64() * 1e6);
    }
    print!(
        "{:<13} {:>7} {:>6} {:>7} {:>9} {:>13} {:>11} {:>8} {:>9} {:>12} {:>9} {:>9} {:>8}",
        "workload",
        "txs",
        "Mgas",
        "workers",
        "bare ms",
        "sequential ms",
        "parallel ms",
        "speed-up",
        "over bare",
        "untracked ms",
        "conflicts",
        "again",
        "Mgas/s"
    );
    if args.memory {
        print!(" {:>8} {:>8} {:>6}", "seq MB", "par MB", "memory");
    }
    println!();
}

fn print_row(Row { measured, memory, scale }: &Row) {
    print!(
        "{:<13} {:>7} {:>6.0} {:>7} {:>9.1} {:>13.1} {:>11.1} {:>7.2}x {:>8.2}x {:>12} {:>9} {:>9} {:>8.0}",
        measured.workload,
        measured.txs,
        measured.gas as f64 / 1e6,
        measured.workers,
        measured.bare_ms,
        measured.sequential_ms,
        measured.parallel_ms,
        measured.speedup,
        measured.speedup_over_bare,
        measured.untracked_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}")),
        measured.conflicts,
        measured.reexecutions,
        measured.gas_per_second / 1e6
    );
    if let Some(memory) = memory {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        print!(
            " {:>8.0} {:>8.0} {:>5.2}x",
            megabytes(memory.sequential_memory),
            megabytes(memory.parallel_memory),
            memory.memory_ratio
        );
    }
    println!("{}", if measured.identical { "" } else { "  RESULTS DIFFER" });
    if let Some(Scaled { bound, bound_share, simulation }) = scale {
        println!(
            "{:.2}x of at most {bound:.2}x: {:.0} % of the bound; simulated on {} worker(s) \
             {:.1} ms, measured then {:.1} ms",
            measured.speedup,
            bound_share * 100.0,
            simulation.simulated.workers,
            simulation.simulated.elapsed_ms,
            simulation.measured_ms,
        );
        print_curve(&ScalePoint::curve([(measured.sequential_ms, simulation)]));
        println!();
    }
}

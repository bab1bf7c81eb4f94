//! `heddle bench`

use crate::args::Bench;
use anyhow::{Context, bail};
use heddle_node::workers_by_default;
use heddle_parallel::ParallelExecutor;
use heddle_workload::{Measurement, Workload, WorkloadKind, measure};

pub(crate) fn run(args: &Bench) -> anyhow::Result<()> {
    let workers = args.workers.map_or_else(workers_by_default, usize::from);
    let executor = ParallelExecutor::new(workers).context("cannot start the workers")?;
    let kinds = if args.workload.is_empty() { &WorkloadKind::ALL[..] } else { &args.workload };
    if !args.json {
        print_head();
    }
    let mut identical = true;
    for kind in kinds {
        let txs = args.txs.map_or_else(|| kind.default_size(), |txs| txs as usize);
        let workload = Workload::new(*kind, txs, &args.node_modules)?;
        let measured = measure(kind.name(), &workload, &executor, usize::from(args.repeat))?;
        identical &= measured.identical;
        if args.json {
            println!("{}", serde_json::to_string(&measured)?);
        } else {
            print_row(&measured);
        }
    }
    if !identical {
        bail!("a parallel result differed from the sequential one");
    }
    Ok(())
}

fn print_head() {
    println!(
        "{:<12} {:>7} {:>7} {:>10} {:>14} {:>12} {:>8} {:>9} {:>9} {:>9}",
        "workload",
        "txs",
        "workers",
        "bare ms",
        "sequential ms",
        "parallel ms",
        "speed-up",
        "over bare",
        "conflicts",
        "Mgas/s"
    );
}

fn print_row(measured: &Measurement) {
    println!(
        "{:<12} {:>7} {:>7} {:>10.1} {:>14.1} {:>12.1} {:>7.2}x {:>8.2}x {:>9} {:>9.0}{}",
        measured.workload,
        measured.txs,
        measured.workers,
        measured.bare_ms,
        measured.sequential_ms,
        measured.parallel_ms,
        measured.speedup,
        measured.speedup_over_bare,
        measured.conflicts,
        measured.gas_per_second / 1e6,
        if measured.identical { "" } else { "  RESULTS DIFFER" }
    );
}

//! `heddle replay`

use crate::args::Replay;
use anyhow::{Context, bail};
use heddle_node::{ChainSource, workers_by_default};
use heddle_replay::{
    BlockLine, BlockReport, Bundle, HtmlReport, ReplayOptions, Replayer, Summary, find_bundles,
};

pub(crate) fn run(args: &Replay) -> anyhow::Result<()> {
    let options = ReplayOptions {
        workers: args.workers.map_or_else(workers_by_default, usize::from),
        repeat: usize::from(args.repeat),
        strict: args.strict,
        analyse: args.report.is_some(),
    };
    let mut html = args.report.as_ref().map(|_| HtmlReport::new(&options));
    let mut replayer = Replayer::new(options)?;
    if let Some(genesis) = &args.genesis {
        replayer = replayer.with_chain((*ChainSource::from_file(genesis)?.spec).clone());
    }
    let bundles = find_bundles(&args.bundles)?;
    if !args.json {
        print_head();
    }
    let mut lines = Vec::with_capacity(bundles.len());
    for path in &bundles {
        let bundle = Bundle::read(path)?;
        let report = replayer.replay(&bundle)?;
        print_block(args, &report)?;
        if let Some(html) = &mut html {
            html.add(&bundle, &report);
        }
        lines.push(report.line);
    }
    let summary = Summary::new(&lines);
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print_summary(&summary);
    }
    if let (Some(html), Some(path)) = (&html, &args.report) {
        html.write(path)?;
        eprintln!("report: {}", path.display());
    }
    if summary.verified < summary.blocks {
        bail!("{} of {} blocks did not verify", summary.blocks - summary.verified, summary.blocks);
    }
    Ok(())
}

fn print_block(args: &Replay, report: &BlockReport) -> anyhow::Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(&report.line).context("cannot write the line")?);
    } else {
        print_row(&report.line);
    }
    if let Some(mismatch) = &report.mismatch {
        eprintln!("block {}: {mismatch}", report.line.number);
    }
    if args.strict {
        for missing in &report.missing {
            eprintln!("block {}: the bundle lacks {missing}", report.line.number);
        }
    }
    Ok(())
}

fn print_head() {
    println!(
        "{:>9} {:<14} {:>5} {:>11} {:>8} {:>13} {:>11} {:>8} {:>7} {:>9} {:>6}",
        "block",
        "fork",
        "txs",
        "gas",
        "verified",
        "sequential ms",
        "parallel ms",
        "speed-up",
        "bound",
        "conflicts",
        "again"
    );
}

fn print_row(line: &BlockLine) {
    let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
    let ratio =
        |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
    println!(
        "{:>9} {:<14} {:>5} {:>11} {:>8} {:>13} {:>11} {:>8} {:>7} {:>9} {:>6}",
        line.number,
        line.spec,
        line.txs,
        line.gas,
        if line.verified { "yes" } else { "NO" },
        time(line.sequential_ms),
        time(line.parallel_ms),
        ratio(line.speedup),
        ratio(line.max_speedup),
        line.conflicts,
        line.reexecutions,
    );
}

fn print_summary(summary: &Summary) {
    let ratio =
        |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
    println!();
    println!(
        "{} of {} blocks verified, {} transactions, {} gas",
        summary.verified, summary.blocks, summary.txs, summary.gas
    );
    println!(
        "sequential {:.1} ms, parallel {:.1} ms: {} in total; by block {} mean, {} lowest, {} highest",
        summary.sequential_ms,
        summary.parallel_ms,
        ratio(summary.speedup),
        ratio(summary.speedup_mean),
        ratio(summary.speedup_min),
        ratio(summary.speedup_max),
    );
}

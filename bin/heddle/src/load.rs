//! `heddle load`

use crate::args::Load;
use anyhow::bail;
use heddle_load::{Latencies, LoadOptions, LoadReport, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

pub(crate) fn run(args: &Load) -> anyhow::Result<()> {
    let options = LoadOptions {
        endpoint: args.rpc.clone(),
        kind: args.workload,
        transactions: args.txs as usize,
        rate: args.rate,
        connections: usize::from(args.connections),
        batch: usize::from(args.batch),
        in_flight: usize::from(args.in_flight),
        accounts: args.accounts as usize,
        pending_max: args.pending as usize,
        seed: args.seed,
        private_key: args.private_key,
        max_fee: args.max_fee,
        chain_id: args.chain_id,
        patience: args.timeout,
        node_modules: args.node_modules.clone(),
    };
    let bar = ProgressBar::new(0).with_style(style());
    let report = heddle_load::run(&options, &mut |progress| show(&bar, &progress));
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    for fault in &report.faults {
        eprintln!("heddle: {fault}");
    }
    if !report.verified {
        bail!("the chain is not as the transactions should have left it");
    }
    Ok(())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg:<60} {wide_bar} {pos}/{len}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let (message, done, total) = match progress {
        Progress::Planning => ("making accounts and a plan".to_owned(), 0, 0),
        Progress::Signing { done, total } => ("signing".to_owned(), *done, *total),
        Progress::SettingUp { stage, done, total } => (stage.clone(), *done, *total),
        Progress::Running { sent, included, total, elapsed } => {
            (running(*sent, *included, *elapsed), *included, *total)
        }
        Progress::Checking { done, total } => ("checking".to_owned(), *done, *total),
    };
    bar.set_length(total as u64);
    bar.set_position(done as u64);
    bar.set_message(message);
}

fn running(sent: usize, included: usize, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { included as f64 / seconds } else { 0.0 };
    let waiting = sent.saturating_sub(included);
    format!("{seconds:.1} s: {rate:.0} a second in blocks, {waiting} waiting")
}

fn print(report: &LoadReport) {
    let LoadReport { included, txs, failed, expected_failures, retried, .. } = report;
    println!("workload     {}", report.workload);
    println!("included     {included} of {txs}, in {} blocks, {} gas", report.blocks, report.gas);
    println!("failed       {failed}; {expected_failures} more were made to; {retried} sent again");
    println!(
        "time         {:.3} s, {:.0} a second; the last answer after {:.3} s",
        report.seconds, report.tps, report.submit_seconds
    );
    println!(
        "latency ms   {:.2} p50, {:.2} p90, {:.2} p99, {:.2} longest",
        report.p50_ms, report.p90_ms, report.p99_ms, report.max_ms
    );
    println!("client       {:.2} µs of processor time a transaction", report.client_cpu_us_per_tx);
    let outcome = if report.verified { "all as they should be" } else { "NOT AS THEY SHOULD BE" };
    println!(
        "checks       {txs} receipts, {} nonces, balances, counters: {outcome}",
        report.checks
    );
    println!();
    print_histogram(&report.latencies);
}

/// Bars of the longest one's length at most.
const BAR_WIDTH: u64 = 50;

fn print_histogram(latencies: &Latencies) {
    let bars = latencies.bars();
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or_default().max(1);
    for bar in bars {
        // Whatever is there is seen.
        let width = (bar.count * BAR_WIDTH).div_ceil(most) as usize;
        let share = 100.0 * bar.count as f64 / latencies.count() as f64;
        println!(
            "{:>10.2} to {:>10.2} ms {:>8} {share:>5.1} % {}",
            bar.from_ms,
            bar.to_ms,
            bar.count,
            "#".repeat(width)
        );
    }
}

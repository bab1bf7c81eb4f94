//! `heddle replay`

use crate::args::Replay;
use anyhow::{Context, bail};
use heddle_node::{ChainSource, ChainSpec, workers_by_default};
use heddle_replay::{
    BlockLine, BlockReport, Bundle, BundleFetcher, HtmlReport, ReplayOptions, Replayer, ScaleLine,
    ScalePoint, SimulationCheck, Summary, find_bundles,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{ops::RangeInclusive, path::Path};

pub(crate) fn run(args: &Replay) -> anyhow::Result<()> {
    match (&args.rpc, &args.block) {
        (Some(url), Some(numbers)) => {
            let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
            match &args.save {
                Some(directory) => runtime.block_on(save(args, url, numbers.clone(), directory)),
                None => replay_from_node(args, &runtime, url, numbers.clone()),
            }
        }
        _ => replay_files(args),
    }
}

fn replay_files(args: &Replay) -> anyhow::Result<()> {
    let bundles = find_bundles(&args.bundles)?;
    let mut run = Run::start(args)?;
    for path in &bundles {
        run.replay(&Bundle::read(path)?)?;
    }
    run.end()
}

/// One block after the other: fetching ahead would take time from what is measured.
fn replay_from_node(
    args: &Replay,
    runtime: &tokio::runtime::Runtime,
    url: &str,
    numbers: RangeInclusive<u64>,
) -> anyhow::Result<()> {
    let fetcher = runtime.block_on(BundleFetcher::connect(url, given_rules(args)?))?;
    let mut run = Run::start(args)?;
    for number in numbers {
        run.replay(&runtime.block_on(fetcher.fetch(number))?.bundle)?;
    }
    run.end()
}

async fn save(
    args: &Replay,
    url: &str,
    numbers: RangeInclusive<u64>,
    directory: &Path,
) -> anyhow::Result<()> {
    let fetcher = BundleFetcher::connect(url, given_rules(args)?).await?;
    let bar = ProgressBar::new((numbers.end() - numbers.start()).saturating_add(1));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}")
    {
        bar.set_style(style);
    }
    let (mut fetched, mut there, mut transactions, mut wrong) = (0_u64, 0_u64, 0, 0_u64);
    let saved = fetcher.save(numbers, directory, |saved| {
        fetched += u64::from(saved.fetched);
        there += u64::from(!saved.fetched);
        transactions += saved.transactions;
        if let Some(mismatch) = &saved.mismatch {
            wrong += 1;
            bar.suspend(|| eprintln!("block {}: {mismatch}", saved.number));
        }
        bar.inc(1);
        bar.set_message(format!("block {}, {transactions} transactions", saved.number));
    });
    let saved = saved.await;
    bar.finish_and_clear();
    println!("bundles   {fetched} fetched, {there} were there, in {}", directory.display());
    println!("txs       {transactions}");
    saved?;
    if wrong > 0 {
        bail!("{wrong} of {fetched} blocks do not verify");
    }
    Ok(())
}

/// The rules of a chain that is not built in.
fn given_rules(args: &Replay) -> anyhow::Result<Option<ChainSpec>> {
    let source = args.genesis.as_deref().map(ChainSource::from_file).transpose()?;
    Ok(source.map(|source| (*source.spec).clone()))
}

/// Bundles one after the other, printed as they come.
struct Run<'a> {
    args: &'a Replay,
    replayer: Replayer,
    html: Option<HtmlReport>,
    lines: Vec<BlockLine>,
}

impl<'a> Run<'a> {
    fn start(args: &'a Replay) -> anyhow::Result<Self> {
        let options = ReplayOptions {
            workers: args.workers.map_or_else(workers_by_default, usize::from),
            repeat: usize::from(args.repeat),
            strict: args.strict,
            analyse: args.report.is_some(),
            simulate: args.simulate || args.check_simulation || args.report.is_some(),
        };
        let mut replayer = Replayer::new(options)?;
        if let Some(spec) = given_rules(args)? {
            replayer = replayer.with_chain(spec);
        }
        if !args.json {
            print_head(options.simulate);
        }
        let html = args.report.as_ref().map(|_| HtmlReport::new(&options));
        Ok(Self { args, replayer, html, lines: Vec::new() })
    }

    fn replay(&mut self, bundle: &Bundle) -> anyhow::Result<()> {
        let report = self.replayer.replay(bundle)?;
        print_block(self.args, &report)?;
        if let Some(html) = &mut self.html {
            html.add(bundle, &report);
        }
        self.lines.push(report.line);
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        let summary = Summary::new(&self.lines);
        if self.args.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            print_summary(&summary);
            print_simulation(&self.lines, &summary);
        }
        if let (Some(html), Some(path)) = (&self.html, &self.args.report) {
            html.write(path)?;
            eprintln!("report: {}", path.display());
        }
        let Summary { verified, blocks, .. } = summary;
        if verified < blocks {
            bail!("{} of {blocks} blocks did not verify", blocks - verified);
        }
        let holds = summary.simulation.as_ref().is_some_and(SimulationCheck::holds);
        if self.args.check_simulation && !holds {
            bail!("the simulation is too far from the measured times");
        }
        Ok(())
    }
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

fn print_head(simulate: bool) {
    print!(
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
    println!("{}", if simulate { "  simulated ms      off" } else { "" });
}

fn print_row(line: &BlockLine) {
    let time = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
    let ratio =
        |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"));
    print!(
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
    match &line.simulation {
        Some(ScaleLine { simulated, deviation, .. }) => {
            println!(" {:>13.2} {:>+6.0} %", simulated.elapsed_ms, deviation * 100.0);
        }
        None => println!(),
    }
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

fn print_simulation(lines: &[BlockLine], summary: &Summary) {
    let Some(check) = &summary.simulation else { return };
    let workers = lines.first().map_or(0, |line| line.workers);
    println!();
    println!(
        "simulated on {workers} worker(s): {} of {} blocks of {} ms and more within {:.0} % of the \
         measured time, median {:.1} %",
        check.within,
        check.blocks,
        SimulationCheck::SEQUENTIAL_MS_MIN,
        SimulationCheck::DEVIATION_MAX * 100.0,
        check.median_deviation.unwrap_or_default() * 100.0
    );
    let blocks = lines.iter().filter_map(|line| line.sequential_ms.zip(line.simulation.as_ref()));
    print_curve(&ScalePoint::curve(blocks));
}

/// The simulated curve beside its bound.
pub(crate) fn print_curve(points: &[ScalePoint]) {
    let row = |title: &str, cell: &dyn Fn(&ScalePoint) -> String| {
        let cells: String = points.iter().map(|point| format!(" {:>8}", cell(point))).collect();
        println!("{title:<20}{cells}");
    };
    row("workers, simulated", &|point| point.workers.to_string());
    row("speed-up, simulated", &|point| format!("{:.2}x", point.simulated_speedup));
    row("bound", &|point| format!("{:.2}x", point.bound));
}

//! `heddle import` and `heddle export`

use crate::args::{Export, Import};
use anyhow::Context;
use heddle_node::{Chain, ChainSource, open_chain, workers_by_default};
use heddle_replay::export_bundles;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    ops::RangeInclusive,
    path::Path,
};

/// Bytes read or written at a time.
const BUFFER_BYTES: usize = 1 << 20;

pub(crate) fn import(args: &Import) -> anyhow::Result<()> {
    let source = match &args.genesis {
        Some(genesis) => ChainSource::from_file(genesis)?,
        None => ChainSource::from_datadir(&args.datadir)?,
    };
    let file =
        File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let workers = args.workers.map_or_else(workers_by_default, usize::from);
    let chain = open_chain(&args.datadir, &source, workers)?;
    let bar = progress_bar(length);
    let reader = BufReader::with_capacity(BUFFER_BYTES, file);
    let imported = chain.import_chain_file(reader, |progress| {
        bar.set_position(progress.bytes);
        bar.set_message(format!(
            "block {}, {} transactions",
            progress.number, progress.transactions
        ));
    });
    bar.finish_and_clear();
    // What was imported before a bad block stays.
    chain.store().flush()?;
    let summary = imported?;
    let per_second = |count: u64| count as f64 / summary.seconds.max(1e-9);
    println!(
        "blocks    {} imported, {} known before ({:.1} a second)",
        summary.blocks,
        summary.known,
        per_second(summary.blocks)
    );
    println!(
        "txs       {} ({:.0} a second)",
        summary.transactions,
        per_second(summary.transactions)
    );
    println!("gas       {} ({:.1} million a second)", summary.gas, per_second(summary.gas) / 1e6);
    println!("seconds   {:.3}", summary.seconds);
    println!("head      {} {}", summary.head_number, summary.head);
    Ok(())
}

pub(crate) fn export(args: &Export) -> anyhow::Result<()> {
    let source = ChainSource::from_datadir(&args.datadir)?;
    let chain = open_chain(&args.datadir, &source, 1)?;
    let to = args.to.unwrap_or_else(|| chain.head().number());
    match (&args.bundles, &args.file) {
        (Some(directory), _) => write_bundles(&chain, args.from..=to, directory),
        (None, Some(file)) => write_chain(&chain, args.from..=to, file),
        (None, None) => unreachable!("clap wants one of the two"),
    }
}

fn write_chain(chain: &Chain, numbers: RangeInclusive<u64>, path: &Path) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let (from, to) = (*numbers.start(), *numbers.end());
    let blocks = chain.export_chain_file(&mut writer, from, to)?;
    writer.flush().with_context(|| format!("cannot write {}", path.display()))?;
    println!("blocks    {blocks}, from {from} to {to}, in {}", path.display());
    Ok(())
}

fn write_bundles(
    chain: &Chain,
    numbers: RangeInclusive<u64>,
    directory: &Path,
) -> anyhow::Result<()> {
    let (from, to) = (*numbers.start(), *numbers.end());
    let bar = ProgressBar::new((to + 1).saturating_sub(from));
    let exported = export_bundles(chain, numbers, directory, |done| {
        bar.set_position(done.blocks);
        bar.set_message(format!("block {}, {} transactions", done.number, done.transactions));
    });
    bar.finish_and_clear();
    let done = exported?;
    println!("bundles   {}, from {from} to {to}, in {}", done.blocks, directory.display());
    println!("txs       {}", done.transactions);
    Ok(())
}

fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style =
        ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {elapsed_precise} {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

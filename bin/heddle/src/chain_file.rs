//! `heddle import` and `heddle export`

use crate::args::{Export, Import};
use anyhow::Context;
use heddle_node::{ChainSource, open_chain, workers_by_default};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
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
    println!("blocks    {} imported, {} known before", summary.blocks, summary.known);
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
    let file = File::create(&args.file)
        .with_context(|| format!("cannot create {}", args.file.display()))?;
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    let blocks = chain.export_chain_file(&mut writer, args.from, to)?;
    writer.flush().with_context(|| format!("cannot write {}", args.file.display()))?;
    println!("blocks    {blocks}, from {} to {to}, in {}", args.from, args.file.display());
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

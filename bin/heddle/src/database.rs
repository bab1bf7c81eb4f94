//! `heddle db`: what is in a data directory, and whether it is right.

use crate::args::{DataDir, DbPrune};
use heddle_node::{PruneDistances, TableSize, check_store, open_store};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::time::Duration;

/// `heddle db stats`
pub(crate) fn stats(args: &DataDir) -> anyhow::Result<()> {
    let store = open_store(&args.datadir)?;
    let head = store.head();
    let tables = store.table_sizes()?;
    let file_bytes = std::fs::metadata(store.file())?.len();
    let used_bytes: u64 = tables.iter().map(TableSize::used_bytes).sum();
    if args.json {
        let tables = tables.iter().map(|table| {
            let TableSize { name, entries, bytes, overhead_bytes } = table;
            json!({ "table": name, "entries": entries, "bytes": bytes, "overhead_bytes": overhead_bytes })
        });
        println!(
            "{}",
            json!({
                "number": head.map(|head| head.number),
                "hash": head.map(|head| head.hash),
                "tables": tables.collect::<Vec<_>>(),
                "used_bytes": used_bytes,
                "file_bytes": file_bytes,
            })
        );
        return Ok(());
    }
    if let Some(head) = head {
        println!("head: block {}, {}", head.number, head.hash);
    }
    println!("{:<24} {:>14} {:>16} {:>16}", "table", "entries", "bytes", "overhead");
    for TableSize { name, entries, bytes, overhead_bytes } in &tables {
        println!("{name:<24} {entries:>14} {bytes:>16} {overhead_bytes:>16}");
    }
    println!(
        "in use: {used_bytes} bytes of a file of {file_bytes}; the rest is free for later blocks"
    );
    Ok(())
}

/// `heddle db prune`
pub(crate) fn prune(args: &DbPrune) -> anyhow::Result<()> {
    let distances = args.prune.distances(0)?;
    if distances == PruneDistances::default() {
        anyhow::bail!(
            "say what is to be forgotten: --prune.state, --prune.receipts or --prune.bodies"
        );
    }
    let store = open_store(&args.directory.datadir)?;
    let head = store.head().map_or(0, |head| head.number);
    let progress = ProgressBar::new(head);
    let report = store.prune(&distances, |kept| {
        progress.set_position(kept.state.max(kept.receipts).max(kept.bodies));
    });
    progress.finish_and_clear();
    let (report, kept) = (report?, store.kept());
    if args.directory.json {
        println!(
            "{}",
            json!({
                "pruned": { "state": report.state, "receipts": report.receipts, "bodies": report.bodies },
                "first": { "state": kept.state, "receipts": kept.receipts, "bodies": kept.bodies },
            })
        );
        return Ok(());
    }
    println!("{:<12} {:>16} {:>16}", "", "blocks pruned", "kept from block");
    for (name, pruned, first) in [
        ("state", report.state, kept.state),
        ("receipts", report.receipts, kept.receipts),
        ("bodies", report.bodies, kept.bodies),
    ] {
        println!("{name:<12} {pruned:>16} {first:>16}");
    }
    Ok(())
}

/// `heddle db verify`
pub(crate) fn verify(args: &DataDir) -> anyhow::Result<()> {
    let store = check_store(&args.datadir)?;
    let state = store.verify_state()?;
    let progress = ProgressBar::new(state.head.number).with_style(
        ProgressStyle::with_template("blocks {pos}/{len} {bar:40} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    progress.enable_steady_tick(Duration::from_millis(200));
    let blocks = store.verify_blocks(|number| progress.set_position(number));
    progress.finish_and_clear();
    let blocks = blocks?;
    if args.json {
        println!(
            "{}",
            json!({
                "verified": true,
                "number": state.head.number,
                "hash": state.head.hash,
                "state_root": state.state_root,
                "accounts": state.accounts,
                "slots": state.slots,
                "code": state.code,
                "first_block": blocks.first,
                "headers": blocks.headers,
                "bodies": blocks.bodies,
                "receipts": blocks.receipts,
                "changes": blocks.changes,
                "transactions": blocks.transactions,
            })
        );
        return Ok(());
    }
    println!(
        "verified: block {}, state root {}, {} accounts, {} slots, {} pieces of code",
        state.head.number, state.state_root, state.accounts, state.slots, state.code
    );
    println!(
        "verified: {} blocks from {} on, {} of them with {} transactions, {} with receipts, {} with the state before them",
        blocks.headers,
        blocks.first,
        blocks.bodies,
        blocks.transactions,
        blocks.receipts,
        blocks.changes
    );
    Ok(())
}

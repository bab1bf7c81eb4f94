//! The report for looking: one HTML page that needs nothing else, no network least of all.

use crate::{BlockLine, BlockReport, Bundle, ReplayError, ReplayOptions, SimulatedRun, Summary};
use alloy_primitives::B256;
use heddle_parallel::Ending;
use serde::Serialize;
use std::path::Path;

/// The page, with places for the other two and for the data.
const TEMPLATE: &str = include_str!("report/template.html");
const STYLE: &str = include_str!("report/style.css");
const SCRIPT: &str = include_str!("report/script.js");

/// Blocks whose timeline and locations a report holds; of more blocks it has the table alone.
/// A large block needs about 200 kB.
pub const REPORT_DETAILS_MAX: usize = 100;

/// Runs in one timeline: more than any block of today's gas limit has transactions.
const SPANS_MAX: usize = 20_000;

/// Collects blocks and becomes a page.
#[derive(Debug, Serialize)]
pub struct HtmlReport {
    workers: usize,
    repeat: usize,
    blocks: Vec<Block>,
}

#[derive(Debug, Serialize)]
struct Block {
    line: BlockLine,
    hash: Option<B256>,
    mismatch: Option<String>,
    notes: Vec<String>,
    details: Option<Details>,
}

/// What an [`crate::Analysis`] comes to on the page.
#[derive(Debug, Serialize)]
struct Details {
    elapsed_ns: u64,
    hashes: Vec<B256>,
    gas: Vec<u64>,
    /// `[worker, transaction, incarnation, start_ns, end_ns, ending]`, the ending 0 for a run to
    /// the end, 1 for one that met an estimate, 2 for one that must be the head, 3 for a failure.
    spans: Vec<[u64; 6]>,
    conflicts: Vec<Conflict>,
    hot: Vec<Hot>,
    critical_path: Vec<u32>,
    critical_path_ns: u64,
    max_speedup_ns: Option<f64>,
    simulated: Vec<SimulatedRun>,
    simulated_as_measured: SimulatedRun,
    measured_ms: f64,
    simulation_error: f64,
}

#[derive(Debug, Serialize)]
struct Conflict {
    location: String,
    writer: Option<u32>,
    reader: u32,
}

#[derive(Debug, Serialize)]
struct Hot {
    name: Option<String>,
    location: String,
    gas_serialised: u64,
    conflicts: usize,
    transactions: Vec<u32>,
}

impl HtmlReport {
    /// An empty report on replays with these options.
    pub const fn new(options: &ReplayOptions) -> Self {
        Self { workers: options.workers, repeat: options.repeat, blocks: Vec::new() }
    }

    /// Adds a block, with its details if it was analysed and there is room for them.
    pub fn add(&mut self, bundle: &Bundle, report: &BlockReport) {
        let room = self.blocks.iter().filter(|block| block.details.is_some()).count();
        let details = (room < REPORT_DETAILS_MAX).then(|| details(bundle, report)).flatten();
        self.blocks.push(Block {
            line: report.line.clone(),
            hash: bundle.hash,
            mismatch: report.mismatch.as_ref().map(ToString::to_string),
            notes: report.notes.clone(),
            details,
        });
    }

    /// The page.
    pub fn html(&self) -> String {
        let data = serde_json::json!({
            "summary": Summary::new(self.blocks.iter().map(|block| &block.line)),
            "report": self,
        });
        // In JSON `<` stands only inside of strings; escaped, no name that a contract gives
        // itself can end the script element.
        let data = data.to_string().replace('<', "\\u003c");
        // The data comes last, so that nothing in it is taken for a place to fill in.
        TEMPLATE
            .replace("{{STYLE}}", STYLE)
            .replace("{{SCRIPT}}", SCRIPT)
            .replace("{{DATA}}", &data)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReplayError> {
        let written = std::fs::write(path, self.html());
        written.map_err(|source| ReplayError::Write { path: path.to_owned(), source })
    }
}

fn details(bundle: &Bundle, report: &BlockReport) -> Option<Details> {
    let (analysis, scale) = report.analysis.as_ref().zip(report.scale.as_ref())?;
    let hashes = bundle
        .transactions
        .iter()
        .map(|tx| tx.hash.unwrap_or_else(|| *tx.transaction.tx_hash()))
        .collect();
    let spans = analysis.profile.spans().into_iter().take(SPANS_MAX).map(|span| {
        let ending = match span.ending {
            Ending::Executed => 0,
            Ending::Waited(_) => 1,
            Ending::NeededHead => 2,
            Ending::Failed => 3,
        };
        let (tx, incarnation) = (u64::from(span.tx.0), u64::from(span.incarnation.0));
        [span.worker as u64, tx, incarnation, span.start_ns, span.end_ns, ending]
    });
    let conflicts = analysis.profile.conflicts.iter().take(SPANS_MAX).map(|conflict| Conflict {
        location: conflict.location.to_string(),
        writer: conflict.writer.map(|writer| writer.0),
        reader: conflict.reader.0,
    });
    let hot = analysis.hot_locations.iter().map(|named| Hot {
        name: named.name.clone(),
        location: named.hot.location.to_string(),
        gas_serialised: named.hot.gas_serialised,
        conflicts: named.conflicts,
        transactions: named.hot.transactions.iter().map(|tx| tx.0).collect(),
    });
    Some(Details {
        elapsed_ns: u64::try_from(analysis.profile.elapsed.as_nanos()).unwrap_or(u64::MAX),
        hashes,
        gas: report.graph.transactions.iter().map(|node| node.gas).collect(),
        spans: spans.collect(),
        conflicts: conflicts.collect(),
        hot: hot.collect(),
        critical_path: analysis.critical_path_gas.transactions.iter().map(|tx| tx.0).collect(),
        critical_path_ns: scale.critical_path_ns.weight,
        max_speedup_ns: scale.max_speedup_ns,
        simulated: scale.simulated.clone(),
        simulated_as_measured: scale.simulated_as_measured,
        measured_ms: scale.measured_ms,
        simulation_error: scale.deviation(),
    })
}

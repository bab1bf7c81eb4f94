//! The lines of `heddle replay --json`. Other programs parse them: fields are added, never
//! renamed or removed.

use crate::{Checks, ScaleLine, SimulationCheck};
use serde::Serialize;

/// One block.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockLine {
    /// Block number.
    pub number: u64,
    /// Fork whose rules it ran under.
    pub spec: String,
    /// Transactions.
    pub txs: usize,
    /// Gas that they used.
    pub gas: u64,
    /// Whether the sequential and the parallel results are the same and agree with the header.
    pub verified: bool,
    /// What of the header was checked.
    pub checks: Checks,
    /// Median time of the sequential reference, in milliseconds; `None` if the block failed.
    pub sequential_ms: Option<f64>,
    /// Median time of the parallel executor, in milliseconds; `None` if the block failed.
    pub parallel_ms: Option<f64>,
    /// `sequential_ms / parallel_ms`.
    pub speedup: Option<f64>,
    /// Workers of the parallel executor.
    pub workers: usize,
    /// Stale reads found in the last parallel run.
    pub conflicts: usize,
    /// Runs beyond the first of a transaction in the last parallel run.
    pub reexecutions: usize,
    /// Gas of the heaviest chain of dependent transactions.
    pub critical_path_gas: u64,
    /// Gas of the block over `critical_path_gas`: what the dependencies allow any schedule at
    /// best, if gas were time. It is not quite: a chain of plain transfers weighs less in time.
    pub max_speedup: Option<f64>,
    /// Other numbers of workers, simulated; left out if that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulation: Option<ScaleLine>,
}

/// All blocks: the last line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Tells this line from those of blocks: always `true`.
    pub summary: bool,
    /// Blocks replayed.
    pub blocks: usize,
    /// How many of them verified.
    pub verified: usize,
    /// Transactions.
    pub txs: usize,
    /// Gas.
    pub gas: u64,
    /// Sum over the blocks that were measured, in milliseconds.
    pub sequential_ms: f64,
    /// Sum over the blocks that were measured, in milliseconds.
    pub parallel_ms: f64,
    /// `sequential_ms / parallel_ms`.
    pub speedup: Option<f64>,
    /// Mean of the blocks' speed-ups.
    pub speedup_mean: Option<f64>,
    /// The lowest of them.
    pub speedup_min: Option<f64>,
    /// The highest of them.
    pub speedup_max: Option<f64>,
    /// Gas a second of the parallel executor, over the blocks that were measured.
    pub gas_per_second: Option<f64>,
    /// How near the simulation comes to the clock; left out if nothing was simulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub simulation: Option<SimulationCheck>,
}

impl Summary {
    /// Adds the blocks up.
    pub fn new<'a>(blocks: impl IntoIterator<Item = &'a BlockLine, IntoIter: Clone>) -> Self {
        let blocks = blocks.into_iter();
        let mut summary = Self {
            summary: true,
            blocks: 0,
            verified: 0,
            txs: 0,
            gas: 0,
            sequential_ms: 0.0,
            parallel_ms: 0.0,
            speedup: None,
            speedup_mean: None,
            speedup_min: None,
            speedup_max: None,
            gas_per_second: None,
            simulation: SimulationCheck::new(blocks.clone()),
        };
        let (mut measured, mut speedups, mut measured_gas) = (0_u32, 0.0, 0);
        for block in blocks {
            summary.blocks += 1;
            summary.verified += usize::from(block.verified);
            summary.txs += block.txs;
            summary.gas += block.gas;
            let (Some(sequential), Some(parallel)) = (block.sequential_ms, block.parallel_ms)
            else {
                continue;
            };
            summary.sequential_ms += sequential;
            summary.parallel_ms += parallel;
            measured_gas += block.gas;
            let Some(speedup) = block.speedup else { continue };
            measured += 1;
            speedups += speedup;
            summary.speedup_min = Some(summary.speedup_min.map_or(speedup, |s| s.min(speedup)));
            summary.speedup_max = Some(summary.speedup_max.map_or(speedup, |s| s.max(speedup)));
        }
        summary.speedup = ratio(summary.sequential_ms, summary.parallel_ms);
        summary.speedup_mean = ratio(speedups, f64::from(measured));
        summary.gas_per_second = ratio(measured_gas as f64 * 1_000.0, summary.parallel_ms);
        summary
    }
}

/// `a / b`, where that is a number.
pub(crate) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn block(number: u64, times: Option<(f64, f64)>) -> BlockLine {
        BlockLine {
            number,
            spec: "Cancun".to_owned(),
            txs: 2,
            gas: 1_000,
            verified: times.is_some(),
            checks: Checks { gas_used: Some(true), receipts_root: None, logs_bloom: Some(true) },
            sequential_ms: times.map(|times| times.0),
            parallel_ms: times.map(|times| times.1),
            speedup: times.map(|times| times.0 / times.1),
            workers: 2,
            conflicts: 1,
            reexecutions: 1,
            critical_path_gas: 500,
            max_speedup: Some(2.0),
            simulation: None,
        }
    }

    #[test]
    fn a_block_is_one_line_with_the_fields_of_the_design() {
        let line = serde_json::to_string(&block(7, Some((3.0, 2.0)))).unwrap();
        assert_eq!(
            line,
            r#"{"number":7,"spec":"Cancun","txs":2,"gas":1000,"verified":true,"checks":{"gasUsed":true,"receiptsRoot":null,"logsBloom":true},"sequential_ms":3.0,"parallel_ms":2.0,"speedup":1.5,"workers":2,"conflicts":1,"reexecutions":1,"critical_path_gas":500,"max_speedup":2.0}"#
        );
    }

    #[test]
    fn the_summary_adds_up_what_was_measured_and_counts_what_was_not() {
        let blocks = [block(1, Some((3.0, 2.0))), block(2, Some((1.0, 2.0))), block(3, None)];
        let line = serde_json::to_string(&Summary::new(&blocks)).unwrap();
        assert_eq!(
            line,
            r#"{"summary":true,"blocks":3,"verified":2,"txs":6,"gas":3000,"sequential_ms":4.0,"parallel_ms":4.0,"speedup":1.0,"speedup_mean":1.0,"speedup_min":0.5,"speedup_max":1.5,"gas_per_second":500000.0}"#
        );
        let nothing = serde_json::to_value(Summary::new(&[])).unwrap();
        assert_eq!((nothing["blocks"].as_u64(), nothing["speedup"].is_null()), (Some(0), true));
    }
}

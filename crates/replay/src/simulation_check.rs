//! How near the simulation comes to the clock.

use crate::BlockLine;
use serde::Serialize;

/// The blocks of a run whose simulated time was held against the measured one, on as many workers
/// as the run had.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulationCheck {
    /// Blocks that take the sequential reference at least [`Self::SEQUENTIAL_MS_MIN`].
    pub blocks: usize,
    /// The median of their deviations, in either direction: 0.1 is 10 %.
    pub median_deviation: Option<f64>,
    /// How many of them deviate by at most [`Self::DEVIATION_MAX`].
    pub within: usize,
}

impl SimulationCheck {
    /// Smaller blocks are not counted: that the second worker wakes a few dozen microseconds sooner
    /// or later is chance, and more than a tenth of what they take.
    pub const SEQUENTIAL_MS_MIN: f64 = 1.0;
    /// Deviation that the median block may have, and most of the others.
    pub const DEVIATION_MAX: f64 = 0.15;
    /// Share of the blocks that must be within [`Self::DEVIATION_MAX`].
    pub const WITHIN_MIN: f64 = 0.75;

    /// Takes together what was simulated and measured; `None` if nothing was simulated.
    pub fn new<'a>(lines: impl IntoIterator<Item = &'a BlockLine>) -> Option<Self> {
        let mut simulated = false;
        let mut deviations = Vec::new();
        for line in lines {
            let Some(simulation) = &line.simulation else { continue };
            simulated = true;
            if line.sequential_ms.is_some_and(|ms| ms >= Self::SEQUENTIAL_MS_MIN) {
                deviations.push(simulation.deviation.abs());
            }
        }
        deviations.sort_unstable_by(f64::total_cmp);
        simulated.then(|| Self {
            blocks: deviations.len(),
            median_deviation: deviations.get(deviations.len() / 2).copied(),
            within: deviations
                .iter()
                .filter(|deviation| **deviation <= Self::DEVIATION_MAX)
                .count(),
        })
    }

    /// Whether the simulation is as good as it is to be. Nothing to hold it against is no proof.
    pub fn holds(&self) -> bool {
        self.median_deviation.is_some_and(|median| median <= Self::DEVIATION_MAX)
            && self.within as f64 >= Self::WITHIN_MIN * self.blocks as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScaleLine, SimulatedRun, line::tests::block};

    fn simulated(sequential_ms: f64, deviation: f64) -> BlockLine {
        let run = SimulatedRun { workers: 2, elapsed_ms: 1.0, conflicts: 0, reexecutions: 0 };
        let simulation = ScaleLine {
            transactions_ms: 1.0,
            critical_path_ms: 1.0,
            measured_ms: 1.0,
            simulated: run,
            deviation,
            curve: vec![run],
        };
        BlockLine { simulation: Some(simulation), ..block(7, Some((sequential_ms, 1.0))) }
    }

    #[test]
    fn the_larger_blocks_are_held_against_the_clock_and_the_smaller_ones_are_not() {
        let lines = [(3.0, -0.1), (2.0, 0.2), (0.9, 3.0), (1.0, 0.05), (5.0, -0.15)];
        let lines = lines.map(|(ms, deviation)| simulated(ms, deviation));
        let check = SimulationCheck::new(&lines).expect("there was a simulation");
        let expected = SimulationCheck { blocks: 4, median_deviation: Some(0.15), within: 3 };
        assert_eq!(check, expected);
        assert!(check.holds());
        let off = SimulationCheck { median_deviation: Some(0.16), within: 4, ..check };
        assert!(!off.holds(), "the median is off");
        assert!(!SimulationCheck { within: 2, ..check }.holds(), "too few are near");
    }

    #[test]
    fn nothing_to_hold_it_against_proves_nothing() {
        let check = SimulationCheck::new(&[simulated(0.1, 0.0)]).expect("there was a simulation");
        assert_eq!((check.blocks, check.holds()), (0, false));
        assert_eq!(SimulationCheck::new(&[block(7, Some((3.0, 1.0)))]), None);
    }
}

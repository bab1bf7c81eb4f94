//! What one run of a block takes in memory.

use crate::{Workload, WorkloadError, measure::Side};
use heddle_parallel::ParallelExecutor;
use serde::{Deserialize, Serialize};
use std::fs;

/// Resident memory of the process around one run, in bytes. Comparable only between processes that
/// do nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// With the state and the block's transactions in memory, before the run.
    pub before: u64,
    /// The most during the run, its result included.
    pub peak: u64,
}

impl MemoryUse {
    /// What the run added at most.
    pub const fn added(&self) -> u64 {
        self.peak.saturating_sub(self.before)
    }

    /// Runs a workload once and watches; `None` where the system does not tell (it is asked
    /// through Linux's `/proc`).
    ///
    /// # Errors
    /// If the block cannot be executed.
    pub fn of(
        workload: &Workload,
        executor: &ParallelExecutor,
        side: Side,
    ) -> Result<Option<Self>, WorkloadError> {
        // Sets the peak back to what is in use now (proc(5), clear_refs).
        let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
        let before = resident("VmRSS:");
        let result = side.run(workload, executor)?;
        let peak = resident("VmHWM:");
        drop(result);
        Ok(before.zip(peak).filter(|_| reset).map(|(before, peak)| Self { before, peak }))
    }
}

/// A line of `/proc/self/status`, in bytes.
fn resident(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_grows_by_what_is_written() {
        let before = resident("VmRSS:").unwrap();
        let written = vec![1_u8; 64 << 20];
        let after = resident("VmRSS:").unwrap();
        assert!(after - before > written.len() as u64 / 2, "{before} {after}");
    }
}

//! A node executes blocks for months: one after the other, they leave nothing behind.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "a test says what it has measured")]

use heddle_parallel::ParallelExecutor;
use heddle_workload::{Workload, WorkloadKind, WorkloadOptions};

const BLOCKS: usize = 10_000;
/// Until here, memory that is kept from block to block may still grow to its size.
const WARM: usize = 1_000;
/// In bytes: what an allocator may need more for the same, but not what so many blocks would leave
/// if each left a kilobyte.
const GROWTH_MAX: u64 = 8 << 20;

/// Resident memory, in bytes (proc(5), statm).
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = statm.split_whitespace().nth(1).expect("is there").parse().expect("a number");
    pages * 4_096
}

#[test]
fn ten_thousand_blocks_in_a_row_show_no_growth() {
    let executor = ParallelExecutor::new(2).expect("threads start");
    // Small and large, in place and by all workers, with conflicts and without.
    let blocks: Vec<_> = [
        (WorkloadKind::Transfers, 1_200),
        (WorkloadKind::Erc20, 60),
        (WorkloadKind::DaoVote, 60),
        (WorkloadKind::Lending, 40),
        (WorkloadKind::MixedDefi, 60),
        (WorkloadKind::NftMint, 8),
    ]
    .into_iter()
    .map(|(kind, transactions)| {
        let transactions = Some(transactions);
        let options = WorkloadOptions { transactions, ..WorkloadOptions::default() };
        Workload::new(kind, &options).expect("needs no packages")
    })
    .collect();
    let mut warm = 0;
    for (index, block) in blocks.iter().cycle().take(BLOCKS).enumerate() {
        let executed = executor.execute(&block.spec, &block.state, &block.input());
        let receipts = executed.expect("the block is valid").output.receipts.len();
        assert_eq!(receipts, block.transactions.len(), "block {index}");
        if index == WARM {
            warm = resident();
        }
    }
    let now = resident();
    println!("{warm} bytes after {WARM} blocks, {now} after {BLOCKS}");
    assert!(now < warm + GROWTH_MAX, "{warm} bytes after {WARM} blocks, {now} after {BLOCKS}");
}

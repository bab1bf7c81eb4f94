//! Plans for a node are what they say they are.

#![allow(clippy::print_stdout, reason = "says what it skips")]

use alloy_primitives::{Address, keccak256, map::HashMap};
use heddle_workload::{Call, Group, LiveWorkload, WorkloadKind, WorkloadOptions};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/node_modules")
}

fn address(group: Group, index: usize) -> Address {
    Address::from_word(keccak256(format!("{group:?} {index}")))
}

fn plan(kind: WorkloadKind, transactions: usize, senders: usize) -> Option<LiveWorkload> {
    use WorkloadKind::{ChainUniswap, Hybrid, Uniswap, UniswapV2};
    let needs_packages = matches!(kind, Uniswap | UniswapV2 | ChainUniswap | Hybrid);
    if needs_packages && !node_modules().join("@uniswap/v3-periphery").is_dir() {
        println!("SKIPPED: {kind}; `npm ci --prefix tests` first");
        return None;
    }
    let options = WorkloadOptions {
        transactions: Some(transactions),
        accounts: senders,
        node_modules: node_modules(),
        ..WorkloadOptions::default()
    };
    let plan = LiveWorkload::new(kind, &options, senders, Arc::new(address));
    Some(plan.unwrap_or_else(|error| panic!("{kind}: {error}")))
}

#[test]
fn every_sender_s_nonces_count_up_from_zero_through_set_up_and_workload() {
    for kind in WorkloadKind::ALL {
        let Some(plan) = plan(kind, 300, 20) else { continue };
        let mut next: HashMap<Address, u64> = HashMap::default();
        for Call { from, nonce, .. } in plan.steps.iter().flatten().chain(&plan.transactions) {
            let expected = next.entry(*from).or_default();
            assert_eq!(nonce, expected, "{kind}: {from}");
            *expected += 1;
        }
    }
}

#[test]
fn no_more_accounts_send_than_were_asked_for() {
    for kind in WorkloadKind::ALL {
        let Some(plan) = plan(kind, 300, 20) else { continue };
        let known: Vec<_> = (0..20).map(|index| address(Group::Sender, index)).collect();
        assert_eq!(plan.transactions.len(), 300, "{kind}");
        assert!(plan.transactions.iter().all(|call| known.contains(&call.from)), "{kind}");
        let owner = address(Group::Owner, 0);
        for call in plan.steps.iter().flatten() {
            assert!(call.from == owner || known.contains(&call.from), "{kind}: {}", call.from);
        }
    }
}

#[test]
fn as_many_are_made_to_fail_as_in_a_block() {
    for kind in WorkloadKind::ALL {
        let Some(plan) = plan(kind, 95, 30) else { continue };
        let expected = if kind == WorkloadKind::MixedDefi { 9 } else { 0 };
        let failing = plan.transactions.iter().filter(|call| call.fails).count();
        assert_eq!(failing, expected, "{kind}");
    }
}

#[test]
fn every_workload_but_plain_transfers_leaves_something_to_look_at() {
    for kind in WorkloadKind::ALL {
        let Some(plan) = plan(kind, 60, 10) else { continue };
        assert_eq!(plan.effects.is_empty(), kind == WorkloadKind::Transfers, "{kind}");
        assert!(plan.effects.iter().all(|(_, change)| change.low <= change.high), "{kind}");
    }
}

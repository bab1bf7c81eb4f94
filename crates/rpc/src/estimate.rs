//! How much gas a call needs, and which storage it touches.

use alloy_primitives::{TxKind, U256};
use alloy_rpc_types_eth::{AccessListResult, TransactionRequest};
use revm::context::result::ExecutionResult;
use revm_inspectors::access_list::AccessListInspector;

use crate::{
    call::{CallRequest, Outcome, Refused, Simulation, halted},
    context::Context,
    errors::Failure,
    params::BlockParam,
};

/// What a plain transfer costs.
const TRANSFER_GAS: u64 = 21_000;
/// What a call that carries value leaves to its target for nothing (yellow paper, G_callstipend).
const CALL_STIPEND: u64 = 2_300;
/// The search ends when the bounds are this close, in thousandths of the upper one. As in geth: 1.5 %.
const TOLERANCE_PER_MILLE: u64 = 15;
/// Runs in search of an access list that does not change any more. Each adds at least one entry, and real calls settle
/// after two or three.
const ACCESS_LIST_RUNS_MAX: usize = 64;

/// `eth_estimateGas`: the least gas limit, to within the tolerance, with which the call succeeds. geth's algorithm.
pub(crate) fn estimate(context: &Context, call: &CallRequest) -> Result<u64, Failure> {
    let mut simulation = Simulation::new(context, call)?;
    if context.dev && call.block == BlockParam::Latest && call.environment.is_none() {
        // The transaction will run in the next block, and contracts that look at the time then
        // may need more gas than in the newest one.
        simulation.env.block_env.timestamp = U256::from(context.miner.next_timestamp());
    }
    estimate_in(&mut simulation, &call.request, context.limits.call_gas_max)
}

fn estimate_in(
    simulation: &mut Simulation,
    request: &TransactionRequest,
    call_gas_max: u64,
) -> Result<u64, Failure> {
    let block_gas_limit = simulation.env.block_env.gas_limit;
    let mut highest = request.gas.filter(|gas| *gas >= TRANSFER_GAS).unwrap_or(block_gas_limit);
    if let Some(affordable) = affordable_gas(simulation)? {
        highest = highest.min(affordable);
    }
    highest = highest.min(call_gas_max);
    // EIP-7825: more could not be sent.
    if let Some(cap) = simulation.transaction_gas_cap {
        highest = highest.min(cap);
    }

    // A plain transfer needs no search.
    if simulation.transaction.data.is_empty()
        && let TxKind::Call(to) = simulation.transaction.kind
        && !simulation.has_code(to)?
        && let Ok(outcome) = simulation.run(TRANSFER_GAS)
        && outcome.result.is_success()
    {
        return Ok(TRANSFER_GAS);
    }

    let outcome = match simulation.run(highest) {
        Ok(outcome) => outcome,
        Err(Refused::Invalid(reason)) if reason.is_out_of_gas => {
            return Err(exceeds_allowance(highest));
        }
        Err(Refused::Invalid(reason)) => {
            return Err(Failure::server(format!("failed with {highest} gas: {reason}")));
        }
        Err(Refused::Failed(failure)) => return Err(failure),
    };
    let is_out_of_gas = outcome.is_out_of_gas();
    if outcome.result.is_success() {
        return search(simulation, &outcome, highest);
    }
    match outcome.into_output() {
        Err(failure) if !is_out_of_gas => Err(failure),
        _ => Err(exceeds_allowance(highest)),
    }
}

fn exceeds_allowance(gas: u64) -> Failure {
    Failure::server(format!("gas required exceeds allowance ({gas})"))
}

/// Narrows the limit down from `highest`, with which the call ended as `outcome`.
fn search(
    simulation: &mut Simulation,
    outcome: &Outcome,
    mut highest: u64,
) -> Result<u64, Failure> {
    let gas = outcome.result.gas();
    let mut lowest = gas.tx_gas_used().saturating_sub(1);
    let mut succeeds = |gas_limit: u64| match simulation.run(gas_limit) {
        Ok(outcome) => Ok(outcome.result.is_success()),
        Err(Refused::Invalid(reason)) if reason.is_out_of_gas => Ok(false),
        Err(refused) => Err(Failure::from(refused)),
    };
    // Nearly always right: what was used at most, refunds not counted, plus what has to stay behind for inner calls
    // (EIP-150).
    let used_max = gas.total_gas_spent().max(gas.floor_gas());
    let optimistic = used_max.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
    if optimistic < highest {
        if succeeds(optimistic)? {
            highest = optimistic;
        } else {
            lowest = optimistic;
        }
    }
    while lowest + 1 < highest {
        if (highest - lowest).saturating_mul(1_000) < highest.saturating_mul(TOLERANCE_PER_MILLE) {
            break;
        }
        // Most calls need far less than the bound, so the first steps are at most doublings.
        let middle =
            (lowest + (highest - lowest) / 2).min(lowest.saturating_mul(2).max(lowest + 1));
        if succeeds(middle)? {
            highest = middle;
        } else {
            lowest = middle;
        }
    }
    Ok(highest)
}

/// The gas that the sender can pay for, if the call has a price.
fn affordable_gas(simulation: &mut Simulation) -> Result<Option<u64>, Failure> {
    let transaction = &simulation.transaction;
    let (price, value) = (transaction.gas_price, transaction.value);
    if price == 0 {
        return Ok(None);
    }
    let blob_gas =
        transaction.blob_hashes.len() as u128 * u128::from(alloy_eips::eip4844::DATA_GAS_PER_BLOB);
    let blob_fee =
        U256::from(blob_gas).saturating_mul(U256::from(transaction.max_fee_per_blob_gas));
    let balance = simulation.caller_balance()?;
    let Some(available) = balance.checked_sub(value) else {
        return Err(Failure::server("insufficient funds for transfer"));
    };
    let Some(available) = available.checked_sub(blob_fee) else {
        return Err(Failure::server("insufficient funds for gas * price + value"));
    };
    Ok(Some((available / U256::from(price)).saturating_to()))
}

/// `eth_createAccessList`.
pub(crate) fn create_access_list(
    context: &Context,
    call: &CallRequest,
) -> Result<AccessListResult, Failure> {
    let mut simulation = Simulation::new(context, call)?;
    let gas_limit = simulation.gas_limit_wanted();
    for _ in 0..ACCESS_LIST_RUNS_MAX {
        let access_list = simulation.transaction.access_list.clone();
        let (outcome, inspector) =
            simulation.watch(gas_limit, AccessListInspector::new(access_list.clone()))?;
        let touched = inspector.into_access_list();
        if touched == access_list {
            let error = match &outcome.result {
                ExecutionResult::Success { .. } => None,
                ExecutionResult::Revert { .. } => Some("execution reverted".to_owned()),
                ExecutionResult::Halt { reason, .. } => Some(halted(reason)),
            };
            let gas_used = U256::from(outcome.result.tx_gas_used());
            return Ok(AccessListResult { access_list: touched, gas_used, error });
        }
        simulation.set_access_list(touched);
    }
    Err(Failure::server(format!("the access list still changed after {ACCESS_LIST_RUNS_MAX} runs")))
}

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

/// `eth_estimateGas`: the least gas limit, to within the tolerance, with which the call succeeds. geth's algorithm and
/// geth's numbers, but fewer runs: what a run with less gas has shown is not tried again with more.
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
    // The least gas that was seen to suffice.
    let mut suffices = highest;
    let mut succeeds = |gas_limit: u64| {
        if gas_limit >= suffices {
            return Ok(true);
        }
        let succeeds = match simulation.run(gas_limit) {
            Ok(outcome) => outcome.result.is_success(),
            Err(Refused::Invalid(reason)) if reason.is_out_of_gas => false,
            Err(refused) => return Err(Failure::from(refused)),
        };
        if succeeds {
            suffices = gas_limit;
        }
        Ok(succeeds)
    };
    // Nearly always right: what was used at most, refunds not counted, plus what has to stay behind for inner calls
    // (EIP-150).
    let used_max = gas.total_gas_spent().max(gas.floor_gas());
    // Where no other contract ran, nothing has to stay behind: then one run settles all the steps below.
    if !has_inner_calls(outcome) {
        succeeds(used_max)?;
    }
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

/// Whether more than one contract was touched, a sign that one called another.
fn has_inner_calls(outcome: &Outcome) -> bool {
    let contracts = outcome.state.values().filter(|account| !account.info.is_empty_code_hash());
    contracts.count() > 1
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        RpcLimits,
        context::testing::{dev_context, first_signer},
        params::Argument,
    };
    use alloy_rpc_types_eth::state::StateOverride;
    use serde_json::json;

    /// Stores, logs and returns, as a token's transfer does: SLOAD ADD SSTORE twice, LOG1.
    const TOKEN: &str = "0x5f5460010160005560015460010160015560076020 5fa160015f5260205ff3";
    /// Calls the token with all gas that may be passed on.
    const CALLER: &str = "0x5f5f5f5f5f73 1000000000000000000000000000000000000001 5af1600055";

    /// The estimate and how many runs it took.
    fn estimated(to: &str, value: &str, data: &str) -> (u64, u32) {
        let context = dev_context(RpcLimits::default());
        let code = |code: &str| json!({"code": code.replace(' ', "")});
        let overrides = json!({
            "0x1000000000000000000000000000000000000001": code(TOKEN),
            "0x1000000000000000000000000000000000000002": code(CALLER),
        });
        let request =
            json!({"from": first_signer().address(), "to": to, "value": value, "data": data});
        let call = CallRequest {
            request: serde_json::from_value(request).unwrap(),
            block: BlockParam::Latest,
            state: Some(StateOverride::parse(&overrides.to_string()).unwrap()),
            environment: None,
        };
        let mut simulation = Simulation::new(&context, &call).unwrap();
        let gas = estimate_in(&mut simulation, &call.request, 50_000_000).unwrap();
        let runs = simulation.runs;
        // What was estimated suffices.
        assert!(simulation.run(gas).unwrap().result.is_success());
        (gas, runs)
    }

    #[test]
    fn an_ordinary_call_is_estimated_in_at_most_four_runs() {
        let transfer = estimated("0x00000000000000000000000000000000000000aa", "0x1", "0x");
        assert_eq!(transfer, (21_000, 1));
        let (gas, runs) =
            estimated("0x1000000000000000000000000000000000000001", "0x0", "0xa9059cbb");
        assert!(gas > 60_000, "two new slots: {gas}");
        assert_eq!(runs, 2);
        let (gas, runs) =
            estimated("0x1000000000000000000000000000000000000002", "0x0", "0xa9059cbb");
        assert!(gas > 80_000, "three new slots: {gas}");
        assert!(runs <= 4, "{runs}");
    }
}

//! Giving out ERC-20 tokens and allowances, whatever the contract keeps them in.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{
    AccessList, TransactionRequest,
    state::{AccountOverride, StateOverride},
};
use alloy_sol_types::{SolCall, sol};
use revm_inspectors::access_list::AccessListInspector;

use crate::{
    call::{self, CallRequest, Simulation},
    context::Context,
    dev::state::write_slot,
    errors::Failure,
    params::BlockParam,
};

sol! {
    function balanceOf(address account) external view returns (uint256);
    function allowance(address owner, address spender) external view returns (uint256);
}

/// A value that no contract has by chance, to tell where it is kept.
const MARK: U256 = U256::from_limbs([0x4845_4444_4c45, 0, 0, 0]);

/// `anvil_dealERC20`: makes the balance of an account in a token.
pub(crate) async fn deal(
    context: Arc<Context>,
    (account, token, balance): (Address, Address, U256),
) -> Result<(), Failure> {
    let question = balanceOfCall { account }.abi_encode();
    set(context, token, question.into(), balance).await
}

/// `anvil_setERC20Allowance`.
pub(crate) async fn set_allowance(
    context: Arc<Context>,
    (owner, spender, token, amount): (Address, Address, Address, U256),
) -> Result<(), Failure> {
    let question = allowanceCall { owner, spender }.abi_encode();
    set(context, token, question.into(), amount).await
}

/// Makes `answer` what the token answers.
async fn set(
    context: Arc<Context>,
    token: Address,
    question: Bytes,
    answer: U256,
) -> Result<(), Failure> {
    let finder = context.clone();
    let found = context.compute(move || find(&finder, token, &question)).await?;
    let (address, slot) = found.ok_or_else(|| {
        Failure::server(format!(
            "no storage slot was found that decides what token {token} answers"
        ))
    })?;
    write_slot(&context, address, slot, answer).await
}

/// The slot that the answer comes from: of those that the call reads, the one that shows in it.
fn find(
    context: &Context,
    token: Address,
    question: &Bytes,
) -> Result<Option<(Address, U256)>, Failure> {
    let call = |state| CallRequest {
        request: TransactionRequest {
            to: Some(TxKind::Call(token)),
            input: question.clone().into(),
            ..TransactionRequest::default()
        },
        block: BlockParam::Latest,
        state,
        environment: None,
    };
    let mut simulation = Simulation::new(context, &call(None))?;
    let gas = simulation.gas_limit_wanted();
    let inspector = AccessListInspector::new(AccessList::default());
    let (_, inspector) = simulation.watch(gas, inspector)?;
    let read = inspector.into_access_list();
    let slots =
        read.0.iter().flat_map(|item| item.storage_keys.iter().map(|slot| (item.address, *slot)));
    for (address, slot) in slots {
        let account = AccountOverride {
            state_diff: Some([(slot, B256::from(MARK))].into_iter().collect()),
            ..AccountOverride::default()
        };
        let overrides = StateOverride::from_iter([(address, account)]);
        // A contract may fail with the mark in a slot that means something else.
        let Ok(answer) = call::call(context, &call(Some(overrides))) else { continue };
        if answer.len() >= 32 && U256::from_be_slice(&answer[..32]) == MARK {
            return Ok(Some((address, slot.into())));
        }
    }
    Ok(None)
}

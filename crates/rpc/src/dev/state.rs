//! Altering accounts as no transaction could.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes, U256, keccak256};
use heddle_chain::State;
use heddle_evm::{AccountState, BlockState, StateError};
use revm::{Database, state::Bytecode};

use crate::{context::Context, errors::Failure, params::Slot};

/// `anvil_setBalance`.
pub(crate) async fn set_balance(
    context: Arc<Context>,
    (address, balance): (Address, U256),
) -> Result<(), Failure> {
    alter(&context, address, move |account| account.balance = balance).await
}

/// `anvil_addBalance`.
pub(crate) async fn add_balance(
    context: Arc<Context>,
    (address, balance): (Address, U256),
) -> Result<(), Failure> {
    let add = move |account: &mut AccountState| {
        account.balance = account.balance.saturating_add(balance);
    };
    alter(&context, address, add).await
}

/// `anvil_setNonce`. As in Anvil, any nonce.
pub(crate) async fn set_nonce(
    context: Arc<Context>,
    (address, nonce): (Address, U256),
) -> Result<(), Failure> {
    let nonce = u64::try_from(nonce).map_err(|_| Failure::params("nonce > 64 bits"))?;
    alter(&context, address, move |account| account.nonce = nonce).await
}

/// `anvil_setCode`.
pub(crate) async fn set_code(
    context: Arc<Context>,
    (address, code): (Address, Bytes),
) -> Result<(), Failure> {
    let analysed = Bytecode::new_raw_checked(code.clone()).map_err(Failure::params)?;
    let change = move |state: &mut BlockState<State>| {
        let mut account = account(state, address)?;
        account.code_hash = keccak256(&code);
        if !code.is_empty() {
            state.insert_code(account.code_hash, analysed);
        }
        state.set_account(address, Some(account), false)
    };
    context.miner.alter(change).await.map_err(Failure::server)
}

/// `anvil_setStorageAt`.
pub(crate) async fn set_storage_at(
    context: Arc<Context>,
    (address, slot, value): (Address, Slot, U256),
) -> Result<bool, Failure> {
    write_slot(&context, address, slot.index, value).await.map(|()| true)
}

/// Writes one slot.
pub(super) async fn write_slot(
    context: &Context,
    address: Address,
    slot: U256,
    value: U256,
) -> Result<(), Failure> {
    let change = move |state: &mut BlockState<State>| {
        // An account that does not exist has no storage; this one exists from now on.
        let account = account(state, address)?;
        state.set_account(address, Some(account), false)?;
        state.set_storage(address, slot, value)
    };
    context.miner.alter(change).await.map_err(Failure::server)
}

async fn alter(
    context: &Context,
    address: Address,
    change: impl FnOnce(&mut AccountState) + Send + 'static,
) -> Result<(), Failure> {
    let change = move |state: &mut BlockState<State>| {
        let mut account = account(state, address)?;
        change(&mut account);
        // An empty account is none (EIP-161).
        state.set_account(address, Some(account).filter(|account| !account.is_empty()), false)
    };
    context.miner.alter(change).await.map_err(Failure::server)
}

fn account(state: &mut BlockState<State>, address: Address) -> Result<AccountState, StateError> {
    let info = state.basic(address)?.unwrap_or_default();
    let code_hash = match info.code_hash {
        heddle_evm::STORAGE_ONLY_CODE_HASH => alloy_primitives::KECCAK256_EMPTY,
        hash => hash,
    };
    Ok(AccountState { nonce: info.nonce, balance: info.balance, code_hash })
}

//! What people call a contract, asked of the contract itself by the standard calls, on nothing
//! but the state that the bundle has.

use crate::FlatState;
use alloy_primitives::{Address, Bytes, TxKind};
use alloy_sol_types::{SolCall, SolType, sol, sol_data};
use heddle_evm::EvmEnv;
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    context::{TxEnv, result::ExecutionResult},
    database_interface::WrapDatabaseRef,
};

/// Gas for one call: several times what a getter behind a proxy needs, and little work.
const CALL_GAS: u64 = 200_000;

/// The longest name shown, in characters; a contract can answer whatever it likes.
const NAME_CHARACTERS_MAX: usize = 40;

sol! {
    function symbol() returns (string);
    function name() returns (string);
    function token0() returns (address);
    function token1() returns (address);
}

/// The name of the contract at `address`: for a pair of tokens their symbols, for a token its
/// symbol or name. `None` where there is no such answer in this state.
pub(crate) fn contract_name(state: &FlatState, env: &EvmEnv, address: Address) -> Option<String> {
    if !state.has_code(address) {
        return None;
    }
    let symbol = || text(state, env, address, symbolCall {}.abi_encode());
    let name = || text(state, env, address, nameCall {}.abi_encode());
    let token = |call: Vec<u8>| {
        let answer = call_view(state, env, address, call)?;
        let token = sol_data::Address::abi_decode(&answer).ok().filter(|token| !token.is_zero())?;
        text(state, env, token, symbolCall {}.abi_encode()).or(Some(short(token)))
    };
    let pair = || {
        let (first, second) =
            (token(token0Call {}.abi_encode())?, token(token1Call {}.abi_encode())?);
        Some(format!("{first}/{second} pool"))
    };
    pair().or_else(symbol).or_else(name)
}

fn short(address: Address) -> String {
    let text = address.to_string();
    format!("{}…{}", &text[..6], &text[text.len() - 4..])
}

/// The answer as text: a string, or as some old tokens have it, 32 bytes with zeros at the end.
fn text(state: &FlatState, env: &EvmEnv, address: Address, call: Vec<u8>) -> Option<String> {
    let answer = call_view(state, env, address, call)?;
    let text = if answer.len() == 32 {
        let end = answer.iter().position(|byte| *byte == 0).unwrap_or(answer.len());
        String::from_utf8(answer[..end].to_vec()).ok()?
    } else {
        sol_data::String::abi_decode(&answer).ok()?
    };
    let text: String =
        text.trim().chars().filter(|c| !c.is_control()).take(NAME_CHARACTERS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

fn call_view(state: &FlatState, env: &EvmEnv, to: Address, call: Vec<u8>) -> Option<Bytes> {
    let mut rules = env.cfg_env.clone();
    rules.disable_nonce_check = true;
    rules.disable_balance_check = true;
    rules.disable_base_fee = true;
    rules.disable_block_gas_limit = true;
    rules.disable_fee_charge = true;
    rules.disable_eip3607 = true;
    let transaction = TxEnv {
        gas_limit: CALL_GAS,
        kind: TxKind::Call(to),
        data: call.into(),
        chain_id: None,
        ..Default::default()
    };
    let mut evm = Context::mainnet()
        .with_block(env.block_env.clone())
        .with_cfg(rules)
        .with_db(WrapDatabaseRef(state))
        .build_mainnet();
    match evm.transact(transaction).ok()?.result {
        ExecutionResult::Success { output, .. } => Some(output.into_data()),
        _ => None,
    }
}

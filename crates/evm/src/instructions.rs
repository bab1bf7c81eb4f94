//! The two instructions that revm's table has not got right for every chain and state.

use crate::STORAGE_ONLY_CODE_HASH;
use alloy_primitives::{KECCAK256_EMPTY, U256};
use revm::{
    bytecode::opcode::{EXTCODEHASH, SSTORE},
    context::CfgEnv,
    context_interface::{Host, context::SStoreResult},
    handler::instructions::{EthInstructions, InstructionProvider},
    interpreter::{
        Instruction, InstructionContext, InstructionResult, StateLoad,
        instructions::host::{extcodehash, sstore_with_gas_accounting},
        interpreter::EthInterpreter,
    },
    primitives::{Address, hardfork::SpecId},
};

/// What SSTORE costs before anything else under EIP-1283; no other fork has this value.
const EIP_1283_STATIC_GAS: u64 = 200;

type Context<'a, H> = InstructionContext<'a, H, EthInterpreter>;

/// Puts in SSTORE with the net gas metering of EIP-1283, which only Constantinople had and revm does
/// not know as a fork (its gas parameters tell: `heddle_chainspec::ChainSpec::evm_env` sets them),
/// and EXTCODEHASH for accounts with [`STORAGE_ONLY_CODE_HASH`]. Every EVM that executes blocks
/// needs them.
pub fn complete_instructions<H: Host>(
    instructions: &mut EthInstructions<EthInterpreter, H>,
    cfg: &CfgEnv,
) {
    if cfg.spec == SpecId::PETERSBURG && cfg.gas_params.sstore_static_gas() == EIP_1283_STATIC_GAS {
        instructions.insert_instruction(SSTORE, Instruction::new(sstore_with_net_metering::<H>), 0);
    }
    if cfg.spec.is_enabled_in(SpecId::PETERSBURG) {
        let static_gas = instructions.gas_table()[usize::from(EXTCODEHASH)];
        instructions.insert_instruction(
            EXTCODEHASH,
            Instruction::new(extcodehash_with_storage_only::<H>),
            static_gas,
        );
    }
}

/// EIP-1283 is EIP-2200 (Istanbul) with other numbers and without its minimum of gas.
fn sstore_with_net_metering<H: Host>(context: Context<'_, H>) -> Result<(), InstructionResult> {
    let charge = |context: &mut Context<'_, H>, _: Address, load: &StateLoad<SStoreResult>| {
        let params = context.host.gas_params();
        let gas = params.sstore_dynamic_gas(true, &load.data, false);
        let refund = params.sstore_refund(true, &load.data);
        if !context.interpreter.gas.record_regular_cost(gas) {
            return Err(InstructionResult::OutOfGas);
        }
        context.interpreter.gas.record_refund(refund);
        Ok(())
    };
    sstore_with_gas_accounting(context, charge)
}

/// An account that exists and has no code has the hash of no code, whatever stands for it here.
fn extcodehash_with_storage_only<H: Host>(
    context: Context<'_, H>,
) -> Result<(), InstructionResult> {
    let InstructionContext { interpreter, host } = context;
    let address = interpreter.stack.data().last().copied();
    extcodehash(InstructionContext { interpreter: &mut *interpreter, host: &mut *host })?;
    let none = U256::from_be_bytes(STORAGE_ONLY_CODE_HASH.0);
    if interpreter.stack.data().last() != Some(&none) {
        return Ok(());
    }
    // Loaded just now, so that this costs nothing.
    let address = address.map_or(Address::ZERO, |word| Address::from_word(word.into()));
    let exists = host
        .load_account_info_skip_cold_load(address, false, false)
        .is_ok_and(|account| !account.is_empty());
    if exists {
        let _ = interpreter.stack.pop();
        let _ = interpreter.stack.push(U256::from_be_bytes(KECCAK256_EMPTY.0));
    }
    Ok(())
}

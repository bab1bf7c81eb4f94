//! KECCAK256 of what was hashed a moment ago.

use crate::tx_evm::{TxContext, TxState};
use alloy_primitives::{U256, keccak256};
use revm::{
    context::Cfg,
    interpreter::{
        InstructionContext, InstructionResult, instructions::system, interpreter::EthInterpreter,
        interpreter_types::MemoryTr,
    },
};

/// The hashes of 64-byte preimages that a worker computed last. Solidity finds an entry of a mapping
/// by hashing key and place, once for reading it and once more for writing it.
pub(crate) struct SeenHashes(Box<[([u8; 64], U256); Self::ENTRIES]>);

impl SeenHashes {
    /// 12 KB, a part of the core's first cache.
    const ENTRIES: usize = 128;

    fn hash(&mut self, preimage: &[u8; 64]) -> U256 {
        // Keys and places differ in their last bytes. Two that meet at one entry push each other
        // out, which costs what it would cost without.
        let word = |at: usize| {
            preimage[at..].first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_be_bytes(*bytes))
        };
        let mixed = (word(24) ^ word(56).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let entry = &mut self.0[mixed as usize >> 32 & (Self::ENTRIES - 1)];
        if entry.0 != *preimage {
            *entry = (*preimage, keccak256(preimage).into());
        }
        entry.1
    }
}

impl Default for SeenHashes {
    fn default() -> Self {
        let zeros = [0; 64];
        Self(Box::new([(zeros, keccak256(zeros).into()); Self::ENTRIES]))
    }
}

/// KECCAK256 as revm has it, with an eye on [`SeenHashes`].
pub(crate) fn keccak256_seen<S: TxState>(
    context: InstructionContext<'_, TxContext<S>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    let InstructionContext { interpreter, host } = context;
    // Only what is plain: 64 bytes of memory that is there. The rest is revm's.
    let preimage = match interpreter.stack.data()[..] {
        [.., len, offset] if len == PREIMAGE_LEN => usize::try_from(offset).ok(),
        _ => None,
    };
    let end = preimage.and_then(|offset| offset.checked_add(64));
    let (Some(offset), Some(end)) = (preimage, end) else {
        return system::keccak256(InstructionContext { interpreter, host });
    };
    if end > interpreter.memory.size() {
        return system::keccak256(InstructionContext { interpreter, host });
    }
    if !interpreter.gas.record_regular_cost(host.cfg.gas_params().keccak256_cost(64)) {
        return Err(InstructionResult::OutOfGas);
    }
    let hash = match <&[u8; 64]>::try_from(&*interpreter.memory.slice_len(offset, 64)) {
        Ok(preimage) => host.journaled_state.source.hashes().hash(preimage),
        Err(_) => unreachable!("the slice is 64 bytes long"),
    };
    let _ = interpreter.stack.pop();
    let _ = interpreter.stack.pop();
    let _ = interpreter.stack.push(hash);
    Ok(())
}

const PREIMAGE_LEN: U256 = U256::from_limbs([64, 0, 0, 0]);

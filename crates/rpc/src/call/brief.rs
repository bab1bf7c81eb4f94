//! Calls that are over in microseconds, such as a token's `balanceOf`, are answered on the connection's own thread: going
//! to the pool and back would take several times as long as they do.
//!
//! Nobody knows beforehand which these are, so a call is tried under a watch that stops it as soon as it turns out to be
//! a longer one. Then nothing came of it but some dozens of microseconds, and it starts anew in its turn.

use alloy_primitives::{Address, Bytes, U256, address};
use revm::{
    Inspector,
    bytecode::opcode::KECCAK256,
    context_interface::ContextTr,
    interpreter::{
        CallInputs, CallOutcome, Gas, InstructionResult, Interpreter, InterpreterResult,
        interpreter_types::Jumps,
    },
};

use super::{CallRequest, Outcome, Refused, Simulation, answer};
use crate::{context::Context, errors::Failure, params::BlockParam, watch::halt};

/// Most instructions of a brief call: some 20 microseconds of ordinary ones.
const STEPS_MAX: u32 = 2_000;
/// Most gas that a frame of one spends. That is 24 reads from the database at most, and what an instruction before the
/// limit was noticed may cost beyond it is bounded by the call's gas: five megabytes of new memory.
const FRAME_GAS_MAX: u64 = 50_000;
/// Most bytes that one of its instructions hashes.
const HASHED_BYTES_MAX: U256 = U256::from_limbs([4 * 1024, 0, 0, 0]);
/// Most bytes of calldata.
const INPUT_BYTES_MAX: usize = 4 * 1024;
/// Precompiled contracts up to this one (ecrecover, sha256, ripemd160, identity) take time in proportion to little gas.
const LAST_QUICK_PRECOMPILE: Address = Address::with_last_byte(4);
/// Where all others are, with room for more.
const LAST_PRECOMPILE: Address = address!("0x000000000000000000000000000000000000ffff");

/// `eth_call`, if it is brief. `None` if it is not, or takes preparations that may not be.
pub(super) fn call_briefly(
    context: &Context,
    call: &CallRequest,
) -> Option<Result<Bytes, Failure>> {
    let request = &call.request;
    let is_plain = call.state.is_none()
        && call.environment.is_none()
        && request.access_list.is_none()
        && request.authorization_list.is_none()
        && request.input.input().is_none_or(|input| input.len() <= INPUT_BYTES_MAX);
    // The pending block may have to be made first, and older states take more reads.
    if !is_plain || call.block != BlockParam::Latest || context.chain.is_fork() {
        return None;
    }
    let mut simulation = match Simulation::new(context, call) {
        Ok(simulation) => simulation,
        Err(failure) => return Some(Err(failure)),
    };
    let gas = simulation.gas_limit_wanted();
    simulation.run_briefly(gas).map(|result| answer(result, gas))
}

impl Simulation {
    /// Runs the call with this gas limit, `None` if it turns out not to be brief.
    pub(super) fn run_briefly(&mut self, gas_limit: u64) -> Option<Result<Outcome, Refused>> {
        let mut watch = Brief { steps_left: STEPS_MAX, is_over: false };
        let result = self.execute(gas_limit, &mut watch, true).map(|(outcome, _)| outcome);
        (!watch.is_over).then_some(result)
    }
}

/// Stops a call that is not brief.
#[derive(Debug)]
struct Brief {
    steps_left: u32,
    /// It was stopped; its result means nothing.
    is_over: bool,
}

impl<CTX: ContextTr> Inspector<CTX> for Brief {
    fn step(&mut self, interpreter: &mut Interpreter, _: &mut CTX) {
        self.steps_left = self.steps_left.saturating_sub(1);
        let hashes_much = || {
            interpreter.bytecode.opcode() == KECCAK256
                && interpreter.stack.peek(1).is_ok_and(|size| size > HASHED_BYTES_MAX)
        };
        self.is_over |= self.steps_left == 0
            || interpreter.gas.total_gas_spent() > FRAME_GAS_MAX
            || hashes_much();
        if self.is_over {
            halt(interpreter);
        }
    }

    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let callee = inputs.bytecode_address;
        self.is_over |= callee > LAST_QUICK_PRECOMPILE && callee <= LAST_PRECOMPILE;
        self.is_over.then(|| {
            let result = InterpreterResult::new(
                InstructionResult::OutOfGas,
                Bytes::new(),
                Gas::new(inputs.gas_limit),
            );
            CallOutcome::new(result, inputs.return_memory_offset.clone())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RpcLimits, context::testing::dev_context};
    use alloy_primitives::hex;
    use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
    use std::{sync::Arc, time::Instant};

    const CONTRACT: Address = Address::repeat_byte(0x12);

    fn request(to: Address) -> CallRequest {
        CallRequest {
            request: serde_json::from_str(&format!(r#"{{"to":"{to}"}}"#)).unwrap(),
            block: BlockParam::Latest,
            state: None,
            environment: None,
        }
    }

    /// A call of a contract with this code.
    fn simulation(context: &Arc<Context>, code: &str) -> Simulation {
        let code = AccountOverride::default().with_code(hex::decode(code).unwrap());
        let call = CallRequest {
            state: Some(StateOverride::from_iter([(CONTRACT, code)])),
            ..request(CONTRACT)
        };
        Simulation::new(context, &call).unwrap()
    }

    #[tokio::test]
    async fn a_brief_call_gives_what_an_unwatched_one_gives() {
        let context = dev_context(RpcLimits::default());
        for code in [
            // What is in slot 0; a revert with 32 bytes; too little on the stack; sha256 of nothing.
            "5f545f5260205ff3",
            "60205ffd",
            "01",
            "60205f5f5f60025afa5060205ff3",
        ] {
            let brief = simulation(&context, code).run_briefly(1_000_000);
            let brief = brief.unwrap_or_else(|| panic!("{code} is brief"));
            let unwatched = simulation(&context, code).run(1_000_000);
            assert_eq!(brief.unwrap().result, unwatched.unwrap().result, "{code}");
        }
        let nobody = request(Address::repeat_byte(0x34));
        assert_eq!(call_briefly(&context, &nobody), Some(Ok(Bytes::new())));
    }

    #[tokio::test]
    async fn a_long_call_is_stopped_soon() {
        let context = dev_context(RpcLimits::default());
        for (code, what) in [
            ("5b5f56", "an endless loop"),
            ("5b5f5f5f5f5f305af15f56", "calling itself"),
            ("620fffff5f20", "hashing a megabyte"),
            ("5f620fffff535f620fffff5360005500", "a megabyte of memory"),
            ("5f5f5f5f60055afa", "a precompiled contract"),
            ("5f5f5f5f6101005afa", "the last precompiled contract"),
            ("5b5a5a555f56", "writing"),
        ] {
            let started = Instant::now();
            assert!(simulation(&context, code).run_briefly(50_000_000).is_none(), "{what}");
            assert!(started.elapsed().as_secs() < 1, "{what}: {:?}", started.elapsed());
        }
    }

    #[tokio::test]
    async fn what_takes_preparations_is_left_to_the_pool() {
        let context = dev_context(RpcLimits::default());
        let nobody = request(Address::repeat_byte(0x34));
        let pending = CallRequest { block: BlockParam::Pending, ..nobody.clone() };
        assert!(call_briefly(&context, &pending).is_none());
        let overridden = CallRequest { state: Some(StateOverride::default()), ..nobody.clone() };
        assert!(call_briefly(&context, &overridden).is_none());
        let mut long = nobody;
        long.request.input = Bytes::from(vec![0; INPUT_BYTES_MAX + 1]).into();
        assert!(call_briefly(&context, &long).is_none());
    }
}

//! Running a call in translated code, and in revm's interpreter where there is none.

use super::{
    basic_block::{BasicBlock, End, Kind, Operand, Operation, Test, TestKind, Translator},
    code::{BlockIndex, Code, Codes},
};
use crate::tx_evm::{TxContext, TxState};
use alloy_primitives::{B256, U256};
use revm::{
    context::{ContextError, ContextTr},
    context_interface::{Cfg, cfg::GasParams},
    interpreter::{
        CallInput, Gas, GasTable, InputsImpl, InstructionContext, InstructionResult,
        InstructionTable, Interpreter, InterpreterAction, SharedMemory,
        interpreter::{EthInterpreter, ExtBytecode, STACK_LIMIT, resize_memory},
        interpreter_types::{InputsTr, Jumps, LoopControl, ReturnData},
    },
};
use std::{convert::Infallible, sync::Arc};

/// What runs a call: revm's instructions, and where they act.
pub(crate) struct Runner<'r, S: TxState> {
    pub(crate) interpreter: &'r mut Interpreter<EthInterpreter>,
    pub(crate) instructions: &'r InstructionTable<EthInterpreter, TxContext<S>>,
    pub(crate) gas: &'r GasTable,
    pub(crate) host: &'r mut TxContext<S>,
    pub(crate) translator: &'r mut Translator,
}

/// What is known of code that was called.
#[derive(Debug)]
pub(crate) enum Met {
    /// It runs as it is for so many more JUMPDESTs.
    Runs(u32),
    LaidOut(Arc<Code>),
    /// It cannot be translated, or there is no room for more.
    StaysAsItIs,
}

impl Met {
    /// For the first time in a block.
    pub(crate) fn new(hash: &B256, bytecode: &ExtBytecode, codes: &Codes) -> Self {
        match codes.known(hash, bytecode) {
            Some(code) => Self::LaidOut(code),
            None => Self::Runs(codes.jumps_before(hash, bytecode.len())),
        }
    }
}

impl<S: TxState> std::fmt::Debug for Runner<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("interpreter", &self.interpreter).finish_non_exhaustive()
    }
}

impl<S: TxState> Runner<'_, S> {
    /// Runs a call to its end, or to where it makes another one, as revm does. Code that has run for
    /// long enough goes on translated.
    pub(crate) fn run(mut self, met: &mut Met, codes: &Codes) -> InterpreterAction {
        let Err(ended) = self.run_on(met, codes);
        if self.interpreter.bytecode.action().is_none() {
            self.interpreter.halt(ended);
        }
        self.interpreter.take_next_action()
    }

    fn run_on(&mut self, met: &mut Met, codes: &Codes) -> Result<Infallible, InstructionResult> {
        loop {
            match met {
                Met::Runs(0) => {
                    let bytecode = &self.interpreter.bytecode;
                    let code = bytecode.hash().and_then(|hash| codes.lay_out(hash, bytecode));
                    *met = code.map_or(Met::StaysAsItIs, Met::LaidOut);
                }
                Met::Runs(jumps) => {
                    let before = self.jumps();
                    let ended = self.run_as_it_is();
                    *jumps = jumps.saturating_sub(self.jumps().wrapping_sub(before));
                    ended?;
                }
                Met::LaidOut(code) => return self.run_translated(code, codes),
                Met::StaysAsItIs => self.run_as_it_is()?,
            }
        }
    }

    fn jumps(&mut self) -> u32 {
        *self.host.journaled_state.source.jumps()
    }

    /// Runs instructions of revm's up to a pause.
    fn run_as_it_is(&mut self) -> Result<(), InstructionResult> {
        let Self { interpreter, instructions, gas, host, .. } = self;
        let ended = loop {
            if let Err(ended) = interpreter.step(instructions, gas, *host) {
                break ended;
            }
        };
        if self.is_pause(ended) { Ok(()) } else { Err(ended) }
    }

    /// Whether it was [`jumpdest`] that stopped, after it has done all that it does.
    fn is_pause(&self, ended: InstructionResult) -> bool {
        ended == PAUSE && self.interpreter.bytecode.action.is_none()
    }

    #[inline(always)]
    fn step(&mut self) -> Result<(), InstructionResult> {
        self.interpreter.step(self.instructions, self.gas, self.host)
    }

    fn run_translated(
        &mut self,
        code: &Code,
        codes: &Codes,
    ) -> Result<Infallible, InstructionResult> {
        let mut at = code.layout.index_of(self.interpreter.bytecode.pc());
        loop {
            let block = code.block(at, codes, self.translator).filter(|block| self.enter(block));
            at = match block {
                Some(block) => self.run_block(block, code)?,
                None => self.step_through(at, code)?,
            };
        }
    }

    /// Runs a block's instructions as they are.
    fn step_through(
        &mut self,
        at: BlockIndex,
        code: &Code,
    ) -> Result<BlockIndex, InstructionResult> {
        // Between blocks (after an instruction with an immediate that no fork has yet) go on one by
        // one.
        let mut instructions = 1;
        if at.is_some() {
            self.interpreter.bytecode.absolute_jump(code.layout.pc_of(at));
            instructions = code.layout.instructions_of(at);
        }
        for _ in 0..instructions {
            match self.step() {
                Err(ended) if !self.is_pause(ended) => return Err(ended),
                _ => {}
            }
        }
        Ok(code.layout.index_of(self.interpreter.bytecode.pc()))
    }

    /// Takes the block's gas, if there is enough of it and the stack allows for the block. Where that
    /// is not so, revm's instructions find out what follows from it.
    #[inline]
    fn enter(&mut self, block: &BasicBlock) -> bool {
        let height = self.interpreter.stack.len();
        height >= block.needs
            && height + block.room <= STACK_LIMIT
            && self.interpreter.gas.record_regular_cost(block.gas)
    }

    #[inline]
    fn run_block(
        &mut self,
        block: &BasicBlock,
        code: &Code,
    ) -> Result<BlockIndex, InstructionResult> {
        if block.is_jumped_to {
            watch(self.host)?;
        }
        let stack = self.interpreter.stack.data_mut();
        let base = stack.len() - block.needs;
        stack.resize(stack.len() + block.room, U256::ZERO);
        let mut desk = Desk {
            window: &mut stack[base..],
            constants: &block.constants,
            memory: &mut self.interpreter.memory,
            gas: &mut self.interpreter.gas,
            gas_params: self.host.cfg.gas_params(),
        };
        for operation in &block.operations {
            desk.execute(operation, &self.interpreter.input, &self.interpreter.return_data)?;
        }
        let next = match block.end {
            End::Goto(next) => next,
            End::Branch { test, taken, next } => {
                if desk.holds(&test) {
                    taken
                } else {
                    next
                }
            }
            End::Jump(target) => {
                let target = desk.value(target);
                code.layout.jump_target(target).ok_or(InstructionResult::InvalidJump)?
            }
            End::BranchTo { test, target, .. } if desk.holds(&test) => {
                let target = desk.value(target);
                code.layout.jump_target(target).ok_or(InstructionResult::InvalidJump)?
            }
            End::BranchTo { next, .. } => next,
            End::Instruction { next, .. } => next,
        };
        for (place, value) in &block.moves {
            desk.window[usize::from(*place)] = desk.value(*value);
        }
        stack.truncate(base + block.leaves);
        let End::Instruction { opcode, after, .. } = block.end else { return Ok(next) };
        self.interpreter.bytecode.absolute_jump(after as usize);
        let instruction = self.instructions[usize::from(opcode)];
        let (interpreter, host) = (&mut *self.interpreter, &mut *self.host);
        instruction.execute(InstructionContext { interpreter, host })?;
        if next.is_some() {
            return Ok(next);
        }
        Ok(code.layout.index_of(self.interpreter.bytecode.pc()))
    }
}

/// Jumps between two looks at whether a run still makes sense, and whether its code should go on
/// translated: some microseconds.
pub const JUMPS_UNWATCHED: u32 = 256;

/// Gas of JUMPDEST (yellow paper, G_jumpdest).
pub(crate) const JUMPDEST_GAS: u16 = 1;

/// What [`jumpdest`] stops with for a look. revm's instructions stop with it only where they have
/// set an action.
const PAUSE: InstructionResult = InstructionResult::Suspend;

/// JUMPDEST, which does nothing, and which no loop can do without: the place to look about in a
/// long run.
#[expect(clippy::needless_pass_by_value, reason = "the signature is revm's")]
pub(crate) fn jumpdest<S: TxState>(
    context: InstructionContext<'_, TxContext<S>, EthInterpreter>,
) -> Result<(), InstructionResult> {
    if watch(context.host)? { Err(PAUSE) } else { Ok(()) }
}

/// Counts a jump; whether it was time for a look.
#[inline]
fn watch<S: TxState>(host: &mut TxContext<S>) -> Result<bool, InstructionResult> {
    let state = &mut host.journaled_state.source;
    let jumps = state.jumps();
    *jumps = jumps.wrapping_add(1);
    if !jumps.is_multiple_of(JUMPS_UNWATCHED) {
        return Ok(false);
    }
    state.keep_up().map_err(|interrupt| {
        *host.error() = Err(ContextError::Db(interrupt));
        InstructionResult::FatalExternalError
    })?;
    Ok(true)
}

/// Where the instructions of a block act.
struct Desk<'d> {
    window: &'d mut [U256],
    constants: &'d [U256],
    memory: &'d mut SharedMemory,
    gas: &'d mut Gas,
    gas_params: &'d GasParams,
}

impl Desk<'_> {
    #[inline(always)]
    fn value(&self, operand: Operand) -> U256 {
        match operand.place() {
            Ok(place) => self.window[place],
            Err(constant) => self.constants[constant],
        }
    }

    #[inline(always)]
    fn execute(
        &mut self,
        operation: &Operation,
        input: &InputsImpl,
        return_data: &impl ReturnData,
    ) -> Result<(), InstructionResult> {
        let Operation { kind, result, operands: [a, b, c] } = *operation;
        let value = match kind {
            Kind::Add => self.binary(Kind::Add, a, b),
            Kind::Mul => self.binary(Kind::Mul, a, b),
            Kind::Sub => self.binary(Kind::Sub, a, b),
            Kind::Div => self.binary(Kind::Div, a, b),
            Kind::SignedDiv => self.binary(Kind::SignedDiv, a, b),
            Kind::Mod => self.binary(Kind::Mod, a, b),
            Kind::SignedMod => self.binary(Kind::SignedMod, a, b),
            Kind::AddMod => Kind::AddMod.compute(self.value(a), self.value(b), self.value(c)),
            Kind::MulMod => Kind::MulMod.compute(self.value(a), self.value(b), self.value(c)),
            Kind::SignExtend => self.binary(Kind::SignExtend, a, b),
            Kind::Lt => self.binary(Kind::Lt, a, b),
            Kind::Gt => self.binary(Kind::Gt, a, b),
            Kind::SignedLt => self.binary(Kind::SignedLt, a, b),
            Kind::SignedGt => self.binary(Kind::SignedGt, a, b),
            Kind::Eq => self.binary(Kind::Eq, a, b),
            Kind::IsZero => Kind::IsZero.compute(self.value(a), U256::ZERO, U256::ZERO),
            Kind::And => self.binary(Kind::And, a, b),
            Kind::Or => self.binary(Kind::Or, a, b),
            Kind::Xor => self.binary(Kind::Xor, a, b),
            Kind::Not => Kind::Not.compute(self.value(a), U256::ZERO, U256::ZERO),
            Kind::Byte => self.binary(Kind::Byte, a, b),
            Kind::ShiftLeft => self.binary(Kind::ShiftLeft, a, b),
            Kind::ShiftRight => self.binary(Kind::ShiftRight, a, b),
            Kind::SignedShiftRight => self.binary(Kind::SignedShiftRight, a, b),
            Kind::Caller => input.caller_address().into_word().into(),
            Kind::CallValue => input.call_value(),
            Kind::Address => input.target_address().into_word().into(),
            Kind::CallDataSize => U256::from(input.input().len()),
            Kind::CallDataLoad => self.call_data(self.value(a), input.input()),
            Kind::ReturnDataSize => U256::from(return_data.buffer().len()),
            Kind::MemoryLoad => {
                let offset = self.expand_memory(self.value(a), 32)?;
                self.memory.get_u256(offset)
            }
            Kind::MemoryStore => {
                let offset = self.expand_memory(self.value(a), 32)?;
                self.memory.set(offset, &self.value(b).to_be_bytes::<32>());
                return Ok(());
            }
            Kind::MemoryStoreByte => {
                let offset = self.expand_memory(self.value(a), 1)?;
                self.memory.set(offset, &[self.value(b).byte(0)]);
                return Ok(());
            }
        };
        self.window[usize::from(result)] = value;
        Ok(())
    }

    #[inline(always)]
    fn binary(&self, kind: Kind, a: Operand, b: Operand) -> U256 {
        kind.compute(self.value(a), self.value(b), U256::ZERO)
    }

    /// Whether the jump is taken.
    #[inline(always)]
    fn holds(&self, test: &Test) -> bool {
        let a = self.value(test.a);
        let result = match test.kind {
            TestKind::NotZero => !a.is_zero(),
            TestKind::Compares(kind) => {
                let b = self.value(test.b);
                match kind {
                    Kind::Eq => a == b,
                    Kind::Lt => a < b,
                    Kind::Gt => a > b,
                    kind => !kind.compute(a, b, U256::ZERO).is_zero(),
                }
            }
        };
        result == test.holds
    }

    /// See revm's `as_usize_or_fail`, and its MLOAD.
    #[inline(always)]
    fn expand_memory(&mut self, offset: U256, len: usize) -> Result<usize, InstructionResult> {
        let offset = usize::try_from(offset).map_err(|_| InstructionResult::InvalidOperandOOG)?;
        resize_memory(self.gas, self.memory, self.gas_params, offset, len)?;
        Ok(offset)
    }

    /// CALLDATALOAD: what is beyond the end is zero.
    #[inline(always)]
    fn call_data(&self, offset: U256, input: &CallInput) -> U256 {
        // The bytes may be looked at only if there are some: revm gives no place to those of an empty
        // input.
        let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset < input.len())
        else {
            return U256::ZERO;
        };
        let rest = &input.as_bytes_memory(self.memory)[offset..];
        if let Some(word) = rest.first_chunk::<32>() {
            return U256::from_be_bytes(*word);
        }
        let mut word = [0; 32];
        word[..rest.len()].copy_from_slice(rest);
        U256::from_be_bytes(word)
    }
}

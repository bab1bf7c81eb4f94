//! A stretch of a contract that runs from its first instruction to its last, translated.
//!
//! Half of what the EVM executes moves values about on its stack. Within a basic block all of that
//! is known beforehand: a translated instruction names the places of its operands, and what was
//! only pushed, duplicated, swapped and popped is gone. Gas that does not depend on values is one
//! sum for the block, and so are the limits of the stack.
//!
//! That sums are taken ahead of time changes no result. Every way to fail inside a block, for want
//! of gas or otherwise, ends the frame, takes all its gas and undoes what it did; what it had left
//! in between shows only to instructions that end a block (see [`Shape`]), before which everything
//! charged has also been executed.

use super::code::{BlockIndex, Layout};
use alloy_primitives::U256;
use revm::{
    bytecode::opcode,
    interpreter::{
        GasTable,
        instructions::i256::{i256_cmp, i256_div, i256_mod},
    },
    primitives::hardfork::SpecId,
};
use smallvec::SmallVec;
use std::cmp::Ordering;

/// What an instruction computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Mul,
    Sub,
    Div,
    SignedDiv,
    Mod,
    SignedMod,
    AddMod,
    MulMod,
    SignExtend,
    Lt,
    Gt,
    SignedLt,
    SignedGt,
    Eq,
    IsZero,
    And,
    Or,
    Xor,
    Not,
    Byte,
    ShiftLeft,
    ShiftRight,
    SignedShiftRight,
    Caller,
    CallValue,
    Address,
    CallDataSize,
    CallDataLoad,
    ReturnDataSize,
    MemoryLoad,
    MemoryStore,
    MemoryStoreByte,
}

impl Kind {
    /// The instruction of that opcode, and how many operands it takes, if it can be translated under
    /// these rules.
    fn of(opcode: u8, spec: SpecId) -> Option<(Self, usize)> {
        use opcode::*;
        let kind = match opcode {
            ADD => Self::Add,
            MUL => Self::Mul,
            SUB => Self::Sub,
            DIV => Self::Div,
            SDIV => Self::SignedDiv,
            MOD => Self::Mod,
            SMOD => Self::SignedMod,
            ADDMOD => Self::AddMod,
            MULMOD => Self::MulMod,
            SIGNEXTEND => Self::SignExtend,
            LT => Self::Lt,
            GT => Self::Gt,
            SLT => Self::SignedLt,
            SGT => Self::SignedGt,
            EQ => Self::Eq,
            ISZERO => Self::IsZero,
            AND => Self::And,
            OR => Self::Or,
            XOR => Self::Xor,
            NOT => Self::Not,
            BYTE => Self::Byte,
            SHL if spec.is_enabled_in(SpecId::PETERSBURG) => Self::ShiftLeft,
            SHR if spec.is_enabled_in(SpecId::PETERSBURG) => Self::ShiftRight,
            SAR if spec.is_enabled_in(SpecId::PETERSBURG) => Self::SignedShiftRight,
            CALLER => Self::Caller,
            CALLVALUE => Self::CallValue,
            ADDRESS => Self::Address,
            CALLDATASIZE => Self::CallDataSize,
            CALLDATALOAD => Self::CallDataLoad,
            RETURNDATASIZE if spec.is_enabled_in(SpecId::BYZANTIUM) => Self::ReturnDataSize,
            MLOAD => Self::MemoryLoad,
            MSTORE => Self::MemoryStore,
            MSTORE8 => Self::MemoryStoreByte,
            _ => return None,
        };
        Some((kind, OpCode::info_by_op(opcode)?.inputs().into()))
    }

    /// Whether nothing but the result comes of it, and nothing but the operands goes into it.
    const fn is_arithmetic(self) -> bool {
        !matches!(
            self,
            Self::Caller
                | Self::CallValue
                | Self::Address
                | Self::CallDataSize
                | Self::CallDataLoad
                | Self::ReturnDataSize
                | Self::MemoryLoad
                | Self::MemoryStore
                | Self::MemoryStoreByte
        )
    }

    /// Whether it can be left out if nobody needs the result.
    const fn is_pure(self) -> bool {
        !matches!(self, Self::MemoryLoad | Self::MemoryStore | Self::MemoryStoreByte)
    }

    const fn has_result(self) -> bool {
        !matches!(self, Self::MemoryStore | Self::MemoryStoreByte)
    }

    /// The result, for kinds that are [arithmetic](Self::is_arithmetic). As revm computes it.
    #[inline(always)]
    pub(super) fn compute(self, a: U256, b: U256, c: U256) -> U256 {
        match self {
            Self::Add => a.wrapping_add(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Div if b.is_zero() => U256::ZERO,
            Self::Div => a.wrapping_div(b),
            Self::SignedDiv => i256_div(a, b),
            Self::Mod if b.is_zero() => U256::ZERO,
            Self::Mod => a.wrapping_rem(b),
            Self::SignedMod => i256_mod(a, b),
            Self::AddMod => a.add_mod(b, c),
            Self::MulMod => a.mul_mod(b, c),
            Self::SignExtend => sign_extend(a, b),
            Self::Lt => U256::from(a < b),
            Self::Gt => U256::from(a > b),
            Self::SignedLt => U256::from(i256_cmp(&a, &b) == Ordering::Less),
            Self::SignedGt => U256::from(i256_cmp(&a, &b) == Ordering::Greater),
            Self::Eq => U256::from(a == b),
            Self::IsZero => U256::from(a.is_zero()),
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Not => !a,
            Self::Byte => {
                shift_of(a, 32).map_or(U256::ZERO, |place| U256::from(b.byte(31 - place)))
            }
            Self::ShiftLeft => shift_of(a, 256).map_or(U256::ZERO, |shift| b << shift),
            Self::ShiftRight => shift_of(a, 256).map_or(U256::ZERO, |shift| b >> shift),
            Self::SignedShiftRight => match shift_of(a, 256) {
                Some(shift) => b.arithmetic_shr(shift),
                None if b.bit(255) => U256::MAX,
                None => U256::ZERO,
            },
            _ => a,
        }
    }
}

fn shift_of(value: U256, limit: usize) -> Option<usize> {
    usize::try_from(value).ok().filter(|shift| *shift < limit)
}

/// SIGNEXTEND (yellow paper, appendix H): the sign is the highest bit of the byte at `place`.
fn sign_extend(place: U256, value: U256) -> U256 {
    let Some(place) = shift_of(place, 31) else { return value };
    let sign = 8 * place + 7;
    let below = (U256::ONE << sign) - U256::ONE;
    if value.bit(sign) { value | !below } else { value & below }
}

/// Where a value is: in a place of the block's window, or among its constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operand(u16);

impl Operand {
    const CONSTANT: u16 = 1 << 15;

    const fn constant(index: u16) -> Self {
        Self(index | Self::CONSTANT)
    }

    pub(super) const fn place(self) -> Result<usize, usize> {
        if self.0 & Self::CONSTANT == 0 {
            Ok(self.0 as usize)
        } else {
            Err((self.0 & !Self::CONSTANT) as usize)
        }
    }
}

/// An instruction with the places of its operands. Those that it does not have are its first one,
/// or the first place of the window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) result: u16,
    pub(super) operands: [Operand; 3],
}

/// What a jump depends on, in values or in the places where they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test<V = Operand> {
    pub(super) kind: TestKind,
    pub(super) a: V,
    pub(super) b: V,
    /// Whether the jump is taken if it holds, or if it does not.
    pub(super) holds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TestKind {
    /// `b` plays no part.
    NotZero,
    Compares(Kind),
}

/// How a block ends, in values or in the places where they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<V = Operand> {
    /// In another one.
    Goto(BlockIndex),
    Branch {
        test: Test<V>,
        taken: BlockIndex,
        next: BlockIndex,
    },
    /// Where a value says.
    Jump(V),
    BranchTo {
        test: Test<V>,
        target: V,
        next: BlockIndex,
    },
    /// In an instruction that is revm's.
    Instruction {
        opcode: u8,
        /// The byte after the opcode.
        after: u32,
        /// The block after it, if that is known.
        next: BlockIndex,
    },
}

/// Translated instructions. Its *window* is the part of the EVM's stack that it works in: so many
/// words as it needs from below, and as much above them as it fills or uses as a scratch pad.
#[derive(Debug)]
pub(super) struct BasicBlock {
    /// Does not depend on values.
    pub(super) gas: u64,
    /// Words that have to be on the stack.
    pub(super) needs: usize,
    /// Words above those.
    pub(super) room: usize,
    /// Words that there are after it, `needs` included.
    pub(super) leaves: usize,
    /// Whether it begins with JUMPDEST.
    pub(super) is_jumped_to: bool,
    pub(super) operations: Box<[Operation]>,
    /// What is to be done once the end is known: values go where the next block expects them.
    pub(super) moves: Box<[(u16, Operand)]>,
    pub(super) constants: Box<[U256]>,
    pub(super) end: End,
}

impl BasicBlock {
    /// Memory that it takes up, with what the allocator adds to its four pieces.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.operations)
            + size_of_val(&*self.moves)
            + size_of_val(&*self.constants)
            + 32
    }
}

/// Instructions of a block at most: the places of its window and its constants are counted in
/// fifteen bits.
pub(super) const INSTRUCTIONS_MAX: usize = 192;

/// What an opcode means for the shape of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Translated, or gone in translation.
    Inside,
    /// JUMPDEST.
    Begins,
    /// Whatever jumps, ends the frame, sees the gas that is left, or is not translated.
    Ends,
}

impl Shape {
    fn of(opcode: u8, spec: SpecId) -> Self {
        match opcode {
            opcode::JUMPDEST => Self::Begins,
            opcode::PUSH0 if !spec.is_enabled_in(SpecId::SHANGHAI) => Self::Ends,
            opcode::PUSH0..=opcode::SWAP16 | opcode::POP | opcode::PC => Self::Inside,
            _ if Kind::of(opcode, spec).is_some() => Self::Inside,
            _ => Self::Ends,
        }
    }
}

/// The shapes of all opcodes under the rules of one fork.
#[derive(Debug)]
pub(super) struct Shapes([Shape; 256]);

impl Shapes {
    pub(super) fn new(spec: SpecId) -> Self {
        Self(std::array::from_fn(|opcode| Shape::of(opcode as u8, spec)))
    }

    pub(super) const fn of(&self, opcode: u8) -> Shape {
        self.0[opcode as usize]
    }
}

/// A value during translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// What was on the stack before, so far below its top: 1 for the top itself.
    Below(u16),
    Constant(u16),
    /// Of an instruction of the block.
    Result(u16),
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    kind: Kind,
    operands: [Option<Value>; 3],
    is_needed: bool,
}

impl Test<Value> {
    fn placed(self, place: impl Fn(Value) -> Operand) -> Test {
        Test { kind: self.kind, a: place(self.a), b: place(self.b), holds: self.holds }
    }
}

impl End<Value> {
    /// The values that it depends on.
    fn values(&self) -> SmallVec<[Value; 3]> {
        match *self {
            Self::Goto(_) | Self::Instruction { .. } => SmallVec::new(),
            Self::Branch { test, .. } => SmallVec::from_slice(&[test.a, test.b]),
            Self::Jump(target) => SmallVec::from_slice(&[target]),
            Self::BranchTo { test, target, .. } => SmallVec::from_slice(&[test.a, test.b, target]),
        }
    }

    fn placed(self, place: impl Fn(Value) -> Operand) -> End {
        match self {
            Self::Goto(next) => End::Goto(next),
            Self::Branch { test, taken, next } => {
                End::Branch { test: test.placed(place), taken, next }
            }
            Self::Jump(target) => End::Jump(place(target)),
            Self::BranchTo { test, target, next } => {
                End::BranchTo { target: place(target), test: test.placed(place), next }
            }
            Self::Instruction { opcode, after, next } => End::Instruction { opcode, after, next },
        }
    }
}

/// Translates blocks one after the other, in the same memory.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    instructions: Vec<Instruction>,
    constants: Vec<U256>,
    /// What is on the stack above those that were below it and have not been touched.
    stack: Vec<Value>,
    /// Words from below that were touched.
    taken: u16,
    /// Most words above the height at the beginning.
    highest: usize,
    places: Places,
}

impl Translator {
    /// Translates the block at that index.
    pub(super) fn translate(
        &mut self,
        layout: &Layout,
        index: BlockIndex,
        spec: SpecId,
        gas: &GasTable,
    ) -> BasicBlock {
        self.instructions.clear();
        self.constants.clear();
        self.stack.clear();
        (self.taken, self.highest) = (0, 0);
        let code = layout.bytes();
        let begin = layout.pc_of(index);
        let mut pc = begin;
        let mut gas_sum = 0;
        let end = loop {
            if pc != begin && layout.index_of(pc).is_some() {
                break End::Goto(layout.index_of(pc));
            }
            let opcode = code[pc];
            gas_sum += u64::from(gas[usize::from(opcode)]);
            if Shape::of(opcode, spec) == Shape::Ends {
                break self.end(layout, opcode, pc);
            }
            pc += self.instruction(code, pc, spec);
        };
        let is_jumped_to = code[begin] == opcode::JUMPDEST;
        self.finish(end, gas_sum, is_jumped_to)
    }

    /// Translates the instruction there; how long it is.
    fn instruction(&mut self, code: &[u8], pc: usize, spec: SpecId) -> usize {
        match code[pc] {
            opcode::JUMPDEST => {}
            opcode::PC => self.push_constant(U256::from(pc)),
            opcode::POP => {
                self.pop();
            }
            push @ opcode::PUSH0..=opcode::PUSH32 => {
                let len = usize::from(push - opcode::PUSH0);
                self.push_constant(U256::from_be_slice(&code[pc + 1..][..len]));
                return 1 + len;
            }
            dup @ opcode::DUP1..=opcode::DUP16 => {
                let depth = usize::from(dup - opcode::DUP1) + 1;
                self.take(depth);
                self.push(self.stack[self.stack.len() - depth]);
            }
            swap @ opcode::SWAP1..=opcode::SWAP16 => {
                let depth = usize::from(swap - opcode::SWAP1) + 1;
                self.take(depth + 1);
                let top = self.stack.len() - 1;
                self.stack.swap(top, top - depth);
            }
            opcode => {
                let Some((kind, inputs)) = Kind::of(opcode, spec) else {
                    unreachable!("what is not translated ends a block")
                };
                let mut operands = [None; 3];
                operands[..inputs].fill_with(|| Some(self.pop()));
                self.operation(kind, operands);
            }
        }
        1
    }

    fn operation(&mut self, kind: Kind, operands: [Option<Value>; 3]) {
        let known = |operand: Option<Value>| match operand {
            Some(Value::Constant(index)) => Some(self.constants[usize::from(index)]),
            Some(_) => None,
            None => Some(U256::ZERO),
        };
        if kind.is_arithmetic()
            && let [Some(a), Some(b), Some(c)] = operands.map(known)
        {
            return self.push_constant(kind.compute(a, b, c));
        }
        let result = Value::Result(self.instructions.len() as u16);
        self.instructions.push(Instruction { kind, operands, is_needed: !kind.is_pure() });
        if kind.has_result() {
            self.push(result);
        }
    }

    /// Takes values from below until so many are in sight.
    fn take(&mut self, count: usize) {
        let more = count.saturating_sub(self.stack.len()) as u16;
        if more > 0 {
            let below = (self.taken + 1..=self.taken + more).rev().map(Value::Below);
            self.stack.splice(0..0, below);
            self.taken += more;
        }
    }

    fn pop(&mut self) -> Value {
        self.take(1);
        let Some(top) = self.stack.pop() else { unreachable!("one was just taken") };
        top
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
        self.highest = self.highest.max(self.stack.len().saturating_sub(self.taken.into()));
    }

    fn push_constant(&mut self, value: U256) {
        self.constants.push(value);
        self.push(Value::Constant(self.constants.len() as u16 - 1));
    }

    /// Translates the instruction that ends the block.
    fn end(&mut self, layout: &Layout, opcode: u8, pc: usize) -> End<Value> {
        let next = layout.index_of(pc + 1);
        // Where these lead, and whether those are followed by an immediate, is for revm to say.
        let is_open = matches!(
            opcode,
            opcode::JUMP | opcode::JUMPI | opcode::DUPN | opcode::SWAPN | opcode::EXCHANGE
        );
        let after = pc as u32 + 1;
        let as_it_is =
            End::Instruction { opcode, after, next: if is_open { BlockIndex::NONE } else { next } };
        let operands = match opcode {
            opcode::JUMP => 1,
            opcode::JUMPI => 2,
            _ => return as_it_is,
        };
        self.take(operands);
        let target = self.stack[self.stack.len() - 1];
        let known = match target {
            Value::Constant(index) => {
                let target = layout.jump_target(self.constants[usize::from(index)]);
                // A jump to nowhere is revm's to make.
                let Some(target) = target else { return as_it_is };
                Some(target)
            }
            _ => None,
        };
        self.pop();
        if opcode == opcode::JUMP {
            return known.map_or(End::Jump(target), End::Goto);
        }
        let condition = self.pop();
        let test = self.test(condition);
        match known {
            Some(taken) => End::Branch { test, taken, next },
            None => End::BranchTo { test, target, next },
        }
    }

    /// Whether a value is not zero, put as a comparison if it comes from one.
    fn test(&self, value: Value) -> Test<Value> {
        let mut test = Test { kind: TestKind::NotZero, a: value, b: value, holds: true };
        while let Value::Result(index) = test.a {
            let Instruction { kind, operands: [Some(a), b, _], .. } =
                self.instructions[usize::from(index)]
            else {
                break;
            };
            match (kind, b) {
                (Kind::IsZero, _) => {
                    test.holds = !test.holds;
                    (test.a, test.b) = (a, a);
                }
                (Kind::Lt | Kind::Gt | Kind::SignedLt | Kind::SignedGt | Kind::Eq, Some(b)) => {
                    return Test { kind: TestKind::Compares(kind), a, b, ..test };
                }
                _ => break,
            }
        }
        test
    }

    /// Leaves out what nobody needs, finds places for what is left, and puts it together.
    fn finish(&mut self, end: End<Value>, gas: u64, is_jumped_to: bool) -> BasicBlock {
        self.find_needed(&end);
        let Self { instructions, constants, stack, taken, highest, places } = self;
        places.begin(instructions, stack, *taken, &end);
        let count = instructions.iter().filter(|instruction| instruction.is_needed).count();
        let mut operations = Vec::with_capacity(count);
        for (index, instruction) in instructions.iter().enumerate() {
            if !instruction.is_needed {
                continue;
            }
            let first = instruction.operands[0].map_or(Operand(0), |value| places.of(value));
            let operands =
                instruction.operands.map(|value| value.map_or(first, |value| places.of(value)));
            places.free_after(index, instruction);
            let result = if instruction.kind.has_result() { places.find(index) } else { 0 };
            operations.push(Operation { kind: instruction.kind, result, operands });
        }
        let end = end.placed(|value| places.of(value));
        let moves: Box<[_]> = places.moves(stack).into();
        let needs = usize::from(*taken);
        let top = usize::from(places.end).max(needs + *highest);
        BasicBlock {
            gas,
            needs,
            room: top - needs,
            leaves: stack.len(),
            is_jumped_to,
            operations: operations.into_boxed_slice(),
            moves,
            constants: constants.as_slice().into(),
            end,
        }
    }

    fn find_needed(&mut self, end: &End<Value>) {
        let need = |value: Value, instructions: &mut [Instruction]| {
            if let Value::Result(index) = value {
                instructions[usize::from(index)].is_needed = true;
            }
        };
        for value in self.stack.iter().copied().chain(end.values()) {
            need(value, &mut self.instructions);
        }
        for index in (0..self.instructions.len()).rev() {
            let Instruction { operands, is_needed, .. } = self.instructions[index];
            if is_needed {
                operands
                    .into_iter()
                    .flatten()
                    .for_each(|value| need(value, &mut self.instructions));
            }
        }
    }
}

/// Which place of the window every value has. A result goes at once where it is expected in the end,
/// if what is there from before is not needed any more.
#[derive(Debug, Default)]
struct Places {
    /// Words from below.
    needs: u16,
    /// For each instruction: the last one that uses its result, where that is expected, and where it
    /// is.
    results: Vec<ResultPlace>,
    /// The last instruction that uses each word from below, by its place.
    last_use_below: Vec<usize>,
    /// Scratch places that are free, and the end of all of them.
    free: Vec<u16>,
    end: u16,
    /// For the moves: what is to come to each place, how many wait for what is there, places that
    /// nobody waits for, and the moves in order.
    expected: Vec<Option<Operand>>,
    readers: Vec<u16>,
    unread: Vec<u16>,
    moves: Vec<(u16, Operand)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ResultPlace {
    last_use: usize,
    wanted: Option<u16>,
    place: u16,
}

/// Later than all instructions.
const AT_THE_END: usize = usize::MAX;

impl Places {
    fn begin(
        &mut self,
        instructions: &[Instruction],
        stack: &[Value],
        taken: u16,
        end: &End<Value>,
    ) {
        self.needs = taken;
        self.results.clear();
        self.results.resize(instructions.len(), ResultPlace::default());
        self.last_use_below.clear();
        self.last_use_below.resize(taken.into(), 0);
        self.free.clear();
        self.end = (stack.len() as u16).max(taken);
        for (index, instruction) in instructions.iter().enumerate() {
            if instruction.is_needed {
                instruction.operands.iter().flatten().for_each(|value| self.uses(*value, index));
            }
        }
        end.values().into_iter().for_each(|value| self.uses(value, AT_THE_END));
        for (place, value) in stack.iter().enumerate() {
            let place = place as u16;
            match *value {
                Value::Below(depth) if taken - depth == place => {}
                Value::Result(index) => {
                    self.uses(*value, AT_THE_END);
                    self.results[usize::from(index)].wanted.get_or_insert(place);
                }
                _ => self.uses(*value, AT_THE_END),
            }
        }
    }

    fn uses(&mut self, value: Value, index: usize) {
        let last = match value {
            Value::Below(depth) => &mut self.last_use_below[usize::from(self.needs - depth)],
            Value::Result(index) => &mut self.results[usize::from(index)].last_use,
            Value::Constant(_) => return,
        };
        *last = (*last).max(index);
    }

    fn of(&self, value: Value) -> Operand {
        match value {
            Value::Below(depth) => Operand(self.needs - depth),
            Value::Constant(index) => Operand::constant(index),
            Value::Result(index) => Operand(self.results[usize::from(index)].place),
        }
    }

    /// Gives back the scratch places of what is used for the last time by that instruction.
    fn free_after(&mut self, index: usize, instruction: &Instruction) {
        for (at, operand) in instruction.operands.iter().enumerate() {
            let Some(Value::Result(result)) = *operand else { continue };
            let is_first = !instruction.operands[..at].contains(operand);
            let ResultPlace { last_use, place, .. } = self.results[usize::from(result)];
            if is_first && last_use == index {
                self.free.push(place);
            }
        }
    }

    /// A place for the result of that instruction.
    fn find(&mut self, index: usize) -> u16 {
        let ResultPlace { last_use, wanted, .. } = self.results[index];
        let place = wanted.filter(|place| {
            // Equal will do: operands are read before the result is written.
            self.last_use_below.get(usize::from(*place)).is_none_or(|last| *last <= index)
        });
        let place = place.unwrap_or_else(|| self.scratch());
        self.results[index].place = place;
        if last_use <= index {
            self.free.push(place);
        }
        place
    }

    fn scratch(&mut self) -> u16 {
        self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    /// Brings the values to where they are expected, one at a time: first to places that nobody else
    /// is waiting for.
    fn moves(&mut self, stack: &[Value]) -> &[(u16, Operand)] {
        self.moves.clear();
        self.expected.clear();
        self.readers.clear();
        self.readers.resize(usize::from(self.end), 0);
        for (place, value) in stack.iter().enumerate() {
            let value = self.of(*value);
            let moves = value != Operand(place as u16);
            self.expected.push(moves.then_some(value));
            if moves && let Ok(from) = value.place() {
                self.readers[from] += 1;
            }
        }
        for start in 0..stack.len() {
            if self.expected[start].is_none() || self.readers[start] > 0 {
                continue;
            }
            self.unread.push(start as u16);
            self.move_unread();
        }
        // What is left goes round in circles: in each of them one value has to step aside.
        for start in 0..stack.len() {
            if self.expected[start].is_none() {
                continue;
            }
            let start = start as u16;
            let aside = self.end;
            self.end += 1;
            self.moves.push((aside, Operand(start)));
            *self.reader_in_circle(start) = Some(Operand(aside));
            self.readers[usize::from(start)] = 0;
            self.readers.resize(usize::from(self.end), 0);
            self.unread.push(start);
            self.move_unread();
        }
        &self.moves
    }

    /// What is to come to the place that waits for what is at `start`.
    fn reader_in_circle(&mut self, start: u16) -> &mut Option<Operand> {
        let mut place = usize::from(start);
        loop {
            match self.expected[place].map(Operand::place) {
                Some(Ok(from)) if from != usize::from(start) => place = from,
                _ => return &mut self.expected[place],
            }
        }
    }

    /// Fills the places that nobody waits for, and those that this makes so.
    fn move_unread(&mut self) {
        while let Some(place) = self.unread.pop() {
            let Some(value) = self.expected[usize::from(place)].take() else { continue };
            self.moves.push((place, value));
            let Ok(from) = value.place() else { continue };
            self.readers[from] = self.readers[from].saturating_sub(1);
            let is_expected = self.expected.get(from).is_some_and(Option::is_some);
            if self.readers[from] == 0 && is_expected {
                self.unread.push(from as u16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcode::*;
    use revm::{interpreter::instructions::gas_table_spec, state::Bytecode};

    /// The block at the beginning of a program, to which a jump target is appended.
    fn block(code: &[u8]) -> BasicBlock {
        let code = [code, &[JUMPDEST, STOP]].concat();
        let layout = Layout::new(&Bytecode::new_raw(code.into()), &Shapes::new(SpecId::OSAKA));
        let layout = layout.expect("it is short");
        let gas = gas_table_spec(SpecId::OSAKA);
        Translator::default().translate(&layout, layout.index_of(0), SpecId::OSAKA, &gas)
    }

    #[test]
    fn what_is_only_moved_about_or_known_beforehand_takes_no_operation() {
        let block = block(&[PUSH1, 1, PUSH1, 2, SWAP1, POP, DUP1, ADD, STOP]);
        assert!(block.operations.is_empty(), "{block:?}");
        assert_eq!((block.needs, block.leaves, block.moves.len()), (0, 1, 1));
        assert_eq!(block.constants.last(), Some(&U256::from(4)));
        assert_eq!(block.gas, 3 + 3 + 3 + 2 + 3 + 3);
    }

    #[test]
    fn a_result_goes_at_once_where_the_next_block_expects_it() {
        let block = block(&[CALLER, ADD, STOP]);
        assert_eq!((block.needs, block.leaves, block.moves.len()), (1, 1, 0), "{block:?}");
        assert_eq!(block.operations.len(), 2);
        assert_eq!(block.operations[1].result, 0);
    }

    #[test]
    fn values_that_go_round_in_circles_cost_one_move_more_each() {
        let two_circles = block(&[SWAP1, SWAP2, SWAP1, SWAP4, STOP]);
        assert_eq!(two_circles.needs, 5);
        let moved = two_circles.moves.len();
        let aside = two_circles.moves.iter().filter(|(place, _)| *place >= 5).count();
        assert_eq!((moved, aside), (4 + 2, 2), "{two_circles:?}");
    }

    #[test]
    fn a_jump_on_a_negated_comparison_compares_and_keeps_no_result() {
        let block = block(&[DUP2, DUP2, LT, ISZERO, PUSH1, 8, JUMPI, STOP]);
        assert!(block.operations.is_empty(), "{block:?}");
        let End::Branch { test, .. } = block.end else { panic!("{block:?}") };
        assert_eq!((test.kind, test.holds), (TestKind::Compares(Kind::Lt), false));
    }

    #[test]
    fn what_the_fork_does_not_have_is_left_to_revm() {
        for (opcode, before) in [
            (PUSH0, SpecId::MERGE),
            (SHL, SpecId::BYZANTIUM),
            (RETURNDATASIZE, SpecId::SPURIOUS_DRAGON),
        ] {
            assert_eq!(Shape::of(opcode, before), Shape::Ends, "{opcode:#x}");
            assert_eq!(Shape::of(opcode, SpecId::OSAKA), Shape::Inside, "{opcode:#x}");
        }
    }
}

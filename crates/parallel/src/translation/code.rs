//! A contract's code cut into basic blocks, which are translated as they are met.

use super::basic_block::{BasicBlock, INSTRUCTIONS_MAX, Shape};
use alloy_primitives::{B256, U256, map::B256Map};
use parking_lot::RwLock;
use revm::{
    bytecode::opcode,
    interpreter::GasTable,
    primitives::hardfork::SpecId,
    state::Bytecode,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

/// Number of a basic block in its code, from one on; or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockIndex(u16);

impl BlockIndex {
    pub(super) const NONE: Self = Self(0);

    pub(super) const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// Where the basic blocks of a contract's code begin.
#[derive(Debug)]
pub(super) struct Layout {
    code: Bytecode,
    /// For every byte, the block that begins there.
    index: Box<[BlockIndex]>,
    /// Where each block begins.
    begins: Vec<u16>,
}

/// Code up to which bytes and blocks can be counted in sixteen bits. EIP-170 allows half of it; a
/// chain without that limit runs what is longer as it is.
const CODE_BYTES_MAX: usize = 60_000;

impl Layout {
    fn new(code: &Bytecode, spec: SpecId) -> Option<Self> {
        let bytes = code.bytes_ref();
        code.legacy_jump_table()?;
        if bytes.len() > CODE_BYTES_MAX {
            return None;
        }
        let mut index = vec![BlockIndex::NONE; bytes.len() + 1].into_boxed_slice();
        let mut begins = Vec::new();
        let mut pc = 0;
        let mut instructions = INSTRUCTIONS_MAX;
        while pc < bytes.len() {
            let opcode = bytes[pc];
            let shape = Shape::of(opcode, spec);
            if shape == Shape::Begins || instructions == INSTRUCTIONS_MAX {
                begins.push(pc as u16);
                index[pc] = BlockIndex(begins.len() as u16);
                instructions = 0;
            }
            instructions = if shape == Shape::Ends { INSTRUCTIONS_MAX } else { instructions + 1 };
            // As for jumps: only what is pushed is no code.
            let is_push = (opcode::PUSH1..=opcode::PUSH32).contains(&opcode);
            pc += 1 + if is_push { usize::from(opcode - opcode::PUSH0) } else { 0 };
        }
        Some(Self { code: code.clone(), index, begins })
    }

    /// The code with revm's padding.
    pub(super) fn bytes(&self) -> &[u8] {
        self.code.bytes_slice()
    }

    pub(super) fn index_of(&self, pc: usize) -> BlockIndex {
        self.index.get(pc).copied().unwrap_or(BlockIndex::NONE)
    }

    pub(super) fn pc_of(&self, index: BlockIndex) -> usize {
        self.begins[usize::from(index.0) - 1].into()
    }

    /// The block that a jump to `target` leads to, if it may.
    #[inline]
    pub(super) fn jump_target(&self, target: U256) -> Option<BlockIndex> {
        let target = usize::try_from(target).ok()?;
        // Only what the EVM sees as an instruction begins a block.
        let index = self.index_of(target);
        (index.is_some() && self.bytes()[target] == opcode::JUMPDEST).then_some(index)
    }
}

/// A contract's code, translated as far as it was met again.
#[derive(Debug)]
pub(crate) struct Code {
    pub(super) layout: Layout,
    blocks: Box<[OnceLock<Box<BasicBlock>>]>,
    /// How often each block was met before it was translated.
    visits: Box<[AtomicU8]>,
}

impl Code {
    fn new(layout: Layout) -> Self {
        let blocks = layout.begins.iter().map(|_| OnceLock::new()).collect();
        let visits = layout.begins.iter().map(|_| AtomicU8::new(0)).collect();
        Self { layout, blocks, visits }
    }

    /// The translated block, if there is one by now.
    #[inline]
    pub(super) fn block(&self, index: BlockIndex, rules: &Rules) -> Option<&BasicBlock> {
        let place = usize::from(index.0).wrapping_sub(1);
        match self.blocks.get(place)?.get() {
            Some(block) => Some(block),
            None => self.meet(index, place, rules),
        }
    }

    #[cold]
    fn meet(&self, index: BlockIndex, place: usize, rules: &Rules) -> Option<&BasicBlock> {
        // A count that several write at once may miss some, which does no harm.
        let visits = self.visits[place].load(Ordering::Relaxed).saturating_add(1);
        self.visits[place].store(visits, Ordering::Relaxed);
        if visits <= rules.eagerness.visits {
            return None;
        }
        let translate = || {
            Box::new(BasicBlock::translate(&self.layout, index, rules.spec, &rules.gas))
        };
        Some(self.blocks[place].get_or_init(translate))
    }
}

/// By which rules, and when, code is translated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) spec: SpecId,
    pub(super) gas: GasTable,
    pub(super) eagerness: Eagerness,
}

/// When code is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Eagerness {
    /// Calls of a contract after which its code is laid out, or instructions of one call.
    pub(super) calls: u32,
    pub(super) instructions: u32,
    /// Visits of a block after which it is translated.
    pub(super) visits: u8,
}

impl Eagerness {
    /// Laying code out takes a microsecond or so for each kilobyte of it, translating an instruction
    /// about as long as executing it ten times.
    pub(crate) const USUAL: Self = Self { calls: 2, instructions: 16_384, visits: 4 };
    /// For tests: everything is translated before it runs.
    pub(crate) const AT_ONCE: Self = Self { calls: 0, instructions: 0, visits: 0 };
}

/// Codes that are kept. One of 24 kilobytes has some 100 beside it, and a megabyte if all of its
/// blocks are translated.
const CODES_MAX: usize = 512;

/// Codes by the rules of one fork.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(super) rules: Rules,
    by_hash: RwLock<B256Map<Arc<Code>>>,
}

impl Codes {
    fn new(rules: Rules) -> Self {
        Self { rules, by_hash: RwLock::default() }
    }

    /// Whether code that a worker has met so often is worth it.
    pub(crate) const fn is_often(&self, calls: u32) -> bool {
        calls > self.rules.eagerness.calls
    }

    /// The code, if it was laid out before.
    pub(crate) fn known(&self, hash: &B256) -> Option<Arc<Code>> {
        self.by_hash.read().get(hash).cloned()
    }

    /// The code, laid out; `None` for code that is never translated.
    pub(crate) fn lay_out(&self, hash: B256, code: &Bytecode) -> Option<Arc<Code>> {
        if let Some(known) = self.known(&hash) {
            return Some(known);
        }
        let code = Arc::new(Code::new(Layout::new(code, self.rules.spec)?));
        let mut by_hash = self.by_hash.write();
        if by_hash.len() >= CODES_MAX {
            // What is still in use will soon be back.
            by_hash.clear();
        }
        Some(Arc::clone(by_hash.entry(hash).or_insert(code)))
    }
}

/// Translated code, shared by all workers and kept from block to block.
#[derive(Debug)]
pub(crate) struct Translations {
    eagerness: Eagerness,
    codes: RwLock<Option<Arc<Codes>>>,
}

impl Translations {
    pub(crate) const fn new(eagerness: Eagerness) -> Self {
        Self { eagerness, codes: RwLock::new(None) }
    }

    /// Those by these rules; what was translated by others is forgotten.
    pub(crate) fn by_rules(&self, spec: SpecId, gas: &GasTable) -> Arc<Codes> {
        let fits = |codes: &&Arc<Codes>| codes.rules.spec == spec && codes.rules.gas == *gas;
        if let Some(codes) = self.codes.read().as_ref().filter(fits) {
            return Arc::clone(codes);
        }
        let mut codes = self.codes.write();
        if let Some(codes) = codes.as_ref().filter(fits) {
            return Arc::clone(codes);
        }
        let rules = Rules { spec, gas: *gas, eagerness: self.eagerness };
        Arc::clone(codes.insert(Arc::new(Codes::new(rules))))
    }

    pub(crate) fn forget(&self) {
        *self.codes.write() = None;
    }
}

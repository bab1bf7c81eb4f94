//! A contract's code cut into basic blocks, which are translated as they are met.

use super::basic_block::{BasicBlock, INSTRUCTIONS_MAX, Shape, Translator};
use alloy_primitives::{B256, U256, map::B256Map};
use parking_lot::RwLock;
use revm::{
    bytecode::opcode, interpreter::GasTable, primitives::hardfork::SpecId, state::Bytecode,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, AtomicUsize, Ordering},
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

    /// Bytes up to the next block.
    fn len_of(&self, index: BlockIndex) -> usize {
        let end =
            self.begins.get(usize::from(index.0)).map_or(self.bytes().len(), |end| (*end).into());
        end - self.pc_of(index)
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

    /// Memory that it takes up without what is translated.
    fn bytes(&self) -> usize {
        size_of_val(&*self.layout.index)
            + size_of_val(&*self.layout.begins)
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.visits)
    }

    /// The translated block, if there is one by now.
    #[inline]
    pub(super) fn block(
        &self,
        index: BlockIndex,
        codes: &Codes,
        translator: &mut Translator,
    ) -> Option<&BasicBlock> {
        let place = usize::from(index.0).wrapping_sub(1);
        match self.blocks.get(place)?.get() {
            Some(block) => Some(block),
            None => self.meet(index, place, codes, translator),
        }
    }

    #[cold]
    fn meet(
        &self,
        index: BlockIndex,
        place: usize,
        codes: &Codes,
        translator: &mut Translator,
    ) -> Option<&BasicBlock> {
        // A count that several write at once may miss some, which does no harm.
        let visits = self.visits[place].load(Ordering::Relaxed).saturating_add(1);
        self.visits[place].store(visits, Ordering::Relaxed);
        let Rules { spec, gas, eagerness } = &codes.rules;
        if !eagerness.translates(visits, self.layout.len_of(index)) || codes.are_full() {
            return None;
        }
        Some(self.blocks[place].get_or_init(|| {
            let block = translator.translate(&self.layout, index, *spec, gas);
            codes.grow_by(block.bytes());
            Box::new(block)
        }))
    }
}

/// By which rules, and when, code is translated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) spec: SpecId,
    pub(super) gas: GasTable,
    pub(super) eagerness: Eagerness,
}

/// When code is translated: once it has run for so long that doing it earlier would have saved half
/// of the time or less. So nobody can make a node spend much more on translating than on executing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eagerness {
    Usual,
    /// For tests: before it runs.
    AtOnce,
}

/// Executing an instruction takes about as long as laying out two bytes of code, and translating it
/// as long as executing it sixteen times and a little more for each block.
const LAID_OUT_INSTRUCTIONS_MIN: u32 = 1_024;
const LAID_OUT_BYTES: u32 = 2;
const VISITS_MIN: usize = 16;
const VISITS_SHORT: usize = 96;

impl Eagerness {
    /// Instructions of a contract that are executed as they are before so many bytes are laid out.
    pub(crate) const fn instructions_before(self, code_bytes: usize) -> u32 {
        match self {
            Self::Usual => {
                let bytes = code_bytes as u32 / LAID_OUT_BYTES;
                if bytes > LAID_OUT_INSTRUCTIONS_MIN { bytes } else { LAID_OUT_INSTRUCTIONS_MIN }
            }
            Self::AtOnce => 0,
        }
    }

    /// Whether a block of so many bytes is translated at its so manieth visit.
    const fn translates(self, visits: u8, block_bytes: usize) -> bool {
        match self {
            Self::Usual => visits as usize > VISITS_MIN + VISITS_SHORT / (block_bytes + 1),
            Self::AtOnce => true,
        }
    }
}

/// Bytes that translations may take up. Popular code of a day's blocks takes a few megabytes; code
/// of nothing but short blocks takes three hundred times its own size.
const TRANSLATED_BYTES_MAX: usize = 128 << 20;

/// Codes by the rules of one fork.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(super) rules: Rules,
    by_hash: RwLock<B256Map<Arc<Code>>>,
    /// About how much memory they take up.
    bytes: AtomicUsize,
}

impl Codes {
    fn new(rules: Rules) -> Self {
        Self { rules, by_hash: RwLock::default(), bytes: AtomicUsize::new(0) }
    }

    pub(crate) const fn eagerness(&self) -> Eagerness {
        self.rules.eagerness
    }

    /// Nothing more is translated then; the next block begins with nothing.
    fn are_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= TRANSLATED_BYTES_MAX
    }

    fn grow_by(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
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
        if self.are_full() {
            return None;
        }
        let code = Arc::new(Code::new(Layout::new(code, self.rules.spec)?));
        self.grow_by(code.bytes());
        Some(Arc::clone(self.by_hash.write().entry(hash).or_insert(code)))
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
        let fits = |codes: &&Arc<Codes>| {
            codes.rules.spec == spec && codes.rules.gas == *gas && !codes.are_full()
        };
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

//! A contract's code cut into basic blocks, which are translated as they are met.

use super::basic_block::{BasicBlock, INSTRUCTIONS_MAX, Shape, Shapes, Translator};
use alloy_primitives::{B256, U256, map::B256Map};
use parking_lot::{Mutex, RwLock};
use revm::{
    bytecode::opcode, interpreter::GasTable, primitives::hardfork::SpecId, state::Bytecode,
};
use std::{
    collections::hash_map::Entry,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
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
    /// Where each block begins, and how many instructions it has.
    begins: Box<[(u16, u8)]>,
}

/// Code up to which bytes and blocks can be counted in sixteen bits. EIP-170 allows half of it; a
/// chain without that limit runs what is longer as it is.
const CODE_BYTES_MAX: usize = 60_000;

impl Layout {
    pub(super) fn new(code: &Bytecode, shapes: &Shapes) -> Option<Self> {
        let bytes = code.bytes_ref();
        code.legacy_jump_table()?;
        if bytes.len() > CODE_BYTES_MAX {
            return None;
        }
        let mut index = vec![BlockIndex::NONE; bytes.len()].into_boxed_slice();
        let mut begins: Vec<(u16, u8)> = Vec::with_capacity(bytes.len() / 8);
        let mut pc = 0;
        let mut instructions = INSTRUCTIONS_MAX;
        while let Some(opcode) = bytes.get(pc).copied() {
            let shape = shapes.of(opcode);
            if shape == Shape::Begins || instructions == INSTRUCTIONS_MAX {
                begins.push((pc as u16, 0));
                index[pc] = BlockIndex(begins.len() as u16);
                instructions = 0;
            }
            if let Some((_, count)) = begins.last_mut() {
                *count += 1;
            }
            instructions = if shape == Shape::Ends { INSTRUCTIONS_MAX } else { instructions + 1 };
            // As for jumps: only what is pushed is no code.
            let is_push = (opcode::PUSH1..=opcode::PUSH32).contains(&opcode);
            pc += 1 + if is_push { usize::from(opcode - opcode::PUSH0) } else { 0 };
        }
        Some(Self { code: code.clone(), index, begins: begins.into() })
    }

    /// The code with revm's padding.
    pub(super) fn bytes(&self) -> &[u8] {
        self.code.bytes_slice()
    }

    pub(super) fn index_of(&self, pc: usize) -> BlockIndex {
        self.index.get(pc).copied().unwrap_or(BlockIndex::NONE)
    }

    pub(super) fn pc_of(&self, index: BlockIndex) -> usize {
        self.begins[usize::from(index.0) - 1].0.into()
    }

    pub(super) fn instructions_of(&self, index: BlockIndex) -> usize {
        self.begins[usize::from(index.0) - 1].1.into()
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
        // With its jump table, a bit for each byte.
        self.layout.bytes().len() / 8 * 9
            + size_of_val(&*self.layout.index)
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
        if codes.are_full() {
            return None;
        }
        let Rules { spec, gas, eagerness } = &codes.rules;
        // A count that several write at once may miss some, which does no harm.
        let visits = self.visits[place].load(Ordering::Relaxed) + 1;
        if !eagerness.translates(visits, self.layout.instructions_of(index)) {
            self.visits[place].store(visits, Ordering::Relaxed);
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
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) spec: SpecId,
    pub(super) gas: GasTable,
    pub(super) eagerness: Eagerness,
}

/// When code is translated: once it has run for so long that it will probably run on, and nobody can
/// make a node spend much more on translating than on executing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eagerness {
    Usual,
    /// For tests: before it runs.
    AtOnce,
}

/// Code is laid out after so many JUMPDESTs, which come once in some fifteen instructions, and more
/// if it is long. Executing what comes with one takes about as long as laying out 32 bytes; that it
/// has to run four times as long is because much code that runs for a while is never seen again: on
/// mainnet blocks that begin with nothing translated, this neither gains nor loses.
const JUMPS_MIN: u32 = 256;
const BYTES_A_JUMP: u32 = 8;
/// Translating an instruction takes about as long as executing it ten times, and a block as long as
/// fifty instructions more.
const VISITS_MIN: usize = 6;
const VISITS_SHORT: usize = 48;

impl Eagerness {
    /// JUMPDESTs after which code of so many bytes is laid out.
    pub(super) const fn jumps_before(self, code_bytes: usize) -> u32 {
        match self {
            Self::Usual => JUMPS_MIN + code_bytes as u32 / BYTES_A_JUMP,
            Self::AtOnce => 0,
        }
    }

    /// Whether a block of so many instructions is translated at its so manieth visit.
    const fn translates(self, visits: u8, instructions: usize) -> bool {
        match self {
            Self::Usual => visits as usize > VISITS_MIN + VISITS_SHORT / instructions,
            Self::AtOnce => true,
        }
    }
}

/// Bytes that translations may take up. Popular code of a day's blocks takes a few megabytes; code
/// of nothing but short blocks takes three hundred times its own size.
const TRANSLATED_BYTES_MAX: usize = 128 << 20;

/// Codes of which it is known that they have run, but not for long enough.
const WARM_MAX: usize = 1 << 16;

/// Codes by the rules of one fork.
#[derive(Debug)]
pub(crate) struct Codes {
    pub(super) rules: Rules,
    shapes: Shapes,
    by_hash: RwLock<B256Map<Arc<Code>>>,
    /// After how many more JUMPDESTs others are laid out that have run before.
    warm: Mutex<B256Map<u32>>,
    /// About how much memory they take up.
    bytes: AtomicUsize,
}

impl Codes {
    fn new(rules: Rules) -> Self {
        let shapes = Shapes::new(rules.spec);
        Self {
            rules,
            shapes,
            by_hash: RwLock::default(),
            warm: Mutex::default(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// After how many more JUMPDESTs a code is laid out.
    pub(super) fn jumps_before(&self, hash: &B256, code_bytes: usize) -> u32 {
        let warm = self.warm.lock().get(hash).copied();
        warm.unwrap_or_else(|| self.rules.eagerness.jumps_before(code_bytes))
    }

    /// Takes down how far a worker has come with codes that are not laid out.
    pub(crate) fn keep_warm(&self, codes: impl Iterator<Item = (B256, u32)>) {
        let mut warm = self.warm.lock();
        if warm.len() >= WARM_MAX {
            warm.clear();
        }
        for (hash, jumps) in codes {
            warm.entry(hash).and_modify(|least| *least = jumps.min(*least)).or_insert(jumps);
        }
    }

    /// Nothing more is translated then; the next block begins with nothing.
    fn are_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= TRANSLATED_BYTES_MAX
    }

    fn grow_by(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The code, if it was laid out before.
    pub(super) fn known(&self, hash: &B256, code: &Bytecode) -> Option<Arc<Code>> {
        let known = self.by_hash.read().get(hash).cloned();
        // A parent state may take a hash from elsewhere without checking it.
        known.filter(|known| known.layout.bytes() == code.bytes_slice())
    }

    /// The code, laid out; `None` for code that is never translated.
    pub(super) fn lay_out(&self, hash: B256, code: &Bytecode) -> Option<Arc<Code>> {
        if self.are_full() {
            return None;
        }
        if self.by_hash.read().contains_key(&hash) {
            return self.known(&hash, code);
        }
        let laid_out = Arc::new(Code::new(Layout::new(code, &self.shapes)?));
        if let Entry::Vacant(place) = self.by_hash.write().entry(hash) {
            self.grow_by(laid_out.bytes());
            place.insert(laid_out);
        }
        self.known(&hash, code)
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
        let new = Arc::new(Codes::new(rules));
        let old = codes.replace(Arc::clone(&new));
        // Freeing it may take long, and the other workers are waiting for the lock.
        drop(codes);
        drop(old);
        new
    }

    pub(crate) fn forget(&self) {
        let old = self.codes.write().take();
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::interpreter::instructions::gas_table_spec;

    #[test]
    fn translations_end_at_their_limit_and_begin_anew_with_the_next_block() {
        let translations = Translations::new(Eagerness::AtOnce);
        let gas = gas_table_spec(SpecId::OSAKA);
        let codes = translations.by_rules(SpecId::OSAKA, &gas);
        let code = Bytecode::new_raw(vec![opcode::JUMPDEST; 100].into());
        let first = codes.lay_out(B256::repeat_byte(1), &code).expect("there is room");
        let index = first.layout.index_of(0);
        let used = codes.bytes.load(Ordering::Relaxed);
        assert!(used > 100 * size_of::<BlockIndex>(), "{used}");
        codes.grow_by(TRANSLATED_BYTES_MAX);
        assert!(codes.lay_out(B256::repeat_byte(2), &code).is_none());
        assert!(first.block(index, &codes, &mut Translator::default()).is_none());
        let next = translations.by_rules(SpecId::OSAKA, &gas);
        assert!(next.known(&B256::repeat_byte(1), &code).is_none());
        assert!(next.lay_out(B256::repeat_byte(2), &code).is_some());
    }

    #[test]
    fn other_rules_find_nothing_translated() {
        let translations = Translations::new(Eagerness::AtOnce);
        let code = Bytecode::new_raw(vec![opcode::STOP].into());
        let by = |spec| translations.by_rules(spec, &gas_table_spec(spec));
        by(SpecId::LONDON).lay_out(B256::ZERO, &code);
        assert!(by(SpecId::LONDON).known(&B256::ZERO, &code).is_some());
        let other = Bytecode::new_raw(vec![opcode::PC].into());
        assert!(by(SpecId::LONDON).known(&B256::ZERO, &other).is_none(), "by a hash that lies");
        assert!(by(SpecId::BERLIN).known(&B256::ZERO, &code).is_none());
    }

    #[test]
    fn a_block_is_translated_once_it_has_run_long_enough_to_pay_for_it() {
        let long = |visits| Eagerness::Usual.translates(visits, 100);
        let short = |visits| Eagerness::Usual.translates(visits, 1);
        assert_eq!((long(6), long(7)), (false, true));
        assert_eq!((short(54), short(55)), (false, true));
        assert_eq!(Eagerness::Usual.jumps_before(24_576), 3_328);
    }
}

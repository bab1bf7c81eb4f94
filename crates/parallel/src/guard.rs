//! The parent state, and whether it still may be asked.
//!
//! What follows the transactions in a block (withdrawals, rewards, system contracts) works on the
//! block's own state, into which only the accounts that it is expected to look at are put. Should
//! it look at another one that the transactions wrote, it would see the state before them: then the
//! guard has seen it, and the block is finished the slow way.

use crate::memory::VersionedMemory;
use alloy_primitives::{Address, B256, U256};
use heddle_evm::{ParentState, StateError};
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

#[derive(Debug)]
pub(crate) struct Guard<'p, 'm, P> {
    parent: &'p P,
    memory: OnceLock<&'m VersionedMemory>,
    watching: AtomicBool,
    strayed: AtomicBool,
}

impl<'p, 'm, P> Guard<'p, 'm, P> {
    pub(crate) const fn new(parent: &'p P) -> Self {
        Self {
            parent,
            memory: OnceLock::new(),
            watching: AtomicBool::new(false),
            strayed: AtomicBool::new(false),
        }
    }

    /// From here on reads of what the transactions wrote are noticed.
    pub(crate) fn watch(&self, memory: &'m VersionedMemory) {
        self.memory.get_or_init(|| memory);
        self.watching.store(true, Ordering::Release);
    }

    /// Until here.
    pub(crate) fn look_away(&self) {
        self.watching.store(false, Ordering::Release);
    }

    /// Whether something was read that the transactions wrote.
    pub(crate) fn strayed(&self) -> bool {
        self.strayed.load(Ordering::Acquire)
    }

    fn check(&self, was_written: impl FnOnce(&VersionedMemory) -> bool) {
        if self.watching.load(Ordering::Acquire)
            && let Some(memory) = self.memory.get()
            && was_written(memory)
        {
            self.strayed.store(true, Ordering::Release);
        }
    }
}

impl<P: ParentState> DatabaseRef for Guard<'_, '_, P> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.check(|memory| {
            memory.known_account(address).is_some_and(|cell| cell.last().is_some())
        });
        self.parent.basic_ref(address)
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StateError> {
        self.parent.code_by_hash_ref(code_hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.check(|memory| {
            memory.last_wipe(address).is_some()
                || memory.known_slot(address, slot).is_some_and(|cell| cell.last().is_some())
        });
        self.parent.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.parent.block_hash_ref(number)
    }
}

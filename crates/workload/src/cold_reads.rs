//! A state on a slow disk.

use crate::MemoryState;
use alloy_primitives::{
    Address, B256, U256,
    map::{Entry, HashMap},
};
use heddle_evm::StateError;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a read of something not read before takes.
///
/// The reading thread really sleeps, as it would on a disk. The system wakes it later than asked
/// for (on Linux by some 50 µs), so the request is shortened by what it is late here, and what
/// comes out is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdRead {
    asked: Duration,
    measured: Duration,
}

impl ColdRead {
    /// Sleeps that are measured, twice: a few milliseconds.
    const PROBES: u32 = 50;

    /// Finds out what to ask for to sleep for `target`.
    pub fn calibrate(target: Duration) -> Self {
        let late = Self::probe(target).saturating_sub(target);
        let asked = target.saturating_sub(late).max(Duration::from_nanos(1));
        Self { asked, measured: Self::probe(asked) }
    }

    fn probe(asked: Duration) -> Duration {
        let started = Instant::now();
        for _ in 0..Self::PROBES {
            thread::sleep(asked);
        }
        started.elapsed() / Self::PROBES
    }

    /// How long one takes, on average.
    pub const fn measured(&self) -> Duration {
        self.measured
    }
}

/// Parts of the set of what is warm, each behind a lock of its own, so that threads hardly ever
/// meet.
const SHARDS: usize = 64;

/// A state in which the first read of an account or a slot takes as long as a [`ColdRead`]. Two
/// that read the same for the first time at once both wait.
#[derive(Debug)]
pub struct ColdState<'a> {
    state: &'a MemoryState,
    read: ColdRead,
    warm: [Mutex<Warm>; SHARDS],
}

type Warm = HashMap<(Address, Option<U256>), ()>;

impl<'a> ColdState<'a> {
    /// Nothing has been read yet.
    pub fn new(state: &'a MemoryState, read: ColdRead) -> Self {
        Self { state, read, warm: std::array::from_fn(|_| Mutex::default()) }
    }

    fn wait(&self, address: Address, slot: Option<U256>) {
        let low = slot.unwrap_or_default().as_limbs()[0] as usize;
        let shard = &self.warm[(usize::from(address[19]) ^ low) % SHARDS];
        // Holds plain data, which a panic elsewhere leaves as it is.
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().contains_key(&(address, slot)) {
            return;
        }
        thread::sleep(self.read.asked);
        if let Entry::Vacant(entry) = lock().entry((address, slot)) {
            entry.insert(());
        }
    }
}

impl DatabaseRef for ColdState<'_> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.wait(address, None);
        self.state.basic_ref(address)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        self.state.code_by_hash_ref(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.wait(address, Some(slot));
        self.state.storage_ref(address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        self.state.block_hash_ref(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_read_of_something_waits() {
        let state = MemoryState::default();
        let asked = Duration::from_millis(2);
        let read = ColdRead { asked, measured: asked };
        let cold = ColdState::new(&state, read);
        let (address, slot) = (Address::repeat_byte(1), U256::from(1));
        let timed = |read: &dyn Fn()| {
            let started = Instant::now();
            read();
            started.elapsed()
        };
        let account = || drop(cold.basic_ref(address).unwrap());
        let storage = || assert!(cold.storage_ref(address, slot).unwrap().is_zero());
        for first in [&account as &dyn Fn(), &storage] {
            assert!(timed(first) >= asked);
            // If these waited too, they would take a second.
            let again = timed(&|| (0..500).for_each(|_| first()));
            assert!(again < Duration::from_millis(500), "{again:?}");
        }
    }

    #[test]
    fn what_a_wait_comes_to_is_measured() {
        let read = ColdRead::calibrate(Duration::from_micros(200));
        assert!(read.measured() >= read.asked, "{read:?}");
        assert!(read.asked <= Duration::from_micros(200), "{read:?}");
    }
}

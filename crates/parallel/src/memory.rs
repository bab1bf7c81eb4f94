//! Versioned memory: every value that a transaction of the block wrote, by location and writer.
//!
//! A read by transaction *j* sees the value of the highest writer below *j*. A writer whose last
//! incarnation turned out wrong leaves its old values behind as *estimates*: a reader that meets
//! one knows that a new value is on its way and waits for it instead of running on a stale one.
//!
//! Locations are spread over shards, each behind its own lock. A lock is held for one lookup or
//! one insert, never while the EVM runs.

use crate::{
    location::{Incarnation, Location, Read, TxIndex, Value, Version, Write},
    sync::{AtomicBool, Mutex, Ordering},
};
use alloy_primitives::{
    Address,
    map::{DefaultHashBuilder, HashMap},
};
use crossbeam_utils::CachePadded;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Enough that two of sixty-four workers seldom meet at one lock. A power of two.
#[cfg(not(feature = "shuttle"))]
const SHARDS: usize = 256;
#[cfg(feature = "shuttle")]
const SHARDS: usize = 2;

#[derive(Debug, Clone, Copy)]
struct Entry {
    version: Version,
    estimate: bool,
    value: Value,
}

/// Writers of one location in block order; most locations have one.
type Entries = SmallVec<[Entry; 1]>;

pub(crate) struct VersionedMemory {
    shards: Vec<CachePadded<Mutex<HashMap<Location, Entries>>>>,
    hasher: DefaultHashBuilder,
    /// Whether any [`Location::Wipe`] was ever written: nearly no block has one, and without one
    /// a slot needs no second lookup.
    wipes: AtomicBool,
}

impl std::fmt::Debug for VersionedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VersionedMemory").finish_non_exhaustive()
    }
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody in the block wrote it: the parent state holds it.
    Parent,
    Written(Version, Value),
    /// This transaction is about to write it again.
    Estimate(TxIndex),
}

/// A read that no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaleRead {
    pub(crate) location: Location,
    /// Who wrote it since; `None` if a write was taken back.
    pub(crate) writer: Option<TxIndex>,
}

impl VersionedMemory {
    /// For a block of so many transactions.
    pub(crate) fn new(transactions: usize) -> Self {
        // A transaction writes its sender and, mostly, one thing more.
        let capacity = 2 * transactions / SHARDS;
        let shard = || HashMap::with_capacity_and_hasher(capacity, Default::default());
        Self {
            shards: (0..SHARDS).map(|_| CachePadded::new(Mutex::new(shard()))).collect(),
            hasher: DefaultHashBuilder::default(),
            wipes: AtomicBool::new(false),
        }
    }

    fn shard(&self, location: &Location) -> &Mutex<HashMap<Location, Entries>> {
        &self.shards[self.hasher.hash_one(location) as usize % SHARDS]
    }

    fn find_plain(&self, location: &Location, reader: TxIndex) -> Found {
        let shard = self.shard(location).lock();
        let Some(entries) = shard.get(location) else {
            return Found::Parent;
        };
        // Searched, not scanned: a hot location has thousands of writers above its readers.
        match entries[..entries.partition_point(|entry| entry.version.tx < reader)].last() {
            None => Found::Parent,
            Some(entry) if entry.estimate => Found::Estimate(entry.version.tx),
            Some(entry) => Found::Written(entry.version, entry.value),
        }
    }

    /// What `reader` sees at `location`.
    pub(crate) fn find(&self, location: &Location, reader: TxIndex) -> Found {
        let found = self.find_plain(location, reader);
        let Location::Slot(address, _) = location else {
            return found;
        };
        // Acquire pairs with the release in `publish`: whoever sees a slot or a status published
        // after a wipe sees the flag too.
        if !self.wipes.load(Ordering::Acquire) {
            return found;
        }
        match (self.find_plain(&Location::Wipe(*address), reader), found) {
            (Found::Parent, found) => found,
            (_, Found::Estimate(tx)) | (Found::Estimate(tx), _) => Found::Estimate(tx),
            // Writes of the wiping transaction itself come after its wipe.
            (Found::Written(wipe, _), Found::Written(slot, value)) if slot.tx >= wipe.tx => {
                Found::Written(slot, value)
            }
            (Found::Written(wipe, _), _) => Found::Written(wipe, Value::Slot(Default::default())),
        }
    }

    /// Replaces the writes of the transaction's former incarnation by those of this one.
    pub(crate) fn publish(
        &self,
        tx: TxIndex,
        incarnation: Incarnation,
        former: &[Write],
        writes: &[Write],
    ) {
        let version = Version { tx, incarnation };
        for write in writes {
            if matches!(write.location, Location::Wipe(_)) {
                self.wipes.store(true, Ordering::Release);
            }
            let entry = Entry { version, estimate: false, value: write.value };
            let mut shard = self.shard(&write.location).lock();
            let entries = shard.entry(write.location).or_default();
            match entries.binary_search_by_key(&tx, |other| other.version.tx) {
                Ok(place) => entries[place] = entry,
                Err(place) => entries.insert(place, entry),
            }
        }
        for write in former {
            self.with_entry(tx, &write.location, |entries, place| {
                if entries[place].version.incarnation != incarnation {
                    entries.remove(place);
                }
            });
        }
    }

    /// Turns the writes of a transaction that is about to run again into estimates.
    pub(crate) fn mark_estimates(&self, tx: TxIndex, writes: &[Write]) {
        for write in writes {
            self.with_entry(tx, &write.location, |entries, place| entries[place].estimate = true);
        }
    }

    /// Takes the writes of a transaction back, as if it had never run.
    pub(crate) fn remove(&self, tx: TxIndex, writes: &[Write]) {
        for write in writes {
            self.with_entry(tx, &write.location, |entries, place| {
                entries.remove(place);
            });
        }
    }

    fn with_entry(&self, tx: TxIndex, location: &Location, act: impl FnOnce(&mut Entries, usize)) {
        let mut shard = self.shard(location).lock();
        if let Some(entries) = shard.get_mut(location)
            && let Ok(place) = entries.binary_search_by_key(&tx, |entry| entry.version.tx)
        {
            act(entries, place);
        }
    }

    /// Whether every read still sees what it saw. Values are compared, not versions: execution
    /// depends on values only, and equal versions would prove too little, because a slot read
    /// between the publication of a wipe and that of the same transaction's writes was zero.
    pub(crate) fn validate(&self, tx: TxIndex, reads: &[Read]) -> Result<(), StaleRead> {
        for read in reads {
            let writer = match self.find(&read.location, tx) {
                Found::Parent if read.source.is_none() => continue,
                Found::Parent => None,
                Found::Written(version, value) => {
                    if read.value == value {
                        continue;
                    }
                    Some(version.tx)
                }
                Found::Estimate(writer) => Some(writer),
            };
            return Err(StaleRead { location: read.location, writer });
        }
        Ok(())
    }

    /// The last value of every location, once all transactions are committed. Slots written
    /// before their account's last wipe are left out.
    pub(crate) fn into_final(self) -> FinalWrites {
        let mut writes = FinalWrites::default();
        let mut slots = Vec::new();
        for shard in self.shards {
            for (location, entries) in CachePadded::into_inner(shard).into_inner() {
                let Some(last) = entries.last() else { continue };
                match (location, last.value) {
                    (Location::Account(address), Value::Account(account)) => {
                        writes.accounts.insert(address, account);
                    }
                    (Location::Wipe(address), _) => {
                        writes.wipes.insert(address, last.version.tx);
                    }
                    (Location::Slot(address, slot), Value::Slot(value)) => {
                        slots.push((address, slot, value, last.version.tx));
                    }
                    (location, value) => unreachable!("{value:?} was written to {location}"),
                }
            }
        }
        let wipes = &writes.wipes;
        writes.slots = slots
            .into_iter()
            .filter(|(address, _, _, tx)| wipes.get(address).is_none_or(|wipe| tx >= wipe))
            .map(|(address, slot, value, _)| (address, slot, value))
            .collect();
        writes
    }
}

/// What a block leaves behind.
#[derive(Debug, Default)]
pub(crate) struct FinalWrites {
    pub(crate) accounts: HashMap<Address, Option<heddle_evm::AccountState>>,
    pub(crate) wipes: HashMap<Address, TxIndex>,
    pub(crate) slots: Vec<(Address, alloy_primitives::U256, alloy_primitives::U256)>,
}

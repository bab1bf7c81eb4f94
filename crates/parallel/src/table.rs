//! A hash table of cells that only grows: one for each kind of location of a block.
//!
//! Cells never move and never go before the block is done, so that a transaction's reads and
//! writes hold references to them: after the first look-up of a location nothing is hashed again.
//! Every worker puts its cells into an arena of its own; a bucket is the head of a chain.

use crate::{
    cell::{Cell, Value},
    sync::{AtomicU64, Ordering},
};
use alloy_primitives::map::DefaultHashBuilder;
use std::{
    hash::{BuildHasher, Hash},
    sync::OnceLock,
};

struct Link<K, V: Value> {
    cell: Cell<K, V>,
    /// The rest of the chain.
    next: AtomicU64,
}

/// How much larger than needed a table may be.
const FITS_UP_TO: usize = 8;

/// Place of a link: arena in the upper half, index in the lower, plus one; zero is no link.
const NONE: u64 = 0;

pub(crate) struct Table<K, V: Value> {
    buckets: Box<[AtomicU64]>,
    /// One for each worker.
    arenas: Vec<boxcar::Vec<Link<K, V>>>,
    hasher: DefaultHashBuilder,
}

impl<K, V: Value> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("buckets", &self.buckets.len()).finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Hash, V: Value> Table<K, V> {
    /// For so many locations; more of them only make it slower.
    pub(crate) fn new(locations: usize, workers: usize) -> Self {
        let buckets = locations.next_power_of_two();
        Self {
            buckets: (0..buckets).map(|_| AtomicU64::new(NONE)).collect(),
            arenas: (0..workers).map(|_| boxcar::Vec::new()).collect(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Whether the table is of a good size for so many locations: neither too small, so that chains
    /// get long, nor so large that clearing it costs more than a new one.
    pub(crate) fn fits(&self, locations: usize) -> bool {
        let buckets = locations.next_power_of_two();
        (buckets..=FITS_UP_TO * buckets).contains(&self.buckets.len())
    }

    /// Cells made.
    pub(crate) fn len(&self) -> usize {
        self.arenas.iter().map(boxcar::Vec::count).sum()
    }

    /// Takes all cells out.
    pub(crate) fn clear(&mut self) {
        for bucket in &mut self.buckets {
            *bucket = AtomicU64::new(NONE);
        }
        for arena in &mut self.arenas {
            arena.clear();
        }
    }

    fn link(&self, place: u64) -> &Link<K, V> {
        let (arena, index) = ((place >> 32) as usize, (place as u32 - 1) as usize);
        &self.arenas[arena][index]
    }

    fn bucket(&self, key: &K) -> &AtomicU64 {
        &self.buckets[self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)]
    }

    /// Searches a chain from `place` to where `end` begins.
    fn search(&self, mut place: u64, end: u64, key: &K) -> Option<&Cell<K, V>> {
        while place != end && place != NONE {
            let link = self.link(place);
            if link.cell.key == *key {
                return Some(&link.cell);
            }
            place = link.next.load(Ordering::Relaxed);
        }
        None
    }

    /// The cell of a location, if it has one.
    pub(crate) fn get(&self, key: &K) -> Option<&Cell<K, V>> {
        // Acquire pairs with the release of whoever put the first link there: all links behind it
        // are visible then.
        self.search(self.bucket(key).load(Ordering::Acquire), NONE, key)
    }

    /// The cell of a location, made by `worker` if there is none.
    pub(crate) fn get_or_insert(&self, key: &K, worker: usize) -> &Cell<K, V> {
        let bucket = self.bucket(key);
        let mut first = bucket.load(Ordering::Acquire);
        if let Some(cell) = self.search(first, NONE, key) {
            return cell;
        }
        let arena = &self.arenas[worker];
        let index = arena.push(Link { cell: Cell::new(*key), next: AtomicU64::new(first) });
        let place = (worker as u64) << 32 | (index as u64 + 1);
        loop {
            match bucket.compare_exchange(first, place, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return &arena[index].cell,
                Err(now) => {
                    // Somebody was faster; with the same location perhaps. Then ours stays where
                    // it is, in no chain, unwritten.
                    if let Some(cell) = self.search(now, first, key) {
                        return cell;
                    }
                    arena[index].next.store(now, Ordering::Relaxed);
                    first = now;
                }
            }
        }
    }

    /// The cells that `worker` made.
    pub(crate) fn made_by(&self, worker: usize) -> impl Iterator<Item = &Cell<K, V>> {
        self.arenas[worker].iter().map(|(_, link)| &link.cell)
    }
}

/// A table for what hardly any block has; made when it is first needed.
#[derive(Debug)]
pub(crate) struct RareTable<K, V: Value> {
    table: OnceLock<Table<K, V>>,
    workers: usize,
}

/// Buckets of a rare table.
const RARE_LOCATIONS: usize = 256;

impl<K: Copy + Eq + Hash, V: Value> RareTable<K, V> {
    pub(crate) const fn new(workers: usize) -> Self {
        Self { table: OnceLock::new(), workers }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&Cell<K, V>> {
        self.table.get()?.get(key)
    }

    pub(crate) fn get_or_insert(&self, key: &K, worker: usize) -> &Cell<K, V> {
        let table = self.table.get_or_init(|| Table::new(RARE_LOCATIONS, self.workers));
        table.get_or_insert(key, worker)
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use std::thread;

    #[test]
    fn workers_that_meet_at_a_location_get_one_cell() {
        // Fewer buckets than locations, so that chains grow under contention.
        let table = Table::<u32, U256>::new(16, 4);
        let cells = |worker: usize| {
            let cell = |key| std::ptr::from_ref(table.get_or_insert(&key, worker)) as usize;
            (0..2_000).map(cell).collect::<Vec<_>>()
        };
        let seen: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|worker| scope.spawn(move || cells(worker))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
        assert!((0..2_000).all(|key| table.get(&key).is_some_and(|cell| cell.key == key)));
        assert!(table.get(&2_000).is_none());
    }
}

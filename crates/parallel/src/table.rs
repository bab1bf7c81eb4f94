//! A hash table of cells that only grows: one for each kind of location of a block.
//!
//! Cells never move and never go before the block is done, so that a transaction's reads and
//! writes hold references to them: after the first look-up of a location nothing is hashed again.
//! Every worker puts its cells into an arena of its own; a bucket is the head of a chain.

use crate::{
    cell::{Cell, Value},
    sync::{AtomicU64, AtomicUsize, Ordering},
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
    arenas: Vec<Arena<K, V>>,
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
            arenas: (0..workers).map(|_| Arena::new()).collect(),
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
        self.arenas.iter().map(Arena::len).sum()
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
        self.arenas[arena].at(index)
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
                Ok(_) => return &arena.at(index).cell,
                Err(now) => {
                    // Somebody was faster; with the same location perhaps. Then ours stays where
                    // it is, in no chain, unwritten.
                    if let Some(cell) = self.search(now, first, key) {
                        return cell;
                    }
                    arena.at(index).next.store(now, Ordering::Relaxed);
                    first = now;
                }
            }
        }
    }

    /// The cells that `worker` made.
    pub(crate) fn made_by(&self, worker: usize) -> impl Iterator<Item = &Cell<K, V>> {
        self.arenas[worker].iter().map(|link| &link.cell)
    }
}

/// The links that one worker made, in pieces of one size: in a list whose pieces double, half of the
/// memory would be room.
struct Arena<K, V: Value> {
    pieces: boxcar::Vec<Piece<K, V>>,
    len: AtomicUsize,
}

type Piece<K, V> = Box<[OnceLock<Link<K, V>>]>;

/// Links in a piece.
const PIECE: usize = 256;

impl<K, V: Value> Arena<K, V> {
    fn new() -> Self {
        Self { pieces: boxcar::Vec::new(), len: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn at(&self, index: usize) -> &Link<K, V> {
        let Some(link) = self.pieces[index / PIECE][index % PIECE].get() else {
            unreachable!("places are those of links")
        };
        link
    }

    /// Adds a link; only the worker whose arena it is does.
    fn push(&self, link: Link<K, V>) -> usize {
        let index = self.len();
        if index / PIECE == self.pieces.count() {
            self.pieces.push((0..PIECE).map(|_| OnceLock::new()).collect());
        }
        if self.pieces[index / PIECE][index % PIECE].set(link).is_err() {
            unreachable!("an arena has one worker");
        }
        // Others go by the bucket that leads to the link.
        self.len.store(index + 1, Ordering::Relaxed);
        index
    }

    fn iter(&self) -> impl Iterator<Item = &Link<K, V>> {
        (0..self.len()).map(|index| self.at(index))
    }

    /// Takes all links out.
    fn clear(&mut self) {
        let len = self.len();
        for first in (0..len).step_by(PIECE) {
            if let Some(piece) = self.pieces.get_mut(first / PIECE) {
                piece[..PIECE.min(len - first)].fill_with(OnceLock::new);
            }
        }
        self.len = AtomicUsize::new(0);
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
    use crate::location::{Incarnation, TxIndex};
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

    #[test]
    fn a_cleared_table_begins_anew() {
        let mut table = Table::<u32, U256>::new(16, 2);
        let count = 2 * PIECE as u32 + 1;
        for round in 0..3 {
            assert_eq!((table.len(), table.made_by(0).count()), (0, 0));
            assert!(table.get(&round).is_none());
            for key in round..round + count {
                let cell = table.get_or_insert(&key, 0);
                assert_eq!(cell.last(), None);
                cell.publish(TxIndex(key), Incarnation(0), U256::from(key), TxIndex(0));
            }
            let keys = table.made_by(0).map(|cell| cell.key);
            assert!(keys.eq(round..round + count));
            assert_eq!(table.len(), count as usize);
            table.clear();
        }
    }
}

//! The power goes out at any instant: what was not synced is on the disk, or not, or torn.

#[path = "../tests/support/mod.rs"]
mod support;

use crate::disk::PatientFile;
use crate::open::write_identity;
use crate::{DurabilityPolicy, Store, StoreConfig, StoreError};
use parking_lot::Mutex;
use proptest::prelude::*;
use redb::{Builder, StorageBackend};
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::{Chain, check_block, check_state, steps};

/// Disks write sectors whole.
const SECTOR_BYTES: usize = 512;
const BLOCKS: u64 = 14;
/// So little that pages are written before their commit is made durable, and read again.
const CACHE_BYTES: usize = 64 << 10;

/// A stream of numbers from a seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[derive(Debug)]
enum Unsynced {
    Length(u64),
    Data(u64, Vec<u8>),
}

/// What is on the disk for sure, what the system shows, and what has happened between the two.
#[derive(Debug)]
struct Disk {
    synced: Vec<u8>,
    shown: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Writes, changes of length and syncs until the power goes out.
    operations_left: u64,
    random: Random,
    /// What is there when the power is back.
    left: Option<Vec<u8>>,
}

fn write_at(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if file.len() < offset + data.len() {
        file.resize(offset + data.len(), 0);
    }
    file[offset..offset + data.len()].copy_from_slice(data);
}

impl Disk {
    fn new(content: Vec<u8>, operations_left: u64, seed: u64) -> Self {
        let (shown, unsynced, random) = (content.clone(), Vec::new(), Random(seed));
        Self { synced: content, shown, unsynced, operations_left, random, left: None }
    }

    /// One more operation; an error when the power is out.
    fn operate(&mut self) -> Result<(), Error> {
        if self.operations_left == 0 {
            if self.left.is_none() {
                self.lose_power();
            }
            return Err(Error::new(ErrorKind::BrokenPipe, "the power is out"));
        }
        self.operations_left -= 1;
        Ok(())
    }

    /// Each unsynced operation happens or does not, in whatever order; of a write, perhaps some sectors only.
    fn lose_power(&mut self) {
        let mut left = self.synced.clone();
        let mut unsynced = std::mem::take(&mut self.unsynced);
        while !unsynced.is_empty() {
            // Mostly in order, as disks do, but not always.
            let reach = if self.random.below(4) == 0 { unsynced.len() as u64 } else { 1 };
            let next = unsynced.remove(self.random.below(reach) as usize);
            match (next, self.random.below(3)) {
                (_, 0) => {}
                (Unsynced::Length(length), _) => left.resize(length as usize, 0),
                (Unsynced::Data(offset, data), 1) => write_at(&mut left, offset as usize, &data),
                (Unsynced::Data(offset, data), _) => {
                    let mut start = 0;
                    while start < data.len() {
                        let at = offset as usize + start;
                        let end = data.len().min(start + SECTOR_BYTES - at % SECTOR_BYTES);
                        if self.random.below(2) == 0 {
                            write_at(&mut left, at, &data[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
        self.left = Some(left);
    }
}

#[derive(Debug, Clone)]
struct Handle(Arc<Mutex<Disk>>);

impl StorageBackend for Handle {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.0.lock().shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let disk = self.0.lock();
        let from = disk.shown.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let mut disk = self.0.lock();
        disk.operate()?;
        disk.shown.resize(length as usize, 0);
        disk.unsynced.push(Unsynced::Length(length));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut disk = self.0.lock();
        disk.operate()?;
        write_at(&mut disk.shown, offset as usize, data);
        disk.unsynced.push(Unsynced::Data(offset, data.to_vec()));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        let mut disk = self.0.lock();
        disk.operate()?;
        disk.synced = disk.shown.clone();
        disk.unsynced.clear();
        Ok(())
    }
}

fn open(disk: &Handle, chain: &Chain, durability: DurabilityPolicy) -> Result<Store, StoreError> {
    let is_new = disk.0.lock().shown.is_empty();
    let file = PatientFile::new(disk.clone(), Path::new("disk"), crate::CACHE_BYTES);
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(file.clone())
        .map_err(|error| StoreError::Database(Box::new(error.into())))?;
    if is_new {
        write_identity(&database, &chain.identity())?;
    }
    let config = StoreConfig { durability, ..Default::default() };
    Store::over(database, "disk".into(), chain.identity(), config, file, None)
}

/// Commits blocks until the power goes out; up to which block it was on disk for sure.
fn commit_until_it_ends(
    store: &Store,
    chain: &mut Chain,
    flushes: &mut Random,
    each_is_durable: bool,
) -> Option<u64> {
    let (mut durable, mut behind) = (None, None);
    if store.commit_genesis(&chain.blocks[0].batch()).is_err() {
        return durable;
    }
    loop {
        let head = chain.head().number;
        if each_is_durable || (flushes.below(3) == 0 && store.flush().is_ok()) {
            (durable, behind) = (Some(head), None);
        } else {
            match flushes.below(4) {
                // As the flusher does, which others need not wait for.
                0 => behind = store.begin_flush().is_ok().then_some(head).or(behind),
                1 if store.inner.disk.write_out().is_ok() => durable = durable.max(behind),
                _ => {}
            }
        }
        if head == BLOCKS {
            return durable;
        }
        let Ok(block) = chain.try_extend(store, &steps(head + 1), head + 1).cloned() else {
            assert!(store.flush().is_err(), "what cannot be read is so for want of power");
            return durable;
        };
        if store.commit_block(&block.batch()).is_err() {
            return durable;
        }
        // Sometimes a block is taken back again.
        if head > 3 && flushes.below(6) == 0 {
            if store.unwind_to(head).is_err() {
                return durable;
            }
            chain.unwind_to(head as usize);
            let at_most = |block: Option<u64>| block.map(|block| block.min(head));
            durable = if each_is_durable { Some(head) } else { at_most(durable) };
            behind = at_most(behind);
        }
    }
}

fn cases() -> u32 {
    std::env::var("HEDDLE_POWER_LOSS_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

/// The disk after that store was made and closed.
fn new_disk(chain: &Chain) -> Vec<u8> {
    let disk = Handle(Arc::new(Mutex::new(Disk::new(Vec::new(), u64::MAX, 0))));
    drop(open(&disk, chain, DurabilityPolicy::EveryBlock).expect("the power is on"));
    let disk = disk.0.lock();
    disk.shown.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn when_the_power_is_back_there_is_a_whole_block_with_its_state(
        seed in any::<u64>(), operations in 0u64..700, each_is_durable in any::<bool>(),
    ) {
        let mut chain = Chain::new();
        let content = new_disk(&chain);
        let disk = Handle(Arc::new(Mutex::new(Disk::new(content, operations, seed))));
        let policy = if each_is_durable {
            DurabilityPolicy::EveryBlock
        } else {
            DurabilityPolicy::Window(Duration::from_secs(3_600))
        };
        let mut flushes = Random(seed ^ 0x5a5a);
        let durable = open(&disk, &chain, policy).ok().and_then(|store| {
            let durable = commit_until_it_ends(&store, &mut chain, &mut flushes, each_is_durable);
            // The power goes out now if it has not yet: a clean end is another test's.
            disk.0.lock().operations_left = 0;
            durable
        });
        let left = {
            let mut disk = disk.0.lock();
            disk.operations_left = 0;
            let _ = disk.operate();
            disk.left.take().expect("the power is out")
        };

        let disk = Handle(Arc::new(Mutex::new(Disk::new(left, u64::MAX, seed))));
        let store = open(&disk, &chain, DurabilityPolicy::EveryBlock).expect("the store opens");
        let head = store.head();
        prop_assert!(head.map(|head| head.number) >= durable, "{:?} was on disk, but the head is {:?}", durable, head);
        if let Some(head) = head {
            store.verify_state().expect("the state is the head's");
            store.verify_blocks(|_| {}).expect("the blocks are right");
            // A block that was just being taken back is in the chain no more, but may be on disk.
            let known = (head.number as usize).min(chain.blocks.len() - 1);
            for number in 0..=known {
                check_block(&store, number as u64, &chain.blocks[number]);
                check_state(&store, &chain, number as u64, &chain.states[number]);
            }
            prop_assert!(head.number as usize <= known + 1);
        }
        drop(store);
        // And everything can go on.
        let store = open(&disk, &chain, DurabilityPolicy::EveryBlock).expect("the store opens again");
        prop_assert_eq!(store.head(), head);
    }
}

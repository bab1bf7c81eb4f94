use crate::base::{Base, read_wiped};
use crate::closing::ClosingDatabase;
use crate::commit::addresses_in;
use crate::disk::PatientFile;
use crate::error::unless_damaged;
use crate::flusher::{Flusher, make_durable};
use crate::pending::{PENDING_ENTRIES_MAX, Pending, settle, settled_block};
use crate::schema::{ReadTables, WriteTables, meta};
use crate::{
    BlockId, ChainIdentity, Kept, PROOF_DEPTH_BLOCKS, Prunable, PruneDistances, StateView,
    StoreError, codec::HeaderRecord,
};
use alloy_primitives::Address;
use parking_lot::{Mutex, MutexGuard, RwLock};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a block may be shown before it is on disk.
pub const DURABILITY_WINDOW: Duration = Duration::from_millis(100);

/// Memory for pages read and written, in bytes.
pub const CACHE_BYTES: usize = 1 << 30;

/// How often a writer that waits for others looks whether they wait for room.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// When commits become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityPolicy {
    /// A commit returns when it is on disk.
    EveryBlock,
    /// A commit is on disk at most this long after it returned (plus the time of the disk itself).
    /// After a crash the store reopens on the last block that was.
    Window(Duration),
}

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// When commits become durable.
    pub durability: DurabilityPolicy,
    /// Memory for pages read and written, in bytes.
    pub cache_bytes: usize,
    /// How far behind the head what is kept.
    pub prune: PruneDistances,
    /// How many blocks behind the head tries can be made again: for proofs, and for branches that leave the chain there.
    pub reorg_depth: u64,
    /// How many entries of nodes and histories may wait in memory, to be written together with those of later blocks.
    pub pending_entries_max: usize,
    /// Check every page of the file before it is used, not only after a crash. Reads all of it.
    pub check_file: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            durability: DurabilityPolicy::Window(DURABILITY_WINDOW),
            cache_bytes: CACHE_BYTES,
            prune: PruneDistances::default(),
            reorg_depth: PROOF_DEPTH_BLOCKS,
            pending_entries_max: PENDING_ENTRIES_MAX,
            check_file: false,
        }
    }
}

/// The durable state and history of one chain. Clones share one database; it is flushed and closed
/// when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<StoreInner>,
}

#[derive(Debug)]
pub(crate) struct StoreInner {
    /// First, because fields are dropped in order: the flusher's last flush needs the database.
    flusher: Flusher,
    /// The newest committed state. Replaced by whoever holds `writer`; the lock is held only to
    /// copy or to replace the `Arc`.
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held over a whole write, so that "is this on the head?" and the write are one step. Taken
    /// before redb's own writer lock, never the other way round.
    writer: Arc<Mutex<()>>,
    pub(crate) disk: PatientFile,
    database: Arc<ClosingDatabase>,
    pub(crate) config: StoreConfig,
    pub(crate) identity: ChainIdentity,
    /// The database file; a name in angle brackets when it is in memory.
    file: PathBuf,
    /// The lock on the data directory, held until everything above is gone.
    directory_lock: Option<std::fs::File>,
}

/// All tables as of one commit.
pub(crate) struct Snapshot {
    pub(crate) tables: ReadTables,
    pub(crate) head: Option<BlockId>,
    /// Accounts that once had storage but neither nonce nor code, ascending; see `commit.rs`.
    pub(crate) storage_only: Vec<Address>,
    pub(crate) base: Base,
    pub(crate) kept: Kept,
    /// What the tables of nodes and histories lack.
    pub(crate) pending: Pending,
    /// Whose storage which block of a fork wiped, ascending; see `base.rs`.
    pub(crate) wiped: Vec<(Address, u64)>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Snapshot {
    fn take(database: &Database, pending: Pending) -> Result<Self, StoreError> {
        let tables = ReadTables::open(&database.begin_read()?)?;
        let head = match tables.headers.last()? {
            None => None,
            Some((number, record)) => Some(BlockId {
                number: number.value(),
                hash: HeaderRecord::decode_hash("headers", record.value())?,
            }),
        };
        let storage_only = match tables.meta.get(meta::STORAGE_ONLY)? {
            None => Vec::new(),
            Some(list) => addresses_in(list.value()).collect(),
        };
        let base = Base::read(&tables)?;
        let kept = tables.kept()?;
        let wiped = if base.elsewhere { read_wiped(&tables)? } else { Vec::new() };
        Ok(Self { tables, head, storage_only, base, kept, pending, wiped })
    }

    /// Of a database that was not written to since it was opened.
    fn first(database: &Database) -> Result<Self, StoreError> {
        let mut snapshot = Self::take(database, Pending::default())?;
        snapshot.pending = Pending::none_after(settled_block(&snapshot.tables.meta)?);
        if snapshot.head.is_none_or(|head| head.number <= snapshot.pending.settled()) {
            return Ok(snapshot);
        }
        Self::take(database, Pending::rebuild(snapshot)?)
    }

    pub(crate) fn head(&self) -> Result<BlockId, StoreError> {
        self.head.ok_or(StoreError::Empty)
    }

    /// Refuses blocks whose state is not kept, or never was.
    pub(crate) fn check_state(&self, number: u64) -> Result<(), StoreError> {
        self.base.check(number)?;
        self.kept.check(Prunable::State, number)
    }
}

impl Store {
    /// Over a database that has all tables.
    pub(crate) fn over(
        database: Database,
        file: PathBuf,
        identity: ChainIdentity,
        config: StoreConfig,
        disk: PatientFile,
        directory_lock: Option<std::fs::File>,
    ) -> Result<Self, StoreError> {
        let database = Arc::new(ClosingDatabase::from(database));
        let snapshot =
            unless_damaged(|| Snapshot::first(&database)).map_err(|error| error.at(&file))?;
        let writer = Arc::<Mutex<()>>::default();
        let window = match config.durability {
            // Commits are durable then, and it only looks for room.
            DurabilityPolicy::EveryBlock => Duration::ZERO,
            DurabilityPolicy::Window(window) => window,
        };
        let (for_flushes, file_name) = (Arc::clone(&database), file.clone());
        let flusher =
            Flusher::start(for_flushes, Arc::clone(&writer), window, file_name, disk.clone())
                .map_err(|source| StoreError::from_io(file.clone(), source))?;
        Ok(Self {
            inner: Arc::new(StoreInner {
                flusher,
                snapshot: RwLock::new(Arc::new(snapshot)),
                writer,
                disk,
                database,
                config,
                identity,
                file,
                directory_lock,
            }),
        })
    }

    /// The chain that this store belongs to.
    pub fn identity(&self) -> ChainIdentity {
        self.inner.identity
    }

    /// The database file; a name in angle brackets when it is in memory.
    pub fn file(&self) -> &Path {
        &self.inner.file
    }

    /// Whether the store is there again after its last clone is gone.
    pub fn is_on_disk(&self) -> bool {
        self.inner.directory_lock.is_some()
    }

    /// The newest block, `None` before the genesis block is committed.
    pub fn head(&self) -> Option<BlockId> {
        self.snapshot().head
    }

    /// The state after the newest block.
    ///
    /// # Errors
    /// [`StoreError::Empty`] before the genesis block is committed.
    pub fn latest(&self) -> Result<StateView, StoreError> {
        StateView::latest(self.snapshot())
    }

    /// The state after canonical block `number`.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`] if there is no such block (yet).
    pub fn state_at(&self, number: u64) -> Result<StateView, StoreError> {
        StateView::at(self.snapshot(), number)
    }

    /// Makes every commit so far durable; returns when it is.
    ///
    /// # Errors
    /// When the disk is full, or refuses otherwise; the store then takes no more writes.
    pub fn flush(&self) -> Result<(), StoreError> {
        let _writer = self.write_lock()?;
        unless_damaged(|| make_durable(&self.inner.database)).map_err(|error| {
            let error = error.at(&self.inner.file);
            self.inner.flusher.stop_writes(&error);
            error
        })
    }

    /// What the flusher does first: every commit so far is durable when the disk is written out.
    #[cfg(test)]
    pub(crate) fn begin_flush(&self) -> Result<(), StoreError> {
        let StoreInner { database, writer, disk, .. } = &*self.inner;
        crate::flusher::commit_behind(database, writer, disk)
    }

    /// Writes the nodes and histories that wait for later blocks, so that they need not be made anew when the store is
    /// opened next.
    ///
    /// # Errors
    /// When the database fails.
    pub fn settle(&self) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        self.write(&writer, settle)
    }

    /// How many of the newest blocks' nodes and histories wait for later blocks.
    pub fn unsettled_blocks(&self) -> u64 {
        let snapshot = self.snapshot();
        snapshot.head.map_or(0, |head| head.number.saturating_sub(snapshot.pending.settled()))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.snapshot.read())
    }

    /// An error if nothing can be written at present: the disk is full, or a write has failed for another reason, for good
    /// then. Reads go on.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] or [`StoreError::WritesStopped`].
    pub fn check_writable(&self) -> Result<(), StoreError> {
        let StoreInner { disk, flusher, .. } = &*self.inner;
        // First: then more room does not help.
        if let Some(reason) = flusher.failure() {
            return Err(StoreError::WritesStopped { reason });
        }
        // Whatever waits for room has a flush that waits with it; but a write that was given up has not.
        disk.room().check().inspect_err(|_| flusher.commit_is_pending())
    }

    /// From now on nobody waits for room on a full disk: what is not on disk then is lost, and reported as such.
    pub fn stop_waiting_for_room(&self) {
        self.inner.disk.room().close();
    }

    /// The right to write. While the disk is full nobody gets it, nor waits for it.
    pub(crate) fn write_lock(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        loop {
            self.check_writable()?;
            if let Some(guard) = self.inner.writer.try_lock_for(ROOM_CHECK_INTERVAL) {
                self.check_writable()?;
                return Ok(guard);
            }
        }
    }

    /// One atomic write: all of what `write` does, or nothing. The caller holds the write lock.
    pub(crate) fn write<T>(
        &self,
        writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&mut WriteTables<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transact(writer, |transaction| {
            let mut tables = WriteTables::open(transaction)?;
            tables.pending = self.snapshot().pending.clone();
            let done = write(&mut tables)?;
            Ok((done, tables.pending))
        })
    }

    /// As [`Self::write`], after everything that was there is deleted.
    pub(crate) fn rewrite(
        &self,
        writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&mut WriteTables<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.transact(writer, |transaction| {
            WriteTables::delete(transaction)?;
            let mut tables = WriteTables::open(transaction)?;
            write(&mut tables)?;
            Ok(((), tables.pending))
        })
    }

    fn transact<T>(
        &self,
        _writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&WriteTransaction) -> Result<(T, Pending), StoreError>,
    ) -> Result<T, StoreError> {
        let inner = &*self.inner;
        let commit = || {
            let mut transaction = inner.database.begin_write()?;
            match inner.config.durability {
                DurabilityPolicy::EveryBlock => transaction.set_quick_repair(true),
                DurabilityPolicy::Window(_) => transaction.set_durability(Durability::None)?,
            }
            let (done, pending) = write(&transaction)?;
            transaction.commit()?;
            Ok((done, Arc::new(Snapshot::take(&inner.database, pending)?)))
        };
        match unless_damaged(commit) {
            Ok((done, snapshot)) => {
                *inner.snapshot.write() = snapshot;
                if inner.config.durability != DurabilityPolicy::EveryBlock {
                    inner.flusher.commit_is_pending();
                }
                Ok(done)
            }
            Err(error) => {
                let error: StoreError = StoreError::at(error, &inner.file);
                // After one of these redb may or may not have applied the transaction, and the
                // file may lack what memory shows, so nothing may be built on top of it.
                if matches!(
                    error,
                    StoreError::DiskFull { .. }
                        | StoreError::Io { .. }
                        | StoreError::Database(_)
                        | StoreError::DamagedStructure
                ) {
                    inner.flusher.stop_writes(&error);
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::write_identity;
    use alloy_primitives::B256;
    use redb::{Builder, StorageBackend, backends::InMemoryBackend};
    use std::io::{Error, ErrorKind};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    /// A disk with so many bytes left, whose content outlives the store.
    #[derive(Debug)]
    struct SmallDisk {
        inner: InMemoryBackend,
        bytes_left: AtomicU64,
        is_broken: AtomicBool,
        /// How syncs fail. Locked by a test to let them wait.
        syncs: Mutex<Option<ErrorKind>>,
    }

    impl Default for SmallDisk {
        fn default() -> Self {
            let (inner, bytes_left) = (InMemoryBackend::new(), AtomicU64::new(u64::MAX));
            Self { inner, bytes_left, is_broken: AtomicBool::new(false), syncs: Mutex::default() }
        }
    }

    /// What redb has of it.
    #[derive(Debug)]
    struct Handle(Arc<SmallDisk>);

    impl StorageBackend for Handle {
        fn len(&self) -> Result<u64, Error> {
            self.0.inner.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            self.0.inner.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), Error> {
            self.0.inner.set_len(len)
        }
        fn sync_data(&self) -> Result<(), Error> {
            match *self.0.syncs.lock() {
                None => self.0.inner.sync_data(),
                Some(kind) => Err(kind.into()),
            }
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
            if self.0.is_broken.load(SeqCst) {
                return Err(Error::other("broken"));
            }
            let length = data.len() as u64;
            let left = &self.0.bytes_left;
            left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(length))
                .map_err(|_| Error::from(ErrorKind::StorageFull))?;
            self.0.inner.write(offset, data)
        }
    }

    const IDENTITY: ChainIdentity = ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO };

    fn on_small_disk(durability: DurabilityPolicy) -> (Store, Arc<SmallDisk>) {
        let disk = Arc::new(SmallDisk::default());
        (on(&disk, durability), disk)
    }

    fn on(disk: &Arc<SmallDisk>, durability: DurabilityPolicy) -> Store {
        let file = PatientFile::new(Handle(disk.clone()), Path::new("disk"), CACHE_BYTES);
        // So small that pages are read from the disk again.
        let mut builder = Builder::new();
        let database = builder.set_cache_size(256 << 10).create_with_backend(file.clone());
        let database = database.expect("there is room");
        write_identity(&database, &IDENTITY).expect("there is room");
        let config = StoreConfig { durability, ..Default::default() };
        let store = Store::over(database, "disk".into(), IDENTITY, config, file, None);
        store.expect("there is room")
    }

    const KEPT: u8 = 5;

    /// Writes 100 kB under `key`.
    fn write(store: &Store, key: u8) -> Result<(), StoreError> {
        write_bytes(store, key, 100_000)
    }

    fn write_bytes(store: &Store, key: u8, length: usize) -> Result<(), StoreError> {
        let writer = store.write_lock()?;
        store.write(&writer, |tables| {
            tables.code.insert(&[key; 32], vec![key; length].as_slice())?;
            Ok(())
        })
    }

    /// A store that has written one key to its disk, and is quick to flush.
    fn with_one_on_disk() -> (Store, Arc<SmallDisk>) {
        let (store, disk) = on_small_disk(DurabilityPolicy::Window(Duration::ZERO));
        write(&store, 0).expect("there is room");
        store.flush().expect("there is room");
        (store, disk)
    }

    fn has(store: &Store, key: u8) -> bool {
        store.snapshot().tables.code.get(&[key; 32]).expect("readable").is_some()
    }

    fn assert_holds(store: &Store, keys: std::ops::Range<u8>) {
        let snapshot = store.snapshot();
        for key in keys {
            let value = snapshot.tables.code.get(&[key; 32]).expect("readable").expect("there");
            assert!(
                value.value().iter().all(|byte| *byte == key) && value.value().len() == 100_000
            );
        }
    }

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let start = std::time::Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(20), "waited for: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_full_disk_stops_writes_but_not_reads_and_all_goes_on_when_there_is_room() {
        let (store, disk) = on_small_disk(DurabilityPolicy::Window(Duration::ZERO));
        for key in 0..KEPT {
            write(&store, key).expect("there is room");
        }
        store.flush().expect("there is room");
        disk.bytes_left.store(150_000, SeqCst);
        let mut written = KEPT;
        while write(&store, written).is_ok() {
            written += 1;
            assert!(written < 100, "nobody noticed");
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = store.check_writable().expect_err("no room");
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().starts_with("the disk is full at disk"), "{error}");
        assert!(store.flush().is_err(), "what is not on disk must not be called durable");
        // What was shown before stays.
        assert_holds(&store, 0..written);

        disk.bytes_left.store(u64::MAX, SeqCst);
        eventually("room to be noticed", || store.check_writable().is_ok());
        write(&store, written).expect("there is room again");
        assert_holds(&store, 0..written + 1);
        store.flush().expect("there is room again");
        drop(store);
        assert_holds(&on(&disk, DurabilityPolicy::EveryBlock), 0..written + 1);
    }

    #[test]
    fn a_durable_commit_waits_for_room_and_is_not_shown_before() {
        let (store, disk) = on_small_disk(DurabilityPolicy::EveryBlock);
        write(&store, 0).expect("there is room");
        disk.bytes_left.store(50_000, SeqCst);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&store, 1));
            eventually("the disk to be full", || store.check_writable().is_err());
            assert!(write(&store, 2).is_err(), "nobody waits behind the one that waits");
            assert!(!has(&store, 1));
            assert_holds(&store, 0..1);
            disk.bytes_left.store(u64::MAX, SeqCst);
            writer.join().expect("no panic").expect("there is room again");
        });
        assert_holds(&store, 0..2);
    }

    #[test]
    fn closing_on_a_full_disk_ends_and_keeps_what_was_durable() {
        let (store, disk) = with_one_on_disk();
        disk.bytes_left.store(50_000, SeqCst);
        write(&store, 1).expect("this goes to memory only");
        eventually("the disk to be full", || store.check_writable().is_err());
        drop(store);
        disk.bytes_left.store(u64::MAX, SeqCst);
        let store = on(&disk, DurabilityPolicy::EveryBlock);
        assert_holds(&store, 0..1);
        assert!(!has(&store, 1));
    }

    #[test]
    fn nobody_who_commits_or_reads_waits_for_a_flush() {
        let (store, disk) = on_small_disk(DurabilityPolicy::Window(Duration::ZERO));
        // A file that grows is synced by whoever makes it grow, so that it gets large first.
        for key in 0..60 {
            write(&store, key).expect("there is room");
        }
        let writer = store.write_lock().expect("no write has failed");
        let emptied = store.write(&writer, |tables| Ok(tables.code.retain(|_, _| false)?));
        emptied.expect("there is room");
        drop(writer);
        store.flush().expect("there is room");
        store.flush().expect("there is room");

        let syncs = disk.syncs.lock();
        for key in 0..10 {
            write(&store, key).expect("the store takes it");
            assert_holds(&store, 0..key + 1);
        }
        // Once more, when what was written meanwhile waits as well.
        store.begin_flush().expect("this needs no disk");
        write(&store, 10).expect("the store takes it");
        assert_holds(&store, 0..11);
        drop(syncs);
        store.flush().expect("the disk goes on");
        assert_holds(&store, 0..11);
        drop(store);
        assert_holds(&on(&disk, DurabilityPolicy::EveryBlock), 0..11);
    }

    fn assert_writes_stop(store: &Store) {
        let stopped = |error| matches!(error, StoreError::WritesStopped { .. });
        eventually("the flush to fail", || store.check_writable().is_err_and(stopped));
    }

    #[test]
    fn what_a_flush_cannot_write_stops_writes_for_good_and_is_still_read() {
        let (store, disk) = with_one_on_disk();
        disk.is_broken.store(true, SeqCst);
        write_bytes(&store, 1, 1).expect("this goes to memory only");
        assert_writes_stop(&store);
        disk.is_broken.store(false, SeqCst);
        assert!(matches!(write(&store, 2), Err(StoreError::WritesStopped { .. })));
        assert!(store.flush().is_err(), "what is not on disk must not be called durable");
        assert_holds(&store, 0..1);
        assert!(has(&store, 1));
        drop(store);
        let store = on(&disk, DurabilityPolicy::EveryBlock);
        assert_holds(&store, 0..1);
        assert!(!has(&store, 1));
    }

    #[test]
    fn after_a_sync_has_failed_nothing_is_called_durable_whatever_the_reason() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::Other] {
            let (store, disk) = with_one_on_disk();
            *disk.syncs.lock() = Some(kind);
            write_bytes(&store, 1, 1).expect("this goes to memory only");
            assert_writes_stop(&store);
            *disk.syncs.lock() = None;
            assert!(store.flush().is_err());
            drop(store);
            let store = on(&disk, DurabilityPolicy::EveryBlock);
            assert_holds(&store, 0..1);
            assert!(!has(&store, 1), "its header came before the sync of what it names");
        }
    }

    #[test]
    fn a_full_disk_that_then_fails_is_not_called_full_any_more() {
        let (store, disk) = with_one_on_disk();
        disk.bytes_left.store(1_000, SeqCst);
        write_bytes(&store, 1, 1).expect("this goes to memory only");
        let full = |error| matches!(error, StoreError::DiskFull { .. });
        eventually("the disk to be full", || store.check_writable().is_err_and(full));
        disk.is_broken.store(true, SeqCst);
        assert_writes_stop(&store);
    }

    #[test]
    fn any_other_failure_of_the_disk_stops_writes_for_good() {
        let (store, disk) = on_small_disk(DurabilityPolicy::EveryBlock);
        disk.is_broken.store(true, SeqCst);
        let error = write(&store, 0).expect_err("broken");
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
        disk.is_broken.store(false, SeqCst);
        let error = write(&store, 0).expect_err("stopped");
        assert!(matches!(error, StoreError::WritesStopped { .. }), "{error:?}");
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_nothing_and_the_store_goes_on() {
        let (store, _) = on_small_disk(DurabilityPolicy::Window(DURABILITY_WINDOW));
        let writer = store.write_lock().expect("no write has failed");
        let result: Result<(), _> = store.write(&writer, |tables| {
            tables.code.insert(&[1; 32], [1].as_slice())?;
            Err(StoreError::Empty)
        });
        assert!(matches!(result, Err(StoreError::Empty)));
        drop(writer);
        assert!(!has(&store, 1));
        write(&store, 7).expect("the store goes on");
        assert_holds(&store, 7..8);
    }
}

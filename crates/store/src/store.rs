use crate::base::{Base, read_wiped};
use crate::commit::addresses_in;
use crate::flusher::Flusher;
use crate::schema::{ReadTables, WriteTables, meta};
use crate::{BlockId, ChainIdentity, StateView, StoreError, codec::HeaderRecord};
use alloy_primitives::Address;
use parking_lot::{Mutex, MutexGuard, RwLock};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a block may be shown before it is on disk.
pub const DURABILITY_WINDOW: Duration = Duration::from_millis(100);

/// Memory for pages read and written, in bytes.
pub const CACHE_BYTES: usize = 512 << 20;

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
    /// Check every page of the file before it is used, not only after a crash. Reads all of it.
    pub check_file: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            durability: DurabilityPolicy::Window(DURABILITY_WINDOW),
            cache_bytes: CACHE_BYTES,
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
    database: Arc<Database>,
    durability: DurabilityPolicy,
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
    /// Whose storage which block of a fork wiped, ascending; see `base.rs`.
    pub(crate) wiped: Vec<(Address, u64)>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Snapshot {
    fn take(database: &Database) -> Result<Self, StoreError> {
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
        let wiped = if base.elsewhere { read_wiped(&tables)? } else { Vec::new() };
        Ok(Self { tables, head, storage_only, base, wiped })
    }

    pub(crate) fn head(&self) -> Result<BlockId, StoreError> {
        self.head.ok_or(StoreError::Empty)
    }
}

impl Store {
    /// Over a database that has all tables.
    pub(crate) fn over(
        database: Database,
        file: PathBuf,
        identity: ChainIdentity,
        durability: DurabilityPolicy,
        directory_lock: Option<std::fs::File>,
    ) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let snapshot = Snapshot::take(&database).map_err(|error| error.at(&file))?;
        let writer = Arc::<Mutex<()>>::default();
        let flusher = match durability {
            DurabilityPolicy::EveryBlock => Flusher::idle(),
            DurabilityPolicy::Window(window) => {
                Flusher::start(Arc::clone(&database), Arc::clone(&writer), window, file.clone())
                    .map_err(|source| StoreError::from_io(file.clone(), source))?
            }
        };
        Ok(Self {
            inner: Arc::new(StoreInner {
                flusher,
                snapshot: RwLock::new(Arc::new(snapshot)),
                writer,
                database,
                durability,
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
    pub(crate) fn is_on_disk(&self) -> bool {
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
    /// When the disk refuses; the store then takes no more writes.
    pub fn flush(&self) -> Result<(), StoreError> {
        let _writer = self.write_lock()?;
        crate::flusher::make_durable(&self.inner.database).map_err(|error| {
            let error = error.at(&self.inner.file);
            self.inner.flusher.stop_writes(&error);
            error
        })
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.snapshot.read())
    }

    /// The right to write, as long as no write has failed.
    pub(crate) fn write_lock(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let guard = self.inner.writer.lock();
        match self.inner.flusher.failure() {
            None => Ok(guard),
            Some(reason) => Err(StoreError::WritesStopped { reason }),
        }
    }

    /// One atomic write: all of what `write` does, or nothing. The caller holds the write lock.
    pub(crate) fn write<T>(
        &self,
        writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&mut WriteTables<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.transact(writer, |transaction| write(&mut WriteTables::open(transaction)?))
    }

    /// As [`Self::write`], after everything that was there is deleted.
    pub(crate) fn rewrite(
        &self,
        writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&mut WriteTables<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.transact(writer, |transaction| {
            WriteTables::delete(transaction)?;
            write(&mut WriteTables::open(transaction)?)
        })
    }

    fn transact<T>(
        &self,
        _writer: &MutexGuard<'_, ()>,
        write: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let inner = &*self.inner;
        let commit = || {
            let mut transaction = inner.database.begin_write()?;
            match inner.durability {
                DurabilityPolicy::EveryBlock => {}
                DurabilityPolicy::Window(_) => transaction.set_durability(Durability::None)?,
            }
            let done = write(&transaction)?;
            transaction.commit()?;
            Ok((done, Arc::new(Snapshot::take(&inner.database)?)))
        };
        match commit() {
            Ok((done, snapshot)) => {
                *inner.snapshot.write() = snapshot;
                inner.flusher.commit_is_pending();
                Ok(done)
            }
            Err(error) => {
                let error: StoreError = StoreError::at(error, &inner.file);
                // After one of these redb may or may not have applied the transaction, and the
                // file may lack what memory shows, so nothing may be built on top of it.
                if matches!(
                    error,
                    StoreError::DiskFull { .. } | StoreError::Io { .. } | StoreError::Database(_)
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
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    /// A disk with so many bytes left.
    #[derive(Debug)]
    struct SmallDisk {
        inner: InMemoryBackend,
        bytes_left: Arc<AtomicU64>,
    }

    impl StorageBackend for SmallDisk {
        fn len(&self) -> Result<u64, Error> {
            self.inner.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
            self.inner.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), Error> {
            self.inner.set_len(len)
        }
        fn sync_data(&self) -> Result<(), Error> {
            self.inner.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
            let length = data.len() as u64;
            self.bytes_left
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(length))
                .map_err(|_| Error::from(ErrorKind::StorageFull))?;
            self.inner.write(offset, data)
        }
    }

    const IDENTITY: ChainIdentity = ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO };

    fn on_small_disk(durability: DurabilityPolicy) -> (Store, Arc<AtomicU64>) {
        let bytes_left = Arc::new(AtomicU64::new(u64::MAX));
        let disk = SmallDisk { inner: InMemoryBackend::new(), bytes_left: bytes_left.clone() };
        let database = Builder::new().create_with_backend(disk).expect("there is room");
        write_identity(&database, &IDENTITY).expect("there is room");
        let store = Store::over(database, "disk".into(), IDENTITY, durability, None);
        (store.expect("there is room"), bytes_left)
    }

    fn write_megabyte(store: &Store) -> Result<(), StoreError> {
        let writer = store.write_lock()?;
        store.write(&writer, |tables| {
            tables.code.insert(&[7; 32], vec![7; 1 << 20].as_slice())?;
            Ok(())
        })
    }

    #[test]
    fn a_full_disk_is_reported_with_the_file_and_stops_writes_but_not_reads() {
        let (store, bytes_left) = on_small_disk(DurabilityPolicy::EveryBlock);
        bytes_left.store(100_000, SeqCst);
        let error = write_megabyte(&store).expect_err("no room");
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        assert_eq!(error.to_string(), "the disk is full at disk; free some space and start again");
        bytes_left.store(u64::MAX, SeqCst);
        let error = write_megabyte(&store).expect_err("stopped");
        assert!(matches!(error, StoreError::WritesStopped { .. }), "{error:?}");
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(store.snapshot().tables.code.get(&[7; 32]).expect("readable").is_none());
    }

    #[test]
    fn a_full_disk_found_by_the_flusher_stops_writes() {
        let (store, bytes_left) = on_small_disk(DurabilityPolicy::Window(Duration::ZERO));
        bytes_left.store(100_000, SeqCst);
        write_megabyte(&store).expect("this goes to memory only");
        let start = std::time::Instant::now();
        while store.write_lock().is_ok() {
            assert!(start.elapsed() < Duration::from_secs(20), "the flush did not fail");
            std::thread::sleep(Duration::from_millis(5));
        }
        let error = write_megabyte(&store).expect_err("stopped");
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(store.flush().is_err(), "what is lost must not be called durable");
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
        assert!(store.snapshot().tables.code.get(&[1; 32]).expect("readable").is_none());
        write_megabyte(&store).expect("the store goes on");
        assert!(store.snapshot().tables.code.get(&[7; 32]).expect("readable").is_some());
    }
}

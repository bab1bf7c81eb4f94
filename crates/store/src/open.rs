//! Opening a data directory: whose is it, can it be read, is anyone else in it.

use crate::disk::PatientFile;
use crate::schema::{META, SCHEMA_OLDEST, SCHEMA_VERSION, WriteTables, meta};
use crate::{ChainIdentity, DurabilityPolicy, Store, StoreConfig, StoreError};
use alloy_primitives::B256;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable};
use std::fs::{File, OpenOptions, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database in the data directory.
pub const DATABASE_FILE: &str = "heddle.redb";

/// Locked for as long as a store has the directory open.
const LOCK_FILE: &str = "heddle.lock";

/// A database under construction; renamed to [`DATABASE_FILE`] when it is complete.
const UNFINISHED_FILE: &str = "heddle.redb.unfinished";

/// How often an in-memory store lets redb fold its pending commits, which it counts otherwise. The longer, the longer that
/// takes, and commits wait for it.
const IN_MEMORY_WINDOW: Duration = Duration::from_millis(100);

impl Store {
    /// Opens the store in the directory `path`, creating directory and store if there is none.
    ///
    /// # Errors
    /// A [`StoreError`] that says what is in the way: the directory in use, a foreign genesis, a
    /// newer or older schema, a damaged file, a path that is no directory, no permission.
    pub fn open(path: &Path, identity: &ChainIdentity) -> Result<Self, StoreError> {
        Self::open_with(path, identity, StoreConfig::default())
    }

    /// Like [`Self::open`], with a configuration.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        path: &Path,
        identity: &ChainIdentity,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let span = tracing::info_span!("open_store", path = %path.display());
        let _entered = span.enter();
        let lock = lock_directory(path)?;
        let file = path.join(DATABASE_FILE);
        let exists = file.try_exists().map_err(|error| StoreError::from_io(file.clone(), error))?;
        if !exists {
            create_file(path, &file, identity)?;
        }
        let disk = open_disk(path, &file, config)?;
        let database = open_file(path, &file, config, disk.clone())?;
        let version = check_identity(path, &file, &database, identity)?;
        upgrade(&database, version).map_err(|error| error.at(&file))?;
        crate::log_index::catch_up(&database).map_err(|error| error.at(&file))?;
        Self::over(database, file, *identity, config, disk, Some(lock))
    }

    /// A store that lives in memory and is gone with its last clone.
    ///
    /// # Errors
    /// When memory for it cannot be had.
    pub fn in_memory(identity: &ChainIdentity) -> Result<Self, StoreError> {
        Self::in_memory_with(identity, StoreConfig::default())
    }

    /// Like [`Self::in_memory`], with a configuration, of which durability means nothing here.
    ///
    /// # Errors
    /// As [`Self::in_memory`].
    pub fn in_memory_with(
        identity: &ChainIdentity,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let durability = DurabilityPolicy::Window(IN_MEMORY_WINDOW);
        let config = StoreConfig { durability, ..config };
        let file = PathBuf::from("<in memory>");
        let disk = PatientFile::new(InMemoryBackend::new(), &file, config.cache_bytes);
        let database = Builder::new()
            .set_cache_size(config.cache_bytes)
            .create_with_backend(disk.clone())
            .map_err(|error| database_error(&file, &file, error))?;
        write_identity(&database, identity).map_err(|error| error.at(&file))?;
        Self::over(database, file, *identity, config, disk, None)
    }
}

/// Creates the directory if need be and takes its lock.
fn lock_directory(path: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::from_io(path.to_owned(), source);
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(StoreError::NotADirectory { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path).map_err(failed)?;
            sync_parent(path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        // A file system without locks: redb's own lock is then all there is.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            tracing::warn!(%error, "the file system has no locks; do not start a second process");
            Ok(lock)
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// So that a new directory is still there after a crash.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(parent.unwrap_or(Path::new("."))) {
        Ok(parent) => parent.sync_all(),
        // One may create entries in a directory that one may not read.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Builds the database under another name, so that a file of the right name is always complete and
/// an empty or half-written one is damage, never a fresh start.
fn create_file(path: &Path, file: &Path, identity: &ChainIdentity) -> Result<(), StoreError> {
    let unfinished = path.join(UNFINISHED_FILE);
    let failed = |source| StoreError::from_io(unfinished.clone(), source);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let database = Builder::new()
        .create(&unfinished)
        .map_err(|error| database_error(path, &unfinished, error))?;
    write_identity(&database, identity).map_err(|error| error.at(&unfinished))?;
    database.close().map_err(|error| database_error(path, &unfinished, error))?;
    std::fs::rename(&unfinished, file).map_err(failed)?;
    // The rename itself must survive a crash too.
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed)
}

pub(crate) fn write_identity(
    database: &Database,
    identity: &ChainIdentity,
) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = WriteTables::open(&transaction)?;
        for (key, value) in identity_entries(identity) {
            tables.meta.insert(key, value.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// What a database says of itself.
pub(crate) fn identity_entries(identity: &ChainIdentity) -> [(&'static str, Vec<u8>); 3] {
    [
        (meta::SCHEMA_VERSION, SCHEMA_VERSION.to_be_bytes().to_vec()),
        (meta::CHAIN_ID, identity.chain_id.to_be_bytes().to_vec()),
        (meta::GENESIS_HASH, identity.genesis_hash.to_vec()),
    ]
}

fn open_disk(path: &Path, file: &Path, config: StoreConfig) -> Result<PatientFile, StoreError> {
    let failed = |source| StoreError::from_io(file.to_owned(), source);
    let opened = OpenOptions::new().read(true).write(true).open(file).map_err(failed)?;
    // redb would make a new database of an empty file.
    if opened.metadata().map_err(failed)?.len() == 0 {
        let detail = "it is empty".to_owned();
        return Err(StoreError::DamagedFile { path: file.to_owned(), detail });
    }
    let backend = FileBackend::new(opened).map_err(|error| database_error(path, file, error))?;
    Ok(PatientFile::new(backend, file, config.cache_bytes))
}

/// Opens the database. redb trusts a file that was closed cleanly and may panic on one that was changed
/// since, so a panic in here counts as damage.
fn open_file(
    path: &Path,
    file: &Path,
    config: StoreConfig,
    disk: PatientFile,
) -> Result<Database, StoreError> {
    let open = || {
        Builder::new()
            .set_cache_size(config.cache_bytes)
            .set_check_integrity_on_open(config.check_file)
            .set_repair_callback(|repair| {
                tracing::info!(progress = repair.progress(), "repairing the database");
            })
            .create_with_backend(disk)
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(opened) => opened.map_err(|error| database_error(path, file, error)),
        Err(_) => Err(StoreError::DamagedFile {
            path: file.to_owned(),
            detail: "its structure is inconsistent".into(),
        }),
    }
}

fn database_error(path: &Path, file: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse { path: path.to_owned() }
        }
        DatabaseError::UpgradeRequired(version) => StoreError::DamagedFile {
            path: file.to_owned(),
            detail: format!("file format {version} of an old database engine"),
        },
        DatabaseError::RepairAborted => StoreError::DamagedFile {
            path: file.to_owned(),
            detail: "it was not closed cleanly and cannot be repaired".into(),
        },
        other => StoreError::Database(Box::new(other.into())).at(file),
    }
}

/// What a database says about itself; `None` where it says nothing readable.
#[derive(Default)]
struct FoundIdentity {
    version: Option<u32>,
    chain_id: Option<u64>,
    genesis: Option<B256>,
}

/// Makes a database of an older version one of this.
fn upgrade(database: &Database, version: u32) -> Result<(), StoreError> {
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    tracing::info!(from = version, to = SCHEMA_VERSION, "the database takes this build's layout");
    let transaction = database.begin_write()?;
    crate::alterations::split_whole(&transaction)?;
    {
        // Before version 5 every block's nodes and histories were written with it.
        let mut tables = WriteTables::open(&transaction)?;
        let head = tables.headers.last()?.map_or(0, |(number, _)| number.value());
        crate::pending::set_settled(&mut tables, head)?;
        tables.meta.insert(meta::SCHEMA_VERSION, SCHEMA_VERSION.to_be_bytes().as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Refuses a database that is another chain's, or that this build cannot read. Gives its version.
fn check_identity(
    path: &Path,
    file: &Path,
    database: &Database,
    expected: &ChainIdentity,
) -> Result<u32, StoreError> {
    let read = || -> Result<FoundIdentity, StoreError> {
        let table = match database.begin_read()?.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(FoundIdentity::default()),
            Err(error) => return Err(error.into()),
        };
        let version = table.get(meta::SCHEMA_VERSION)?;
        let chain_id = table.get(meta::CHAIN_ID)?;
        let genesis = table.get(meta::GENESIS_HASH)?;
        Ok(FoundIdentity {
            version: version.and_then(|v| v.value().try_into().ok()).map(u32::from_be_bytes),
            chain_id: chain_id.and_then(|v| v.value().try_into().ok()).map(u64::from_be_bytes),
            genesis: genesis.and_then(|v| v.value().try_into().ok()).map(B256::new),
        })
    };
    let damaged =
        |detail: &str| StoreError::DamagedFile { path: file.to_owned(), detail: detail.to_owned() };
    let FoundIdentity { version, chain_id, genesis } = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.at(file))?,
        Err(_) => return Err(damaged("its structure is inconsistent")),
    };
    let version = version.ok_or_else(|| damaged("it is not a Heddle database"))?;
    let (path, supported) = (path.to_owned(), SCHEMA_VERSION);
    if version > supported {
        return Err(StoreError::SchemaTooNew { path, found: version, supported });
    }
    if version < SCHEMA_OLDEST {
        return Err(StoreError::SchemaTooOld { path, found: version, supported });
    }
    let (Some(found_chain_id), Some(found)) = (chain_id, genesis) else {
        return Err(damaged("it does not say which chain it belongs to"));
    };
    if (found_chain_id, found) != (expected.chain_id, expected.genesis_hash) {
        return Err(StoreError::ForeignGenesis {
            path,
            found_chain_id,
            found,
            expected_chain_id: expected.chain_id,
            expected: expected.genesis_hash,
        });
    }
    Ok(version)
}

//! The database file, which is written when the disk has room for it and nobody waits.
//!
//! redb gives a file up for good when a write fails: from then on it neither writes nor reads what is not in its cache.
//! A full disk need not be the end, so redb is not told of it. What finds no room is *held* in memory, where reads find
//! it, and the sync that ends every durable commit waits until all of it is in the file. That sync is what makes a commit
//! durable, so nothing is called durable before it is; and whoever wants to write meanwhile is told that the disk is full
//! ([`Room::check`]), so that what is held stays within what one flush writes.
//!
//! And redb lets nobody write while a durable commit waits for the disk, tens of milliseconds. So the flusher makes its
//! commits with a [`Deferral`]: writes and syncs are held, and it puts them into the file when redb goes on already. What
//! is held is done in the order in which redb asked for it, so that at every instant the file is one that a crash could have left
//! if redb had written it itself: it names a commit whose sync is done. Pages that this commit alone still needed, which redb thinks
//! free, are written anew after that sync only, since all later writes wait in line behind it.
//!
//! Every other failure of the disk is passed on.

use crate::StoreError;
use crate::unwritten::{Step, Unwritten};
use parking_lot::{Condvar, Mutex};
use redb::{BackendError, StorageBackend};
use std::io::{Error, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is tried whether there is room again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// How many bytes of a flush are held. Of a larger one, redb waits until what came before is in the file.
const DEFERRED_BYTES_MAX: usize = 64 << 20;

/// Whether the disk has room, as the file and the store's writers tell each other.
#[derive(Debug)]
pub(crate) struct Room {
    file: PathBuf,
    /// Set from when the disk has no room until all that was held for that is in the file.
    is_full: AtomicBool,
    /// Nobody is to wait any more: the store is closing.
    is_closing: Mutex<bool>,
    closing: Condvar,
}

impl Room {
    fn of(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            is_full: AtomicBool::new(false),
            is_closing: Mutex::new(false),
            closing: Condvar::new(),
        }
    }

    /// An error while the disk is full.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::Acquire) {
            return Err(StoreError::DiskFull { path: self.file.clone() });
        }
        Ok(())
    }

    /// Lets those give up that wait for room, now and from now on.
    pub(crate) fn close(&self) {
        *self.is_closing.lock() = true;
        self.closing.notify_all();
    }

    /// Waits a little; `false` if there is no use in it any more.
    fn wait(&self) -> bool {
        let mut is_closing = self.is_closing.lock();
        if !*is_closing {
            self.closing.wait_for(&mut is_closing, RETRY_AFTER);
        }
        !*is_closing
    }

    fn set_full(&self, full: bool) {
        if self.is_full.swap(full, Ordering::AcqRel) == full {
            return;
        }
        metrics::gauge!("heddle_store_disk_full").set(f64::from(u8::from(full)));
        let file = self.file.display();
        if full {
            tracing::error!(%file, "the disk is full: no blocks are made until there is room");
        } else {
            // As loud as what it takes back.
            tracing::warn!(%file, "the disk has room again: blocks are made");
        }
    }
}

/// A file that is written later: when the disk has room, or when nobody waits for it.
#[derive(Debug, Clone)]
pub(crate) struct PatientFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Box<dyn StorageBackend>,
    room: Room,
    /// How many bytes may be held for want of room: as many as redb's cache has, of which at most half is unwritten.
    held_bytes_max: usize,
    /// Whether there is something to look for in `held`. Set under its lock; read without it by who reads or writes
    /// the file, after what it must see, which redb's own locks order before it.
    is_holding: AtomicBool,
    /// Locked for one read or write.
    held: Mutex<Held>,
    /// Locked by who puts steps into the file, while it does. Taken before `held`.
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Held {
    unwritten: Unwritten,
    /// Whatever is done now is to wait, syncs too.
    is_deferring: bool,
}

#[derive(Debug, Default)]
struct Writing {
    /// Why: after a write or sync failed nobody knows what is on the disk, and nothing more is written. A sync that
    /// succeeds where one has failed says nothing about what the system has given up since.
    failed: Option<String>,
}

/// How far what was held is in the file.
#[derive(Debug)]
enum Written {
    All,
    /// There was no room for the rest.
    UpTo(Error),
}

/// Whether the disk, the quota or the process's limit on files is what is missing.
fn is_want_of_room(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// What is done to the file waits as long as this lives.
#[derive(Debug)]
pub(crate) struct Deferral<'a>(&'a Shared);

impl Drop for Deferral<'_> {
    fn drop(&mut self) {
        // It still waits, until somebody writes it.
        self.0.held.lock().is_deferring = false;
    }
}

impl PatientFile {
    /// `path` is for errors.
    pub(crate) fn new(file: impl StorageBackend, path: &Path, cache_bytes: usize) -> Self {
        Self(Arc::new(Shared {
            file: Box::new(file),
            room: Room::of(path),
            held_bytes_max: cache_bytes,
            is_holding: AtomicBool::new(false),
            held: Mutex::default(),
            writing: Mutex::default(),
        }))
    }

    pub(crate) fn room(&self) -> &Room {
        &self.0.room
    }

    /// From now on, until the deferral is dropped, what redb does to the file takes no time: it is held, and syncs are
    /// kept in mind. None of it is durable before [`Self::write_out`] has returned. Only one thread may defer at a time,
    /// and nobody else may need a sync meanwhile; the store's write lock sees to both.
    pub(crate) fn defer(&self) -> Deferral<'_> {
        let mut held = self.0.held.lock();
        held.is_deferring = true;
        self.0.is_holding.store(true, Ordering::Release);
        Deferral(&self.0)
    }

    /// Puts everything that is held into the file, in order, and syncs wherever a sync was asked for. Waits for room.
    ///
    /// # Errors
    /// When the disk fails; or when there is no room and nobody is to wait for it any more.
    pub(crate) fn write_out(&self) -> Result<(), Error> {
        while let Written::UpTo(error) = self.0.write_what_is_held()? {
            if !self.0.room.wait() {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// As far as there is room.
    fn write_what_is_held(&self) -> Result<Written, Error> {
        let mut writing = self.writing.lock();
        if let Some(reason) = &writing.failed {
            return Err(Error::other(format!("the file could not be written before: {reason}")));
        }
        loop {
            let step = {
                let held = self.held.lock();
                let Some(step) = held.unwritten.first() else {
                    self.is_holding.store(held.is_deferring, Ordering::Release);
                    self.room.set_full(false);
                    return Ok(Written::All);
                };
                step.clone()
            };
            let done = match &step {
                Step::Write { offset, data } => self.file.write(*offset, data),
                Step::SetLength(length) => self.file.set_len(*length),
                // Whatever the reason is, even want of room: what was written before may be lost.
                Step::Sync => self.file.sync_data().map_err(Error::other),
            };
            match done {
                Ok(()) => self.held.lock().unwritten.pop(),
                Err(error) if is_want_of_room(&error) => {
                    self.room.set_full(true);
                    return Ok(Written::UpTo(error));
                }
                Err(error) => {
                    writing.failed = Some(error.to_string());
                    return Err(error);
                }
            }
        }
    }

    fn is_holding(&self) -> bool {
        self.is_holding.load(Ordering::Acquire)
    }

    /// Adds a step to what is held.
    fn hold(&self, add: impl FnOnce(&mut Unwritten)) {
        let mut held = self.held.lock();
        add(&mut held.unwritten);
        self.is_holding.store(true, Ordering::Release);
    }

    fn hold_write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let is_more_than = |bytes_max| {
            let held_bytes = self.held.lock().unwritten.bytes();
            // One write of any size must be possible.
            held_bytes > 0 && held_bytes + data.len() > bytes_max
        };
        if is_more_than(DEFERRED_BYTES_MAX.min(self.held_bytes_max)) && self.room.check().is_ok() {
            self.write_what_is_held()?;
        }
        if is_more_than(self.held_bytes_max) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.hold(|unwritten| unwritten.push_write(offset, data));
        Ok(())
    }

    /// Reads what is in the file, and zeros beyond its end.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let there = self.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there > 0 { self.file.read(offset, &mut out[..there]) } else { Ok(()) }
    }
}

impl StorageBackend for PatientFile {
    fn len(&self) -> Result<u64, Error> {
        let held = if self.0.is_holding() { self.0.held.lock().unwritten.length() } else { None };
        held.map_or_else(|| self.0.file.len(), Ok)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let shared = &*self.0;
        if !shared.is_holding() {
            return shared.file.read(offset, out);
        }
        let held = shared.held.lock();
        let length = held.unwritten.length().map_or_else(|| shared.file.len(), Ok)?;
        if length < offset + out.len() as u64 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if held.unwritten.leaves(offset, out.len()) {
            // Others may read at the same time. Nobody writes what somebody reads, redb sees to that.
            drop(held);
            return shared.file.read(offset, out);
        }
        held.unwritten.read(offset, out, |out| shared.read_file(offset, out))
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        if !self.0.is_holding() {
            match self.0.file.set_len(length) {
                Err(error) if is_want_of_room(&error) => self.0.room.set_full(true),
                done => return done,
            }
        }
        self.0.hold(|unwritten| unwritten.push_length(length));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if !self.0.is_holding() {
            match self.0.file.write(offset, data) {
                Err(error) if is_want_of_room(&error) => self.0.room.set_full(true),
                written => return written,
            }
        }
        self.0.hold_write(offset, data)
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.0.is_holding() {
            let mut held = self.0.held.lock();
            if held.is_deferring {
                held.unwritten.push_sync();
                return Ok(());
            }
            drop(held);
            self.write_out()?;
        }
        self.0.file.sync_data()
    }

    fn close(&self) -> Result<(), Error> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}

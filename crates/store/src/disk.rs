//! The database file, which waits for room instead of failing for want of it.
//!
//! redb gives a file up for good when a write fails: from then on it neither writes nor reads what is not in its cache.
//! A full disk need not be the end, so redb is not told of it. What finds no room is *held* in memory, where reads find
//! it, and the sync that ends every durable commit waits until all of it is in the file. That sync is what makes a commit
//! durable, so nothing is called durable before it is; and whoever wants to write meanwhile is told that the disk is full
//! ([`Room::check`]), so that what is held stays within what one flush writes.
//!
//! Every other failure of the disk is passed on.

use crate::StoreError;
use parking_lot::{Condvar, Mutex};
use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is tried whether there is room again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What is held is held in pieces of this many bytes, redb's smallest page.
const PIECE_BYTES: usize = 4_096;

/// Whether the disk has room, as the file and the store's writers tell each other.
#[derive(Debug)]
pub(crate) struct Room {
    file: PathBuf,
    /// Set while something is held. Written under the lock of what is held; read without it, by [`PatientFile::read`]
    /// after the write that it must see, which redb's own locks order before it.
    is_full: AtomicBool,
    /// Nobody is to wait any more: the store is closing.
    is_closing: Mutex<bool>,
    closing: Condvar,
}

impl Room {
    pub(crate) fn of(file: &Path) -> Arc<Self> {
        Arc::new(Self {
            file: file.to_owned(),
            is_full: AtomicBool::new(false),
            is_closing: Mutex::new(false),
            closing: Condvar::new(),
        })
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

/// A file that holds what the disk has no room for.
#[derive(Debug)]
pub(crate) struct PatientFile<F> {
    file: F,
    room: Arc<Room>,
    /// How many pieces are held: as many as redb's cache has, of which at most half is unwritten.
    pieces_max: usize,
    /// Locked for one read or write, and while what is held goes into the file.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The file's length, where it could not be made so long.
    length: Option<u64>,
    /// By their number in the file.
    pieces: BTreeMap<u64, Box<[u8; PIECE_BYTES]>>,
}

/// Whether the disk, the quota or the process's limit on files is what is missing.
fn is_want_of_room(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

impl<F: StorageBackend> PatientFile<F> {
    pub(crate) fn new(file: F, room: Arc<Room>, cache_bytes: usize) -> Self {
        let pieces_max = cache_bytes / PIECE_BYTES;
        Self { file, room, pieces_max, held: Mutex::default() }
    }

    fn is_full(&self) -> bool {
        self.room.is_full.load(Ordering::Acquire)
    }

    /// Reads what is in the file, and zeros beyond its end.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let there = self.file.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there > 0 { self.file.read(offset, &mut out[..there]) } else { Ok(()) }
    }

    fn hold(&self, held: &mut Held, offset: u64, mut data: &[u8]) -> Result<(), Error> {
        let mut at = offset;
        while !data.is_empty() {
            let (number, start) = (at / PIECE_BYTES as u64, (at % PIECE_BYTES as u64) as usize);
            let (now, rest) = data.split_at(data.len().min(PIECE_BYTES - start));
            if !held.pieces.contains_key(&number) {
                if held.pieces.len() >= self.pieces_max {
                    return Err(ErrorKind::StorageFull.into());
                }
                let mut piece = Box::new([0; PIECE_BYTES]);
                self.read_file(at - start as u64, piece.as_mut_slice())?;
                held.pieces.insert(number, piece);
            }
            if let Some(piece) = held.pieces.get_mut(&number) {
                piece[start..start + now.len()].copy_from_slice(now);
            }
            (at, data) = (at + now.len() as u64, rest);
        }
        Ok(())
    }

    /// Puts what is held into the file.
    fn let_go(&self, held: &mut Held) -> Result<(), Error> {
        if let Some(length) = held.length {
            self.file.set_len(length)?;
            held.length = None;
        }
        let length = self.file.len()?;
        while let Some((number, piece)) = held.pieces.first_key_value() {
            let offset = number * PIECE_BYTES as u64;
            // What was cut off the file meanwhile needs no place in it.
            let kept = length.saturating_sub(offset).min(PIECE_BYTES as u64) as usize;
            self.file.write(offset, &piece[..kept])?;
            held.pieces.pop_first();
        }
        Ok(())
    }
}

impl<F: StorageBackend> StorageBackend for PatientFile<F> {
    fn len(&self) -> Result<u64, Error> {
        if self.is_full()
            && let Some(length) = self.held.lock().length
        {
            return Ok(length);
        }
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        if !self.is_full() {
            return self.file.read(offset, out);
        }
        let held = self.held.lock();
        let end = offset + out.len() as u64;
        if held.length.map_or_else(|| self.file.len(), Ok)? < end {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.read_file(offset, out)?;
        let pieces = offset / PIECE_BYTES as u64..end.div_ceil(PIECE_BYTES as u64);
        for (number, piece) in held.pieces.range(pieces) {
            let start = number * PIECE_BYTES as u64;
            let (from, to) = (start.max(offset), (start + PIECE_BYTES as u64).min(end));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), Error> {
        let mut held = self.held.lock();
        if self.is_full() && held.length.map_or_else(|| self.file.len(), Ok)? < length {
            held.length = Some(length);
            return Ok(());
        }
        match self.file.set_len(length) {
            Err(error) if is_want_of_room(&error) => {
                held.length = Some(length);
                self.room.set_full(true);
                Ok(())
            }
            Ok(()) => {
                held.length = None;
                held.pieces.split_off(&length.div_ceil(PIECE_BYTES as u64));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if !self.is_full() {
            match self.file.write(offset, data) {
                Err(error) if is_want_of_room(&error) => {}
                written => return written,
            }
        }
        let mut held = self.held.lock();
        self.hold(&mut held, offset, data)?;
        self.room.set_full(true);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        while self.is_full() {
            let mut held = self.held.lock();
            match self.let_go(&mut held) {
                Ok(()) => self.room.set_full(false),
                Err(error) if is_want_of_room(&error) => {
                    drop(held);
                    if !self.room.wait() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.file.sync_data()
    }

    fn close(&self) -> Result<(), Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

//! Makes commits durable in the background, so that a block costs no disk write before it is shown.

use crate::{StoreError, closing::ClosingDatabase, disk::PatientFile, error::unless_damaged};
use parking_lot::{Condvar, Mutex};
use redb::{Database, Durability};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread that flushes, and what it shares with the writers.
#[derive(Debug)]
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    disk: PatientFile,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for a few instructions, never over a flush.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When the oldest commit that is not durable yet was made.
    pending_since: Option<Instant>,
    stopping: bool,
    failure: Option<String>,
}

impl Flusher {
    /// With a thread that makes a commit durable `window` after it was made.
    pub(crate) fn start(
        database: Arc<ClosingDatabase>,
        writer: Arc<Mutex<()>>,
        window: Duration,
        file: PathBuf,
        disk: PatientFile,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (for_thread, its_disk) = (Arc::clone(&shared), disk.clone());
        let thread = std::thread::Builder::new().name("heddle-flush".into()).spawn(move || {
            run(&for_thread, window, || {
                let flush = || flush(&database, &writer, &its_disk);
                unless_damaged(flush).map_err(|error| error.at(&file))
            });
        })?;
        Ok(Self { shared, disk, thread: Some(thread) })
    }

    /// A commit has been made that is not durable.
    pub(crate) fn commit_is_pending(&self) {
        let mut state = self.shared.state.lock();
        if state.pending_since.is_none() {
            state.pending_since = Some(Instant::now());
            self.shared.changed.notify_one();
        }
    }

    /// Why no more writes are taken, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    /// From now on no more writes are taken. The first reason is kept.
    pub(crate) fn stop_writes(&self, error: &StoreError) {
        self.shared.state.lock().failure.get_or_insert_with(|| error.to_string());
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.state.lock().stopping = true;
        // Nobody would see the room that the last flush waited for.
        self.disk.room().close();
        self.shared.changed.notify_one();
        if thread.join().is_err() {
            tracing::error!("the thread that flushes the store panicked");
        }
    }
}

fn run(shared: &Shared, window: Duration, flush: impl Fn() -> Result<(), StoreError>) {
    loop {
        let mut state = shared.state.lock();
        while !state.stopping {
            match state.pending_since {
                None => shared.changed.wait(&mut state),
                Some(since) => {
                    let due = since + window;
                    if Instant::now() >= due {
                        break;
                    }
                    shared.changed.wait_until(&mut state, due);
                }
            }
        }
        // Cleared before flushing: a commit made meanwhile may or may not be part of this flush.
        let pending = state.pending_since.take().is_some() && state.failure.is_none();
        let stopping = state.stopping;
        drop(state);

        if !pending {
            if stopping {
                return;
            }
            continue;
        }
        if let Err(error) = flush() {
            tracing::error!(%error, "flushing the store failed; no more writes are taken");
            shared.state.lock().failure.get_or_insert_with(|| error.to_string());
        }
        if stopping {
            return;
        }
    }
}

/// Makes everything durable that was committed before. Others can commit while the disk is waited for.
fn flush(database: &Database, writer: &Mutex<()>, disk: &PatientFile) -> Result<(), StoreError> {
    let span = tracing::debug_span!("flush");
    let _entered = span.enter();
    let start = Instant::now();
    commit_behind(database, writer, disk)?;
    metrics::histogram!("heddle_store_flush_commit_seconds").record(start.elapsed());
    disk.write_out().map_err(|error| StoreError::from(Box::new(redb::Error::Io(error))))?;
    metrics::histogram!("heddle_store_flush_seconds").record(start.elapsed());
    Ok(())
}

/// A durable commit that is not on the disk until `disk` is written out.
///
/// Takes `writer` before redb's own lock, as every writer does: that lock is handed over
/// fairly, so that blocks committed back to back cannot keep the flush waiting.
pub(crate) fn commit_behind(
    database: &Database,
    writer: &Mutex<()>,
    disk: &PatientFile,
) -> Result<(), StoreError> {
    let _writer = writer.lock();
    let _deferral = disk.defer();
    make_durable(database)
}

/// A durable commit without changes of its own, which makes all earlier commits durable.
///
/// Quick repair (redb saves its allocator state with the commit) makes reopening after a crash
/// independent of the size of the file; it costs a second fsync, which is in the background here.
pub(crate) fn make_durable(database: &Database) -> Result<(), StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction.commit()?)
}

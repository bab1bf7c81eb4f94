//! Where expensive methods compute: a bounded number at once, a bounded number waiting, the rest refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{errors::Failure, traffic::CALLER};

/// Runs what takes longer than a few microseconds away from the connections' threads.
#[derive(Debug)]
pub(crate) struct HeavyWork {
    permits: Arc<Semaphore>,
    at_once_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Counts one who waits for as long as it exists, also when the client hangs up and its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Relaxed: a count that nothing else is ordered by.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HeavyWork {
    pub(crate) fn new(at_once_max: usize, waiting_max: usize) -> Self {
        let at_once_max = at_once_max.max(1);
        Self {
            permits: Arc::new(Semaphore::new(at_once_max)),
            at_once_max,
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// Waits for a place among those who compute, if there is one among those who wait.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let already = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if already >= self.waiting_max {
            metrics::counter!("rpc_busy_total").increment(1);
            return Err(Failure::Busy(self.at_once_max));
        }
        let acquired = Arc::clone(&self.permits).acquire_owned().await;
        acquired.map_err(|_| Failure::server("the node is shutting down"))
    }

    /// Computes `job` once it is its turn.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T, Failure>
    where
        F: FnOnce() -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let caller = CALLER.try_with(Arc::clone).ok();
        let permit = loop {
            let permit = self.turn().await?;
            match &caller {
                // Its client stopped reading meanwhile: others first.
                Some(caller) if !caller.has_room() => {
                    drop(permit);
                    caller.room().await;
                }
                _ => break permit,
            }
        };
        // The permit goes along: it is free again when the computation ends, not when the client hangs up.
        let done = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "an RPC method failed unexpectedly");
            Err(Failure::server("internal error; the node's log has the details"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread")]
    async fn beyond_those_who_compute_and_those_who_wait_the_answer_is_busy() {
        let work = Arc::new(HeavyWork::new(1, 1));
        let (release, blocked) = mpsc::channel::<()>();
        let first = {
            let work = work.clone();
            tokio::spawn(
                async move { work.run(move || blocked.recv().map_err(Failure::server)).await },
            )
        };
        while work.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = {
            let work = work.clone();
            tokio::spawn(async move { work.run(|| Ok(2)).await })
        };
        while work.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(work.run(|| Ok(3)).await, Err(Failure::Busy(1)));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(second.await.unwrap(), Ok(2));
        assert_eq!(work.run(|| Ok(4)).await, Ok(4));
    }

    #[tokio::test]
    async fn a_panic_in_a_method_is_an_error_to_its_caller_only() {
        let work = HeavyWork::new(1, 1);
        let failed: Result<(), Failure> = work.run(|| panic!("on purpose")).await;
        assert_eq!(failed.unwrap_err().code(), -32000);
        assert_eq!(work.run(|| Ok(1)).await, Ok(1));
    }
}

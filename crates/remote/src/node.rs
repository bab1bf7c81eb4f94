//! A node that threads without a runtime can ask: reads are synchronous where the EVM makes them, and a server's own
//! threads must not wait for somebody else's answer.
//!
//! One thread with a runtime of its own does all the talking. What several threads want to read while others are on
//! their way goes out together, in one batch.

use crate::{
    RemoteError,
    client::{Answer, BATCH_CALLS_MAX, Call, NodeClient, Patience},
};
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::{
    num::NonZeroUsize,
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Batches of reads on their way at the same time. What comes meanwhile makes the next batches larger.
const BATCHES_AT_ONCE: usize = 8;

/// Requests passed on at the same time; more are refused.
const FORWARDED_MAX: usize = 64;

/// How long somebody waits for a read, all attempts together.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

/// Answers kept of requests that were passed on: they are about blocks that do not change.
const ANSWERS_KEPT_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("is not zero");

/// The longest of them that is kept, in bytes; together at most 64 MiB.
const ANSWER_KEPT_BYTES_MAX: usize = 128 << 10;

type Answers = Result<Vec<Answer>, RemoteError>;

/// Calls that belong together, and where their answers go.
struct Request {
    calls: Vec<Call>,
    reply: Box<dyn FnOnce(Answers) + Send>,
}

/// A node, asked from any thread.
#[derive(Debug)]
pub struct RemoteNode {
    connection: Arc<Connection>,
    /// Unbounded, but every thread has at most one request in it, for whose answer it waits.
    reads: mpsc::UnboundedSender<Request>,
    /// At most [`FORWARDED_MAX`], each with a permit.
    forwarded: mpsc::UnboundedSender<Request>,
    permits: Arc<Semaphore>,
    answers: Mutex<LruCache<String, Box<RawValue>>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where the node is; can be set anew.
#[derive(Debug)]
struct Connection {
    client: RwLock<(Arc<NodeClient>, String)>,
    patience: Patience,
}

impl Connection {
    fn client(&self) -> Arc<NodeClient> {
        self.client.read().0.clone()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl RemoteNode {
    /// Starts the thread; nothing is sent yet.
    ///
    /// # Errors
    /// If this is no HTTP address, or the system refuses threads.
    pub fn start(url: &str, patience: Patience) -> Result<Self, RemoteError> {
        let client = Arc::new(NodeClient::new(url, patience)?);
        let connection =
            Arc::new(Connection { client: RwLock::new((client, url.to_owned())), patience });
        let failed = |error| RemoteError::Threads(Arc::new(error));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (reads, to_read) = mpsc::unbounded_channel();
        let (forwarded, to_forward) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let driver = Driver { connection: connection.clone(), to_read, to_forward, stopped };
        let thread = std::thread::Builder::new()
            .name("heddle-remote".into())
            .spawn(move || {
                runtime.block_on(driver.run());
                // What is still on its way ends here, and whoever waits for it learns that.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            connection,
            reads,
            forwarded,
            permits: Arc::new(Semaphore::new(FORWARDED_MAX)),
            answers: Mutex::new(LruCache::new(ANSWERS_KEPT_MAX)),
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The node, as errors name it: without what may be secret.
    pub fn name(&self) -> String {
        self.client().name().to_owned()
    }

    /// The whole address.
    pub fn url(&self) -> String {
        self.connection.client.read().1.clone()
    }

    /// The pause after a failed attempt.
    pub fn patience(&self) -> Patience {
        self.connection.patience
    }

    /// Asks another address from now on, which has to have the same chain.
    ///
    /// # Errors
    /// If this is no HTTP address.
    pub fn set_url(&self, url: &str) -> Result<(), RemoteError> {
        let client = Arc::new(NodeClient::new(url, self.connection.patience)?);
        *self.connection.client.write() = (client, url.to_owned());
        Ok(())
    }

    pub(crate) fn client(&self) -> Arc<NodeClient> {
        self.connection.client()
    }

    /// Makes calls and waits for their answers. Not for threads that must not wait.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn read(&self, calls: Vec<Call>) -> Answers {
        let (reply, answer) = sync_channel(1);
        // Nobody waiting any more is fine.
        let reply = Box::new(move |answers| drop(reply.send(answers)));
        let sent = self.reads.send(Request { calls, reply });
        sent.map_err(|_| self.stopped())?;
        answer.recv().map_err(|_| self.stopped())?
    }

    /// Makes one call that may take the node long, by itself, and waits for its result. Not for threads that must not
    /// wait.
    ///
    /// # Errors
    /// If the node cannot be asked, has too many requests to answer already, or answers something else than a `T`.
    pub fn request<T: DeserializeOwned>(&self, call: &Call) -> Result<T, RemoteError> {
        let _permit = self.permit()?;
        let (reply, answer) = sync_channel(1);
        let reply = Box::new(move |answers| drop(reply.send(answers)));
        let sent = self.forwarded.send(Request { calls: vec![call.clone()], reply });
        sent.map_err(|_| self.stopped())?;
        let answers = answer.recv().map_err(|_| self.stopped())?;
        self.client().read(call, answers?.remove(0))
    }

    /// Makes one call from within a runtime, and gives its result.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, RemoteError> {
        let answer = self.pass_on(call.clone()).await?;
        self.client().read(&call, answer)
    }

    async fn pass_on(&self, call: Call) -> Result<Answer, RemoteError> {
        let _permit = self.permit()?;
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |answers| drop(reply.send(answers)));
        let sent = self.forwarded.send(Request { calls: vec![call], reply });
        sent.map_err(|_| self.stopped())?;
        let answers = answer.await.map_err(|_| self.stopped())?;
        Ok(answers?.remove(0))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, RemoteError> {
        let permit = self.permits.clone().try_acquire_owned();
        permit.map_err(|_| RemoteError::Busy { node: self.name(), max: FORWARDED_MAX })
    }

    /// Passes one call on, about what does not change: its answer is kept for the next who asks.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn forward(&self, call: Call) -> Result<Answer, RemoteError> {
        let key = format!("{} {}", call.method, serde_json::Value::from(call.params.clone()));
        if let Some(answer) = self.answers.lock().get(&key) {
            return Ok(Ok(answer.clone()));
        }
        let answer = self.pass_on(call).await?;
        if let Ok(result) = &answer
            && result.get() != "null"
            && key.len() + result.get().len() <= ANSWER_KEPT_BYTES_MAX
        {
            self.answers.lock().put(key, result.clone());
        }
        Ok(answer)
    }

    /// Reads what was answered to a call.
    ///
    /// # Errors
    /// If it is an error, or something else than a `T`.
    pub fn read_answer<T: DeserializeOwned>(
        &self,
        call: &Call,
        answer: Answer,
    ) -> Result<T, RemoteError> {
        self.client().read(call, answer)
    }

    fn stopped(&self) -> RemoteError {
        RemoteError::Stopped { node: self.name() }
    }

    /// Asks nothing more. Whoever waits for an answer gets an error at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that asks the other node had panicked");
        }
    }
}

impl Drop for RemoteNode {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread does.
struct Driver {
    connection: Arc<Connection>,
    to_read: mpsc::UnboundedReceiver<Request>,
    to_forward: mpsc::UnboundedReceiver<Request>,
    stopped: watch::Receiver<bool>,
}

impl Driver {
    async fn run(self) {
        let Self { connection, to_read, to_forward, mut stopped } = self;
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = pass_on(&connection, to_forward) => {}
            () = read(&connection, to_read) => {}
        }
    }
}

/// Each by itself, so that nobody waits for what others want to know.
async fn pass_on(connection: &Connection, mut requests: mpsc::UnboundedReceiver<Request>) {
    while let Some(Request { calls, reply }) = requests.recv().await {
        let client = connection.client();
        tokio::spawn(async move { reply(client.ask(&calls).await) });
    }
}

async fn read(connection: &Connection, mut requests: mpsc::UnboundedReceiver<Request>) {
    let batches = Arc::new(Semaphore::new(BATCHES_AT_ONCE));
    while let Some(first) = requests.recv().await {
        let Ok(permit) = batches.clone().acquire_owned().await else { return };
        let mut count = first.calls.len();
        let mut batch = vec![first];
        while count < BATCH_CALLS_MAX
            && let Ok(request) = requests.try_recv()
        {
            count += request.calls.len();
            batch.push(request);
        }
        let client = connection.client();
        tokio::spawn(async move {
            read_batch(&client, batch).await;
            drop(permit);
        });
    }
}

async fn read_batch(client: &NodeClient, batch: Vec<Request>) {
    let calls: Vec<Call> = batch.iter().flat_map(|request| request.calls.clone()).collect();
    metrics::counter!("heddle_remote_reads_total").increment(calls.len() as u64);
    let (node, method) = (client.name().to_owned(), calls.first().map_or("", |call| call.method));
    let answers = tokio::time::timeout(READ_TIME_MAX, client.ask(&calls)).await;
    let answers = answers.unwrap_or_else(|_| {
        let reason = format!("no answer within {READ_TIME_MAX:?}");
        Err(RemoteError::Unreachable { node, method, reason })
    });
    match answers {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for Request { calls, reply } in batch {
                reply(Ok(answers.by_ref().take(calls.len()).collect()));
            }
        }
        Err(error) => batch.into_iter().for_each(|request| (request.reply)(Err(error.clone()))),
    }
}

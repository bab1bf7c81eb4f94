//! The timed part: every lane sends on a connection of its own, while one follower looks at the
//! blocks.

use crate::{
    Endpoint, Latencies, LoadError,
    client::Client,
    connection::{Connection, WebSocket},
    encode::Prepared,
    endpoint::Scheme,
    follow::Follower,
    lane::{Lane, Next, Schedule, Sending},
    tracker::{Counts, Tracker},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinSet};

/// How the transactions are sent.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    pub(crate) endpoint: Endpoint,
    pub(crate) schedule: Schedule,
    /// Most unanswered requests on a WebSocket.
    pub(crate) in_flight: usize,
    /// How long nothing may happen.
    pub(crate) patience: Duration,
    /// Whether the node has to be told to go on ([`NUDGE_AFTER`]).
    pub(crate) nudged: bool,
}

/// What came of it, as far as the blocks say.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) counts: Counts,
    pub(crate) latencies: Latencies,
    pub(crate) refusals: Vec<(String, usize)>,
    /// Numbers of blocks with transactions of ours, and how many transactions they have in all.
    pub(crate) blocks: Vec<(u64, usize)>,
    /// From the start until the last answer.
    pub(crate) submitted: Duration,
    /// From the start until the last of ours was seen in a block.
    pub(crate) elapsed: Duration,
    /// Processor time of this program meanwhile.
    pub(crate) processor: Duration,
    /// How often the node had to be told to go on.
    pub(crate) nudges: usize,
}

/// Between two looks at the progress.
const TICK: Duration = Duration::from_millis(100);
/// Anvil makes a block when a transaction arrives. What does not fit into it stays until the next one
/// arrives, or until somebody says `evm_mine`, as is done after so long without a block.
const NUDGE_AFTER: Duration = Duration::from_millis(200);

impl Drive {
    /// Sends everything and waits until it is in blocks, or until nothing happens any more.
    pub(crate) async fn run(
        &self,
        prepared: Prepared,
        head: u64,
        mut progress: impl FnMut(Counts, Duration),
    ) -> Result<(Driven, Vec<crate::encode::Tracked>), LoadError> {
        let Prepared { lanes, transactions } = prepared;
        let hashes = transactions.iter().map(|tx| tx.hash);
        let mut tracker = Tracker::new(hashes, Instant::now());
        let mut open = Vec::with_capacity(lanes.len());
        for lane in lanes.into_iter().filter(|lane| lane.len() > 0) {
            open.push((lane, Open::new(self).await?));
        }
        let follower = Follower::open(&self.endpoint, head, self.patience).await?;
        let mut nudge = Nudge::new(self).await?;
        let processor = processor_time();
        tracker.restart();
        let tracker = Rc::new(tracker);
        let mut tasks = JoinSet::new();
        for (lane, connection) in open {
            let (drive, tracker) = (self.clone(), Rc::clone(&tracker));
            tasks.spawn_local(async move { drive.send(connection, &lane, &tracker).await });
        }
        let following = Rc::clone(&tracker);
        let follower = async move { follower.follow(&following).await };
        tokio::pin!(follower);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = tracker.done.notified() => break,
                error = &mut follower => return Err(error),
                Some(ended) = tasks.join_next() => flatten(ended)?,
                _ = ticks.tick() => {
                    progress(tracker.counts(), tracker.start().elapsed());
                    let latest = tracker.last_answer().max(tracker.last_included());
                    if latest.elapsed() > self.patience {
                        break;
                    }
                    if latest.elapsed() > NUDGE_AFTER && tracker.pending() > 0 {
                        nudge.give().await?;
                    }
                }
            }
        }
        let processor = processor_time().saturating_sub(processor);
        // The last may be in a block before its answer is here.
        let rest = async {
            while let Some(ended) = tasks.join_next().await {
                flatten(ended)?;
            }
            Ok::<(), LoadError>(())
        };
        let complete = tracker.pending() == 0 && tracker.counts().sent == tracker.total();
        if complete && let Ok(ended) = tokio::time::timeout(self.patience, rest).await {
            ended?;
        }
        progress(tracker.counts(), tracker.start().elapsed());
        let driven = Driven {
            counts: tracker.counts(),
            latencies: tracker.latencies(),
            refusals: tracker.refusals(),
            blocks: tracker.blocks(),
            submitted: tracker.last_answer() - tracker.start(),
            elapsed: tracker.last_included() - tracker.start(),
            processor,
            nudges: nudge.given,
        };
        Ok((driven, transactions))
    }

    async fn send(
        &self,
        connection: Open,
        lane: &Lane,
        tracker: &Rc<Tracker>,
    ) -> Result<(), LoadError> {
        let sending = Sending::new(lane, self.schedule, tracker);
        match connection {
            Open::One(connection) => self.send_one_by_one(connection, sending, tracker).await,
            Open::Many(socket) => self.send_ahead(*socket, sending, tracker).await,
        }
    }

    /// A request at a time.
    async fn send_one_by_one(
        &self,
        mut connection: Connection,
        mut sending: Sending<'_>,
        tracker: &Tracker,
    ) -> Result<(), LoadError> {
        loop {
            match sending.next() {
                Next::Send(body) => {
                    let exchange = connection.exchange(body.clone());
                    let answer = tokio::time::timeout(self.patience, exchange).await;
                    match answer.map_err(|_| self.silent())? {
                        Ok(answer) => {
                            sending.answered(&answer).map_err(|reason| self.wrong(reason))?;
                        }
                        Err(LoadError::Busy { .. }) => sending.busy(&body),
                        Err(error) => return Err(error),
                    }
                }
                Next::Done | Next::Answer => return Ok(()),
                wait => self.wait(wait, tracker).await,
            }
        }
    }

    /// Several requests before the first answer.
    async fn send_ahead(
        &self,
        socket: WebSocket,
        sending: Sending<'_>,
        tracker: &Tracker,
    ) -> Result<(), LoadError> {
        let WebSocket { mut sender, mut receiver } = socket;
        let sending = RefCell::new(sending);
        let sent = Notify::new();
        let answered = Notify::new();
        let write = async {
            loop {
                if sending.borrow().waiting() >= self.in_flight {
                    answered.notified().await;
                    continue;
                }
                let next = sending.borrow_mut().next();
                match next {
                    Next::Send(body) => {
                        sent.notify_one();
                        sender.send(&body).await?;
                    }
                    Next::Answer => answered.notified().await,
                    Next::Done => return Ok(()),
                    wait => self.wait(wait, tracker).await,
                }
            }
        };
        let read = async {
            loop {
                if sending.borrow().waiting() == 0 {
                    sent.notified().await;
                    continue;
                }
                let answer = tokio::time::timeout(self.patience, receiver.receive()).await;
                let answer = answer.map_err(|_| self.silent())??;
                sending.borrow_mut().answered(&answer).map_err(|reason| self.wrong(reason))?;
                answered.notify_one();
            }
        };
        tokio::select! {
            written = write => written,
            failed = read => failed,
        }
    }

    async fn wait(&self, next: Next, tracker: &Tracker) {
        match next {
            Next::Until(then) => tokio::time::sleep_until(then.into()).await,
            _ => {
                let room = tracker.room.notified();
                let _ = tokio::time::timeout(TICK, room).await;
            }
        }
    }

    fn silent(&self) -> LoadError {
        LoadError::Silent { node: self.endpoint.to_string(), patience: self.patience }
    }

    fn wrong(&self, reason: String) -> LoadError {
        LoadError::NotJsonRpc { node: self.endpoint.to_string(), reason }
    }
}

/// A connection that sends.
enum Open {
    One(Connection),
    Many(Box<WebSocket>),
}

impl Open {
    async fn new(drive: &Drive) -> Result<Self, LoadError> {
        Ok(if drive.endpoint.scheme == Scheme::WebSocket && drive.in_flight > 1 {
            Self::Many(Box::new(WebSocket::open(&drive.endpoint).await?))
        } else {
            Self::One(Connection::open(&drive.endpoint).await?)
        })
    }
}

/// Tells a node to go on that stops with transactions in its pool.
struct Nudge {
    client: Option<Client>,
    given: usize,
}

impl Nudge {
    async fn new(drive: &Drive) -> Result<Self, LoadError> {
        let client = if drive.nudged {
            Some(Client::open(&drive.endpoint, drive.patience).await?)
        } else {
            None
        };
        Ok(Self { client, given: 0 })
    }

    async fn give(&mut self) -> Result<(), LoadError> {
        if let Some(client) = &mut self.client {
            self.given += 1;
            client.call::<serde::de::IgnoredAny>("evm_mine", [(); 0]).await?;
        }
        Ok(())
    }
}

fn flatten(ended: Result<Result<(), LoadError>, tokio::task::JoinError>) -> Result<(), LoadError> {
    ended.unwrap_or_else(|error| Err(LoadError::Start(std::io::Error::other(error))))
}

/// User and system time of the whole process.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

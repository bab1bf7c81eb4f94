//! Looking out for blocks.

use crate::{
    Endpoint, LoadError,
    client::Client,
    connection::{WebSocket, WebSocketReceiver},
    tracker::Tracker,
};
use alloy_primitives::{B256, U64, hex};
use serde::Deserialize;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{sync::Notify, task::AbortHandle};

/// Between two questions for the next block, where the node does not tell of new ones by itself.
const POLL: Duration = Duration::from_millis(2);
/// How long nothing may be told before the next block is asked for all the same.
const UNTOLD_MAX: Duration = Duration::from_millis(250);

/// Looks at every block as it comes, by one connection for the blocks and, where the node serves
/// WebSocket at the same address, another on which it tells of them.
pub(crate) struct Follower {
    client: Client,
    heads: Option<Rc<Heads>>,
    listener: Option<AbortHandle>,
    next: u64,
}

/// What the node told.
struct Heads {
    newest: Cell<u64>,
    told: Notify,
    alive: Cell<bool>,
}

#[derive(Deserialize)]
struct Notification {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    result: Head,
}

#[derive(Deserialize)]
struct Head {
    number: U64,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<Block<'a>>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    transactions: Vec<&'a str>,
}

impl Follower {
    /// Begins with the block after `head`.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        head: u64,
        patience: Duration,
    ) -> Result<Self, LoadError> {
        let client = Client::open(endpoint, patience).await?;
        let listening = tokio::time::timeout(UNTOLD_MAX, subscribe(&endpoint.websocket())).await;
        let heads =
            Rc::new(Heads { newest: Cell::new(head), told: Notify::new(), alive: Cell::new(true) });
        let listener = listening.ok().and_then(Result::ok).map(|socket| {
            tokio::task::spawn_local(listen(socket, Rc::clone(&heads))).abort_handle()
        });
        let heads = listener.is_some().then_some(heads);
        Ok(Self { client, heads, listener, next: head + 1 })
    }

    /// Tells the tracker of every block, until it is abandoned.
    pub(crate) async fn follow(mut self, tracker: &Tracker) -> LoadError {
        loop {
            match self.look(tracker).await {
                Ok(true) => self.next += 1,
                Ok(false) => {}
                Err(error) => return error,
            }
            self.wait().await;
        }
    }

    /// Until there may be a next block.
    async fn wait(&self) {
        let Some(heads) = self.heads.as_ref().filter(|heads| heads.alive.get()) else {
            tokio::time::sleep(POLL).await;
            return;
        };
        if heads.newest.get() < self.next {
            let _ = tokio::time::timeout(UNTOLD_MAX, heads.told.notified()).await;
        }
    }

    /// Looks at the next block, if it is there.
    async fn look(&mut self, tracker: &Tracker) -> Result<bool, LoadError> {
        let method = "eth_getBlockByNumber";
        let wrong = |reason: String| LoadError::Answer { method: method.to_owned(), reason };
        let number = self.next;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":["{number:#x}",false]}}"#
        );
        let answer = self.client.exchange(body.into()).await?;
        let answer: Answer<'_> =
            serde_json::from_slice(&answer).map_err(|error| wrong(error.to_string()))?;
        if let Some(error) = answer.error {
            return Err(wrong(error.to_string()));
        }
        let Some(Block { transactions }) = answer.result else {
            return Ok(false);
        };
        let hashes = transactions.iter().filter_map(|hash| {
            let mut bytes = B256::ZERO;
            hex::decode_to_slice(hash, &mut bytes.0).ok().map(|()| bytes)
        });
        tracker.block(number, hashes, transactions.len());
        Ok(true)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

async fn subscribe(endpoint: &Endpoint) -> Result<WebSocketReceiver, LoadError> {
    let WebSocket { mut sender, receiver } = WebSocket::open(endpoint).await?;
    let body = br#"{"jsonrpc":"2.0","id":0,"method":"eth_subscribe","params":["newHeads"]}"#;
    sender.send(body).await?;
    Ok(receiver)
}

async fn listen(mut socket: WebSocketReceiver, heads: Rc<Heads>) {
    // Anything else (the answer to the subscription, or that there is none) tells nothing, and the next block is
    // asked for now and then all the same.
    while let Ok(message) = socket.receive().await {
        if let Ok(told) = serde_json::from_slice::<Notification>(&message) {
            let number = told.params.result.number.to::<u64>();
            heads.newest.set(number.max(heads.newest.get()));
            heads.told.notify_one();
        }
    }
    heads.alive.set(false);
    heads.told.notify_one();
}

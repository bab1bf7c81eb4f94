//! `eth_subscribe`: what happens, as it happens, in order and once.
//!
//! Each subscription is a task that reads the chain's or the pool's events and waits for its client. It holds up nobody
//! else. A client that falls behind the events is brought up to date from the chain where that loses nothing, and
//! otherwise told that its subscription ends; one that does not read at all is disconnected (see `connection`).

use std::sync::Arc;

use alloy_primitives::B256;
use heddle_chain::{Chain, ChainBlock, ChainEvent};
use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink,
    core::{SubscriptionError, traits::IdProvider},
    types::{ErrorObjectOwned, Params, SubscriptionId},
};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    context::Context,
    convert,
    errors::Failure,
    filters::random_id,
    logs::{LogMatcher, LogQuery},
    params::Args,
};

/// Subscription ids are hex strings, as in geth; random, so that nobody can guess another's.
#[derive(Debug)]
pub(crate) struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::from(format!("{:#x}", random_id()))
    }
}

/// What a client can subscribe to.
#[derive(Debug)]
enum Kind {
    NewHeads,
    Logs(LogMatcher),
    NewPendingTransactions { full: bool },
    Syncing,
}

fn parse(params: &Params<'_>) -> Result<Kind, Failure> {
    let mut args = Args::new(params, 2)?;
    let name: String = args.required()?;
    match name.as_str() {
        "newHeads" => Ok(Kind::NewHeads),
        // The range is of no use here: a subscription is about what is yet to come.
        "logs" => Ok(Kind::Logs(
            args.optional::<LogQuery>()?.map(|query| query.matcher).unwrap_or_default(),
        )),
        "newPendingTransactions" => Ok(Kind::NewPendingTransactions { full: args.or(false)? }),
        "syncing" => Ok(Kind::Syncing),
        _ => {
            const NAME_SHOWN_MAX: usize = 100;
            let name: String = name.chars().take(NAME_SHOWN_MAX).collect();
            Err(Failure::params(format!("no {name:?} subscription in eth namespace")))
        }
    }
}

/// Why a subscription ended other than by its client's wish.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client is gone")]
    Gone,
    #[error("the client is too slow: {0} events were missed; subscribe again")]
    Lagged(u64),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Runs one subscription until its client leaves.
pub(crate) async fn run(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    context: Arc<Context>,
) -> Result<(), SubscriptionError> {
    let kind = match parse(&params) {
        Ok(kind) => kind,
        Err(failure) => {
            pending.reject(ErrorObjectOwned::from(failure)).await;
            return Ok(());
        }
    };
    // Listening starts before the client is told that it is subscribed: whatever it does then, it hears of.
    let outcome = match kind {
        Kind::NewHeads => {
            let heads = Heads::new(&context.chain);
            let Ok(sink) = pending.accept().await else { return Ok(()) };
            heads.run(&sink, HeadMessages).await
        }
        Kind::Logs(matcher) => {
            let heads = Heads::new(&context.chain);
            let Ok(sink) = pending.accept().await else { return Ok(()) };
            heads.run(&sink, LogMessages(matcher)).await
        }
        Kind::NewPendingTransactions { full } => {
            let transactions = context.pool.subscribe();
            let Ok(sink) = pending.accept().await else { return Ok(()) };
            pending_transactions(&sink, transactions, full).await
        }
        Kind::Syncing => {
            let Ok(sink) = pending.accept().await else { return Ok(()) };
            // This node is never behind itself.
            let sent = send(&sink, &false).await;
            sink.closed().await;
            sent
        }
    };
    match outcome {
        Ok(()) | Err(Ended::Gone) => Ok(()),
        Err(ended) => {
            tracing::debug!(%ended, "a subscription ended");
            Err(ended.to_string().into())
        }
    }
}

async fn send(sink: &SubscriptionSink, message: &impl Serialize) -> Result<(), Ended> {
    let message = SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), message)
        .map_err(Failure::server)?;
    tokio::select! {
        sent = sink.send(message) => sent.map_err(|_| Ended::Gone),
        () = sink.closed() => Err(Ended::Gone),
    }
}

async fn pending_transactions(
    sink: &SubscriptionSink,
    mut transactions: tokio::sync::broadcast::Receiver<Arc<heddle_pool::PooledTx>>,
    full: bool,
) -> Result<(), Ended> {
    loop {
        let transaction = tokio::select! {
            received = transactions.recv() => match received {
                Ok(transaction) => transaction,
                Err(RecvError::Lagged(missed)) => return Err(Ended::Lagged(missed)),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = sink.closed() => return Ok(()),
        };
        if full {
            send(sink, &convert::pooled_transaction(&transaction)).await?;
        } else {
            send(sink, &transaction.hash()).await?;
        }
    }
}

/// What a subscription says of a block.
trait Messages {
    type Message: Serialize + Send + Sync;

    fn added(&self, block: &ChainBlock) -> Vec<Self::Message>;
    fn removed(&self, block: &ChainBlock) -> Vec<Self::Message>;
}

struct HeadMessages;

impl Messages for HeadMessages {
    type Message = alloy_rpc_types_eth::Header;

    fn added(&self, block: &ChainBlock) -> Vec<Self::Message> {
        vec![convert::header(block)]
    }

    fn removed(&self, _: &ChainBlock) -> Vec<Self::Message> {
        Vec::new()
    }
}

struct LogMessages(LogMatcher);

impl Messages for LogMessages {
    type Message = alloy_rpc_types_eth::Log;

    fn added(&self, block: &ChainBlock) -> Vec<Self::Message> {
        self.0.in_block(block, false)
    }

    fn removed(&self, block: &ChainBlock) -> Vec<Self::Message> {
        self.0.in_block(block, true)
    }
}

/// Follows the chain for one client.
struct Heads {
    chain: Arc<Chain>,
    events: tokio::sync::broadcast::Receiver<ChainEvent>,
    /// The newest block that the client has been told of.
    number: u64,
    hash: B256,
}

impl Heads {
    fn new(chain: &Arc<Chain>) -> Self {
        let events = chain.subscribe();
        let head = chain.head();
        Self { chain: chain.clone(), events, number: head.number(), hash: head.hash() }
    }

    async fn run<M: Messages>(mut self, sink: &SubscriptionSink, messages: M) -> Result<(), Ended> {
        loop {
            tokio::select! {
                received = self.events.recv() => match received {
                    Ok(event) => self.follow(&event, sink, &messages).await?,
                    Err(RecvError::Lagged(missed)) => self.catch_up(missed, sink, &messages).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = sink.closed() => return Ok(()),
            }
        }
    }

    async fn follow<M: Messages>(
        &mut self,
        event: &ChainEvent,
        sink: &SubscriptionSink,
        messages: &M,
    ) -> Result<(), Ended> {
        // Not what the client has not been told of: that was gone before it subscribed or caught up.
        for block in event.removed.iter().filter(|block| block.number() <= self.number) {
            for message in messages.removed(block) {
                send(sink, &message).await?;
            }
        }
        if let Some(first) = event.removed.first()
            && first.number() <= self.number
        {
            self.number = first.number().saturating_sub(1);
            self.hash = first.header.parent_hash;
        }
        for id in &event.added {
            if id.number <= self.number {
                continue;
            }
            let block = self.chain.block_by_number(id.number).map_err(Failure::from)?;
            // One that has left the chain again: a later event says so.
            let Some(block) = block.filter(|block| block.hash() == id.hash) else { break };
            self.tell(&block, sink, messages).await?;
        }
        Ok(())
    }

    async fn tell<M: Messages>(
        &mut self,
        block: &ChainBlock,
        sink: &SubscriptionSink,
        messages: &M,
    ) -> Result<(), Ended> {
        for message in messages.added(block) {
            send(sink, &message).await?;
        }
        self.number = block.number();
        self.hash = block.hash();
        Ok(())
    }

    /// Reads from the chain what was missed. What a reorganisation took away meanwhile cannot be read any more, so
    /// after one the subscription ends.
    async fn catch_up<M: Messages>(
        &mut self,
        missed: u64,
        sink: &SubscriptionSink,
        messages: &M,
    ) -> Result<(), Ended> {
        self.events = self.chain.subscribe();
        let hash = self.chain.hash_by_number(self.number).map_err(Failure::from)?;
        if hash != Some(self.hash) {
            return Err(Ended::Lagged(missed));
        }
        while self.number < self.chain.head().number() {
            match self.chain.block_by_number(self.number + 1).map_err(Failure::from)? {
                Some(block) if block.header.parent_hash == self.hash => {
                    self.tell(&block, sink, messages).await?;
                }
                _ => return Err(Ended::Lagged(missed)),
            }
        }
        Ok(())
    }
}

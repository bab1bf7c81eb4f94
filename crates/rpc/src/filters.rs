//! Filters: what is new since a client last asked.
//!
//! A filter keeps no events, only how far its client has been told. What is new is read from the chain when it asks;
//! only logs that a reorganisation took away have to be kept, because the chain no longer has them.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use alloy_primitives::{B128, B256, U128, map::HashMap};
use alloy_rpc_types_eth::Log;
use heddle_chain::{Chain, ChainEvent};
use heddle_pool::{Pool, PooledTx};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::TryRecvError};

use crate::{
    RpcLimits,
    context::Context,
    errors::Failure,
    logs::{self, LogMatcher, LogQuery},
};

/// Logs of blocks that left the chain, kept until their filters' clients ask: for all filters together.
const REMOVED_LOGS_MAX: usize = 200_000;

/// All filters of all clients, and what they are told from.
#[derive(Debug)]
pub(crate) struct Filters {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    filters: HashMap<u128, Filter>,
    heads: broadcast::Receiver<ChainEvent>,
    transactions: broadcast::Receiver<Arc<PooledTx>>,
    /// The latest pending transactions, for all filters together.
    pending: VecDeque<B256>,
    /// How many pending transactions there were before the first of `pending`.
    pending_before: u64,
}

#[derive(Debug)]
struct Filter {
    kind: Kind,
    asked: Instant,
}

/// The newest block that a client has been told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    number: u64,
    hash: B256,
}

#[derive(Debug)]
enum Kind {
    Logs {
        query: Box<LogQuery>,
        told: Told,
        removed: Vec<Log>,
    },
    Blocks {
        told: Told,
    },
    /// How many pending transactions the client has been told of.
    Transactions {
        told: u64,
    },
}

/// What `eth_getFilterChanges` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Changes {
    Logs(Vec<Log>),
    Hashes(Vec<B256>),
}

/// What is read from the chain after the lock on the filters is released.
enum Due {
    Logs { matcher: LogMatcher, removed: Vec<Log>, from: u64, to: u64 },
    Blocks { from: u64, to: u64 },
    Hashes(Vec<B256>),
}

/// An id that nobody can guess.
pub(crate) fn random_id() -> u128 {
    u128::from_be_bytes(B128::random().0)
}

fn not_found() -> Failure {
    Failure::server("filter not found")
}

impl Filters {
    pub(crate) fn new(chain: &Chain, pool: &Pool, limits: &RpcLimits) -> Self {
        let inner = Inner {
            filters: HashMap::default(),
            heads: chain.subscribe(),
            transactions: pool.subscribe(),
            pending: VecDeque::with_capacity(limits.pending_hashes_max.min(1_024)),
            pending_before: 0,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Takes up what happened, so that nothing is lost while no client asks.
    pub(crate) fn refresh(&self, limits: &RpcLimits) {
        let mut inner = self.inner.lock();
        if inner.filters.is_empty() {
            inner.forget();
        } else {
            inner.take_up(limits);
        }
    }

    fn install(
        &self,
        context: &Context,
        kind: impl FnOnce(&Inner) -> Kind,
    ) -> Result<U128, Failure> {
        let limits = &context.limits;
        let mut inner = self.inner.lock();
        inner.take_up(limits);
        if inner.filters.len() >= limits.filters_max {
            return Err(Failure::Limit(format!(
                "{} filters exist already; remove some with eth_uninstallFilter",
                limits.filters_max
            )));
        }
        let id = random_id();
        let kind = kind(&inner);
        inner.filters.insert(id, Filter { kind, asked: Instant::now() });
        Ok(U128::from(id))
    }

    /// `eth_newFilter`.
    pub(crate) fn new_log_filter(
        &self,
        context: &Context,
        query: LogQuery,
    ) -> Result<U128, Failure> {
        self.install(context, |_| Kind::Logs {
            query: Box::new(query),
            told: head(context),
            removed: Vec::new(),
        })
    }

    /// `eth_newBlockFilter`.
    pub(crate) fn new_block_filter(&self, context: &Context) -> Result<U128, Failure> {
        self.install(context, |_| Kind::Blocks { told: head(context) })
    }

    /// `eth_newPendingTransactionFilter`.
    pub(crate) fn new_transaction_filter(&self, context: &Context) -> Result<U128, Failure> {
        self.install(context, |inner| Kind::Transactions { told: inner.pending_seen() })
    }

    /// `eth_uninstallFilter`: whether it was there.
    pub(crate) fn uninstall(&self, id: u128) -> bool {
        self.inner.lock().filters.remove(&id).is_some()
    }

    /// `eth_getFilterLogs`: everything that the filter's query finds.
    pub(crate) fn logs(&self, context: &Context, id: u128) -> Result<Vec<Log>, Failure> {
        let query = {
            let mut inner = self.inner.lock();
            inner.take_up(&context.limits);
            let filter = inner.filters.get_mut(&id).ok_or_else(not_found)?;
            filter.asked = Instant::now();
            match &filter.kind {
                Kind::Logs { query, .. } => query.clone(),
                Kind::Blocks { .. } | Kind::Transactions { .. } => return Err(not_found()),
            }
        };
        logs::query(context, &query)
    }

    /// `eth_getFilterChanges`.
    pub(crate) fn changes(&self, context: &Context, id: u128) -> Result<Changes, Failure> {
        let due = {
            let mut inner = self.inner.lock();
            inner.take_up(&context.limits);
            inner.due(id, context)?
        };
        match due {
            Due::Hashes(hashes) => Ok(Changes::Hashes(hashes)),
            Due::Blocks { from, to } => {
                let mut hashes = Vec::new();
                for number in from..=to {
                    hashes.extend(context.chain.hash_by_number(number)?);
                }
                Ok(Changes::Hashes(hashes))
            }
            Due::Logs { matcher, removed, from, to } => {
                let mut logs = removed;
                if from <= to {
                    logs.extend(logs::in_range(context, &matcher, from, to)?);
                }
                Ok(Changes::Logs(logs))
            }
        }
    }
}

fn head(context: &Context) -> Told {
    let head = context.chain.head();
    Told { number: head.number(), hash: head.hash() }
}

impl Inner {
    fn pending_seen(&self) -> u64 {
        self.pending_before + self.pending.len() as u64
    }

    /// Nobody is to be told of what happened: it need not stay in memory.
    fn forget(&mut self) {
        self.heads = self.heads.resubscribe();
        self.transactions = self.transactions.resubscribe();
    }

    fn take_up(&mut self, limits: &RpcLimits) {
        loop {
            match self.heads.try_recv() {
                Ok(event) => self.reorganise(&event),
                // What was removed is lost; filters find out by themselves that their block is gone.
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        loop {
            match self.transactions.try_recv() {
                Ok(transaction) => self.pending.push_back(transaction.hash()),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let surplus = self.pending.len().saturating_sub(limits.pending_hashes_max);
        self.pending.drain(..surplus);
        self.pending_before += surplus as u64;
        let lifetime = limits.filter_lifetime;
        self.filters.retain(|_, filter| filter.asked.elapsed() <= lifetime);
    }

    /// Takes back what clients were told of blocks that have left the chain.
    fn reorganise(&mut self, event: &ChainEvent) {
        let Some(first) = event.removed.first() else { return };
        let parent =
            Told { number: first.number().saturating_sub(1), hash: first.header.parent_hash };
        let kept = |filter: &Filter| match &filter.kind {
            Kind::Logs { removed, .. } => removed.len(),
            Kind::Blocks { .. } | Kind::Transactions { .. } => 0,
        };
        let mut room = REMOVED_LOGS_MAX.saturating_sub(self.filters.values().map(kept).sum());
        for filter in self.filters.values_mut() {
            match &mut filter.kind {
                Kind::Logs { query, told, removed } if told.number >= first.number() => {
                    for block in event.removed.iter().filter(|block| block.number() <= told.number)
                    {
                        let mut logs = query.matcher.in_block(block, true);
                        logs.truncate(room);
                        room -= logs.len();
                        removed.append(&mut logs);
                    }
                    *told = parent;
                }
                Kind::Blocks { told } if told.number >= first.number() => *told = parent,
                Kind::Logs { .. } | Kind::Blocks { .. } | Kind::Transactions { .. } => {}
            }
        }
    }

    /// What the client has not been told, which from now on counts as told.
    fn due(&mut self, id: u128, context: &Context) -> Result<Due, Failure> {
        let (seen, before) = (self.pending_seen(), self.pending_before);
        let filter = self.filters.get_mut(&id).ok_or_else(not_found)?;
        filter.asked = Instant::now();
        let head = head(context);
        Ok(match &mut filter.kind {
            Kind::Logs { query, told, removed } => {
                let from = next(context, *told, head)?;
                *told = head;
                Due::Logs {
                    matcher: query.matcher.clone(),
                    removed: std::mem::take(removed),
                    from,
                    to: head.number,
                }
            }
            Kind::Blocks { told } => {
                let from = next(context, *told, head)?;
                *told = head;
                Due::Blocks { from, to: head.number }
            }
            Kind::Transactions { told } => {
                // Bounded by the length of `pending`, so the conversion holds.
                let skipped = usize::try_from(told.saturating_sub(before)).unwrap_or(usize::MAX);
                *told = seen;
                Due::Hashes(self.pending.iter().skip(skipped).copied().collect())
            }
        })
    }
}

/// The first block that a client has not been told of. If the block it was told of last has left the chain without our
/// hearing of it, all that can be said is what the chain has at that height now.
fn next(context: &Context, told: Told, head: Told) -> Result<u64, Failure> {
    let is_there = context.chain.hash_by_number(told.number)? == Some(told.hash);
    Ok(if is_there { told.number + 1 } else { told.number.min(head.number) })
}

#[cfg(test)]
mod tests;

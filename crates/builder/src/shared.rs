//! What the miner's handle and its thread share, and the next block as both see it.

use crate::{
    MineError,
    candidates::{Offer, Room, candidates},
    clock::Clock,
    committer::{Claimed, InFlight},
    gather::Arrivals,
    head_follower::{Accounts, pool_rules},
    simulator::{Paused, Simulations},
};
use alloy_primitives::{Address, B256, Bytes, TxHash, keccak256};
use heddle_chain::{BlockAttributes, Chain, ChainBlock, ChainError, ProducedBlock};
use heddle_evm::{RecoveredTransaction, StateError};
use heddle_pool::{Pool, PooledTx};
use parking_lot::{Mutex, RwLock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A block, and what of the pool it was offered.
pub(crate) type Produced = (ProducedBlock, Vec<Arc<PooledTx>>);

/// What the handle and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) chain: Arc<Chain>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Mutex<Clock>,
    pub(crate) automine: AtomicBool,
    pub(crate) interval: Mutex<Option<Duration>>,
    /// What is about to be handed to the pool.
    pub(crate) arrivals: Arrivals,
    /// A wake-up is on its way; further ones would add nothing.
    pub(crate) woken: AtomicBool,
    pub(crate) coinbase: RwLock<Address>,
    pub(crate) gas_limit: RwLock<Option<u64>>,
    pub(crate) next: Mutex<NextBlock>,
    pub(crate) extra_data: Bytes,
    /// Count of accepted submissions: with the head, it names what the pending block is made of.
    pub(crate) submissions: AtomicU64,
    pub(crate) pending: Mutex<Option<PendingCache>>,
    /// What is known of waiting transactions, where they are simulated.
    pub(crate) simulations: Option<Arc<Simulations>>,
}

/// What is fixed for the next block only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NextBlock {
    pub(crate) base_fee: Option<u64>,
    pub(crate) prev_randao: Option<B256>,
}

impl NextBlock {
    /// Takes out what `block` has.
    fn take_used_by(&mut self, block: &ChainBlock) -> Self {
        let has_base_fee = |fee: &mut u64| block.header.base_fee_per_gas == Some(*fee);
        Self {
            base_fee: self.base_fee.take_if(has_base_fee),
            prev_randao: self.prev_randao.take_if(|value| block.header.mix_hash == *value),
        }
    }

    /// Puts that back where nothing was set since.
    fn put_back(&mut self, used: Self) {
        self.base_fee = self.base_fee.or(used.base_fee);
        self.prev_randao = self.prev_randao.or(used.prev_randao);
    }
}

/// A pending block and what it was made of.
#[derive(Debug)]
pub(crate) struct PendingCache {
    pub(crate) head: B256,
    pub(crate) submissions: u64,
    pub(crate) block: Arc<ProducedBlock>,
}

impl Shared {
    pub(crate) fn gas_limit(&self, head: &ChainBlock) -> u64 {
        self.gas_limit.read().unwrap_or(head.header.gas_limit)
    }

    /// The rules for transactions of the next block.
    pub(crate) fn rules(&self) -> heddle_pool::PoolRules {
        let head = self.chain.head();
        let timestamp = self.clock.lock().peek(head.header.timestamp);
        let rules = pool_rules(&self.chain, timestamp, self.gas_limit(&head));
        heddle_pool::PoolRules { base_fee: self.next_base_fee(), ..rules }
    }

    pub(crate) fn next_base_fee(&self) -> u64 {
        self.base_fee_after(&self.chain.head())
    }

    pub(crate) fn base_fee_after(&self, parent: &ChainBlock) -> u64 {
        self.next.lock().base_fee.unwrap_or_else(|| self.chain.base_fee_after(parent))
    }

    /// The block on the head with what the pool has now, to be committed. Nothing changes.
    pub(crate) fn produce(&self) -> Result<Produced, MineError> {
        let (attributes, offer) = self.offer(&self.chain.head(), None);
        self.produce_offered(None, &attributes, offer)
    }

    /// The same on a block that is being committed, if one is; `None` if the pool has nothing for it.
    pub(crate) fn produce_pending(
        &self,
        parent: Option<&InFlight>,
    ) -> Result<Option<Produced>, MineError> {
        let head = self.chain.head();
        let (attributes, offer) =
            self.offer(parent.map_or(&head, |parent| parent.tip.block()), parent);
        if offer.candidates.is_empty() {
            return Ok(None);
        }
        self.produce_offered(parent, &attributes, offer).map(Some)
    }

    fn produce_offered(
        &self,
        parent: Option<&InFlight>,
        attributes: &BlockAttributes,
        offer: Offer,
    ) -> Result<Produced, MineError> {
        metrics::counter!("builder_hints_used_total").increment(offer.hints() as u64);
        let offered = offer.for_block();
        let _paused = self.pause_simulations();
        let produced = match parent {
            Some(parent) => self.chain.produce_after(&parent.tip, attributes, offered)?,
            None => self.chain.produce(attributes, offered)?,
        };
        Ok((produced, offer.candidates))
    }

    /// The same to be looked at.
    pub(crate) fn preview(&self) -> Result<ProducedBlock, MineError> {
        let (attributes, offer) = self.offer(&self.chain.head(), None);
        Ok(self.chain.preview(&attributes, offer.for_block())?)
    }

    /// While a block is executed no core is idle, by default: there is a worker for each.
    fn pause_simulations(&self) -> Option<Paused<'_>> {
        self.simulations.as_deref().map(Simulations::pause)
    }

    /// Something new may wait to be simulated.
    pub(crate) fn wake_simulations(&self) {
        if let Some(simulations) = &self.simulations {
            simulations.wake();
        }
    }

    /// A block on `parent`, and what the pool has for it beside what is in flight.
    fn offer(&self, parent: &ChainBlock, in_flight: Option<&InFlight>) -> (BlockAttributes, Offer) {
        let attributes = self.attributes(parent);
        let room = Room::new(self.chain.spec(), attributes.gas_limit, attributes.timestamp);
        let (base_fee, blob_base_fee) =
            (self.base_fee_after(parent), self.chain.blob_base_fee_after(parent));
        let taken = |hash: &TxHash| {
            in_flight.is_some_and(|in_flight| in_flight.transactions.contains(hash))
        };
        let candidates = candidates(&self.pool, base_fee, blob_base_fee, room, taken);
        let offer = match &self.simulations {
            Some(simulations) => {
                let hints = simulations.hints(&candidates);
                Offer::hinted(candidates, &hints, base_fee, self.chain.workers())
            }
            None => Offer::new(candidates),
        };
        (attributes, offer)
    }

    /// The block on the head with these transactions. Nothing changes.
    pub(crate) fn produce_of(
        &self,
        transactions: Vec<RecoveredTransaction>,
    ) -> Result<ProducedBlock, MineError> {
        Ok(self.chain.produce(&self.attributes(&self.chain.head()), transactions)?)
    }

    pub(crate) fn attributes(&self, parent: &ChainBlock) -> BlockAttributes {
        let timestamp = self.clock.lock().peek(parent.header.timestamp);
        let next = *self.next.lock();
        BlockAttributes {
            timestamp,
            beneficiary: *self.coinbase.read(),
            // No beacon chain here to be random: a value that contracts cannot foresee before
            // the parent, and that a re-run gives again.
            prev_randao: next.prev_randao.unwrap_or_else(|| {
                keccak256([parent.hash().as_slice(), &timestamp.to_be_bytes()].concat())
            }),
            gas_limit: self.gas_limit(parent),
            withdrawals: Vec::new(),
            parent_beacon_block_root: B256::ZERO,
            extra_data: self.extra_data.clone(),
            base_fee: next.base_fee,
        }
    }

    /// Uses up what was set for the next block. To be done before anybody can see it: what is set from then on is for
    /// the one after it, and so is what was set while it was being made.
    pub(crate) fn claim(&self, block: &ChainBlock) -> Claimed {
        let next = self.next.lock().take_used_by(block);
        let clock = self.clock.lock().used(block.header.timestamp);
        Claimed { next, clock }
    }

    /// The block did not get onto the chain.
    pub(crate) fn give_back(&self, claimed: &Claimed) {
        self.next.lock().put_back(claimed.next);
        self.clock.lock().give_back(claimed.clock);
    }

    /// Puts a block on the chain, and lets the pool follow.
    pub(crate) fn commit(&self, produced: ProducedBlock) -> Result<Arc<ChainBlock>, MineError> {
        let changes = produced.changes.clone();
        let stages = produced.stages;
        let block = self.chain.commit(produced)?;
        let mined: Vec<TxHash> =
            block.transactions.iter().map(|tx| *tx.inner().tx_hash()).collect();
        let state = self.chain.latest_state();
        let code_may_send = self.chain.spec().code_may_send();
        match (Accounts { state: &state, code_may_send }).changed(&changes) {
            Ok(changed) => self.pool.on_new_head(self.rules(), changed, &mined),
            Err(error) => {
                tracing::error!(%error, "the pool could not follow the new head; reading it anew");
                if let Err(error) = self.reread_pool() {
                    tracing::error!(%error, "the pool could not be read anew");
                }
            }
        }
        self.wake_simulations();
        tracing::info!(
            number = block.number(),
            hash = %block.hash(),
            txs = block.transactions.len(),
            gas = block.header.gas_used,
            workers = stages.workers,
            conflicts = stages.conflicts,
            execution_us = stages.execute.as_micros() as u64,
            "block"
        );
        Ok(block)
    }

    /// Checks what is in the pool against the head's state anew.
    pub(crate) fn reread_pool(&self) -> Result<(), MineError> {
        let state = self.chain.latest_state();
        let code_may_send = self.chain.spec().code_may_send();
        let accounts = Accounts { state: &state, code_may_send };
        let reread = self.pool.on_state_replaced(self.rules(), &accounts);
        // The pending block is not what it was.
        self.submissions.fetch_add(1, Ordering::Release);
        self.wake_simulations();
        reread
            .map_err(|error| MineError::Chain(ChainError::from(StateError::new(error.to_string()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Header, Sealed};
    use alloy_primitives::U256;

    fn block(base_fee: u64, prev_randao: B256) -> ChainBlock {
        let header =
            Header { base_fee_per_gas: Some(base_fee), mix_hash: prev_randao, ..Header::default() };
        let header = Sealed::new(header);
        ChainBlock::new(header, Vec::new(), Vec::new(), None, Vec::new(), U256::ZERO)
    }

    #[test]
    fn a_block_uses_up_what_it_was_made_with_and_not_what_was_set_meanwhile() {
        let (fee, randao) = (Some(7), Some(B256::repeat_byte(1)));
        let mut next = NextBlock { base_fee: fee, prev_randao: randao };
        let used = next.take_used_by(&block(7, B256::ZERO));
        assert_eq!((used.base_fee, used.prev_randao), (fee, None));
        assert_eq!((next.base_fee, next.prev_randao), (None, randao));

        next.base_fee = Some(8);
        next.put_back(used);
        assert_eq!(next.base_fee, Some(8), "what was set since goes first");
        next.base_fee = None;
        next.put_back(used);
        assert_eq!((next.base_fee, next.prev_randao), (fee, randao));
    }
}

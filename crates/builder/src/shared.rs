//! What the miner's handle and its thread share, and the next block as both see it.

use crate::{
    MineError,
    candidates::{Room, candidates, for_block},
    clock::Clock,
    head_follower::pool_rules,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use heddle_chain::{BlockAttributes, Chain, ChainBlock, ProducedBlock};
use heddle_evm::RecoveredTransaction;
use heddle_pool::{Pool, PooledTx};
use parking_lot::{Mutex, RwLock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

/// What the handle and the thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) chain: Arc<Chain>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Mutex<Clock>,
    pub(crate) automine: AtomicBool,
    pub(crate) interval: Mutex<Option<Duration>>,
    /// A wake-up is on its way; further ones would add nothing.
    pub(crate) woken: AtomicBool,
    pub(crate) coinbase: RwLock<Address>,
    pub(crate) gas_limit: RwLock<Option<u64>>,
    pub(crate) next: Mutex<NextBlock>,
    pub(crate) extra_data: Bytes,
    /// Count of accepted submissions: with the head, it names what the pending block is made of.
    pub(crate) submissions: AtomicU64,
    pub(crate) pending: Mutex<Option<PendingCache>>,
}

/// What is fixed for the next block only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NextBlock {
    pub(crate) base_fee: Option<u64>,
    pub(crate) prev_randao: Option<B256>,
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
        self.next.lock().base_fee.unwrap_or_else(|| self.chain.next_base_fee())
    }

    /// The block on the head with what the pool has now, to be committed. Nothing changes.
    pub(crate) fn produce(&self) -> Result<(ProducedBlock, Vec<Arc<PooledTx>>), MineError> {
        let attributes = self.attributes();
        let offered = self.candidates(&attributes);
        let produced = self.chain.produce(&attributes, for_block(&offered))?;
        Ok((produced, offered))
    }

    /// The same to be looked at.
    pub(crate) fn preview(&self) -> Result<ProducedBlock, MineError> {
        let attributes = self.attributes();
        let offered = self.candidates(&attributes);
        Ok(self.chain.preview(&attributes, for_block(&offered))?)
    }

    fn candidates(&self, attributes: &BlockAttributes) -> Vec<Arc<PooledTx>> {
        let room = Room::new(self.chain.spec(), attributes.gas_limit, attributes.timestamp);
        let (base_fee, blob_base_fee) = (self.next_base_fee(), self.chain.next_blob_base_fee());
        candidates(&self.pool, base_fee, blob_base_fee, room)
    }

    /// The block on the head with these transactions. Nothing changes.
    pub(crate) fn produce_of(
        &self,
        transactions: Vec<RecoveredTransaction>,
    ) -> Result<ProducedBlock, MineError> {
        Ok(self.chain.produce(&self.attributes(), transactions)?)
    }

    fn attributes(&self) -> BlockAttributes {
        let head = self.chain.head();
        let timestamp = self.clock.lock().peek(head.header.timestamp);
        let next = *self.next.lock();
        BlockAttributes {
            timestamp,
            beneficiary: *self.coinbase.read(),
            // No beacon chain here to be random: a value that contracts cannot foresee before
            // the parent, and that a re-run gives again.
            prev_randao: next.prev_randao.unwrap_or_else(|| {
                keccak256([head.hash().as_slice(), &timestamp.to_be_bytes()].concat())
            }),
            gas_limit: self.gas_limit(&head),
            withdrawals: Vec::new(),
            parent_beacon_block_root: B256::ZERO,
            extra_data: self.extra_data.clone(),
            base_fee: next.base_fee,
        }
    }
}

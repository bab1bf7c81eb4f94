//! The transactions that a block is offered.

use crate::ordering::{Placed, in_parallel_order};
use alloy_primitives::TxHash;
use heddle_chain::Offered;
use heddle_chainspec::ChainSpec;
use heddle_parallel::AccessHint;
use heddle_pool::{Pool, PooledTx};
use std::sync::Arc;

/// Room left for everything in a block that is not a transaction (EIP-7934 counts it too): header,
/// withdrawals and list prefixes take a few kilobytes.
const BLOCK_OVERHEAD_BYTES: usize = 64 << 10;

/// What a block has room for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    gas: u64,
    bytes: usize,
    blobs: u64,
}

impl Room {
    pub(crate) fn new(spec: &ChainSpec, gas_limit: u64, timestamp: u64) -> Self {
        Self {
            gas: gas_limit,
            bytes: spec
                .rlp_block_size_max(timestamp)
                .map_or(usize::MAX, |max| max.saturating_sub(BLOCK_OVERHEAD_BYTES)),
            blobs: spec.blob_params_at(timestamp).map_or(0, |params| params.max_blob_count),
        }
    }

    /// Takes the room that `tx` may need, if there is enough.
    fn take(&mut self, tx: &PooledTx) -> bool {
        let (gas, bytes, blobs) = (tx.gas_limit(), tx.encoded_length(), tx.blob_count() as u64);
        let fits = gas <= self.gas && bytes <= self.bytes && blobs <= self.blobs;
        if fits {
            self.gas -= gas;
            self.bytes -= bytes;
            self.blobs -= blobs;
        }
        fits
    }
}

/// The best transactions of the pool that fit together, by effective tip, then arrival, without those that the parent has
/// (`in_parent`). A transaction that does not fit leaves its sender's later ones out too.
pub(crate) fn candidates(
    pool: &Pool,
    base_fee: u64,
    blob_base_fee: u128,
    mut room: Room,
    in_parent: impl Fn(&TxHash) -> bool,
) -> Vec<Arc<PooledTx>> {
    /// Gas of the smallest transaction: with less room, looking on is in vain.
    const GAS_MIN: u64 = 21_000;
    let mut best = pool.best(base_fee, blob_base_fee);
    let mut taken = Vec::new();
    while room.gas >= GAS_MIN {
        let Some(tx) = best.next() else { break };
        if in_parent(&tx.hash()) {
            continue;
        }
        if room.take(&tx) {
            taken.push(tx);
        } else {
            best.mark_invalid(&tx);
        }
    }
    taken
}

/// What a block is offered of the pool, in order.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) candidates: Vec<Arc<PooledTx>>,
    /// Of each of them, or none at all.
    hints: Vec<Option<Arc<AccessHint>>>,
}

impl Offer {
    /// Candidates of which nothing is known.
    pub(crate) const fn new(candidates: Vec<Arc<PooledTx>>) -> Self {
        Self { candidates, hints: Vec::new() }
    }

    /// Candidates of which it is known what they touch, in the best order for so many workers.
    pub(crate) fn hinted(
        candidates: Vec<Arc<PooledTx>>,
        hints: &[Option<Arc<AccessHint>>],
        base_fee: u64,
        workers: usize,
    ) -> Self {
        if hints.iter().all(Option::is_none) {
            return Self::new(candidates);
        }
        let placed = candidates.iter().zip(hints).map(|(tx, hint)| Placed {
            sender: tx.sender(),
            // All of them can pay the base fee.
            tip: tx.effective_tip(base_fee).unwrap_or_default(),
            gas_limit: tx.gas_limit(),
            hint: hint.as_deref(),
        });
        let placed: Vec<_> = placed.collect();
        let order = in_parallel_order(&placed, workers);
        Self {
            candidates: order.iter().map(|index| candidates[*index].clone()).collect(),
            hints: order.iter().map(|index| hints[*index].clone()).collect(),
        }
    }

    /// How many of the candidates come with a hint.
    pub(crate) fn hints(&self) -> usize {
        self.hints.iter().flatten().count()
    }

    /// As the executor wants it.
    pub(crate) fn for_block(&self) -> Offered {
        let hint = |hint: &Option<Arc<AccessHint>>| hint.as_deref().cloned().unwrap_or_default();
        Offered {
            transactions: self.candidates.iter().map(|tx| tx.into_block_transaction()).collect(),
            hints: self.hints.iter().map(hint).collect(),
        }
    }
}

//! The transactions that a block is offered.

use alloy_primitives::TxHash;
use heddle_chainspec::ChainSpec;
use heddle_evm::RecoveredTransaction;
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

/// As the executor wants them.
pub(crate) fn for_block(candidates: &[Arc<PooledTx>]) -> Vec<RecoveredTransaction> {
    candidates.iter().map(|tx| tx.into_block_transaction()).collect()
}

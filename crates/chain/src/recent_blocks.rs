//! Blocks that were asked for or made last, decoded.

use crate::ChainBlock;
use lru::LruCache;
use std::{num::NonZeroUsize, sync::Arc};

/// Blocks that are kept at most.
const BLOCKS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("is not zero");

/// Transactions that they have together at most: a plain one takes some 1,100 bytes with its receipt. Five blocks of
/// 1,000,000,000 gas are full of that many.
const TRANSACTIONS_MAX: usize = 1 << 18;

/// Blocks of the chain by number.
#[derive(Debug)]
pub(crate) struct RecentBlocks {
    blocks: LruCache<u64, Arc<ChainBlock>>,
    transactions: usize,
}

impl Default for RecentBlocks {
    fn default() -> Self {
        Self { blocks: LruCache::new(BLOCKS_MAX), transactions: 0 }
    }
}

impl RecentBlocks {
    pub(crate) fn get(&mut self, number: u64) -> Option<&Arc<ChainBlock>> {
        self.blocks.get(&number)
    }

    /// Keeps a block, and lets go of those that were not asked for for the longest time.
    pub(crate) fn put(&mut self, block: Arc<ChainBlock>) {
        self.transactions += block.transactions.len();
        if let Some((_, replaced)) = self.blocks.push(block.number(), block) {
            self.transactions -= replaced.transactions.len();
        }
        while self.transactions > TRANSACTIONS_MAX {
            let Some((_, oldest)) = self.blocks.pop_lru() else { break };
            self.transactions -= oldest.transactions.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        self.transactions = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Header, Sealed, SignableTransaction, TxLegacy};
    use alloy_primitives::{Address, Signature, U256};
    use heddle_evm::RecoveredTransaction;

    fn block(number: u64, transactions: usize) -> Arc<ChainBlock> {
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let transaction = TxLegacy::default().into_signed(signature).into();
        let transaction = RecoveredTransaction::new_unchecked(transaction, Address::ZERO);
        let header = Sealed::new(Header { number, ..Header::default() });
        let transactions = vec![transaction; transactions];
        Arc::new(ChainBlock::new(header, transactions, Vec::new(), None, Vec::new(), U256::ZERO))
    }

    #[test]
    fn small_blocks_are_kept_by_number_and_large_ones_by_what_is_in_them() {
        let mut recent = RecentBlocks::default();
        for number in 0..100 {
            recent.put(block(number, 2));
        }
        assert_eq!(recent.transactions, 2 * BLOCKS_MAX.get());
        assert!(recent.get(35).is_none() && recent.get(36).is_some());

        recent.put(block(99, 3));
        assert_eq!(recent.transactions, 2 * BLOCKS_MAX.get() + 1, "the former one is gone");

        let large = TRANSACTIONS_MAX / 3;
        for number in 100..104 {
            recent.put(block(number, large));
        }
        assert_eq!((recent.blocks.len(), recent.transactions), (3, 3 * large));
        recent.put(block(104, TRANSACTIONS_MAX + 1));
        assert_eq!((recent.blocks.len(), recent.transactions), (0, 0), "larger than all of it");
        recent.put(block(105, 1));
        recent.clear();
        assert_eq!((recent.blocks.len(), recent.transactions), (0, 0));
    }
}

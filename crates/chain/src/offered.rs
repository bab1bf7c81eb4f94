//! What a block is made of.

use heddle_evm::RecoveredTransaction;
use heddle_parallel::AccessHint;

/// Transactions for a block, in order, and what is known of what they will touch.
#[derive(Debug, Clone, Default)]
pub struct Offered {
    /// The transactions.
    pub transactions: Vec<RecoveredTransaction>,
    /// Those of the first transactions, in the same order; an empty one says nothing. They save time, or cost some if they
    /// are wrong, and change no result.
    pub hints: Vec<AccessHint>,
}

impl From<Vec<RecoveredTransaction>> for Offered {
    fn from(transactions: Vec<RecoveredTransaction>) -> Self {
        Self { transactions, hints: Vec::new() }
    }
}

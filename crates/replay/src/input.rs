//! From a bundle to what executors take: rules, environment, transactions with their senders.

use crate::{Bundle, Mismatch, compare::transaction_hash};
use alloy_consensus::{
    Header,
    transaction::{Recovered, SignerRecoverable},
};
use heddle_chainspec::{ChainSpec, EthereumHardforks};
use heddle_evm::{BlockInput, InvalidTransactions, RecoveredTransaction, block_context};
use std::borrow::Cow;

/// The first of these rules that are for this chain. Where they name only a terminal total
/// difficulty, the block itself tells whether it is one of proof of stake.
pub(crate) fn find_rules<'a>(
    mut known: impl Iterator<Item = &'a ChainSpec>,
    chain_id: u64,
    header: &Header,
) -> Option<Cow<'a, ChainSpec>> {
    let spec = known.find(|spec| spec.chain_id() == chain_id)?;
    let merged_here = spec.merge_block().is_none()
        && spec.terminal_total_difficulty().is_some()
        && header.difficulty.is_zero();
    Some(if merged_here {
        Cow::Owned(spec.clone().with_merge_block(header.number))
    } else {
        Cow::Borrowed(spec)
    })
}

/// The block of a bundle with its recovered transactions, as executors take it.
pub(crate) fn block_input<'a>(
    bundle: &'a Bundle,
    spec: &ChainSpec,
    transactions: &'a [RecoveredTransaction],
) -> BlockInput<'a> {
    let Bundle { header, withdrawals, ommer_headers, .. } = bundle;
    let ommers = ommer_headers.as_deref().unwrap_or_default();
    BlockInput {
        env: spec.evm_env(header),
        ctx: block_context(header, ommers, withdrawals.as_deref()),
        transactions,
        invalid: InvalidTransactions::Reject,
    }
}

/// The transactions with their senders: recovered from the signature where there is one, and
/// compared with what the bundle says.
pub(crate) fn recover_senders(
    bundle: &Bundle,
    spec: &ChainSpec,
) -> Result<Vec<RecoveredTransaction>, Box<Mismatch>> {
    // Before Homestead (EIP-2) the upper half of signatures was valid too.
    let homestead = spec.is_homestead_active_at_block(bundle.header.number);
    let mut recovered = Vec::with_capacity(bundle.transactions.len());
    for (index, bundled) in bundle.transactions.iter().enumerate() {
        let mismatch = |field: &str, expected: String, found: String| {
            Box::new(Mismatch {
                transaction: Some(index),
                hash: transaction_hash(bundle, index),
                field: field.to_owned(),
                expected,
                found,
            })
        };
        let transaction = &bundled.transaction;
        let sender = if bundled.signed {
            let hash = *transaction.tx_hash();
            if let Some(given) = bundled.hash.filter(|given| *given != hash) {
                let expected = format!("{given}, the hash in the bundle");
                return Err(mismatch("hash", expected, format!("its fields hash to {hash}")));
            }
            let sender = if homestead {
                transaction.recover_signer()
            } else {
                transaction.recover_signer_unchecked()
            };
            let sender = sender.map_err(|error| {
                mismatch("signature", "a valid one".to_owned(), error.to_string())
            })?;
            if let Some(from) = bundled.from.filter(|from| *from != sender) {
                let expected = format!("{from}, as the bundle says");
                return Err(mismatch("from", expected, format!("{sender} signed it")));
            }
            Some(sender)
        } else {
            bundled.from
        };
        let Some(sender) = sender else {
            unreachable!("a bundle is read only if each transaction has sender or signature")
        };
        recovered.push(Recovered::new_unchecked(transaction.clone(), sender));
    }
    Ok(recovered)
}

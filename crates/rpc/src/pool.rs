//! What the pool holds, as `txpool_` shows it.

use std::{collections::BTreeMap, sync::Arc};

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, U64};
use alloy_rpc_types_txpool::{
    TxpoolContent, TxpoolContentFrom, TxpoolInspect, TxpoolInspectSummary,
};
use heddle_pool::PooledTx;
use serde_json::json;

use crate::{
    context::Context,
    convert::{self, RpcTransaction},
};

type ByNonce<T> = BTreeMap<String, T>;

fn by_nonce<T>(transactions: &[Arc<PooledTx>], convert: impl Fn(&PooledTx) -> T) -> ByNonce<T> {
    transactions.iter().map(|tx| (tx.nonce().to_string(), convert(tx))).collect()
}

/// Everything in the pool, split into pending and queued; senders without any are left out.
fn split<T>(
    context: &Context,
    convert: impl Fn(&PooledTx) -> T + Copy,
) -> (BTreeMap<Address, ByNonce<T>>, BTreeMap<Address, ByNonce<T>>) {
    let (mut pending, mut queued) = (BTreeMap::new(), BTreeMap::new());
    for (sender, content) in context.pool.content() {
        for (transactions, part) in
            [(&content.pending, &mut pending), (&content.queued, &mut queued)]
        {
            if !transactions.is_empty() {
                part.insert(sender, by_nonce(transactions, convert));
            }
        }
    }
    (pending, queued)
}

/// `txpool_status`.
pub(crate) fn status(context: &Context) -> serde_json::Value {
    let (pending, queued) = context.pool.status();
    json!({ "pending": U64::from(pending), "queued": U64::from(queued) })
}

/// `txpool_content`.
pub(crate) fn content(context: &Context) -> TxpoolContent<RpcTransaction> {
    let (pending, queued) = split(context, convert::pooled_transaction);
    TxpoolContent { pending, queued }
}

/// `txpool_contentFrom`.
pub(crate) fn content_from(
    context: &Context,
    sender: Address,
) -> TxpoolContentFrom<RpcTransaction> {
    let content = context.pool.content_from(sender);
    TxpoolContentFrom {
        pending: by_nonce(&content.pending, convert::pooled_transaction),
        queued: by_nonce(&content.queued, convert::pooled_transaction),
    }
}

/// `txpool_inspect`.
pub(crate) fn inspect(context: &Context) -> TxpoolInspect {
    let (pending, queued) = split(context, summary);
    TxpoolInspect { pending, queued }
}

fn summary(pooled: &PooledTx) -> TxpoolInspectSummary {
    let transaction = pooled.transaction();
    TxpoolInspectSummary {
        to: transaction.to(),
        value: transaction.value(),
        gas: transaction.gas_limit(),
        gas_price: transaction.max_fee_per_gas(),
    }
}

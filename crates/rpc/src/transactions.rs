//! Finding transactions, and taking them in.

use std::{sync::Arc, time::Duration};

use alloy_consensus::{
    Transaction as _,
    transaction::{Recovered, SignerRecoverable},
};
use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes};
use heddle_pool::{Origin, PoolTransaction, TxStatus};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    context::Context,
    convert::{self, RpcReceipt, RpcTransaction},
    errors::Failure,
    params::{BlockParam, Index, Number},
    trace::otterscan,
};

/// How long `eth_sendRawTransactionSync` and its like wait if the caller does not say (EIP-7966), as in geth.
const SYNC_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);
/// The longest that it waits, as in geth.
const SYNC_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How long `eth_sendTransaction` waits at most for the block that takes its transaction at once.
const INSTANT_BLOCK_TIME_MAX: Duration = Duration::from_secs(5);

/// `eth_getTransactionByHash`.
pub(crate) fn by_hash(context: &Context, hash: B256) -> Result<Option<RpcTransaction>, Failure> {
    if let Some((block, index)) = context.mined(hash)? {
        return Ok(convert::transaction(&block, index));
    }
    if let Some(pooled) = context.pool.get(&hash) {
        return Ok(Some(convert::pooled_transaction(&pooled)));
    }
    // It may have moved from the pool into a block between the two looks.
    Ok(context.mined(hash)?.and_then(|(block, index)| convert::transaction(&block, index)))
}

/// `eth_getTransactionByBlock…AndIndex`.
pub(crate) fn by_index(
    context: &Context,
    block: BlockParam,
    index: Index,
) -> Result<Option<RpcTransaction>, Failure> {
    let transaction = context.block(block)?.and_then(|found| convert::transaction(&found, index.0));
    Ok(transaction.map(|transaction| match block {
        BlockParam::Pending => RpcTransaction { block_hash: None, ..transaction },
        _ => transaction,
    }))
}

/// `eth_getTransactionBySenderAndNonce`: mined or in the pool, null if there is none.
pub(crate) fn by_sender_and_nonce(
    context: &Context,
    (sender, nonce): (Address, u64),
) -> Result<Option<RpcTransaction>, Failure> {
    if let Some(hash) = otterscan::by_sender_and_nonce(context, (sender, nonce))? {
        return by_hash(context, hash);
    }
    let pooled = context.pool.content_from(sender);
    let mut all = pooled.pending.iter().chain(&pooled.queued);
    Ok(all.find(|tx| tx.nonce() == nonce).map(|tx| convert::pooled_transaction(tx)))
}

/// `eth_getTransactionReceipt`.
pub(crate) fn receipt(context: &Context, hash: B256) -> Result<Option<RpcReceipt>, Failure> {
    let mined = context.mined(hash)?;
    Ok(mined.and_then(|(block, index)| convert::receipt(context.chain.spec(), &block, index)))
}

/// `eth_getRawTransactionByHash`, `debug_getRawTransaction`: null where there is none.
pub(crate) fn raw_by_hash(context: &Context, hash: B256) -> Result<Option<Bytes>, Failure> {
    if let Some((block, index)) = context.mined(hash)? {
        return Ok(block.transactions.get(index).map(|tx| tx.inner().encoded_2718().into()));
    }
    Ok(context.pool.get(&hash).map(|pooled| pooled.transaction().encoded_2718().into()))
}

/// `eth_getRawTransactionByBlock…AndIndex`.
pub(crate) fn raw_by_index(
    context: &Context,
    block: BlockParam,
    index: Index,
) -> Result<Option<Bytes>, Failure> {
    let block = context.block(block)?;
    Ok(block.and_then(|block| {
        block.transactions.get(index.0).map(|tx| tx.inner().encoded_2718().into())
    }))
}

/// `eth_sendRawTransaction`: answers when the transaction is filed, not when it is mined. Many in a batch: `ingress.rs`.
pub(crate) fn send_raw(context: &Context, raw: &Bytes) -> Result<B256, Failure> {
    // The pool knows which signatures the fork allows.
    let recovered = decode(context, raw)?.try_into_recovered_unchecked();
    submit_recovered(context, recovered.map_err(|_| no_signature())?)
}

/// Reads a signed transaction, if it may come over RPC. Deployers like the CREATE2 factory's depend on transactions
/// without replay protection, and on a development chain there is nothing to replay.
pub(crate) fn decode(context: &Context, raw: &Bytes) -> Result<PoolTransaction, Failure> {
    if raw.is_empty() {
        return Err(Failure::server("typed transaction too short"));
    }
    let transaction = PoolTransaction::decode_2718_exact(raw).map_err(Failure::server)?;
    if !context.dev && transaction.is_legacy() && transaction.chain_id().is_none() {
        return Err(Failure::server(
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ));
    }
    Ok(transaction)
}

pub(crate) fn no_signature() -> Failure {
    Failure::server("invalid sender: invalid transaction v, r, s values")
}

/// Whether taking in the transaction computes for long: verifying blobs takes milliseconds.
pub(crate) fn is_expensive(raw: &Bytes) -> bool {
    raw.first() == Some(&alloy_consensus::constants::EIP4844_TX_TYPE_ID)
}

/// Hands a transaction whose sender is known to the pool.
pub(crate) fn submit_recovered(
    context: &Context,
    transaction: Recovered<PoolTransaction>,
) -> Result<B256, Failure> {
    Ok(context.miner.submit(transaction, Origin::Local)?)
}

/// `eth_sendRawTransactionSync` (EIP-7966) and `eth_sendTransactionSync`: answers with the receipt of what `send` hands
/// to the pool.
pub(crate) async fn send_sync(
    context: Arc<Context>,
    timeout_ms: Option<Number>,
    send: impl FnOnce(&Context) -> Result<B256, Failure> + Send + 'static,
) -> Result<RpcReceipt, Failure> {
    let timeout = match timeout_ms {
        None | Some(Number(0)) => SYNC_TIMEOUT_DEFAULT,
        Some(Number(milliseconds)) => Duration::from_millis(milliseconds).min(SYNC_TIMEOUT_MAX),
    };
    // Before the transaction is there, so that its block cannot be missed.
    let mut heads = context.chain.subscribe();
    let sender = context.clone();
    let hash = context.compute(move || send(&sender)).await?;
    let mined = async {
        loop {
            if let Some(receipt) = receipt(&context, hash)? {
                return Ok(receipt);
            }
            match heads.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(Failure::server("the node is shutting down")),
            }
        }
    };
    tokio::time::timeout(timeout, mined).await.unwrap_or_else(|_| {
        Err(Failure::server(format!(
            "the transaction {hash} was added to the transaction pool but wasn't processed in {timeout:?}"
        )))
    })
}

/// `eth_sendTransaction` and `eth_sendUnsignedTransaction`: the hash of what `send` hands to the pool. Where a block is
/// made for every transaction, it answers when that block is there, as Hardhat does: whoever sends through an account of
/// the node looks at what came of it next, without asking for a receipt.
pub(crate) async fn send_instant(
    context: Arc<Context>,
    send: impl FnOnce(&Context) -> Result<B256, Failure> + Send + 'static,
) -> Result<B256, Failure> {
    // Before the transaction is there, so that its block cannot be missed.
    let mut heads = context.chain.subscribe();
    let sender = context.clone();
    let hash = context.compute(move || send(&sender)).await?;
    let mined = async {
        while context.miner.automine() && will_be_mined(&context, &hash) {
            if let Err(RecvError::Closed) = heads.recv().await {
                break;
            }
        }
    };
    // In the pool it is either way.
    let _ = tokio::time::timeout(INSTANT_BLOCK_TIME_MAX, mined).await;
    Ok(hash)
}

/// Whether a pooled transaction is not mined yet, but can be.
fn will_be_mined(context: &Context, hash: &B256) -> bool {
    let Some(pooled) = context.pool.get(hash) else { return false };
    let (base_fee, blob_base_fee) =
        (context.miner.next_base_fee(), context.chain.next_blob_base_fee());
    // The pool lets go of it a little later than the block shows it.
    !matches!(context.mined(*hash), Ok(Some(_)))
        && context.pool.status_of(hash) == Some(TxStatus::Pending)
        && pooled.is_executable_at(base_fee, blob_base_fee)
}

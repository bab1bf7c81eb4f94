//! Blocks and what is counted in them.

use std::sync::Arc;

use alloy_eips::Encodable2718;
use alloy_primitives::{Bytes, U64};
use alloy_rpc_types_eth::Header;
use heddle_evm::Receipt;

use crate::{
    context::Context,
    convert::{self, BlockReply, RpcBlock, RpcReceipt},
    errors::Failure,
    params::{BlockParam, Index},
};

/// `eth_getBlockByNumber` and `eth_getBlockByHash`.
pub(crate) fn block(
    context: &Context,
    block: BlockParam,
    full: bool,
) -> Result<Option<BlockReply>, Failure> {
    let Some(found) = context.block(block)? else { return Ok(None) };
    if block == BlockParam::Pending {
        return convert::pending_block(&found, full).map(Some);
    }
    Ok(Some(BlockReply::Sealed(Box::new(convert::block(&found, full)))))
}

/// `eth_getHeaderByNumber` and `eth_getHeaderByHash`.
pub(crate) fn header(context: &Context, block: BlockParam) -> Result<Option<Header>, Failure> {
    let block = context.block(block)?;
    Ok(block.map(|block| Header::from_consensus(block.header.clone(), None, None)))
}

/// `debug_setHead`: takes the blocks after this one off the chain.
pub(crate) async fn set_head(context: Arc<Context>, number: U64) -> Result<(), Failure> {
    let (number, head) = (number.to::<u64>(), context.chain.head().number());
    let depth = head.checked_sub(number).ok_or_else(|| {
        Failure::server(format!("block {number} is after the newest one, {head}"))
    })?;
    context.miner.rollback(depth).await.map_err(Failure::server)
}

/// `eth_getBlockTransactionCountBy…`.
pub(crate) fn transaction_count(
    context: &Context,
    block: BlockParam,
) -> Result<Option<U64>, Failure> {
    Ok(context.block(block)?.map(|block| U64::from(block.transactions.len())))
}

/// `eth_getUncleCountBy…`.
pub(crate) fn ommer_count(context: &Context, block: BlockParam) -> Result<Option<U64>, Failure> {
    Ok(context.block(block)?.map(|block| U64::from(block.ommers.len())))
}

/// `eth_getUncleBy…AndIndex`.
pub(crate) fn ommer(
    context: &Context,
    block: BlockParam,
    index: Index,
) -> Result<Option<RpcBlock>, Failure> {
    let block = context.block(block)?;
    Ok(block.and_then(|block| block.ommers.get(index.0).map(convert::ommer)))
}

/// `eth_getBlockReceipts`.
pub(crate) fn receipts(
    context: &Context,
    block: BlockParam,
) -> Result<Option<Vec<RpcReceipt>>, Failure> {
    Ok(context.block(block)?.map(|block| convert::receipts(context.chain.spec(), &block)))
}

/// `debug_getRawHeader`.
pub(crate) fn raw_header(context: &Context, block: BlockParam) -> Result<Bytes, Failure> {
    let number = context.number(block)?.ok_or_else(not_found)?;
    let header = context.chain.header_by_number(number)?.ok_or_else(not_found)?;
    Ok(alloy_rlp::encode(header.inner()).into())
}

/// `debug_getRawBlock`.
pub(crate) fn raw_block(context: &Context, block: BlockParam) -> Result<Bytes, Failure> {
    Ok(context.block(block)?.ok_or_else(not_found)?.rlp())
}

/// `debug_getRawReceipts`.
pub(crate) fn raw_receipts(context: &Context, block: BlockParam) -> Result<Vec<Bytes>, Failure> {
    let block = context.block(block)?.ok_or_else(not_found)?;
    let encode = |receipt: &Receipt| receipt.encoded_2718().into();
    Ok(block.receipts.iter().map(encode).collect())
}

/// `debug_getRawTransactions`.
pub(crate) fn raw_transactions(
    context: &Context,
    block: BlockParam,
) -> Result<Vec<Bytes>, Failure> {
    let block = context.block(block)?.ok_or_else(not_found)?;
    Ok(block.transactions.iter().map(|tx| tx.inner().encoded_2718().into()).collect())
}

fn not_found() -> Failure {
    Failure::server("block not found")
}

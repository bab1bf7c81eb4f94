//! From the chain's types to the ones on the wire.

use alloy_consensus::{Transaction as _, transaction::TransactionInfo};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log, Transaction, TransactionReceipt};
use heddle_chain::ChainBlock;
use heddle_chainspec::ChainSpec;
use heddle_evm::{Receipt, RecoveredTransaction, Transaction as BlockTransaction};
use heddle_pool::PooledTx;
use serde::Serialize;
use serde_json::Value;

use crate::errors::Failure;

/// A transaction as clients get it.
pub(crate) type RpcTransaction = Transaction<BlockTransaction>;
/// A block as clients get it.
pub(crate) type RpcBlock = Block<RpcTransaction>;
/// A receipt as clients get it.
pub(crate) type RpcReceipt = TransactionReceipt<alloy_consensus::ReceiptEnvelope<Log>>;

/// A block on the chain, or the pending one, which has no hash yet.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum BlockReply {
    Sealed(Box<RpcBlock>),
    Pending(Value),
}

/// The block with its transactions in full or as hashes.
pub(crate) fn block(block: &ChainBlock, full: bool) -> RpcBlock {
    let transactions = if full {
        BlockTransactions::Full(
            (0..block.transactions.len()).filter_map(|index| transaction(block, index)).collect(),
        )
    } else {
        BlockTransactions::Hashes(
            block.transactions.iter().map(|tx| *tx.inner().tx_hash()).collect(),
        )
    };
    Block {
        header: header(block),
        uncles: block.ommers.iter().map(|ommer| ommer.hash_slow()).collect(),
        transactions,
        withdrawals: block.withdrawals.clone().map(Withdrawals::new),
    }
}

/// The pending block. As in geth, what only sealing decides is null.
pub(crate) fn pending_block(pending: &ChainBlock, full: bool) -> Result<BlockReply, Failure> {
    let mut reply = block(pending, full);
    if let BlockTransactions::Full(transactions) = &mut reply.transactions {
        for transaction in transactions {
            transaction.block_hash = None;
        }
    }
    let mut reply = serde_json::to_value(reply).map_err(Failure::server)?;
    for field in ["hash", "nonce"] {
        reply[field] = Value::Null;
    }
    Ok(BlockReply::Pending(reply))
}

/// The header as `eth_subscribe` and blocks show it.
pub(crate) fn header(block: &ChainBlock) -> Header {
    Header::from_consensus(block.header.clone(), None, Some(U256::from(block.size)))
}

/// An ommer as `eth_getUncleBy…` shows it: a block without transactions.
pub(crate) fn ommer(header: &alloy_consensus::Header) -> RpcBlock {
    Block::uncle_from_header(header.clone())
}

/// The transaction at `index` of the block.
pub(crate) fn transaction(block: &ChainBlock, index: usize) -> Option<RpcTransaction> {
    let transaction = block.transactions.get(index)?;
    let info = block.transaction_info(index);
    Some(Transaction::from_transaction(transaction.clone(), info))
}

/// A transaction that waits in the pool.
pub(crate) fn pooled_transaction(pooled: &PooledTx) -> RpcTransaction {
    Transaction::from_transaction(pooled.into_block_transaction(), TransactionInfo::default())
}

/// All receipts of the block.
pub(crate) fn receipts(spec: &ChainSpec, block: &ChainBlock) -> Vec<RpcReceipt> {
    let mut gas_before = 0;
    let mut logs_before = 0;
    let blob_gas_price = spec.blob_base_fee(&block.header);
    let pairs = block.transactions.iter().zip(&block.receipts).enumerate();
    let convert = |(index, (transaction, receipt)): (usize, (&RecoveredTransaction, &Receipt))| {
        let place = Place { block, index, gas_before, logs_before, blob_gas_price };
        gas_before = receipt.cumulative_gas_used();
        logs_before += receipt.logs().len();
        place.receipt(transaction, receipt)
    };
    pairs.map(convert).collect()
}

/// The receipt of the transaction at `index` of the block.
pub(crate) fn receipt(spec: &ChainSpec, block: &ChainBlock, index: usize) -> Option<RpcReceipt> {
    let (transaction, receipt) = (block.transactions.get(index)?, block.receipts.get(index)?);
    let place = Place {
        block,
        index,
        gas_before: index
            .checked_sub(1)
            .map_or(0, |before| block.receipts[before].cumulative_gas_used()),
        logs_before: block.receipts[..index].iter().map(|receipt| receipt.logs().len()).sum(),
        blob_gas_price: spec.blob_base_fee(&block.header),
    };
    Some(place.receipt(transaction, receipt))
}

/// Where a receipt stands, and what came before it.
struct Place<'a> {
    block: &'a ChainBlock,
    index: usize,
    gas_before: u64,
    logs_before: usize,
    blob_gas_price: Option<u128>,
}

impl Place<'_> {
    fn receipt(&self, transaction: &RecoveredTransaction, receipt: &Receipt) -> RpcReceipt {
        let hash = *transaction.inner().tx_hash();
        let mut log_index = self.logs_before;
        let inner = receipt.clone().map_logs(|log| {
            let log = self.log(log, hash, log_index);
            log_index += 1;
            log
        });
        let from = transaction.signer();
        let blob_gas_used = transaction.blob_gas_used();
        TransactionReceipt {
            inner,
            transaction_hash: hash,
            transaction_index: Some(self.index as u64),
            block_hash: Some(self.block.hash()),
            block_number: Some(self.block.number()),
            gas_used: receipt.cumulative_gas_used().saturating_sub(self.gas_before),
            effective_gas_price: transaction
                .effective_gas_price(self.block.header.base_fee_per_gas),
            blob_gas_used,
            blob_gas_price: blob_gas_used.and(self.blob_gas_price),
            from,
            to: transaction.to(),
            contract_address: transaction
                .kind()
                .is_create()
                .then(|| from.create(transaction.nonce())),
        }
    }

    fn log(&self, inner: alloy_primitives::Log, transaction: B256, log_index: usize) -> Log {
        Log {
            inner,
            block_hash: Some(self.block.hash()),
            block_number: Some(self.block.number()),
            block_timestamp: Some(self.block.header.timestamp),
            transaction_hash: Some(transaction),
            transaction_index: Some(self.index as u64),
            log_index: Some(log_index as u64),
            removed: false,
        }
    }
}

/// Calls `each` with the logs of the block that `matches` accepts, in order; `removed` is their mark.
pub(crate) fn for_each_log(
    block: &ChainBlock,
    removed: bool,
    mut matches: impl FnMut(&alloy_primitives::Log) -> bool,
    mut each: impl FnMut(Log),
) {
    let mut log_index = 0;
    for (index, (transaction, receipt)) in
        block.transactions.iter().zip(&block.receipts).enumerate()
    {
        let place = Place { block, index, gas_before: 0, logs_before: 0, blob_gas_price: None };
        for log in receipt.logs() {
            if matches(log) {
                let log = place.log(log.clone(), *transaction.inner().tx_hash(), log_index);
                each(Log { removed, ..log });
            }
            log_index += 1;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

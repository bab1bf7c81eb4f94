//! `testing_…`: blocks out of given transactions, for test suites. Off unless asked for.

use std::sync::Arc;

use alloy_consensus::{Transaction as _, transaction::SignerRecoverable};
use alloy_eips::{
    Decodable2718, eip4844::Bytes48, eip4895::Withdrawal, eip7594::BlobTransactionSidecarVariant,
    eip7685::Requests,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rpc_types_engine::{BlobsBundleV2, ExecutionPayload};
use heddle_chain::{BlockAttributes, ChainBlock, ChainError, ProducedBlock};
use heddle_evm::{
    ExecutionError, InvalidTransactions, RecoveredTransaction, Transaction, TransactionError,
};
use heddle_pool::PoolTransaction;
use revm::context::result::EVMError;
use serde::{Deserialize, Serialize};

use crate::{
    call::{Refused, refused},
    context::Context,
    errors::{Failure, INVALID_PARAMS},
    params::{Args, Argument, BlockParam, from_json},
};

/// Where the gas limit of a built block goes if neither the caller nor the node's configuration says. As in geth.
const GAS_LIMIT_TARGET: u64 = 60_000_000;
/// Most extra data of a block (yellow paper).
const EXTRA_DATA_BYTES_MAX: usize = 32;

/// What a consensus client decides about a block.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PayloadAttributes {
    #[serde(with = "alloy_serde::quantity")]
    timestamp: u64,
    prev_randao: B256,
    suggested_fee_recipient: Address,
    withdrawals: Option<Vec<Withdrawal>>,
    parent_beacon_block_root: Option<B256>,
    #[serde(default, with = "alloy_serde::quantity::opt")]
    target_gas_limit: Option<u64>,
}

impl Argument for PayloadAttributes {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// Signed transactions, encoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Encoded(Vec<Bytes>);

impl Argument for Encoded {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// What is to be in the block.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    attributes: PayloadAttributes,
    /// `None` for what the pool has.
    transactions: Option<Encoded>,
    extra_data: Option<Bytes>,
}

impl Contents {
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        let contents = Self {
            attributes: args.required()?,
            transactions: args.optional()?,
            extra_data: args.optional()?,
        };
        match &contents.extra_data {
            Some(data) if data.len() > EXTRA_DATA_BYTES_MAX => Err(Failure::params(format!(
                "extra data has {} bytes, more than {EXTRA_DATA_BYTES_MAX}",
                data.len()
            ))),
            _ => Ok(contents),
        }
    }
}

/// The answer of `testing_buildBlockV1`, in the form of the Engine API's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    execution_payload: ExecutionPayload,
    block_value: U256,
    blobs_bundle: BlobsBundleV2,
    execution_requests: Requests,
    should_override_builder: bool,
}

/// `testing_buildBlockV1`. The chain stays as it is.
pub(crate) fn build(
    context: &Context,
    (parent, contents): (B256, Contents),
) -> Result<Envelope, Failure> {
    let parent = context
        .number(BlockParam::Hash(parent))?
        .ok_or_else(|| Failure::Coded { code: INVALID_PARAMS, message: "unknown parent".into() })?;
    let (built, sidecars) = build_on(context, parent, contents)?;
    let block = &built.block;
    let mut blobs_bundle = BlobsBundleV2::default();
    for sidecar in sidecars {
        blobs_bundle.commitments.extend(sidecar.commitments());
        blobs_bundle.proofs.extend(proofs(&sidecar));
        blobs_bundle.blobs.extend(sidecar.blobs());
    }
    let (execution_payload, _) =
        ExecutionPayload::from_block_unchecked(block.hash(), &block.to_block());
    Ok(Envelope {
        execution_payload,
        block_value: value(block),
        blobs_bundle,
        execution_requests: built.requests.clone(),
        should_override_builder: false,
    })
}

fn proofs(sidecar: &BlobTransactionSidecarVariant) -> Vec<Bytes48> {
    match sidecar {
        BlobTransactionSidecarVariant::Eip4844(sidecar) => sidecar.proofs.clone(),
        BlobTransactionSidecarVariant::Eip7594(sidecar) => sidecar.cell_proofs.clone(),
    }
}

/// What the tips of a block come to.
fn value(block: &ChainBlock) -> U256 {
    let base_fee = block.header.base_fee_per_gas;
    let mut gas_before = 0;
    let tips = block.transactions.iter().zip(&block.receipts).map(|(transaction, receipt)| {
        let gas = receipt.cumulative_gas_used() - gas_before;
        gas_before = receipt.cumulative_gas_used();
        let price = transaction.effective_gas_price(base_fee);
        U256::from(price - u128::from(base_fee.unwrap_or_default()).min(price)) * U256::from(gas)
    });
    tips.fold(U256::ZERO, U256::saturating_add)
}

/// `testing_commitBlockV1`: the block becomes the head.
pub(crate) async fn commit(context: Arc<Context>, contents: Contents) -> Result<B256, Failure> {
    let builder = context.clone();
    let block = context
        .work
        .run(move || {
            let head = builder.chain.head().number();
            Ok(build_on(&builder, head, contents)?.0.block.to_block())
        })
        .await?;
    let imported = context.miner.import(block).await.map_err(Failure::server)?;
    Ok(imported.hash)
}

fn build_on(
    context: &Context,
    parent: u64,
    contents: Contents,
) -> Result<(ProducedBlock, Vec<BlobTransactionSidecarVariant>), Failure> {
    let Contents { attributes, transactions, extra_data } = contents;
    let header = context.chain.header_by_number(parent)?;
    let header = header.ok_or_else(|| Failure::server("header not found"))?;
    let configured = || context.miner.gas_limit_configured().unwrap_or(GAS_LIMIT_TARGET);
    let target = attributes.target_gas_limit.unwrap_or_else(configured);
    let attributes = BlockAttributes {
        timestamp: attributes.timestamp,
        beneficiary: attributes.suggested_fee_recipient,
        prev_randao: attributes.prev_randao,
        gas_limit: context.chain.spec().next_gas_limit(&header, target),
        withdrawals: attributes.withdrawals.unwrap_or_default(),
        parent_beacon_block_root: attributes.parent_beacon_block_root.unwrap_or_default(),
        extra_data: extra_data.unwrap_or_else(|| context.miner.extra_data().clone()),
        base_fee: None,
    };
    let blobs_max = context
        .chain
        .spec()
        .blob_params_at(attributes.timestamp)
        .map_or(0, |params| params.max_blob_count);
    let (offered, invalid) = match transactions {
        Some(encoded) => (decode(&encoded)?, InvalidTransactions::Reject),
        None => (from_pool(context, attributes.gas_limit, blobs_max), InvalidTransactions::Skip),
    };
    let blobs: usize = offered.iter().map(|(tx, _)| blobs_of(tx)).sum();
    if blobs as u64 > blobs_max {
        return Err(Failure::server(format!(
            "{blobs} blobs are more than the {blobs_max} of a block"
        )));
    }
    let transactions: Vec<_> = offered.iter().map(|(tx, _)| tx.clone()).collect();
    let built = context
        .chain
        .build_on(parent, &attributes, transactions, invalid)
        .map_err(|error| failure(error, &offered))?;
    let skipped: Vec<usize> = built.skipped.iter().map(|skipped| skipped.index).collect();
    let taken = offered.into_iter().enumerate().filter(|(index, _)| !skipped.contains(index));
    let sidecars = taken.filter_map(|(_, (_, sidecar))| sidecar).collect();
    Ok((built, sidecars))
}

/// A transaction, and its blobs if it has any.
type Offered = (RecoveredTransaction, Option<BlobTransactionSidecarVariant>);

fn blobs_of(transaction: &RecoveredTransaction) -> usize {
    transaction.blob_versioned_hashes().map_or(0, <[B256]>::len)
}

fn decode(encoded: &Encoded) -> Result<Vec<Offered>, Failure> {
    let decode = |raw: &Bytes| {
        // Blob transactions may come as they do to the pool, or as a block has them.
        let decoded = PoolTransaction::decode_2718_exact(raw);
        let Ok(transaction) = decoded else {
            let transaction = Transaction::decode_2718_exact(raw).map_err(Failure::params)?;
            return Ok((recover(transaction)?, None));
        };
        let sidecar = transaction.as_eip4844().map(|signed| signed.tx().sidecar.clone());
        Ok((recover(transaction.into())?, sidecar))
    };
    encoded.0.iter().map(decode).collect()
}

fn recover(transaction: Transaction) -> Result<RecoveredTransaction, Failure> {
    transaction
        .try_into_recovered()
        .map_err(|_| Failure::server("invalid sender: invalid transaction v, r, s values"))
}

/// The best of what the pool has, as far as there is room.
fn from_pool(context: &Context, mut gas: u64, mut blobs: u64) -> Vec<Offered> {
    let (chain, pool) = (&context.chain, &context.pool);
    let mut best = pool.best(chain.next_base_fee(), chain.next_blob_base_fee());
    let mut taken = Vec::new();
    while let Some(pooled) = best.next() {
        let count = pooled.blob_count() as u64;
        if pooled.gas_limit() > gas || count > blobs {
            best.mark_invalid(&pooled);
            continue;
        }
        gas -= pooled.gas_limit();
        blobs -= count;
        let sidecar = pooled.transaction().as_eip4844().map(|signed| signed.tx().sidecar.clone());
        taken.push((pooled.into_block_transaction(), sidecar));
    }
    taken
}

/// geth's words for a transaction that cannot be in the block.
fn failure(error: ChainError, offered: &[Offered]) -> Failure {
    let ChainError::Execution(ExecutionError::InvalidTransaction { index, reason, .. }) = error
    else {
        return Failure::server(error);
    };
    let Some((transaction, _)) = offered.get(index) else { return Failure::server(reason) };
    match reason {
        TransactionError::Invalid(invalid) => {
            let (caller, max_fee) = (transaction.signer(), transaction.max_fee_per_gas());
            match refused(EVMError::Transaction(invalid), caller, max_fee, 0) {
                Refused::Invalid(reason) => Failure::server(reason),
                Refused::Failed(failure) => failure,
            }
        }
        other => Failure::server(other),
    }
}

#[cfg(test)]
mod tests;

//! Receipts from execution results.

use crate::{Receipt, Transaction};
use alloy_consensus::{Eip658Value, ReceiptWithBloom, TxType};
use alloy_evm::{
    Evm,
    eth::receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
};
use alloy_primitives::{Bloom, Log};

/// Builds [`Receipt`]s for transactions without sidecars.
#[derive(Debug, Default, Clone, Copy)]
pub struct HeddleReceiptBuilder;

impl ReceiptBuilder for HeddleReceiptBuilder {
    type Transaction = Transaction;
    type Receipt = Receipt;

    fn build_receipt<E: Evm>(&self, ctx: ReceiptBuilderCtx<'_, TxType, E>) -> Receipt {
        let success = ctx.result.is_success();
        let logs = ctx.result.into_logs();
        let bloom = logs.iter().collect();
        build_receipt(ctx.tx_type, success, ctx.cumulative_gas_used, logs, bloom)
    }
}

/// A receipt of the given type; `bloom` must be the bloom of `logs`.
pub fn build_receipt(
    tx_type: TxType,
    success: bool,
    cumulative_gas_used: u64,
    logs: Vec<Log>,
    bloom: Bloom,
) -> Receipt {
    let receipt = alloy_consensus::Receipt {
        status: Eip658Value::Eip658(success),
        cumulative_gas_used,
        logs,
    };
    let receipt = ReceiptWithBloom { receipt, logs_bloom: bloom };
    match tx_type {
        TxType::Legacy => Receipt::Legacy(receipt),
        TxType::Eip2930 => Receipt::Eip2930(receipt),
        TxType::Eip1559 => Receipt::Eip1559(receipt),
        TxType::Eip4844 => Receipt::Eip4844(receipt),
        TxType::Eip7702 => Receipt::Eip7702(receipt),
    }
}

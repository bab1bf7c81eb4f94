//! Receipts from execution results.

use crate::{Receipt, Transaction};
use alloy_consensus::{Eip658Value, ReceiptWithBloom, TxType};
use alloy_evm::{
    Evm,
    eth::receipt_builder::{ReceiptBuilder, ReceiptBuilderCtx},
};
use alloy_primitives::{B256, Bloom, Log, keccak256};
use std::fmt;

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

/// Blooms of logs, with the hashes of what most logs share: the contract that wrote them and the
/// event's signature.
///
/// An entry is where the last byte of its item says; an item that meets another there is hashed
/// anew, which costs what it would cost without.
pub struct LogBlooms {
    hashes: Box<[(Item, B256); Self::ENTRIES]>,
}

/// An address, or a topic: address first, zeros behind it, then its length.
type Item = ([u8; 32], usize);

impl LogBlooms {
    /// One for each value of a byte.
    const ENTRIES: usize = 256;

    /// The bloom of a receipt with these logs.
    pub fn bloom(&mut self, logs: &[Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in logs {
            self.accrue(&mut bloom, log.address.as_slice());
            for topic in log.data.topics() {
                self.accrue(&mut bloom, topic.as_slice());
            }
        }
        bloom
    }

    /// `bytes` are an address's or a topic's.
    fn accrue(&mut self, bloom: &mut Bloom, bytes: &[u8]) {
        let mut item = ([0; 32], bytes.len());
        item.0[..bytes.len()].copy_from_slice(bytes);
        let entry = &mut self.hashes[usize::from(bytes[bytes.len() - 1])];
        if entry.0 != item {
            *entry = (item, keccak256(bytes));
        }
        bloom.m3_2048_hashed(&entry.1);
    }
}

impl Default for LogBlooms {
    fn default() -> Self {
        // No item has the length zero.
        Self { hashes: Box::new([(([0; 32], 0), B256::ZERO); Self::ENTRIES]) }
    }
}

impl fmt::Debug for LogBlooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogBlooms").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, Bytes};

    #[test]
    fn remembered_hashes_give_the_bloom_that_hashing_everything_gives() {
        let mut blooms = LogBlooms::default();
        for round in 0..600_u64 {
            // Items that share their last byte, and an address that is the start of a topic.
            let address = Address::left_padding_from(&(round % 7 * 256).to_be_bytes());
            let mut topic = B256::ZERO;
            topic[..20].copy_from_slice(address.as_slice());
            let topics = vec![topic, B256::left_padding_from(&(round * 31).to_be_bytes())];
            let logs = [
                Log::new_unchecked(address, topics, Bytes::new()),
                Log::new_unchecked(address, Vec::new(), Bytes::new()),
            ];
            assert_eq!(blooms.bloom(&logs), logs.iter().collect::<Bloom>(), "round {round}");
        }
        assert_eq!(blooms.bloom(&[]), Bloom::ZERO);
    }
}

use super::*;
use alloy_consensus::{Sealed, transaction::SignerRecoverable};
use alloy_eips::Decodable2718;
use alloy_primitives::Bytes;
use alloy_rlp::Decodable;
use heddle_evm::Block as ConsensusBlock;

/// Block 3 of the execution-apis test chain: legacy transactions before Byzantium, one with a log, and an ommer.
pub(crate) fn block_3() -> (ChainBlock, Value) {
    let data: Value = serde_json::from_str(include_str!("../../tests/data/block-3.json")).unwrap();
    let raw: Bytes = serde_json::from_value(data["rawBlock"].clone()).unwrap();
    let receipts: Vec<Bytes> = serde_json::from_value(data["rawReceipts"].clone()).unwrap();
    let decoded = ConsensusBlock::decode(&mut raw.as_ref()).unwrap();
    let block = ChainBlock {
        header: Sealed::new(decoded.header),
        transactions: decoded
            .body
            .transactions
            .into_iter()
            .map(|tx| tx.try_into_recovered().unwrap())
            .collect(),
        ommers: decoded.body.ommers,
        withdrawals: decoded.body.withdrawals.map(Withdrawals::into_inner),
        receipts: receipts
            .iter()
            .map(|receipt| Receipt::decode_2718(&mut receipt.as_ref()).unwrap())
            .collect(),
        total_difficulty: U256::ZERO,
        size: raw.len(),
    };
    (block, data)
}

#[test]
fn a_legacy_transaction_looks_as_the_execution_apis_tests_expect() {
    let (block, data) = block_3();
    let transaction = serde_json::to_value(transaction(&block, 0)).unwrap();
    assert_eq!(transaction, data["transaction"]);
    assert!(super::transaction(&block, block.transactions.len()).is_none());
}

#[test]
fn a_receipt_looks_as_the_execution_apis_tests_expect() {
    let (block, data) = block_3();
    let spec = ChainSpec::mainnet();
    let first = serde_json::to_value(receipt(&spec, &block, 0)).unwrap();
    assert_eq!(first, data["receipt"]);
    assert!(receipt(&spec, &block, block.transactions.len()).is_none());
}

#[test]
fn a_receipt_alone_is_the_same_as_among_all() {
    let (mut block, _) = block_3();
    // More of the same, so that indexes and sums are not all zero.
    block.transactions.extend(block.transactions.clone());
    block.receipts.extend(block.receipts.clone());
    let spec = ChainSpec::mainnet();
    let all = receipts(&spec, &block);
    assert_eq!(all.len(), block.transactions.len());
    for (index, among_all) in all.iter().enumerate() {
        assert_eq!(receipt(&spec, &block, index).as_ref(), Some(among_all));
    }
    let log_indexes: Vec<_> = all
        .iter()
        .flat_map(|receipt| receipt.inner.logs())
        .map(|log| log.log_index.unwrap())
        .collect();
    assert_eq!(log_indexes, (0..log_indexes.len() as u64).collect::<Vec<_>>());
}

#[test]
fn logs_of_a_block_are_those_of_its_receipts() {
    let (block, _) = block_3();
    let mut logs = Vec::new();
    for_each_log(&block, false, |_| true, |log| logs.push(log));
    let spec = ChainSpec::mainnet();
    let of_receipts: Vec<Log> =
        receipts(&spec, &block).iter().flat_map(|receipt| receipt.inner.logs().to_vec()).collect();
    assert_eq!(logs, of_receipts);
    assert!(!logs.is_empty());
    let mut removed = 0;
    for_each_log(&block, true, |_| true, |log| removed += usize::from(log.removed));
    assert_eq!(removed, logs.len());
}

#[test]
fn blocks_show_transactions_or_hashes_and_pending_ones_no_hash() {
    let (block, _) = block_3();
    let hashes = serde_json::to_value(super::block(&block, false)).unwrap();
    let full = serde_json::to_value(super::block(&block, true)).unwrap();
    assert_eq!(hashes["number"], "0x3");
    assert_eq!(hashes["transactions"][0], full["transactions"][0]["hash"]);
    assert_eq!(hashes["uncles"].as_array().unwrap().len(), 1);
    assert!(hashes.get("withdrawals").is_none(), "not before Shanghai");
    assert!(hashes.get("baseFeePerGas").is_none(), "not before London");
    let size = U256::from(block.rlp().len());
    assert_eq!(hashes["size"], serde_json::to_value(size).unwrap());

    let BlockReply::Pending(pending) = pending_block(&block, true).unwrap() else {
        panic!("not pending")
    };
    for field in ["hash", "nonce"] {
        assert_eq!(pending[field], Value::Null);
    }
    assert_eq!(pending["transactions"][0]["blockHash"], Value::Null);
    assert_eq!(pending["number"], "0x3");
}

use super::*;
use crate::context::testing::{dev_context, first_signer};
use alloy_primitives::Address;
use alloy_rpc_types_eth::TransactionRequest;
use std::time::Duration;

async fn mine(context: &Context, blocks: u64) -> Vec<B256> {
    let mined = context.miner.mine(blocks, None, None).await.unwrap();
    mined.iter().map(|block| block.hash()).collect()
}

fn hashes(context: &Context, id: U128) -> Vec<B256> {
    match context.filters.changes(context, id.to()).unwrap() {
        Changes::Hashes(hashes) => hashes,
        Changes::Logs(logs) => panic!("logs: {logs:?}"),
    }
}

#[tokio::test]
async fn a_block_filter_reports_each_block_once_and_new_ones_after_a_reorganisation() {
    let context = dev_context(RpcLimits::default());
    mine(&context, 2).await;
    let filter = context.filters.new_block_filter(&context).unwrap();
    assert!(hashes(&context, filter).is_empty());
    let snapshot = context.miner.snapshot().await.unwrap();
    let first = mine(&context, 3).await;
    assert_eq!(hashes(&context, filter), first);
    assert!(hashes(&context, filter).is_empty());

    context.miner.increase_time(1_000).unwrap();
    assert!(context.miner.revert(snapshot).await.unwrap());
    assert!(hashes(&context, filter).is_empty());
    context.miner.increase_time(2_000).unwrap();
    let second = mine(&context, 1).await;
    assert_ne!(first[0], second[0]);
    assert_eq!(hashes(&context, filter), second);
}

#[tokio::test]
async fn a_pending_transaction_filter_reports_what_came_after_it() {
    let context = dev_context(RpcLimits { pending_hashes_max: 2, ..Default::default() });
    let from = first_signer().address();
    let send = |value: u64| {
        let request = TransactionRequest {
            from: Some(from),
            to: Some(Address::repeat_byte(9).into()),
            value: Some(alloy_primitives::U256::from(value)),
            ..Default::default()
        };
        crate::accounts::send(&context, request).unwrap()
    };
    send(1);
    let filter = context.filters.new_transaction_filter(&context).unwrap();
    let second = send(2);
    assert_eq!(hashes(&context, filter), [second]);
    let later = [send(3), send(4), send(5)];
    assert_eq!(hashes(&context, filter), later[1..], "only the latest are remembered");
    assert!(hashes(&context, filter).is_empty());
}

#[tokio::test]
async fn filters_are_limited_in_number_and_forgotten_when_nobody_asks() {
    let limits = RpcLimits {
        filters_max: 2,
        filter_lifetime: Duration::from_millis(100),
        ..Default::default()
    };
    let context = dev_context(limits);
    let first = context.filters.new_block_filter(&context).unwrap();
    context.filters.new_block_filter(&context).unwrap();
    assert_eq!(context.filters.new_block_filter(&context).unwrap_err().code(), -32005);
    assert!(context.filters.uninstall(first.to()));
    assert!(!context.filters.uninstall(first.to()));
    let third = context.filters.new_block_filter(&context).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = context.filters.changes(&context, third.to()).unwrap_err();
    assert_eq!(error.to_string(), "filter not found");
}

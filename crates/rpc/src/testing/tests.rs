use super::*;
use crate::{
    RpcLimits,
    context::testing::{dev_context, first_signer, send},
    transactions,
};
use jsonrpsee::types::Params;
use serde_json::json;

/// The arguments for a block one second after the head.
fn contents(context: &Context, transactions: &serde_json::Value) -> Contents {
    let timestamp = context.chain.head().header.timestamp + 1;
    let attributes = json!({
        "timestamp": format!("{timestamp:#x}"),
        "prevRandao": B256::repeat_byte(7),
        "suggestedFeeRecipient": Address::repeat_byte(8),
        "withdrawals": [],
        "parentBeaconBlockRoot": B256::ZERO,
    });
    let params = json!([attributes, transactions, "0x1234"]).to_string();
    let params = Params::new(Some(&params));
    Contents::parse(&mut Args::new(&params, 3).unwrap()).unwrap()
}

#[tokio::test]
async fn a_built_block_leaves_the_chain_alone_and_a_committed_one_becomes_the_head() {
    let context = dev_context(RpcLimits::default());
    let hash = send(&context, &json!({"to": Address::repeat_byte(1), "value": "0x5"}).to_string());
    let raw = transactions::raw_by_hash(&context, hash).unwrap().unwrap();
    let genesis = context.chain.head().hash();
    for transactions in [json!(null), json!([raw])] {
        let built = build(&context, (genesis, contents(&context, &transactions))).unwrap();
        let payload = serde_json::to_value(&built).unwrap()["executionPayload"].clone();
        assert_eq!(payload["transactions"], json!([raw]));
        assert_eq!(payload["extraData"], "0x1234");
        assert!(built.block_value > U256::ZERO);
        assert_eq!(context.chain.head().number(), 0);
    }
    let empty = build(&context, (genesis, contents(&context, &json!([])))).unwrap();
    let payload = serde_json::to_value(&empty).unwrap()["executionPayload"].clone();
    assert_eq!((&payload["transactions"], empty.block_value), (&json!([]), U256::ZERO));

    let committed = contents(&context, &json!([raw]));
    let head = commit(context.clone(), committed).await.unwrap();
    assert_eq!(context.chain.head().hash(), head);
    assert_eq!(context.chain.head().header.beneficiary, Address::repeat_byte(8));
    assert!(transactions::receipt(&context, hash).unwrap().is_some());
    assert_eq!(context.pool.status(), (0, 0), "the pool follows");
    let again = contents(&context, &json!([raw]));
    let refused = commit(context.clone(), again).await.unwrap_err().to_string();
    let sender = first_signer().address();
    assert_eq!(refused, format!("nonce too low: address {sender}, tx: 0 state: 1"));
    assert_eq!(context.chain.head().hash(), head);
}

#[tokio::test]
async fn a_block_on_an_unknown_parent_or_before_its_parent_is_refused() {
    let context = dev_context(RpcLimits::default());
    let unknown = build(&context, (B256::ZERO, contents(&context, &json!([])))).unwrap_err();
    assert_eq!((unknown.code(), unknown.to_string().as_str()), (INVALID_PARAMS, "unknown parent"));
    let mut early = contents(&context, &json!([]));
    early.attributes.timestamp -= 1;
    let genesis = context.chain.head().hash();
    let failure = build(&context, (genesis, early)).unwrap_err().to_string();
    assert!(failure.contains("is not after the parent's"), "{failure}");
}

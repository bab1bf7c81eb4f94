use super::{CallOptions, Options, geth};
use crate::{
    RpcLimits,
    context::{
        Context,
        testing::{dev_context, first_signer, send},
    },
    errors::Failure,
    params::{Argument, BlockParam},
};
use alloy_primitives::{Address, B256, U256};
use jsonrpsee::types::Params;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// `SSTORE(0, CALLDATALOAD(0))`, and code that deploys it.
const KEEPER_INIT: &str = "0x645f355f55005f526005601bf3";

pub(super) fn word(value: u64) -> String {
    format!("{:#x}", B256::from(U256::from(value)))
}

/// A chain whose second block writes 7 and then 9 into a contract's first slot.
pub(super) async fn chain(limits: RpcLimits) -> (Arc<Context>, Address, [B256; 2]) {
    let context = dev_context(limits);
    let keeper = first_signer().address().create(0);
    send(&context, &json!({"data": KEEPER_INIT}).to_string());
    context.miner.mine(1, None, None).await.unwrap();
    let write = |value| {
        let request = json!({"to": keeper, "data": word(value), "gas": "0x186a0"});
        send(&context, &request.to_string())
    };
    let written = [write(7), write(9)];
    context.miner.mine(1, None, None).await.unwrap();
    assert_eq!(context.chain.head().transactions.len(), 2);
    (context, keeper, written)
}

fn options(json: &Value) -> Options {
    Options::parse(&json.to_string()).unwrap()
}

fn traced(context: &Context, hash: B256, how: &Value) -> Value {
    let trace = geth::transaction(context, (hash, options(how))).unwrap();
    serde_json::from_str(trace.get()).unwrap()
}

fn call(context: &Context, request: &Value, how: &Value) -> Result<Value, Failure> {
    let params = json!([request, "latest", how]).to_string();
    let params = Params::new(Some(&params));
    let mut args = crate::params::Args::new(&params, 3).unwrap();
    let trace = geth::call(context, geth::parse_call(&mut args)?)?;
    Ok(serde_json::from_str(trace.get()).unwrap())
}

#[tokio::test]
async fn a_transaction_is_traced_on_the_state_that_the_ones_before_it_left() {
    let (context, keeper, [first, second]) = chain(RpcLimits::default()).await;
    let slot = word(0);
    let prestate = json!({"tracer": "prestateTracer"});
    let keeper = format!("{keeper:#x}");
    let sender = format!("{:#x}", first_signer().address());
    for (hash, before, nonce) in [(first, 0, 1), (second, 7, 2)] {
        let state = traced(&context, hash, &prestate);
        assert_eq!(state[&keeper]["storage"][&slot], word(before), "{state}");
        assert_eq!(state[&sender]["nonce"], nonce);
    }
    let diff = traced(
        &context,
        second,
        &json!({"tracer": "prestateTracer", "tracerConfig": {"diffMode": true}}),
    );
    assert_eq!(diff["pre"][&keeper]["storage"][&slot], word(7), "{diff}");
    assert_eq!(diff["post"][&keeper]["storage"][&slot], word(9), "{diff}");
}

#[tokio::test]
async fn every_tracer_says_of_a_transaction_what_its_receipt_says() {
    let (context, keeper, [first, _]) = chain(RpcLimits::default()).await;
    let receipt = crate::transactions::receipt(&context, first).unwrap().unwrap();
    let gas = format!("{:#x}", receipt.gas_used);

    let steps = traced(&context, first, &json!({}));
    assert_eq!(steps["gas"], receipt.gas_used);
    assert_eq!(steps["failed"], false);
    let ops: Vec<_> = steps["structLogs"].as_array().unwrap().iter().map(|s| &s["op"]).collect();
    assert_eq!(ops, ["PUSH0", "CALLDATALOAD", "PUSH0", "SSTORE", "STOP"]);
    assert_eq!(steps["structLogs"][3]["storage"][word(0)], word(7));
    assert!(steps["structLogs"][0].get("memory").is_none());

    let frame = traced(&context, first, &json!({"tracer": "callTracer"}));
    assert_eq!((&frame["type"], &frame["gasUsed"]), (&json!("CALL"), &json!(gas)));
    let muxed = traced(
        &context,
        first,
        &json!({"tracer": "muxTracer", "tracerConfig": {"callTracer": null, "4byteTracer": null}}),
    );
    assert_eq!(muxed["callTracer"], frame);
    assert_eq!(muxed["4byteTracer"], json!({"0x00000000-28": 1}));
    let flat = traced(&context, first, &json!({"tracer": "flatCallTracer"}));
    assert_eq!(flat[0]["action"]["to"], format!("{keeper:#x}"));
    assert_eq!(flat[0]["transactionHash"], format!("{first:#x}"));
    assert_eq!(traced(&context, first, &json!({"tracer": "noopTracer"})), json!({}));
}

#[tokio::test]
async fn a_block_is_traced_the_same_by_number_by_hash_and_as_rlp() {
    let (context, _, hashes) = chain(RpcLimits::default()).await;
    let how = json!({"tracer": "prestateTracer"});
    let head = context.chain.head();
    let by_number = geth::block(&context, (BlockParam::Number(2), options(&how))).unwrap();
    let by_number = serde_json::to_value(by_number).unwrap();
    let by_hash = geth::block(&context, (BlockParam::Hash(head.hash()), options(&how))).unwrap();
    let given = geth::given_block(&context, (head.rlp(), options(&how))).unwrap();
    assert_eq!(by_number, serde_json::to_value(by_hash).unwrap());
    assert_eq!(by_number, serde_json::to_value(given).unwrap());
    for (trace, hash) in by_number.as_array().unwrap().iter().zip(hashes) {
        assert_eq!(trace["txHash"], format!("{hash:#x}"));
        assert_eq!(trace["result"], traced(&context, hash, &how));
    }
    let genesis = geth::block(&context, (BlockParam::Earliest, options(&how))).unwrap_err();
    assert_eq!(genesis.to_string(), "genesis is not traceable");
    let garbage = geth::given_block(&context, (vec![1, 2, 3].into(), options(&how))).unwrap_err();
    assert!(garbage.to_string().starts_with("could not decode block"), "{garbage}");
}

#[tokio::test]
async fn a_call_is_traced_after_a_block_or_before_one_of_its_transactions() {
    let (context, keeper, _) = chain(RpcLimits::default()).await;
    let request = json!({"to": keeper, "data": word(1)});
    let slot_before = |how: Value| {
        let state = call(&context, &request, &how).unwrap();
        state[format!("{keeper:#x}")]["storage"][word(0)].clone()
    };
    let tracer = "prestateTracer";
    assert_eq!(slot_before(json!({"tracer": tracer})), word(9));
    assert_eq!(slot_before(json!({"tracer": tracer, "txIndex": "0x0"})), word(0));
    assert_eq!(slot_before(json!({"tracer": tracer, "txIndex": "0x1"})), word(7));
    let overrides = json!({keeper.to_string(): {"stateDiff": {word(0): word(5)}}});
    assert_eq!(slot_before(json!({"tracer": tracer, "stateOverrides": overrides})), word(5));
    let outside = call(&context, &request, &json!({"txIndex": "0x2"})).unwrap_err();
    assert!(outside.to_string().contains("out of range"), "{outside}");
}

#[tokio::test]
async fn a_trace_ends_at_its_limits() {
    let limits = RpcLimits { trace_bytes_max: 100_000, ..RpcLimits::default() };
    let (context, keeper, [first, _]) = chain(limits).await;
    traced(&context, first, &json!({}));
    let endless = json!({keeper.to_string(): {"code": "0x5b600056"}});
    let request = json!({"to": keeper});
    let steps = json!({"stateOverrides": endless});
    let failure = call(&context, &request, &steps).unwrap_err();
    assert!(matches!(&failure, Failure::Limit(text) if text.contains("100000 bytes")), "{failure}");
    let few = json!({"stateOverrides": endless, "limit": 3});
    assert_eq!(call(&context, &request, &few).unwrap()["structLogs"].as_array().unwrap().len(), 3);

    let limits = RpcLimits {
        trace_time_max: Duration::from_millis(20),
        call_gas_max: u64::MAX,
        ..RpcLimits::default()
    };
    let (context, _, [first, _]) = chain(limits).await;
    let few = json!({"tracer": "callTracer", "stateOverrides": endless});
    let failure = call(&context, &request, &few).unwrap_err();
    assert_eq!(failure.to_string(), "execution aborted (timeout = 20ms)");
    let none = geth::transaction(&context, (first, options(&json!({"timeout": "0s"}))));
    assert_eq!(none.unwrap_err().to_string(), "execution aborted (timeout = 0ns)");
}

#[test]
fn call_options_refuse_what_contradicts_itself() {
    let both =
        json!({"stateOverrides": {Address::ZERO.to_string(): {"state": {}, "stateDiff": {}}}});
    let error = CallOptions::parse(&both.to_string()).unwrap_err();
    assert!(error.contains("has both 'state' and 'stateDiff'"), "{error}");
}

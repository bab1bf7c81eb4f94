use super::*;
use crate::{
    RpcLimits, accounts, call,
    context::testing::{dev_context, send},
    state as read,
    trace::{Options, geth},
    transactions,
};
use alloy_primitives::{Address, B256, Bytes, U64, U256, bytes};
use jsonrpsee::types::Params;
use serde_json::json;

const POOR: Address = Address::repeat_byte(0x77);

fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

fn balance(context: &Context, address: Address) -> U256 {
    read::balance(context, address, crate::params::BlockParam::Latest).unwrap()
}

/// Sends in the name of an account without a key, which must be impersonated.
fn send_as(context: &Context, from: Address) -> Result<B256, Failure> {
    let request = json!({"from": from, "to": Address::repeat_byte(1), "value": "0x5"});
    accounts::send(context, serde_json::from_value(request).unwrap())
}

async fn mine(context: &Context) {
    context.miner.mine(1, None, None).await.unwrap();
}

#[tokio::test]
async fn what_is_altered_shows_at_once_is_in_the_next_block_and_can_be_traced() {
    let context = dev_context(RpcLimits::default());
    let head = context.chain.head().hash();
    state::set_balance(context.clone(), (POOR, ether(7))).await.unwrap();
    state::add_balance(context.clone(), (POOR, ether(1))).await.unwrap();
    state::set_nonce(context.clone(), (POOR, U256::from(40))).await.unwrap();
    assert_eq!((balance(&context, POOR), context.chain.head().hash()), (ether(8), head));

    let unknown = send_as(&context, POOR).unwrap_err().to_string();
    assert_eq!(unknown, "unknown account");
    context.accounts.impersonate(POOR).unwrap();
    let hash = send_as(&context, POOR).unwrap();
    mine(&context).await;
    let mined = transactions::by_hash(&context, hash).unwrap().unwrap();
    assert_eq!((mined.inner.signer(), alloy_consensus::Transaction::nonce(&mined)), (POOR, 40));
    assert!(balance(&context, POOR) < ether(8));
    context.chain.store().verify_state().unwrap();

    let how = Options::parse(r#"{"tracer":"prestateTracer"}"#).unwrap();
    let trace = geth::transaction(&context, (hash, how)).unwrap();
    let trace: Value = serde_json::from_str(trace.get()).unwrap();
    let before = &trace[format!("{POOR:#x}")];
    assert_eq!((&before["balance"], &before["nonce"]), (&json!(ether(8)), &json!(40)));
    // What proves the parent's state does not prove what was altered in it.
    let unproven = geth::witness(&context, crate::params::BlockParam::Latest).unwrap_err();
    assert!(!unproven.to_string().is_empty());
    context.accounts.stop_impersonating(POOR);
    assert!(send_as(&context, POOR).is_err());
}

#[tokio::test]
async fn code_and_storage_can_be_set_and_contracts_can_send() {
    let context = dev_context(RpcLimits::default());
    // Returns its first slot.
    let code = bytes!("5f545f5260205ff3");
    state::set_code(context.clone(), (POOR, code.clone())).await.unwrap();
    let slot = crate::params::Slot { index: U256::ZERO, is_word: false };
    state::set_storage_at(context.clone(), (POOR, slot, U256::from(9))).await.unwrap();
    state::set_balance(context.clone(), (POOR, ether(1))).await.unwrap();
    let answer = || {
        let params = json!([{"to": POOR}]).to_string();
        let params = Params::new(Some(&params));
        let request = call::CallRequest::parse(&mut Args::new(&params, 1).unwrap()).unwrap();
        call::call(&context, &request).unwrap()
    };
    let nine = Bytes::from(U256::from(9).to_be_bytes::<32>());
    assert_eq!(answer(), nine);
    context.accounts.impersonate_all(true);
    let hash = send_as(&context, POOR).unwrap();
    mine(&context).await;
    assert!(transactions::receipt(&context, hash).unwrap().unwrap().status());
    assert_eq!(answer(), nine);
    let latest = context.chain.latest_state();
    assert_eq!(latest.code_of(POOR).unwrap(), code);
    context.chain.store().verify_state().unwrap();
    state::set_code(context.clone(), (POOR, Bytes::new())).await.unwrap();
    mine(&context).await;
    context.chain.store().verify_state().unwrap();
}

#[tokio::test]
async fn snapshots_remember_what_was_altered() {
    let context = dev_context(RpcLimits::default());
    state::set_balance(context.clone(), (POOR, ether(1))).await.unwrap();
    let id = snapshot(context.clone()).await.unwrap();
    state::set_balance(context.clone(), (POOR, ether(2))).await.unwrap();
    mine(&context).await;
    assert!(revert(context.clone(), id).await.unwrap());
    assert_eq!((balance(&context, POOR), context.chain.head().number()), (ether(1), 0));
    mine(&context).await;
    assert_eq!(balance(&context, POOR), ether(1));
    context.chain.store().verify_state().unwrap();
    chain::reset(context.clone(), chain::ResetOptions::default()).await.unwrap();
    assert_eq!((balance(&context, POOR), context.chain.head().number()), (U256::ZERO, 0));
}

#[tokio::test]
async fn the_next_block_is_as_it_was_told_to_be_and_the_one_after_is_not() {
    let context = dev_context(RpcLimits::default());
    set_base_fee(context.clone(), Number(123)).await.unwrap();
    let price = |context: &Context| crate::fees::gas_price(context).unwrap();
    assert_eq!(
        price(&context),
        U256::from(1_000_000_123),
        "the tip of an empty chain and this fee"
    );
    context.miner.set_next_prev_randao(B256::repeat_byte(5));
    context.miner.set_coinbase(POOR);
    context.miner.set_gas_limit(1_000_000);
    context.miner.set_timestamp_interval(Some(10));
    let genesis = context.chain.head();
    context.miner.mine(2, None, None).await.unwrap();
    let first = context.chain.block_by_number(1).unwrap().unwrap();
    let second = context.chain.head();
    assert_eq!(first.header.base_fee_per_gas, Some(123));
    assert_eq!(second.header.base_fee_per_gas, Some(108), "an eighth less after an empty block");
    assert_eq!(first.header.mix_hash, B256::repeat_byte(5));
    assert_ne!(second.header.mix_hash, B256::repeat_byte(5));
    for (block, parent) in [(&first, &genesis), (&second, &first)] {
        assert_eq!((block.header.beneficiary, block.header.gas_limit), (POOR, 1_000_000));
        assert_eq!(block.header.timestamp, parent.header.timestamp + 10);
    }
}

#[tokio::test]
async fn a_block_of_others_does_not_start_from_what_was_altered_here() {
    let (maker, context) = (dev_context(RpcLimits::default()), dev_context(RpcLimits::default()));
    send(&maker, &json!({"to": POOR, "value": "0x5"}).to_string());
    mine(&maker).await;
    state::set_balance(context.clone(), (POOR, ether(7))).await.unwrap();
    assert!(!context.chain.store().alterations(1).unwrap().is_empty());
    context.miner.import(maker.chain.head().to_block()).await.unwrap();
    assert_eq!(context.chain.head().hash(), maker.chain.head().hash());
    assert_eq!(balance(&context, POOR), U256::from(5));
    assert!(context.chain.store().alterations(1).unwrap().is_empty());
    let before = context.chain.state_before(&context.chain.head()).unwrap();
    assert_eq!(before.account(POOR).unwrap(), None);
}

#[tokio::test]
async fn a_loaded_chain_without_block_zero_has_the_configuration_of_its_rules() {
    let context = dev_context(RpcLimits::default());
    let expected = crate::capabilities::config(&context).unwrap();
    context.miner.mine(3, None, None).await.unwrap();
    let mut dump = Vec::new();
    heddle_dump::write_json(&context.chain, &mut dump).unwrap();
    let mut dump: serde_json::Value = serde_json::from_slice(&dump).unwrap();
    dump["blocks"].as_array_mut().unwrap().drain(..2);
    dump::load(context.clone(), dump.to_string().into_bytes().into()).await.unwrap();
    assert_eq!(context.chain.header_by_number(0).unwrap(), None);
    assert_eq!(crate::capabilities::config(&context).unwrap(), expected);
}

#[tokio::test]
async fn a_dump_makes_another_node_the_same_with_what_is_altered_and_reset_takes_it_away() {
    let context = dev_context(RpcLimits::default());
    let code = bytes!("5f545f5260205ff3");
    let slot = crate::params::Slot { index: U256::from(3), is_word: false };
    state::set_code(context.clone(), (POOR, code.clone())).await.unwrap();
    state::set_storage_at(context.clone(), (POOR, slot, U256::from(9))).await.unwrap();
    let hash = send(&context, &json!({"to": POOR, "value": "0x5"}).to_string());
    mine(&context).await;
    mine(&context).await;
    // Not in any block yet, the second one not even an account of the stored state.
    let (rich, gone) = (Address::repeat_byte(1), Address::repeat_byte(0x99));
    state::set_balance(context.clone(), (rich, ether(3))).await.unwrap();
    state::set_balance(context.clone(), (gone, ether(4))).await.unwrap();
    let bytes = dump::dump(&context, ()).unwrap();

    let other = dev_context(RpcLimits::default());
    let own = Address::repeat_byte(0x55);
    state::set_balance(other.clone(), (own, ether(6))).await.unwrap();
    other.miner.mine(5, None, None).await.unwrap();
    assert!(dump::load(other.clone(), bytes).await.unwrap());
    for number in 0..=2 {
        let block = |of: &Context| of.chain.block_by_number(number).unwrap().unwrap();
        let (block, loaded) = (block(&context), block(&other));
        assert_eq!((block.hash(), &block.receipts), (loaded.hash(), &loaded.receipts));
        assert_eq!(block.transactions, loaded.transactions);
    }
    let balances = [rich, gone, own, POOR].map(|address| balance(&other, address));
    assert_eq!(balances, [ether(3), ether(4), ether(6), U256::from(5)]);
    let latest = other.chain.latest_state();
    assert_eq!(latest.code_of(POOR).unwrap(), code);
    assert_eq!(latest.storage_at(POOR, U256::from(3)).unwrap(), U256::from(9));
    assert!(transactions::receipt(&other, hash).unwrap().unwrap().status());
    let earlier = read::balance(&other, POOR, crate::params::BlockParam::Number(1)).unwrap_err();
    assert!(earlier.to_string().contains("the state of block 1 is not kept"), "{earlier}");
    let capabilities = crate::capabilities::capabilities(&other).unwrap();
    assert_eq!(capabilities["state"]["oldestBlock"], "0x2");
    assert_eq!(capabilities["blocks"]["oldestBlock"], "0x0");
    other.chain.store().verify_state().unwrap();
    mine(&other).await;
    assert_eq!(other.chain.head().header.parent_hash, context.chain.head().hash());
    other.chain.store().verify_state().unwrap();

    chain::reset(other.clone(), chain::ResetOptions::default()).await.unwrap();
    assert_eq!(other.chain.head().hash(), other.chain.genesis_hash());
    assert_eq!((balance(&other, own), balance(&other, POOR)), (U256::ZERO, U256::ZERO));
    other.chain.store().verify_state().unwrap();
    assert!(!other.chain.store().is_loaded());
}

#[tokio::test]
async fn a_dump_may_begin_late_but_not_where_no_block_can_follow() {
    let header = |number: u64| alloy_consensus::Header {
        number,
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(7),
        timestamp: 1_000,
        ..Default::default()
    };
    let dump_of = |number| {
        let block = json!({"header": header(number), "transactions": []});
        let accounts = json!({POOR.to_string(): {"nonce": 1, "balance": "0x5"}});
        let dump = json!({"best_block_number": number, "blocks": [block], "accounts": accounts});
        Bytes::from(dump.to_string().into_bytes())
    };
    let context = dev_context(RpcLimits::default());
    let refused = dump::load(context.clone(), dump_of(u64::MAX)).await.unwrap_err();
    assert!(refused.to_string().contains("has a number or a time above"), "{refused}");
    assert_eq!(context.chain.head().number(), 0);

    assert!(dump::load(context.clone(), dump_of(20_000_000)).await.unwrap());
    mine(&context).await;
    assert_eq!(context.chain.head().number(), 20_000_001);
    assert_eq!(balance(&context, POOR), U256::from(5));
    context.chain.store().verify_state().unwrap();
    let again = dump::dump(&context, ()).unwrap();
    let other = dev_context(RpcLimits::default());
    assert!(dump::load(other.clone(), again).await.unwrap());
    assert_eq!(other.chain.head().hash(), context.chain.head().hash());
    assert_eq!(other.chain.store().first_block().unwrap(), 20_000_000);
}

#[tokio::test]
async fn a_dump_that_does_not_fit_into_an_answer_is_refused() {
    let limits = RpcLimits { response_bytes_max: 1_000, ..RpcLimits::default() };
    let refused = dump::dump(&dev_context(limits), ()).unwrap_err();
    assert!(refused.to_string().contains("larger than 500 bytes"), "{refused}");
}

#[tokio::test]
async fn blocks_are_rolled_back_and_replaced() {
    let context = dev_context(RpcLimits::default());
    let hash = send(&context, &json!({"to": POOR, "value": "0x5"}).to_string());
    let raw = transactions::raw_by_hash(&context, hash).unwrap().unwrap();
    context.miner.mine(3, None, None).await.unwrap();
    let former = context.chain.block_by_number(2).unwrap().unwrap().hash();
    let first = context.chain.block_by_number(1).unwrap().unwrap().hash();
    chain::rollback(context.clone(), Number(1)).await.unwrap();
    assert_eq!(context.chain.head().hash(), former);
    let options = |json: serde_json::Value| {
        let text = json.to_string();
        let params = Params::new(Some(&text));
        chain::ReorgOptions::parse(&mut Args::new(&params, 2).unwrap())
    };
    // The transaction moves from the first block into the second.
    let moved = options(json!([2, [[raw, 1]]])).unwrap();
    chain::reorg(context.clone(), moved).await.unwrap();
    assert_eq!(context.chain.head().number(), 2);
    assert_ne!(context.chain.block_by_number(1).unwrap().unwrap().hash(), first);
    let receipt = transactions::receipt(&context, hash).unwrap().unwrap();
    assert_eq!(receipt.block_number, Some(2));
    context.chain.store().verify_state().unwrap();
    assert!(options(json!([2, [[raw, 2]]])).is_err(), "there is no third block");
    let deep = options(json!([{"depth": 9, "txBlockPairs": []}])).unwrap();
    assert!(chain::reorg(context.clone(), deep).await.is_err());
    assert!(chain::rollback(context.clone(), Number(9)).await.is_err());
    let set_head = |number| crate::blocks::set_head(context.clone(), U64::from(number));
    assert!(set_head(3).await.is_err());
    set_head(1).await.unwrap();
    assert_eq!(context.chain.head().number(), 1);
}

#[test]
fn evm_mine_takes_a_time_or_an_object() {
    let options = |timestamp, blocks| Ok(MineOptions { timestamp, blocks });
    assert_eq!(MineOptions::parse("1700000000"), options(Some(1_700_000_000), None));
    assert_eq!(MineOptions::parse(r#""0x10""#), options(Some(16), None));
    assert_eq!(MineOptions::parse(r#"{"blocks":5}"#), options(None, Some(5)));
    assert_eq!(
        MineOptions::parse(r#"{"timestamp":"0x10","blocks":null}"#),
        options(Some(16), None)
    );
    assert!(MineOptions::parse(r#"{"blocks":-5}"#).is_err());
    assert!(MineOptions::parse("true").is_err());
}

#[test]
fn intervals_may_be_fractions_of_a_second_but_not_negative() {
    assert_eq!(Seconds::parse("1"), Ok(Seconds(Duration::from_secs(1))));
    assert_eq!(Seconds::parse("0.25"), Ok(Seconds(Duration::from_millis(250))));
    assert_eq!(Seconds::parse(r#""0x2""#), Ok(Seconds(Duration::from_secs(2))));
    for wrong in ["-1", "1e300", "[]", r#""soon""#] {
        assert!(Seconds::parse(wrong).is_err(), "{wrong}");
    }
}

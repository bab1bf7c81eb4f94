use super::{
    geth,
    otterscan::{self, Direction},
    parity,
    tests::{chain, word},
};
use crate::{
    RpcLimits,
    context::{Context, testing::first_signer},
    errors::Failure,
    params::{Args, Argument, BlockParam},
};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, address, keccak256};
use heddle_chain::{BlockRules, ChainBlock};
use heddle_chainspec::ChainSpec;
use jsonrpsee::types::Params;
use serde_json::{Value, json};

fn types(json: &str) -> parity::Types {
    parity::Types::parse(json).unwrap()
}

fn args<R>(json: &Value, read: impl FnOnce(&mut Args<'_>) -> Result<R, Failure>) -> R {
    let text = json.to_string();
    let params = Params::new(Some(&text));
    let mut args = Args::new(&params, 5).unwrap();
    read(&mut args).unwrap()
}

fn value(text: &impl serde::Serialize) -> Value {
    serde_json::to_value(text).unwrap()
}

/// How a write changes the first slot.
fn slot_change(results: &Value, contract: Address) -> Value {
    results["stateDiff"][format!("{contract:#x}")]["storage"][word(0)]["*"].clone()
}

fn filter(context: &Context, json: &Value) -> Result<Vec<Value>, Failure> {
    let filter = parity::Filter::parse(&json.to_string()).map_err(Failure::InvalidParams)?;
    Ok(parity::filter(context, filter)?.iter().map(value).collect())
}

#[tokio::test]
async fn a_transaction_has_the_same_traces_alone_in_its_block_and_by_its_path() {
    let (context, keeper, hashes) = chain(RpcLimits::default()).await;
    let block = value(&parity::block(&context, BlockParam::Latest).unwrap().unwrap());
    assert_eq!(block.as_array().unwrap().len(), 2, "no rewards under proof of stake");
    for (index, hash) in hashes.into_iter().enumerate() {
        let alone = value(&parity::transaction(&context, hash).unwrap().unwrap());
        assert_eq!(alone[0], block[index]);
        assert_eq!(alone[0]["action"]["to"], format!("{keeper:#x}"));
        assert_eq!(alone[0]["transactionPosition"], index);
        let get = args(&json!([hash, []]), parity::parse_get);
        assert_eq!(value(&parity::get(&context, get).unwrap()), alone[0]);
        let inside = args(&json!([hash, ["0x0"]]), parity::parse_get);
        assert!(parity::get(&context, inside).unwrap().is_none());
    }
    assert!(parity::transaction(&context, B256::ZERO).unwrap().is_none());
    assert_eq!(parity::block(&context, BlockParam::Earliest).unwrap(), Some(Vec::new()));
}

#[tokio::test]
async fn replays_and_calls_show_what_changes() {
    let (context, keeper, [_, second]) = chain(RpcLimits::default()).await;
    let change = |from, to| json!({"from": word(from), "to": word(to)});
    let all = types(r#"["trace","vmTrace","stateDiff"]"#);
    let replayed = value(&parity::replay_transaction(&context, (second, all.clone())).unwrap());
    assert_eq!(slot_change(&replayed, keeper), change(7, 9));
    assert_eq!(replayed["vmTrace"]["ops"].as_array().unwrap().len(), 5);
    let block = parity::replay_block(&context, (BlockParam::Latest, all)).unwrap().unwrap();
    let mut with_hash = replayed;
    with_hash["transactionHash"] = json!(second);
    assert_eq!(value(&block[1]), with_hash);

    let write = |value| json!({"to": keeper, "data": word(value)});
    let one = args(&json!([write(1), ["stateDiff"]]), parity::parse_call);
    assert_eq!(slot_change(&value(&parity::call(&context, one).unwrap()), keeper), change(9, 1));
    let calls = json!([[write(1), ["stateDiff"]], [write(2), ["stateDiff"]]]);
    let calls = parity::Calls::parse(&calls.to_string()).unwrap();
    let many = parity::call_many(&context, (calls, BlockParam::Latest)).unwrap();
    let changes: Vec<_> = many.iter().map(|one| slot_change(&value(one), keeper)).collect();
    assert_eq!(changes, [change(9, 1), change(1, 2)], "each sees what the one before did");
}

#[tokio::test]
async fn a_raw_transaction_is_traced_with_all_rules() {
    let (context, keeper, [_, second]) = chain(RpcLimits::default()).await;
    let raw = crate::transactions::raw_by_hash(&context, second).unwrap().unwrap();
    let at = |block| (raw.clone(), types(r#"["stateDiff"]"#), block);
    let spent = parity::raw_transaction(&context, at(BlockParam::Latest)).unwrap_err().to_string();
    assert!(spent.contains("nonce too low"), "{spent}");
    let early = parity::raw_transaction(&context, at(BlockParam::Number(1))).unwrap_err();
    assert!(early.to_string().contains("nonce too high"), "{early}");
    let garbage = (Bytes::from_static(&[2, 1]), types("[]"), BlockParam::Latest);
    assert!(parity::raw_transaction(&context, garbage).is_err());

    let request = json!({"to": keeper, "data": word(5), "gas": "0x186a0"}).to_string();
    let waiting = crate::context::testing::send(&context, &request);
    let raw = crate::transactions::raw_by_hash(&context, waiting).unwrap().unwrap();
    let fresh = (raw, types(r#"["stateDiff"]"#), BlockParam::Latest);
    let results = value(&parity::raw_transaction(&context, fresh).unwrap());
    assert_eq!(slot_change(&results, keeper), json!({"from": word(9), "to": word(5)}));
}

#[tokio::test]
async fn traces_are_filtered_by_block_address_and_place() {
    let limits = RpcLimits { trace_filter_blocks_max: 3, ..RpcLimits::default() };
    let (context, keeper, _) = chain(limits).await;
    let sender = first_signer().address();
    assert_eq!(filter(&context, &json!({})).unwrap().len(), 3);
    assert_eq!(filter(&context, &json!({"fromBlock": "0x2"})).unwrap().len(), 2);
    let to = json!({"toAddress": [keeper], "fromAddress": [sender]});
    assert_eq!(filter(&context, &to).unwrap().len(), 3, "the creation counts as sent to it");
    let page = filter(&context, &json!({"toAddress": [keeper], "after": 1, "count": 1})).unwrap();
    assert_eq!((page.len(), &page[0]["transactionPosition"]), (1, &json!(0)));
    assert!(filter(&context, &json!({"fromAddress": [keeper]})).unwrap().is_empty());
    context.miner.mine(1, None, None).await.unwrap();
    let failure = filter(&context, &json!({})).unwrap_err();
    assert!(matches!(failure, Failure::Limit(_)), "{failure}");
}

#[test]
fn proof_of_work_paid_for_the_block_and_for_its_ommers() {
    let spec = ChainSpec::mainnet();
    let header = |number| Header { number, difficulty: U256::from(1), ..Header::default() };
    let ommer = Header { beneficiary: Address::repeat_byte(3), ..header(99) };
    let sealed = alloy_consensus::Sealed::new(header(100));
    let block = ChainBlock::new(sealed, vec![], vec![ommer], None, vec![], U256::ZERO);
    let rules = BlockRules::of(&spec, &block.header);
    let ether = 10_u128.pow(18);
    let own = 5 * ether + 5 * ether / 32;
    let ommers = vec![(Address::repeat_byte(3), 5 * ether * 7 / 8)];
    assert_eq!(parity::issuance(&rules, &block), Some((own, ommers)));
}

#[tokio::test]
async fn otterscan_finds_transactions_by_address_sender_and_creation() {
    let (context, keeper, [first, second]) = chain(RpcLimits::default()).await;
    let sender = first_signer().address();
    let creator = value(&otterscan::contract_creator(&context, keeper).unwrap());
    let creation = context.chain.block_by_number(1).unwrap().unwrap();
    let creation = *creation.transactions[0].inner().tx_hash();
    assert_eq!(creator, json!({"hash": creation, "creator": format!("{sender:#x}")}));
    assert!(otterscan::contract_creator(&context, sender).unwrap().is_none());
    for (nonce, expected) in [(0, Some(creation)), (1, Some(first)), (2, Some(second)), (3, None)] {
        assert_eq!(otterscan::by_sender_and_nonce(&context, (sender, nonce)).unwrap(), expected);
    }
    let search = |number, direction| {
        let page = otterscan::search(&context, keeper, number, 2, direction).unwrap();
        let page = value(&page);
        let hashes: Vec<_> =
            page["txs"].as_array().unwrap().iter().map(|tx| tx["hash"].clone()).collect();
        (hashes, page["firstPage"] == true, page["lastPage"] == true)
    };
    let newest = vec![json!(second), json!(first)];
    assert_eq!(search(0, Direction::Before), (newest.clone(), true, false));
    assert_eq!(search(2, Direction::Before), (vec![json!(creation)], false, true));
    assert_eq!(search(1, Direction::After), (newest, true, false));
    assert!(otterscan::search(&context, keeper, 0, 0, Direction::Before).is_err());
}

#[tokio::test]
async fn otterscan_shows_blocks_in_pages_and_transactions_in_calls() {
    let (context, keeper, [first, second]) = chain(RpcLimits::default()).await;
    let page = |page| {
        let page = otterscan::block_transactions(&context, (BlockParam::Latest, page, 1)).unwrap();
        value(&page.unwrap())
    };
    for (number, hash) in [(0, second), (1, first)] {
        let page = page(number);
        assert_eq!(page["fullblock"]["transactions"][0]["hash"], json!(hash));
        assert_eq!(page["fullblock"]["transactionCount"], 2);
        assert_eq!(page["receipts"][0]["transactionHash"], json!(hash));
        assert_eq!(page["receipts"][0]["logs"], Value::Null);
    }
    assert_eq!(page(2)["fullblock"]["transactions"], json!([]));
    let details = otterscan::block_details(&context, BlockParam::Latest).unwrap().unwrap();
    assert!(details.total_fees > U256::ZERO);
    assert_eq!(details.block.transaction_count, 2);
    let calls = value(&otterscan::trace(&context, first).unwrap().unwrap());
    assert_eq!((&calls[0]["type"], &calls[0]["to"]), (&json!("CALL"), &json!(keeper)));
    assert_eq!(otterscan::internal_operations(&context, first).unwrap(), Some(vec![]));
    assert_eq!(otterscan::transaction_error(&context, first).unwrap(), Some(Bytes::new()));
    assert!(otterscan::has_code(&context, (keeper, BlockParam::Latest)).unwrap());
    assert!(!otterscan::has_code(&context, (keeper, BlockParam::Earliest)).unwrap());
}

#[tokio::test]
async fn a_witness_proves_what_the_block_read() {
    let (context, keeper, _) = chain(RpcLimits::default()).await;
    let witness = value(&geth::witness(&context, BlockParam::Latest).unwrap());
    let parts =
        |name: &str| -> Vec<Bytes> { serde_json::from_value(witness[name].clone()).unwrap() };
    let (nodes, codes, headers) = (parts("state"), parts("codes"), parts("headers"));
    let parent = context.chain.block_by_number(1).unwrap().unwrap();
    assert_eq!(headers, [Bytes::from(alloy_rlp::encode(parent.header.inner()))]);
    assert!(nodes.iter().any(|node| keccak256(node) == parent.header.state_root));
    let read = [
        (keeper, vec![U256::ZERO]),
        (first_signer().address(), vec![]),
        // The ring of block hashes (EIP-2935): the parent's place.
        (address!("0000F90827F1C53a10cb7A02335B175320002935"), vec![U256::from(1)]),
    ];
    for (address, slots) in read {
        let proof = context.chain.proof_at(1, address, &slots).unwrap();
        let storage = proof.storage.iter().flat_map(|slot| &slot.proof);
        for node in proof.proof.iter().chain(storage) {
            assert!(nodes.contains(node), "{address}: {node}");
        }
    }
    let code = context.chain.latest_state().code_of(keeper).unwrap();
    assert!(codes.contains(&code));
    assert!(geth::witness(&context, BlockParam::Earliest).is_err());
}

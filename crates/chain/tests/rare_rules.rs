//! Rules that one fork or a handful of accounts have, and that the EVM library does not know.

use alloy_consensus::{Header, TxLegacy};
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, address, hex, keccak256};
use heddle_chain::{Chain, GenesisBlock};
use heddle_chainspec::ChainSpec;
use heddle_evm::{
    BlockInput, BlockOutput, InvalidTransactions, RecoveredTransaction, Transaction, block_context,
    execute_block,
};
use heddle_parallel::ParallelExecutor;
use heddle_store::Store;
use std::sync::Arc;

const SENDER: Address = address!("0x00000000000000000000000000000000000000a1");
const CONTRACT: Address = address!("0x00000000000000000000000000000000000000c0");

/// A chain with the given forks (as in a genesis file) and accounts.
fn open(forks: &str, alloc: &str) -> Chain {
    let json = format!(
        r#"{{"config": {{"chainId": 7, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, {forks}}},
            "gasLimit": "0x989680", "difficulty": "0x20000",
            "alloc": {{"{SENDER}": {{"balance": "0xffffffffffffffff"}}, {alloc}}}}}"#
    );
    let spec = ChainSpec::from_genesis_json(&json).expect("the genesis file is valid");
    let genesis = GenesisBlock::new(&spec).expect("it has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(1).expect("no thread is needed");
    Chain::open(Arc::new(spec), &genesis, store, executor).expect("the store is empty")
}

/// The sequential reference on the genesis state, with one transaction.
fn execute(chain: &Chain, to: TxKind, input: Bytes) -> BlockOutput {
    let header = Header {
        number: 1,
        timestamp: 1,
        gas_limit: 10_000_000,
        difficulty: U256::from(131_072),
        ..Default::default()
    };
    let tx = TxLegacy { gas_limit: 1_000_000, to, input, ..Default::default() };
    let signature = Signature::new(U256::ONE, U256::ONE, false);
    let tx = Transaction::new_unhashed(tx.into(), signature);
    let input = BlockInput {
        env: chain.evm_env(&header),
        ctx: block_context(&header, &[], None),
        transactions: &[RecoveredTransaction::new_unchecked(tx, SENDER)],
        invalid: InvalidTransactions::Reject,
    };
    execute_block(chain.spec().as_ref(), chain.latest_state(), &input).expect("it is valid")
}

/// The cases of EIP-1283 with one or two writes: code, value of the slot before, gas of the code,
/// refund.
const EIP_1283_CASES: &[(&str, u64, u64, u64)] = &[
    ("60006000556000600055", 0, 412, 0),
    ("60006000556001600055", 0, 20_212, 0),
    ("60016000556000600055", 0, 20_212, 19_800),
    ("60016000556002600055", 0, 20_212, 0),
    ("60016000556001600055", 0, 20_212, 0),
    ("60006000556000600055", 1, 5_212, 15_000),
    ("60006000556001600055", 1, 5_212, 4_800),
    ("60006000556002600055", 1, 5_212, 0),
    ("60026000556000600055", 1, 5_212, 15_000),
    ("60026000556003600055", 1, 5_212, 0),
    ("60026000556001600055", 1, 5_212, 4_800),
    ("60026000556002600055", 1, 5_212, 0),
    ("60016000556000600055", 1, 5_212, 15_000),
    ("60016000556002600055", 1, 5_212, 0),
    ("60016000556001600055", 1, 412, 0),
    ("600160005560006000556001600055", 0, 40_218, 19_800),
    ("600060005560016000556000600055", 1, 10_218, 19_800),
];

#[test]
fn constantinople_meters_storage_writes_as_eip_1283_says_and_petersburg_does_not() {
    for (code, before, gas, refund) in EIP_1283_CASES {
        let alloc = format!(
            r#""{CONTRACT}": {{"balance": "0x0", "code": "0x{code}",
                "storage": {{"0x00": "{before:#066x}"}}}}"#
        );
        let gas = 21_000 + gas;
        let expected = gas - refund.min(&(gas / 2));
        let chain = open(r#""constantinopleBlock": 0, "petersburgBlock": 9"#, &alloc);
        let output = execute(&chain, TxKind::Call(CONTRACT), Bytes::new());
        assert_eq!(output.gas_used, expected, "{code} over {before}");
    }
    // Petersburg took it back: a write that changes nothing costs 5,000 again.
    let alloc = format!(r#""{CONTRACT}": {{"balance": "0x0", "code": "0x6000600055"}}"#);
    let chain = open(r#""constantinopleBlock": 0, "petersburgBlock": 0"#, &alloc);
    let output = execute(&chain, TxKind::Call(CONTRACT), Bytes::new());
    assert_eq!(output.gas_used, 21_000 + 6 + 5_000);
}

#[test]
fn nothing_is_created_where_there_is_storage() {
    let created = SENDER.create(0);
    let forks = r#""constantinopleBlock": 0"#;
    let init_code = Bytes::from_static(&hex!("00"));
    let run = |storage: &str| {
        let alloc = format!(r#""{created}": {{"balance": "0x1", "storage": {{{storage}}}}}"#);
        let output = execute(&open(forks, &alloc), TxKind::Create, init_code.clone());
        output.receipts[0].status()
    };
    assert!(run(""), "an account with a balance only is no obstacle");
    assert!(!run(r#""0x01": "0x01""#), "EIP-7610");
}

#[test]
fn an_account_with_storage_only_has_the_code_hash_of_no_code() {
    // EXTCODEHASH(0xd0), stored in slot 0.
    let alloc = |balance: &str| {
        format!(
            r#""{CONTRACT}": {{"balance": "0x0", "code": "0x60d03f600055"}},
                "0x00000000000000000000000000000000000000d0":
                {{"balance": "{balance}", "storage": {{"0x01": "0x01"}}}}"#
        )
    };
    let hash = |balance| {
        let chain = open(r#""constantinopleBlock": 0"#, &alloc(balance));
        let output = execute(&chain, TxKind::Call(CONTRACT), Bytes::new());
        let changes = output.changes.accounts.get(&CONTRACT);
        changes.and_then(|change| change.storage.get(&U256::ZERO)).map(|slot| slot.after)
    };
    assert_eq!(hash("0x1"), Some(keccak256([]).into()));
    assert_eq!(hash("0x0"), None, "an empty account has none (EIP-1052)");
}

#[test]
fn the_dao_fork_moves_balances_before_its_transactions() {
    // BALANCE of a drained account, stored in slot 0.
    let drained = "d4fe7bc31cedb7bfb8a345f31e668033056b2728";
    let alloc = format!(
        r#""{CONTRACT}": {{"balance": "0x0", "code": "0x73{drained}31600055"}},
            "0x{drained}": {{"balance": "0x5"}}"#
    );
    let json = format!(
        r#"{{"config": {{"chainId": 7, "homesteadBlock": 0, "daoForkBlock": 1,
            "daoForkSupport": true}}, "gasLimit": "0x989680", "difficulty": "0x20000",
            "alloc": {{"{SENDER}": {{"balance": "0xffffffffffffffff"}}, {alloc}}}}}"#
    );
    let spec = ChainSpec::from_genesis_json(&json).expect("the genesis file is valid");
    let genesis = GenesisBlock::new(&spec).expect("it has an allocation");
    let store = Store::in_memory(&genesis.identity(&spec)).expect("memory is there");
    let executor = ParallelExecutor::new(1).expect("no thread is needed");
    let chain = Chain::open(Arc::new(spec), &genesis, store, executor).expect("the store is empty");
    let changes = execute(&chain, TxKind::Call(CONTRACT), Bytes::new()).changes.accounts;
    assert!(!changes.contains_key(&CONTRACT), "zero was stored over zero");
    let left = |address: Address| changes[&address].after.map(|account| account.balance);
    assert_eq!(left(drained.parse().expect("an address")), Some(U256::ZERO));
    let refund = address!("0xbf4ed7b27f1d666546e30d74d50d173d20bca754");
    assert_eq!(left(refund), Some(U256::from(5)));
}

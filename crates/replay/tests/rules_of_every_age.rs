//! Small blocks of mainnet that nobody mined, one for each rule that changed: gas as the Yellow
//! Paper and the EIPs have it, so that a bundle of any age runs under the rules of its block.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals are made where they are passed")]

use alloy_consensus::{Eip658Value, Receipt, ReceiptEnvelope, proofs::calculate_receipt_root};
use alloy_eips::eip7702::Authorization;
use alloy_primitives::{Address, Bloom, U256};
use alloy_signer::SignerSync;
use heddle_node::dev_accounts;
use heddle_replay::{BlockReport, Bundle, ReplayOptions, Replayer};
use serde_json::{Value, json};

/// The first block, or the first second, of each fork of mainnet.
mod mainnet {
    pub(crate) const HOMESTEAD: u64 = 1_150_000;
    pub(crate) const DAO: u64 = 1_920_000;
    pub(crate) const TANGERINE: u64 = 2_463_000;
    pub(crate) const SPURIOUS_DRAGON: u64 = 2_675_000;
    pub(crate) const BYZANTIUM: u64 = 4_370_000;
    pub(crate) const PETERSBURG: u64 = 7_280_000;
    pub(crate) const ISTANBUL: u64 = 9_069_000;
    pub(crate) const BERLIN: u64 = 12_244_000;
    pub(crate) const LONDON: u64 = 12_965_000;
    pub(crate) const PARIS: u64 = 15_537_394;
    pub(crate) const SHANGHAI_TIME: u64 = 1_681_338_455;
    pub(crate) const CANCUN_TIME: u64 = 1_710_338_135;
    pub(crate) const PRAGUE_TIME: u64 = 1_746_612_311;
    pub(crate) const OSAKA_TIME: u64 = 1_764_798_551;
}

const SENDER: Address = Address::repeat_byte(0xaa);
const CONTRACT: Address = Address::repeat_byte(0xcc);
const MINER: Address = Address::repeat_byte(0xee);
/// Of the DAO's children, the first in the list of EIP-779.
const DAO_CHILD: &str = "d4fe7bc31cedb7bfb8a345f31e668033056b2728";

/// A block of mainnet with what its fork wants in a header; `time` only from Shanghai on.
fn block(number: u64, time: u64, transactions: Value) -> Value {
    let mut block = json!({
        "number": format!("{number:#x}"), "parentHash": format!("0x{}", "11".repeat(32)),
        "miner": MINER, "gasLimit": "0x1c9c380", "gasUsed": "0x0", "timestamp": format!("{time:#x}"),
        "difficulty": if number < mainnet::PARIS { "0x20000" } else { "0x0" },
        "receiptsRoot": calculate_receipt_root::<ReceiptEnvelope>(&[]),
        "logsBloom": Bloom::ZERO, "transactions": transactions,
    });
    if number >= mainnet::LONDON {
        block["baseFeePerGas"] = json!("0x7");
    }
    if time >= mainnet::SHANGHAI_TIME {
        block["withdrawals"] = json!([
            { "index": "0x1", "validatorIndex": "0x2", "address": CONTRACT, "amount": "0x3" },
            { "index": "0x2", "validatorIndex": "0x2", "address": Address::repeat_byte(0xdd), "amount": "0x4" },
        ]);
    }
    if time >= mainnet::CANCUN_TIME {
        block["blobGasUsed"] = json!("0x0");
        block["excessBlobGas"] = json!("0x0");
        block["parentBeaconBlockRoot"] = json!(format!("0x{}", "22".repeat(32)));
    }
    block
}

fn bundle(block: Value, prestate: Value) -> Value {
    json!({ "chainId": 1, "block": block, "prestate": prestate, "blockHashes": {} })
}

/// A rich sender, and a contract with this code.
fn with_code(code: &str) -> Value {
    json!({
        SENDER.to_string(): { "balance": "0xde0b6b3a7640000" },
        CONTRACT.to_string(): { "balance": "0x0", "nonce": 1, "code": format!("0x{code}") },
    })
}

/// A call of the contract, without a signature.
fn call() -> Value {
    json!({
        "from": SENDER, "to": CONTRACT, "nonce": "0x0", "gas": "0x4c4b40", "gasPrice": "0x9",
        "value": "0x0", "input": "0x"
    })
}

/// One receipt, in the envelope of its transaction's type.
fn receipt(kind: u8, success: bool, gas: u64) -> ReceiptEnvelope {
    let receipt = Receipt {
        status: Eip658Value::Eip658(success),
        cumulative_gas_used: gas,
        logs: Vec::new(),
    };
    let receipt = receipt.with_bloom();
    match kind {
        0 => ReceiptEnvelope::Legacy(receipt),
        1 => ReceiptEnvelope::Eip2930(receipt),
        2 => ReceiptEnvelope::Eip1559(receipt),
        3 => ReceiptEnvelope::Eip4844(receipt),
        _ => ReceiptEnvelope::Eip7702(receipt),
    }
}

fn replay(bundle: &Value, workers: usize) -> BlockReport {
    let bundle = Bundle::parse("b.json", bundle.to_string().as_bytes()).expect("a bundle");
    let options = ReplayOptions { workers, ..ReplayOptions::default() };
    let replayer = Replayer::new(options).expect("threads can be started");
    replayer.replay(&bundle).expect("mainnet is known")
}

/// The block of this one transaction uses so much gas, with one worker and with several.
fn assert_gas(name: &str, mut bundle: Value, kind: u8, success: bool, gas: u64) {
    bundle["block"]["gasUsed"] = json!(gas);
    bundle["block"]["receiptsRoot"] = json!(calculate_receipt_root(&[receipt(kind, success, gas)]));
    for workers in [1, 2, 8] {
        let report = replay(&bundle, workers);
        assert_eq!((report.line.gas, &report.mismatch), (gas, &None), "{name}");
        assert!(report.line.verified, "{name}");
    }
}

/// Gas of a call of this code under the rules of block `number`.
fn assert_call(number: u64, code: &str, execution: u64) {
    let bundle = bundle(block(number, 0, json!([call()])), with_code(code));
    assert_gas(&format!("{code} at {number}"), bundle, 0, true, 21_000 + execution);
}

#[test]
fn the_gas_of_an_operation_is_that_of_its_block() {
    use mainnet::*;
    // BALANCE of nobody: 20, 400, 700, and 2,600 for the first look at it.
    let balance = "6001315000";
    // The precompiled contracts are always warm.
    assert_call(HOMESTEAD, balance, 3 + 20 + 2);
    assert_call(TANGERINE, balance, 3 + 400 + 2);
    assert_call(ISTANBUL, balance, 3 + 700 + 2);
    assert_call(BERLIN, balance, 3 + 100 + 2);
    let balance_of_a_stranger = "61ffff315000";
    assert_call(BERLIN, balance_of_a_stranger, 3 + 2_600 + 2);
    // EXTCODESIZE, which the attacks of 2016 lived on.
    let extcodesize = "61ffff3b5000";
    assert_call(TANGERINE - 1, extcodesize, 3 + 20 + 2);
    assert_call(TANGERINE, extcodesize, 3 + 700 + 2);
    // SLOAD: 50, 200, 800, 2,100.
    let sload = "6000545000";
    for (number, gas) in [(1, 50), (TANGERINE, 200), (ISTANBUL, 800), (BERLIN, 2_100)] {
        assert_call(number, sload, 3 + gas + 2);
    }
    // EXP with one byte of exponent: 10 + 10, 10 + 50.
    let exp = "60026002 0a5000".replace(' ', "");
    assert_call(SPURIOUS_DRAGON - 1, &exp, 3 + 3 + 20 + 2);
    assert_call(SPURIOUS_DRAGON, &exp, 3 + 3 + 60 + 2);
    // A slot set and cleared again: nothing of it comes back before Istanbul but 15,000, which half
    // of the gas limits; then (EIP-2200, EIP-2929) the write that undoes another is nearly free.
    let set_and_clear = "6001600055 6000600055 00".replace(' ', "");
    let pushes = 4 * 3;
    assert_call(BYZANTIUM, &set_and_clear, pushes + 20_000 + 5_000 - 15_000);
    assert_call(PETERSBURG, &set_and_clear, pushes + 20_000 + 5_000 - 15_000);
    let spent = 21_000 + pushes + 20_000 + 800;
    assert_call(ISTANBUL, &set_and_clear, pushes + 20_000 + 800 - (19_200).min(spent / 2));
    let spent = 21_000 + pushes + 22_100 + 100;
    assert_call(BERLIN, &set_and_clear, pushes + 22_100 + 100 - (19_900).min(spent / 2));
    assert_call(LONDON, &set_and_clear, pushes + 22_100 + 100 - spent / 5);
}

#[test]
fn operations_exist_from_their_fork_on() {
    use mainnet::*;
    let all = 0x4c_4b40;
    let fails = |number, time, code: &str| {
        let bundle = bundle(block(number, time, json!([call()])), with_code(code));
        assert_gas(&format!("{code} at {number}, {time}"), bundle, 0, false, all);
    };
    let works = |number, time, code: &str, gas: u64| {
        let bundle = bundle(block(number, time, json!([call()])), with_code(code));
        assert_gas(&format!("{code} at {number}, {time}"), bundle, 0, true, 21_000 + gas);
    };
    let returndatasize = "3d5000";
    fails(BYZANTIUM - 1, 0, returndatasize);
    works(BYZANTIUM, 0, returndatasize, 4);
    let shift = "600160011b5000";
    fails(PETERSBURG - 1, 0, shift);
    works(PETERSBURG, 0, shift, 11);
    let chainid = "465000";
    fails(ISTANBUL - 1, 0, chainid);
    works(ISTANBUL, 0, chainid, 4);
    let basefee = "485000";
    fails(LONDON - 1, 0, basefee);
    works(LONDON, 0, basefee, 4);
    let push0 = "5f5000";
    fails(17_034_869, SHANGHAI_TIME - 12, push0);
    works(17_034_870, SHANGHAI_TIME, push0, 4);
    let blobbasefee = "4a5000";
    fails(19_426_586, CANCUN_TIME - 12, blobbasefee);
    works(19_426_587, CANCUN_TIME, blobbasefee, 4);
    let clz = "5f1e5000";
    fails(23_935_693, OSAKA_TIME - 12, clz);
    works(23_935_694, OSAKA_TIME, clz, 9);
}

#[test]
fn calling_nobody_costs_a_new_account_until_state_clearing() {
    use mainnet::*;
    // CALL with all its arguments zero but the gas, to 0xffff.
    let code = "600060006000600060006 1ffff61fffff15000".replace(' ', "");
    let pushes = 7 * 3;
    let at = |number, prestate: Value| bundle(block(number, 0, json!([call()])), prestate);
    let somebody = |account: Value| {
        let mut prestate = with_code(&code);
        prestate["0x000000000000000000000000000000000000ffff"] = account;
        prestate
    };
    let nobody = 21_000 + pushes + 2 + 25_000;
    assert_gas("Homestead", at(HOMESTEAD, with_code(&code)), 0, true, nobody + 40);
    assert_gas("Tangerine", at(TANGERINE, with_code(&code)), 0, true, nobody + 700);
    assert_gas("said to be nobody", at(TANGERINE, somebody(Value::Null)), 0, true, nobody + 700);
    // An empty account exists, if the bundle has it.
    let empty = at(TANGERINE, somebody(json!({ "balance": "0x0" })));
    assert_gas("empty", empty, 0, true, nobody + 700 - 25_000);
    let cleared = nobody + 700 - 25_000;
    assert_gas("Spurious Dragon", at(SPURIOUS_DRAGON, with_code(&code)), 0, true, cleared);
    let touched = at(SPURIOUS_DRAGON, somebody(json!({ "balance": "0x0" })));
    assert_gas("touched and gone", touched, 0, true, cleared);
}

#[test]
fn code_has_no_largest_size_before_spurious_dragon_and_24576_bytes_after() {
    use mainnet::*;
    // Returns 24,577 bytes of zeros as the code.
    let create = json!({
        "from": SENDER, "to": null, "nonce": "0x0", "gas": "0x4c4b40", "gasPrice": "0x1",
        "value": "0x0", "input": "0x6160016000f3"
    });
    let rich = || json!({ SENDER.to_string(): { "balance": "0xde0b6b3a7640000" } });
    let at = |number| bundle(block(number, 0, json!([create.clone()])), rich());
    let memory = 3 * 769 + 769 * 769 / 512;
    let frontier = 21_000 + 5 * 68 + 4 + 6 + memory + 200 * 24_577;
    assert_gas("Frontier", at(1_000_000), 0, true, frontier);
    assert_gas("Homestead", at(HOMESTEAD), 0, true, frontier + 32_000);
    assert_gas("Spurious Dragon", at(SPURIOUS_DRAGON), 0, false, 0x4c_4b40);
}

#[test]
fn the_dao_s_children_are_drained_before_the_transactions_of_one_block() {
    use mainnet::*;
    // Keeps the balance of the child: 5,000 gas if that is zero, 20,000 otherwise.
    let code = format!("73{DAO_CHILD}3160005500");
    let at = |number| {
        let mut prestate = with_code(&code);
        prestate[format!("0x{DAO_CHILD}")] = json!({ "balance": "0x64" });
        bundle(block(number, 0, json!([call()])), prestate)
    };
    let spent = 21_000 + 3 + 20 + 3;
    assert_gas("before", at(DAO - 1), 0, true, spent + 20_000);
    assert_gas("the fork", at(DAO), 0, true, spent + 5_000);
    assert_gas("after", at(DAO + 1), 0, true, spent + 20_000);
}

#[test]
fn an_empty_block_of_every_fork_verifies_though_its_bundle_has_no_state() {
    use mainnet::*;
    let by_number = [
        1,
        HOMESTEAD,
        DAO,
        DAO + 5,
        TANGERINE,
        SPURIOUS_DRAGON,
        BYZANTIUM,
        PETERSBURG,
        ISTANBUL,
        9_200_000,
        BERLIN,
        LONDON,
        13_773_000,
        15_050_000,
        PARIS,
    ];
    let by_time =
        [SHANGHAI_TIME, CANCUN_TIME, PRAGUE_TIME, OSAKA_TIME].map(|time| (20_000_000, time));
    for (number, time) in by_number.map(|number| (number, 0)).into_iter().chain(by_time) {
        let report = replay(&bundle(block(number, time, json!([])), json!({})), 2);
        assert_eq!(report.mismatch, None, "block {number}, {time}");
        assert!(report.line.verified && report.missing.is_empty(), "block {number}, {time}");
    }
}

/// The block gets its gas limit's worth of fork rules; the transaction is of a later type.
fn typed(number: u64, time: u64, transaction: Value) -> Value {
    let rich = json!({ SENDER.to_string(): { "balance": "0xde0b6b3a7640000" } });
    bundle(block(number, time, json!([transaction])), rich)
}

#[test]
fn transactions_of_every_type_run_without_type_field_and_signature() {
    use mainnet::*;
    let plain = json!({
        "from": SENDER, "to": CONTRACT, "nonce": "0x0", "gas": "0x186a0", "value": "0x1",
        "input": "0x", "chainId": "0x1"
    });
    let with = |fields: Value| {
        let mut transaction = plain.clone();
        transaction.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        transaction
    };
    let fees = json!({ "maxFeePerGas": "0x64", "maxPriorityFeePerGas": "0x1" });
    let list = json!([{ "address": CONTRACT, "storageKeys": [format!("0x{}", "00".repeat(32))] }]);

    let old = with(json!({ "gasPrice": "0x9", "chainId": null, "accessList": null, "type": null }));
    assert_gas("legacy", typed(LONDON, 0, old), 0, true, 21_000);
    let listed = with(json!({ "gasPrice": "0x9", "accessList": list }));
    assert_gas("2930", typed(BERLIN, 0, listed), 1, true, 21_000 + 2_400 + 1_900);
    let mut dynamic = with(fees.clone());
    dynamic["gasPrice"] = json!("0x8");
    assert_gas("1559", typed(LONDON, 0, dynamic.clone()), 2, true, 21_000);
    dynamic["maxFeePerBlobGas"] = json!("0x1");
    dynamic["blobVersionedHashes"] = json!([format!("0x01{}", "33".repeat(31))]);
    let mut blobs = typed(20_000_000, CANCUN_TIME, dynamic);
    blobs["block"]["blobGasUsed"] = json!("0x20000");
    assert_gas("4844", blobs, 3, true, 21_000);

    let signer = &dev_accounts()[0].signer;
    let authorization = Authorization { chain_id: U256::from(1), address: CONTRACT, nonce: 0 };
    let signature = signer.sign_hash_sync(&authorization.signature_hash()).expect("it can sign");
    let mut delegation = with(fees);
    delegation["authorizationList"] = json!([authorization.into_signed(signature)]);
    let delegation = typed(22_500_000, PRAGUE_TIME, delegation);
    assert_gas("7702", delegation, 4, true, 21_000 + 25_000);
}

#[test]
fn a_hash_that_the_bundle_lacks_is_named_and_one_that_it_has_is_read() {
    // Keeps the hash of the block before the last.
    let code = "60024303406000550 0".replace(' ', "");
    let mut bundle = bundle(block(mainnet::BYZANTIUM, 0, json!([call()])), with_code(&code));
    let report = replay(&bundle, 4);
    let mismatch = report.mismatch.expect("it does not verify").to_string();
    assert_eq!(
        mismatch,
        "execution: reading state: the bundle's blockHashes lack block 4369998, which is read; \
         expected a bundle that holds what its block reads"
    );
    for key in ["4369998", "0x42ae4e"] {
        bundle["blockHashes"] = json!({ key: format!("0x{}", "44".repeat(32)) });
        let gas = 21_000 + 3 + 2 + 3 + 20 + 3 + 20_000;
        assert_gas(key, bundle.clone(), 0, true, gas);
    }
    // The parent's is in the header.
    let code = "60014303406000550 0".replace(' ', "");
    let parent = self::bundle(block(mainnet::BYZANTIUM, 0, json!([call()])), with_code(&code));
    assert_gas("parent", parent, 0, true, 21_000 + 3 + 2 + 3 + 20 + 3 + 20_000);
}

#[test]
fn nothing_is_created_where_only_storage_is() {
    let address = SENDER.create(0);
    let create = json!({
        "from": SENDER, "to": "", "nonce": 0, "gasLimit": "0x186a0", "gasPrice": "0x9",
        "value": null, "data": "0x00"
    });
    let at = |storage: Value| {
        let prestate = json!({
            SENDER.to_string(): { "balance": "0xde0b6b3a7640000" },
            address.to_string(): { "balance": "0x1", "storage": storage },
        });
        bundle(block(mainnet::BYZANTIUM, 0, json!([create.clone()])), prestate)
    };
    assert_gas("free", at(json!({ "0x1": "0x0" })), 0, true, 53_000 + 4);
    assert_gas("taken", at(json!({ "0x1": "0x2" })), 0, false, 0x1_86a0);
}

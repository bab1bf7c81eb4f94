//! Every refusal, word for word.

use alloy_consensus::{
    SignableTransaction, TxEip2930, TxEip7702, TxLegacy, transaction::Recovered,
};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{B256, Signature, TxKind, U256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;

use super::{Bench, CHAIN_ID, GWEI, Transfer, account, legacy, rich, signature};
use crate::{
    Origin, PoolError, PoolFork, PoolTransaction, SenderState, StateError, TxStatus,
    floor_data_gas, intrinsic_gas,
};

const LEGACY: TxLegacy = TxLegacy {
    chain_id: Some(CHAIN_ID),
    nonce: 0,
    gas_price: 10 * GWEI,
    gas_limit: 21_000,
    to: TxKind::Call(alloy_primitives::Address::ZERO),
    value: U256::ZERO,
    input: alloy_primitives::Bytes::new(),
};

fn set_code(tx: TxEip7702) -> Recovered<PoolTransaction> {
    Recovered::new_unchecked(
        PoolTransaction::Eip7702(tx.into_signed(signature(account(1)))),
        account(1),
    )
}

#[test]
fn a_transaction_signed_by_a_key_is_accepted() {
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("a valid key");
    let tx = Transfer::new(0, 0).0;
    let signature = signer.sign_hash_sync(&tx.signature_hash()).expect("a local key signs");
    let signed = PoolTransaction::Eip1559(tx.into_signed(signature));
    let recovered = Recovered::new_unchecked(signed, signer.address());
    let bench = Bench::new();
    let added = bench.add_tx(recovered).expect("a valid transaction");
    assert_eq!(added.status, TxStatus::Pending);
    assert_eq!(bench.pool.get(&added.hash).map(|tx| tx.sender()), Some(signer.address()));
}

#[test]
fn what_is_known_is_refused() {
    let bench = Bench::new();
    bench.add(Transfer::new(1, 0)).expect("valid");
    assert_eq!(bench.refusal(Transfer::new(1, 0).build()), "already known");
    let results = bench.pool.add_many(
        vec![Transfer::new(2, 0).build(), Transfer::new(2, 0).build()],
        &bench.accounts,
        Origin::External,
    );
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(PoolError::AlreadyKnown));
}

#[test]
fn signatures_for_other_rules_are_refused() {
    let bench = Bench::new();
    let foreign = Transfer::new(1, 0).with(|tx| tx.chain_id = 1).build();
    assert_eq!(
        bench.refusal(foreign),
        "invalid sender: invalid chain id for signer: have 1 want 31337"
    );

    let high_s = Signature::new(U256::from(1), U256::MAX >> 1, false);
    let malleable = PoolTransaction::Legacy(LEGACY.into_signed(high_s));
    let message = bench.refusal(Recovered::new_unchecked(malleable, account(1)));
    assert_eq!(message, "invalid sender: invalid transaction v, r, s values");

    let old = Bench::with_rules(|rules| {
        (rules.fork, rules.tx_gas_limit_cap) = (PoolFork::Homestead, None);
    });
    assert_eq!(
        old.refusal(legacy(1, LEGACY)),
        "invalid sender: invalid transaction v, r, s values"
    );
    assert!(old.add_tx(legacy(1, TxLegacy { chain_id: None, ..LEGACY })).is_ok());
}

#[test]
fn types_wait_for_their_fork() {
    let access_list = |sender| {
        let tx = TxEip2930 {
            chain_id: CHAIN_ID,
            gas_price: 10 * GWEI,
            gas_limit: 21_000,
            ..Default::default()
        };
        let tx = TxEip2930 { to: TxKind::Call(account(9)), ..tx };
        Recovered::new_unchecked(
            PoolTransaction::Eip2930(tx.into_signed(signature(account(1)))),
            account(sender),
        )
    };
    let at = |fork| {
        Bench::with_rules(|rules| {
            (rules.fork, rules.tx_gas_limit_cap, rules.base_fee) = (fork, None, 0);
        })
    };
    assert_eq!(
        at(PoolFork::Istanbul).refusal(access_list(1)),
        "transaction type not supported: type 1 rejected, pool not yet in Berlin"
    );
    assert!(at(PoolFork::Berlin).add_tx(access_list(1)).is_ok());
    assert_eq!(
        at(PoolFork::Berlin).refusal(Transfer::new(1, 0).build()),
        "transaction type not supported: type 2 rejected, pool not yet in London"
    );
    let set_code_tx = TxEip7702 { chain_id: CHAIN_ID, gas_limit: 100_000, ..Default::default() };
    assert_eq!(
        at(PoolFork::Cancun).refusal(set_code(set_code_tx)),
        "transaction type not supported: type 4 rejected, pool not yet in Prague"
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let bench = Bench::new();
    let message = bench.refusal(Transfer::new(1, 0).data(128 * 1024).build());
    assert!(message.starts_with("oversized data: transaction size 131"), "{message}");
    assert!(message.ends_with(", limit 131072"), "{message}");

    let create = |bytes| Transfer::new(1, 0).data(bytes).with(|tx| tx.to = TxKind::Create).build();
    assert_eq!(
        bench.refusal(create(49_153)),
        "max initcode size exceeded: code size 49153, limit 49152"
    );
    assert!(bench.add_tx(create(49_152)).is_ok());
}

#[test]
fn gas_limits_outside_the_bounds_are_refused() {
    let bench = Bench::new();
    let gas = |gas| Transfer::new(1, 0).with(|tx| tx.gas_limit = gas).build();
    assert_eq!(
        bench.refusal(gas(16_777_217)),
        "transaction gas limit too high (cap: 16777216, tx: 16777217)"
    );
    assert_eq!(
        bench.refusal(gas(20_000)),
        "intrinsic gas too low: gas 20000, minimum needed 21000"
    );
    let data = Transfer::new(1, 0).data(100).with(|tx| tx.gas_limit = 21_400).build();
    assert_eq!(
        bench.refusal(data),
        "insufficient gas for floor data gas cost: gas 21400, minimum needed 22000"
    );
    let small = Bench::with_rules(|rules| rules.block_gas_limit = 5_000_000);
    assert_eq!(small.refusal(gas(5_000_001)), "exceeds block gas limit");
    assert!(small.add_tx(gas(5_000_000)).is_ok());
}

#[test]
fn intrinsic_gas_follows_the_forks() {
    let create = Transfer::new(1, 0)
        .with(|tx| {
            tx.to = TxKind::Create;
            tx.input = vec![0, 1, 2, 3].into();
            tx.access_list = AccessList(vec![AccessListItem {
                address: account(5),
                storage_keys: vec![B256::ZERO, B256::with_last_byte(1)],
            }]);
        })
        .build();
    let list = 2_400 + 2 * 1_900;
    let gas = |fork| intrinsic_gas(create.inner(), fork) - list;
    assert_eq!(gas(PoolFork::Frontier), 21_000 + 4 + 3 * 68);
    assert_eq!(gas(PoolFork::Homestead), 53_000 + 4 + 3 * 68);
    assert_eq!(gas(PoolFork::Istanbul), 53_000 + 4 + 3 * 16);
    assert_eq!(gas(PoolFork::Shanghai), 53_000 + 4 + 3 * 16 + 2);
    let authorization =
        alloy_eips::eip7702::Authorization { chain_id: U256::ZERO, address: account(1), nonce: 0 };
    let tx = TxEip7702 {
        authorization_list: vec![authorization.into_signed(signature(account(1))); 2],
        ..Default::default()
    };
    assert_eq!(intrinsic_gas(set_code(tx).inner(), PoolFork::Prague), 21_000 + 2 * 25_000);
    assert_eq!(floor_data_gas(&[0, 1, 2, 3]), 21_000 + 10 * (1 + 3 * 4));
}

#[test]
fn impossible_fees_and_nonces_are_refused() {
    let bench = Bench::new();
    assert_eq!(
        bench.refusal(Transfer::new(1, 0).fees(GWEI, 2 * GWEI).build()),
        "max priority fee per gas higher than max fee per gas"
    );
    assert_eq!(bench.refusal(Transfer::new(1, u64::MAX).build()), "nonce has max value");
    assert_eq!(
        bench.refusal(Transfer::new(1, 0).fees(10 * GWEI, 0).build()),
        "transaction gas price below minimum: gas tip cap 0, minimum needed 1"
    );
    let local = Transfer::new(1, 0).fees(10 * GWEI, 0).build();
    assert!(
        bench.pool.add(local, &bench.accounts, Origin::Local).is_ok(),
        "the own user sets the price"
    );
    let overflow = Transfer::new(2, 0).fees(u128::MAX, 1).value(U256::MAX).build();
    let message = bench.refusal(overflow);
    assert!(
        message.starts_with("insufficient funds for gas * price + value: tx cost 1157920892"),
        "{message}"
    );
}

#[test]
fn a_fee_cap_below_the_base_fee_waits_in_the_pool() {
    let bench = Bench::new();
    let added = bench.add(Transfer::new(1, 0).fees(GWEI / 2, 1)).expect("the base fee may fall");
    assert_eq!(added.status, TxStatus::Pending);
    assert_eq!(bench.pool.best(super::BASE_FEE, 1).count(), 0);
    assert_eq!(bench.pool.best(1000, 1).count(), 1);
}

#[test]
fn an_empty_authorization_list_is_refused() {
    let tx = TxEip7702 {
        chain_id: CHAIN_ID,
        gas_limit: 100_000,
        max_fee_per_gas: GWEI,
        max_priority_fee_per_gas: GWEI,
        ..Default::default()
    };
    assert_eq!(
        Bench::new().refusal(set_code(tx)),
        "set code tx must have at least one authorization tuple"
    );
}

#[test]
fn a_contract_cannot_send() {
    let bench = Bench::new();
    bench.accounts.set(1, SenderState { has_non_delegation_code: true, ..rich(1) });
    assert_eq!(
        bench.refusal(Transfer::new(1, 1).build()),
        format!("sender not an eoa: address {}", account(1))
    );
}

#[test]
fn a_used_nonce_is_refused() {
    let bench = Bench::new();
    bench.accounts.set(1, rich(5));
    assert_eq!(
        bench.refusal(Transfer::new(1, 3).build()),
        "nonce too low: next nonce 5, tx nonce 3"
    );
}

#[test]
fn a_balance_must_cover_all_that_is_pending() {
    let bench = Bench::new();
    let cheap = |nonce| Transfer::new(1, nonce).fees(1000, 1000);
    bench.accounts.set(1, SenderState::default());
    assert_eq!(
        bench.refusal(cheap(0).build()),
        "insufficient funds for gas * price + value: balance 0, tx cost 21000000, overshot 21000000"
    );
    bench.accounts.set(1, SenderState { balance: U256::from(50_000_000), ..Default::default() });
    bench.add(cheap(0)).expect("covered");
    bench.add(cheap(1)).expect("covered");
    assert_eq!(
        bench.refusal(cheap(2).build()),
        "insufficient funds for gas * price + value: balance 50000000, queued cost 42000000, tx cost 21000000, \
         overshot 13000000"
    );
    assert_eq!(
        bench.refusal(cheap(1).fees(2000, 2000).build()),
        "insufficient funds for gas * price + value: balance 50000000, queued cost 42000000, tx bumped 21000000, \
         overshot 13000000"
    );
    bench.add(cheap(1).fees(1300, 1300)).expect("the raise is covered");
    assert_eq!(bench.pending(1), [0, 1]);
}

#[test]
fn a_replacement_must_pay_ten_percent_more() {
    let bench = Bench::new();
    let old = bench.add(Transfer::new(1, 0).fees(100, 50)).expect("valid");
    for (fee, tip) in [(100, 50), (109, 55), (110, 54), (110, 50), (1000, 50), (100, 60)] {
        let message =
            bench.refusal(Transfer::new(1, 0).fees(fee, tip).value(U256::from(1)).build());
        assert_eq!(message, "replacement transaction underpriced", "{fee} {tip}");
    }
    let new = bench.add(Transfer::new(1, 0).fees(110, 55)).expect("10 % more");
    assert_eq!(new.replaced, Some(old.hash));
    assert!(!bench.pool.contains(&old.hash));
    assert_eq!(bench.pool.status(), (1, 0));
    let queued = bench.add(Transfer::new(1, 7).fees(100, 50)).expect("valid");
    assert_eq!(
        bench.refusal(Transfer::new(1, 7).fees(105, 52).build()),
        "replacement transaction underpriced"
    );
    let replaced = bench.add(Transfer::new(1, 7).fees(110, 55)).expect("10 % more");
    assert_eq!((replaced.replaced, replaced.status), (Some(queued.hash), TxStatus::Queued));
}

#[test]
fn an_account_has_a_limit() {
    let bench = Bench::with_limits(|limits| limits.per_sender_max = 2);
    bench.add(Transfer::new(1, 0)).expect("valid");
    bench.add(Transfer::new(1, 5)).expect("valid");
    assert_eq!(bench.refusal(Transfer::new(1, 1).build()), "account limit exceeded: pooled 2 txs");
    assert!(bench.add(Transfer::new(1, 5).tip(5)).is_ok(), "a replacement takes no room");
}

#[test]
fn unreadable_state_is_reported() {
    let bench = Bench::new();
    let broken = |_| Err(StateError("disk on fire".into()));
    let error =
        bench.pool.add(Transfer::new(1, 0).build(), &broken, Origin::Local).expect_err("no state");
    assert_eq!(error.to_string(), "account state unavailable: disk on fire");
    assert!(!error.is_bad_transaction());
}

#[test]
fn only_what_can_never_be_valid_is_the_senders_fault() {
    assert!(PoolError::NonceMax.is_bad_transaction());
    assert!(PoolError::IntrinsicGasTooLow { gas: 1, needed: 2 }.is_bad_transaction());
    assert!(!PoolError::PoolFull.is_bad_transaction());
    assert!(!PoolError::NonceTooLow { next: 1, nonce: 0 }.is_bad_transaction());
    assert!(!PoolError::TypeNotSupported { ty: 4, fork: PoolFork::Prague }.is_bad_transaction());
}

//! Blob transactions. Proving takes long, so each sidecar is made once.

use std::sync::LazyLock;

use alloy_consensus::{
    SignableTransaction, TxEip4844, TxEip4844WithSidecar, transaction::Recovered,
};
use alloy_eips::{
    eip4844::{
        Blob, Bytes48,
        builder::{SidecarBuilder, SimpleCoder},
    },
    eip7594::BlobTransactionSidecarVariant,
};
use alloy_primitives::B256;

use super::{BASE_FEE, Bench, CHAIN_ID, GWEI, Transfer, account, signature};
use crate::{PoolError, PoolFork, PoolTransaction};

fn builder() -> SidecarBuilder<SimpleCoder> {
    SidecarBuilder::from_slice(b"heddle")
}

static CELLS: LazyLock<BlobTransactionSidecarVariant> = LazyLock::new(|| {
    BlobTransactionSidecarVariant::Eip7594(
        builder().build_7594().expect("the trusted setup is built in"),
    )
});

fn blob_tx(
    sidecar: BlobTransactionSidecarVariant,
    edit: impl FnOnce(&mut TxEip4844),
) -> Recovered<PoolTransaction> {
    let mut tx = TxEip4844 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI,
        max_priority_fee_per_gas: GWEI,
        max_fee_per_blob_gas: 100,
        to: account(9),
        blob_versioned_hashes: sidecar.versioned_hashes().collect(),
        ..Default::default()
    };
    edit(&mut tx);
    let tx = TxEip4844WithSidecar::from_tx_and_sidecar(tx, sidecar);
    Recovered::new_unchecked(
        PoolTransaction::Eip4844(tx.into_signed(signature(account(1)))),
        account(1),
    )
}

/// A sidecar whose form is right and whose proofs are not, for rules that are checked before proofs.
fn unproven(
    edit: impl FnOnce(&mut Vec<Blob>, &mut Vec<Bytes48>, &mut Vec<Bytes48>),
) -> BlobTransactionSidecarVariant {
    let mut sidecar = CELLS.as_eip7594().expect("cell proofs").clone();
    edit(&mut sidecar.blobs, &mut sidecar.commitments, &mut sidecar.cell_proofs);
    BlobTransactionSidecarVariant::Eip7594(sidecar)
}

#[test]
fn a_blob_transaction_with_cell_proofs_goes_in_and_comes_out_without_its_sidecar() {
    let bench = Bench::new();
    let tx = blob_tx(CELLS.clone(), |_| {});
    let hash = *tx.inner().tx_hash();
    bench.add_tx(tx).expect("valid");
    let pooled = bench.pool.get(&hash).expect("just added");
    assert_eq!((pooled.blob_count(), pooled.max_blob_fee()), (1, Some(100)));
    assert!(pooled.encoded_length() > 131_072);
    let block = pooled.into_block_transaction();
    assert_eq!(block.inner().tx_hash(), &hash);
    assert_eq!(
        block.inner().eip2718_encoded_length(),
        block.inner().as_eip4844().expect("blobs").eip2718_encoded_length()
    );
    assert!(block.inner().eip2718_encoded_length() < 300);

    assert_eq!(bench.pool.best(BASE_FEE, 100).count(), 1);
    assert_eq!(bench.pool.best(BASE_FEE, 101).count(), 0, "the blob fee is above its cap");
}

#[test]
fn a_blob_replacement_doubles_every_fee() {
    let bench = Bench::new();
    bench.add_tx(blob_tx(CELLS.clone(), |_| {})).expect("valid");
    let bump = |fee: u128, tip: u128, blob_fee: u128| {
        blob_tx(CELLS.clone(), |tx| {
            tx.max_fee_per_gas = fee;
            tx.max_priority_fee_per_gas = tip;
            tx.max_fee_per_blob_gas = blob_fee;
        })
    };
    assert_eq!(
        bench.refusal(bump(20 * GWEI, 2 * GWEI, 199)),
        "replacement transaction underpriced"
    );
    assert_eq!(
        bench.refusal(bump(19 * GWEI, 2 * GWEI, 200)),
        "replacement transaction underpriced"
    );
    let plain = Transfer::new(1, 0).fees(19 * GWEI, 2 * GWEI).build();
    assert_eq!(bench.refusal(plain), "replacement transaction underpriced");
    bench.add_tx(bump(20 * GWEI, 2 * GWEI, 200)).expect("doubles all three");
}

#[test]
fn wrong_proofs_are_refused() {
    let bench = Bench::new();
    let swapped = unproven(|_, _, proofs| proofs.swap(0, 1));
    let message = bench.refusal(blob_tx(swapped, |_| {}));
    assert!(message.starts_with("KZG verification error: "), "{message}");
}

#[test]
fn the_sidecar_has_the_version_of_the_fork() {
    let old_sidecar = BlobTransactionSidecarVariant::Eip4844(
        builder().build_4844().expect("the trusted setup is built in"),
    );
    let osaka = Bench::new();
    assert_eq!(
        osaka.refusal(blob_tx(old_sidecar.clone(), |_| {})),
        "unexpected sidecar version, want: 1, got: 0"
    );
    let prague =
        Bench::with_rules(|rules| (rules.fork, rules.tx_gas_limit_cap) = (PoolFork::Prague, None));
    assert_eq!(
        prague.refusal(blob_tx(CELLS.clone(), |_| {})),
        "unexpected sidecar version, want: 0, got: 1"
    );
    prague.add_tx(blob_tx(old_sidecar, |_| {})).expect("blob proofs are right before Osaka");
}

#[test]
fn malformed_sidecars_are_refused_before_any_proof() {
    let bench = Bench::new();
    let refusal = |sidecar, edit: &dyn Fn(&mut TxEip4844)| bench.refusal(blob_tx(sidecar, edit));
    let hashes =
        |count: usize| move |tx: &mut TxEip4844| tx.blob_versioned_hashes = vec![B256::ZERO; count];

    assert_eq!(refusal(CELLS.clone(), &hashes(0)), "blobless blob transaction");
    assert_eq!(
        refusal(CELLS.clone(), &hashes(7)),
        "too many blobs in transaction: have 7, permitted 6"
    );
    assert_eq!(
        refusal(CELLS.clone(), &hashes(2)),
        "invalid number of 1 blobs compared to 2 blob hashes"
    );
    assert_eq!(
        refusal(BlobTransactionSidecarVariant::default(), &hashes(1)),
        "missing sidecar in blob transaction"
    );
    assert_eq!(
        refusal(CELLS.clone(), &|tx| tx.max_fee_per_blob_gas = 0),
        "transaction gas price below minimum: blob fee cap 0, minimum needed 1"
    );
    let one = unproven(|_, commitments, _| commitments.push(Bytes48::ZERO));
    assert_eq!(
        refusal(one, &hashes(1)),
        "invalid number of 2 blob commitments compared to 1 blob hashes"
    );
    let short = unproven(|_, _, proofs| proofs.truncate(127));
    assert_eq!(refusal(short, &|_| {}), "invalid number of 127 blob proofs expected 128");
    let computed = CELLS.versioned_hashes().next().expect("one blob");
    assert_eq!(
        refusal(CELLS.clone(), &hashes(1)),
        format!("blob 0: computed hash {computed} mismatches transaction one {}", B256::ZERO)
    );
    let cancun = Bench::with_rules(|rules| {
        (rules.fork, rules.tx_gas_limit_cap) = (PoolFork::Shanghai, None);
    });
    assert_eq!(
        cancun.refusal(blob_tx(CELLS.clone(), |_| {})),
        "transaction type not supported: type 3 rejected, pool not yet in Cancun"
    );
}

#[test]
fn blobs_have_a_budget_of_their_own() {
    let bench = Bench::with_limits(|limits| limits.blob_bytes_max = 150_000);
    bench.add_tx(blob_tx(CELLS.clone(), |_| {})).expect("room for one");
    let other = |tip: u128| {
        let tx = blob_tx(CELLS.clone(), |tx| tx.max_priority_fee_per_gas = tip);
        Recovered::new_unchecked(tx.into_inner(), account(2))
    };
    assert_eq!(bench.add_tx(other(GWEI / 2)), Err(PoolError::Underpriced));
    bench.add(Transfer::new(3, 0)).expect("plain transactions are not concerned");
    bench.add_tx(other(2 * GWEI)).expect("outbids the other blob");
    assert_eq!((bench.pending(1), bench.pending(2), bench.pending(3)), (vec![], vec![0], vec![0]));
}

//! Checks that need no state: the transaction against the rules of the next block.

use alloy_consensus::Transaction;
use alloy_eips::{
    eip2718::Typed2718,
    eip4844::{BLOB_TX_MIN_BLOB_GASPRICE, env_settings::EnvKzgSettings},
    eip7594::{BlobTransactionSidecarVariant, CELLS_PER_EXT_BLOB, EIP_7594_WRAPPER_VERSION},
    eip7623::TOTAL_COST_FLOOR_PER_TOKEN,
};
use alloy_primitives::B256;

use crate::{
    Origin, PoolError, PoolFork, PoolRules, PoolTransaction, PooledTx,
    limits::{BLOB_TX_BYTES_MAX, TX_BYTES_MAX},
};

const TX_GAS: u64 = 21_000;
/// EIP-2.
const TX_CREATE_GAS: u64 = 53_000;
const ZERO_BYTE_GAS: u64 = 4;
const NON_ZERO_BYTE_GAS_FRONTIER: u64 = 68;
/// EIP-2028.
const NON_ZERO_BYTE_GAS_ISTANBUL: u64 = 16;
/// EIP-2930.
const ACCESS_LIST_ADDRESS_GAS: u64 = 2_400;
/// EIP-2930.
const ACCESS_LIST_STORAGE_KEY_GAS: u64 = 1_900;
/// EIP-3860, per 32-byte word.
const INITCODE_WORD_GAS: u64 = 2;
/// EIP-7702 `PER_EMPTY_ACCOUNT_COST`.
const AUTHORIZATION_GAS: u64 = 25_000;
/// EIP-7623: a non-zero byte counts as this many tokens, a zero byte as one.
const TOKENS_PER_NON_ZERO_BYTE: u64 = 4;

/// Everything except the proofs of blobs. Cheap: linear in the transaction's size.
pub(crate) fn check_rules(
    tx: &PooledTx,
    rules: &PoolRules,
    origin: Origin,
) -> Result<(), PoolError> {
    let transaction = tx.transaction();
    let is_blob = transaction.is_eip4844();

    let limit = if is_blob { BLOB_TX_BYTES_MAX } else { TX_BYTES_MAX };
    if tx.encoded_length() > limit {
        return Err(PoolError::Oversized { size: tx.encoded_length(), limit });
    }
    check_type(transaction, rules)?;
    check_signature(transaction, rules)?;

    let input = transaction.input().len();
    if transaction.is_create() && rules.has(PoolFork::Shanghai) && input > rules.max_initcode_bytes
    {
        return Err(PoolError::InitCodeTooLarge { size: input, limit: rules.max_initcode_bytes });
    }
    let gas = transaction.gas_limit();
    if let Some(cap) = rules.tx_gas_limit_cap.filter(|cap| gas > *cap) {
        return Err(PoolError::TxGasLimitTooHigh { cap, gas });
    }
    if gas > rules.block_gas_limit {
        return Err(PoolError::ExceedsBlockGasLimit);
    }
    if tx.tip_cap() > tx.max_fee() {
        return Err(PoolError::TipAboveFeeCap);
    }
    if transaction.nonce() == u64::MAX {
        return Err(PoolError::NonceMax);
    }
    let needed = intrinsic_gas(transaction, rules.fork);
    if gas < needed {
        return Err(PoolError::IntrinsicGasTooLow { gas, needed });
    }
    if rules.has(PoolFork::Prague) {
        let needed = floor_data_gas(transaction.input());
        if gas < needed {
            return Err(PoolError::FloorDataGasTooLow { gas, needed });
        }
    }
    if origin == Origin::External && tx.tip_cap() < rules.min_tip {
        return Err(PoolError::TipBelowMinimum { tip: tx.tip_cap(), minimum: rules.min_tip });
    }
    if is_blob {
        check_blob_form(tx, rules)?;
    }
    if transaction.is_eip7702() && transaction.authorization_count().unwrap_or(0) == 0 {
        return Err(PoolError::EmptyAuthorizationList);
    }
    Ok(())
}

/// Verifies the blobs' KZG proofs. Milliseconds a blob; hold no lock.
pub(crate) fn check_blob_proofs(tx: &PooledTx) -> Result<(), PoolError> {
    let PoolTransaction::Eip4844(signed) = tx.transaction() else {
        return Ok(());
    };
    signed
        .tx()
        .validate_blob(EnvKzgSettings::Default.get())
        .map_err(|error| PoolError::Kzg(error.to_string()))
}

/// The gas a transaction costs before its first opcode, without the floor of EIP-7623.
pub fn intrinsic_gas(transaction: &PoolTransaction, fork: PoolFork) -> u64 {
    let input = transaction.input();
    let bytes = input.len() as u64;
    let non_zero = non_zero_bytes(input);
    let non_zero_gas = if fork >= PoolFork::Istanbul {
        NON_ZERO_BYTE_GAS_ISTANBUL
    } else {
        NON_ZERO_BYTE_GAS_FRONTIER
    };

    let creates = transaction.is_create();
    let base = if creates && fork >= PoolFork::Homestead { TX_CREATE_GAS } else { TX_GAS };
    let data = non_zero * non_zero_gas + (bytes - non_zero) * ZERO_BYTE_GAS;
    let initcode = if creates && fork >= PoolFork::Shanghai {
        bytes.div_ceil(32) * INITCODE_WORD_GAS
    } else {
        0
    };
    let access_list = transaction.access_list().map_or(0, |list| {
        let keys: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        list.len() as u64 * ACCESS_LIST_ADDRESS_GAS + keys as u64 * ACCESS_LIST_STORAGE_KEY_GAS
    });
    let authorizations = transaction.authorization_count().unwrap_or(0) * AUTHORIZATION_GAS;
    base + data + initcode + access_list + authorizations
}

/// The least gas a transaction with this data pays from Prague on (EIP-7623).
pub fn floor_data_gas(input: &[u8]) -> u64 {
    let non_zero = non_zero_bytes(input);
    let tokens = non_zero * TOKENS_PER_NON_ZERO_BYTE + (input.len() as u64 - non_zero);
    TX_GAS + tokens * TOTAL_COST_FLOOR_PER_TOKEN
}

fn non_zero_bytes(input: &[u8]) -> u64 {
    input.iter().filter(|byte| **byte != 0).count() as u64
}

fn check_type(transaction: &PoolTransaction, rules: &PoolRules) -> Result<(), PoolError> {
    let fork = match transaction {
        PoolTransaction::Legacy(_) => PoolFork::Frontier,
        PoolTransaction::Eip2930(_) => PoolFork::Berlin,
        PoolTransaction::Eip1559(_) => PoolFork::London,
        PoolTransaction::Eip4844(_) => PoolFork::Cancun,
        PoolTransaction::Eip7702(_) => PoolFork::Prague,
    };
    if rules.has(fork) {
        Ok(())
    } else {
        Err(PoolError::TypeNotSupported { ty: transaction.ty(), fork })
    }
}

fn check_signature(transaction: &PoolTransaction, rules: &PoolRules) -> Result<(), PoolError> {
    if let Some(have) = transaction.chain_id() {
        if !rules.has(PoolFork::SpuriousDragon) {
            return Err(PoolError::InvalidSignature);
        }
        if have != rules.chain_id {
            return Err(PoolError::WrongChainId { have, want: rules.chain_id });
        }
    }
    // `normalize_s` answers only for a signature in the upper half, which EIP-2 forbids.
    if rules.has(PoolFork::Homestead) && transaction.signature().normalize_s().is_some() {
        return Err(PoolError::InvalidSignature);
    }
    Ok(())
}

/// Numbers, versions and hashes of a blob transaction; not the proofs.
fn check_blob_form(tx: &PooledTx, rules: &PoolRules) -> Result<(), PoolError> {
    let PoolTransaction::Eip4844(signed) = tx.transaction() else {
        return Ok(());
    };
    let sidecar = signed.tx().sidecar();
    let hashes = &signed.tx().tx().blob_versioned_hashes;

    let fee = signed.tx().tx().max_fee_per_blob_gas;
    if fee < BLOB_TX_MIN_BLOB_GASPRICE {
        return Err(PoolError::BlobFeeBelowMinimum { fee, minimum: BLOB_TX_MIN_BLOB_GASPRICE });
    }
    if hashes.is_empty() {
        return Err(PoolError::Blobless);
    }
    if hashes.len() as u64 > rules.blobs_max() {
        return Err(PoolError::TooManyBlobs { have: hashes.len(), permitted: rules.blobs_max() });
    }
    if sidecar.blobs().is_empty() && sidecar.commitments().is_empty() {
        return Err(PoolError::MissingSidecar);
    }
    let (got, proofs, proofs_per_blob) = match sidecar {
        BlobTransactionSidecarVariant::Eip4844(sidecar) => (0, sidecar.proofs.len(), 1),
        BlobTransactionSidecarVariant::Eip7594(sidecar) => {
            (EIP_7594_WRAPPER_VERSION, sidecar.cell_proofs.len(), CELLS_PER_EXT_BLOB)
        }
    };
    let want = if rules.has(PoolFork::Osaka) { EIP_7594_WRAPPER_VERSION } else { 0 };
    if got != want {
        return Err(PoolError::SidecarVersion { want, got });
    }
    if sidecar.blobs().len() != hashes.len() {
        return Err(PoolError::BlobCount { blobs: sidecar.blobs().len(), hashes: hashes.len() });
    }
    if sidecar.commitments().len() != hashes.len() {
        return Err(PoolError::CommitmentCount {
            commitments: sidecar.commitments().len(),
            hashes: hashes.len(),
        });
    }
    check_blob_hashes(sidecar, hashes)?;
    let expected = hashes.len() * proofs_per_blob;
    if proofs != expected {
        return Err(PoolError::ProofCount { proofs, expected });
    }
    Ok(())
}

fn check_blob_hashes(
    sidecar: &BlobTransactionSidecarVariant,
    hashes: &[B256],
) -> Result<(), PoolError> {
    for (index, (computed, declared)) in
        sidecar.versioned_hashes().zip(hashes.iter().copied()).enumerate()
    {
        if computed != declared {
            return Err(PoolError::BlobHash { index, computed, declared });
        }
    }
    Ok(())
}

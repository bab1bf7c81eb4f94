//! The header against its parent's.

use super::difficulty::child_difficulty;
use crate::{ImportError, import_error::OptionalField};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_primitives::{B64, Bytes, U256};
use heddle_chainspec::{ChainSpec, EthereumHardfork, EthereumHardforks};

/// Bytes of extra data (yellow paper, 4.4.4).
const EXTRA_DATA_BYTES_MAX: usize = 32;

/// What the blocks of the DAO fork carry (EIP-779), and how many of them.
const DAO_EXTRA_DATA: &[u8] = b"dao-hard-fork";
const DAO_EXTRA_DATA_BLOCKS: u64 = 10;

/// Checks everything about a header that follows from its parent. `merged`: whether the block is
/// proof of stake, which its parent's total difficulty decides.
pub(crate) fn check_header(
    spec: &ChainSpec,
    header: &Header,
    parent: &Header,
    merged: bool,
) -> Result<(), ImportError> {
    if parent.number.checked_add(1) != Some(header.number) {
        return Err(ImportError::Number { parent: parent.number, actual: header.number });
    }
    if header.timestamp <= parent.timestamp {
        return Err(ImportError::Timestamp { parent: parent.timestamp, actual: header.timestamp });
    }
    if spec.is_amsterdam_active_at_timestamp(header.timestamp) {
        let fork = spec.fork_at(header.number, header.timestamp);
        return Err(ImportError::UnsupportedFork { number: header.number, fork });
    }
    check_extra_data(spec, header)?;
    check_seal_fields(spec, header, parent, merged)?;
    check_gas(spec, header, parent)?;
    check_base_fee(spec, header, parent)?;
    check_fields_of_forks(spec, header)?;
    check_blob_gas(spec, header, parent)
}

fn check_extra_data(spec: &ChainSpec, header: &Header) -> Result<(), ImportError> {
    let actual = header.extra_data.len();
    if actual > EXTRA_DATA_BYTES_MAX {
        return Err(ImportError::ExtraDataTooLong { max: EXTRA_DATA_BYTES_MAX, actual });
    }
    let blocks_since = spec.dao_fork_block().and_then(|fork| header.number.checked_sub(fork));
    if blocks_since.is_some_and(|blocks| blocks < DAO_EXTRA_DATA_BLOCKS)
        && *header.extra_data != *DAO_EXTRA_DATA
    {
        return Err(ImportError::DaoExtraData {
            expected: Bytes::from_static(DAO_EXTRA_DATA),
            actual: header.extra_data.clone(),
        });
    }
    Ok(())
}

/// Difficulty, and after the merge the other fields that proof of work has left (EIP-3675).
fn check_seal_fields(
    spec: &ChainSpec,
    header: &Header,
    parent: &Header,
    merged: bool,
) -> Result<(), ImportError> {
    let expected =
        if merged { U256::ZERO } else { child_difficulty(spec, parent, header.timestamp) };
    if header.difficulty != expected {
        return Err(ImportError::Difficulty { expected, actual: header.difficulty });
    }
    if merged && header.nonce != B64::ZERO {
        return Err(ImportError::NonceAfterMerge(header.nonce));
    }
    if merged && header.ommers_hash != EMPTY_OMMER_ROOT_HASH {
        let (header, body) = (header.ommers_hash, EMPTY_OMMER_ROOT_HASH);
        return Err(ImportError::OmmersHash { header, body });
    }
    Ok(())
}

fn check_gas(spec: &ChainSpec, header: &Header, parent: &Header) -> Result<(), ImportError> {
    let (gas_limit, gas_used) = (header.gas_limit, header.gas_used);
    let bounds = spec.gas_limit_bounds(parent);
    if !bounds.contains(&gas_limit) {
        let (min, max) = bounds.into_inner();
        return Err(ImportError::GasLimit { min, max, actual: gas_limit });
    }
    if gas_used > gas_limit {
        return Err(ImportError::GasUsedAboveLimit { gas_limit, gas_used });
    }
    Ok(())
}

fn check_base_fee(spec: &ChainSpec, header: &Header, parent: &Header) -> Result<(), ImportError> {
    match (spec.next_base_fee(parent), header.base_fee_per_gas) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(ImportError::FieldTooEarly(OptionalField::BaseFee)),
        (Some(_), None) => Err(ImportError::FieldMissing(OptionalField::BaseFee)),
        (Some(expected), Some(actual)) if expected != actual => {
            Err(ImportError::BaseFee { expected, actual })
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

fn check_fields_of_forks(spec: &ChainSpec, header: &Header) -> Result<(), ImportError> {
    let active = |fork| spec.is_ethereum_fork_active_at_timestamp(fork, header.timestamp);
    let shanghai = active(EthereumHardfork::Shanghai);
    let cancun = active(EthereumHardfork::Cancun);
    let prague = active(EthereumHardfork::Prague);
    let fields = [
        (OptionalField::WithdrawalsRoot, shanghai, header.withdrawals_root.is_some()),
        (OptionalField::BlobGasUsed, cancun, header.blob_gas_used.is_some()),
        (OptionalField::ExcessBlobGas, cancun, header.excess_blob_gas.is_some()),
        (OptionalField::ParentBeaconBlockRoot, cancun, header.parent_beacon_block_root.is_some()),
        (OptionalField::RequestsHash, prague, header.requests_hash.is_some()),
        // Blocks of Amsterdam are refused before.
        (OptionalField::BlockAccessListHash, false, header.block_access_list_hash.is_some()),
        (OptionalField::SlotNumber, false, header.slot_number.is_some()),
    ];
    for (field, active, present) in fields {
        match (active, present) {
            (true, false) => return Err(ImportError::FieldMissing(field)),
            (false, true) => return Err(ImportError::FieldTooEarly(field)),
            _ => {}
        }
    }
    Ok(())
}

fn check_blob_gas(spec: &ChainSpec, header: &Header, parent: &Header) -> Result<(), ImportError> {
    let (Some(params), Some(used), Some(excess)) =
        (spec.blob_params_at(header.timestamp), header.blob_gas_used, header.excess_blob_gas)
    else {
        return Ok(());
    };
    let max = params.max_blob_gas_per_block();
    if used > max {
        return Err(ImportError::BlobGasAboveLimit { max, actual: used });
    }
    if !used.is_multiple_of(DATA_GAS_PER_BLOB) {
        return Err(ImportError::BlobGasNotWhole { blob: DATA_GAS_PER_BLOB, actual: used });
    }
    match spec.next_excess_blob_gas(parent, header.timestamp) {
        Some(expected) if expected != excess => {
            Err(ImportError::ExcessBlobGas { expected, actual: excess })
        }
        _ => Ok(()),
    }
}

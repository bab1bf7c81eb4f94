//! The body against its header, and the senders.

use crate::{ImportError, import_error::OptionalField};
use alloy_consensus::{
    Transaction as _, TxType,
    proofs::{calculate_ommers_root, calculate_transaction_root, calculate_withdrawals_root},
    transaction::SignerRecoverable,
};
use alloy_primitives::Address;
use alloy_rlp::Encodable;
use heddle_chainspec::{ChainSpec, EthereumHardfork, EthereumHardforks};
use heddle_evm::{Block, Transaction};
use rayon::prelude::*;

/// From how many transactions on senders are recovered on several threads; one takes some 50 µs.
const PARALLEL_RECOVERY_TRANSACTIONS: usize = 4;

/// Checks that the body is the one that the header commits to, and the transactions as far as the
/// state does not matter. Gives the length of the block's RLP in bytes.
pub(crate) fn check_body(spec: &ChainSpec, block: &Block) -> Result<usize, ImportError> {
    let (header, body) = (&block.header, &block.body);
    let size = block.length();
    if let Some(max) = spec.rlp_block_size_max(header.timestamp)
        && size > max
    {
        return Err(ImportError::BlockTooLarge { max, actual: size });
    }
    let ommers = calculate_ommers_root(&body.ommers);
    if ommers != header.ommers_hash {
        return Err(ImportError::OmmersHash { header: header.ommers_hash, body: ommers });
    }
    let transactions = calculate_transaction_root(&body.transactions);
    if transactions != header.transactions_root {
        let header = header.transactions_root;
        return Err(ImportError::TransactionsRoot { header, body: transactions });
    }
    match (header.withdrawals_root, &body.withdrawals) {
        (None, None) => {}
        (None, Some(_)) => return Err(ImportError::FieldTooEarly(OptionalField::Withdrawals)),
        (Some(_), None) => return Err(ImportError::FieldMissing(OptionalField::Withdrawals)),
        (Some(header), Some(withdrawals)) => {
            let body = calculate_withdrawals_root(withdrawals);
            if body != header {
                return Err(ImportError::WithdrawalsRoot { header, body });
            }
        }
    }
    for (index, tx) in body.transactions.iter().enumerate() {
        check_transaction(spec, block, index, tx)?;
    }
    if let Some(claimed) = header.blob_gas_used {
        let blob_gas = body.transactions.iter().filter_map(|tx| tx.blob_gas_used());
        let actual = blob_gas.fold(0u64, u64::saturating_add);
        if actual != claimed {
            return Err(ImportError::BlobGasUsed { header: claimed, actual });
        }
    }
    Ok(size)
}

fn check_transaction(
    spec: &ChainSpec,
    block: &Block,
    index: usize,
    tx: &Transaction,
) -> Result<(), ImportError> {
    let (number, timestamp) = (block.header.number, block.header.timestamp);
    let tx_type = tx.tx_type();
    let fork = match tx_type {
        TxType::Legacy => EthereumHardfork::Frontier,
        TxType::Eip2930 => EthereumHardfork::Berlin,
        TxType::Eip1559 => EthereumHardfork::London,
        TxType::Eip4844 => EthereumHardfork::Cancun,
        TxType::Eip7702 => EthereumHardfork::Prague,
    };
    let condition = spec.ethereum_fork_activation(fork);
    if !condition.active_at_timestamp_or_number(timestamp, number) {
        return Err(ImportError::TransactionType { index, tx_type, fork });
    }
    if let Some(chain_id) = tx.chain_id() {
        if tx.is_legacy() && !spec.is_spurious_dragon_active_at_block(number) {
            return Err(ImportError::ReplayProtectionTooEarly { index, chain_id });
        }
        if chain_id != spec.chain_id() {
            let expected = spec.chain_id();
            return Err(ImportError::TransactionChainId { index, expected, actual: chain_id });
        }
    }
    match spec.transaction_gas_limit_cap(timestamp) {
        Some(max) if tx.gas_limit() > max => {
            Err(ImportError::TransactionGasLimit { index, max, actual: tx.gas_limit() })
        }
        _ => Ok(()),
    }
}

/// The sender of each transaction. From Homestead on a signature must have a low `s` (EIP-2).
pub(crate) fn recover_senders(
    spec: &ChainSpec,
    block: &Block,
) -> Result<Vec<Address>, ImportError> {
    let low_s_only = spec.is_homestead_active_at_block(block.header.number);
    let recover = |(index, tx): (usize, &Transaction)| {
        let recovered =
            if low_s_only { tx.recover_signer() } else { tx.recover_signer_unchecked() };
        recovered.map_err(|_| ImportError::Signature {
            index,
            high_s: low_s_only && tx.recover_signer_unchecked().is_ok(),
        })
    };
    let transactions = &block.body.transactions;
    if transactions.len() < PARALLEL_RECOVERY_TRANSACTIONS {
        transactions.iter().enumerate().map(recover).collect()
    } else {
        transactions.par_iter().enumerate().map(recover).collect()
    }
}

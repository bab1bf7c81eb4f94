//! Calls as the transactions of a simulated block: nobody has signed them.

use alloy_consensus::{
    Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy, transaction::Recovered,
};
use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Signature, TxKind, U256, keccak256};
use alloy_rlp::{BufMut, Encodable, Header};
use alloy_rpc_types_eth::TransactionRequest;
use heddle_evm::{RecoveredTransaction, Transaction};

/// The transaction that a call with nonce and gas filled in stands for, of the type that geth would give it, with a
/// signature of zeros.
pub(crate) fn unsigned(request: &TransactionRequest, chain_id: u64) -> RecoveredTransaction {
    let signature = Signature::new(U256::ZERO, U256::ZERO, false);
    let nonce = request.nonce.unwrap_or_default();
    let gas_limit = request.gas.unwrap_or_default();
    let to = request.to.unwrap_or(TxKind::Create);
    let value = request.value.unwrap_or_default();
    let input = request.input.input().cloned().unwrap_or_default();
    let access_list = request.access_list.clone().unwrap_or_default();
    let max_fee_per_gas = request.max_fee_per_gas.unwrap_or_default();
    let max_priority_fee_per_gas = request.max_priority_fee_per_gas.unwrap_or_default();
    let hashes = request.blob_versioned_hashes.clone();
    let authorizations = request.authorization_list.clone();
    let transaction = match (request.gas_price, authorizations, hashes, to.to().copied()) {
        (Some(gas_price), _, _, _) if request.access_list.is_none() => {
            let chain_id = None;
            let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
            let hash = keccak256(unsigned_legacy(&tx));
            Transaction::Legacy(Signed::new_unchecked(tx, signature, hash))
        }
        (Some(gas_price), _, _, _) => {
            TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input }
                .into_signed_with(signature)
        }
        (None, Some(authorization_list), _, Some(to)) => TxEip7702 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to,
            value,
            access_list,
            authorization_list,
            input,
        }
        .into_signed_with(signature),
        (None, None, Some(blob_versioned_hashes), Some(to)) => TxEip4844 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to,
            value,
            access_list,
            blob_versioned_hashes,
            max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or_default(),
            input,
        }
        .into_signed_with(signature),
        _ => TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas,
            max_priority_fee_per_gas,
            to,
            value,
            access_list,
            input,
        }
        .into_signed_with(signature),
    };
    Recovered::new_unchecked(transaction, request.from.unwrap_or_default())
}

trait IntoSignedWith {
    fn into_signed_with(self, signature: Signature) -> Transaction;
}

impl<T> IntoSignedWith for T
where
    T: alloy_consensus::SignableTransaction<Signature>,
    Signed<T>: Into<Transaction>,
{
    fn into_signed_with(self, signature: Signature) -> Transaction {
        self.into_signed(signature).into()
    }
}

/// The root of the transactions as geth has it.
pub(super) fn transactions_root(transactions: &[RecoveredTransaction]) -> B256 {
    alloy_consensus::proofs::ordered_trie_root_with_encoder(transactions, |transaction, out| {
        match transaction.inner() {
            Transaction::Legacy(signed) => {
                out.put_slice(&unsigned_legacy(signed.tx()));
            }
            other => other.encode_2718(out),
        }
    })
}

/// A legacy transaction whose v, r and s are 0, which no signature has.
fn unsigned_legacy(tx: &TxLegacy) -> Vec<u8> {
    let zero = 0_u8;
    let fields: [&dyn Encodable; 9] = [
        &tx.nonce,
        &tx.gas_price,
        &tx.gas_limit,
        &tx.to,
        &tx.value,
        &tx.input,
        &zero,
        &zero,
        &zero,
    ];
    let mut out = Vec::new();
    let payload_length = fields.iter().map(|field| field.length()).sum();
    Header { list: true, payload_length }.encode(&mut out);
    for field in fields {
        field.encode(&mut out);
    }
    out
}

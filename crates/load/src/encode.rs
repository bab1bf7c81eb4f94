//! Signing and encoding, before the clock starts.

use crate::{LoadError, keys::Keyring, lane::Lane};
use alloy_consensus::{SignableTransaction, TxEip1559, crypto::secp256k1::sign_message};
use alloy_primitives::{Address, B256, U256, hex, map::AddressMap};
use heddle_workload::Call;
use rayon::prelude::*;

/// Transactions between two looks at the progress.
const CHUNK: usize = 4_096;

/// What every transaction of a run has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) chain_id: u64,
    /// Wei per gas.
    pub(crate) max_fee: u128,
    /// Wei per gas.
    pub(crate) max_tip: u128,
}

/// What is kept of a transaction to know it again.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub(crate) hash: B256,
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) fails: bool,
}

/// Transactions ready to be sent, and what is known of each, by their index.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) transactions: Vec<Tracked>,
}

/// Most bytes of encoded requests in memory.
const ENCODED_BYTES_MAX: usize = 3 << 30;

/// Signs and encodes on all cores. Each account's transactions go into one lane, in their order.
pub(crate) fn prepare(
    calls: Vec<Call>,
    keys: &Keyring,
    terms: Terms,
    connections: usize,
    mut progress: impl FnMut(usize),
) -> Result<Prepared, LoadError> {
    let mut lanes: Vec<_> = (0..connections.max(1)).map(|_| Lane::default()).collect();
    // Each sender's lane, and where in it its latest is.
    let mut lane_of: AddressMap<(usize, Option<u32>)> = AddressMap::default();
    let mut transactions = Vec::with_capacity(calls.len());
    let mut bytes = 0;
    let mut calls = calls.into_iter();
    loop {
        // Taken chunk by chunk, so that each one's call data is gone once it is encoded.
        let chunk: Vec<Call> = calls.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(Prepared { lanes, transactions });
        }
        let mut positions = Vec::with_capacity(chunk.len());
        let mut next: Vec<usize> = lanes.iter().map(Lane::len).collect();
        for call in &chunk {
            let new = lane_of.len() % lanes.len();
            let (lane, latest) = lane_of.entry(call.from).or_insert((new, None));
            let (lane, former) = (*lane, latest.replace(next[*lane] as u32));
            positions.push((lane, next[lane], former));
            next[lane] += 1;
        }
        let encoded: Vec<_> = chunk
            .into_par_iter()
            .zip(&positions)
            .map(|(call, (_, position, _))| encode(call, keys, terms, *position))
            .collect::<Result<_, LoadError>>()?;
        for ((request, tracked), (lane, _, former)) in encoded.into_iter().zip(positions) {
            bytes += request.len();
            lanes[lane].push(request, transactions.len(), former);
            transactions.push(tracked);
        }
        if bytes > ENCODED_BYTES_MAX {
            return Err(LoadError::TooLarge { limit: ENCODED_BYTES_MAX });
        }
        progress(transactions.len());
    }
}

/// The request that sends a transaction. Its id is the place in its lane.
fn encode(
    call: Call,
    keys: &Keyring,
    terms: Terms,
    position: usize,
) -> Result<(Box<str>, Tracked), LoadError> {
    let key = keys.key(&call.from).ok_or(LoadError::PrivateKey)?;
    let tx = TxEip1559 {
        chain_id: terms.chain_id,
        nonce: call.nonce,
        gas_limit: call.gas_limit,
        max_fee_per_gas: terms.max_fee,
        max_priority_fee_per_gas: terms.max_tip,
        to: call.to,
        value: call.value,
        access_list: Default::default(),
        input: call.input,
    };
    let signature = sign_message(key, tx.signature_hash()).map_err(|_| LoadError::PrivateKey)?;
    let signed = tx.into_signed(signature);
    let mut raw = Vec::with_capacity(signed.eip2718_encoded_length());
    signed.eip2718_encode(&mut raw);
    let raw = hex::encode(raw);
    let request = format!(
        r#"{{"jsonrpc":"2.0","id":{position},"method":"eth_sendRawTransaction","params":["0x{raw}"]}}"#
    );
    let tracked = Tracked {
        hash: *signed.hash(),
        from: call.from,
        to: call.to.to().copied(),
        value: call.value,
        fails: call.fails,
    };
    Ok((request.into(), tracked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable};
    use alloy_eips::Decodable2718;
    use alloy_primitives::{TxKind, keccak256};
    use heddle_workload::Group;

    fn prepared(senders: usize, each: u64, connections: usize) -> (Vec<Call>, Prepared) {
        let keys = Keyring::new(3, B256::ZERO, senders);
        let book = keys.address_book();
        let call = |index: usize| Call {
            from: book(Group::Sender, index % senders),
            nonce: (index / senders) as u64,
            to: TxKind::Call(Address::repeat_byte(7)),
            value: U256::from(index),
            input: vec![index as u8; index % 70].into(),
            gas_limit: 50_000,
            fails: index % 10 == 9,
        };
        let calls: Vec<_> = (0..senders * each as usize).map(call).collect();
        let terms = Terms { chain_id: 5, max_fee: 1_000, max_tip: 10 };
        let prepared = prepare(calls.clone(), &keys, terms, connections, |_| {}).unwrap();
        (calls, prepared)
    }

    #[test]
    fn every_request_is_the_signed_transaction_and_has_its_place_as_id() {
        let (calls, prepared) = prepared(7, 9, 3);
        let mut seen = 0;
        for lane in &prepared.lanes {
            for position in 0..lane.len() {
                let (request, index) = lane.request(position);
                let json: serde_json::Value = serde_json::from_str(request).unwrap();
                assert_eq!(json["id"], position);
                assert_eq!(json["method"], "eth_sendRawTransaction");
                let raw = hex::decode(json["params"][0].as_str().unwrap()).unwrap();
                let tx = TxEnvelope::decode_2718(&mut &raw[..]).unwrap();
                let (call, tracked) = (&calls[index], &prepared.transactions[index]);
                assert_eq!(keccak256(&raw), tracked.hash);
                assert_eq!(tx.recover_signer().unwrap(), call.from);
                assert_eq!((tx.nonce(), tx.chain_id()), (call.nonce, Some(5)));
                assert_eq!((tx.input(), tx.value()), (&call.input, call.value));
                assert_eq!((tx.max_fee_per_gas(), tx.gas_limit()), (1_000, 50_000));
                assert_eq!((tracked.from, tracked.fails), (call.from, call.fails));
                seen += 1;
            }
        }
        assert_eq!(seen, calls.len());
    }

    #[test]
    fn an_account_s_transactions_are_in_one_lane_in_order() {
        let (calls, prepared) = prepared(10, 4, 3);
        for lane in &prepared.lanes {
            assert!(lane.len() >= 12, "lanes are about as long as each other");
            let mut next: AddressMap<u64> = AddressMap::default();
            for position in 0..lane.len() {
                let call = &calls[lane.request(position).1];
                let expected = next.entry(call.from).or_default();
                assert_eq!(call.nonce, *expected);
                *expected += 1;
            }
            assert!(next.values().all(|count| *count == 4), "whole accounts");
        }
    }
}

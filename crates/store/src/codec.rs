//! Values as bytes: accounts, slot values, headers, bodies and receipts.
//!
//! Integers are big-endian without leading zeros. What consensus has an RLP form for is kept in it.

use crate::StoreError;
use crate::block::Transaction;
use alloy_consensus::{Header, Receipt, ReceiptEnvelope, TxReceipt, TxType};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use alloy_rlp::{Decodable, EMPTY_STRING_CODE, Encodable};
use heddle_trie::AccountState;

const HAS_CODE: u8 = 0x10;
const NONCE_LENGTH: u8 = 0x0f;

/// An account: one byte that says how long the nonce is and whether there is code, the nonce, the
/// code hash, the balance. Never empty, so that empty bytes can stand for "no account".
pub(crate) fn encode_account(account: &AccountState) -> Vec<u8> {
    let nonce = trimmed(&account.nonce.to_be_bytes()).to_vec();
    let has_code = account.code_hash != KECCAK256_EMPTY;
    let mut out = Vec::with_capacity(1 + 8 + 32 + 32);
    out.push(nonce.len() as u8 | if has_code { HAS_CODE } else { 0 });
    out.extend_from_slice(&nonce);
    if has_code {
        out.extend_from_slice(account.code_hash.as_slice());
    }
    out.extend_from_slice(trimmed(&account.balance.to_be_bytes::<32>()));
    out
}

pub(crate) fn decode_account(
    table: &'static str,
    bytes: &[u8],
) -> Result<AccountState, StoreError> {
    let damaged = || StoreError::damaged(table, "not an account");
    let (flags, rest) = bytes.split_first().ok_or_else(damaged)?;
    let (nonce, rest) =
        rest.split_at_checked(usize::from(flags & NONCE_LENGTH)).ok_or_else(damaged)?;
    let (code_hash, balance) = if flags & HAS_CODE == 0 {
        (KECCAK256_EMPTY, rest)
    } else {
        let (hash, rest) = rest.split_at_checked(32).ok_or_else(damaged)?;
        (B256::from_slice(hash), rest)
    };
    if flags & !(NONCE_LENGTH | HAS_CODE) != 0 || nonce.len() > 8 {
        return Err(damaged());
    }
    let nonce = nonce.iter().fold(0, |nonce, byte| nonce << 8 | u64::from(*byte));
    Ok(AccountState { nonce, balance: decode_word(table, balance)?, code_hash })
}

/// A 256-bit word without its leading zeros; zero is empty.
pub(crate) fn encode_word(value: &U256) -> Vec<u8> {
    trimmed(&value.to_be_bytes::<32>()).to_vec()
}

pub(crate) fn decode_word(table: &'static str, bytes: &[u8]) -> Result<U256, StoreError> {
    U256::try_from_be_slice(bytes)
        .ok_or_else(|| StoreError::damaged(table, "a word longer than 32 bytes"))
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// A header with what is known of it but not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderRecord {
    pub(crate) hash: B256,
    pub(crate) total_difficulty: Option<U256>,
    pub(crate) header: Header,
}

/// The length byte of an unknown total difficulty.
const NO_TOTAL_DIFFICULTY: u8 = 0xff;

impl HeaderRecord {
    /// Hash, length-prefixed total difficulty, RLP of the header.
    pub(crate) fn encode(hash: B256, total_difficulty: Option<U256>, header: &Header) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 33 + header.length());
        out.extend_from_slice(hash.as_slice());
        match total_difficulty {
            None => out.push(NO_TOTAL_DIFFICULTY),
            Some(total) => {
                let total = encode_word(&total);
                out.push(total.len() as u8);
                out.extend_from_slice(&total);
            }
        }
        header.encode(&mut out);
        out
    }

    /// Decodes what is at the start of `bytes` and moves past it.
    pub(crate) fn decode(table: &'static str, bytes: &mut &[u8]) -> Result<Self, StoreError> {
        let hash = Self::decode_hash(table, bytes)?;
        let damaged = || StoreError::damaged(table, "a header record that is cut off");
        let (length, rest) = bytes[32..].split_first().ok_or_else(damaged)?;
        let (total_difficulty, mut rest) = if *length == NO_TOTAL_DIFFICULTY {
            (None, rest)
        } else {
            let (total, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
            (Some(decode_word(table, total)?), rest)
        };
        let header = Header::decode(&mut rest)
            .map_err(|error| StoreError::damaged(table, error.to_string()))?;
        *bytes = rest;
        Ok(Self { hash, total_difficulty, header })
    }

    /// Only the hash, for look-ups that need nothing else.
    pub(crate) fn decode_hash(table: &'static str, bytes: &[u8]) -> Result<B256, StoreError> {
        let hash = bytes.get(..32).map(B256::from_slice);
        hash.ok_or_else(|| StoreError::damaged(table, "a header record that is cut off"))
    }
}

/// The parts of a block that are not in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyRecord {
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) senders: Vec<Address>,
    pub(crate) ommers: Vec<Header>,
    pub(crate) withdrawals: Option<Vec<Withdrawal>>,
}

impl BodyRecord {
    /// RLP, one item after another: transactions, senders (one string of 20 bytes each), ommers,
    /// withdrawals (an empty string where the block has no such list).
    pub(crate) fn encode(
        transactions: &[Transaction],
        senders: &[Address],
        ommers: &[Header],
        withdrawals: Option<&[Withdrawal]>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        alloy_rlp::encode_list(transactions, &mut out);
        senders.concat().as_slice().encode(&mut out);
        alloy_rlp::encode_list(ommers, &mut out);
        match withdrawals {
            Some(withdrawals) => alloy_rlp::encode_list(withdrawals, &mut out),
            None => out.push(EMPTY_STRING_CODE),
        }
        out
    }

    pub(crate) fn decode(table: &'static str, mut bytes: &[u8]) -> Result<Self, StoreError> {
        let rest = &mut bytes;
        let mut decode = || {
            let transactions = Vec::<Transaction>::decode(rest)?;
            let senders = alloy_rlp::Header::decode_bytes(rest, false)?;
            let (senders, cut_off) = senders.as_chunks::<20>();
            if !cut_off.is_empty() || senders.len() != transactions.len() {
                return Err(alloy_rlp::Error::UnexpectedLength);
            }
            let ommers = Vec::<Header>::decode(rest)?;
            let withdrawals = if rest.first() == Some(&EMPTY_STRING_CODE) {
                *rest = &rest[1..];
                None
            } else {
                Some(Vec::<Withdrawal>::decode(rest)?)
            };
            if !rest.is_empty() {
                return Err(alloy_rlp::Error::UnexpectedLength);
            }
            let senders = senders.iter().map(Address::from).collect();
            Ok(Self { transactions, senders, ommers, withdrawals })
        };
        decode().map_err(|error| StoreError::damaged(table, error.to_string()))
    }
}

/// Receipts, one RLP item after another: type, status or state root, cumulative gas, logs. The
/// bloom filter, 256 bytes of each receipt on the wire, is computed from the logs when read.
pub(crate) fn encode_receipts(receipts: &[ReceiptEnvelope]) -> Vec<u8> {
    let mut out = Vec::new();
    for receipt in receipts {
        (receipt.tx_type() as u8).encode(&mut out);
        receipt.status_or_post_state().encode(&mut out);
        receipt.cumulative_gas_used().encode(&mut out);
        alloy_rlp::encode_list(receipt.logs(), &mut out);
    }
    out
}

pub(crate) fn decode_receipts(
    table: &'static str,
    mut bytes: &[u8],
) -> Result<Vec<ReceiptEnvelope>, StoreError> {
    let mut receipts = Vec::new();
    while !bytes.is_empty() {
        let receipt = decode_receipt(&mut bytes)
            .map_err(|error| StoreError::damaged(table, error.to_string()))?;
        receipts.push(receipt);
    }
    Ok(receipts)
}

fn decode_receipt(bytes: &mut &[u8]) -> alloy_rlp::Result<ReceiptEnvelope> {
    let tx_type = TxType::try_from(u8::decode(bytes)?)
        .map_err(|_| alloy_rlp::Error::Custom("unknown transaction type"))?;
    let receipt: Receipt = Receipt {
        status: Decodable::decode(bytes)?,
        cumulative_gas_used: Decodable::decode(bytes)?,
        logs: Decodable::decode(bytes)?,
    };
    Ok(ReceiptEnvelope::from_typed(tx_type, receipt.with_bloom()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = U256> {
        (any::<[u8; 32]>(), 0usize..=256).prop_map(|(bytes, shift)| {
            U256::from_be_bytes(bytes).checked_shr(shift).unwrap_or_default()
        })
    }

    proptest! {
        #[test]
        fn an_account_reads_back_as_written(
            nonce in any::<u64>(), shift in 0u32..64, balance in words(), code in any::<[u8; 32]>(),
            has_code in any::<bool>(),
        ) {
            let code_hash = if has_code { B256::from(code) } else { KECCAK256_EMPTY };
            let account = AccountState { nonce: nonce >> shift, balance, code_hash };
            let bytes = encode_account(&account);
            prop_assert!(!bytes.is_empty());
            prop_assert_eq!(decode_account("accounts", &bytes).expect("just written"), account);
        }

        #[test]
        fn a_word_reads_back_as_written(word in words()) {
            let bytes = encode_word(&word);
            prop_assert_eq!(decode_word("storage", &bytes).expect("just written"), word);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_account("accounts", &bytes);
            let _ = decode_word("storage", &bytes);
            let _ = HeaderRecord::decode("headers", &mut bytes.as_slice());
            let _ = HeaderRecord::decode_hash("headers", &bytes);
            let _ = BodyRecord::decode("bodies", &bytes);
            let _ = decode_receipts("receipts", &bytes);
        }
    }
}

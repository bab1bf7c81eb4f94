//! The JSON as Anvil has it.

use alloy_consensus::{EthereumTxEnvelope, Header, ReceiptEnvelope, TxEip4844};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
pub(crate) struct DumpJson {
    #[serde(default)]
    pub(crate) block: Option<BlockEnvJson>,
    pub(crate) accounts: BTreeMap<Address, AccountJson>,
    #[serde(default, deserialize_with = "optional_number")]
    pub(crate) best_block_number: Option<u64>,
    #[serde(default)]
    pub(crate) blocks: Vec<BlockJson>,
    #[serde(default)]
    pub(crate) transactions: Vec<RecordJson>,
}

/// Of the environment, what is read again.
#[derive(Debug, Deserialize)]
pub(crate) struct BlockEnvJson {
    #[serde(deserialize_with = "number")]
    pub(crate) number: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AccountJson {
    #[serde(deserialize_with = "number")]
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    #[serde(default)]
    pub(crate) code: Bytes,
    #[serde(default)]
    pub(crate) storage: BTreeMap<Slot, B256>,
}

/// Written with all its digits, read with fewer too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) U256);

impl Serialize for Slot {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        B256::from(self.0).serialize(serializer)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BlockJson {
    pub(crate) header: Header,
    pub(crate) transactions: Vec<TransactionJson>,
    #[serde(default)]
    pub(crate) ommers: Vec<Header>,
    #[serde(default)]
    pub(crate) withdrawals: Option<Vec<Withdrawal>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TransactionJson {
    pub(crate) transaction: EthereumTxEnvelope<TxEip4844>,
    /// Whose it is, where no signature says so.
    #[serde(default)]
    pub(crate) impersonated_sender: Option<Address>,
}

/// Of a mined transaction, what is read again.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordJson {
    pub(crate) info: PlaceJson,
    pub(crate) receipt: ReceiptEnvelope,
    pub(crate) block_hash: B256,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PlaceJson {
    pub(crate) transaction_index: usize,
}

/// A mined transaction as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) info: Info,
    pub(crate) receipt: &'a ReceiptEnvelope,
    pub(crate) block_hash: B256,
    pub(crate) block_number: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Info {
    pub(crate) transaction_hash: B256,
    pub(crate) transaction_index: usize,
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) contract_address: Option<Address>,
    /// Never any.
    pub(crate) traces: [(); 0],
    /// How it ended, as far as the receipt says.
    pub(crate) exit: &'static str,
    pub(crate) out: Option<Bytes>,
    pub(crate) nonce: u64,
    pub(crate) gas_used: u64,
}

/// The environment of the head as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct BlockEnv {
    pub(crate) number: U256,
    pub(crate) beneficiary: Address,
    pub(crate) timestamp: U256,
    pub(crate) gas_limit: u64,
    pub(crate) basefee: u64,
    pub(crate) difficulty: U256,
    pub(crate) prevrandao: B256,
    pub(crate) blob_excess_gas_and_price: Option<BlobPrice>,
    pub(crate) slot_num: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct BlobPrice {
    pub(crate) excess_blob_gas: u64,
    pub(crate) blob_gasprice: u128,
}

/// A number, or the same in hex or decimal digits: versions of Anvil differ.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyNumber {
    Number(u64),
    Text(U256),
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match AnyNumber::deserialize(deserializer)? {
        AnyNumber::Number(number) => Ok(number),
        AnyNumber::Text(number) => u64::try_from(number).map_err(serde::de::Error::custom),
    }
}

fn optional_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<AnyNumber>::deserialize(deserializer)? {
        None => Ok(None),
        Some(AnyNumber::Number(number)) => Ok(Some(number)),
        Some(AnyNumber::Text(number)) => {
            u64::try_from(number).map(Some).map_err(serde::de::Error::custom)
        }
    }
}

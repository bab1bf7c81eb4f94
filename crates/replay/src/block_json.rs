//! Headers, blocks and withdrawals as nodes give them, old or new.

use crate::{
    quantity::{Quantity, Quantity64, or_default},
    transaction_json::TransactionJson,
};
use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes};
use serde::Deserialize;

/// A block as `eth_getBlockByNumber` gives it, or an ommer as `eth_getUncleByBlockNumberAndIndex`
/// does. Fields that no replay needs may be missing or `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a block as eth_getBlockByNumber gives it")]
pub(crate) struct BlockJson {
    number: Quantity64,
    hash: Option<B256>,
    parent_hash: B256,
    sha3_uncles: Option<B256>,
    miner: Address,
    state_root: Option<B256>,
    transactions_root: Option<B256>,
    receipts_root: B256,
    logs_bloom: Bloom,
    #[serde(default, deserialize_with = "or_default")]
    difficulty: Quantity,
    gas_limit: Quantity64,
    gas_used: Quantity64,
    timestamp: Quantity64,
    extra_data: Option<Bytes>,
    mix_hash: Option<B256>,
    nonce: Option<B64>,
    base_fee_per_gas: Option<Quantity64>,
    withdrawals_root: Option<B256>,
    blob_gas_used: Option<Quantity64>,
    excess_blob_gas: Option<Quantity64>,
    parent_beacon_block_root: Option<B256>,
    requests_hash: Option<B256>,
    /// An ommer comes without.
    transactions: Option<Vec<TransactionJson>>,
    uncles: Option<Vec<B256>>,
    withdrawals: Option<Vec<WithdrawalJson>>,
}

/// A header, with what it takes on trust.
pub(crate) struct HeaderJson {
    pub(crate) header: Header,
    /// As given, not computed.
    pub(crate) hash: Option<B256>,
    /// Whether the hash of the ommers was given.
    pub(crate) names_ommers: bool,
}

/// What of a block is not its header.
pub(crate) struct Body {
    pub(crate) transactions: Option<Vec<TransactionJson>>,
    pub(crate) uncles: Vec<B256>,
    pub(crate) withdrawals: Option<Vec<Withdrawal>>,
}

impl BlockJson {
    pub(crate) fn split(self) -> (HeaderJson, Body) {
        let header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: self.sha3_uncles.unwrap_or(EMPTY_OMMER_ROOT_HASH),
            beneficiary: self.miner,
            state_root: self.state_root.unwrap_or_default(),
            transactions_root: self.transactions_root.unwrap_or_default(),
            receipts_root: self.receipts_root,
            logs_bloom: self.logs_bloom,
            difficulty: self.difficulty.0,
            number: self.number.0,
            gas_limit: self.gas_limit.0,
            gas_used: self.gas_used.0,
            timestamp: self.timestamp.0,
            extra_data: self.extra_data.unwrap_or_default(),
            mix_hash: self.mix_hash.unwrap_or_default(),
            nonce: self.nonce.unwrap_or_default(),
            base_fee_per_gas: self.base_fee_per_gas.map(|fee| fee.0),
            withdrawals_root: self.withdrawals_root,
            blob_gas_used: self.blob_gas_used.map(|gas| gas.0),
            excess_blob_gas: self.excess_blob_gas.map(|gas| gas.0),
            parent_beacon_block_root: self.parent_beacon_block_root,
            requests_hash: self.requests_hash,
            ..Default::default()
        };
        let withdrawals = self.withdrawals.map(|list| list.into_iter().map(Into::into).collect());
        let header =
            HeaderJson { header, hash: self.hash, names_ommers: self.sha3_uncles.is_some() };
        let body = Body {
            transactions: self.transactions,
            uncles: self.uncles.unwrap_or_default(),
            withdrawals,
        };
        (header, body)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithdrawalJson {
    index: Quantity64,
    validator_index: Quantity64,
    address: Address,
    amount: Quantity64,
}

impl From<WithdrawalJson> for Withdrawal {
    fn from(json: WithdrawalJson) -> Self {
        Self {
            index: json.index.0,
            validator_index: json.validator_index.0,
            address: json.address,
            amount: json.amount.0,
        }
    }
}

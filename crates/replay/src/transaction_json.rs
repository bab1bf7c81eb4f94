//! A transaction as `eth_getBlockByNumber` gives it, old or new.

use crate::quantity::{Quantity, Quantity64, Quantity128, or_default};
use alloy_consensus::{Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy};
use alloy_eips::{eip2930::AccessList, eip7702::SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use heddle_evm::Transaction;
use serde::{Deserialize, Deserializer, de::Error};

/// The lowest `v` of a legacy signature; those of later types are parities.
const LEGACY_V_MIN: u128 = 27;

/// A transaction of a bundle. Nodes leave out what they did not know when the block was made:
/// `type` and `chainId` of old transactions, and some the sender or the signature.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a full transaction, not its hash")]
pub(crate) struct TransactionJson {
    hash: Option<B256>,
    from: Option<Address>,
    #[serde(rename = "type")]
    kind: Option<Quantity64>,
    chain_id: Option<Quantity64>,
    nonce: Quantity64,
    gas: Option<Quantity64>,
    gas_limit: Option<Quantity64>,
    gas_price: Option<Quantity128>,
    max_fee_per_gas: Option<Quantity128>,
    max_priority_fee_per_gas: Option<Quantity128>,
    max_fee_per_blob_gas: Option<Quantity128>,
    #[serde(default, deserialize_with = "recipient")]
    to: Option<Address>,
    #[serde(default, deserialize_with = "or_default")]
    value: Quantity,
    input: Option<Bytes>,
    data: Option<Bytes>,
    access_list: Option<AccessList>,
    blob_versioned_hashes: Option<Vec<B256>>,
    authorization_list: Option<Vec<SignedAuthorization>>,
    v: Option<Quantity>,
    y_parity: Option<Quantity>,
    r: Option<Quantity>,
    s: Option<Quantity>,
}

/// A transaction and what the bundle says about who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundledTransaction {
    /// The transaction. Where the bundle has no signature, the signature in it means nothing.
    pub transaction: Transaction,
    /// The hash that the bundle gives.
    pub hash: Option<B256>,
    /// The sender that the bundle gives.
    pub from: Option<Address>,
    /// Whether the bundle has the signature, so that the sender can be recovered.
    pub signed: bool,
}

/// What is wrong with a transaction: the field, where one can be named, and the reason.
pub(crate) type FieldError = (&'static str, String);

impl TransactionJson {
    pub(crate) fn into_transaction(mut self) -> Result<BundledTransaction, FieldError> {
        // Old names of the two; where a node gives both they are the same.
        self.input = self.input.or(self.data.take());
        self.gas = self.gas.or(self.gas_limit);
        let signature = self.signature()?;
        let (hash, from) = (self.hash, self.from);
        if signature.is_none() && from.is_none() {
            return Err(("from", "there is neither a sender nor a signature".to_owned()));
        }
        let signed = signature.is_some();
        let signature = signature.unwrap_or(Signature::new(U256::ZERO, U256::ZERO, false));
        // Without the signature the hash cannot be computed.
        let known_hash = if signed { None } else { hash.or(Some(B256::ZERO)) };
        let transaction = match self.kind() {
            0 => Transaction::Legacy(sign(self.legacy()?, signature, known_hash)),
            1 => Transaction::Eip2930(sign(self.eip2930()?, signature, known_hash)),
            2 => Transaction::Eip1559(sign(self.eip1559()?, signature, known_hash)),
            3 => Transaction::Eip4844(sign(self.eip4844()?, signature, known_hash)),
            4 => Transaction::Eip7702(sign(self.eip7702()?, signature, known_hash)),
            kind => return Err(("type", format!("transaction type {kind} is not known"))),
        };
        Ok(BundledTransaction { transaction, hash, from, signed })
    }

    fn kind(&self) -> u64 {
        let by_fields = || {
            // No later type has such a `v`; some nodes give legacy ones an empty access list.
            let has_legacy_v = self.v.is_some_and(|v| v.0 >= U256::from(LEGACY_V_MIN));
            if has_legacy_v {
                return 0;
            }
            if self.authorization_list.is_some() {
                4
            } else if self.blob_versioned_hashes.is_some() {
                3
            } else if self.max_fee_per_gas.is_some() {
                2
            } else {
                u64::from(self.access_list.is_some())
            }
        };
        self.kind.map_or_else(by_fields, |kind| kind.0)
    }

    /// `v` of a legacy transaction is 27 or 28, or holds the chain id (EIP-155); of later ones it
    /// is the parity, sometimes under the name `yParity` alone.
    fn signature(&self) -> Result<Option<Signature>, FieldError> {
        let (Some(r), Some(s)) = (self.r, self.s) else {
            return Ok(None);
        };
        let Some(v) = self.y_parity.or(self.v).map(|v| v.0) else {
            return Ok(None);
        };
        // Old nodes give zeros where they have no signature.
        if r.0.is_zero() && s.0.is_zero() {
            return Ok(None);
        }
        let odd = match u128::try_from(v) {
            Ok(0 | 27) => false,
            Ok(1 | 28) => true,
            Ok(v) if v >= 35 => (v - 35) % 2 == 1,
            _ => return Err(("v", format!("{v} is no signature's parity"))),
        };
        Ok(Some(Signature::new(r.0, s.0, odd)))
    }

    fn legacy(self) -> Result<TxLegacy, FieldError> {
        let chain_id = match self.v.map(|v| u128::try_from(v.0)) {
            Some(Ok(v)) if v >= 35 => {
                let id = u64::try_from((v - 35) / 2);
                Some(id.map_err(|_| ("v", format!("{v} holds no chain id of 64 bits")))?)
            }
            Some(Ok(v)) if v >= LEGACY_V_MIN => None,
            // There is no `v`, or it is a bare parity.
            _ => self.chain_id.map(|id| id.0),
        };
        Ok(TxLegacy {
            chain_id,
            nonce: self.nonce.0,
            gas_price: required(self.gas_price, "gasPrice")?.0,
            gas_limit: required(self.gas, "gas")?.0,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value.0,
            input: self.input.unwrap_or_default(),
        })
    }

    fn eip2930(self) -> Result<TxEip2930, FieldError> {
        Ok(TxEip2930 {
            chain_id: required(self.chain_id, "chainId")?.0,
            nonce: self.nonce.0,
            gas_price: required(self.gas_price, "gasPrice")?.0,
            gas_limit: required(self.gas, "gas")?.0,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value.0,
            access_list: self.access_list.unwrap_or_default(),
            input: self.input.unwrap_or_default(),
        })
    }

    fn eip1559(self) -> Result<TxEip1559, FieldError> {
        Ok(TxEip1559 {
            chain_id: required(self.chain_id, "chainId")?.0,
            nonce: self.nonce.0,
            gas_limit: required(self.gas, "gas")?.0,
            max_fee_per_gas: required(self.max_fee_per_gas, "maxFeePerGas")?.0,
            max_priority_fee_per_gas: required(
                self.max_priority_fee_per_gas,
                "maxPriorityFeePerGas",
            )?
            .0,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value.0,
            access_list: self.access_list.unwrap_or_default(),
            input: self.input.unwrap_or_default(),
        })
    }

    fn eip4844(self) -> Result<TxEip4844, FieldError> {
        Ok(TxEip4844 {
            chain_id: required(self.chain_id, "chainId")?.0,
            nonce: self.nonce.0,
            gas_limit: required(self.gas, "gas")?.0,
            max_fee_per_gas: required(self.max_fee_per_gas, "maxFeePerGas")?.0,
            max_priority_fee_per_gas: required(
                self.max_priority_fee_per_gas,
                "maxPriorityFeePerGas",
            )?
            .0,
            to: required(self.to, "to")?,
            value: self.value.0,
            access_list: self.access_list.unwrap_or_default(),
            blob_versioned_hashes: required(self.blob_versioned_hashes, "blobVersionedHashes")?,
            max_fee_per_blob_gas: required(self.max_fee_per_blob_gas, "maxFeePerBlobGas")?.0,
            input: self.input.unwrap_or_default(),
        })
    }

    fn eip7702(self) -> Result<TxEip7702, FieldError> {
        Ok(TxEip7702 {
            chain_id: required(self.chain_id, "chainId")?.0,
            nonce: self.nonce.0,
            gas_limit: required(self.gas, "gas")?.0,
            max_fee_per_gas: required(self.max_fee_per_gas, "maxFeePerGas")?.0,
            max_priority_fee_per_gas: required(
                self.max_priority_fee_per_gas,
                "maxPriorityFeePerGas",
            )?
            .0,
            to: required(self.to, "to")?,
            value: self.value.0,
            access_list: self.access_list.unwrap_or_default(),
            authorization_list: required(self.authorization_list, "authorizationList")?,
            input: self.input.unwrap_or_default(),
        })
    }
}

/// The recipient; what creates a contract has none, which nodes write as `null`, `"0x"` or `""`.
fn recipient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("" | "0x") => Ok(None),
        Some(address) => address.parse().map(Some).map_err(D::Error::custom),
    }
}

fn required<T>(value: Option<T>, field: &'static str) -> Result<T, FieldError> {
    value.ok_or_else(|| (field, "is required for this type of transaction".to_owned()))
}

fn sign<T>(transaction: T, signature: Signature, hash: Option<B256>) -> Signed<T> {
    match hash {
        Some(hash) => Signed::new_unchecked(transaction, signature, hash),
        None => Signed::new_unhashed(transaction, signature),
    }
}

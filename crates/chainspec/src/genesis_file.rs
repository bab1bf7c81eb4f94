//! Reading a genesis file in geth's format.
//!
//! The configuration is read by `alloy-genesis`. The header fields and the accounts are read here, because files in the
//! wild write numbers and addresses in more ways, and because a wrong account has to be named.

use std::{collections::BTreeMap, fmt};

use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    ChainSpecError,
    quantity::{Quantity, Quantity64},
};

/// Reads the text of a genesis file. What the values mean together is checked by the validation module.
///
/// # Errors
/// [`ChainSpecError::Syntax`] where the text is not JSON, [`ChainSpecError::Invalid`] with the path where a value is
/// missing or of the wrong form.
pub(crate) fn parse(json: &str) -> Result<Genesis, ChainSpecError> {
    let file: GenesisFile = from_json(json)?;
    let config = file.config.ok_or_else(|| missing("config"))?;

    // ChainConfig takes a missing chain id for mainnet's, and so hides it.
    let presence: Presence = from_json(json)?;
    if presence.config.is_none_or(|config| config.chain_id.is_none()) {
        return Err(missing("config.chainId"));
    }

    Ok(Genesis {
        config,
        nonce: file.nonce.map_or(0, |n| n.0),
        timestamp: file.timestamp.map_or(0, |n| n.0),
        extra_data: file.extra_data.unwrap_or_default(),
        gas_limit: file.gas_limit.ok_or_else(|| missing("gasLimit"))?.0,
        difficulty: file.difficulty.map_or(U256::ZERO, |n| n.0),
        mix_hash: file.mix_hash.unwrap_or_default(),
        coinbase: file.coinbase.unwrap_or_default(),
        alloc: file.alloc.ok_or_else(|| missing("alloc"))?.0,
        base_fee_per_gas: file.base_fee_per_gas.map(|n| u128::from(n.0)),
        excess_blob_gas: file.excess_blob_gas.map(|n| n.0),
        blob_gas_used: file.blob_gas_used.map(|n| n.0),
        slot_number: file.slot_number.map(|n| n.0),
        number: file.number.map(|n| n.0),
        parent_hash: file.parent_hash,
    })
}

fn missing(path: &str) -> ChainSpecError {
    ChainSpecError::invalid(path, "is required, but missing")
}

fn from_json<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, ChainSpecError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let reason = shorten(error.to_string());
        match path.as_str() {
            _ if error.is_syntax() || error.is_eof() => ChainSpecError::Syntax { reason },
            "." => ChainSpecError::invalid("the genesis file", reason),
            _ => ChainSpecError::invalid(path, reason),
        }
    })?;
    deserializer.end().map_err(|error| ChainSpecError::Syntax { reason: error.to_string() })?;
    Ok(value)
}

/// The longest message about a wrong value, in characters; the parser repeats the value, and a contract's code is long.
const REASON_CHARACTERS_MAX: usize = 400;

/// Leaves the middle out of a message that is too long; its ends say what is wrong and where.
fn shorten(reason: String) -> String {
    let count = reason.chars().count();
    if count <= REASON_CHARACTERS_MAX {
        return reason;
    }
    let half = REASON_CHARACTERS_MAX / 2;
    let start = reason.chars().take(half);
    let end = reason.chars().skip(count - half);
    start.chain(" … ".chars()).chain(end).collect()
}

#[derive(Deserialize)]
struct Presence {
    config: Option<ConfigPresence>,
}

#[derive(Deserialize)]
struct ConfigPresence {
    #[serde(rename = "chainId")]
    chain_id: Option<IgnoredAny>,
}

/// The top level of the file. Fields it does not name are ignored, as geth does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenesisFile {
    config: Option<ChainConfig>,
    nonce: Option<Quantity64>,
    timestamp: Option<Quantity64>,
    extra_data: Option<Bytes>,
    gas_limit: Option<Quantity64>,
    difficulty: Option<Quantity>,
    mix_hash: Option<B256>,
    coinbase: Option<Address>,
    alloc: Option<Allocation>,
    base_fee_per_gas: Option<Quantity64>,
    excess_blob_gas: Option<Quantity64>,
    blob_gas_used: Option<Quantity64>,
    slot_number: Option<Quantity64>,
    number: Option<Quantity64>,
    parent_hash: Option<B256>,
}

/// `alloc`: accounts by address, the address with or without `0x`.
struct Allocation(BTreeMap<Address, GenesisAccount>);

impl<'de> Deserialize<'de> for Allocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Accounts;

        impl<'de> Visitor<'de> for Accounts {
            type Value = BTreeMap<Address, GenesisAccount>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of accounts by address")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut accounts = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let entry = AccountEntry { key: &key, seen: &accounts };
                    let (address, account) = map.next_value_seed(entry)?;
                    accounts.insert(address, account);
                }
                Ok(accounts)
            }
        }

        deserializer.deserialize_map(Accounts).map(Self)
    }
}

/// One account under its key. The key is checked while the value is read, so that the error carries the key's path.
struct AccountEntry<'a> {
    key: &'a str,
    seen: &'a BTreeMap<Address, GenesisAccount>,
}

impl<'de> DeserializeSeed<'de> for AccountEntry<'_> {
    type Value = (Address, GenesisAccount);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let address = self.key.parse().map_err(|error| {
            D::Error::custom(format!("invalid address: expected 40 hexadecimal digits: {error}"))
        })?;
        if self.seen.contains_key(&address) {
            return Err(D::Error::custom(format!("the account {address} is given twice")));
        }
        let file = AccountFile::deserialize(deserializer)?;
        let account = GenesisAccount {
            nonce: file.nonce.map(|n| n.0),
            balance: file.balance.0,
            code: file.code,
            storage: file.storage.map(|storage| storage.0),
            private_key: None,
        };
        Ok((address, account))
    }
}

/// An account. Fields it does not name are ignored, as geth does.
#[derive(Deserialize)]
struct AccountFile {
    balance: Quantity,
    nonce: Option<Quantity64>,
    code: Option<Bytes>,
    storage: Option<Storage>,
}

/// Storage slots: keys and values are hexadecimal, up to 32 bytes, shorter ones padded on the left.
struct Storage(BTreeMap<B256, B256>);

impl<'de> Deserialize<'de> for Storage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slots;

        impl<'de> Visitor<'de> for Slots {
            type Value = BTreeMap<B256, B256>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of storage values by slot")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut slots = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let (slot, value) =
                        map.next_value_seed(SlotEntry { key: &key, seen: &slots })?;
                    slots.insert(slot, value);
                }
                Ok(slots)
            }
        }

        deserializer.deserialize_map(Slots).map(Self)
    }
}

/// One storage slot under its key.
struct SlotEntry<'a> {
    key: &'a str,
    seen: &'a BTreeMap<B256, B256>,
}

impl<'de> DeserializeSeed<'de> for SlotEntry<'_> {
    type Value = (B256, B256);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        const EXPECTED: &str = "expected up to 64 hexadecimal digits";
        let slot = parse_word(self.key)
            .ok_or_else(|| D::Error::custom(format!("invalid storage slot: {EXPECTED}")))?;
        if self.seen.contains_key(&slot) {
            return Err(D::Error::custom(format!("the storage slot {slot} is given twice")));
        }
        let text = String::deserialize(deserializer)?;
        let value = parse_word(&text)
            .ok_or_else(|| D::Error::custom(format!("invalid storage value: {EXPECTED}")))?;
        Ok((slot, value))
    }
}

/// A 32-byte word from up to 64 hexadecimal digits, with or without `0x`; `0x` alone is zero.
fn parse_word(text: &str) -> Option<B256> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_word =
        !text.is_empty() && digits.len() <= 64 && digits.chars().all(|d| d.is_ascii_hexdigit());
    // Padded to full length, because the library reads an empty text as it pleases.
    is_word.then(|| format!("{digits:0>64}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256};

    fn file(alloc: &str) -> String {
        format!(r#"{{"config": {{"chainId": 7}}, "gasLimit": 5000, "alloc": {alloc}}}"#)
    }

    #[test]
    fn accounts_are_read_with_and_without_prefix_and_in_every_number_format() {
        let genesis = parse(&file(
            r#"{
                "00000000000000000000000000000000000000aa": {"balance": "10000000000000000000000"},
                "0x00000000000000000000000000000000000000Bb": {"balance": "0x21e19e0c9bab2400000", "nonce": "0x5"},
                "0x00000000000000000000000000000000000000cc": {"balance": 10000000000000000000000, "nonce": 6,
                    "code": "0x6000", "storage": {"0x1": "0x2", "03": "0x04"}, "constructor": "0x"}
            }"#,
        ))
        .unwrap();
        let ten_thousand_ether = U256::from(10_000) * U256::from(10).pow(U256::from(18));
        assert_eq!(genesis.alloc.len(), 3);
        assert!(genesis.alloc.values().all(|account| account.balance == ten_thousand_ether));
        let nonces: Vec<_> = genesis.alloc.values().map(|account| account.nonce).collect();
        assert_eq!(nonces, [None, Some(5), Some(6)]);
        let last = &genesis.alloc[&address!("0x00000000000000000000000000000000000000cc")];
        assert_eq!(last.code, Some(Bytes::from_static(&[0x60, 0x00])));
        let word = |n: u64| B256::from(U256::from(n));
        assert_eq!(last.storage, Some(BTreeMap::from([(word(1), word(2)), (word(3), word(4))])),);
    }

    #[test]
    fn header_fields_are_read_and_null_means_absent() {
        let genesis = parse(
            r#"{"config": {"chainId": 7}, "alloc": {}, "nonce": "0x42", "timestamp": 9, "extraData": "0xabcd",
                "gasLimit": "0x1388", "difficulty": "131072", "number": "0x3", "baseFeePerGas": null,
                "mixHash": "0x00000000000000000000000000000000000000000000000000000000000000ff",
                "coinbase": "0x00000000000000000000000000000000000000aa", "excessBlobGas": "0x20000",
                "parentHash": "0x0000000000000000000000000000000000000000000000000000000000000001"}"#,
        )
        .unwrap();
        assert_eq!((genesis.nonce, genesis.timestamp, genesis.gas_limit), (0x42, 9, 5000));
        assert_eq!(genesis.difficulty, U256::from(131_072));
        assert_eq!(genesis.number, Some(3));
        assert_eq!(genesis.base_fee_per_gas, None);
        assert_eq!(genesis.excess_blob_gas, Some(0x20000));
        assert_eq!(
            genesis.mix_hash,
            b256!("0x00000000000000000000000000000000000000000000000000000000000000ff")
        );
    }
}

//! The state before a block as it stands in a file: the shape of `prestateTracer`.

use crate::quantity::{Quantity, Quantity64, or_default};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// Accounts by address. `null` in place of one says that there is none, where leaving it out says
/// nothing (tracers leave out what is empty, and reads of it find nothing either way).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prestate {
    pub(crate) accounts: BTreeMap<Address, Option<PrestateAccount>>,
}

/// One account; what is not given is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrestateAccount {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) balance: Quantity,
    /// A number in JSON, as tracers give it.
    #[serde(default, deserialize_with = "or_default", serialize_with = "as_number")]
    pub(crate) nonce: Quantity64,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "has_no_code")]
    pub(crate) code: Bytes,
    #[serde(
        default,
        deserialize_with = "or_default",
        serialize_with = "as_words",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) storage: BTreeMap<Quantity, Quantity>,
}

impl Prestate {
    /// Whether there is a word about the account.
    pub fn knows(&self, address: Address) -> bool {
        self.accounts.contains_key(&address)
    }

    /// The account, as far as it is known and there is one.
    pub fn account(&self, address: Address) -> Option<&PrestateAccount> {
        self.accounts.get(&address)?.as_ref()
    }

    /// Says what the account is; `None` that there is none.
    pub(crate) fn insert(&mut self, address: Address, account: Option<PrestateAccount>) {
        self.accounts.insert(address, account);
    }

    /// Says what a slot holds. An account that does not exist has no storage, which goes without
    /// saying.
    pub(crate) fn insert_slot(&mut self, address: Address, slot: U256, value: U256) {
        if let Some(Some(account)) = self.accounts.get_mut(&address) {
            account.storage.insert(Quantity(slot), Quantity(value));
        }
    }
}

impl PrestateAccount {
    /// An account without storage.
    pub fn new(balance: U256, nonce: u64, code: Bytes) -> Self {
        let (balance, nonce) = (Quantity(balance), Quantity64(nonce));
        Self { balance, nonce, code, storage: BTreeMap::new() }
    }

    /// In wei.
    pub const fn balance(&self) -> U256 {
        self.balance.0
    }

    /// Transactions sent or contracts created.
    pub const fn nonce(&self) -> u64 {
        self.nonce.0
    }

    /// Deployed code.
    pub const fn code(&self) -> &Bytes {
        &self.code
    }

    /// What a slot holds, where that is known.
    pub fn slot(&self, slot: U256) -> Option<U256> {
        self.storage.get(&Quantity(slot)).map(|value| value.0)
    }

    /// Neither balance, nonce nor code.
    pub(crate) fn is_empty(&self) -> bool {
        self.balance.0.is_zero() && self.nonce.0 == 0 && self.code.is_empty()
    }

    /// Neither nonce nor code, but storage: nothing can be created there (EIP-7610).
    pub(crate) fn has_only_storage(&self) -> bool {
        self.nonce.0 == 0
            && self.code.is_empty()
            && self.storage.values().any(|value| !value.0.is_zero())
    }
}

fn has_no_code(code: &Bytes) -> bool {
    code.is_empty()
}

fn as_number<S: Serializer>(nonce: &Quantity64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(nonce.0)
}

fn as_words<S: Serializer>(
    storage: &BTreeMap<Quantity, Quantity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let word = |quantity: &Quantity| B256::from(quantity.0);
    serializer.collect_map(storage.iter().map(|(slot, value)| (word(slot), word(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_tracers_write_and_reads_back() {
        let (first, second) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let mut prestate = Prestate::default();
        let account = PrestateAccount::new(U256::from(16), 7, Bytes::from_static(&[0xfe]));
        prestate.insert(first, Some(account));
        prestate.insert_slot(first, U256::from(1), U256::from(2));
        prestate.insert(second, None);
        prestate.insert_slot(second, U256::from(1), U256::from(2));
        let json = serde_json::to_string(&prestate).unwrap();
        let word = |digit: u8| format!("0x{digit:064x}");
        let (one, two) = (word(1), word(2));
        assert_eq!(
            json,
            format!(
                r#"{{"{first:#x}":{{"balance":"0x10","nonce":7,"code":"0xfe","storage":{{"{one}":"{two}"}}}},"{second:#x}":null}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Prestate>(&json).unwrap(), prestate);
    }

    #[test]
    fn what_is_left_out_or_null_is_nothing() {
        let json = format!(
            r#"{{"{}":{{"balance":null,"code":null,"storage":null}},"{}":{{}}}}"#,
            Address::repeat_byte(1),
            Address::repeat_byte(2)
        );
        let prestate: Prestate = serde_json::from_str(&json).unwrap();
        for address in [1, 2].map(Address::repeat_byte) {
            assert_eq!(prestate.account(address), Some(&PrestateAccount::default()));
        }
    }
}

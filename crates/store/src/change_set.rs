//! What a block overwrote: the values before it, by which it can be undone.

use crate::StoreError;
use crate::codec::{decode_account, decode_word, encode_account, encode_word};
use alloy_primitives::{Address, U256};
use heddle_trie::AccountState;
use std::collections::BTreeMap;

const TABLE: &str = "changes";

/// The values that one block overwrote, complete down to the slot: of a wiped storage every slot
/// is listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChangeSet {
    pub(crate) accounts: BTreeMap<Address, AccountBefore>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountBefore {
    pub(crate) state: StateBefore,
    /// Overwritten slots; zero where the slot was absent.
    pub(crate) slots: BTreeMap<U256, U256>,
}

/// The basic part of an account before the block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StateBefore {
    /// The block changed only its storage.
    #[default]
    Unchanged,
    /// It did not exist.
    Absent,
    /// It was this.
    Was(AccountState),
}

impl StateBefore {
    pub(crate) fn from_overwritten(before: Option<AccountState>) -> Self {
        before.map_or(Self::Absent, Self::Was)
    }
}

/// The length byte of [`StateBefore::Unchanged`]. An account has at most 73 bytes.
const UNCHANGED: u8 = 0xff;

impl ChangeSet {
    /// Per account: address, length-prefixed account before (length 0: absent), number of slots
    /// (LEB128), and per slot the length-prefixed slot and the length-prefixed value before.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (address, before) in &self.accounts {
            out.extend_from_slice(address.as_slice());
            match &before.state {
                StateBefore::Unchanged => out.push(UNCHANGED),
                StateBefore::Absent => out.push(0),
                StateBefore::Was(state) => push_short(&mut out, &encode_account(state)),
            }
            push_varint(&mut out, before.slots.len() as u64);
            for (slot, value) in &before.slots {
                push_short(&mut out, &encode_word(slot));
                push_short(&mut out, &encode_word(value));
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader { rest: bytes };
        let mut accounts = BTreeMap::new();
        while !reader.rest.is_empty() {
            let address = Address::from_slice(reader.take(20)?);
            let state = match reader.byte()? {
                UNCHANGED => StateBefore::Unchanged,
                0 => StateBefore::Absent,
                length => {
                    let account = reader.take(usize::from(length))?;
                    StateBefore::Was(decode_account(TABLE, account)?)
                }
            };
            let mut slots = BTreeMap::new();
            for _ in 0..reader.varint()? {
                let slot = reader.word()?;
                slots.insert(slot, reader.word()?);
            }
            accounts.insert(address, AccountBefore { state, slots });
        }
        Ok(Self { accounts })
    }

    /// Adds the change set of the next block, so that `self` undoes both: where both overwrote a
    /// value, the one before the earlier block counts.
    pub(crate) fn extend_with_later(&mut self, later: Self) {
        for (address, later) in later.accounts {
            let earlier = self.accounts.entry(address).or_default();
            if earlier.state == StateBefore::Unchanged {
                earlier.state = later.state;
            }
            for (slot, value) in later.slots {
                earlier.slots.entry(slot).or_insert(value);
            }
        }
    }
}

pub(crate) fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() < usize::from(UNCHANGED), "accounts and words are short");
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) struct Reader<'b> {
    pub(crate) rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'b [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        self.take(1).map(|byte| byte[0])
    }

    pub(crate) fn word(&mut self) -> Result<U256, StoreError> {
        let length = usize::from(self.byte()?);
        decode_word(TABLE, self.take(length)?)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, StoreError> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(StoreError::damaged(TABLE, "a count longer than 63 bits"))
    }
}

fn cut_off() -> StoreError {
    StoreError::damaged(TABLE, "a change set that is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use proptest::prelude::*;

    fn states() -> impl Strategy<Value = StateBefore> {
        let account = (any::<u64>(), any::<u128>(), any::<[u8; 32]>());
        prop_oneof![
            Just(StateBefore::Unchanged),
            Just(StateBefore::Absent),
            account.prop_map(|(nonce, balance, code)| {
                let (balance, code_hash) = (U256::from(balance), B256::from(code));
                StateBefore::Was(AccountState { nonce, balance, code_hash })
            }),
        ]
    }

    fn change_sets() -> impl Strategy<Value = ChangeSet> {
        let word = || any::<[u8; 32]>().prop_map(U256::from_be_bytes);
        let slots = prop::collection::btree_map(word(), word(), 0..200);
        let account = (states(), slots).prop_map(|(state, slots)| AccountBefore { state, slots });
        let address = any::<[u8; 20]>().prop_map(Address::from);
        prop::collection::btree_map(address, account, 0..8)
            .prop_map(|accounts| ChangeSet { accounts })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_change_set_reads_back_as_written_and_no_cut_of_it_panics(set in change_sets()) {
            let bytes = set.encode();
            prop_assert_eq!(ChangeSet::decode(&bytes).expect("just written"), set);
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                let _ = ChangeSet::decode(&bytes[..length]);
                let mut flipped = bytes.clone();
                flipped[length] ^= 0xa5;
                let _ = ChangeSet::decode(&flipped);
            }
        }
    }
}

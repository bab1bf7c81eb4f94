//! What was altered by hand in the state of a block before the next one, kept with that next one's
//! number: running it again has to start from there.

use crate::change_set::{Reader, push_short, push_varint};
use crate::codec::{decode_account, encode_account, encode_word};
use crate::error::unless_damaged;
use crate::schema::WriteTables;
use crate::{Store, StoreError};
use alloy_primitives::{Address, Bytes, keccak256};
use heddle_trie::{AccountChange, AccountState, SlotChange, SortedMap, StateChanges};
use std::collections::BTreeMap;

const TABLE: &str = "alterations";

impl Store {
    /// What was altered in the state before block `number` was made on it, `None` if nothing was.
    ///
    /// # Errors
    /// When the database fails or holds a value that does not decode.
    pub fn alterations(&self, number: u64) -> Result<Option<StateChanges>, StoreError> {
        unless_damaged(|| match self.snapshot().tables.alterations.get(number)? {
            None => Ok(None),
            Some(changes) => decode(changes.value()).map(Some),
        })
    }

    /// Writes down what is altered in the state of the head, in place of what was written before.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_alterations(&self, changes: Option<&StateChanges>) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        let next = self.snapshot().head()?.number.saturating_add(1);
        if changes.is_none() && self.snapshot().tables.alterations.get(next)?.is_none() {
            return Ok(());
        }
        self.write(&writer, |tables| {
            match changes {
                Some(changes) => {
                    tables.alterations.insert(next, encode(changes).as_slice())?;
                }
                None => {
                    tables.alterations.remove(next)?;
                }
            }
            Ok(())
        })
    }
}

/// Forgets what was altered after block `head`.
pub(crate) fn remove_alterations_after(
    tables: &mut WriteTables<'_>,
    head: u64,
) -> Result<(), StoreError> {
    tables.alterations.retain_in(head.saturating_add(1).., |_, _| false)?;
    Ok(())
}

/// Number of accounts; per account: address, length-prefixed account before and after (length 0:
/// absent), whether its storage was wiped, number of slots, per slot the slot, the value before and
/// the one after, length-prefixed. Then the pieces of code, each with its length.
fn encode(changes: &StateChanges) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, changes.accounts.len() as u64);
    for (address, change) in changes.accounts.iter() {
        out.extend_from_slice(address.as_slice());
        for state in [&change.before, &change.after] {
            push_short(&mut out, &state.as_ref().map(encode_account).unwrap_or_default());
        }
        out.push(u8::from(change.wiped));
        push_varint(&mut out, change.storage.len() as u64);
        for (slot, values) in change.storage.iter() {
            for word in [slot, &values.before, &values.after] {
                push_short(&mut out, &encode_word(word));
            }
        }
    }
    for code in changes.code.values() {
        push_varint(&mut out, code.len() as u64);
        out.extend_from_slice(code);
    }
    out
}

fn decode(bytes: &[u8]) -> Result<StateChanges, StoreError> {
    let mut reader = Reader { rest: bytes };
    let mut accounts = SortedMap::default();
    for _ in 0..reader.varint()? {
        let address = Address::from_slice(reader.take(20)?);
        let (before, after) = (account(&mut reader)?, account(&mut reader)?);
        let wiped = reader.byte()? != 0;
        let mut storage = SortedMap::default();
        for _ in 0..reader.varint()? {
            let slot = reader.word()?;
            let before = reader.word()?;
            storage.insert(slot, SlotChange { before, after: reader.word()? });
        }
        accounts.insert(address, AccountChange { before, after, wiped, storage });
    }
    let mut code = BTreeMap::new();
    while !reader.rest.is_empty() {
        let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let bytes = Bytes::copy_from_slice(reader.take(length)?);
        code.insert(keccak256(&bytes), bytes);
    }
    Ok(StateChanges { accounts, code })
}

fn account(reader: &mut Reader<'_>) -> Result<Option<AccountState>, StoreError> {
    match usize::from(reader.byte()?) {
        0 => Ok(None),
        length => decode_account(TABLE, reader.take(length)?).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, U256};
    use proptest::prelude::*;

    fn accounts() -> impl Strategy<Value = Option<AccountState>> {
        let account = (any::<u64>(), any::<[u64; 4]>(), any::<[u8; 32]>());
        prop::option::of(account.prop_map(|(nonce, balance, code_hash)| AccountState {
            nonce,
            balance: U256::from_limbs(balance),
            code_hash: B256::new(code_hash),
        }))
    }

    fn words() -> impl Strategy<Value = U256> {
        (any::<[u64; 4]>(), 0usize..=256)
            .prop_map(|(word, shift)| U256::from_limbs(word).checked_shr(shift).unwrap_or_default())
    }

    fn changes() -> impl Strategy<Value = StateChanges> {
        let slots = prop::collection::btree_map(words(), (words(), words()), 0..4);
        let account = (accounts(), accounts(), any::<bool>(), slots).prop_map(
            |(before, after, wiped, slots)| {
                let slot = |(slot, (before, after))| (slot, SlotChange { before, after });
                AccountChange {
                    before,
                    after,
                    wiped,
                    storage: slots.into_iter().map(slot).collect(),
                }
            },
        );
        let address = any::<[u8; 20]>().prop_map(Address::from);
        let code = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..3);
        (prop::collection::btree_map(address, account, 0..6), code).prop_map(|(accounts, code)| {
            let code = code.into_iter().map(|code| (keccak256(&code), code.into())).collect();
            StateChanges { accounts: accounts.into_iter().collect(), code }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn alterations_read_back_as_written_and_no_cut_of_them_panics(changes in changes()) {
            let bytes = encode(&changes);
            prop_assert_eq!(decode(&bytes).expect("just written"), changes);
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                let _ = decode(&bytes[..length]);
                let mut flipped = bytes.clone();
                flipped[length] ^= 0xa5;
                let _ = decode(&flipped);
            }
        }
    }
}

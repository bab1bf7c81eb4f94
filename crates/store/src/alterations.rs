//! What was altered by hand in the state of a block before the next one, kept with that next one's
//! number: running it again has to start from there.
//!
//! It is kept in pieces, each of which changes what the ones before it left, so that a small alteration after many others
//! writes little.

use crate::change_set::{Reader, push_short, push_varint};
use crate::codec::{decode_account, encode_account, encode_word};
use crate::error::unless_damaged;
use crate::schema::{WHOLE_ALTERATIONS, WriteTables};
use crate::{Store, StoreError};
use alloy_primitives::{Address, Bytes, keccak256};
use heddle_trie::{AccountChange, AccountState, SlotChange, SortedMap, StateChanges};
use redb::{ReadableTable, WriteTransaction};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const TABLE: &str = "alteration_pieces";

/// The keys of the pieces of these blocks.
fn keys(numbers: RangeInclusive<u64>) -> RangeInclusive<(u64, u32)> {
    (*numbers.start(), 0)..=(*numbers.end(), u32::MAX)
}

impl Store {
    /// What was altered in the state before block `number` was made on it, oldest piece first; none if nothing was.
    ///
    /// # Errors
    /// When the database fails or holds a value that does not decode.
    pub fn alterations(&self, number: u64) -> Result<Vec<StateChanges>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let pieces = snapshot.tables.alterations.range(keys(number..=number))?;
            pieces.map(|piece| decode(piece?.1.value())).collect()
        })
    }

    /// Writes down what is altered in the state of the head: the first `kept` pieces stay as they were written, these
    /// take the place of the others.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_alterations<C: Borrow<StateChanges>>(
        &self,
        kept: usize,
        pieces: &[C],
    ) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        let next = self.snapshot().head()?.number.saturating_add(1);
        let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let replaced = (next, place(kept))..=(next, u32::MAX);
        if pieces.is_empty()
            && self.snapshot().tables.alterations.range(replaced.clone())?.next().is_none()
        {
            return Ok(());
        }
        self.write(&writer, |tables| {
            tables.alterations.retain_in(replaced, |_, _| false)?;
            for (index, piece) in pieces.iter().enumerate() {
                let key = (next, place(kept + index));
                tables.alterations.insert(key, encode(piece.borrow()).as_slice())?;
            }
            Ok(())
        })
    }
}

/// Forgets what was altered before these blocks were made.
pub(crate) fn remove_alterations(
    tables: &mut WriteTables<'_>,
    numbers: RangeInclusive<u64>,
) -> Result<(), StoreError> {
    tables.alterations.retain_in(keys(numbers), |_, _| false)?;
    Ok(())
}

/// Each block's alterations of a database of version 3 become a piece.
pub(crate) fn split_whole(transaction: &WriteTransaction) -> Result<(), StoreError> {
    {
        let mut tables = WriteTables::open(transaction)?;
        for entry in transaction.open_table(WHOLE_ALTERATIONS)?.iter()? {
            let (number, changes) = entry?;
            tables.alterations.insert((number.value(), 0), changes.value())?;
        }
    }
    transaction.delete_table(WHOLE_ALTERATIONS)?;
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

//! What a block overwrote: the values before it, by which it can be undone.

use crate::StoreError;
use crate::codec::{decode_account, decode_word, encode_account, encode_word};
use crate::pieces::{self, PieceKey, SHORT_PIECE_BYTES};
use alloy_primitives::{Address, U256};
use heddle_trie::AccountState;
use redb::{AccessGuard, ReadableTable};
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

/// Bytes of a group beside its slots and its state: address, the state's length, the number of slots. A piece has fewer
/// slots than two bytes of LEB128 can count.
const GROUP_BYTES: usize = 20 + 1 + 2;

impl ChangeSet {
    /// In pieces, each a page of the database. A piece consists of groups: address, length-prefixed account before (length
    /// 0: absent), number of slots (LEB128), and per slot the length-prefixed slot and the length-prefixed value before.
    /// Groups ascend by address and slots by number, also from piece to piece; an account with many slots has several
    /// groups, of which the first says what the account was.
    pub(crate) fn encode(&self) -> Vec<Vec<u8>> {
        let mut pieces = vec![Vec::new()];
        for (address, before) in &self.accounts {
            let mut state = Vec::new();
            match &before.state {
                StateBefore::Unchanged => state.push(UNCHANGED),
                StateBefore::Absent => state.push(0),
                StateBefore::Was(account) => push_short(&mut state, &encode_account(account)),
            }
            let mut slots = before.slots.iter().map(|(slot, value)| {
                let mut out = Vec::new();
                push_short(&mut out, &encode_word(slot));
                push_short(&mut out, &encode_word(value));
                out
            });
            let mut next = slots.next();
            loop {
                let used = pieces.last().map_or(0, Vec::len);
                let mut room = SHORT_PIECE_BYTES.saturating_sub(used + GROUP_BYTES + state.len());
                let has_room = used + GROUP_BYTES + state.len() <= SHORT_PIECE_BYTES
                    && next.as_ref().is_none_or(|next| next.len() <= room);
                if !has_room && used > 0 {
                    pieces.push(Vec::new());
                    continue;
                }
                let (mut count, mut group) = (0, Vec::new());
                while let Some(slot) = next.take_if(|slot| slot.len() <= room) {
                    room -= slot.len();
                    group.extend(slot);
                    count += 1;
                    next = slots.next();
                }
                if let Some(piece) = pieces.last_mut() {
                    piece.extend_from_slice(address.as_slice());
                    piece.extend_from_slice(&state);
                    push_varint(piece, count);
                    piece.extend(group);
                }
                if next.is_none() {
                    break;
                }
                state = vec![UNCHANGED];
            }
        }
        pieces
    }

    /// A block's change set, and how many bytes that is; `None` if it has none.
    pub(crate) fn read(
        table: &impl ReadableTable<PieceKey, &'static [u8]>,
        number: u64,
    ) -> Result<Option<(Self, usize)>, StoreError> {
        let mut changes = Self::default();
        let mut bytes = 0;
        let mut is_there = false;
        for entry in table.range(pieces::all_of(number))? {
            let (_, piece) = entry?;
            changes.add_piece(piece.value())?;
            bytes += piece.value().len();
            is_there = true;
        }
        Ok(is_there.then_some((changes, bytes)))
    }

    fn add_piece(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let mut groups = Reader { rest: piece };
        while !groups.rest.is_empty() {
            let group = Group::read(&mut groups)?;
            let account = self.accounts.entry(group.address).or_default();
            if let Some(state) = group.state()? {
                account.state = state;
            }
            let mut slots = group.slots;
            for _ in 0..group.count {
                let slot = slots.word()?;
                account.slots.insert(slot, slots.word()?);
            }
        }
        Ok(())
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

/// What one account lost, or a part of it, as it is stored.
struct Group<'b> {
    address: Address,
    /// As it is stored; `None` if it is not said here.
    state: Option<&'b [u8]>,
    count: u64,
    slots: Reader<'b>,
}

impl<'b> Group<'b> {
    /// The next one; `reader` is after it then.
    fn read(reader: &mut Reader<'b>) -> Result<Self, StoreError> {
        let address = Address::from_slice(reader.take(20)?);
        let state = match reader.byte()? {
            UNCHANGED => None,
            length => Some(reader.take(usize::from(length))?),
        };
        let count = reader.varint()?;
        let slots = Reader { rest: reader.rest };
        for _ in 0..2 * u128::from(count) {
            let length = usize::from(reader.byte()?);
            reader.take(length)?;
        }
        Ok(Self { address, state, count, slots })
    }

    fn state(&self) -> Result<Option<StateBefore>, StoreError> {
        match self.state {
            None => Ok(None),
            Some([]) => Ok(Some(StateBefore::Absent)),
            Some(account) => Ok(Some(StateBefore::Was(decode_account(TABLE, account)?))),
        }
    }

    /// Where it begins in the order of all groups.
    fn start(&self) -> Result<Place, StoreError> {
        let mut slots = Reader { rest: self.slots.rest };
        let slot = if self.state.is_some() || self.count == 0 { None } else { Some(slots.word()?) };
        Ok((self.address, slot))
    }
}

/// An account itself, or one of its slots. In this order.
type Place = (Address, Option<U256>);

/// The piece of a block's change set that has this place, if any has.
fn piece_with<T: ReadableTable<PieceKey, &'static [u8]>>(
    table: &T,
    number: u64,
    place: Place,
) -> Result<Option<AccessGuard<'_, &'static [u8]>>, StoreError> {
    let last = table.range(pieces::all_of(number))?.next_back().transpose()?;
    let Some(last) = last.map(|(key, _)| key.value().1) else {
        return Ok(None);
    };
    // The last piece that begins at or before the place.
    let (mut low, mut high) = (0, last);
    while low < high {
        let middle = high - (high - low) / 2;
        let piece = table.get((number, middle))?.ok_or_else(cut_off)?;
        if Group::read(&mut Reader { rest: piece.value() })?.start()? <= place {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(table.get((number, low))?)
}

fn not_noted(number: u64, address: &Address) -> StoreError {
    StoreError::damaged(
        TABLE,
        format!("block {number} is said to have changed {address}, but has not"),
    )
}

/// What an account was before a block that changed it.
pub(crate) fn account_before(
    table: &impl ReadableTable<PieceKey, &'static [u8]>,
    number: u64,
    address: &Address,
) -> Result<Option<AccountState>, StoreError> {
    let piece =
        piece_with(table, number, (*address, None))?.ok_or_else(|| not_noted(number, address))?;
    let mut groups = Reader { rest: piece.value() };
    while !groups.rest.is_empty() {
        let group = Group::read(&mut groups)?;
        if group.address == *address {
            return match group.state()? {
                Some(StateBefore::Was(state)) => Ok(Some(state)),
                Some(StateBefore::Absent) => Ok(None),
                Some(StateBefore::Unchanged) | None => Err(not_noted(number, address)),
            };
        }
    }
    Err(not_noted(number, address))
}

/// What a slot was before a block that changed it.
pub(crate) fn slot_before(
    table: &impl ReadableTable<PieceKey, &'static [u8]>,
    number: u64,
    address: &Address,
    slot: U256,
) -> Result<U256, StoreError> {
    let place = (*address, Some(slot));
    let piece = piece_with(table, number, place)?.ok_or_else(|| not_noted(number, address))?;
    let mut groups = Reader { rest: piece.value() };
    while !groups.rest.is_empty() {
        let mut group = Group::read(&mut groups)?;
        if group.address == *address {
            for _ in 0..group.count {
                let (found, value) = (group.slots.word()?, group.slots.word()?);
                if found == slot {
                    return Ok(value);
                }
            }
        }
    }
    Err(not_noted(number, address))
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
    use redb::{Builder, TableDefinition, backends::InMemoryBackend};

    const PIECES: pieces::PieceTable = TableDefinition::new("pieces");

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
        fn a_change_set_reads_back_as_written_as_a_whole_and_by_places(set in change_sets()) {
            let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
            let transaction = database.begin_write().unwrap();
            let mut table = transaction.open_table(PIECES).unwrap();
            let encoded = set.encode();
            for (place, piece) in (0..).zip(&encoded) {
                prop_assert!(piece.len() <= SHORT_PIECE_BYTES);
                table.insert((7, place), piece.as_slice()).unwrap();
                // The neighbours' are never looked at.
                table.insert((6, place), [1].as_slice()).unwrap();
                table.insert((8, place), [1].as_slice()).unwrap();
            }
            let bytes = encoded.iter().map(Vec::len).sum();
            let read = ChangeSet::read(&table, 7).unwrap();
            prop_assert_eq!(read.as_ref(), Some(&(set.clone(), bytes)));
            for (address, before) in &set.accounts {
                let found = account_before(&table, 7, address);
                match before.state {
                    StateBefore::Unchanged => prop_assert!(found.is_err()),
                    StateBefore::Absent => prop_assert_eq!(found.unwrap(), None),
                    StateBefore::Was(state) => prop_assert_eq!(found.unwrap(), Some(state)),
                }
                for (slot, value) in &before.slots {
                    prop_assert_eq!(slot_before(&table, 7, address, *slot).unwrap(), *value);
                }
                let other = U256::from(12_345);
                if !before.slots.contains_key(&other) {
                    prop_assert!(slot_before(&table, 7, address, other).is_err());
                }
            }
            prop_assert!(ChangeSet::read(&table, 9).unwrap().is_none());
        }

        #[test]
        fn no_cut_of_a_change_set_panics(set in change_sets()) {
            for bytes in set.encode() {
                for length in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                    let _ = ChangeSet::default().add_piece(&bytes[..length]);
                    let mut flipped = bytes.clone();
                    flipped[length] ^= 0xa5;
                    let _ = ChangeSet::default().add_piece(&flipped);
                }
            }
        }
    }
}

//! Long values by block number, compressed and in pieces that fill the pages of the database.
//!
//! redb gives a value that shares no page with others a page of its own, of 4 KiB times a power of two, so that on average
//! a quarter of it is empty. Pieces are as long as such a page has room for: first as many of the longest as there are,
//! then ever shorter ones; what is left in the end shares a page with its neighbours.

use crate::StoreError;
use redb::{ReadableTable, Table, TableDefinition};

/// Block number, and the place among its pieces.
pub(crate) type PieceKey = (u64, u32);
pub(crate) type PieceTable = TableDefinition<'static, PieceKey, &'static [u8]>;
pub(crate) type WritablePieces<'t> = Table<'t, PieceKey, &'static [u8]>;

/// What a page has besides the value: its header, the key, and where the value ends.
const PAGE_OVERHEAD_BYTES: usize = 4 + 12 + 4;

const PAGE_BYTES: usize = 4_096;

/// The longest pieces take a page of 64 KiB: few enough of them for a block of any size.
const LONGEST_PAGE_ORDER: u32 = 4;

/// How long a value is that one page of the shortest kind has room for.
pub(crate) const SHORT_PIECE_BYTES: usize = PAGE_BYTES - PAGE_OVERHEAD_BYTES;

/// Shorter values are not worth compressing.
const COMPRESSED_BYTES_MIN: usize = 256;

/// zstd's quickest: three quarters of what a block of transfers holds are signatures and addresses anyway.
const COMPRESSION_LEVEL: i32 = 1;

/// A block's longest value: its transactions at 1,000,000,000 gas are 100 MB if they are nothing but calldata. What says
/// that it is longer is damaged.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// The first byte of a value: whether it is compressed. A compressed one goes on with its length in four bytes.
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

fn damaged(table: &'static str, detail: impl Into<String>) -> StoreError {
    StoreError::damaged(table, detail)
}

/// The value as it is stored.
fn pack(value: &[u8]) -> Vec<u8> {
    if value.len() >= COMPRESSED_BYTES_MIN
        && let Ok(length) = u32::try_from(value.len())
        && let Ok(compressed) = zstd::bulk::compress(value, COMPRESSION_LEVEL)
        && compressed.len() + 4 < value.len()
    {
        let mut packed = Vec::with_capacity(5 + compressed.len());
        packed.push(COMPRESSED);
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(&compressed);
        return packed;
    }
    let mut packed = Vec::with_capacity(1 + value.len());
    packed.push(PLAIN);
    packed.extend_from_slice(value);
    packed
}

fn unpack(table: &'static str, packed: &[u8]) -> Result<Vec<u8>, StoreError> {
    match packed.split_first() {
        Some((&PLAIN, value)) => Ok(value.to_vec()),
        Some((&COMPRESSED, rest)) => {
            let (length, compressed) = rest
                .split_first_chunk()
                .ok_or_else(|| damaged(table, "a value that is cut off"))?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > VALUE_BYTES_MAX {
                return Err(damaged(table, format!("a value of {length} bytes")));
            }
            let value = zstd::bulk::decompress(compressed, length).map_err(|error| {
                damaged(table, format!("a value that is not compressed right: {error}"))
            })?;
            if value.len() != length {
                return Err(damaged(table, "a value that is shorter than it says"));
            }
            Ok(value)
        }
        _ => Err(damaged(table, "a value that begins with none of its kinds")),
    }
}

/// Cuts a value so that each piece fills a page.
fn cut(mut value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_first = true;
    std::iter::from_fn(move || {
        // An empty value has a piece too, which says that it is there.
        if value.is_empty() && !std::mem::take(&mut is_first) {
            return None;
        }
        is_first = false;
        let fitting =
            (0..=LONGEST_PAGE_ORDER).rev().map(|order| (PAGE_BYTES << order) - PAGE_OVERHEAD_BYTES);
        let length = fitting.filter(|length| *length <= value.len()).max().unwrap_or(value.len());
        let (piece, rest) = value.split_at(length);
        value = rest;
        Some(piece)
    })
}

/// Writes a block's value, which has none yet.
pub(crate) fn write(
    table: &mut WritablePieces<'_>,
    number: u64,
    value: &[u8],
) -> Result<(), StoreError> {
    for (place, piece) in (0..).zip(cut(&pack(value))) {
        table.insert((number, place), piece)?;
    }
    Ok(())
}

/// A block's value, `None` if it has none.
pub(crate) fn read(
    name: &'static str,
    table: &impl ReadableTable<PieceKey, &'static [u8]>,
    number: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut packed = Vec::new();
    let mut pieces = 0;
    for entry in table.range(all_of(number))? {
        let (key, piece) = entry?;
        if key.value().1 != pieces {
            return Err(damaged(name, format!("a piece of block {number} is missing")));
        }
        pieces += 1;
        packed.extend_from_slice(piece.value());
    }
    if pieces == 0 { Ok(None) } else { unpack(name, &packed).map(Some) }
}

/// Removes a block's value; whether there was one.
pub(crate) fn remove(table: &mut WritablePieces<'_>, number: u64) -> Result<bool, StoreError> {
    let mut pieces = 0;
    while table.remove((number, pieces))?.is_some() {
        pieces += 1;
    }
    Ok(pieces > 0)
}

/// The keys of a block's pieces.
pub(crate) const fn all_of(number: u64) -> std::ops::RangeInclusive<PieceKey> {
    (number, 0)..=(number, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::{Builder, ReadableDatabase, backends::InMemoryBackend};

    const TABLE: PieceTable = TableDefinition::new("pieces");

    /// Some compress and some do not, around every length where something changes.
    fn values() -> impl Strategy<Value = Vec<u8>> {
        let length =
            prop_oneof![0..600usize, 3_900..4_200usize, 60_000..70_000usize, 0..300_000usize];
        (length, any::<u64>(), any::<bool>()).prop_map(|(length, seed, is_random)| {
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if is_random { state as u8 } else { (state % 3) as u8 }
            };
            (0..length).map(|_| next()).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn values_read_back_as_written_and_their_pieces_fill_pages(values in prop::collection::vec(values(), 1..4)) {
            let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(TABLE).unwrap();
                for (number, value) in (0..).zip(&values) {
                    write(&mut table, number, value).unwrap();
                    let pieces: Vec<usize> = cut(&pack(value)).map(<[u8]>::len).collect();
                    let (last, full) = pieces.split_last().unwrap();
                    prop_assert!(full.iter().all(|length| (length + PAGE_OVERHEAD_BYTES).is_power_of_two()));
                    prop_assert!(*last <= (PAGE_BYTES << LONGEST_PAGE_ORDER));
                }
            }
            transaction.commit().unwrap();
            let read_table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            for (number, value) in (0..).zip(&values) {
                let found = read("pieces", &read_table, number).unwrap();
                prop_assert_eq!(found.as_ref(), Some(value));
            }
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(TABLE).unwrap();
                prop_assert!(remove(&mut table, 0).unwrap());
                prop_assert!(!remove(&mut table, 0).unwrap());
                prop_assert_eq!(read("pieces", &table, 0).unwrap(), None);
                prop_assert_eq!(table.range(all_of(0)).unwrap().count(), 0);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_much_memory(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack("pieces", &bytes);
            bytes.insert(0, COMPRESSED);
            let _ = unpack("pieces", &bytes);
            let mut packed = pack(&[7; 5_000]);
            let place = bytes.len() % packed.len();
            packed[place] ^= 0x20;
            let _ = unpack("pieces", &packed);
        }
    }
}

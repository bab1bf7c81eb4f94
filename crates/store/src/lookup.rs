//! Where a transaction is, by its hash.
//!
//! Hashes are random, so every transaction of a block goes to another page, and each such page is written anew. That stays
//! cheap only while there are few pages to go to: the table is divided into *segments* of so many transactions in a row,
//! and only the newest is written to. A look-up asks each segment, the newest first.
//!
//! A key begins with its segment and the first [`PREFIX_BYTES`] bytes of the hash, and goes on with the place; there is no
//! value. Another transaction's hash can begin with the same bytes, by accident or because somebody tried until it did. So
//! what is found are *candidates*, and whoever asks compares the hash of the transaction that is there.

use crate::schema::{ReadTables, WriteTables};
use crate::{StoreError, TransactionLocation};
use alloy_primitives::B256;
use redb::ReadableTable;

/// How much of a hash is kept: two of a million transactions begin with the same six bytes once in some hundred chains.
const PREFIX_BYTES: usize = 6;

/// Segment (2), beginning of the hash (6), block (5), index (3).
pub(crate) type LookupKey = [u8; 16];

/// From so many transactions on a segment is closed: its pages, some 25 MB, stay in memory while it is written to.
#[cfg(not(test))]
const SEGMENT_TRANSACTIONS: u64 = 1 << 20;
#[cfg(test)]
const SEGMENT_TRANSACTIONS: u64 = 40;

fn key(segment: u16, hash: &B256, location: TransactionLocation) -> LookupKey {
    let mut key = [0; 16];
    key[..2].copy_from_slice(&segment.to_be_bytes());
    key[2..2 + PREFIX_BYTES].copy_from_slice(&hash[..PREFIX_BYTES]);
    key[8..13].copy_from_slice(&location.block.to_be_bytes()[3..]);
    key[13..].copy_from_slice(&location.index.to_be_bytes()[1..]);
    key
}

fn location(key: &LookupKey) -> TransactionLocation {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    TransactionLocation { block: number(&key[8..13]), index: number(&key[13..]) as u32 }
}

/// All keys of a segment that begin like `hash`.
fn range(segment: u16, hash: &B256) -> (LookupKey, LookupKey) {
    let mut to = key(segment, hash, TransactionLocation { block: 0, index: 0 });
    let from = to;
    to[8..].fill(0xff);
    (from, to)
}

/// A segment's number, the first block that it has transactions of, and how many there are.
type Segment = (u16, (u64, u64));

/// The segment that is written to.
fn newest(tables: &WriteTables<'_>) -> Result<Option<Segment>, StoreError> {
    let newest = tables.transaction_segments.last()?;
    Ok(newest.map(|(segment, what)| (segment.value(), what.value())))
}

/// Adds the transactions of a block that follows those that are there.
pub(crate) fn add_block<'h>(
    tables: &mut WriteTables<'_>,
    number: u64,
    hashes: impl ExactSizeIterator<Item = &'h B256>,
) -> Result<(), StoreError> {
    if hashes.len() == 0 {
        return Ok(());
    }
    let (segment, (first, count)) = match newest(tables)? {
        None => (0, (number, 0)),
        Some((segment, (first, count))) if count < SEGMENT_TRANSACTIONS => {
            (segment, (first, count))
        }
        Some((segment, _)) => {
            let next = segment.checked_add(1);
            (
                next.ok_or_else(|| StoreError::damaged("transactions", "no more segments"))?,
                (number, 0),
            )
        }
    };
    tables.transaction_segments.insert(segment, (first, count + hashes.len() as u64))?;
    // In order, so that neighbours find their page at hand.
    let mut keys: Vec<LookupKey> = (0u32..)
        .zip(hashes)
        .map(|(index, hash)| key(segment, hash, TransactionLocation { block: number, index }))
        .collect();
    keys.sort_unstable();
    for key in &keys {
        tables.transactions.insert(key, ())?;
    }
    Ok(())
}

/// Takes the transactions of a block out. It is the newest one.
pub(crate) fn remove_block<'h>(
    tables: &mut WriteTables<'_>,
    number: u64,
    hashes: impl ExactSizeIterator<Item = &'h B256>,
) -> Result<(), StoreError> {
    if hashes.len() == 0 {
        return Ok(());
    }
    let Some((segment, (first, count))) =
        newest(tables)?.filter(|(_, (first, _))| *first <= number)
    else {
        return Err(StoreError::damaged("transactions", format!("no segment has block {number}")));
    };
    let count = count.saturating_sub(hashes.len() as u64);
    for (index, hash) in (0u32..).zip(hashes) {
        tables.transactions.remove(&key(
            segment,
            hash,
            TransactionLocation { block: number, index },
        ))?;
    }
    if count == 0 {
        tables.transaction_segments.remove(segment)?;
    } else {
        tables.transaction_segments.insert(segment, (first, count))?;
    }
    Ok(())
}

/// Forgets the segments that have no transactions from block `first_kept` on.
pub(crate) fn forget_before(
    tables: &mut WriteTables<'_>,
    first_kept: u64,
) -> Result<(), StoreError> {
    loop {
        let mut segments = tables.transaction_segments.iter()?;
        let oldest = segments.next().transpose()?.map(|(segment, _)| segment.value());
        let next_first = segments.next().transpose()?.map(|(_, what)| what.value().0);
        drop(segments);
        let Some(oldest) = oldest.filter(|_| next_first.is_some_and(|first| first <= first_kept))
        else {
            return Ok(());
        };
        let (mut from, mut to) = ([0; 16], [0xff; 16]);
        from[..2].copy_from_slice(&oldest.to_be_bytes());
        to[..2].copy_from_slice(&oldest.to_be_bytes());
        tables.transactions.retain_in::<&LookupKey, _>(&from..=&to, |_, ()| false)?;
        tables.transaction_segments.remove(oldest)?;
    }
}

/// Where the transaction with this hash can be, newest segment first.
pub(crate) fn candidates(
    tables: &ReadTables,
    hash: &B256,
) -> Result<Vec<TransactionLocation>, StoreError> {
    let mut found = Vec::new();
    for entry in tables.transaction_segments.iter()?.rev() {
        let (from, to) = range(entry?.0.value(), hash);
        for entry in tables.transactions.range::<&LookupKey>(&from..=&to)? {
            found.push(location(entry?.0.value()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainIdentity, open::write_identity};
    use alloy_primitives::keccak256;
    use proptest::prelude::*;
    use redb::{Builder, ReadableDatabase, backends::InMemoryBackend};

    /// Different hashes, of which some begin with the same bytes.
    fn hash(number: u64) -> B256 {
        let mut hash = keccak256(number.to_be_bytes());
        if number.is_multiple_of(7) {
            hash[..PREFIX_BYTES].fill(0x77);
        }
        hash
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_transaction_is_among_its_candidates_and_what_is_gone_is_not(
            steps in prop::collection::vec((prop::collection::vec(0usize..25, 0..8), 0usize..5), 1..8),
            pruned in 0u64..40,
        ) {
            let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
            write_identity(&database, &ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO }).unwrap();
            let (mut chain, mut gone, mut next) = (Vec::<Vec<B256>>::new(), Vec::new(), 0);
            let transaction = database.begin_write().unwrap();
            {
                let mut tables = WriteTables::open(&transaction).unwrap();
                for (blocks, removed) in steps {
                    for length in blocks {
                        let hashes: Vec<B256> = (next..next + length as u64).map(hash).collect();
                        next += length as u64;
                        add_block(&mut tables, chain.len() as u64, hashes.iter()).unwrap();
                        chain.push(hashes);
                    }
                    for _ in 0..removed.min(chain.len()) {
                        let hashes = chain.pop().unwrap();
                        remove_block(&mut tables, chain.len() as u64, hashes.iter()).unwrap();
                        gone.extend(hashes);
                    }
                }
                forget_before(&mut tables, pruned).unwrap();
            }
            transaction.commit().unwrap();
            let tables = ReadTables::open(&database.begin_read().unwrap()).unwrap();
            let mut left = 0;
            for (block, hashes) in (0u64..).zip(&chain) {
                for (index, hash) in (0u32..).zip(hashes) {
                    let is_there = candidates(&tables, hash).unwrap().contains(&TransactionLocation { block, index });
                    left += u64::from(is_there);
                    prop_assert!(is_there || block < pruned, "block {} index {}", block, index);
                }
            }
            for hash in gone {
                let places = candidates(&tables, &hash).unwrap();
                prop_assert!(places.is_empty() || hash[..PREFIX_BYTES] == [0x77; PREFIX_BYTES]);
            }
            prop_assert_eq!(redb::ReadableTableMetadata::len(&tables.transactions).unwrap(), left);
        }
    }
}

//! Which blocks have logs of an address or with a topic.
//!
//! Every address and every topic with its place makes a 64-bit fingerprint. A block adds its fingerprints, sorted, as one
//! entry at the end of `recent_logs`: the cost of a commit is that of writing them once, in order. When so much has come
//! together, all of `recent_logs` becomes a chunk: pages of (fingerprint, block) in the order of fingerprints in
//! `log_chunks`, again written in one go. A look-up reads one or two pages of each chunk in its range, and of the newest
//! blocks their lists.
//!
//! Fingerprints of two values can be the same by accident or on purpose. Then a block is named that has no such log;
//! whoever asks looks at the logs themselves. A block that has one is never left out.
//!
//! Undoing a block removes its list, or takes the chunk that it is in apart into lists again.

use crate::codec::decode_receipts;
use crate::error::unless_damaged;
use crate::schema::{ReadTables, WriteTables, meta};
use crate::{Prunable, Store, StoreError, pieces};
use alloy_consensus::ReceiptEnvelope;
use alloy_primitives::{Address, B256};
use redb::{Database, ReadableTable, ReadableTableMetadata};
use std::collections::BTreeMap;

/// From so many fingerprints on, `recent_logs` becomes a chunk: a few milliseconds of sorting and writing.
#[cfg(not(test))]
const CHUNK_FINGERPRINTS: u32 = 1 << 16;
/// Or from so many blocks on, which bounds how many lists a look-up goes through.
#[cfg(not(test))]
const CHUNK_BLOCKS: u64 = 2_048;
/// Entries of a page: a little less than a page of the database.
#[cfg(not(test))]
const PAGE_ENTRIES: usize = 300;
// So small that a test's few blocks fill many chunks and pages.
#[cfg(test)]
const CHUNK_FINGERPRINTS: u32 = 60;
#[cfg(test)]
const CHUNK_BLOCKS: u64 = 9;
#[cfg(test)]
const PAGE_ENTRIES: usize = 4;
/// A fingerprint and how far the block is from the chunk's first.
const ENTRY_BYTES: usize = 12;
/// Before the entries of a page: the chunk's first block. Before a block's list: how many fingerprints `recent_logs` has
/// up to its end, in four of them.
const PREFIX_BYTES: usize = 8;
/// Blocks that a store without an index gets indexed in one transaction.
const CATCH_UP_BLOCKS: u64 = 1_000;

/// What a log can be found by, and where it is looked for.
const ADDRESS: u64 = 0;

fn fingerprint(place: u64, value: &[u8]) -> u64 {
    // The finaliser of SplitMix64 over each word: spreads well and is the same in all versions of everything.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    value.chunks(8).fold(mix(place.wrapping_add(0x9e37_79b9_7f4a_7c15)), |hash, word| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        mix(hash ^ u64::from_be_bytes(bytes))
    })
}

/// The fingerprints of a block's logs, ascending, each once.
fn fingerprints(receipts: &[ReceiptEnvelope]) -> Vec<u64> {
    let mut found = Vec::new();
    for log in receipts.iter().flat_map(ReceiptEnvelope::logs) {
        found.push(fingerprint(ADDRESS, log.address.as_slice()));
        let topics = (1..).zip(log.data.topics());
        found.extend(topics.map(|(place, topic)| fingerprint(place, topic.as_slice())));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The next block to be indexed.
fn next_block(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<u64>, StoreError> {
    let Some(entry) = meta.get(meta::LOGS_INDEXED)? else { return Ok(None) };
    let bytes = entry.value().try_into();
    let bytes =
        bytes.map_err(|_| StoreError::damaged("meta", "the log index has no number".to_owned()))?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

fn set_next_block(tables: &mut WriteTables<'_>, number: u64) -> Result<(), StoreError> {
    tables.meta.insert(meta::LOGS_INDEXED, number.to_be_bytes().as_slice())?;
    Ok(())
}

/// Adds the logs of a block that follows those that are indexed.
pub(crate) fn add_block(
    tables: &mut WriteTables<'_>,
    number: u64,
    receipts: &[ReceiptEnvelope],
) -> Result<(), StoreError> {
    set_next_block(tables, number + 1)?;
    let fingerprints = fingerprints(receipts);
    if fingerprints.is_empty() {
        return Ok(());
    }
    let total = put_list(tables, number, &fingerprints)?;
    if total >= CHUNK_FINGERPRINTS || tables.recent_logs.len()? >= CHUNK_BLOCKS {
        close_chunk(tables)?;
    }
    Ok(())
}

/// Puts a block's list behind the others; how many fingerprints there are now.
fn put_list(
    tables: &mut WriteTables<'_>,
    number: u64,
    fingerprints: &[u64],
) -> Result<u32, StoreError> {
    let before = match tables.recent_logs.last()? {
        Some((_, list)) => total(list.value())?,
        None => 0,
    };
    let total = before.saturating_add(u32::try_from(fingerprints.len()).unwrap_or(u32::MAX));
    let mut list = Vec::with_capacity(PREFIX_BYTES + 8 * fingerprints.len());
    list.extend_from_slice(&u64::from(total).to_be_bytes());
    list.extend(fingerprints.iter().flat_map(|fingerprint| fingerprint.to_be_bytes()));
    tables.recent_logs.insert(number, list.as_slice())?;
    Ok(total)
}

fn total(list: &[u8]) -> Result<u32, StoreError> {
    Ok(u32::try_from(prefix("recent_logs", list)?.0).unwrap_or(u32::MAX))
}

/// The number that a value begins with, and the rest.
fn prefix<'v>(table: &'static str, value: &'v [u8]) -> Result<(u64, &'v [u8]), StoreError> {
    let (number, rest) = value
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or_else(|| StoreError::damaged(table, "an entry is too short".to_owned()))?;
    Ok((u64::from_be_bytes(*number), rest))
}

/// The fingerprints of a block's list.
fn list(value: &[u8]) -> Result<&[[u8; 8]], StoreError> {
    Ok(prefix("recent_logs", value)?.1.as_chunks::<8>().0)
}

/// A page's first block and its entries.
fn page(value: &[u8]) -> Result<(u64, &[[u8; ENTRY_BYTES]]), StoreError> {
    let (first, entries) = prefix("log_chunks", value)?;
    Ok((first, entries.as_chunks::<ENTRY_BYTES>().0))
}

fn entry_fingerprint(entry: &[u8; ENTRY_BYTES]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&entry[..8]);
    u64::from_be_bytes(bytes)
}

fn entry_distance(entry: &[u8; ENTRY_BYTES]) -> u64 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&entry[8..]);
    u64::from(u32::from_be_bytes(bytes))
}

/// Makes a chunk of all lists.
fn close_chunk(tables: &mut WriteTables<'_>) -> Result<(), StoreError> {
    let mut entries = Vec::<(u64, u64)>::new();
    while let Some((number, value)) = tables.recent_logs.pop_first()? {
        let number = number.value();
        let fingerprints = list(value.value())?.iter().map(|bytes| u64::from_be_bytes(*bytes));
        entries.extend(fingerprints.map(|fingerprint| (fingerprint, number)));
    }
    entries.sort_unstable();
    let blocks = entries.iter().map(|(_, number)| *number);
    let (Some(first), Some(last)) = (blocks.clone().min(), blocks.max()) else { return Ok(()) };
    for (index, part) in entries.chunks(PAGE_ENTRIES).enumerate() {
        let mut page = Vec::with_capacity(PREFIX_BYTES + part.len() * ENTRY_BYTES);
        page.extend_from_slice(&first.to_be_bytes());
        for (fingerprint, number) in part {
            page.extend_from_slice(&fingerprint.to_be_bytes());
            // Fewer than `CHUNK_BLOCKS` blocks have logs, but those without can be many in between.
            let distance = u32::try_from(number - first).map_err(|_| {
                StoreError::damaged("log_chunks", "2^32 blocks without logs".to_owned())
            })?;
            page.extend_from_slice(&distance.to_be_bytes());
        }
        // The first page is found for every fingerprint that is smaller than all others.
        let start = if index == 0 { 0 } else { part[0].0 };
        tables.log_chunks.insert(page_key(last, start, index), page.as_slice())?;
    }
    Ok(())
}

/// Chunk, first fingerprint, page: one fingerprint can fill several pages.
const fn page_key(last_block: u64, fingerprint: u64, page: usize) -> (u64, u64, u32) {
    (last_block, fingerprint, page as u32)
}

/// Takes a block's logs out. It is the newest one.
pub(crate) fn remove_block(tables: &mut WriteTables<'_>, number: u64) -> Result<(), StoreError> {
    set_next_block(tables, number)?;
    if tables.recent_logs.remove(number)?.is_some() {
        return Ok(());
    }
    let newest = tables.log_chunks.last()?.map(|(key, _)| key.value().0);
    // All lists are of later blocks than all chunks, so that there are none left now.
    match newest {
        Some(last) if last >= number => open_chunk(tables, last, number),
        _ => Ok(()),
    }
}

/// Forgets blocks before `first`: of chunks only whole ones.
pub(crate) fn forget_before(tables: &mut WriteTables<'_>, first: u64) -> Result<(), StoreError> {
    loop {
        let oldest = tables.log_chunks.first()?.map(|(key, _)| key.value().0);
        let Some(last) = oldest.filter(|last| *last < first) else { break };
        let all = page_key(last, 0, 0)..=(last, u64::MAX, u32::MAX);
        tables.log_chunks.retain_in(all, |_, _| false)?;
    }
    tables.recent_logs.retain_in(..first, |_, _| false)?;
    Ok(())
}

/// Makes lists of the newest chunk again, without the blocks from `end` on.
fn open_chunk(tables: &mut WriteTables<'_>, last: u64, end: u64) -> Result<(), StoreError> {
    let mut lists = BTreeMap::<u64, Vec<u64>>::new();
    loop {
        let key = match tables.log_chunks.last()? {
            Some((key, _)) if key.value().0 == last => key.value(),
            _ => break,
        };
        let value = tables.log_chunks.remove(key)?;
        let Some(value) = value else { break };
        let (first, entries) = page(value.value())?;
        for entry in entries {
            let number = first + entry_distance(entry);
            if number < end {
                lists.entry(number).or_default().push(entry_fingerprint(entry));
            }
        }
    }
    for (number, mut fingerprints) in lists {
        fingerprints.sort_unstable();
        put_list(tables, number, &fingerprints)?;
    }
    Ok(())
}

/// Indexes the blocks of a database that were written without an index. Does nothing where there is one.
pub(crate) fn catch_up(database: &Database) -> Result<(), StoreError> {
    unless_damaged(|| {
        loop {
            let transaction = database.begin_write()?;
            let is_done = {
                let mut tables = WriteTables::open(&transaction)?;
                let head = tables.headers.last()?.map(|(number, _)| number.value());
                let indexed = next_block(&tables.meta)?.unwrap_or(0);
                let blocks = head.map_or(0, |head| head + 1);
                if indexed > blocks {
                    // Blocks were undone by a program that knows no index.
                    tables.recent_logs.retain(|_, _| false)?;
                    tables.log_chunks.retain(|_, _| false)?;
                    set_next_block(&mut tables, 0)?;
                    false
                } else {
                    let end = blocks.min(indexed + CATCH_UP_BLOCKS);
                    if indexed < end {
                        tracing::info!(from = indexed, to = end - 1, of = blocks, "indexing logs");
                    }
                    for number in indexed..end {
                        let receipts = match pieces::read("receipts", &tables.receipts, number)? {
                            Some(receipts) => decode_receipts("receipts", &receipts)?,
                            None => Vec::new(),
                        };
                        add_block(&mut tables, number, &receipts)?;
                    }
                    end == blocks
                }
            };
            transaction.commit()?;
            if is_done {
                return Ok(());
            }
        }
    })
}

impl Store {
    /// The blocks of `from..=to` that can have a log of one of these addresses whose topics are among those given for
    /// their place, ascending. An empty list of alternatives means any. Blocks can be named that have no such log; none
    /// is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn blocks_with_logs(
        &self,
        from: u64,
        to: u64,
        addresses: &[Address],
        topics: &[Vec<B256>],
    ) -> Result<Vec<u64>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let to = to.min(snapshot.head()?.number);
            if from > to {
                return Ok(Vec::new());
            }
            snapshot.kept.check(Prunable::Receipts, from)?;
            look_up(&snapshot.tables, from, to, addresses, topics)
        })
    }
}

/// As [`Store::blocks_with_logs`], with `from <= to`.
fn look_up(
    tables: &ReadTables,
    from: u64,
    to: u64,
    addresses: &[Address],
    topics: &[Vec<B256>],
) -> Result<Vec<u64>, StoreError> {
    let of_addresses = addresses.iter().map(|address| fingerprint(ADDRESS, address.as_slice()));
    let mut wanted = vec![of_addresses.collect::<Vec<_>>()];
    for (place, alternatives) in (1..).zip(topics) {
        wanted
            .push(alternatives.iter().map(|topic| fingerprint(place, topic.as_slice())).collect());
    }
    wanted.retain(|alternatives| !alternatives.is_empty());
    let mut blocks = Blocks::all(from, to);
    for alternatives in &mut wanted {
        alternatives.sort_unstable();
        let mut found = Blocks::none(from, to);
        find(tables, alternatives, &mut found)?;
        blocks.keep(&found);
    }
    Ok(blocks.numbers())
}

/// Marks the blocks that have one of these fingerprints.
fn find(tables: &ReadTables, fingerprints: &[u64], found: &mut Blocks) -> Result<(), StoreError> {
    let mut at = found.from;
    while let Some(entry) = tables.log_chunks.range(page_key(at, 0, 0)..)?.next() {
        let (key, value) = entry?;
        let last = key.value().0;
        if page(value.value())?.0 > found.to {
            return Ok(());
        }
        for fingerprint in fingerprints {
            find_in_chunk(tables, last, *fingerprint, found)?;
        }
        at = last + 1;
    }
    for entry in tables.recent_logs.range(found.from..=found.to)? {
        let (number, value) = entry?;
        let list = list(value.value())?;
        let has = |fingerprint: &u64| list.binary_search(&fingerprint.to_be_bytes()).is_ok();
        if fingerprints.iter().any(has) {
            found.add(number.value());
        }
    }
    Ok(())
}

fn find_in_chunk(
    tables: &ReadTables,
    last: u64,
    fingerprint: u64,
    found: &mut Blocks,
) -> Result<(), StoreError> {
    // Backwards from the last page that can have it to the first one that starts below it.
    let pages = tables.log_chunks.range(page_key(last, 0, 0)..=(last, fingerprint, u32::MAX))?;
    for entry in pages.rev() {
        let (key, value) = entry?;
        let (first, entries) = page(value.value())?;
        let start = entries.partition_point(|entry| entry_fingerprint(entry) < fingerprint);
        for entry in
            entries[start..].iter().take_while(|entry| entry_fingerprint(entry) == fingerprint)
        {
            found.add(first + entry_distance(entry));
        }
        if key.value().1 < fingerprint {
            break;
        }
    }
    Ok(())
}

/// A set of blocks in a range, one bit for each.
struct Blocks {
    from: u64,
    to: u64,
    bits: Vec<u64>,
}

impl Blocks {
    fn none(from: u64, to: u64) -> Self {
        Self { from, to, bits: vec![0; ((to - from) / 64 + 1) as usize] }
    }

    fn all(from: u64, to: u64) -> Self {
        let mut all = Self::none(from, to);
        all.bits.fill(u64::MAX);
        all
    }

    fn add(&mut self, number: u64) {
        if (self.from..=self.to).contains(&number) {
            let index = number - self.from;
            self.bits[(index / 64) as usize] |= 1 << (index % 64);
        }
    }

    fn keep(&mut self, others: &Self) {
        for (bits, other) in self.bits.iter_mut().zip(&others.bits) {
            *bits &= other;
        }
    }

    fn numbers(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for (word, bits) in (0..).zip(&self.bits) {
            let mut rest = *bits;
            while rest != 0 {
                let number = self.from + 64 * word + u64::from(rest.trailing_zeros());
                if number <= self.to {
                    numbers.push(number);
                }
                rest &= rest - 1;
            }
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainIdentity, open::write_identity};
    use alloy_consensus::{Receipt, TxType};
    use alloy_primitives::{Bytes, Log};
    use proptest::prelude::*;
    use redb::{Builder, ReadableDatabase, backends::InMemoryBackend};

    /// Logs of a block: an address and topics, out of a few.
    type Logs = Vec<(u8, Vec<u8>)>;

    fn address(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    fn topic(number: u8) -> B256 {
        B256::repeat_byte(number)
    }

    fn receipts(logs: &Logs) -> Vec<ReceiptEnvelope> {
        let log = |(number, topics): &(u8, Vec<u8>)| {
            let topics = topics.iter().map(|number| topic(*number)).collect();
            Log::new_unchecked(address(*number), topics, Bytes::new())
        };
        let receipt = Receipt { logs: logs.iter().map(log).collect(), ..Receipt::default() };
        vec![ReceiptEnvelope::from_typed(TxType::Legacy, receipt.with_bloom())]
    }

    fn has(logs: &Logs, addresses: &[u8], topics: &[Vec<u8>]) -> bool {
        let any = |values: &[u8], value: Option<&u8>| {
            values.is_empty() || value.is_some_and(|value| values.contains(value))
        };
        // Each by itself, in whichever log: that is what the index promises.
        let by_address =
            addresses.is_empty() || logs.iter().any(|log| any(addresses, Some(&log.0)));
        by_address
            && topics.iter().enumerate().all(|(place, wanted)| {
                wanted.is_empty() || logs.iter().any(|log| any(wanted, log.1.get(place)))
            })
    }

    fn block() -> impl Strategy<Value = Logs> {
        let log = (0u8..6, prop::collection::vec(0u8..20, 0..=4));
        prop_oneof![2 => Just(Vec::new()), 5 => prop::collection::vec(log, 1..8)]
    }

    proptest! {
        #[test]
        fn the_index_names_the_blocks_that_a_look_through_all_logs_finds(
            steps in prop::collection::vec((prop::collection::vec(block(), 0..25), 0usize..12), 1..6),
            addresses in prop::collection::vec(0u8..6, 0..3),
            topics in prop::collection::vec(prop::collection::vec(0u8..20, 0..3), 0..=4),
            range in (0u64..60, 0u64..60),
        ) {
            let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
            write_identity(&database, &ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO }).unwrap();
            let mut chain = Vec::<Logs>::new();
            for (blocks, removed) in steps {
                let transaction = database.begin_write().unwrap();
                {
                    let mut tables = WriteTables::open(&transaction).unwrap();
                    for logs in blocks {
                        add_block(&mut tables, chain.len() as u64, &receipts(&logs)).unwrap();
                        chain.push(logs);
                    }
                    for _ in 0..removed.min(chain.len()) {
                        chain.pop();
                        remove_block(&mut tables, chain.len() as u64).unwrap();
                    }
                }
                transaction.commit().unwrap();
            }
            let tables = ReadTables::open(&database.begin_read().unwrap()).unwrap();
            prop_assert_eq!(next_block(&tables.meta).unwrap().unwrap_or(0), chain.len() as u64);
            let (from, to) = (range.0.min(range.1), range.0.max(range.1));
            let as_topics: Vec<Vec<B256>> =
                topics.iter().map(|place| place.iter().map(|number| topic(*number)).collect()).collect();
            let as_addresses: Vec<_> = addresses.iter().map(|number| address(*number)).collect();
            let found = look_up(&tables, from, to, &as_addresses, &as_topics).unwrap();
            let expected: Vec<u64> = (from..=to)
                .filter(|number| {
                    let wants_nothing = addresses.is_empty() && topics.iter().all(Vec::is_empty);
                    wants_nothing
                        || chain.get(*number as usize).is_some_and(|logs| has(logs, &addresses, &topics))
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_database_without_an_index_gets_one_and_one_of_blocks_that_are_gone_is_made_anew() {
        let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
        write_identity(&database, &ChainIdentity { chain_id: 1, genesis_hash: B256::ZERO })
            .unwrap();
        let write = |write: &dyn Fn(&mut WriteTables<'_>)| {
            let transaction = database.begin_write().unwrap();
            write(&mut WriteTables::open(&transaction).unwrap());
            transaction.commit().unwrap();
        };
        let blocks_of = |number: u8, to: u64| {
            let tables = ReadTables::open(&database.begin_read().unwrap()).unwrap();
            look_up(&tables, 0, to, &[address(number)], &[]).unwrap()
        };
        write(&|tables| {
            for number in 0..30u64 {
                let logs = vec![((number % 3) as u8, vec![number as u8])];
                let encoded = crate::codec::encode_receipts(&receipts(&logs));
                pieces::write(&mut tables.receipts, number, &encoded).unwrap();
                tables.headers.insert(number, [].as_slice()).unwrap();
            }
        });
        assert!(blocks_of(1, 29).is_empty());
        catch_up(&database).unwrap();
        let expected: Vec<u64> = (0..10).map(|n| 3 * n + 1).collect();
        assert_eq!(blocks_of(1, 29), expected);
        write(&|tables| {
            for number in 12..30u64 {
                pieces::remove(&mut tables.receipts, number).unwrap();
                tables.headers.remove(number).unwrap();
            }
        });
        catch_up(&database).unwrap();
        assert_eq!(blocks_of(1, 29), &expected[..4]);
    }
}

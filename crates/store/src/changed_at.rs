//! In which blocks an account or a slot changed: lists of block numbers, in shards.
//!
//! A key is that of the account or slot, followed by the number of the last block in the shard, so that the shard with the
//! first change after a block is one look-up away. The newest shard is still written to, and has the highest number there
//! is in place of its last. What was changed is not said here but in the block's change set: a value is stored once.

use crate::StoreError;
use crate::change_set::{Reader, push_varint};
use redb::{ReadableTable, Table};

type Key<const N: usize> = &'static [u8; N];

/// From so many bytes on a shard is closed: some hundred changes, and a fraction of a page to be written for each.
const SHARD_BYTES_MAX: usize = 240;

/// The last of the list that is written to.
const OPEN: u64 = u64::MAX;

/// The key with another number at its end.
fn with_number<const N: usize>(mut key: [u8; N], number: u64) -> [u8; N] {
    key[N - 8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The numbers of a shard, ascending: the first one, then each one's distance to the one before.
fn numbers(shard: &[u8]) -> impl Iterator<Item = Result<u64, StoreError>> {
    let mut reader = Reader { rest: shard };
    let mut last = 0u64;
    std::iter::from_fn(move || {
        if reader.rest.is_empty() {
            return None;
        }
        let number = reader.varint().and_then(|distance| {
            last.checked_add(distance)
                .ok_or_else(|| StoreError::damaged("history", "a number too high"))
        });
        match number {
            Ok(number) => last = number,
            Err(_) => reader.rest = &[],
        }
        Some(number)
    })
}

fn last(shard: &[u8]) -> Result<u64, StoreError> {
    numbers(shard).last().unwrap_or(Ok(0))
}

/// Notes changes in these blocks, ascending and after all that are noted. `key` ends with whatever number.
pub(crate) fn note<const N: usize>(
    table: &mut Table<'_, Key<N>, &'static [u8]>,
    key: [u8; N],
    changed: impl IntoIterator<Item = u64>,
) -> Result<(), StoreError> {
    let open = with_number(key, OPEN);
    let mut shard = table.get(&open)?.map(|shard| shard.value().to_vec()).unwrap_or_default();
    let mut before = last(&shard)?;
    for number in changed {
        if shard.len() >= SHARD_BYTES_MAX {
            table.insert(&with_number(key, before), shard.as_slice())?;
            shard.clear();
            before = 0;
        }
        let distance = number.checked_sub(before);
        push_varint(
            &mut shard,
            distance.ok_or_else(|| StoreError::damaged("history", "changes out of order"))?,
        );
        before = number;
    }
    table.insert(&open, shard.as_slice())?;
    Ok(())
}

/// The first block after block `number` that changed it.
pub(crate) fn first_after<const N: usize>(
    table: &impl ReadableTable<Key<N>, &'static [u8]>,
    key: [u8; N],
    number: u64,
) -> Result<Option<u64>, StoreError> {
    let (from, to) = (with_number(key, number.saturating_add(1)), with_number(key, OPEN));
    for entry in table.range::<&[u8; N]>(&from..=&to)? {
        let (_, shard) = entry?;
        for changed in numbers(shard.value()) {
            let changed = changed?;
            if changed > number {
                return Ok(Some(changed));
            }
        }
    }
    Ok(None)
}

/// Forgets the change in block `number`, the last one there is.
pub(crate) fn forget_last<const N: usize>(
    table: &mut Table<'_, Key<N>, &'static [u8]>,
    key: [u8; N],
    number: u64,
) -> Result<(), StoreError> {
    let (from, to) = (with_number(key, number), with_number(key, OPEN));
    let Some((found, shard)) = table
        .range::<&[u8; N]>(&from..=&to)?
        .next()
        .transpose()?
        .map(|(found, shard)| (*found.value(), shard.value().to_vec()))
    else {
        return Err(StoreError::damaged(
            "history",
            format!("a change in block {number} is not noted"),
        ));
    };
    let kept = numbers(&shard).collect::<Result<Vec<_>, _>>()?;
    let Some((_, kept)) = kept.split_last().filter(|(last, _)| **last == number) else {
        return Err(StoreError::damaged(
            "history",
            format!("block {number} is not the last change"),
        ));
    };
    table.remove(&found)?;
    if !kept.is_empty() {
        let mut shard = Vec::with_capacity(shard.len());
        let mut before = 0;
        for number in kept {
            push_varint(&mut shard, number - before);
            before = *number;
        }
        table.insert(&to, shard.as_slice())?;
    }
    Ok(())
}

/// Forgets shards that have no changes after block `number`. In one that has, earlier ones stay until it goes.
pub(crate) fn forget_up_to<const N: usize>(
    table: &mut Table<'_, Key<N>, &'static [u8]>,
    key: [u8; N],
    number: u64,
) -> Result<(), StoreError> {
    let (from, to) = (with_number(key, 0), with_number(key, OPEN));
    loop {
        let Some((found, last)) = table
            .range::<&[u8; N]>(&from..=&to)?
            .next()
            .transpose()?
            .map(|(found, shard)| Ok::<_, StoreError>((*found.value(), last(shard.value())?)))
            .transpose()?
        else {
            return Ok(());
        };
        if last > number {
            return Ok(());
        }
        table.remove(&found)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::{Builder, TableDefinition, backends::InMemoryBackend};

    const TABLE: TableDefinition<'_, Key<9>, &[u8]> = TableDefinition::new("history");

    fn key(of: u8) -> [u8; 9] {
        [of, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_next_change_is_the_one_that_a_list_of_them_says(
            steps in prop::collection::vec((0u8..3, 1u64..40_000, 0usize..8), 1..400),
            pruned in 0u64..3_000_000,
            asked in prop::collection::vec(0u64..4_000_000, 20),
        ) {
            let database = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
            let transaction = database.begin_write().unwrap();
            let mut table = transaction.open_table(TABLE).unwrap();
            let mut noted = Vec::<(u64, u8)>::new();
            for (of, distance, forgotten) in steps {
                let number = noted.last().map_or(0, |(number, _)| *number) + distance;
                note(&mut table, key(of), [number]).unwrap();
                noted.push((number, of));
                // Now and then some are undone again.
                for _ in 0..if forgotten > 5 { forgotten } else { 0 } {
                    if let Some((number, of)) = noted.pop() {
                        forget_last(&mut table, key(of), number).unwrap();
                    }
                }
            }
            let check = |table: &Table<'_, Key<9>, &'static [u8]>, from: u64| {
                let asked = asked.iter().copied().chain(noted.iter().map(|(number, _)| *number));
                for number in asked.filter(|number| *number >= from) {
                    for of in 0..3 {
                        let expected = noted.iter().find(|(changed, whose)| *changed > number && *whose == of);
                        let found = first_after(table, key(of), number).unwrap();
                        assert_eq!(found, expected.map(|(number, _)| *number));
                    }
                }
            };
            check(&table, 0);
            for of in 0..3 {
                forget_up_to(&mut table, key(of), pruned).unwrap();
            }
            check(&table, pruned);
            let last = |of: u8| noted.iter().rfind(|(_, whose)| *whose == of).map_or(0, |(number, _)| *number);
            for of in 0..3 {
                let left = table.range::<&[u8; 9]>(&key(of)..=&with_number(key(of), OPEN)).unwrap().count();
                prop_assert_eq!(left > 0, last(of) > pruned, "all is gone if the last change is");
            }
        }
    }
}

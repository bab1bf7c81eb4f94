//! Checking the blocks: that they are all there, follow on one another, and are what their headers say.

use crate::chain::{block, block_number};
use crate::codec::{HeaderRecord, decode_receipts};
use crate::error::unless_damaged;
use crate::store::Snapshot;
use crate::{Store, StoreError, StoredBlock, lookup, pieces};
use alloy_consensus::Header;
use alloy_consensus::proofs::{
    calculate_ommers_root, calculate_receipt_root, calculate_transaction_root,
    calculate_withdrawals_root,
};

use alloy_primitives::{B256, Bloom, keccak256};
use redb::ReadableTable;

/// What a verification of the blocks found to be right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlocksReport {
    /// The first block that is there.
    pub first: u64,
    /// Blocks in a row from there, up to the head: headers, each the next one's parent.
    pub headers: u64,
    /// Of these, those whose transactions, ommers and withdrawals are there and give the roots in the header.
    pub bodies: u64,
    /// Those whose receipts are there and give the root, the bloom filter and the gas in the header.
    pub receipts: u64,
    /// Those of which is known what they overwrote.
    pub changes: u64,
    /// Transactions in these bodies, each found by its hash.
    pub transactions: u64,
}

impl Store {
    /// Reads every block and computes anew what its header says of it. `progress` is told each number.
    ///
    /// Of a chain that was loaded, blocks before its first state are only checked to follow on one another: their headers
    /// are another node's, and need not have roots of what is here.
    ///
    /// # Errors
    /// [`StoreError::WrongBlock`] with the first thing that is not right; or when the database fails.
    pub fn verify_blocks(&self, mut progress: impl FnMut(u64)) -> Result<BlocksReport, StoreError> {
        unless_damaged(|| {
            let span = tracing::info_span!("verify_blocks");
            let _entered = span.enter();
            let snapshot = self.snapshot();
            let head = snapshot.head()?;
            let first = snapshot.tables.headers.first()?.map_or(0, |(number, _)| number.value());
            let mut report = BlocksReport { first, ..Default::default() };
            let mut parent = None;
            for number in first..=head.number {
                let hash = verify_header(&snapshot, number, parent)?;
                report.headers += 1;
                verify_contents(&snapshot, number, &mut report)?;
                parent = Some(hash);
                progress(number);
            }
            verify_nothing_above(&snapshot, head.number)?;
            Ok(report)
        })
    }
}

fn wrong(number: u64, what: impl Into<String>) -> StoreError {
    StoreError::WrongBlock { number, what: what.into() }
}

fn check<T: Copy + PartialEq + std::fmt::Display>(
    number: u64,
    what: &str,
    actual: T,
    expected: T,
) -> Result<(), StoreError> {
    if actual == expected {
        return Ok(());
    }
    Err(wrong(number, format!("its {what} is {actual}, but its header says {expected}")))
}

/// The header's hash.
fn verify_header(
    snapshot: &Snapshot,
    number: u64,
    parent: Option<B256>,
) -> Result<B256, StoreError> {
    let record = snapshot.tables.headers.get(number)?;
    let record = record.ok_or_else(|| wrong(number, "it is missing"))?;
    let HeaderRecord { hash, header, .. } = HeaderRecord::decode("headers", &mut record.value())?;
    check(number, "number", number, header.number)?;
    if parent.is_some_and(|parent| parent != header.parent_hash) {
        return Err(wrong(number, "it does not follow on the block before it"));
    }
    if is_ours(snapshot, number) && header.hash_slow() != hash {
        return Err(wrong(number, format!("its header does not have the hash {hash}")));
    }
    if block_number(snapshot, &hash)? != Some(number) {
        return Err(wrong(number, "it is not found by its hash"));
    }
    Ok(hash)
}

/// Blocks of a chain that was loaded have what was elsewhere in their headers, up to the one that it begins with.
fn is_ours(snapshot: &Snapshot, number: u64) -> bool {
    snapshot.base.root.is_none() || number > snapshot.base.number
}

fn verify_contents(
    snapshot: &Snapshot,
    number: u64,
    report: &mut BlocksReport,
) -> Result<(), StoreError> {
    let (kept, is_ours) = (snapshot.kept, is_ours(snapshot, number));
    let Some(record) = snapshot.tables.headers.get(number)? else {
        return Err(wrong(number, "it is missing"));
    };
    let header = HeaderRecord::decode("headers", &mut record.value())?.header;
    if number >= kept.bodies {
        let block = block(snapshot, number)?.ok_or_else(|| wrong(number, "it is missing"))?;
        verify_body(snapshot, &block, is_ours)?;
        report.bodies += 1;
        report.transactions += block.transactions.len() as u64;
    }
    if number >= kept.receipts {
        verify_receipts(snapshot, &header, is_ours)?;
        report.receipts += 1;
    }
    if number > kept.state && number > snapshot.base.number {
        crate::past::change_set(snapshot, number)?;
        report.changes += 1;
    }
    Ok(())
}

fn verify_body(snapshot: &Snapshot, block: &StoredBlock, is_ours: bool) -> Result<(), StoreError> {
    let (number, header) = (block.header.number, &block.header);
    for (index, transaction) in (0u32..).zip(&block.transactions) {
        let hash = *transaction.tx_hash();
        let mut candidates = lookup::candidates(&snapshot.tables, &hash)?.into_iter();
        if !candidates.any(|found| (found.block, found.index) == (number, index)) {
            return Err(wrong(number, format!("transaction {hash} is not found by its hash")));
        }
    }
    if !is_ours {
        return Ok(());
    }
    let root = calculate_transaction_root(&block.transactions);
    check(number, "transactions root", root, header.transactions_root)?;
    check(number, "ommers hash", calculate_ommers_root(&block.ommers), header.ommers_hash)?;
    let withdrawals = block.withdrawals.as_deref().map(calculate_withdrawals_root);
    if withdrawals != header.withdrawals_root {
        return Err(wrong(number, "its withdrawals do not have the root in its header"));
    }
    Ok(())
}

fn verify_receipts(snapshot: &Snapshot, header: &Header, is_ours: bool) -> Result<(), StoreError> {
    let number = header.number;
    let Some(receipts) = pieces::read("receipts", &snapshot.tables.receipts, number)? else {
        return Err(wrong(number, "its receipts are missing"));
    };
    let receipts = decode_receipts("receipts", &receipts)?;
    if !is_ours {
        return Ok(());
    }
    check(number, "receipts root", calculate_receipt_root(&receipts), header.receipts_root)?;
    let gas = receipts.last().map_or(0, |receipt| receipt.cumulative_gas_used());
    check(number, "gas", gas, header.gas_used)?;
    let bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
    if bloom != header.logs_bloom {
        return Err(wrong(number, "its logs do not have the bloom filter in its header"));
    }
    Ok(())
}

/// No table has a block that comes after the head.
fn verify_nothing_above(snapshot: &Snapshot, head: u64) -> Result<(), StoreError> {
    let tables = &snapshot.tables;
    for (name, table) in
        [("bodies", &tables.bodies), ("receipts", &tables.receipts), ("changes", &tables.changes)]
    {
        let last = table.last()?.map_or(0, |(key, _)| key.value().0);
        if last > head {
            return Err(wrong(last, format!("it is above the head, but in the table {name}")));
        }
    }
    Ok(())
}

/// The code of the flat state is found by its hash, so that what is there has it.
pub(crate) fn verify_code(snapshot: &Snapshot) -> Result<u64, StoreError> {
    let mut pieces = 0;
    for entry in snapshot.tables.code.iter()? {
        let (hash, code) = entry?;
        if keccak256(code.value()) != B256::new(*hash.value()) {
            return Err(StoreError::damaged(
                "code",
                format!("{} has another hash", B256::new(*hash.value())),
            ));
        }
        pieces += 1;
    }
    Ok(pieces)
}

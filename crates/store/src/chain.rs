//! Reading the chain: headers, blocks, receipts, look-ups, tags; and blocks beside the chain.

use crate::codec::{BodyRecord, HeaderRecord, decode_receipts};
use crate::error::unless_damaged;
use crate::schema::meta;
use crate::store::Snapshot;
use crate::{
    BlockId, Prunable, Store, StoreError, StoredBlock, TransactionLocation, lookup, pieces,
};
use alloy_consensus::{Header, ReceiptEnvelope};
use alloy_primitives::{B256, U256};
use redb::{ReadableTable, ReadableTableMetadata};

/// How many blocks beside the chain are kept. Beyond it the lowest goes.
pub const SIDE_BLOCKS_MAX: u64 = 4_096;

impl Store {
    /// The header of canonical block `number`.
    ///
    /// # Errors
    /// Of this and all other reads here: when the database fails or holds a value that does not
    /// decode.
    pub fn header(&self, number: u64) -> Result<Option<Header>, StoreError> {
        unless_damaged(|| Ok(header_record(&self.snapshot(), number)?.map(|record| record.header)))
    }

    /// The header of the canonical block with this hash.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn header_by_hash(&self, hash: &B256) -> Result<Option<Header>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            match block_number(&snapshot, hash)? {
                None => Ok(None),
                Some(number) => Ok(header_record(&snapshot, number)?.map(|record| record.header)),
            }
        })
    }

    /// Canonical block `number`.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn block(&self, number: u64) -> Result<Option<StoredBlock>, StoreError> {
        unless_damaged(|| block(&self.snapshot(), number))
    }

    /// The canonical block with this hash.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn block_by_hash(&self, hash: &B256) -> Result<Option<StoredBlock>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            match block_number(&snapshot, hash)? {
                None => Ok(None),
                Some(number) => block(&snapshot, number),
            }
        })
    }

    /// The receipts of canonical block `number`, with their bloom filters.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn receipts(&self, number: u64) -> Result<Option<Vec<ReceiptEnvelope>>, StoreError> {
        unless_damaged(|| {
            let snapshot = self.snapshot();
            let receipts = pieces::read("receipts", &snapshot.tables.receipts, number)?;
            if receipts.is_none() {
                snapshot.kept.check(Prunable::Receipts, number)?;
            }
            receipts.map(|receipts| decode_receipts("receipts", &receipts)).transpose()
        })
    }

    /// Where the transaction with this hash can be in the chain: nearly always one place or none. Another transaction
    /// can be there, so that its hash must be compared; there is none anywhere else.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn transaction_candidates(
        &self,
        hash: &B256,
    ) -> Result<Vec<TransactionLocation>, StoreError> {
        unless_damaged(|| lookup::candidates(&self.snapshot().tables, hash))
    }

    /// The number of the canonical block with this hash.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn block_number(&self, hash: &B256) -> Result<Option<u64>, StoreError> {
        unless_damaged(|| block_number(&self.snapshot(), hash))
    }

    /// The hash of canonical block `number`.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn canonical_hash(&self, number: u64) -> Result<Option<B256>, StoreError> {
        unless_damaged(|| match self.snapshot().tables.headers.get(number)? {
            None => Ok(None),
            Some(record) => HeaderRecord::decode_hash("headers", record.value()).map(Some),
        })
    }

    /// The sum of the difficulties up to and including canonical block `number`, where it is known.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn total_difficulty(&self, number: u64) -> Result<Option<U256>, StoreError> {
        unless_damaged(|| {
            let record = header_record(&self.snapshot(), number)?;
            Ok(record.and_then(|record| record.total_difficulty))
        })
    }

    /// The newest finalized block, if one was set.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn finalized(&self) -> Result<Option<u64>, StoreError> {
        self.tag(meta::FINALIZED)
    }

    /// The newest safe block, if one was set.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn safe(&self) -> Result<Option<u64>, StoreError> {
        self.tag(meta::SAFE)
    }

    /// Sets the newest finalized block.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`] if it is not in the chain.
    pub fn set_finalized(&self, number: u64) -> Result<(), StoreError> {
        self.set_tag(meta::FINALIZED, number)
    }

    /// Sets the newest safe block.
    ///
    /// # Errors
    /// [`StoreError::UnknownBlock`] if it is not in the chain.
    pub fn set_safe(&self, number: u64) -> Result<(), StoreError> {
        self.set_tag(meta::SAFE, number)
    }

    fn tag(&self, tag: &'static str) -> Result<Option<u64>, StoreError> {
        unless_damaged(|| {
            let number = self.snapshot().tables.meta.get(tag)?;
            number.map(|number| decode_tag(number.value())).transpose()
        })
    }

    fn set_tag(&self, tag: &'static str, number: u64) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        let head = self.snapshot().head()?.number;
        if number > head {
            return Err(StoreError::UnknownBlock { number, head });
        }
        self.write(&writer, |tables| {
            tables.meta.insert(tag, number.to_be_bytes().as_slice())?;
            Ok(())
        })
    }

    /// Keeps a block that is not, or no longer, in the chain. Beyond [`SIDE_BLOCKS_MAX`] the one
    /// with the lowest number makes room.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put_side_block(&self, block: &StoredBlock) -> Result<(), StoreError> {
        let mut value = HeaderRecord::encode(block.hash, block.total_difficulty, &block.header);
        value.extend(BodyRecord::encode(
            &block.transactions,
            &block.senders,
            &block.ommers,
            block.withdrawals.as_deref(),
        ));
        let writer = self.write_lock()?;
        self.write(&writer, |tables| {
            tables.side_blocks.insert(&*block.hash, value.as_slice())?;
            if tables.side_blocks.len()? > SIDE_BLOCKS_MAX {
                let mut lowest: Option<BlockId> = None;
                for entry in tables.side_blocks.iter()? {
                    let (hash, value) = entry?;
                    let number = side_block_number(value.value())?;
                    if lowest.is_none_or(|lowest| number < lowest.number) {
                        lowest = Some(BlockId { number, hash: B256::new(*hash.value()) });
                    }
                }
                if let Some(lowest) = lowest {
                    tables.side_blocks.remove(&*lowest.hash)?;
                }
            }
            Ok(())
        })
    }

    /// A block that was kept beside the chain.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn side_block(&self, hash: &B256) -> Result<Option<StoredBlock>, StoreError> {
        unless_damaged(|| {
            let Some(value) = self.snapshot().tables.side_blocks.get(&**hash)? else {
                return Ok(None);
            };
            let mut rest = value.value();
            let header = HeaderRecord::decode("side_blocks", &mut rest)?;
            let body = BodyRecord::decode("side_blocks", rest)?;
            Ok(Some(stored_block(header, body)))
        })
    }

    /// Forgets the blocks beside the chain up to and including `number`, as when it is finalized.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_side_blocks_up_to(&self, number: u64) -> Result<(), StoreError> {
        let writer = self.write_lock()?;
        self.write(&writer, |tables| {
            tables.side_blocks.retain(|_, value| {
                // What does not decode is of no use either.
                side_block_number(value).is_ok_and(|block| block > number)
            })?;
            Ok(())
        })
    }
}

fn header_record(snapshot: &Snapshot, number: u64) -> Result<Option<HeaderRecord>, StoreError> {
    match snapshot.tables.headers.get(number)? {
        None => Ok(None),
        Some(record) => HeaderRecord::decode("headers", &mut record.value()).map(Some),
    }
}

pub(crate) fn block_number(snapshot: &Snapshot, hash: &B256) -> Result<Option<u64>, StoreError> {
    Ok(snapshot.tables.block_numbers.get(&**hash)?.map(|number| number.value()))
}

pub(crate) fn block(snapshot: &Snapshot, number: u64) -> Result<Option<StoredBlock>, StoreError> {
    let Some(header) = header_record(snapshot, number)? else {
        return Ok(None);
    };
    let body = pieces::read("bodies", &snapshot.tables.bodies, number)?;
    if body.is_none() {
        snapshot.kept.check(Prunable::Bodies, number)?;
    }
    let body =
        body.ok_or_else(|| StoreError::damaged("bodies", format!("block {number} is missing")))?;
    Ok(Some(stored_block(header, BodyRecord::decode("bodies", &body)?)))
}

fn stored_block(header: HeaderRecord, body: BodyRecord) -> StoredBlock {
    StoredBlock {
        header: header.header,
        hash: header.hash,
        transactions: body.transactions,
        senders: body.senders,
        ommers: body.ommers,
        withdrawals: body.withdrawals,
        total_difficulty: header.total_difficulty,
    }
}

fn side_block_number(mut value: &[u8]) -> Result<u64, StoreError> {
    HeaderRecord::decode("side_blocks", &mut value).map(|record| record.header.number)
}

pub(crate) fn decode_tag(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::damaged("meta", "not a block number"))?;
    Ok(u64::from_be_bytes(bytes))
}

//! Chain files: blocks in RLP, one after the other, as other clients export and import them.

use crate::{
    Chain, ChainError, ImportError, ImportStatus, import::Senders, validate::recover_senders,
};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::B256;
use alloy_rlp::Decodable;
use heddle_evm::Block;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc,
    time::Instant,
};

/// Bytes of one block in a file. No valid block comes near it (from Osaka on the limit is 8 MiB,
/// before that it follows from the gas limit); it keeps a damaged length from filling the memory.
pub const FILE_BLOCK_BYTES_MAX: u64 = 512 << 20;

/// First byte of an RLP list that says its length in as many bytes as it is above this.
const LONG_LIST: u8 = 0xf7;
/// First byte of an RLP list with a payload of as many bytes as it is above this.
const SHORT_LIST: u8 = 0xc0;

/// Blocks that are read, and their senders recovered, before those below them are imported. Enough
/// that neither waits for the other; a full block has some megabytes.
const BLOCKS_AHEAD_MAX: usize = 8;

/// A block of a file, ready to be imported.
struct FileBlock {
    /// Where it starts.
    offset: u64,
    /// Where it ends.
    end: u64,
    number: u64,
    /// `None` if it was known already.
    block: Option<(Block, Senders)>,
}

/// Why a chain file could not be imported or exported to the end. The blocks before are done.
#[derive(Debug, thiserror::Error)]
pub enum ChainFileError {
    /// The file cannot be read.
    #[error("reading at byte {offset}: {source}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("writing block {number}: {source}")]
    Write {
        /// Number of the block.
        number: u64,
        /// Why.
        source: io::Error,
    },
    /// There is something else than a block.
    #[error("no block starts at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A block was refused.
    #[error("block {number} at byte {offset}: {source}")]
    Block {
        /// Where it starts.
        offset: u64,
        /// Its number.
        number: u64,
        /// Why.
        source: Box<ImportError>,
    },
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// How far an import is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// Number of the last block.
    pub number: u64,
    /// Blocks imported.
    pub blocks: u64,
    /// Blocks that were there before.
    pub known: u64,
    /// Transactions in the imported blocks.
    pub transactions: u64,
    /// Gas used in the imported blocks.
    pub gas: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImportSummary {
    /// Blocks imported.
    pub blocks: u64,
    /// Blocks that were there before.
    pub known: u64,
    /// Transactions in the imported blocks.
    pub transactions: u64,
    /// Gas used in the imported blocks.
    pub gas: u64,
    /// How long it took.
    pub seconds: f64,
    /// The head at the end.
    pub head: B256,
    /// Its number.
    pub head_number: u64,
}

impl Chain {
    /// Imports all blocks of a chain file, telling `progress` after each. While one is executed, the
    /// next ones are read and their senders recovered. Blocks that are known are passed over, so
    /// that an import that was killed is just started again. A genesis block at the start must be
    /// this chain's.
    ///
    /// # Errors
    /// At the first block that is refused, with its place in the file. The blocks before it stay.
    pub fn import_chain_file(
        &self,
        reader: impl Read + Send,
        mut progress: impl FnMut(&ImportProgress),
    ) -> Result<ImportSummary, ChainFileError> {
        let started = Instant::now();
        let mut done = ImportProgress::default();
        std::thread::scope(|scope| {
            // Ends with the channel: at the end of the file, or once nobody takes blocks any more.
            let (ahead, prepared) = mpsc::sync_channel(BLOCKS_AHEAD_MAX);
            scope.spawn(move || self.read_ahead(reader, &ahead));
            for block in prepared {
                self.import_from_file(block?, &mut done)?;
                progress(&done);
            }
            Ok::<(), ChainFileError>(())
        })?;
        self.store().settle().map_err(ChainError::from)?;
        self.store().flush().map_err(ChainError::from)?;
        let head = self.head();
        Ok(ImportSummary {
            blocks: done.blocks,
            known: done.known,
            transactions: done.transactions,
            gas: done.gas,
            seconds: started.elapsed().as_secs_f64(),
            head: head.hash(),
            head_number: head.number(),
        })
    }

    /// Gives the blocks of a file in order, up to the first error.
    fn read_ahead(
        &self,
        reader: impl Read,
        ahead: &mpsc::SyncSender<Result<FileBlock, ChainFileError>>,
    ) {
        let mut reader = BufReader::with_capacity(1 << 20, reader);
        let mut offset = 0;
        loop {
            let block = read_block(&mut reader, offset)
                .and_then(|bytes| bytes.map(|bytes| self.prepare(offset, &bytes)).transpose());
            let Some(block) = block.transpose() else { break };
            let failed = block.is_err();
            if let Ok(block) = &block {
                offset = block.end;
            }
            if ahead.send(block).is_err() || failed {
                break;
            }
        }
    }

    /// All of a block that can be had before those below it are imported.
    fn prepare(&self, offset: u64, bytes: &[u8]) -> Result<FileBlock, ChainFileError> {
        let malformed = |error: alloy_rlp::Error| ChainFileError::Malformed {
            offset,
            reason: error.to_string(),
        };
        let header = decode_header(bytes).map_err(malformed)?;
        let block = if self.number_by_hash(header.hash())?.is_some() {
            None
        } else {
            let block = Block::decode(&mut &*bytes).map_err(malformed)?;
            let senders = recover_senders(self.spec(), &block);
            Some((block, senders))
        };
        Ok(FileBlock { offset, end: offset + bytes.len() as u64, number: header.number, block })
    }

    fn import_from_file(
        &self,
        block: FileBlock,
        done: &mut ImportProgress,
    ) -> Result<(), ChainFileError> {
        let FileBlock { offset, end, number, block } = block;
        done.bytes = end;
        done.number = number;
        let Some((block, senders)) = block else {
            done.known += 1;
            return Ok(());
        };
        let (transactions, gas) = (block.body.transactions.len() as u64, block.header.gas_used);
        let refused = |error| ChainFileError::Block { offset, number, source: Box::new(error) };
        let imported = self.import_prepared(block, Some(senders));
        match imported.map_err(refused)?.status {
            ImportStatus::AlreadyKnown => done.known += 1,
            ImportStatus::Head | ImportStatus::Side => {
                done.blocks += 1;
                done.transactions += transactions;
                done.gas += gas;
            }
        }
        Ok(())
    }

    /// Writes the blocks `from` to `to`, both included, as a chain file. Gives how many.
    ///
    /// # Errors
    /// If a block is not there, or the file cannot be written.
    pub fn export_chain_file(
        &self,
        mut writer: impl Write,
        from: u64,
        to: u64,
    ) -> Result<u64, ChainFileError> {
        let mut blocks = 0;
        for number in from..=to {
            let block = self.block_by_number(number)?.ok_or(ChainError::UnknownBlock(number))?;
            writer
                .write_all(&block.rlp())
                .map_err(|source| ChainFileError::Write { number, source })?;
            blocks += 1;
        }
        writer.flush().map_err(|source| ChainFileError::Write { number: to, source })?;
        Ok(blocks)
    }
}

/// The header of a block in RLP with its hash; the rest is not looked at.
fn decode_header(mut block: &[u8]) -> alloy_rlp::Result<Sealed<Header>> {
    let mut payload = alloy_rlp::Header::decode_bytes(&mut block, true)?;
    Header::decode_sealed(&mut payload)
}

/// The bytes of the next block, `None` at the end of the file.
fn read_block(reader: &mut impl BufRead, offset: u64) -> Result<Option<Vec<u8>>, ChainFileError> {
    let failed = |source| ChainFileError::Read { offset, source };
    let malformed = |reason: String| ChainFileError::Malformed { offset, reason };
    let Some(&first) = reader.fill_buf().map_err(failed)?.first() else {
        return Ok(None);
    };
    reader.consume(1);
    let mut block = vec![first];
    let payload = match first {
        0..SHORT_LIST => return Err(malformed(format!("byte {first:#04x} does not start a list"))),
        SHORT_LIST..=LONG_LIST => u64::from(first - SHORT_LIST),
        _ => {
            let mut length = [0; 8];
            let length_bytes = usize::from(first - LONG_LIST);
            let digits = &mut length[8 - length_bytes..];
            reader.read_exact(digits).map_err(failed)?;
            block.extend_from_slice(digits);
            u64::from_be_bytes(length)
        }
    };
    if payload > FILE_BLOCK_BYTES_MAX {
        return Err(malformed(format!(
            "it would have {payload} bytes, more than {FILE_BLOCK_BYTES_MAX}"
        )));
    }
    // Grows with what is there, not with what a damaged length claims.
    let read = reader.take(payload).read_to_end(&mut block).map_err(failed)?;
    if (read as u64) < payload {
        return Err(malformed(format!("the file ends {} bytes early", payload - read as u64)));
    }
    Ok(Some(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut file: &[u8]) -> Result<Vec<Vec<u8>>, ChainFileError> {
        let mut blocks = Vec::new();
        let mut offset = 0;
        while let Some(block) = read_block(&mut file, offset)? {
            offset += block.len() as u64;
            blocks.push(block);
        }
        Ok(blocks)
    }

    #[test]
    fn lists_of_every_length_are_cut_apart() {
        let lists = [0usize, 1, 55, 56, 255, 256, 70_000]
            .map(|length| alloy_rlp::encode(vec![1u8; length]));
        let file = lists.concat();
        assert_eq!(read_all(&file).expect("these are lists"), lists);
    }

    #[test]
    fn a_file_that_is_cut_off_or_no_chain_is_refused_with_the_place() {
        let list = alloy_rlp::encode(vec![1u8; 300]);
        let cut = [&list[..], &list[..100]].concat();
        let error = read_all(&cut).expect_err("cut off");
        assert_eq!(error.to_string(), "no block starts at byte 303: the file ends 203 bytes early");
        let error = read_all(b"{}").expect_err("not RLP");
        assert_eq!(error.to_string(), "no block starts at byte 0: byte 0x7b does not start a list");
        let huge = [0xff; 9];
        assert!(matches!(read_all(&huge), Err(ChainFileError::Malformed { .. })));
        assert!(matches!(read_all(&[0xf9, 1]), Err(ChainFileError::Read { .. })));
    }
}

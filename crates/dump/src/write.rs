//! From a chain to bytes. Accounts and blocks are written one at a time, so that only the result is in memory.

use crate::{
    DumpError,
    format::{AccountJson, BlobPrice, BlockEnv, BlockJson, Info, Record, Slot, TransactionJson},
};
use alloy_consensus::{Transaction as _, transaction::SignerRecoverable};
use alloy_primitives::{TxKind, U256};
use flate2::{Compression, write::GzEncoder};
use heddle_chain::{Chain, ChainBlock, ChainError};
use serde::Serialize;
use std::io::{self, Write};

/// Writes the chain as JSON.
///
/// # Errors
/// If it cannot be read or written, or changed meanwhile.
pub fn write_json(chain: &Chain, mut out: impl Write) -> Result<(), DumpError> {
    out.write_all(b"{\"accounts\":{")?;
    let mut separator = "";
    let head = chain.for_each_account(|account, code| {
        let storage = account.slots.iter().map(|(slot, value)| (Slot(*slot), (*value).into()));
        let (nonce, balance) = (account.state.nonce, account.state.balance);
        let json = AccountJson { nonce, balance, code, storage: storage.collect() };
        write!(out, "{separator}\"{:#x}\":", account.address)?;
        separator = ",";
        put(&mut out, &json)
    })?;
    out.write_all(b"},\"block\":")?;
    put(&mut out, &environment(chain, &head))?;
    write!(out, ",\"best_block_number\":{},\"blocks\":[", head.number())?;
    // Not zero where the chain was loaded from a dump that began later.
    let first = chain.store().first_block().map_err(ChainError::from)?;
    let mut parent: Option<alloy_primitives::B256> = None;
    let mut blocks = |out: &mut dyn Write, each: BlockWriter| -> Result<(), DumpError> {
        let mut separator = "";
        for number in first..=head.number() {
            let block = chain.block_by_number(number)?.ok_or(DumpError::Reorganised)?;
            if parent.is_some_and(|parent| parent != block.header.parent_hash) {
                return Err(DumpError::Reorganised);
            }
            parent = Some(block.hash());
            each(out, &mut separator, &block)?;
        }
        match parent.take() {
            Some(last) if last == head.hash() => Ok(()),
            _ => Err(DumpError::Reorganised),
        }
    };
    blocks(&mut out, put_block)?;
    out.write_all(b"],\"transactions\":[")?;
    blocks(&mut out, put_records)?;
    out.write_all(b"],\"historical_states\":null}")?;
    out.flush()?;
    Ok(())
}

/// Writes the chain as gzipped JSON, at most so many bytes of it.
///
/// # Errors
/// As [`write_json`]; and [`DumpError::TooLarge`].
pub fn write_gzip(chain: &Chain, bytes_max: usize) -> Result<Vec<u8>, DumpError> {
    let bounded = Bounded { bytes: Vec::new(), bytes_max, is_full: false };
    let mut encoder = GzEncoder::new(bounded, Compression::fast());
    let written = write_json(chain, io::BufWriter::new(&mut encoder));
    if encoder.get_ref().is_full {
        return Err(DumpError::TooLarge { max: bytes_max as u64 });
    }
    written?;
    match encoder.finish() {
        Ok(bounded) => Ok(bounded.bytes),
        Err(error) => Err(error.into()),
    }
}

/// Takes so many bytes.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.bytes_max - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type BlockWriter = fn(&mut dyn Write, &mut &'static str, &ChainBlock) -> Result<(), DumpError>;

fn put(out: &mut dyn Write, value: &impl Serialize) -> Result<(), DumpError> {
    serde_json::to_writer(out, value).map_err(|error| DumpError::Write(error.into()))
}

fn environment(chain: &Chain, head: &ChainBlock) -> BlockEnv {
    let header = &head.header;
    let price = chain.spec().blob_base_fee(header);
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: header.difficulty,
        prevrandao: header.mix_hash,
        blob_excess_gas_and_price: header
            .excess_blob_gas
            .zip(price)
            .map(|(excess_blob_gas, blob_gasprice)| BlobPrice { excess_blob_gas, blob_gasprice }),
        slot_num: header.slot_number.unwrap_or_default(),
    }
}

fn put_block(
    out: &mut dyn Write,
    separator: &mut &'static str,
    block: &ChainBlock,
) -> Result<(), DumpError> {
    let transactions = block.transactions.iter().map(|tx| {
        let transaction = tx.inner().clone();
        let is_signed = transaction.recover_signer_unchecked().is_ok_and(|by| by == tx.signer());
        TransactionJson { transaction, impersonated_sender: (!is_signed).then(|| tx.signer()) }
    });
    let json = BlockJson {
        header: block.header.inner().clone(),
        transactions: transactions.collect(),
        ommers: block.ommers.clone(),
        withdrawals: block.withdrawals.clone(),
    };
    out.write_all(separator.as_bytes())?;
    *separator = ",";
    put(out, &json)
}

fn put_records(
    out: &mut dyn Write,
    separator: &mut &'static str,
    block: &ChainBlock,
) -> Result<(), DumpError> {
    let mut gas_before = 0;
    for (index, (tx, receipt)) in block.transactions.iter().zip(&block.receipts).enumerate() {
        let gas_used = receipt.cumulative_gas_used().saturating_sub(gas_before);
        gas_before = receipt.cumulative_gas_used();
        let creates = tx.kind() == TxKind::Create;
        let record = Record {
            info: Info {
                transaction_hash: *tx.inner().tx_hash(),
                transaction_index: index,
                from: tx.signer(),
                to: tx.to(),
                contract_address: creates.then(|| tx.signer().create(tx.nonce())),
                traces: [],
                exit: if receipt.status() { "Stop" } else { "Revert" },
                out: None,
                nonce: tx.nonce(),
                gas_used,
            },
            receipt,
            block_hash: block.hash(),
            block_number: block.number(),
        };
        out.write_all(separator.as_bytes())?;
        *separator = ",";
        put(out, &record)?;
    }
    Ok(())
}

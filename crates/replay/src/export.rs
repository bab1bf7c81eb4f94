//! Bundles of our own chain's blocks: each is executed again on the state of its parent, and what
//! that reads is what the bundle holds. Nothing is missing and nothing is in it for nothing, which
//! a tracer of transactions alone cannot give: system calls, withdrawals, fees and `BLOCKHASH` are
//! read by the block.

use crate::{BundleFile, ReplayError, bundle_path, capture::capture, input::find_rules};
use alloy_consensus::{Eip658Value, TxReceipt};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::U256;
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Transaction};
use heddle_chain::{Chain, ChainBlock};
use heddle_chainspec::ChainSpec;
use heddle_evm::{BlockInput, InvalidTransactions, Receipt, block_context};
use serde_json::{Value, json};
use std::{fs, ops::RangeInclusive, path::Path};

/// How far an export is: after each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportProgress {
    /// The block that was written.
    pub number: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
}

/// Writes a bundle for each block of the range into `directory`, which is made if it is not there.
/// A block that is not on the chain ends the export; so does the genesis block, which has no state
/// before it.
///
/// # Errors
/// If a block or its parent's state cannot be read, or a file cannot be written.
pub fn export_bundles(
    chain: &Chain,
    numbers: RangeInclusive<u64>,
    directory: &Path,
    mut progress: impl FnMut(&ExportProgress),
) -> Result<ExportProgress, ReplayError> {
    let mut done = ExportProgress { number: 0, blocks: 0, transactions: 0 };
    fs::create_dir_all(directory)
        .map_err(|source| ReplayError::Write { path: directory.to_owned(), source })?;
    for number in numbers {
        let file = export_bundle(chain, number)?;
        file.write(&bundle_path(directory, number))?;
        done.number = number;
        done.blocks += 1;
        done.transactions += file.block["transactions"].as_array().map_or(0, Vec::len) as u64;
        progress(&done);
    }
    Ok(done)
}

/// The bundle of one block of the chain.
fn export_bundle(chain: &Chain, number: u64) -> Result<BundleFile, ReplayError> {
    let failed = |reason: String| ReplayError::Block { number, reason };
    if number == 0 {
        return Err(failed("there is no state before the genesis block".to_owned()));
    }
    let block = chain.block_by_number(number).map_err(|error| failed(error.to_string()))?;
    let block = block.ok_or_else(|| {
        failed(format!("it is not on the chain, whose newest is {}", chain.head().number()))
    })?;
    let state = chain.state_before(&block).map_err(|error| failed(error.to_string()))?;

    let known = std::iter::once(&**chain.spec());
    let spec = find_rules(known, chain.chain_id(), &block.header)
        .ok_or_else(|| failed("the chain has no rules".to_owned()))?;
    let input = BlockInput {
        env: spec.evm_env(&block.header),
        ctx: block_context(&block.header, &block.ommers, block.withdrawals.as_deref()),
        transactions: &block.transactions,
        invalid: InvalidTransactions::Reject,
    };
    let (reads, output) = capture(&spec, &state, &input);
    let differs = output.map_or_else(
        |error| Some(error.to_string()),
        |output| {
            let (is, was) = (output.gas_used, block.header.gas_used);
            (is != was).then(|| format!("it uses {is} gas, and used {was}"))
        },
    );
    if let Some(reason) = differs {
        return Err(failed(format!(
            "it does not follow from its parent's state, which a development client may have \
             altered before it: {reason}"
        )));
    }
    let (prestate, block_hashes) =
        reads.into_prestate(&state).map_err(|error| failed(error.to_string()))?;
    let ommer = |header: &alloy_consensus::Header| {
        let ommer = Block::<Transaction>::uncle_from_header(header.clone());
        serde_json::to_value(ommer).map_err(|error| failed(error.to_string()))
    };
    Ok(BundleFile {
        chain_id: chain.chain_id(),
        config: rules_json(chain.spec()).map_err(|error| failed(error.to_string()))?,
        block: block_json(&block).map_err(|error| failed(error.to_string()))?,
        uncles: block.ommers.iter().map(ommer).collect::<Result<_, _>>()?,
        prestate,
        block_hashes,
        receipts: Some(block.receipts.iter().map(receipt_json).collect()),
    })
}

/// The rules, for a chain that nobody else knows, with the block of the merge as resolved: the
/// genesis block, from which that may follow, is not part of a bundle.
pub(crate) fn rules_json(spec: &ChainSpec) -> Result<Option<Value>, serde_json::Error> {
    if spec.config() == ChainSpec::mainnet().config() {
        return Ok(None);
    }
    let mut config = spec.config().clone();
    if let Some(number) = spec.merge_block().filter(|number| *number > 0) {
        config.merge_netsplit_block = Some(number);
        config.terminal_total_difficulty_passed = false;
    }
    serde_json::to_value(config).map(Some)
}

fn block_json(block: &ChainBlock) -> Result<Value, serde_json::Error> {
    let transactions = block.transactions.iter().enumerate().map(|(index, transaction)| {
        let info = block.transaction_info(index);
        Transaction::from_transaction(transaction.clone(), info)
    });
    serde_json::to_value(Block {
        header: Header::from_consensus(block.header.clone(), None, Some(U256::from(block.size))),
        uncles: block.ommers.iter().map(|ommer| ommer.hash_slow()).collect(),
        transactions: BlockTransactions::Full(transactions.collect()),
        withdrawals: block.withdrawals.clone().map(Withdrawals::new),
    })
}

fn receipt_json(receipt: &Receipt) -> Value {
    let mut json = json!({
        "cumulativeGasUsed": format!("{:#x}", receipt.cumulative_gas_used()),
        "logsBloom": receipt.bloom(),
    });
    if let Eip658Value::Eip658(success) = receipt.status_or_post_state() {
        json["status"] = format!("{:#x}", u8::from(success)).into();
    }
    json
}

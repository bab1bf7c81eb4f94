//! What executing a block again says about it as a whole: its access list, the state roots on its way, the gas of its
//! instructions.

use alloy_eips::eip7928::{AccountChanges, BlockAccessList};
use alloy_evm::{
    Evm, EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutor, EthEvmFactory},
};
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_trace::opcode::{BlockOpcodeGas, TransactionOpcodeGas};
use heddle_chain::{BlockRules, ChainBlock};
use heddle_evm::{HeddleReceiptBuilder, block_context};
use revm::{
    database::State as RevmState, database_interface::WrapDatabaseRef, state::bal::BlockAccessIndex,
};
use revm_inspectors::opcode::OpcodeGasInspector;
use std::sync::Arc;

use crate::{
    context::Context,
    errors::Failure,
    params::BlockParam,
    trace::{Options, Replay},
    watch::{Deadline, Guard, Kept},
};

fn guard(context: &Context) -> Guard {
    let limits = &context.limits;
    Guard::new(Deadline::new(limits.trace_time_max), limits.trace_bytes_max, Kept::default())
}

/// `eth_getBlockAccessList` (EIP-7928): null if there is no such block.
pub(crate) fn access_list(
    context: &Context,
    block: BlockParam,
) -> Result<Option<BlockAccessList>, Failure> {
    context.block(block)?.map(|block| access_list_of(context, &block)).transpose()
}

/// `eth_getBlockAccessListRaw`: the same in RLP, whose hash EIP-7928 puts into headers.
pub(crate) fn raw_access_list(
    context: &Context,
    block: BlockParam,
) -> Result<Option<Bytes>, Failure> {
    let list = access_list(context, block)?;
    Ok(list.map(|list: Vec<AccountChanges>| alloy_rlp::encode(&list).into()))
}

/// Executes the block with alloy-evm's own executor, which keeps the list as it goes.
fn access_list_of(context: &Context, block: &Arc<ChainBlock>) -> Result<BlockAccessList, Failure> {
    if block.number() == 0 {
        // Nothing is executed in it.
        return Ok(BlockAccessList::new());
    }
    let deadline = Deadline::new(context.limits.trace_time_max);
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let parent = context.chain.state_before(block)?;
    let mut state =
        RevmState::builder().with_database(WrapDatabaseRef(parent)).with_bal_builder().build();
    let evm = EthEvmFactory::default().create_evm(&mut state, rules.evm_env(&block.header));
    let ctx = block_context(&block.header, &block.ommers, block.withdrawals.as_deref());
    let mut executor = EthBlockExecutor::new(evm, ctx, &rules, HeddleReceiptBuilder);
    executor.apply_pre_execution_changes().map_err(Failure::server)?;
    let mut next = BlockAccessIndex::PRE_EXECUTION;
    for transaction in &block.transactions {
        deadline.check()?;
        next.increment();
        executor.evm_mut().db_mut().set_bal_index(next);
        executor.execute_transaction(transaction).map_err(Failure::server)?;
    }
    next.increment();
    executor.evm_mut().db_mut().set_bal_index(next);
    executor.finish().map_err(Failure::server)?;
    state.take_built_alloy_bal().ok_or_else(|| Failure::server("no access list was kept"))
}

/// `debug_intermediateRoots`: the state root after each transaction.
pub(crate) fn intermediate_roots(
    context: &Context,
    (hash, options): (B256, Options),
) -> Result<Vec<B256>, Failure> {
    let block = context.chain.block_by_hash(hash)?;
    let block = block.ok_or_else(|| Failure::server(format!("block {hash} not found")))?;
    let guard = options.guard(&context.limits);
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    let scratch = context.chain.scratch_before(&block)?;
    if !scratch.has_root() {
        return Err(Failure::server(
            "the state of a fork is not known as a whole, so it has no roots",
        ));
    }
    let mut roots = Vec::with_capacity(block.transactions.len());
    for index in 1..=block.transactions.len() {
        replay.skip_to(index, &guard)?;
        roots.push(scratch.root_after(&replay.changes()?)?);
    }
    let last = scratch.root_after(&replay.finish()?)?;
    if last == block.header.state_root {
        return Ok(roots);
    }
    Err(Failure::server(format!(
        "block {hash} ends with the state root {last}, which is not its header's; its intermediate roots are not known"
    )))
}

/// `trace_blockOpcodeGas`: null if there is no such block.
pub(crate) fn block_opcode_gas(
    context: &Context,
    block: BlockParam,
) -> Result<Option<BlockOpcodeGas>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    let transactions = opcode_gas(context, &block, 0..block.transactions.len())?;
    Ok(Some(BlockOpcodeGas {
        block_hash: block.hash(),
        block_number: block.number(),
        transactions,
    }))
}

/// `trace_transactionOpcodeGas`: null if there is no such transaction.
pub(crate) fn transaction_opcode_gas(
    context: &Context,
    hash: B256,
) -> Result<Option<TransactionOpcodeGas>, Failure> {
    let Some((block, index)) = context.mined(hash)? else { return Ok(None) };
    Ok(opcode_gas(context, &block, index..index + 1)?.pop())
}

fn opcode_gas(
    context: &Context,
    block: &ChainBlock,
    transactions: std::ops::Range<usize>,
) -> Result<Vec<TransactionOpcodeGas>, Failure> {
    if transactions.is_empty() {
        return Ok(Vec::new());
    }
    let mut guard = guard(context);
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, block)?;
    replay.skip_to(transactions.start, &guard)?;
    let mut found = Vec::with_capacity(transactions.len());
    for index in transactions {
        let Some(transaction) = block.transactions.get(index) else { break };
        let mut inspector = OpcodeGasInspector::new();
        replay.watch(&mut inspector, &mut guard, |_, _| Ok(()))?;
        let mut opcode_gas: Vec<_> = inspector.opcode_gas_iter().collect();
        // The inspector's map has no order; an answer has.
        opcode_gas.sort_unstable_by(|a, b| a.opcode.cmp(&b.opcode));
        let transaction_hash = *transaction.inner().tx_hash();
        found.push(TransactionOpcodeGas { transaction_hash, opcode_gas });
    }
    Ok(found)
}

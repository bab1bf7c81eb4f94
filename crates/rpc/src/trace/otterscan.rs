//! `ots_…`: what the Otterscan explorer asks, level 8 of its API.

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{Header, TransactionReceipt};
use alloy_rpc_types_trace::{
    otterscan::{
        BlockDetails, ContractCreator, InternalIssuance, InternalOperation, OtsBlockTransactions,
        OtsReceipt, OtsTransactionReceipt, TraceEntry, TransactionsWithReceipts,
    },
    parity::{Action, CallType, CreationMethod, LocalizedTransactionTrace, TraceOutput},
};
use heddle_chain::{BlockRules, ChainBlock};
use revm::context::result::ExecutionResult;
use revm_inspectors::otterscan::InternalOperationsInspector;
use serde_json::json;

use crate::{
    context::Context,
    convert::{self, RpcReceipt, RpcTransaction},
    errors::Failure,
    fork,
    params::BlockParam,
    trace::{Replay, parity},
    watch::Kept,
};

/// The level of the API that the methods are of.
pub(crate) const API_LEVEL: u64 = 8;
/// Most transactions on a page. Otterscan asks for 25.
const PAGE_MAX: usize = 500;

/// A block as Otterscan's pages show it.
type Details = BlockDetails<Header>;
type BlockPage = OtsBlockTransactions<RpcTransaction, Header>;
type AddressPage = TransactionsWithReceipts<RpcTransaction>;

/// `ots_hasCode`.
pub(crate) fn has_code(
    context: &Context,
    (address, block): (Address, BlockParam),
) -> Result<bool, Failure> {
    let account = context.state(block)?.account(address)?;
    Ok(account.is_some_and(|account| account.code_hash != alloy_primitives::KECCAK256_EMPTY))
}

/// `ots_getInternalOperations`: transfers of ether, creations and self-destructions inside a transaction.
pub(crate) fn internal_operations(
    context: &Context,
    hash: B256,
) -> Result<Option<Vec<InternalOperation>>, Failure> {
    watch(context, hash, &mut InternalOperationsInspector::default(), |inspector, _| {
        std::mem::take(inspector).into_operations()
    })
}

/// `ots_getTransactionError`: what a failed transaction returned.
pub(crate) fn transaction_error(context: &Context, hash: B256) -> Result<Option<Bytes>, Failure> {
    watch(context, hash, &mut revm::inspector::NoOpInspector, |_, result| match result {
        ExecutionResult::Revert { output, .. } => output.clone(),
        ExecutionResult::Success { .. } | ExecutionResult::Halt { .. } => Bytes::new(),
    })
}

/// `ots_traceTransaction`: its calls as a list.
pub(crate) fn trace(context: &Context, hash: B256) -> Result<Option<Vec<TraceEntry>>, Failure> {
    let traces = parity::transaction(context, hash)?;
    Ok(traces.map(|traces| traces.iter().filter_map(entry).collect()))
}

fn watch<I, R>(
    context: &Context,
    hash: B256,
    inspector: &mut I,
    tell: impl FnOnce(&mut I, &ExecutionResult) -> R,
) -> Result<Option<R>, Failure>
where
    I: for<'db> revm::Inspector<
            alloy_evm::eth::EthEvmContext<&'db mut heddle_evm::BlockState<heddle_chain::State>>,
        >,
{
    let Some((block, index)) = context.mined(hash)? else { return Ok(None) };
    let mut guard = parity::guard(context, Kept::default());
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, &guard)?;
    replay.watch(inspector, &mut guard, |inspector, watched| {
        Ok(tell(inspector, &watched.done.result))
    })
}

fn entry(trace: &LocalizedTransactionTrace) -> Option<TraceEntry> {
    let trace = &trace.trace;
    let depth = u32::try_from(trace.trace_address.len()).unwrap_or(u32::MAX);
    let output = trace.result.as_ref().map(|result| result.output().clone()).unwrap_or_default();
    Some(match &trace.action {
        Action::Call(call) => TraceEntry {
            r#type: call.call_type.to_string(),
            depth,
            from: call.from,
            to: call.to,
            // These two carry none.
            value: (!matches!(call.call_type, CallType::DelegateCall | CallType::StaticCall))
                .then_some(call.value),
            input: call.input.clone(),
            output,
        },
        Action::Create(create) => TraceEntry {
            r#type: match create.creation_method {
                CreationMethod::Create2 => "CREATE2",
                _ => "CREATE",
            }
            .to_owned(),
            depth,
            from: create.from,
            to: created(trace.result.as_ref()).unwrap_or_default(),
            value: Some(create.value),
            input: create.init.clone(),
            output,
        },
        Action::Selfdestruct(end) => TraceEntry {
            r#type: "SELFDESTRUCT".to_owned(),
            depth,
            from: end.address,
            to: end.refund_address,
            value: Some(end.balance),
            input: Bytes::new(),
            output: Bytes::new(),
        },
        Action::Reward(_) => return None,
    })
}

const fn created(result: Option<&TraceOutput>) -> Option<Address> {
    match result {
        Some(TraceOutput::Create(created)) => Some(created.address),
        _ => None,
    }
}

/// `ots_getBlockDetails`, `ots_getBlockDetailsByHash`.
pub(crate) fn block_details(
    context: &Context,
    block: BlockParam,
) -> Result<Option<Details>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let issuance = parity::issuance(&rules, &block).filter(|_| block.number() > 0);
    let issuance = issuance.map_or_else(InternalIssuance::default, |(reward, ommers)| {
        let (block_reward, uncle_reward) = (reward, ommers.iter().map(|(_, value)| value).sum());
        InternalIssuance {
            block_reward: U256::from(block_reward),
            uncle_reward: U256::from::<u128>(uncle_reward),
            issuance: U256::from(block_reward) + U256::from::<u128>(uncle_reward),
        }
    });
    let fees = convert::receipts(context.chain.spec(), &block)
        .iter()
        .map(|receipt| U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price))
        .fold(U256::ZERO, U256::saturating_add);
    let mut shown = convert::block(&block, false);
    // Otterscan does without, and it is by far the largest field.
    shown.header.inner.logs_bloom = Default::default();
    Ok(Some(BlockDetails::new(shown, issuance, fees)))
}

/// `ots_getBlockTransactions`: a page of a block's transactions; page 0 has the last ones.
pub(crate) fn block_transactions(
    context: &Context,
    (block, page, size): (BlockParam, usize, usize),
) -> Result<Option<BlockPage>, Failure> {
    let Some(block) = context.block(block)? else { return Ok(None) };
    check_page(size)?;
    let mut shown = convert::block(&block, true);
    let end = block.transactions.len().saturating_sub(page.saturating_mul(size));
    let page = end.saturating_sub(size)..end;
    let receipts = convert::receipts(context.chain.spec(), &block);
    let receipts = receipts.into_iter().skip(page.start).take(page.len());
    let receipts = receipts.map(|receipt| slim(receipt, None)).collect();
    let count = block.transactions.len();
    if let alloy_rpc_types_eth::BlockTransactions::Full(transactions) = &mut shown.transactions {
        transactions.truncate(page.end);
        transactions.drain(..page.start);
    }
    let mut fullblock: alloy_rpc_types_trace::otterscan::OtsBlock<_, _> = shown.into();
    fullblock.transaction_count = count;
    Ok(Some(OtsBlockTransactions { fullblock, receipts }))
}

fn check_page(size: usize) -> Result<(), Failure> {
    if size == 0 || size > PAGE_MAX {
        return Err(Failure::params(format!(
            "a page has 1 to {PAGE_MAX} transactions, not {size}"
        )));
    }
    Ok(())
}

/// A receipt without its logs.
fn slim(receipt: RpcReceipt, timestamp: Option<u64>) -> OtsTransactionReceipt {
    let inner = OtsReceipt {
        status: receipt.inner.status(),
        cumulative_gas_used: receipt.inner.cumulative_gas_used(),
        logs: None,
        logs_bloom: None,
        r#type: receipt.inner.tx_type().into(),
    };
    let receipt: TransactionReceipt<OtsReceipt> = receipt.map_inner(|_| inner);
    OtsTransactionReceipt { receipt, timestamp }
}

/// Which way a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Before,
    After,
}

/// `ots_searchTransactionsBefore`, `ots_searchTransactionsAfter`: whole blocks until the page is full, newest first. A
/// transaction belongs to every address that its calls reach; there is no index of those, so that the blocks on the way
/// are run again, for as long as a trace may take.
pub(crate) fn search(
    context: &Context,
    address: Address,
    number: u64,
    size: usize,
    direction: Direction,
) -> Result<AddressPage, Failure> {
    check_page(size)?;
    let head = context.chain.head().number();
    let mut guard = parity::guard(context, Kept::default());
    let mut page = Vec::new();
    // Zero stands for the end of the chain on either side.
    let (mut next, is_edge) = match direction {
        Direction::Before if number == 0 || number > head => (Some(head), true),
        Direction::Before => (number.checked_sub(1), false),
        Direction::After if number == 0 => (Some(0), true),
        Direction::After => (number.checked_add(1).filter(|next| *next <= head), false),
    };
    let forked = context.chain.forked();
    if let Some(remote) =
        forked.as_ref().filter(|remote| next.is_some_and(|next| next <= remote.number()))
        && direction == Direction::After
    {
        return Err(Failure::server(format!(
            "this chain is a fork made at block {}; what came before is searched backwards only",
            remote.number()
        )));
    }
    let mut is_last = false;
    while let Some(number) = next.filter(|_| page.len() < size) {
        if let Some(remote) = forked.as_ref().filter(|remote| number <= remote.number()) {
            let rest = json!(size - page.len());
            let params = [json!(address), json!(number + 1), rest];
            let earlier: AddressPage = fork::ask(remote, "ots_searchTransactionsBefore", params)?;
            page.extend(earlier.txs.into_iter().zip(earlier.receipts));
            is_last = earlier.last_page;
            break;
        }
        let Some(block) = context.chain.block_by_number(number)? else { break };
        if !block.transactions.is_empty() {
            let mut found = involved(context, &block, address, &mut guard)?;
            if direction == Direction::Before {
                found.reverse();
            }
            page.extend(found);
        }
        next = match direction {
            Direction::Before => number.checked_sub(1),
            Direction::After => Some(number + 1).filter(|next| *next <= head),
        };
    }
    let is_end = next.is_none() || is_last;
    let (first_page, last_page) = match direction {
        Direction::Before => (is_edge, is_end),
        Direction::After => {
            page.reverse();
            (is_end, is_edge)
        }
    };
    let (txs, receipts) = page.into_iter().unzip();
    Ok(TransactionsWithReceipts { txs, receipts, first_page, last_page })
}

/// The transactions of a block that touch the address, in order.
fn involved(
    context: &Context,
    block: &ChainBlock,
    address: Address,
    guard: &mut crate::watch::Guard,
) -> Result<Vec<(RpcTransaction, OtsTransactionReceipt)>, Failure> {
    let traces = parity::whole(context, block, guard)?;
    let spec = context.chain.spec();
    let mut found = Vec::new();
    let touches = |trace: &&LocalizedTransactionTrace| {
        entry(trace).is_some_and(|entry| entry.from == address || entry.to == address)
    };
    let mut positions: Vec<_> =
        traces.iter().filter(touches).filter_map(|trace| trace.transaction_position).collect();
    positions.dedup();
    for position in positions {
        let index = position as usize;
        let pair = convert::transaction(block, index).zip(convert::receipt(spec, block, index));
        if let Some((transaction, receipt)) = pair {
            found.push((transaction, slim(receipt, Some(block.header.timestamp))));
        }
    }
    Ok(found)
}

/// `ots_getTransactionBySenderAndNonce`.
pub(crate) fn by_sender_and_nonce(
    context: &Context,
    (sender, nonce): (Address, u64),
) -> Result<Option<B256>, Failure> {
    let spent = |number| {
        let account = context.chain.state_at(number)?.account(sender)?;
        Ok(account.is_some_and(|account| account.nonce > nonce))
    };
    if let Some(remote) = fork::held_before(context, spent)? {
        let params = [json!(sender), json!(nonce)];
        return fork::ask(&remote, "ots_getTransactionBySenderAndNonce", params);
    }
    let Some(number) = first_block(context, spent)? else { return Ok(None) };
    let Some(block) = context.chain.block_by_number(number)? else { return Ok(None) };
    let found = block.transactions.iter().find(|tx| tx.signer() == sender && tx.nonce() == nonce);
    Ok(found.map(|tx| *tx.inner().tx_hash()))
}

/// `ots_getContractCreator`: null for what is no contract or was there at genesis.
pub(crate) fn contract_creator(
    context: &Context,
    address: Address,
) -> Result<Option<ContractCreator>, Failure> {
    let exists = |number| has_code(context, (address, BlockParam::Number(number)));
    if let Some(remote) = fork::held_before(context, exists)? {
        return fork::ask(&remote, "ots_getContractCreator", [json!(address)]);
    }
    let Some(number) = first_block(context, exists)? else { return Ok(None) };
    let Some(block) = context.chain.block_by_number(number)? else { return Ok(None) };
    // Most contracts are made by a transaction of their own, which needs no look inside.
    for tx in &block.transactions {
        if tx.kind() == TxKind::Create && tx.signer().create(tx.nonce()) == address {
            return Ok(Some(ContractCreator { hash: *tx.inner().tx_hash(), creator: tx.signer() }));
        }
    }
    let mut guard = parity::guard(context, Kept::default());
    let traces = parity::whole(context, &block, &mut guard)?;
    Ok(traces.iter().find_map(|trace| match &trace.trace.action {
        Action::Create(create) if created(trace.trace.result.as_ref()) == Some(address) => {
            let hash = trace.transaction_hash?;
            Some(ContractCreator { hash, creator: create.from })
        }
        _ => None,
    }))
}

/// The first block after which something holds that holds for good once it does; `None` if it does not hold now.
fn first_block(
    context: &Context,
    holds: impl Fn(u64) -> Result<bool, Failure>,
) -> Result<Option<u64>, Failure> {
    let first = context.chain.store().first_state();
    let (mut low, mut high) = (first, context.chain.head().number());
    if !holds(high)? {
        return Ok(None);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Some(high))
}

/// `erigon_getHeaderByNumber`.
pub(crate) fn header(context: &Context, block: BlockParam) -> Result<Option<Header>, Failure> {
    Ok(context.block(block)?.map(|block| convert::header(&block)))
}

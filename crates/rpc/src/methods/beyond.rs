//! Methods beyond the standard that geth or reth have: many calls at once, and looks at whole blocks and states.

use alloy_primitives::B256;

use super::{Table, only};
use crate::{
    RpcError, call_many,
    params::{BlockNumber, BlockParam, Number},
    ranges::{self, AccountRange, StorageRange},
    state,
    trace::{Options, whole_block},
    transactions,
};

impl Table<'_> {
    pub(super) fn beyond(&mut self) -> Result<(), RpcError> {
        self.heavy("eth_callMany", 3, call_many::parse, call_many::call_many)?;
        self.heavy(
            "eth_getAccount",
            2,
            |args| Ok((args.required()?, args.or(BlockParam::Latest)?)),
            state::trie_account,
        )?;
        self.heavy(
            "eth_getTransactionBySenderAndNonce",
            2,
            |args| Ok((args.required()?, args.required::<Number>()?.0)),
            transactions::by_sender_and_nonce,
        )?;
        self.tracing("eth_getBlockAccessList", 1, only, whole_block::access_list)?;
        self.tracing("debug_getBlockAccessList", 1, only, whole_block::access_list)?;
        self.tracing("eth_getBlockAccessListRaw", 1, only, whole_block::raw_access_list)?;
        self.tracing(
            "debug_traceCallMany",
            3,
            call_many::parse_traced,
            call_many::trace_call_many,
        )?;
        self.tracing(
            "debug_intermediateRoots",
            2,
            |args| Ok((args.required::<B256>()?, args.or(Options::default())?)),
            whole_block::intermediate_roots,
        )?;
        self.light("debug_chainConfig", 0, |context, _| Ok(context.chain.spec().config().clone()))?;
        self.tracing("debug_storageRangeAt", 5, StorageRange::parse, |context, request| {
            ranges::storage_range(context, &request)
        })?;
        self.tracing("debug_accountRange", 6, AccountRange::parse, |context, request| {
            ranges::account_range(context, &request)
        })?;
        self.tracing("debug_dumpBlock", 1, AccountRange::parse_dump, |context, request| {
            ranges::account_range(context, &request)
        })?;
        self.heavy(
            "debug_getModifiedAccountsByNumber",
            2,
            |args| {
                let start = args.required::<BlockNumber>()?.0;
                Ok((start, args.optional::<BlockNumber>()?.map(|end| end.0)))
            },
            state::modified_accounts,
        )?;
        self.heavy(
            "debug_getModifiedAccountsByHash",
            2,
            |args| {
                let start = BlockParam::Hash(args.required()?);
                Ok((start, args.optional()?.map(BlockParam::Hash)))
            },
            state::modified_accounts,
        )?;
        self.heavy(
            "debug_codeByHash",
            2,
            |args| Ok((args.required::<B256>()?, args.or(BlockParam::Latest)?)),
            state::code_by_hash,
        )?;
        self.tracing("trace_blockOpcodeGas", 1, only, whole_block::block_opcode_gas)?;
        self.tracing("trace_transactionOpcodeGas", 1, only, whole_block::transaction_opcode_gas)
    }
}

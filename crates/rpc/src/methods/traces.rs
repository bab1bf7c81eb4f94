//! Methods that trace.

use alloy_primitives::{Address, B256, Bytes};

use super::{Table, only};
use crate::{
    RpcError,
    errors::Failure,
    params::{Args, Argument, BlockNumber, BlockParam, Number},
    trace::{
        Options, geth,
        otterscan::{self, Direction},
        parity,
    },
};

impl Table<'_> {
    pub(super) fn traces(&mut self) -> Result<(), RpcError> {
        self.tracing(
            "debug_traceTransaction",
            2,
            |args| Ok((args.required::<B256>()?, args.or(Options::default())?)),
            geth::transaction,
        )?;
        self.tracing(
            "debug_traceBlockByNumber",
            2,
            |args| Ok((args.required::<BlockNumber>()?.0, args.or(Options::default())?)),
            geth::block,
        )?;
        self.tracing(
            "debug_traceBlockByHash",
            2,
            |args| Ok((BlockParam::Hash(args.required()?), args.or(Options::default())?)),
            geth::block,
        )?;
        self.tracing(
            "debug_traceBlock",
            2,
            |args| Ok((args.required::<Bytes>()?, args.or(Options::default())?)),
            geth::given_block,
        )?;
        self.tracing("debug_traceCall", 3, geth::parse_call, geth::call)?;
        self.tracing("debug_executionWitness", 1, only, geth::witness)?;
        self.tracing("debug_executionWitnessByBlockHash", 1, only::<B256>, |context, hash| {
            geth::witness(context, BlockParam::Hash(hash))
        })?;
        self.parity()?;
        self.otterscan()
    }

    fn parity(&mut self) -> Result<(), RpcError> {
        self.tracing("trace_block", 1, only, parity::block)?;
        self.tracing("trace_transaction", 1, only, parity::transaction)?;
        self.tracing("trace_get", 2, parity::parse_get, parity::get)?;
        self.tracing("trace_filter", 1, only, parity::filter)?;
        self.tracing("trace_call", 5, parity::parse_call, parity::call)?;
        self.tracing(
            "trace_callMany",
            2,
            |args| Ok((args.required()?, args.or(BlockParam::Latest)?)),
            parity::call_many,
        )?;
        self.tracing(
            "trace_rawTransaction",
            3,
            |args| Ok((args.required()?, args.required()?, args.or(BlockParam::Latest)?)),
            parity::raw_transaction,
        )?;
        self.tracing(
            "trace_replayTransaction",
            2,
            |args| Ok((args.required()?, args.required()?)),
            parity::replay_transaction,
        )?;
        self.tracing(
            "trace_replayBlockTransactions",
            2,
            |args| Ok((args.required()?, args.required()?)),
            parity::replay_block,
        )
    }

    fn otterscan(&mut self) -> Result<(), RpcError> {
        fn number(args: &mut Args<'_>) -> Result<BlockParam, Failure> {
            args.required::<Block>().map(|block| block.0)
        }
        fn size(args: &mut Args<'_>) -> Result<usize, Failure> {
            let size: Number = args.required()?;
            Ok(usize::try_from(size.0).unwrap_or(usize::MAX))
        }
        fn search(args: &mut Args<'_>) -> Result<(Address, u64, usize), Failure> {
            Ok((args.required()?, args.required::<Number>()?.0, size(args)?))
        }
        self.light("ots_getApiLevel", 0, |_, _| Ok(otterscan::API_LEVEL))?;
        self.heavy(
            "ots_hasCode",
            2,
            |args| Ok((args.required()?, args.or(Block(BlockParam::Latest))?.0)),
            otterscan::has_code,
        )?;
        self.tracing("ots_getInternalOperations", 1, only, otterscan::internal_operations)?;
        self.tracing("ots_getTransactionError", 1, only, otterscan::transaction_error)?;
        self.tracing("ots_traceTransaction", 1, only, otterscan::trace)?;
        self.heavy("ots_getBlockDetails", 1, number, otterscan::block_details)?;
        self.heavy(
            "ots_getBlockDetailsByHash",
            1,
            |args| Ok(BlockParam::Hash(args.required()?)),
            otterscan::block_details,
        )?;
        self.heavy(
            "ots_getBlockTransactions",
            3,
            |args| Ok((number(args)?, size(args)?, size(args)?)),
            otterscan::block_transactions,
        )?;
        self.tracing(
            "ots_searchTransactionsBefore",
            3,
            search,
            |context, (address, number, size)| {
                otterscan::search(context, address, number, size, Direction::Before)
            },
        )?;
        self.tracing(
            "ots_searchTransactionsAfter",
            3,
            search,
            |context, (address, number, size)| {
                otterscan::search(context, address, number, size, Direction::After)
            },
        )?;
        self.heavy(
            "ots_getTransactionBySenderAndNonce",
            2,
            |args| Ok((args.required()?, args.required::<Number>()?.0)),
            otterscan::by_sender_and_nonce,
        )?;
        self.tracing("ots_getContractCreator", 1, only, otterscan::contract_creator)?;
        self.light("erigon_getHeaderByNumber", 1, |context, args| {
            otterscan::header(context, number(args)?)
        })
    }
}

/// A block as Otterscan names it: like everybody, or with a plain number.
struct Block(BlockParam);

impl Argument for Block {
    fn parse(json: &str) -> Result<Self, String> {
        if json.starts_with('"') {
            return BlockParam::parse(json).map(Self);
        }
        Number::parse(json).map(|number| Self(BlockParam::Number(number.0)))
    }
}

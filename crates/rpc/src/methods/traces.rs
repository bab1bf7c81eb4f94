//! Methods that trace.

use alloy_primitives::{B256, Bytes};

use super::Table;
use crate::{
    RpcError,
    params::{BlockNumber, BlockParam},
    trace::{Options, geth},
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
        self.tracing("debug_traceCall", 3, geth::parse_call, geth::call)
    }
}

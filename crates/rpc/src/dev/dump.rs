//! The whole development chain as one piece of bytes, in Anvil's format.

use std::sync::Arc;

use alloy_primitives::Bytes;
use heddle_dump::{Dump, Loaded};

use crate::{context::Context, errors::Failure, params::Args};

/// Reads the argument of `anvil_dumpState`.
pub(crate) fn parse(args: &mut Args<'_>) -> Result<(), Failure> {
    if args.or(false)? {
        return Err(Failure::params("states of earlier blocks are not dumped"));
    }
    Ok(())
}

/// `anvil_dumpState`: gzipped. As hex it is twice as long, and has to fit into an answer.
pub(crate) fn dump(context: &Context, (): ()) -> Result<Bytes, Failure> {
    let bytes_max = context.limits.response_bytes_max as usize / 2;
    let dump = heddle_dump::write_gzip(&context.chain, bytes_max).map_err(Failure::server)?;
    Ok(dump.into())
}

/// `anvil_loadState`.
pub(crate) async fn load(context: Arc<Context>, dump: Bytes) -> Result<bool, Failure> {
    let reader = context.clone();
    let read = move || {
        let dump = Dump::parse(&dump).map_err(Failure::server)?;
        dump.onto(&reader.chain).map_err(Failure::server)
    };
    match context.compute(read).await? {
        Loaded::Chain(new) => context.miner.load(*new).await,
        Loaded::Accounts(dump) => context.miner.alter(move |state| dump.alter(state)).await,
    }
    .map_err(Failure::server)?;
    Ok(true)
}

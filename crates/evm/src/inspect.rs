//! The EVM that blocks execute with, for one transaction and with somebody watching.

use crate::complete_instructions;
use alloy_evm::{
    Database, EthEvm, EvmEnv,
    eth::{EthEvmBuilder, EthEvmContext},
    precompiles::PrecompilesMap,
};
use revm::Inspector;

/// An EVM by the rules of `env` on `database`, for calls and traces. It behaves as the one inside
/// [`BlockTransition`](crate::BlockTransition). The inspector is told of every step only where
/// `is_watched`; otherwise nothing is slower for it.
pub fn watched_evm<DB, I>(
    database: DB,
    env: EvmEnv,
    inspector: I,
    is_watched: bool,
) -> EthEvm<DB, I, PrecompilesMap>
where
    DB: Database,
    I: Inspector<EthEvmContext<DB>>,
{
    let cfg = env.cfg_env.clone();
    let mut evm = EthEvmBuilder::new(database, env).inspector(inspector).build().into_inner();
    complete_instructions(&mut evm.instruction, &cfg);
    EthEvm::new(evm, is_watched)
}

//! Watching transactions run: again, where a block has them, or for the first time, where a call is only tried.
//!
//! Blocks run again as they ran first: through [`heddle_evm::BlockTransition`] on the state of their parent, system
//! calls included, with the transactions before a traced one executed without anybody watching. What is recorded and
//! how it is told is revm-inspectors'.
//!
//! A request is bounded in time and in what it records ([`crate::RpcLimits::trace_time_max`],
//! [`crate::RpcLimits::trace_bytes_max`]), and only a few run at once, apart from other expensive methods.

pub(crate) mod geth;
mod options;
pub(crate) mod otterscan;
pub(crate) mod parity;
mod replay;
pub(crate) mod whole_block;

pub(crate) use options::{CallOptions, Options};
pub(crate) use replay::Replay;

#[cfg(test)]
mod explorer_tests;
#[cfg(test)]
mod tests;

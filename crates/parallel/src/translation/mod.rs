//! Contract code in a form that runs faster than revm's interpreter, with the same result.
//!
//! Code is cut into basic blocks, and those that are met again are translated into operations on
//! known places ([`basic_block`]). Whatever touches state, calls, creates, logs or sees the gas that
//! is left stays revm's instruction, called at the end of a block; so does everything in a block
//! whose limits of gas or stack might not hold. What was translated is shared by the workers and
//! kept from block to block ([`code`]).

mod basic_block;
mod code;
mod run;

pub(crate) use basic_block::Translator;
pub(crate) use code::{Codes, Eagerness, Translations};
pub use run::JUMPS_UNWATCHED;
pub(crate) use run::{JUMPDEST_GAS, Met, Runner, jumpdest};

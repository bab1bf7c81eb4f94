//! Whether a block follows from its parent, as far as that can be told without executing it.
//!
//! The rules of every fork from Frontier to Osaka and its blob-parameter forks. Proof-of-work seals
//! (`mixHash` and `nonce` before the merge) are not verified: chains are imported from trusted
//! files and from consensus clients, and the cache that a check takes would be larger than the
//! node.

mod body;
mod difficulty;
mod header;
mod ommers;

pub(crate) use body::{check_body, recover_senders};
pub(crate) use header::check_header;
pub(crate) use ommers::{Ancestors, check_ommers};

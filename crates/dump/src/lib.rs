//! A development chain in one file, in Anvil's format: what `anvil_dumpState` answers and `--dump-state` writes.
//!
//! **Owns** the format: one JSON object with the accounts (nonce, balance, code, storage), the environment of the head,
//! the blocks with their transactions, and the receipts; gzipped in answers, plain in files, both accepted.
//!
//! **Promises** that what Anvil dumps is read and what is written here Anvil reads; that a dump which is damaged, cut
//! off or too large is refused with a sentence that says where, before anything changes; and that no more memory is
//! taken than [`JSON_BYTES_MAX`] and what the values take that it describes.
//!
//! **Leaves to others** putting a chain in the place of another (`chain`), and when that happens (`builder`).
//!
//! What differs from Anvil's own dumps: states of earlier blocks (`historical_states`) are neither written nor read, and
//! a transaction's call traces are not written. Of Anvil's impersonated transactions the hash is another one here,
//! because Anvil's does not follow from what it writes down.

mod error;
mod format;
mod read;
mod write;

pub use error::DumpError;
pub use read::{Dump, JSON_BYTES_MAX, Loaded};
pub use write::{write_gzip, write_json};

//! The rules of a chain: which fork is active when, what a block may cost and carry, and how the chain starts.
//!
//! **Owns** the genesis file (geth's format), the fork schedule from Frontier to the blob-parameter-only forks and
//! beyond, and every number that follows from it: base fee, blob base fee, gas-limit bounds, size limits, fork id.
//!
//! **Promises**
//! - A [`ChainSpec`] that exists is consistent: its forks are in order, each has the parameters it needs, and the block
//!   at which proof of stake starts is known or the chain has no rule that depends on it. Whoever holds one need not
//!   check again.
//! - A file that is wrong is refused with the JSON path of what is wrong and what would be right.
//! - No query panics, whatever header it is given. All are pure.
//!
//! **Leaves to others** the genesis state root (the trie crate computes it and [`ChainSpec::genesis_header`] takes it),
//! the checks on headers that use these numbers, block rewards and the irregular DAO state change (both in the EVM
//! crate's block executor, which reads the schedule through [`EthereumHardforks`] and [`EthExecutorSpec`]).
//!
//! ```
//! use heddle_chainspec::{ChainSpec, EthereumHardfork};
//!
//! let spec = ChainSpec::dev();
//! assert_eq!(spec.chain_id(), 31337);
//! assert_eq!(spec.fork_at(1, 1_800_000_000), EthereumHardfork::Bpo2);
//!
//! let wrong = r#"{"config": {"chainId": 7}, "gasLimit": "0x1388", "alloc": {"0x01": {"balance": "0"}}}"#;
//! let error = ChainSpec::from_genesis_json(wrong).unwrap_err();
//! assert!(error.to_string().starts_with("alloc.0x01: invalid address"));
//! ```

mod blob_schedule;
mod error;
mod fees;
mod fork_id;
mod genesis_block;
mod genesis_file;
mod known;
mod limits;
mod merge;
mod quantity;
mod spec;
mod validation;

pub use error::ChainSpecError;
pub use known::{MAINNET_GENESIS_HASH, MAINNET_GENESIS_STATE_ROOT};
pub use limits::{GAS_LIMIT_BOUND_DIVISOR, GAS_LIMIT_MAX, GAS_LIMIT_MIN, RLP_BLOCK_SIZE_MAX_OSAKA};
pub use spec::ChainSpec;

pub use alloy_eips::{
    eip2124::{ForkHash, ForkId},
    eip7840::BlobParams,
};
pub use alloy_evm::{EvmEnv, eth::spec::EthExecutorSpec, revm::primitives::hardfork::SpecId};
pub use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
pub use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};

//! The workloads by name, and what can be chosen about them.

use std::{fmt, path::PathBuf, str::FromStr};

/// What a block does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Plain transfers between accounts of their own: nothing depends on anything.
    Transfers,
    /// Transfers of one ERC-20 token between accounts of their own.
    Erc20,
    /// Swaps through Uniswap V3; sender, router, pool and tokens are each swap's own.
    Uniswap,
    /// Swaps through the Uniswap V2 router over many pools, a sender for each swap.
    UniswapV2,
    /// Transfers, ERC-20 transfers and Uniswap V3 swaps, 60, 20 and 20 % of the gas, over many
    /// accounts, three tokens and two pools; some accounts may be hot.
    Hybrid,
    /// ERC-20 transfers along a chain of accounts: each needs the one before.
    ChainErc20,
    /// Swaps through one Uniswap V3 pool: each needs the one before.
    ChainUniswap,
    /// A public mint: everyone raises one counter.
    NftMint,
    /// Votes on a few proposals: everyone adds to one of a few tallies.
    DaoVote,
    /// Deposits, borrows and repayments on one lending market: one index, shared totals.
    Lending,
    /// A busy day: swaps over 20 pools and transfers of 40 tokens, lending, mints and votes; few
    /// users and pools do most of it, and one in ten transactions fails.
    MixedDefi,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Transfers,
        Self::Erc20,
        Self::Uniswap,
        Self::UniswapV2,
        Self::Hybrid,
        Self::ChainErc20,
        Self::ChainUniswap,
        Self::NftMint,
        Self::DaoVote,
        Self::Lending,
        Self::MixedDefi,
    ];

    /// Whether no transaction of a block depends on another.
    pub const fn is_independent(self) -> bool {
        matches!(self, Self::Transfers | Self::Erc20 | Self::Uniswap)
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfers => "transfers",
            Self::Erc20 => "erc20",
            Self::Uniswap => "uniswap",
            Self::UniswapV2 => "uniswap-v2",
            Self::Hybrid => "hybrid",
            Self::ChainErc20 => "chain-erc20",
            Self::ChainUniswap => "chain-uniswap",
            Self::NftMint => "nft-mint",
            Self::DaoVote => "dao-vote",
            Self::Lending => "lending",
            Self::MixedDefi => "mixed-defi",
        }
    }

    /// How many transactions it has if nobody says otherwise: about one gigagas, except Uniswap V2,
    /// which is there for comparison with earlier figures.
    pub const fn default_size(self) -> usize {
        match self {
            Self::Transfers => 47_620,
            Self::Erc20 | Self::ChainErc20 => 37_123,
            Self::Uniswap | Self::ChainUniswap => 6_413,
            Self::UniswapV2 => 4_000,
            Self::Hybrid => 34_000,
            Self::NftMint => 10_900,
            Self::DaoVote => 16_500,
            Self::Lending => 13_500,
            Self::MixedDefi => 14_600,
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WorkloadKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("there is no workload {name}; there are {}", known.join(", "))
        })
    }
}

/// What can be chosen about a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadOptions {
    /// Transactions in the block; [`WorkloadKind::default_size`] if nobody says.
    pub transactions: Option<usize>,
    /// Accounts that take part in `hybrid`, and users of `mixed-defi`.
    pub accounts: usize,
    /// In `hybrid`, the share (0 to 1) of the choices of an account that fall on a hot one; one in
    /// a hundred accounts is hot.
    pub hot_ratio: f64,
    /// The same seed gives the same block.
    pub seed: u64,
    /// Where npm put Uniswap's packages.
    pub node_modules: PathBuf,
}

impl WorkloadOptions {
    /// Accounts of `hybrid` and `mixed-defi`.
    pub const ACCOUNTS: usize = 100_000;
}

impl Default for WorkloadOptions {
    fn default() -> Self {
        Self {
            transactions: None,
            accounts: Self::ACCOUNTS,
            hot_ratio: 0.0,
            seed: 0,
            node_modules: PathBuf::from("tests/node_modules"),
        }
    }
}

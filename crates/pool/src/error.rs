//! Why a transaction was refused, in geth's words.

use alloy_primitives::{Address, B256, U256, U512};

use crate::PoolFork;

/// The state of an account could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("account state unavailable: {0}")]
pub struct StateError(pub String);

/// What a sender's transactions together can take, against what it has. All in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdraft {
    /// The sender's balance.
    pub balance: U256,
    /// What its pending transactions can take. May be above 2^256: each was payable alone.
    pub queued: U512,
    /// What the refused transaction would add to that.
    pub added: U256,
    /// By how much the balance falls short.
    pub overshot: U512,
}

/// Why the pool refused a transaction.
///
/// The texts are geth's, because wallets and libraries match on them. Two of geth's cannot occur here: "negative value"
/// and fees "higher than 2^256-1", which our types cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// No blocks can be made at present, for this reason, so nothing is taken that would wait for one.
    #[error("no transactions are taken at present: {0}")]
    NoBlocks(String),
    /// The same transaction is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// It is signed for another chain.
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    WrongChainId {
        /// The chain id it carries.
        have: u64,
        /// The chain id of this chain.
        want: u64,
    },
    /// A signature that the active fork does not allow: high `s` (EIP-2), or replay protection before EIP-155.
    #[error("invalid sender: invalid transaction v, r, s values")]
    InvalidSignature,
    /// Its type comes with a fork that is not active yet.
    #[error("transaction type not supported: type {ty} rejected, pool not yet in {fork}")]
    TypeNotSupported {
        /// EIP-2718 type.
        ty: u8,
        /// The fork that brings it.
        fork: PoolFork,
    },
    /// It is larger than the pool handles.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized {
        /// Encoded bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitCodeTooLarge {
        /// Bytes of init code.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// EIP-7825.
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    TxGasLimitTooHigh {
        /// The cap.
        cap: u64,
        /// The transaction's gas limit.
        gas: u64,
    },
    /// It asks for more gas than a block has.
    #[error("exceeds block gas limit")]
    ExceedsBlockGasLimit,
    /// EIP-1559.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    /// EIP-2681.
    #[error("nonce has max value")]
    NonceMax,
    /// Less gas than it costs before the first opcode.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGasTooLow {
        /// The transaction's gas limit.
        gas: u64,
        /// The least it needs.
        needed: u64,
    },
    /// EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorDataGasTooLow {
        /// The transaction's gas limit.
        gas: u64,
        /// The least it needs.
        needed: u64,
    },
    /// The priority fee cap is below what this node accepts.
    #[error("transaction gas price below minimum: gas tip cap {tip}, minimum needed {minimum}")]
    TipBelowMinimum {
        /// The transaction's priority fee cap in wei per gas.
        tip: u128,
        /// The least this node accepts.
        minimum: u128,
    },
    /// EIP-7702.
    #[error("set code tx must have at least one authorization tuple")]
    EmptyAuthorizationList,

    /// A blob transaction without its blobs.
    #[error("missing sidecar in blob transaction")]
    MissingSidecar,
    /// Blob proofs before Osaka, cell proofs from then on (EIP-7594).
    #[error("unexpected sidecar version, want: {want}, got: {got}")]
    SidecarVersion {
        /// The version of the next block's fork.
        want: u8,
        /// The sidecar's version.
        got: u8,
    },
    /// The blob fee cap is below the protocol's floor of 1 wei.
    #[error("transaction gas price below minimum: blob fee cap {fee}, minimum needed {minimum}")]
    BlobFeeBelowMinimum {
        /// The transaction's blob fee cap in wei per blob gas.
        fee: u128,
        /// The floor.
        minimum: u128,
    },
    /// A blob transaction that names no blob.
    #[error("blobless blob transaction")]
    Blobless,
    /// More blobs than a transaction may have.
    #[error("too many blobs in transaction: have {have}, permitted {permitted}")]
    TooManyBlobs {
        /// Blobs in the transaction.
        have: usize,
        /// The limit.
        permitted: u64,
    },
    /// Blobs and hashes do not match in number.
    #[error("invalid number of {blobs} blobs compared to {hashes} blob hashes")]
    BlobCount {
        /// Blobs in the sidecar.
        blobs: usize,
        /// Hashes in the transaction.
        hashes: usize,
    },
    /// Commitments and hashes do not match in number.
    #[error("invalid number of {commitments} blob commitments compared to {hashes} blob hashes")]
    CommitmentCount {
        /// Commitments in the sidecar.
        commitments: usize,
        /// Hashes in the transaction.
        hashes: usize,
    },
    /// Proofs and blobs do not match in number.
    #[error("invalid number of {proofs} blob proofs expected {expected}")]
    ProofCount {
        /// Proofs in the sidecar.
        proofs: usize,
        /// Proofs that this many blobs need.
        expected: usize,
    },
    /// A commitment is not the one that the transaction names.
    #[error("blob {index}: computed hash {computed} mismatches transaction one {declared}")]
    BlobHash {
        /// Which blob.
        index: usize,
        /// The versioned hash of the sidecar's commitment.
        computed: B256,
        /// The versioned hash in the transaction.
        declared: B256,
    },
    /// The proofs do not prove the blobs.
    #[error("KZG verification error: {0}")]
    Kzg(String),

    /// EIP-3607.
    #[error("sender not an eoa: address {0}")]
    SenderNotEoa(Address),
    /// The nonce is used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's next nonce.
        next: u64,
        /// The transaction's nonce.
        nonce: u64,
    },
    /// The balance does not cover it.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}",
        cost.saturating_sub(*balance)
    )]
    InsufficientFunds {
        /// The sender's balance in wei.
        balance: U256,
        /// The most the transaction can take, in wei.
        cost: U256,
    },
    /// The balance does not cover it together with the sender's pending transactions.
    #[error(
        "insufficient funds for gas * price + value: balance {}, queued cost {}, tx cost {}, overshot {}",
        .0.balance, .0.queued, .0.added, .0.overshot
    )]
    InsufficientFundsForAll(Box<Overdraft>),
    /// The balance does not cover the raise that a replacement means.
    #[error(
        "insufficient funds for gas * price + value: balance {}, queued cost {}, tx bumped {}, overshot {}",
        .0.balance, .0.queued, .0.added, .0.overshot
    )]
    InsufficientFundsForBump(Box<Overdraft>),
    /// It can take more than any account could own.
    #[error("insufficient funds for gas * price + value: tx cost {cost} is more than 2^256-1")]
    CostOverflow {
        /// The most it can take, in wei.
        cost: U512,
    },

    /// It does not pay enough more than the one with the same nonce.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The pool is full of transactions that pay as much or more.
    #[error("transaction underpriced")]
    Underpriced,
    /// The pool is full, and nothing that may be pushed out would make enough room.
    #[error("txpool is full")]
    PoolFull,
    /// The pool is full of executable transactions, and this one is not executable.
    #[error("future transaction tries to replace pending")]
    FutureReplacesPending,
    /// The sender has as many transactions in the pool as one account may have.
    #[error("account limit exceeded: pooled {pooled} txs")]
    AccountLimitExceeded {
        /// How many it has.
        pooled: usize,
    },
    /// The sender's account could not be read. Not the transaction's fault; try again.
    #[error(transparent)]
    State(#[from] StateError),
}

impl PoolError {
    /// Whether the transaction itself is at fault, so that it can never become valid on this chain and whoever
    /// sent it should have known. False where the pool's contents, the account, the fork or this node's policy decided.
    pub const fn is_bad_transaction(&self) -> bool {
        match self {
            Self::WrongChainId { .. }
            | Self::InvalidSignature
            | Self::InitCodeTooLarge { .. }
            | Self::TxGasLimitTooHigh { .. }
            | Self::TipAboveFeeCap
            | Self::NonceMax
            | Self::IntrinsicGasTooLow { .. }
            | Self::FloorDataGasTooLow { .. }
            | Self::EmptyAuthorizationList
            | Self::MissingSidecar
            | Self::BlobFeeBelowMinimum { .. }
            | Self::Blobless
            | Self::BlobCount { .. }
            | Self::CommitmentCount { .. }
            | Self::ProofCount { .. }
            | Self::BlobHash { .. }
            | Self::Kzg(_)
            | Self::CostOverflow { .. } => true,
            Self::NoBlocks(_)
            | Self::AlreadyKnown
            | Self::TypeNotSupported { .. }
            | Self::Oversized { .. }
            | Self::ExceedsBlockGasLimit
            | Self::TipBelowMinimum { .. }
            | Self::SidecarVersion { .. }
            | Self::TooManyBlobs { .. }
            | Self::SenderNotEoa(_)
            | Self::NonceTooLow { .. }
            | Self::InsufficientFunds { .. }
            | Self::InsufficientFundsForAll(_)
            | Self::InsufficientFundsForBump(_)
            | Self::ReplacementUnderpriced
            | Self::Underpriced
            | Self::PoolFull
            | Self::FutureReplacesPending
            | Self::AccountLimitExceeded { .. }
            | Self::State(_) => false,
        }
    }

    /// A short stable name, the `reason` label of `pool_rejected_transactions_total`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoBlocks(_) => "no_blocks",
            Self::AlreadyKnown => "already_known",
            Self::WrongChainId { .. } => "wrong_chain_id",
            Self::InvalidSignature => "invalid_signature",
            Self::TypeNotSupported { .. } => "type_not_supported",
            Self::Oversized { .. } => "oversized",
            Self::InitCodeTooLarge { .. } => "initcode_too_large",
            Self::TxGasLimitTooHigh { .. } => "tx_gas_limit_too_high",
            Self::ExceedsBlockGasLimit => "exceeds_block_gas_limit",
            Self::TipAboveFeeCap => "tip_above_fee_cap",
            Self::NonceMax => "nonce_max",
            Self::IntrinsicGasTooLow { .. } => "intrinsic_gas_too_low",
            Self::FloorDataGasTooLow { .. } => "floor_data_gas_too_low",
            Self::TipBelowMinimum { .. } => "tip_below_minimum",
            Self::EmptyAuthorizationList => "empty_authorization_list",
            Self::MissingSidecar => "missing_sidecar",
            Self::SidecarVersion { .. } => "sidecar_version",
            Self::BlobFeeBelowMinimum { .. } => "blob_fee_below_minimum",
            Self::Blobless => "blobless",
            Self::TooManyBlobs { .. } => "too_many_blobs",
            Self::BlobCount { .. } => "blob_count",
            Self::CommitmentCount { .. } => "commitment_count",
            Self::ProofCount { .. } => "proof_count",
            Self::BlobHash { .. } => "blob_hash",
            Self::Kzg(_) => "kzg",
            Self::SenderNotEoa(_) => "sender_not_eoa",
            Self::NonceTooLow { .. } => "nonce_too_low",
            Self::InsufficientFunds { .. }
            | Self::InsufficientFundsForAll(_)
            | Self::InsufficientFundsForBump(_)
            | Self::CostOverflow { .. } => "insufficient_funds",
            Self::ReplacementUnderpriced => "replacement_underpriced",
            Self::Underpriced => "underpriced",
            Self::PoolFull => "pool_full",
            Self::FutureReplacesPending => "future_replaces_pending",
            Self::AccountLimitExceeded { .. } => "account_limit_exceeded",
            Self::State(_) => "state_unavailable",
        }
    }
}

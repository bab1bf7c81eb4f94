//! Why a block is not taken.

use crate::ChainError;
use alloy_consensus::TxType;
use alloy_primitives::{B64, B256, Bloom, Bytes, U256};
use heddle_chainspec::EthereumHardfork;
use heddle_evm::ExecutionError;
use heddle_store::StoreError;

/// A field of a header that only exists from some fork on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionalField {
    /// `baseFeePerGas`, from London on (EIP-1559).
    BaseFee,
    /// `withdrawalsRoot`, from Shanghai on (EIP-4895).
    WithdrawalsRoot,
    /// `blobGasUsed`, from Cancun on (EIP-4844).
    BlobGasUsed,
    /// `excessBlobGas`, from Cancun on (EIP-4844).
    ExcessBlobGas,
    /// `parentBeaconBlockRoot`, from Cancun on (EIP-4788).
    ParentBeaconBlockRoot,
    /// `requestsHash`, from Prague on (EIP-7685).
    RequestsHash,
    /// `blockAccessListHash`, from Amsterdam on (EIP-7928).
    BlockAccessListHash,
    /// `slotNumber`, from Amsterdam on (EIP-7843).
    SlotNumber,
    /// The list of withdrawals in the body, from Shanghai on (EIP-4895).
    Withdrawals,
}

impl std::fmt::Display for OptionalField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BaseFee => "baseFeePerGas",
            Self::WithdrawalsRoot => "withdrawalsRoot",
            Self::BlobGasUsed => "blobGasUsed",
            Self::ExcessBlobGas => "excessBlobGas",
            Self::ParentBeaconBlockRoot => "parentBeaconBlockRoot",
            Self::RequestsHash => "requestsHash",
            Self::BlockAccessListHash => "blockAccessListHash",
            Self::SlotNumber => "slotNumber",
            Self::Withdrawals => "withdrawals",
        })
    }
}

/// Why a block was not imported. Every variant but [`Self::Chain`] and [`Self::ForkTooDeep`] is a
/// rule of the protocol that the block breaks, with what it has and what the rule asks for. The
/// chain is as it was before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// This node could not do its part (disk, lost state); says nothing about the block.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The branch leaves the chain further down than can be undone.
    #[error(
        "the branch leaves the chain at block {fork}, more than {max} blocks below the head {head}"
    )]
    ForkTooDeep {
        /// Last block that both have.
        fork: u64,
        /// Number of the head.
        head: u64,
        /// The limit.
        max: u64,
    },

    /// The bytes are not the RLP of a block.
    #[error("not the RLP of a block: {0}")]
    Rlp(alloy_rlp::Error),
    /// Bytes follow the block.
    #[error("{0} bytes follow the block")]
    TrailingBytes(usize),
    /// The parent is not known here.
    #[error("block {number}: the parent {parent} is not known")]
    UnknownParent {
        /// Number of the block.
        number: u64,
        /// Its parent hash.
        parent: B256,
    },
    /// There is no such block here, on the chain or beside it.
    #[error("block {0} is not known")]
    UnknownBlock(B256),
    /// Block zero of another chain.
    #[error("genesis block {actual} is of another chain: this one starts with {expected}")]
    WrongGenesis {
        /// Of this chain.
        expected: B256,
        /// Offered.
        actual: B256,
    },
    /// A fork that this node does not know.
    #[error("block {number} is of the fork {fork}, which is not supported")]
    UnsupportedFork {
        /// Number of the block.
        number: u64,
        /// The fork.
        fork: EthereumHardfork,
    },

    /// Number is not the parent's plus one.
    #[error("number is {actual}, but the parent's is {parent}")]
    Number {
        /// Of the parent.
        parent: u64,
        /// Of the block.
        actual: u64,
    },
    /// Not later than the parent.
    #[error("timestamp {actual} is not after the parent's {parent}")]
    Timestamp {
        /// Of the parent, in seconds.
        parent: u64,
        /// Of the block, in seconds.
        actual: u64,
    },
    /// Extra data is too long.
    #[error("extra data has {actual} bytes, {max} are allowed")]
    ExtraDataTooLong {
        /// Allowed bytes.
        max: usize,
        /// Bytes.
        actual: usize,
    },
    /// The first ten blocks from the DAO fork on carry fixed extra data (EIP-779).
    #[error("extra data is {actual}, but a block of the DAO fork carries {expected}")]
    DaoExtraData {
        /// By the rule.
        expected: Bytes,
        /// Of the block.
        actual: Bytes,
    },
    /// Difficulty does not follow from the parent, or is not zero after the merge (EIP-3675).
    #[error("difficulty is {actual}, but must be {expected}")]
    Difficulty {
        /// By the rule.
        expected: U256,
        /// Of the block.
        actual: U256,
    },
    /// Nonce is not zero after the merge (EIP-3675).
    #[error("nonce is {0}, but must be zero after the merge")]
    NonceAfterMerge(B64),
    /// Gas limit is too far from the parent's, too low or too high.
    #[error("gas limit {actual} is not between {min} and {max}")]
    GasLimit {
        /// Lowest that is allowed.
        min: u64,
        /// Highest that is allowed.
        max: u64,
        /// Of the block.
        actual: u64,
    },
    /// More gas used than the limit.
    #[error("gas used {gas_used} exceeds the gas limit {gas_limit}")]
    GasUsedAboveLimit {
        /// Gas limit of the block.
        gas_limit: u64,
        /// Gas used according to the header.
        gas_used: u64,
    },
    /// A field that the fork asks for is missing.
    #[error("{0} is missing")]
    FieldMissing(OptionalField),
    /// A field is there before its fork.
    #[error("{0} is there before its fork")]
    FieldTooEarly(OptionalField),
    /// Base fee does not follow from the parent (EIP-1559).
    #[error("base fee is {actual}, but must be {expected}")]
    BaseFee {
        /// By the rule, in wei.
        expected: u64,
        /// Of the block, in wei.
        actual: u64,
    },
    /// Excess blob gas does not follow from the parent (EIP-4844, EIP-7918).
    #[error("excess blob gas is {actual}, but must be {expected}")]
    ExcessBlobGas {
        /// By the rule.
        expected: u64,
        /// Of the block.
        actual: u64,
    },
    /// More blob gas than a block may have.
    #[error("blob gas used {actual} exceeds {max}")]
    BlobGasAboveLimit {
        /// Allowed by the fork.
        max: u64,
        /// Of the block.
        actual: u64,
    },
    /// Blob gas is counted in whole blobs.
    #[error("blob gas used {actual} is not a multiple of {blob}")]
    BlobGasNotWhole {
        /// Gas of one blob.
        blob: u64,
        /// Of the block.
        actual: u64,
    },

    /// More than two ommers, or any after the merge.
    #[error("{actual} ommers, but at most {max} are allowed")]
    TooManyOmmers {
        /// Allowed.
        max: usize,
        /// In the block.
        actual: usize,
    },
    /// The ommers are not those of the header.
    #[error("ommers hash is {header} in the header, but {body} of the body")]
    OmmersHash {
        /// Of the header.
        header: B256,
        /// Of the body.
        body: B256,
    },
    /// The same ommer twice, here or in an ancestor.
    #[error("ommer {0} was included before")]
    OmmerIncludedBefore(B256),
    /// An ancestor is no ommer.
    #[error("ommer {0} is an ancestor")]
    OmmerIsAncestor(B256),
    /// The parent of an ommer must be among the ancestors of the parent, at most six blocks back.
    #[error("ommer {hash}: its parent {parent} is not an ancestor within reach")]
    OmmerParent {
        /// Of the ommer.
        hash: B256,
        /// Its parent.
        parent: B256,
    },
    /// The header of an ommer breaks a rule.
    #[error("ommer {hash}: {reason}")]
    OmmerHeader {
        /// Of the ommer.
        hash: B256,
        /// The rule.
        reason: Box<ImportError>,
    },

    /// The transactions are not those of the header.
    #[error("transactions root is {header} in the header, but {body} of the body")]
    TransactionsRoot {
        /// Of the header.
        header: B256,
        /// Of the body.
        body: B256,
    },
    /// The withdrawals are not those of the header (EIP-4895).
    #[error("withdrawals root is {header} in the header, but {body} of the body")]
    WithdrawalsRoot {
        /// Of the header.
        header: B256,
        /// Of the body.
        body: B256,
    },
    /// The block is too large (EIP-7934).
    #[error("the block has {actual} bytes, {max} are allowed")]
    BlockTooLarge {
        /// Allowed bytes of RLP.
        max: usize,
        /// Bytes of RLP.
        actual: usize,
    },
    /// A transaction of a type that its fork does not have.
    #[error("transaction {index} has type {tx_type}, which comes with {fork}")]
    TransactionType {
        /// Its place in the block.
        index: usize,
        /// The type.
        tx_type: TxType,
        /// The fork that brings it.
        fork: EthereumHardfork,
    },
    /// Replay protection before EIP-155.
    #[error("transaction {index} is signed for chain {chain_id} before EIP-155")]
    ReplayProtectionTooEarly {
        /// Its place in the block.
        index: usize,
        /// It is signed for this one.
        chain_id: u64,
    },
    /// A transaction for another chain.
    #[error("transaction {index} is signed for chain {actual}, but this is {expected}")]
    TransactionChainId {
        /// Its place in the block.
        index: usize,
        /// Of this chain.
        expected: u64,
        /// It is signed for this one.
        actual: u64,
    },
    /// A transaction asks for more gas than one may (EIP-7825).
    #[error("transaction {index} has gas limit {actual}, {max} is allowed")]
    TransactionGasLimit {
        /// Its place in the block.
        index: usize,
        /// Allowed.
        max: u64,
        /// Asked for.
        actual: u64,
    },
    /// A signature that nobody can have made, or one that EIP-2 forbids.
    #[error("transaction {index}: the signature is invalid{}", if *.high_s { " (s is too high, EIP-2)" } else { "" })]
    Signature {
        /// Its place in the block.
        index: usize,
        /// A key does match, but `s` is in the upper half.
        high_s: bool,
    },

    /// A transaction cannot be where it is, or a system call failed.
    #[error(transparent)]
    Execution(ExecutionError),
    /// Execution used other gas than the header says.
    #[error("gas used is {header} in the header, but {actual} was used")]
    GasUsed {
        /// Of the header.
        header: u64,
        /// Of the execution.
        actual: u64,
    },
    /// Blob gas of the transactions is not what the header says.
    #[error("blob gas used is {header} in the header, but {actual} was used")]
    BlobGasUsed {
        /// Of the header.
        header: u64,
        /// Of the transactions.
        actual: u64,
    },
    /// Execution gave other receipts.
    #[error("receipts root is {header} in the header, but {actual} of the execution")]
    ReceiptsRoot {
        /// Of the header.
        header: B256,
        /// Of the execution.
        actual: B256,
    },
    /// Execution gave other logs.
    #[error("logs bloom differs from that of the execution")]
    LogsBloom {
        /// Of the header.
        header: Box<Bloom>,
        /// Of the execution.
        actual: Box<Bloom>,
    },
    /// Execution gave other requests (EIP-7685).
    #[error("requests hash is {header} in the header, but {actual} of the execution")]
    RequestsHash {
        /// Of the header.
        header: B256,
        /// Of the execution.
        actual: B256,
    },
    /// Execution gave another state.
    #[error("state root is {header} in the header, but {actual} of the execution")]
    StateRoot {
        /// Of the header.
        header: B256,
        /// Of the execution.
        actual: B256,
    },
    /// A block between the chain and this one is invalid.
    #[error("its ancestor {hash} (block {number}) is invalid: {reason}")]
    InvalidAncestor {
        /// Number of the ancestor.
        number: u64,
        /// Hash of the ancestor.
        hash: B256,
        /// What is wrong with it.
        reason: Box<ImportError>,
    },
}

impl ImportError {
    /// Whether the block breaks a rule; otherwise nothing is known about it.
    pub const fn is_invalid_block(&self) -> bool {
        !matches!(
            self,
            Self::Chain(_)
                | Self::ForkTooDeep { .. }
                | Self::UnknownParent { .. }
                | Self::UnknownBlock(_)
        )
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Chain(error.into())
    }
}

impl From<ExecutionError> for ImportError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::InvalidTransaction { .. } | ExecutionError::Block(_) => {
                Self::Execution(error)
            }
            ExecutionError::State(error) => Self::Chain(error.into()),
            ExecutionError::Panic(_) | ExecutionError::Cancelled => Self::Chain(error.into()),
        }
    }
}

//! The JSON of a blockchain test.

use alloy_eips::eip7840::BlobParams;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One blockchain test.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockchainTest {
    /// The fork, or the transition between two.
    pub network: String,
    /// Chain id and blob schedule, in newer tests.
    #[serde(default)]
    pub config: Option<TestConfig>,
    /// `NoProof`, or `Ethash` where the blocks are sealed.
    #[serde(default)]
    pub seal_engine: Option<String>,
    /// RLP of the genesis block.
    #[serde(rename = "genesisRLP")]
    pub genesis_rlp: Bytes,
    /// The genesis state.
    pub pre: BTreeMap<Address, TestAccount>,
    /// What is imported, in order.
    pub blocks: Vec<TestBlock>,
    /// The head at the end.
    #[serde(rename = "lastblockhash")]
    pub last_block_hash: B256,
    /// The state at the end.
    #[serde(default)]
    pub post_state: Option<BTreeMap<Address, TestAccount>>,
    /// Its root, where it is too large to be listed.
    #[serde(default)]
    pub post_state_hash: Option<B256>,
}

/// What the name of a network does not say.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TestConfig {
    /// EIP-155 chain id; 1 where it is not given.
    #[serde(default, alias = "chainId")]
    pub chainid: Option<U64>,
    /// Blob parameters by fork.
    #[serde(default, rename = "blobSchedule")]
    pub blob_schedule: Option<BTreeMap<String, TestBlobParams>>,
}

/// Blob parameters of one fork.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestBlobParams {
    target: U64,
    max: U64,
    base_fee_update_fraction: U64,
}

impl From<TestBlobParams> for BlobParams {
    fn from(params: TestBlobParams) -> Self {
        Self {
            target_blob_count: params.target.to(),
            max_blob_count: params.max.to(),
            update_fraction: params.base_fee_update_fraction.to(),
            ..Self::cancun()
        }
    }
}

/// One account of a state.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TestAccount {
    /// In wei.
    pub balance: U256,
    /// Transactions sent.
    pub nonce: U64,
    /// Deployed code.
    pub code: Bytes,
    /// Slots that are not zero.
    pub storage: BTreeMap<U256, U256>,
}

/// One block to import.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestBlock {
    /// The block as text; not always decodable, some not even as hexadecimal.
    pub rlp: String,
    /// Set where the block is invalid: why.
    #[serde(default, alias = "expectExceptionALL")]
    pub expect_exception: Option<String>,
}

impl TestBlock {
    /// The bytes of the block.
    ///
    /// # Errors
    /// If they are not hexadecimal, which makes the block an invalid one.
    pub fn bytes(&self) -> Result<Bytes, alloy_primitives::hex::FromHexError> {
        self.rlp.parse()
    }
}

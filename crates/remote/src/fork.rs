//! Turning to a block of another node.

use crate::{
    RemoteError, RemoteState,
    cache::CacheFile,
    client::{Call, Patience},
    node::RemoteNode,
};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{Address, B256, U64, U256};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};

/// Development chains, whose blocks have the same numbers and often the same hashes again and again: nothing of them is
/// kept on disk.
const NOT_CACHED: [u64; 2] = [1_337, 31_337];

/// Which block of the other node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForkBlock {
    /// The newest.
    #[default]
    Latest,
    /// The one with this number.
    Number(u64),
    /// So many before the newest.
    Before(u64),
}

/// What to fork, and how.
#[derive(Debug, Clone)]
pub struct ForkOptions {
    /// The node's HTTP address.
    pub url: String,
    /// Which of its blocks.
    pub block: ForkBlock,
    /// Its EIP-155 chain id, where it is not to be asked for it.
    pub chain_id: Option<u64>,
    /// How to ask it.
    pub patience: Patience,
    /// Where to keep what was read, if anywhere.
    pub cache: Option<PathBuf>,
}

/// A block of another node, to go on from.
#[derive(Debug, Clone)]
pub struct Fork {
    /// Its header, with the hash that the node gives it.
    pub header: Sealed<Header>,
    /// The sum of the difficulties up to it, zero where the node does not say.
    pub total_difficulty: U256,
    /// The state after it.
    pub state: Arc<RemoteState>,
}

impl Fork {
    /// Finds the block.
    ///
    /// # Errors
    /// If the node does not answer, has no such block, or the block is one of proof of work.
    pub async fn open(options: ForkOptions) -> Result<Self, RemoteError> {
        let ForkOptions { url, block, chain_id, patience, cache } = options;
        let node = RemoteNode::start(&url, patience)?;
        let chain_id = match chain_id {
            Some(chain_id) => chain_id,
            None => node.ask::<U64>(Call::new("eth_chainId", [])).await?.to(),
        };
        let number = match block {
            ForkBlock::Number(number) => number,
            ForkBlock::Latest | ForkBlock::Before(_) => {
                let latest: U64 = node.ask(Call::new("eth_blockNumber", [])).await?;
                let before = if let ForkBlock::Before(blocks) = block { blocks } else { 0 };
                latest.to::<u64>().saturating_sub(before)
            }
        };
        let call = Call::new("eth_getBlockByNumber", [json!(U64::from(number)), json!(false)]);
        let found: Option<alloy_rpc_types_eth::Header> = node.ask(call).await?;
        let name = || node.name();
        let found = found.ok_or_else(|| RemoteError::NoBlock { node: name(), number })?;
        let header = found.inner;
        if header.difficulty > U256::ZERO || header.base_fee_per_gas.is_none() {
            return Err(RemoteError::BeforeMerge { node: name(), number });
        }
        let block = param(&node, number, found.hash).await?;
        let id = (chain_id, number, found.hash);
        let cache = cache.filter(|_| !NOT_CACHED.contains(&chain_id)).and_then(|directory| {
            CacheFile::open(&directory, id)
                .inspect_err(|error| tracing::warn!(%error, "nothing is kept on disk"))
                .ok()
        });
        let known = cache.as_ref().map_or(0, |(_, records)| records.len());
        tracing::info!(node = node.name(), chain_id, number, hash = %found.hash, known, "forked");
        Ok(Self {
            header: Sealed::new_unchecked(header, found.hash),
            total_difficulty: found.total_difficulty.unwrap_or_default(),
            state: Arc::new(RemoteState::new(node, id, block, cache)),
        })
    }
}

/// How the block is named in questions about its state: by hash (EIP-1898), so that after a reorganisation the node has
/// no answer rather than another one; by number, where the node does not know such parameters.
async fn param(node: &RemoteNode, number: u64, hash: B256) -> Result<Value, RemoteError> {
    let by_hash = json!({ "blockHash": hash });
    let call = Call::new("eth_getBalance", [json!(Address::ZERO), by_hash.clone()]);
    match node.ask::<U256>(call).await {
        Ok(_) => Ok(by_hash),
        Err(RemoteError::Answer { .. } | RemoteError::NoState { .. }) => {
            let by_number = json!(U64::from(number));
            let call = Call::new("eth_getBalance", [json!(Address::ZERO), by_number.clone()]);
            node.ask::<U256>(call).await?;
            Ok(by_number)
        }
        Err(error) => Err(error),
    }
}

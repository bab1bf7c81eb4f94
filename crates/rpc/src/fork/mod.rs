//! A chain that goes on from a block of another node: what lies before that block is the other node's to answer.
//!
//! Most requests about it are passed on as they are ([`forward`]). Here is what takes both nodes: ranges that lie on
//! either side of the block, and searches that may end before it.

pub(crate) mod forward;

use alloy_primitives::{B256, U64};
use alloy_rpc_types_eth::{FeeHistory, Log};
use heddle_remote::{Call, RemoteError, RemoteState};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{context::Context, errors::Failure, logs::LogMatcher};

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Busy { .. } => Self::Limit(error.to_string()),
            error => Self::server(error),
        }
    }
}

/// Asks the other node. Only where waiting is allowed.
pub(crate) fn ask<T: DeserializeOwned>(
    remote: &RemoteState,
    method: &'static str,
    params: impl Into<Vec<Value>>,
) -> Result<T, Failure> {
    Ok(remote.node().request(&Call::new(method, params))?)
}

/// The number of a block.
#[derive(Deserialize)]
pub(crate) struct NumberOnly {
    number: Option<U64>,
}

/// The logs of a block that is not here, if the other node has it at or before the fork.
pub(crate) fn logs_of(
    remote: &RemoteState,
    matcher: &LogMatcher,
    hash: B256,
) -> Result<Option<Vec<Log>>, Failure> {
    let block: Option<NumberOnly> = ask(remote, "eth_getBlockByHash", [json!(hash), json!(false)])?;
    let number = block.and_then(|block| block.number).map(|number| number.to::<u64>());
    if number.is_none_or(|number| number > remote.number()) {
        return Ok(None);
    }
    let mut filter = matcher.to_json();
    filter["blockHash"] = json!(hash);
    ask(remote, "eth_getLogs", [filter]).map(Some)
}

/// The logs of blocks up to the fork.
pub(crate) fn logs(
    remote: &RemoteState,
    matcher: &LogMatcher,
    (from, to): (u64, u64),
) -> Result<Vec<Log>, Failure> {
    let mut filter = matcher.to_json();
    filter["fromBlock"] = json!(U64::from(from));
    filter["toBlock"] = json!(U64::from(to));
    ask(remote, "eth_getLogs", [filter])
}

/// The fees of `blocks` blocks up to `newest`, which is at most the fork.
pub(crate) fn fee_history(
    remote: &RemoteState,
    blocks: u64,
    newest: u64,
    percentiles: Option<&[f64]>,
) -> Result<FeeHistory, Failure> {
    let percentiles = percentiles.unwrap_or_default();
    let params = [json!(U64::from(blocks)), json!(U64::from(newest)), json!(percentiles)];
    ask(remote, "eth_feeHistory", params)
}

/// The fees of blocks on both sides: `earlier` ends at the fork, `later` begins after it.
pub(crate) fn joined(mut earlier: FeeHistory, later: FeeHistory) -> FeeHistory {
    // What it says of the block after its last one, the later one says of its first.
    earlier.base_fee_per_gas.pop();
    earlier.base_fee_per_gas.extend(later.base_fee_per_gas);
    earlier.gas_used_ratio.extend(later.gas_used_ratio);
    // Nodes that know no blobs leave these out.
    let blocks = later.blob_gas_used_ratio.len();
    let known = earlier.gas_used_ratio.len() - blocks;
    earlier.base_fee_per_blob_gas.resize(known, 0);
    earlier.base_fee_per_blob_gas.extend(later.base_fee_per_blob_gas);
    earlier.blob_gas_used_ratio.resize(known, 0.0);
    earlier.blob_gas_used_ratio.extend(later.blob_gas_used_ratio);
    earlier.reward = match (earlier.reward, later.reward) {
        (Some(mut rewards), Some(later)) => {
            rewards.extend(later);
            Some(rewards)
        }
        _ => None,
    };
    earlier
}

/// The fork, if this chain is one and something that holds for good once it does held before it already.
pub(crate) fn held_before(
    context: &Context,
    holds: impl Fn(u64) -> Result<bool, Failure>,
) -> Result<Option<std::sync::Arc<RemoteState>>, Failure> {
    let Some(remote) = context.chain.forked() else { return Ok(None) };
    Ok(if holds(remote.number())? { Some(remote) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(oldest: u64, blocks: u64, with_blobs: bool) -> FeeHistory {
        let fees = |extra: u64| (oldest..oldest + blocks + extra).map(u128::from).collect();
        FeeHistory {
            oldest_block: oldest,
            base_fee_per_gas: fees(1),
            gas_used_ratio: vec![0.5; blocks as usize],
            base_fee_per_blob_gas: if with_blobs { fees(1) } else { Vec::new() },
            blob_gas_used_ratio: vec![0.25; if with_blobs { blocks as usize } else { 0 }],
            reward: Some((oldest..oldest + blocks).map(|number| vec![number.into()]).collect()),
        }
    }

    #[test]
    fn fees_on_both_sides_of_the_fork_are_one_history() {
        assert_eq!(joined(history(5, 3, true), history(8, 2, true)), history(5, 5, true));
        let joined = joined(history(5, 3, false), history(8, 2, true));
        assert_eq!(joined.base_fee_per_blob_gas, [0, 0, 0, 8, 9, 10]);
        assert_eq!(joined.blob_gas_used_ratio, [0.0, 0.0, 0.0, 0.25, 0.25]);
    }
}

//! `eth_simulateV1`: calls in blocks of the caller's making, on top of a block of the chain. As geth does it, to the
//! hashes of the blocks.

mod block;
pub(crate) mod transaction;
mod transfers;

use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::U256;
use alloy_rpc_types_eth::{
    BlockOverrides, TransactionRequest, simulate::SimulatedBlock, state::StateOverride,
};
use serde::Deserialize;

use crate::{
    context::{Context, Position},
    convert::RpcBlock,
    errors::{Failure, INVALID_PARAMS},
    params::{Args, Argument, BlockParam, from_json},
    simulate::block::Simulator,
};

/// Most blocks of one request, gaps included. As in geth.
const BLOCKS_MAX: u64 = 256;
/// How much later than its parent a block is, in seconds, unless the caller says. As in geth.
const BLOCK_TIME_S: u64 = 12;

/// Numbers or times of the blocks do not ascend; too many blocks.
const NUMBERS_OUT_OF_ORDER: i32 = -38020;
const TIMES_OUT_OF_ORDER: i32 = -38021;
const TOO_MANY: i32 = -38026;

/// What is to be simulated, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request {
    #[serde(default)]
    block_state_calls: Vec<BlockRequest>,
    /// Transfers of ether are shown as logs.
    #[serde(default)]
    trace_transfers: bool,
    /// Nonces and base fees are checked.
    #[serde(default)]
    validation: bool,
    #[serde(default)]
    return_full_transactions: bool,
}

/// A block as it is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockRequest {
    block_overrides: Option<Overrides>,
    state_overrides: Option<StateOverride>,
    calls: Option<Vec<TransactionRequest>>,
}

/// What the caller decides about a block.
#[derive(Clone, Debug, Default, Deserialize)]
struct Overrides {
    #[serde(flatten)]
    block: BlockOverrides,
    withdrawals: Option<Vec<Withdrawal>>,
}

impl Argument for Request {
    fn parse(json: &str) -> Result<Self, String> {
        let request: Self = from_json(json)?;
        for overrides in request.block_state_calls.iter().filter_map(|b| b.state_overrides.as_ref())
        {
            crate::overrides::check(overrides)?;
        }
        Ok(request)
    }
}

/// The parameters: what, and after which block.
pub(crate) fn parse(args: &mut Args<'_>) -> Result<(Request, BlockParam), Failure> {
    Ok((args.required()?, args.or(BlockParam::Latest)?))
}

/// `eth_simulateV1`.
pub(crate) fn simulate(
    context: &Context,
    (request, base): (Request, BlockParam),
) -> Result<Vec<SimulatedBlock<RpcBlock>>, Failure> {
    if request.block_state_calls.is_empty() {
        return Err(Failure::Coded { code: INVALID_PARAMS, message: "empty input".to_owned() });
    }
    let (scratch, parent) = match context.state_position(base)? {
        Position::Canonical(number) => {
            let header = context.chain.header_by_number(number)?;
            let header = header.ok_or_else(|| Failure::server("header not found"))?;
            (context.chain.scratch_at(number)?, header)
        }
        Position::Pending(pending) => {
            let header = &pending.block.header;
            let mut scratch = context.chain.scratch_at(header.number.saturating_sub(1))?;
            scratch.apply((*pending.changes).clone())?;
            scratch.seal(header.number, header.hash());
            (scratch, header.clone())
        }
    };
    let Request { block_state_calls, trace_transfers, validation, return_full_transactions } =
        request;
    let blocks = drafts(block_state_calls, parent.number, parent.timestamp)?;
    let mut simulator = Simulator::new(context, scratch, parent, validation, trace_transfers);
    let simulate = |draft| simulator.block(draft, return_full_transactions);
    blocks.into_iter().map(simulate).collect()
}

/// A block with its number and time.
#[derive(Debug)]
struct Draft {
    number: u64,
    timestamp: u64,
    overrides: Overrides,
    state: Option<StateOverride>,
    calls: Vec<TransactionRequest>,
}

/// The blocks in order, with empty ones in the gaps between their numbers.
fn drafts(
    requests: Vec<BlockRequest>,
    base_number: u64,
    base_timestamp: u64,
) -> Result<Vec<Draft>, Failure> {
    let (mut last, mut time) = (base_number, base_timestamp);
    let mut drafts = Vec::new();
    for request in requests {
        let overrides = request.block_overrides.unwrap_or_default();
        let asked = overrides.block.number.unwrap_or_else(|| U256::from(last) + U256::from(1));
        if asked <= U256::from(last) {
            let message = format!("block numbers must be in order: {asked} <= {last}");
            return Err(Failure::Coded { code: NUMBERS_OUT_OF_ORDER, message });
        }
        if asked - U256::from(base_number) > U256::from(BLOCKS_MAX) {
            let message = "too many blocks".to_owned();
            return Err(Failure::Coded { code: TOO_MANY, message });
        }
        let number: u64 = asked.saturating_to();
        for number in last + 1..number {
            time = time.saturating_add(BLOCK_TIME_S);
            drafts.push(Draft {
                number,
                timestamp: time,
                overrides: Overrides::default(),
                state: None,
                calls: Vec::new(),
            });
        }
        let timestamp = match overrides.block.time {
            Some(timestamp) if timestamp <= time => {
                let message = format!("block timestamps must be in order: {timestamp} <= {time}");
                return Err(Failure::Coded { code: TIMES_OUT_OF_ORDER, message });
            }
            Some(timestamp) => timestamp,
            None => time.saturating_add(BLOCK_TIME_S),
        };
        (last, time) = (number, timestamp);
        let (state, calls) = (request.state_overrides, request.calls.unwrap_or_default());
        drafts.push(Draft { number, timestamp, overrides, state, calls });
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(json: &str) -> Result<Vec<(u64, u64)>, i32> {
        let requests: Vec<BlockRequest> = serde_json::from_str(json).unwrap();
        match drafts(requests, 10, 1_000) {
            Ok(drafts) => Ok(drafts.iter().map(|draft| (draft.number, draft.timestamp)).collect()),
            Err(failure) => Err(failure.code()),
        }
    }

    #[test]
    fn gaps_between_block_numbers_are_filled_with_blocks_every_twelve_seconds() {
        assert_eq!(numbers("[{},{}]"), Ok(vec![(11, 1_012), (12, 1_024)]));
        assert_eq!(
            numbers(r#"[{"blockOverrides":{"number":"0xd","time":"0x500"}},{}]"#),
            Ok(vec![(11, 1_012), (12, 1_024), (13, 0x500), (14, 0x500 + 12)])
        );
    }

    #[test]
    fn numbers_and_times_must_ascend_and_not_go_too_far() {
        let number =
            |number: &str| numbers(&format!(r#"[{{"blockOverrides":{{"number":"{number}"}}}}]"#));
        assert_eq!(number("0xa"), Err(NUMBERS_OUT_OF_ORDER));
        assert_eq!(number("0x10b"), Err(TOO_MANY));
        assert_eq!(number("0x10a").map(|blocks| blocks.len()), Ok(256));
        let huge = format!("0x{}", "f".repeat(64));
        assert_eq!(number(&huge), Err(TOO_MANY));
        assert_eq!(numbers(r#"[{"blockOverrides":{"time":"0x3e8"}}]"#), Err(TIMES_OUT_OF_ORDER));
        // The block that fills the gap is later than the one after it is to be.
        assert_eq!(
            numbers(r#"[{"blockOverrides":{"number":"0xc","time":"0x3f4"}}]"#),
            Err(TIMES_OUT_OF_ORDER)
        );
    }
}

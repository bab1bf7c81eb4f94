//! Steering a development chain: when blocks are made, what time it is, and back again; and in the modules below, what
//! is in its state and on it.

pub(crate) mod chain;
pub(crate) mod dump;
pub(crate) mod state;
pub(crate) mod tokens;

use std::{sync::Arc, time::Duration};

use alloy_primitives::U256;
use heddle_chain::ChainBlock;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    context::Context,
    errors::Failure,
    params::{Args, Argument, Number, from_json},
};

/// What `evm_mine` takes: nothing, a timestamp, or Anvil's and Ganache's object with both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MineOptions {
    timestamp: Option<u64>,
    blocks: Option<u64>,
}

impl MineOptions {
    const fn timestamp(self) -> Option<u64> {
        self.timestamp
    }

    fn blocks(self) -> u64 {
        self.blocks.unwrap_or(1)
    }
}

impl Argument for MineOptions {
    fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Written {
            timestamp: Option<Value>,
            blocks: Option<Value>,
        }
        if !json.starts_with('{') {
            return Ok(Self { timestamp: Some(Number::parse(json)?.0), blocks: None });
        }
        let written: Written = from_json(json)?;
        let number = |value: Option<Value>| {
            let read = value
                .filter(|value| !value.is_null())
                .map(|value| Number::parse(&value.to_string()));
            read.transpose().map(|number| number.map(|number| number.0))
        };
        Ok(Self { timestamp: number(written.timestamp)?, blocks: number(written.blocks)? })
    }
}

/// A time in seconds, possibly a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seconds(Duration);

impl Argument for Seconds {
    fn parse(json: &str) -> Result<Self, String> {
        let seconds = match from_json::<f64>(json) {
            Ok(seconds) => {
                Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?
            }
            Err(_) => Duration::from_secs(Number::parse(json)?.0),
        };
        Ok(Self(seconds))
    }
}

/// `evm_mine`.
pub(crate) async fn mine(
    context: Arc<Context>,
    options: MineOptions,
) -> Result<&'static str, Failure> {
    mine_blocks(&context, options.blocks(), None, options.timestamp()).await?;
    Ok("0x0")
}

/// What `anvil_mine` and `hardhat_mine` take: how many blocks, and how many seconds apart.
pub(crate) fn parse_many(args: &mut Args<'_>) -> Result<(u64, Option<u64>), Failure> {
    let blocks = args.or(Number(1))?;
    let interval: Option<Number> = args.optional()?;
    // Clients that were told no interval say 0.
    Ok((blocks.0, interval.map(|interval| interval.0).filter(|interval| *interval > 0)))
}

/// `anvil_mine`, `hardhat_mine`.
pub(crate) async fn mine_many(
    context: Arc<Context>,
    blocks: u64,
    interval_s: Option<u64>,
) -> Result<(), Failure> {
    mine_blocks(&context, blocks, interval_s, None).await?;
    Ok(())
}

async fn mine_blocks(
    context: &Context,
    blocks: u64,
    interval_s: Option<u64>,
    timestamp: Option<u64>,
) -> Result<Vec<Arc<ChainBlock>>, Failure> {
    let most = context.limits.mined_blocks_max;
    if blocks > most {
        return Err(Failure::Limit(format!(
            "{blocks} blocks are more than the {most} that one call may mine"
        )));
    }
    context.miner.mine(blocks, interval_s, timestamp).await.map_err(Failure::server)
}

/// `evm_snapshot`.
pub(crate) async fn snapshot(context: Arc<Context>) -> Result<U256, Failure> {
    context.miner.snapshot().await.map_err(Failure::server)
}

/// `evm_revert`: whether there was such a snapshot.
pub(crate) async fn revert(context: Arc<Context>, id: U256) -> Result<bool, Failure> {
    context.miner.revert(id).await.map_err(Failure::server)
}

/// `evm_increaseTime`: the whole offset from the system's clock in seconds.
pub(crate) fn increase_time(context: &Context, seconds: Number) -> Result<i64, Failure> {
    let offset = context.miner.increase_time(seconds.0).map_err(Failure::server)?;
    Ok(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// `evm_setNextBlockTimestamp`.
pub(crate) fn set_next_timestamp(context: &Context, timestamp: Number) -> Result<(), Failure> {
    context.miner.set_next_timestamp(timestamp.0).map_err(Failure::server)
}

/// `evm_setTime`: by how many seconds that moved the clock.
pub(crate) fn set_time(context: &Context, timestamp: Number) -> Result<i64, Failure> {
    let moved = context.miner.set_time(timestamp.0).map_err(Failure::server)?;
    Ok(i64::try_from(moved).unwrap_or(i64::MAX))
}

/// `anvil_setNextBlockBaseFeePerGas`.
pub(crate) async fn set_base_fee(context: Arc<Context>, fee: Number) -> Result<(), Failure> {
    context.miner.set_next_base_fee(fee.0).await.map_err(Failure::server)
}

/// `evm_setIntervalMining`: 0 switches it off.
pub(crate) fn set_interval(context: &Context, interval: Seconds) -> Result<(), Failure> {
    let interval = (!interval.0.is_zero()).then_some(interval.0);
    context.miner.set_interval(interval).map_err(Failure::server)
}

/// `hardhat_setBlockTimestampInterval`, which viem's test client calls in the mode of that name, with milliseconds.
pub(crate) fn set_timestamp_interval_ms(context: &Context, ms: Number) -> Result<(), Failure> {
    if !ms.0.is_multiple_of(1_000) {
        return Err(Failure::params(
            "the interval is in milliseconds and must be whole seconds, as block times are",
        ));
    }
    context.miner.set_timestamp_interval(Some(ms.0 / 1_000));
    Ok(())
}

/// `anvil_setMinGasPrice`: what Anvil and Hardhat say from London on, where every development chain is.
pub(crate) fn set_min_gas_price(_: Number) -> Result<(), Failure> {
    Err(Failure::params(
        "anvil_setMinGasPrice is not supported when EIP-1559 is active; set a base fee with anvil_setNextBlockBaseFeePerGas",
    ))
}

/// `anvil_setLoggingEnabled`: whether the node logs what goes as it should.
pub(crate) fn set_logging(context: &Context, enabled: bool) -> Result<(), Failure> {
    let switch = context.log_switch.as_ref();
    switch.ok_or_else(|| Failure::server("this program's log has no switch"))?.set(enabled);
    Ok(())
}

#[cfg(test)]
mod tests;

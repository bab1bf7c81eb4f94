//! Steering a development chain: when blocks are made, what time it is, and back again.

use std::{sync::Arc, time::Duration};

use alloy_primitives::U256;
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
    mine_blocks(&context, options.blocks.unwrap_or(1), None, options.timestamp).await?;
    Ok("0x0")
}

/// What `anvil_mine` and `hardhat_mine` take: how many blocks, and how many seconds apart.
pub(crate) fn parse_many(args: &mut Args<'_>) -> Result<(u64, Option<u64>), Failure> {
    let blocks = args.or(Number(1))?;
    let interval: Option<Number> = args.optional()?;
    Ok((blocks.0, interval.map(|interval| interval.0)))
}

/// `anvil_mine`, `hardhat_mine`.
pub(crate) async fn mine_many(
    context: Arc<Context>,
    blocks: u64,
    interval_s: Option<u64>,
) -> Result<(), Failure> {
    mine_blocks(&context, blocks, interval_s, None).await
}

async fn mine_blocks(
    context: &Context,
    blocks: u64,
    interval_s: Option<u64>,
    timestamp: Option<u64>,
) -> Result<(), Failure> {
    let most = context.limits.mined_blocks_max;
    if blocks > most {
        return Err(Failure::Limit(format!(
            "{blocks} blocks are more than the {most} that one call may mine"
        )));
    }
    context.miner.mine(blocks, interval_s, timestamp).await.map_err(Failure::server)?;
    Ok(())
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

/// `evm_setIntervalMining`: 0 switches it off.
pub(crate) fn set_interval(context: &Context, interval: Seconds) -> Result<(), Failure> {
    let interval = (!interval.0.is_zero()).then_some(interval.0);
    context.miner.set_interval(interval).map_err(Failure::server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evm_mine_takes_a_time_or_an_object() {
        let options = |timestamp, blocks| Ok(MineOptions { timestamp, blocks });
        assert_eq!(MineOptions::parse("1700000000"), options(Some(1_700_000_000), None));
        assert_eq!(MineOptions::parse(r#""0x10""#), options(Some(16), None));
        assert_eq!(MineOptions::parse(r#"{"blocks":5}"#), options(None, Some(5)));
        assert_eq!(
            MineOptions::parse(r#"{"timestamp":"0x10","blocks":null}"#),
            options(Some(16), None)
        );
        assert!(MineOptions::parse(r#"{"blocks":-5}"#).is_err());
        assert!(MineOptions::parse("true").is_err());
    }

    #[test]
    fn intervals_may_be_fractions_of_a_second_but_not_negative() {
        assert_eq!(Seconds::parse("1"), Ok(Seconds(Duration::from_secs(1))));
        assert_eq!(Seconds::parse("0.25"), Ok(Seconds(Duration::from_millis(250))));
        assert_eq!(Seconds::parse(r#""0x2""#), Ok(Seconds(Duration::from_secs(2))));
        for wrong in ["-1", "1e300", "[]", r#""soon""#] {
            assert!(Seconds::parse(wrong).is_err(), "{wrong}");
        }
    }
}

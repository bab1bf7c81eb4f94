//! What gas costs, cost, and will cost.

use std::collections::VecDeque;

use alloy_consensus::{Header, Transaction as _};
use alloy_primitives::{B256, U256};
use alloy_rpc_types_eth::FeeHistory;
use heddle_chain::ChainBlock;
use parking_lot::Mutex;

use crate::{context::Context, errors::Failure, fork, params::BlockParam};

/// How many blocks the suggested tip is taken from, as in geth.
const SAMPLED_BLOCKS: u64 = 20;
/// How many of the lowest tips of each block count, as in geth.
const TIPS_PER_BLOCK: usize = 3;
/// Which of the sampled tips is suggested, in percent of their number, as in geth.
const SUGGESTED_PERCENTILE: usize = 60;
/// Tips below this many wei are ignored: whoever mines a block can include its own for nothing. As in geth.
const TIP_IGNORED_BELOW: u128 = 2;
/// What is suggested while no block has transactions: 1 gwei, as in geth.
const TIP_DEFAULT: u128 = 1_000_000_000;
/// The most that is ever suggested: 500 gwei, as in geth.
const TIP_MAX: u128 = 500_000_000_000;

/// The lowest tips of recent blocks, by block hash, so that each block is looked at once.
#[derive(Debug, Default)]
pub(crate) struct TipOracle(Mutex<VecDeque<(B256, Vec<u128>)>>);

impl TipOracle {
    /// The tip that should get a transaction into one of the next blocks, in wei per gas.
    pub(crate) fn suggestion(&self, context: &Context) -> Result<u128, Failure> {
        let head = context.chain.head().number();
        let mut tips = Vec::new();
        for number in head.saturating_sub(SAMPLED_BLOCKS - 1)..=head {
            let Some(hash) = context.chain.hash_by_number(number)? else { continue };
            let known = self
                .0
                .lock()
                .iter()
                .find(|(known, _)| *known == hash)
                .map(|(_, tips)| tips.clone());
            if let Some(known) = known {
                tips.extend(known);
                continue;
            }
            let Some(block) = context.chain.block_by_number(number)? else { continue };
            let lowest = lowest_tips(&block);
            tips.extend(&lowest);
            let mut samples = self.0.lock();
            samples.push_back((hash, lowest));
            while samples.len() as u64 > 2 * SAMPLED_BLOCKS {
                samples.pop_front();
            }
        }
        Ok(suggest(tips))
    }
}

fn lowest_tips(block: &ChainBlock) -> Vec<u128> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut tips: Vec<u128> = block
        .transactions
        .iter()
        .filter(|tx| tx.signer() != block.header.beneficiary)
        .filter_map(|tx| tx.effective_tip_per_gas(base_fee))
        .filter(|tip| *tip >= TIP_IGNORED_BELOW)
        .collect();
    tips.sort_unstable();
    tips.truncate(TIPS_PER_BLOCK);
    tips
}

fn suggest(mut tips: Vec<u128>) -> u128 {
    if tips.is_empty() {
        return TIP_DEFAULT;
    }
    tips.sort_unstable();
    tips[(tips.len() - 1) * SUGGESTED_PERCENTILE / 100].min(TIP_MAX)
}

/// `eth_gasPrice`: the suggested tip on top of the base fee of the next block, which is the one that a transaction sent
/// now has to pay (geth adds the head's).
pub(crate) fn gas_price(context: &Context) -> Result<U256, Failure> {
    let tip = context.tips.suggestion(context)?;
    Ok(U256::from(tip) + U256::from(context.miner.next_base_fee()))
}

/// The fee cap of a transaction with this tip whose sender names none: room for the base fee to double, as in geth.
pub(crate) fn default_fee_cap(context: &Context, tip: u128) -> u128 {
    tip.saturating_add(2 * u128::from(context.miner.next_base_fee()))
}

/// `eth_blobBaseFee`: the price in the newest block, as in geth; zero before Cancun.
pub(crate) fn blob_base_fee(context: &Context) -> U256 {
    U256::from(context.chain.spec().blob_base_fee(&context.chain.head().header).unwrap_or_default())
}

/// `eth_feeHistory`.
pub(crate) fn history(
    context: &Context,
    blocks: u64,
    newest: BlockParam,
    percentiles: Option<&[f64]>,
) -> Result<FeeHistory, Failure> {
    let limits = &context.limits;
    check_percentiles(percentiles.unwrap_or_default(), limits.fee_history_percentiles_max)?;
    if blocks == 0 {
        return Ok(FeeHistory::default());
    }
    let newest = match (newest, context.chain.head().number()) {
        (BlockParam::Number(requested), head) if requested > head => {
            return Err(Failure::server(format!(
                "request beyond head block: requested {requested}, head {head}"
            )));
        }
        (newest, _) => context.known_number(newest)?,
    };
    let blocks = blocks.min(limits.fee_history_blocks_max).min(newest + 1);
    let oldest = newest + 1 - blocks;
    let forked = context.chain.forked();
    if let Some(remote) = forked.filter(|remote| oldest <= remote.number()) {
        let last = newest.min(remote.number());
        let earlier = fork::fee_history(&remote, last + 1 - oldest, last, percentiles)?;
        if newest == last {
            return Ok(earlier);
        }
        return Ok(fork::joined(earlier, own_history(context, last + 1, newest, percentiles)?));
    }
    own_history(context, oldest, newest, percentiles)
}

/// The fees of the blocks `oldest..=newest`, which are all here.
fn own_history(
    context: &Context,
    oldest: u64,
    newest: u64,
    percentiles: Option<&[f64]>,
) -> Result<FeeHistory, Failure> {
    let spec = context.chain.spec();
    let mut history = FeeHistory { oldest_block: oldest, ..Default::default() };
    let mut rewards = Vec::new();
    let mut last: Option<Header> = None;
    for number in oldest..=newest {
        let missing = || Failure::server(format!("block {number} has left the chain; ask again"));
        let header = match percentiles {
            Some(percentiles) if !percentiles.is_empty() => {
                let block = context.chain.block_by_number(number)?.ok_or_else(missing)?;
                rewards.push(block_rewards(&block, percentiles));
                block.header.inner().clone()
            }
            _ => context.chain.header_by_number(number)?.ok_or_else(missing)?.into_inner(),
        };
        history.base_fee_per_gas.push(header.base_fee_per_gas.unwrap_or_default().into());
        history.gas_used_ratio.push(ratio(header.gas_used, header.gas_limit));
        history.base_fee_per_blob_gas.push(spec.blob_base_fee(&header).unwrap_or_default());
        let blob_gas_max = spec
            .blob_params_at(header.timestamp)
            .map_or(0, |params| params.max_blob_gas_per_block());
        history
            .blob_gas_used_ratio
            .push(ratio(header.blob_gas_used.unwrap_or_default(), blob_gas_max));
        last = Some(header);
    }
    if let Some(last) = last {
        history.base_fee_per_gas.push(spec.next_base_fee(&last).unwrap_or_default().into());
        // The time of the next block is not known; geth too takes the parameters in force at the last one.
        let excess = spec.next_excess_blob_gas(&last, last.timestamp);
        let params = spec.blob_params_at(last.timestamp);
        let next = excess.zip(params).map_or(0, |(excess, params)| params.calc_blob_fee(excess));
        history.base_fee_per_blob_gas.push(next);
    }
    history.reward = (!rewards.is_empty()).then_some(rewards);
    Ok(history)
}

fn check_percentiles(percentiles: &[f64], most: usize) -> Result<(), Failure> {
    if percentiles.len() > most {
        return Err(Failure::server(format!(
            "invalid reward percentile: over the query limit {most}"
        )));
    }
    for (index, percentile) in percentiles.iter().enumerate() {
        if !(0.0..=100.0).contains(percentile) {
            return Err(Failure::server(format!("invalid reward percentile: {percentile:.6}")));
        }
        if let Some(before) = index.checked_sub(1)
            && *percentile <= percentiles[before]
        {
            return Err(Failure::server(format!(
                "invalid reward percentile: #{before}:{:.6} >= #{index}:{percentile:.6}",
                percentiles[before]
            )));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people; gas is far below 2^53")]
fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 { 0.0 } else { used as f64 / limit as f64 }
}

/// The tips at these percentiles of the block's gas, when its transactions are ordered by tip.
fn block_rewards(block: &ChainBlock, percentiles: &[f64]) -> Vec<u128> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let mut gas_before = 0;
    let pairs = block.transactions.iter().zip(&block.receipts).map(|(transaction, receipt)| {
        let cumulative = receipt.cumulative_gas_used();
        let gas = cumulative.saturating_sub(gas_before);
        gas_before = cumulative;
        (transaction.effective_tip_per_gas(base_fee).unwrap_or_default(), gas)
    });
    rewards_at(pairs.collect(), block.header.gas_used, percentiles)
}

/// `spent` are tip and gas of each transaction; `percentiles` ascend.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "geth's formula; gas is far below 2^53 and percentiles are within 0..=100"
)]
fn rewards_at(mut spent: Vec<(u128, u64)>, gas_used: u64, percentiles: &[f64]) -> Vec<u128> {
    if spent.is_empty() {
        return vec![0; percentiles.len()];
    }
    spent.sort_by_key(|(tip, _)| *tip);
    let mut index = 0;
    let mut sum = spent[0].1;
    percentiles
        .iter()
        .map(|percentile| {
            let threshold = (gas_used as f64 * percentile / 100.0) as u64;
            while sum < threshold && index + 1 < spent.len() {
                index += 1;
                sum += spent[index].1;
            }
            spent[index].0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_weighted_by_gas_and_ordered_by_tip() {
        let spent = vec![(30, 50_000), (10, 20_000), (20, 30_000)];
        let rewards = rewards_at(spent, 100_000, &[0.0, 19.0, 20.0, 21.0, 50.0, 51.0, 100.0]);
        assert_eq!(rewards, [10, 10, 10, 20, 20, 30, 30]);
        assert_eq!(rewards_at(Vec::new(), 0, &[10.0, 90.0]), [0, 0]);
    }

    #[test]
    fn percentiles_must_ascend_within_0_and_100_and_be_few() {
        let check = |percentiles: &[f64]| {
            check_percentiles(percentiles, 3).map_err(|failure| failure.to_string())
        };
        assert_eq!(check(&[0.0, 50.0, 100.0]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[-1.0]), Err("invalid reward percentile: -1.000000".into()));
        assert_eq!(check(&[101.0]), Err("invalid reward percentile: 101.000000".into()));
        assert_eq!(
            check(&[50.0, 10.0]),
            Err("invalid reward percentile: #0:50.000000 >= #1:10.000000".into())
        );
        assert!(check(&[f64::NAN]).is_err());
        assert_eq!(
            check(&[1.0, 2.0, 3.0, 4.0]),
            Err("invalid reward percentile: over the query limit 3".into())
        );
    }

    #[test]
    fn the_suggested_tip_is_the_60th_percentile_of_the_sample() {
        assert_eq!(suggest(Vec::new()), TIP_DEFAULT);
        assert_eq!(suggest(vec![5, 1, 3]), 3);
        assert_eq!(suggest((1..=100).collect()), 60);
        assert_eq!(suggest(vec![u128::MAX]), TIP_MAX);
    }

    #[test]
    fn a_ratio_of_nothing_is_nothing() {
        assert_eq!(ratio(0, 0), 0.0);
        assert_eq!(ratio(15, 30), 0.5);
    }
}

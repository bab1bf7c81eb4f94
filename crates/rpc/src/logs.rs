//! Log queries: which blocks, which logs, and no more than the limits allow.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bloom, BloomInput, map::HashSet};
use alloy_rpc_types_eth::Log;
use heddle_chain::ChainBlock;
use heddle_remote::RemoteState;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    context::Context,
    convert,
    errors::Failure,
    fork,
    params::{Argument, BlockParam, from_json},
};

/// The topics of a log: at most this many.
const TOPICS_MAX: usize = 4;
/// Addresses in one filter, as in geth.
const ADDRESSES_MAX: usize = 1_000;
/// Alternatives for one topic, as in geth.
const TOPIC_ALTERNATIVES_MAX: usize = 1_000;

/// Which blocks a query is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogBlocks {
    Range { from: Option<BlockParam>, to: Option<BlockParam> },
    One(B256),
}

/// Which logs a query is about. An empty set lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogMatcher {
    addresses: HashSet<Address>,
    topics: Vec<HashSet<B256>>,
}

/// A log query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogQuery {
    pub(crate) blocks: LogBlocks,
    pub(crate) matcher: LogMatcher,
}

impl LogMatcher {
    pub(crate) fn matches(&self, log: &alloy_primitives::Log) -> bool {
        let topics = log.topics();
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.len() <= topics.len()
            && self
                .topics
                .iter()
                .zip(topics)
                .all(|(wanted, topic)| wanted.is_empty() || wanted.contains(topic))
    }

    /// Whether a block with this bloom can have logs that match. Never wrong when it says no.
    pub(crate) fn may_match(&self, bloom: &Bloom) -> bool {
        let has = |bytes: &[u8]| bloom.contains_input(BloomInput::Raw(bytes));
        (self.addresses.is_empty() || self.addresses.iter().any(|address| has(address.as_slice())))
            && self
                .topics
                .iter()
                .all(|wanted| wanted.is_empty() || wanted.iter().any(|topic| has(topic.as_slice())))
    }

    /// As a query has it, but for the blocks.
    pub(crate) fn to_json(&self) -> Value {
        let any_of = |wanted: &HashSet<B256>| (!wanted.is_empty()).then(|| wanted.clone());
        let topics: Vec<_> = self.topics.iter().map(any_of).collect();
        let mut json = json!({ "topics": topics });
        if !self.addresses.is_empty() {
            json["address"] = json!(self.addresses);
        }
        json
    }

    /// The blocks of `from..=to` that can have logs that match: those that the index names, or if everything matches
    /// those with any logs.
    fn blocks(&self, context: &Context, from: u64, to: u64) -> Result<Vec<u64>, Failure> {
        if !self.addresses.is_empty() || self.topics.iter().any(|wanted| !wanted.is_empty()) {
            let addresses: Vec<_> = self.addresses.iter().copied().collect();
            let topics: Vec<Vec<_>> =
                self.topics.iter().map(|wanted| wanted.iter().copied().collect()).collect();
            return Ok(context.chain.blocks_with_logs(from, to, &addresses, &topics)?);
        }
        // Bloom filters are in the headers, which are always kept.
        context.chain.check_logs_kept(from)?;
        let mut blocks = Vec::new();
        for number in from..=to {
            match context.chain.header_by_number(number)? {
                Some(header) if header.logs_bloom.is_zero() => {}
                Some(_) => blocks.push(number),
                None => break,
            }
        }
        Ok(blocks)
    }

    /// The matching logs of a block.
    pub(crate) fn in_block(&self, block: &ChainBlock, removed: bool) -> Vec<Log> {
        let mut found = Vec::new();
        if self.may_match(&block.header.logs_bloom) {
            convert::for_each_log(block, removed, |log| self.matches(log), |log| found.push(log));
        }
        found
    }
}

/// One value, null, or a list of values that may be null.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<Option<String>>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    block_hash: Option<String>,
    from_block: Option<String>,
    to_block: Option<String>,
    address: Option<OneOrMany>,
    topics: Option<Vec<Option<OneOrMany>>>,
}

fn hex_value<T: Argument>(text: &str) -> Result<T, String> {
    T::parse(&serde_json::Value::from(text).to_string())
}

/// The set of alternatives; a null among them makes it match anything.
fn alternatives<T: Argument + Eq + std::hash::Hash>(
    values: OneOrMany,
    most: usize,
    what: &str,
) -> Result<HashSet<T>, String> {
    match values {
        OneOrMany::One(value) => Ok(HashSet::from_iter([hex_value(&value)?])),
        OneOrMany::Many(values) if values.len() > most => Err(format!("exceed max {what}")),
        OneOrMany::Many(values) if values.iter().any(Option::is_none) => Ok(HashSet::default()),
        OneOrMany::Many(values) => values.iter().flatten().map(|value| hex_value(value)).collect(),
    }
}

impl Argument for LogQuery {
    fn parse(json: &str) -> Result<Self, String> {
        let written: Written = from_json(json)?;
        let block = |text: Option<String>| text.map(|text| BlockParam::read(&text)).transpose();
        let blocks = match (written.block_hash, written.from_block, written.to_block) {
            (Some(_), from, to) if from.is_some() || to.is_some() => {
                return Err(
                    "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"
                        .to_owned(),
                );
            }
            (Some(hash), ..) => LogBlocks::One(hex_value(&hash)?),
            (None, from, to) => LogBlocks::Range { from: block(from)?, to: block(to)? },
        };
        let addresses = written
            .address
            .map(|values| alternatives(values, ADDRESSES_MAX, "addresses"))
            .transpose()?
            .unwrap_or_default();
        let topics = written.topics.unwrap_or_default();
        if topics.len() > TOPICS_MAX {
            return Err("exceed max topics".to_owned());
        }
        let topics: Result<Vec<HashSet<B256>>, String> = topics
            .into_iter()
            .map(|values| match values {
                Some(values) => alternatives(values, TOPIC_ALTERNATIVES_MAX, "topics"),
                None => Ok(HashSet::default()),
            })
            .collect();
        Ok(Self { blocks, matcher: LogMatcher { addresses, topics: topics? } })
    }
}

/// The logs that the query asks for.
pub(crate) fn query(context: &Context, query: &LogQuery) -> Result<Vec<Log>, Failure> {
    match query.blocks {
        LogBlocks::One(hash) => {
            let forked = context.chain.forked();
            // Of the forked block only the header is here.
            let is_here = |block: &Arc<ChainBlock>| {
                forked.as_ref().is_none_or(|remote| block.number() > remote.number())
            };
            if let Some(block) = context.chain.block_by_hash(hash)?.filter(is_here) {
                return Ok(query.matcher.in_block(&block, false));
            }
            let elsewhere = match &forked {
                Some(remote) => fork::logs_of(remote, &query.matcher, hash)?,
                None => None,
            };
            elsewhere.ok_or_else(|| Failure::server("unknown block"))
        }
        LogBlocks::Range { from, to } => {
            let head = context.chain.head().number();
            let number = |block: Option<BlockParam>| match block {
                None => Ok(head),
                // Beyond the head it still has to be told from a reversed range.
                Some(BlockParam::Number(number)) => Ok(number),
                Some(block) => context.known_number(block),
            };
            let (from, to) = (number(from)?, number(to)?);
            if from > to {
                return Err(Failure::params("invalid block range params"));
            }
            if to > head {
                return Err(Failure::params("block range extends beyond current head block"));
            }
            match context.chain.forked().filter(|remote| from <= remote.number()) {
                Some(remote) => across(context, &remote, &query.matcher, from, to),
                None => in_range(context, &query.matcher, from, to),
            }
        }
    }
}

/// The matching logs of blocks of which the first are another node's.
fn across(
    context: &Context,
    remote: &RemoteState,
    matcher: &LogMatcher,
    from: u64,
    to: u64,
) -> Result<Vec<Log>, Failure> {
    let limits = &context.limits;
    check_range(context, from, to)?;
    let mut found = fork::logs(remote, matcher, (from, to.min(remote.number())))?;
    if to > remote.number() {
        found.extend(in_range(context, matcher, remote.number() + 1, to)?);
    }
    if from < to && found.len() > limits.logs_max {
        return Err(Failure::Limit(format!(
            "query exceeds max results {}, retry with a smaller range than {from}-{to}",
            limits.logs_max
        )));
    }
    Ok(found)
}

fn check_range(context: &Context, from: u64, to: u64) -> Result<(), Failure> {
    match context.limits.logs_blocks_max {
        max if to - from >= max => Err(Failure::Limit(format!(
            "query exceeds max block range {max}: it spans {} blocks",
            (to - from).saturating_add(1),
        ))),
        _ => Ok(()),
    }
}

/// The matching logs of the blocks `from..=to`, all of which exist.
pub(crate) fn in_range(
    context: &Context,
    matcher: &LogMatcher,
    from: u64,
    to: u64,
) -> Result<Vec<Log>, Failure> {
    let limits = &context.limits;
    check_range(context, from, to)?;
    let mut found = Vec::new();
    for number in matcher.blocks(context, from, to)? {
        let Some(block) = context.chain.block_by_number(number)? else { break };
        convert::for_each_log(
            &block,
            false,
            |log| matcher.matches(log),
            |log| {
                if from == to || found.len() <= limits.logs_max {
                    found.push(log);
                }
            },
        );
        // One block alone may exceed the limit: there would be no smaller range to ask for.
        if from < to && found.len() > limits.logs_max {
            return Err(Failure::Limit(format!(
                "query exceeds max results {}, retry with the range {from}-{}",
                limits.logs_max,
                number.saturating_sub(1).max(from),
            )));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

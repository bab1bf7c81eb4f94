//! The chain of a development node as a whole: blocks taken back, transactions dropped, and what the node is.

use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::TransactionRequest;
use heddle_evm::{RecoveredTransaction, Transaction};
use heddle_remote::{Fork, ForkBlock, ForkOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ForkDefaults, accounts,
    context::Context,
    convert::{self, RpcBlock},
    dev::MineOptions,
    errors::Failure,
    fees,
    params::{Args, Argument, Number, from_json},
};

/// `anvil_dropTransaction`: its hash, null if it was not there.
pub(crate) fn drop_transaction(context: &Context, hash: B256) -> Option<B256> {
    context.pool.remove(&hash).map(|_| hash)
}

/// `anvil_dropAllTransactions`.
pub(crate) fn drop_all(context: &Context) {
    context.pool.clear();
}

/// `anvil_removePoolTransactions`: those of one sender.
pub(crate) fn remove_of_sender(context: &Context, sender: Address) {
    context.pool.remove_sender(sender);
}

/// What `anvil_reset` may be told: a node to fork, and which of its blocks.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ResetOptions {
    forking: Option<Forking>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Forking {
    json_rpc_url: Option<String>,
    block_number: Option<Value>,
}

impl Argument for ResetOptions {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// `anvil_reset`: back to genesis; or to a block of another node, if there is one named or this chain is a fork.
pub(crate) async fn reset(context: Arc<Context>, options: ResetOptions) -> Result<(), Failure> {
    let Some(Forking { json_rpc_url, block_number }) = options.forking else {
        return context.miner.reset().await.map_err(Failure::server);
    };
    let present = context.chain.forked().map(|remote| remote.node().url());
    let number = block_number.filter(|number| !number.is_null());
    let url = match json_rpc_url.or(present) {
        Some(url) => url,
        // Clients that were told nothing say so with nulls.
        None if number.is_none() => return context.miner.reset().await.map_err(Failure::server),
        None => {
            return Err(Failure::params("forking.jsonRpcUrl is missing; this chain is no fork"));
        }
    };
    let number =
        number.map(|number| Number::parse(&number.to_string()).map_err(Failure::InvalidParams));
    let block = match number.transpose()? {
        Some(number) => ForkBlock::Number(number.0),
        None => ForkBlock::Latest,
    };
    let ForkDefaults { patience, cache } = context.fork.clone();
    let fork = Fork::open(ForkOptions { url, block, chain_id: None, patience, cache }).await?;
    let (other, own) = (fork.state.chain_id(), context.chain.chain_id());
    let before = context.chain.forked().map(|remote| remote.chain_id());
    // One that was started with another id than its fork's keeps it.
    if other != before.unwrap_or(own) {
        return Err(Failure::server(format!(
            "{} has chain {other}, and this node has the id and the rules of chain {}: start it with --fork-url",
            fork.state.node().name(),
            before.unwrap_or(own),
        )));
    }
    context.miner.fork(fork).await.map_err(Failure::server)
}

/// `anvil_setRpcUrl`: where the forked node is from now on.
pub(crate) fn set_rpc_url(context: &Context, url: &str) -> Result<(), Failure> {
    let remote = context.chain.forked().ok_or_else(|| Failure::server("this chain is no fork"))?;
    Ok(remote.node().set_url(url)?)
}

/// `anvil_rollback`: takes the last blocks off the chain.
pub(crate) async fn rollback(context: Arc<Context>, depth: Number) -> Result<(), Failure> {
    context.miner.rollback(depth.0).await.map_err(Failure::server)
}

/// A transaction for a new block: encoded and signed, or to be signed here.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    Raw(Bytes),
    Request(Box<TransactionRequest>),
}

/// What `anvil_reorg` is told: how many blocks to replace, and which transactions the new ones hold, each with its
/// block's place among them.
#[derive(Clone, Debug)]
pub(crate) struct ReorgOptions {
    depth: u64,
    transactions: Vec<(Given, u64)>,
}

/// A pair of these as JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
struct Pairs(Vec<(Given, u64)>);

impl Argument for Pairs {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// The options as one object.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    depth: u64,
    #[serde(alias = "tx_block_pairs")]
    tx_block_pairs: Vec<(Given, u64)>,
}

impl Argument for Object {
    fn parse(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// A depth, or all of it.
#[derive(Clone, Debug)]
enum First {
    Depth(u64),
    All(Object),
}

impl Argument for First {
    fn parse(json: &str) -> Result<Self, String> {
        if json.starts_with('{') {
            return Object::parse(json).map(Self::All);
        }
        Number::parse(json).map(|depth| Self::Depth(depth.0))
    }
}

impl ReorgOptions {
    /// From two arguments, as Anvil's clients send them, or from an object.
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        let options = match args.required::<First>()? {
            First::All(all) => Self { depth: all.depth, transactions: all.tx_block_pairs },
            First::Depth(depth) => Self { depth, transactions: args.or(Pairs(Vec::new()))?.0 },
        };
        match options.transactions.iter().find(|(_, place)| *place >= options.depth) {
            Some((_, place)) => Err(Failure::params(format!(
                "block {place} is not among the {} that are replaced",
                options.depth
            ))),
            None => Ok(options),
        }
    }
}

/// `anvil_reorg`.
pub(crate) async fn reorg(context: Arc<Context>, options: ReorgOptions) -> Result<(), Failure> {
    let most = context.limits.mined_blocks_max.min(context.chain.head().number());
    if options.depth > most {
        return Err(Failure::server(format!(
            "{} blocks are more than the {most} that can be replaced",
            options.depth
        )));
    }
    let signer = context.clone();
    let blocks = context.compute(move || new_blocks(&signer, options)).await?;
    context.miner.reorganise(blocks).await.map_err(Failure::server)?;
    Ok(())
}

fn new_blocks(
    context: &Context,
    options: ReorgOptions,
) -> Result<Vec<Vec<RecoveredTransaction>>, Failure> {
    let places = usize::try_from(options.depth).map_err(Failure::params)?;
    let mut blocks = vec![Vec::new(); places];
    for (given, place) in options.transactions {
        let transaction = match given {
            Given::Raw(raw) => Transaction::decode_2718_exact(&raw)
                .map_err(Failure::server)?
                .try_into_recovered()
                .map_err(|_| Failure::server("invalid sender"))?,
            Given::Request(request) => accounts::signed(context, *request)?,
        };
        let block = usize::try_from(place).ok().and_then(|place| blocks.get_mut(place));
        block.ok_or_else(|| Failure::params("no such block"))?.push(transaction);
    }
    Ok(blocks)
}

/// `evm_mine_detailed`: mines, and shows the blocks.
pub(crate) async fn mine_detailed(
    context: Arc<Context>,
    options: MineOptions,
) -> Result<Vec<RpcBlock>, Failure> {
    let blocks = super::mine_blocks(&context, options.blocks(), None, options.timestamp()).await?;
    Ok(blocks.iter().map(|block| convert::block(block, true)).collect())
}

/// `anvil_nodeInfo`.
pub(crate) fn node_info(context: &Context) -> Result<Value, Failure> {
    let head = context.chain.head();
    let spec = context.chain.spec();
    let fork = spec.fork_at(head.number(), head.header.timestamp);
    Ok(json!({
        "currentBlockNumber": U64::from(head.number()),
        "currentBlockTimestamp": head.header.timestamp,
        "currentBlockHash": head.hash(),
        "hardFork": format!("{fork:?}"),
        "transactionOrder": "fees",
        "environment": {
            "baseFee": U256::from(context.miner.next_base_fee()),
            "chainId": context.chain.chain_id(),
            "gasLimit": U256::from(context.miner.gas_limit()),
            "gasPrice": fees::gas_price(context)?,
        },
        "forkConfig": fork_config(context),
        "network": null,
    }))
}

fn fork_config(context: &Context) -> Value {
    let Some(remote) = context.chain.forked() else {
        return json!({ "forkUrl": null, "forkBlockNumber": null, "forkRetryBackoff": null });
    };
    json!({
        "forkUrl": remote.node().url(),
        "forkBlockNumber": remote.number(),
        "forkRetryBackoff": remote.node().patience().first_pause.as_millis() as u64,
    })
}

/// `anvil_getGenesisTime`, in seconds since 1970.
pub(crate) fn genesis_time(context: &Context) -> Result<u64, Failure> {
    let genesis = context.chain.header_by_number(0)?;
    Ok(genesis.ok_or_else(|| Failure::server("block 0 is not here"))?.timestamp)
}

/// `anvil_metadata`.
pub(crate) async fn metadata(context: Arc<Context>) -> Result<Value, Failure> {
    let snapshots = context.miner.snapshots().await.map_err(Failure::server)?;
    let head = context.chain.head();
    let snapshots: serde_json::Map<String, Value> = snapshots
        .into_iter()
        .map(|(id, number, hash)| (format!("{id:#x}"), json!([number, hash])))
        .collect();
    let mut metadata = json!({
        "clientVersion": context.client_version,
        "chainId": context.chain.chain_id(),
        "instanceId": context.instance,
        "latestBlockNumber": head.number(),
        "latestBlockHash": head.hash(),
        "snapshots": snapshots,
    });
    if let Some(remote) = context.chain.forked() {
        metadata["forkedNetwork"] = json!({
            "chainId": remote.chain_id(),
            "forkBlockNumber": remote.number(),
            "forkBlockHash": remote.hash(),
        });
    }
    Ok(metadata)
}

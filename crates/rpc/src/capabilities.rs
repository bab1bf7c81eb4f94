//! What the node and its chain are: `eth_config` and `eth_capabilities`.

use std::collections::BTreeMap;

use alloy_eips::{
    eip2935, eip4788, eip7002, eip7251,
    eip7910::{EthConfig, EthForkConfig, SystemContract},
};
use alloy_primitives::{Address, U64, U256};
use heddle_chainspec::{EthExecutorSpec, EthereumHardforks};
use revm::precompile::{PrecompileSpecId, Precompiles};
use serde_json::{Value, json};

use crate::{context::Context, errors::Failure};

/// `eth_config` (EIP-7910): the present, the next and the last known rules, from Cancun on.
pub(crate) fn config(context: &Context) -> Result<EthConfig, Failure> {
    let spec = context.chain.spec();
    let now = context.chain.head().header.timestamp;
    let times = activation_times(context)?;
    let is_ahead = |time: &&u64| **time > now;
    let current = times.iter().rev().find(|time| !is_ahead(time)).copied();
    let current = current.filter(|time| spec.is_cancun_active_at_timestamp(*time));
    let current = current.ok_or_else(|| {
        Failure::server("the newest block is from before Cancun, and the configuration of such forks is not defined")
    })?;
    let next = times.iter().find(is_ahead).copied();
    let last = next.and(times.last().copied());
    let of = |time| fork_config(context, time);
    Ok(EthConfig {
        current: of(current)?,
        next: next.map(of).transpose()?,
        last: last.map(of).transpose()?,
    })
}

/// When the rules change by time, genesis included, in order.
fn activation_times(context: &Context) -> Result<Vec<u64>, Failure> {
    let genesis = genesis_time(context)?;
    let mut times = context.chain.spec().fork_times();
    times.insert(0, genesis);
    Ok(times)
}

fn genesis_time(context: &Context) -> Result<u64, Failure> {
    if context.chain.is_fork() {
        // The other node's; all that counts here is that it lies before everything.
        return Ok(0);
    }
    let genesis = context.chain.header_by_number(0)?;
    // A chain that was loaded may begin later; its rules are this node's, and so is their genesis then. Its head may be
    // older than that, and has the first rules all the same.
    let of_the_rules = || {
        let head = context.chain.head().header.timestamp;
        context.chain.spec().genesis_timestamp().min(head)
    };
    Ok(genesis.map_or_else(of_the_rules, |genesis| genesis.timestamp))
}

fn fork_config(context: &Context, time: u64) -> Result<EthForkConfig, Failure> {
    let chain = &context.chain;
    let spec = chain.spec();
    let genesis = genesis_time(context)?;
    // Every fork by number is behind.
    let number = u64::MAX;
    let rules = PrecompileSpecId::from_spec_id(spec.spec_id_at(number, time));
    let precompiles = Precompiles::new(rules).inner().iter();
    let named =
        precompiles.map(|(address, precompile)| (precompile.id().name().to_owned(), *address));
    let blob_schedule = spec.blob_params_at(time).ok_or_else(|| {
        Failure::server("the configuration of forks before Cancun is not defined")
    })?;
    Ok(EthForkConfig {
        activation_time: if time <= genesis { 0 } else { time },
        blob_schedule,
        chain_id: chain.chain_id(),
        fork_id: spec.fork_id(chain.genesis_hash(), number, time).hash.0.into(),
        precompiles: named.collect(),
        system_contracts: system_contracts(context, time),
    })
}

fn system_contracts(context: &Context, time: u64) -> BTreeMap<SystemContract, Address> {
    let spec = context.chain.spec();
    let mut contracts = BTreeMap::new();
    if spec.is_cancun_active_at_timestamp(time) {
        contracts.insert(SystemContract::BeaconRoots, eip4788::BEACON_ROOTS_ADDRESS);
    }
    if spec.is_prague_active_at_timestamp(time) {
        contracts.extend([
            (SystemContract::HistoryStorage, eip2935::HISTORY_STORAGE_ADDRESS),
            (
                SystemContract::WithdrawalRequestPredeploy,
                eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            ),
            (
                SystemContract::ConsolidationRequestPredeploy,
                eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            ),
        ]);
        if let Some(address) = spec.deposit_contract_address() {
            contracts.insert(SystemContract::DepositContract, address);
        }
    }
    contracts
}

/// `eth_capabilities`: which blocks can be asked about. Everything is kept unless it is pruned, except that the nodes of
/// older states' tries, and with them proofs, can only be made so far back; a chain that was loaded from a dump begins
/// there.
pub(crate) fn capabilities(context: &Context) -> Result<Value, Failure> {
    let head = context.chain.head();
    let store = context.chain.store();
    let from = |number| json!({ "disabled": false, "oldestBlock": U64::from(number) });
    let (kept, distances) = (store.kept(), store.prune_distances());
    let pruned = |first: u64, distance: Option<u64>| {
        let mut what = from(first);
        if let Some(distance) = distance {
            what["deleteStrategy"] =
                json!({ "type": "window", "retentionBlocks": U64::from(distance) });
        }
        what
    };
    if context.chain.is_fork() {
        // The other node answers about what comes before the fork, and only that has a trie.
        return Ok(json!({
            "head": { "number": U256::from(head.number()), "hash": head.hash() },
            "state": from(0),
            "tx": from(0),
            "logs": from(0),
            "receipts": from(0),
            "blocks": from(0),
            "stateproofs": { "disabled": true },
        }));
    }
    let first_block = store.first_block().map_err(Failure::server)?;
    // A block is given whole or not at all, which takes its receipts.
    let both = [distances.bodies, distances.receipts].into_iter().flatten().min();
    let bodies = pruned(first_block.max(kept.bodies).max(kept.receipts), both);
    let receipts = pruned(first_block.max(kept.receipts), distances.receipts);
    let first_state = store.first_state().max(kept.state);
    let reorg_depth = store.reorg_depth();
    let oldest_proof = head.number().saturating_sub(reorg_depth).max(first_state);
    Ok(json!({
        "head": { "number": U256::from(head.number()), "hash": head.hash() },
        "state": pruned(first_state, distances.state),
        "tx": bodies,
        "logs": receipts,
        "receipts": receipts,
        "blocks": bodies,
        "stateproofs": {
            "disabled": false,
            "oldestBlock": U64::from(oldest_proof),
            "deleteStrategy": { "type": "window", "retentionBlocks": U64::from(reorg_depth) },
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RpcLimits, context::testing::dev_context};

    #[tokio::test]
    async fn the_development_chain_has_its_last_rules_from_genesis_on() {
        let context = dev_context(RpcLimits::default());
        let config = serde_json::to_value(config(&context).unwrap()).unwrap();
        let current = &config["current"];
        assert_eq!((&config["next"], &config["last"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&current["activationTime"], &current["chainId"]),
            (&json!(0), &json!("0x7a69"))
        );
        assert_eq!(current["blobSchedule"]["max"], 21);
        assert_eq!(current["precompiles"]["ECREC"], "0x0000000000000000000000000000000000000001");
        assert_eq!(
            current["precompiles"]["P256VERIFY"],
            "0x0000000000000000000000000000000000000100"
        );
        assert_eq!(
            current["systemContracts"]["BEACON_ROOTS_ADDRESS"],
            "0x000f3df6d732807ef1319fb7b8bb8522d0beac02"
        );
        let spec = context.chain.spec();
        let hash = spec.fork_id(context.chain.genesis_hash(), u64::MAX, 0).hash.0;
        assert_eq!(current["forkId"], alloy_primitives::hex::encode_prefixed(hash));
    }
}

//! Whether the values of a genesis file make sense together.

use alloy_genesis::{ChainConfig, Genesis};

use crate::{ChainSpecError, limits::GAS_LIMIT_MAX};

/// The largest chain id whose EIP-155 signature values fit 64 bits (EIP-2294).
const CHAIN_ID_MAX: u64 = u64::MAX / 2 - 36;

/// Checks everything except the blob schedule and the merge block, which are checked where they are built.
///
/// # Errors
/// The first contradiction found, with its path.
pub(crate) fn check(genesis: &Genesis) -> Result<(), ChainSpecError> {
    let config = &genesis.config;
    if config.chain_id == 0 || config.chain_id > CHAIN_ID_MAX {
        return Err(ChainSpecError::invalid(
            "config.chainId",
            format!("must be between 1 and {CHAIN_ID_MAX} (EIP-2294), but is {}", config.chain_id),
        ));
    }
    if genesis.gas_limit == 0 || genesis.gas_limit > GAS_LIMIT_MAX {
        return Err(ChainSpecError::invalid(
            "gasLimit",
            format!("must be between 1 and {GAS_LIMIT_MAX}, but is {}", genesis.gas_limit),
        ));
    }
    if genesis.base_fee_per_gas.is_some_and(|fee| u64::try_from(fee).is_err()) {
        return Err(ChainSpecError::invalid("baseFeePerGas", "must fit 64 bits"));
    }
    check_consensus_engine(config)?;
    check_fork_order(config)?;
    check_forks_at_genesis(genesis)
}

/// Refuses the engines whose blocks follow other rules: who is paid, what the extra data means.
fn check_consensus_engine(config: &ChainConfig) -> Result<(), ChainSpecError> {
    let merged_at_genesis = config.terminal_total_difficulty.is_some_and(|ttd| ttd.is_zero());
    let unsupported = |engine: &str| {
        Err(ChainSpecError::invalid(
            format!("config.{engine}"),
            "proof-of-authority blocks are not supported: only proof of work and proof of stake are",
        ))
    };
    if config.parlia.is_some() {
        return unsupported("parlia");
    }
    if config.clique.is_some() && !merged_at_genesis {
        return unsupported("clique");
    }
    Ok(())
}

/// When a fork takes effect.
#[derive(Clone, Copy)]
enum Activation {
    Block(u64),
    Time(u64),
}

impl std::fmt::Display for Activation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(number) => write!(formatter, "block {number}"),
            Self::Time(timestamp) => write!(formatter, "time {timestamp}"),
        }
    }
}

/// A fork as the file names it.
struct Scheduled {
    field: &'static str,
    activation: Option<Activation>,
    /// Later forks do not build on it, so that a chain may leave it out.
    optional: bool,
}

/// Every fork field in the order in which forks must take effect, which is also geth's.
fn schedule(config: &ChainConfig) -> Vec<Scheduled> {
    let block = |field, number: Option<u64>, optional| Scheduled {
        field,
        activation: number.map(Activation::Block),
        optional,
    };
    let time = |field, timestamp: Option<u64>, optional| Scheduled {
        field,
        activation: timestamp.map(Activation::Time),
        optional,
    };
    vec![
        block("homesteadBlock", config.homestead_block, false),
        block("daoForkBlock", config.dao_fork_block, true),
        block("eip150Block", config.eip150_block, false),
        block("eip155Block", config.eip155_block, false),
        block("eip158Block", config.eip158_block, false),
        block("byzantiumBlock", config.byzantium_block, false),
        block("constantinopleBlock", config.constantinople_block, false),
        block("petersburgBlock", config.petersburg_block, false),
        block("istanbulBlock", config.istanbul_block, false),
        block("muirGlacierBlock", config.muir_glacier_block, true),
        block("berlinBlock", config.berlin_block, false),
        block("londonBlock", config.london_block, false),
        block("arrowGlacierBlock", config.arrow_glacier_block, true),
        block("grayGlacierBlock", config.gray_glacier_block, true),
        block("mergeNetsplitBlock", config.merge_netsplit_block, true),
        time("shanghaiTime", config.shanghai_time, false),
        time("cancunTime", config.cancun_time, false),
        time("pragueTime", config.prague_time, false),
        time("osakaTime", config.osaka_time, false),
        time("bpo1Time", config.bpo1_time, true),
        time("bpo2Time", config.bpo2_time, true),
        time("bpo3Time", config.bpo3_time, true),
        time("bpo4Time", config.bpo4_time, true),
        time("bpo5Time", config.bpo5_time, true),
        time("amsterdamTime", config.amsterdam_time, false),
        time("bogotaTime", config.bogota_time, false),
    ]
}

/// As geth's `CheckConfigForkOrder`, but strict about the forks by timestamp too: each of them builds on the one before.
fn check_fork_order(config: &ChainConfig) -> Result<(), ChainSpecError> {
    let mut last: Option<(&'static str, Option<Activation>)> = None;
    for fork in schedule(config) {
        if let (Some((last_field, last_activation)), Some(activation)) = (last, fork.activation) {
            match (last_activation, activation) {
                (None, _) => {
                    return Err(ChainSpecError::invalid(
                        format!("config.{last_field}"),
                        format!("is required, because config.{} is set ({activation})", fork.field),
                    ));
                }
                (Some(Activation::Block(before)), Activation::Block(after))
                | (Some(Activation::Time(before)), Activation::Time(after))
                    if after < before =>
                {
                    return Err(ChainSpecError::invalid(
                        format!("config.{}", fork.field),
                        format!(
                            "{after} comes before config.{last_field} at {before}, but forks take effect in order"
                        ),
                    ));
                }
                _ => {}
            }
        }
        if !fork.optional || fork.activation.is_some() {
            last = Some((fork.field, fork.activation));
        }
    }
    // Both came with Spurious Dragon, and everything downstream knows that fork only as a whole.
    if config.eip155_block != config.eip158_block {
        return Err(ChainSpecError::invalid(
            "config.eip158Block",
            "must be the same as config.eip155Block: Spurious Dragon is supported only as a whole",
        ));
    }
    Ok(())
}

/// A fork by timestamp that is active at genesis needs every fork by block to be active there as well; block numbers
/// and times cannot be compared anywhere else.
fn check_forks_at_genesis(genesis: &Genesis) -> Result<(), ChainSpecError> {
    let Some(shanghai) = genesis.config.shanghai_time.filter(|time| *time <= genesis.timestamp)
    else {
        return Ok(());
    };
    let genesis_number = genesis.number.unwrap_or(0);
    let late = schedule(&genesis.config).into_iter().find_map(|fork| match fork.activation {
        Some(Activation::Block(block)) if block > genesis_number && !fork.optional => {
            Some((fork.field, block))
        }
        _ => None,
    });
    match late {
        Some((field, block)) => Err(ChainSpecError::invalid(
            "config.shanghaiTime",
            format!(
                "{shanghai} is not after the genesis time, but config.{field} takes effect only at block {block}"
            ),
        )),
        None => Ok(()),
    }
}

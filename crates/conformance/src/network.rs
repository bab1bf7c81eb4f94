//! The networks that tests name.

use crate::format::TestConfig;
use alloy_eips::{eip6110::MAINNET_DEPOSIT_CONTRACT_ADDRESS, eip7840::BlobParams};
use alloy_primitives::U256;
use heddle_chainspec::ChainConfig;

/// A network name that says nothing to us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the network {0} is not known")]
pub struct UnknownNetwork(pub String);

/// The first fork that Heddle does not implement, if the network has one: a fork to come, whose
/// rules are not final.
pub fn unsupported_fork(network: &str) -> Option<&'static str> {
    let (base, next) = network.split_once("To").unwrap_or((network, network));
    let next = next.split_once("At").map_or(next, |(fork, _)| fork);
    let newest = [base, next].into_iter().filter_map(index_of).max()?;
    (newest >= AMSTERDAM).then(|| FORKS[AMSTERDAM][0])
}

/// From when on a fork is active.
#[derive(Debug, Clone, Copy)]
enum Activation {
    Genesis,
    Block(u64),
    Time(u64),
    Difficulty(U256),
}

/// The forks in order, with all their names.
const FORKS: &[&[&str]] = &[
    &["Frontier"],
    &["Homestead"],
    &["Dao"],
    &["EIP150", "TangerineWhistle"],
    &["EIP158", "SpuriousDragon"],
    &["Byzantium"],
    &["Constantinople"],
    &["ConstantinopleFix", "Petersburg"],
    &["Istanbul"],
    &["MuirGlacier"],
    &["Berlin"],
    &["London"],
    &["ArrowGlacier"],
    &["GrayGlacier"],
    &["Paris", "Merge"],
    &["Shanghai"],
    &["Cancun"],
    &["Prague"],
    &["Osaka"],
    &["BPO1"],
    &["BPO2"],
    &["BPO3"],
    &["BPO4"],
    &["BPO5"],
    &["Amsterdam"],
];

/// The configuration of a network such as `Cancun`, `BerlinToLondonAt5`,
/// `ShanghaiToCancunAtTime15k` or `ArrowGlacierToParisAtDiffC0000`.
///
/// # Errors
/// If the name is none of these.
pub fn chain_config(network: &str, given: &TestConfig) -> Result<ChainConfig, UnknownNetwork> {
    let unknown = || UnknownNetwork(network.to_owned());
    let (base, next) = match network.split_once("To") {
        None => (network, None),
        Some((base, rest)) => {
            let (fork, at) = rest.split_once("At").ok_or_else(unknown)?;
            let at = activation(at).ok_or_else(unknown)?;
            (base, Some((index_of(fork).ok_or_else(unknown)?, at)))
        }
    };
    let base = index_of(base).ok_or_else(unknown)?;
    let mut config = ChainConfig {
        chain_id: given.chainid.map_or(1, |id| id.to()),
        deposit_contract_address: Some(MAINNET_DEPOSIT_CONTRACT_ADDRESS),
        ..Default::default()
    };
    config.blob_schedule.insert("bpo1".to_owned(), BlobParams::bpo1());
    config.blob_schedule.insert("bpo2".to_owned(), BlobParams::bpo2());
    for (name, params) in given.blob_schedule.iter().flatten() {
        config.blob_schedule.insert(name.to_ascii_lowercase(), (*params).into());
    }
    for fork in 1..=base {
        // No network but those named after it takes part in the DAO fork.
        if fork == DAO && base != DAO {
            continue;
        }
        activate(&mut config, fork, Activation::Genesis);
    }
    if base == CONSTANTINOPLE {
        // Otherwise it would come together with Constantinople.
        config.petersburg_block = Some(u64::MAX);
    }
    if let Some((target, at)) = next {
        for fork in base + 1..=target {
            if fork == target || (fork != DAO && !is_optional(fork)) {
                activate(&mut config, fork, at);
            }
        }
    }
    Ok(config)
}

const DAO: usize = 2;
const CONSTANTINOPLE: usize = 6;
const AMSTERDAM: usize = 24;

/// Forks that only move the difficulty bomb or the blob parameters.
fn is_optional(fork: usize) -> bool {
    let name = FORKS[fork][0];
    name.ends_with("Glacier") || name.starts_with("BPO")
}

fn index_of(name: &str) -> Option<usize> {
    FORKS.iter().position(|names| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// `5`, `Time15k` or `DiffC0000`.
fn activation(at: &str) -> Option<Activation> {
    if let Some(time) = at.strip_prefix("Time") {
        let seconds = match time.strip_suffix('k') {
            Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1_000)?,
            None => time.parse().ok()?,
        };
        return Some(Activation::Time(seconds));
    }
    if let Some(difficulty) = at.strip_prefix("Diff") {
        return U256::from_str_radix(difficulty, 16).ok().map(Activation::Difficulty);
    }
    at.parse().ok().map(Activation::Block)
}

fn activate(config: &mut ChainConfig, fork: usize, at: Activation) {
    let block = match at {
        Activation::Genesis => Some(0),
        Activation::Block(number) => Some(number),
        Activation::Time(_) | Activation::Difficulty(_) => None,
    };
    let time = match at {
        Activation::Genesis => Some(0),
        Activation::Time(seconds) => Some(seconds),
        Activation::Block(_) | Activation::Difficulty(_) => None,
    };
    match FORKS[fork][0] {
        "Homestead" => config.homestead_block = block,
        "Dao" => {
            config.dao_fork_block = block;
            config.dao_fork_support = true;
        }
        "EIP150" => config.eip150_block = block,
        "EIP158" => {
            config.eip155_block = block;
            config.eip158_block = block;
        }
        "Byzantium" => config.byzantium_block = block,
        "Constantinople" => config.constantinople_block = block,
        "ConstantinopleFix" => config.petersburg_block = block,
        "Istanbul" => config.istanbul_block = block,
        "MuirGlacier" => config.muir_glacier_block = block,
        "Berlin" => config.berlin_block = block,
        "London" => config.london_block = block,
        "ArrowGlacier" => config.arrow_glacier_block = block,
        "GrayGlacier" => config.gray_glacier_block = block,
        "Paris" => {
            config.terminal_total_difficulty = Some(match at {
                Activation::Difficulty(difficulty) => difficulty,
                _ => U256::ZERO,
            });
        }
        "Shanghai" => config.shanghai_time = time,
        "Cancun" => config.cancun_time = time,
        "Prague" => config.prague_time = time,
        "Osaka" => config.osaka_time = time,
        "BPO1" => config.bpo1_time = time,
        "BPO2" => config.bpo2_time = time,
        "BPO3" => config.bpo3_time = time,
        "BPO4" => config.bpo4_time = time,
        "BPO5" => config.bpo5_time = time,
        "Amsterdam" => config.amsterdam_time = time,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_chainspec::{ChainSpec, EthereumHardfork, Genesis};

    fn config(network: &str) -> ChainConfig {
        chain_config(network, &TestConfig::default()).expect("the network is known")
    }

    #[test]
    fn a_network_has_its_fork_and_all_before_it_but_the_dao_from_the_start() {
        let config = config("London");
        assert_eq!(config.london_block, Some(0));
        assert_eq!(config.petersburg_block, Some(0));
        assert_eq!((config.dao_fork_block, config.arrow_glacier_block), (None, None));
        assert_eq!(config.terminal_total_difficulty, None);
    }

    #[test]
    fn a_transition_happens_at_its_block_time_or_difficulty() {
        let dao = config("HomesteadToDaoAt5");
        assert_eq!((dao.homestead_block, dao.dao_fork_block), (Some(0), Some(5)));
        let london = config("BerlinToLondonAt5");
        assert_eq!((london.berlin_block, london.london_block), (Some(0), Some(5)));
        let cancun = config("ShanghaiToCancunAtTime15k");
        assert_eq!((cancun.shanghai_time, cancun.cancun_time), (Some(0), Some(15_000)));
        let paris = config("ArrowGlacierToParisAtDiffC0000");
        assert_eq!(paris.terminal_total_difficulty, Some(U256::from(0xC0000)));
        let petersburg = config("ByzantiumToConstantinopleFixAt5");
        assert_eq!(petersburg.constantinople_block, Some(5));
        assert_eq!(petersburg.petersburg_block, Some(5));
        let bpo = config("BPO1ToBPO2AtTime15k");
        assert_eq!((bpo.bpo1_time, bpo.bpo2_time), (Some(0), Some(15_000)));
    }

    #[test]
    fn every_network_up_to_bpo2_is_a_valid_chain_of_its_fork() {
        for (names, fork) in FORKS[..21].iter().zip(EthereumHardfork::VARIANTS) {
            let genesis =
                Genesis { config: config(names[0]), gas_limit: 5_000, ..Default::default() };
            let spec = ChainSpec::from_genesis(genesis).expect("it is consistent");
            assert_eq!(spec.fork_at(0, 0), *fork, "{names:?}");
        }
    }

    #[test]
    fn a_network_with_a_fork_to_come_is_told_apart_from_nonsense() {
        assert_eq!(unsupported_fork("Amsterdam"), Some("Amsterdam"));
        assert_eq!(unsupported_fork("BPO2ToAmsterdamAtTime15k"), Some("Amsterdam"));
        for network in ["BPO5", "Cancun", "ShanghaiToCancunAtTime15k", "Nowhere", ""] {
            assert_eq!(unsupported_fork(network), None, "{network}");
        }
    }

    #[test]
    fn an_unknown_network_is_named() {
        for name in ["Nowhere", "LondonToAt5", "LondonToParis", "LondonToParisAtTimex"] {
            let error = chain_config(name, &TestConfig::default()).expect_err("unknown");
            assert_eq!(error, UnknownNetwork(name.to_owned()));
        }
    }
}

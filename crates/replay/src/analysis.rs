//! Where the speed-up of a block went.

use crate::{Bundle, CriticalPath, DependencyGraph, HotLocation, names};
use alloy_primitives::map::{AddressMap, HashMap};
use heddle_evm::BlockInput;
use heddle_parallel::{Location, Profile};

/// Locations that are named and reported.
const HOT_LOCATIONS: usize = 20;

/// Where the speed-up of a block went.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The heaviest chain by gas.
    pub critical_path_gas: CriticalPath,
    /// The locations that cost most, the most expensive first.
    pub hot_locations: Vec<NamedLocation>,
    /// The last measured parallel run.
    pub profile: Profile,
}

/// A hot location, as a person would say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLocation {
    /// The location and its cost.
    pub hot: HotLocation,
    /// What the contract calls itself: a token's symbol, `A/B pool` for a pair.
    pub name: Option<String>,
    /// How often a read of it was found stale in the measured run.
    pub conflicts: usize,
}

pub(crate) fn analyse(
    bundle: &Bundle,
    input: &BlockInput<'_>,
    graph: &DependencyGraph,
    profile: Profile,
) -> Analysis {
    Analysis {
        critical_path_gas: graph.critical_path_gas(),
        hot_locations: name_hot_locations(bundle, input, graph, &profile),
        profile,
    }
}

fn name_hot_locations(
    bundle: &Bundle,
    input: &BlockInput<'_>,
    graph: &DependencyGraph,
    profile: &Profile,
) -> Vec<NamedLocation> {
    let conflicts: HashMap<Location, usize> = profile
        .conflicts_by_location()
        .into_iter()
        .map(|entry| (entry.location, entry.count))
        .collect();
    let mut names = AddressMap::<Option<String>>::default();
    let hot = graph.hot_locations(HOT_LOCATIONS).into_iter();
    hot.map(|hot| {
        let address = hot.location.address();
        let name = names
            .entry(address)
            .or_insert_with(|| names::contract_name(&bundle.state, &input.env, address));
        let conflicts = conflicts.get(&hot.location).copied().unwrap_or_default();
        NamedLocation { name: name.clone(), conflicts, hot }
    })
    .collect()
}

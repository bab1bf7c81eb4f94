//! What a call finds different from the state that it runs on.

use std::collections::BTreeSet;

use alloy_evm::{overrides::apply_state_overrides, precompiles::PrecompilesMap};
use alloy_primitives::Address;
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use revm::{
    Database, DatabaseCommit,
    precompile::{PrecompileSpecId, Precompiles},
    primitives::hardfork::SpecId,
};

use crate::errors::Failure;

/// Refuses overrides that contradict themselves.
pub(crate) fn check(overrides: &StateOverride) -> Result<(), String> {
    let both = |account: &AccountOverride| account.state.is_some() && account.state_diff.is_some();
    match sorted(overrides).find(|(_, account)| both(account)) {
        Some((address, _)) => {
            Err(format!("account {} has both 'state' and 'stateDiff'", lower(*address)))
        }
        None => Ok(()),
    }
}

/// By address, so that the first of several errors is always the same one.
fn sorted(overrides: &StateOverride) -> impl Iterator<Item = (&Address, &AccountOverride)> {
    let mut accounts: Vec<_> = overrides.iter().collect();
    accounts.sort_unstable_by_key(|(address, _)| **address);
    accounts.into_iter()
}

fn lower(address: Address) -> String {
    format!("{address:#x}")
}

/// How the precompiled contracts differ from the fork's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrecompileChanges {
    /// From where to where.
    moved: Vec<(Address, Address)>,
    /// Overridden with an account of the caller's making.
    removed: Vec<Address>,
}

impl PrecompileChanges {
    /// Puts the changes into the precompiles of an EVM.
    pub(crate) fn apply(&self, precompiles: &mut PrecompilesMap) {
        // Those to be moved are there: `override_state` has looked.
        if self.moved.iter().any(|(from, _)| precompiles.get(from).is_none()) {
            return;
        }
        let _ = precompiles.move_precompiles(self.moved.iter().copied());
        for address in &self.removed {
            precompiles.apply_precompile(address, |_| None);
        }
    }
}

/// Applies the overrides to the state, by geth's rules: an override of a precompile replaces it, one may be moved to an
/// address that is not overridden itself, and nothing else is moved.
pub(crate) fn override_state<DB>(
    overrides: StateOverride,
    database: &mut DB,
    spec: SpecId,
) -> Result<PrecompileChanges, Failure>
where
    DB: Database<Error = heddle_evm::StateError> + DatabaseCommit,
{
    let precompiles = Precompiles::new(PrecompileSpecId::from_spec_id(spec));
    let mut changes = PrecompileChanges::default();
    let mut destinations = BTreeSet::new();
    for (address, account) in sorted(&overrides) {
        if destinations.contains(address) {
            return Err(Failure::server(format!(
                "account {} has already been overridden by a precompile",
                lower(*address)
            )));
        }
        let is_precompile = precompiles.contains(address);
        match account.move_precompile_to {
            Some(_) if !is_precompile => {
                let address = lower(*address);
                return Err(Failure::server(format!("account {address} is not a precompile")));
            }
            Some(to) if overrides.contains_key(&to) => {
                let to = lower(to);
                return Err(Failure::server(format!("account {to} is already overridden")));
            }
            Some(to) => {
                changes.moved.retain(|(_, other)| *other != to);
                changes.moved.push((*address, to));
                destinations.insert(to);
            }
            None if is_precompile => changes.removed.push(*address),
            None => {}
        }
    }
    apply_state_overrides(overrides, database).map_err(Failure::server)?;
    Ok(changes)
}

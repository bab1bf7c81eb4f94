//! What a call finds different from the state that it runs on.

use std::collections::BTreeSet;

use alloy_evm::{
    EthEvm, Evm, eth::EthEvmContext, overrides::apply_state_overrides, precompiles::PrecompilesMap,
};
use alloy_primitives::{Address, map::AddressSet};
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use heddle_evm::StateError;
use revm::{
    Database, DatabaseCommit, Inspector,
    context::{
        TxEnv,
        result::{EVMError, ResultAndState},
    },
    handler::PrecompileProvider,
    interpreter::{CallInputs, InterpreterResult},
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
    /// Runs a transaction with the changed precompiles.
    pub(crate) fn transact<DB, I>(
        &self,
        mut evm: EthEvm<DB, I, PrecompilesMap>,
        is_watched: bool,
        transaction: TxEnv,
    ) -> Result<ResultAndState, EVMError<StateError>>
    where
        DB: alloy_evm::Database<Error = StateError>,
        I: Inspector<EthEvmContext<DB>>,
    {
        if self.moved.is_empty() && self.removed.is_empty() {
            return evm.transact_raw(transaction);
        }
        let spec = evm.cfg_env().spec;
        let warm = Precompiles::new(PrecompileSpecId::from_spec_id(spec)).addresses_set();
        let mut changed =
            PrecompilesMap::from_static(Precompiles::new(PrecompileSpecId::from_spec_id(spec)));
        changed
            .move_precompiles(self.moved.iter().copied())
            .map_err(|error| EVMError::Custom(error.to_string()))?;
        for address in &self.removed {
            changed.apply_precompile(address, |_| None);
        }
        let inner = evm.into_inner().with_precompiles(Changed { precompiles: changed, warm });
        EthEvm::new(inner, is_watched).transact_raw(transaction)
    }
}

/// Changed precompiles, at addresses that are as warm (EIP-2929) as without the change.
struct Changed {
    precompiles: PrecompilesMap,
    warm: &'static AddressSet,
}

impl<DB> PrecompileProvider<EthEvmContext<DB>> for Changed
where
    DB: alloy_evm::Database,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, _: SpecId) -> bool {
        false
    }

    fn run(
        &mut self,
        context: &mut EthEvmContext<DB>,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        self.precompiles.run(context, inputs)
    }

    fn warm_addresses(&self) -> &AddressSet {
        self.warm
    }

    fn contains(&self, address: &Address) -> bool {
        self.precompiles.get(address).is_some()
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
    DB: Database<Error = StateError> + DatabaseCommit,
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

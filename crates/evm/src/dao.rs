//! The irregular state change of the DAO fork (EIP-779), made before the block's transactions.
//!
//! alloy-evm makes it after them, which no header of the real chain tells apart, since none of the
//! transactions in block 1,920,000 touches those accounts; the blockchain tests do.

use crate::{BlockState, StateError};
use alloy_evm::eth::{
    dao_fork::{DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY},
    spec::EthExecutorSpec,
};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::Address;
use heddle_trie::AccountState;
use revm::DatabaseRef;

/// The rules of a block whose DAO state change is made already.
pub(crate) struct DaoDone<'a, S>(pub(crate) &'a S);

impl<S> Clone for DaoDone<'_, S> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<S: EthereumHardforks> EthereumHardforks for DaoDone<'_, S> {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        if fork == EthereumHardfork::Dao {
            return ForkCondition::Never;
        }
        self.0.ethereum_fork_activation(fork)
    }
}

impl<S: EthExecutorSpec> EthExecutorSpec for DaoDone<'_, S> {
    fn deposit_contract_address(&self) -> Option<Address> {
        self.0.deposit_contract_address()
    }
}

/// Moves the balances. The drained accounts stay, also where that makes them empty: EIP-161 came
/// later.
pub(crate) fn move_balances<P: DatabaseRef<Error = StateError>>(
    state: &mut BlockState<P>,
) -> Result<(), StateError> {
    let mut refund = state.account(DAO_HARDFORK_BENEFICIARY)?.unwrap_or_default();
    for address in DAO_HARDFORK_ACCOUNTS {
        let account = state.account(address)?.unwrap_or_default();
        refund.balance = refund.balance.saturating_add(account.balance);
        let drained = AccountState { balance: Default::default(), ..account };
        state.set_account(address, Some(drained), false)?;
    }
    state.set_account(DAO_HARDFORK_BENEFICIARY, Some(refund), false)
}

//! Keeps the pool in step with the chain.

use alloy_primitives::Address;
use heddle_chain::{Chain, State};
use heddle_chainspec::{ChainSpec, SpecId};
use heddle_evm::{AccountChange, AccountState, StateChanges, StateError};
use heddle_pool::{AccountReader, PoolFork, PoolRules, SenderState, StateError as PoolStateError};
use revm::DatabaseRef;

/// Accounts as the pool wants to know them.
pub(crate) struct Accounts<'a> {
    pub(crate) state: &'a State,
    /// Whether code keeps an account from sending.
    pub(crate) code_may_send: bool,
}

impl AccountReader for Accounts<'_> {
    fn account(&self, address: Address) -> Result<SenderState, PoolStateError> {
        self.sender_state(address).map_err(|error| PoolStateError(error.to_string()))
    }
}

impl Accounts<'_> {
    fn sender_state(&self, address: Address) -> Result<SenderState, StateError> {
        self.as_sender(self.state.account(address)?.unwrap_or_default())
    }

    fn as_sender(&self, account: AccountState) -> Result<SenderState, StateError> {
        // EIP-3607 as amended by EIP-7702: an account with code other than a delegation cannot send.
        let code = self.state.code_by_hash_ref(account.code_hash)?;
        Ok(SenderState {
            nonce: account.nonce,
            balance: account.balance,
            has_non_delegation_code: !self.code_may_send && !code.is_empty() && !code.is_eip7702(),
        })
    }

    /// The accounts that a block changed, after it. The state is asked for code only.
    pub(crate) fn changed(
        &self,
        changes: &StateChanges,
    ) -> Result<Vec<(Address, SenderState)>, StateError> {
        let changed = changes.accounts.iter().filter(|(_, change)| change.before != change.after);
        let after = |change: &AccountChange| self.as_sender(change.after.unwrap_or_default());
        changed.map(|(address, change)| Ok((*address, after(change)?))).collect()
    }
}

/// The rules that a transaction for the next block must obey.
pub(crate) fn pool_rules(chain: &Chain, next_timestamp: u64, gas_limit: u64) -> PoolRules {
    let spec = chain.spec();
    let number = chain.head().number() + 1;
    let blobs = spec.blob_params_at(next_timestamp);
    PoolRules {
        chain_id: spec.chain_id(),
        fork: pool_fork(spec, number, next_timestamp),
        block_gas_limit: gas_limit,
        base_fee: chain.next_base_fee(),
        blob_base_fee: chain.next_blob_base_fee(),
        max_blobs_per_tx: blobs.map_or(0, |params| params.max_blobs_per_tx),
        max_blobs_per_block: blobs.map_or(0, |params| params.max_blob_count),
        tx_gas_limit_cap: spec.transaction_gas_limit_cap(next_timestamp),
        max_initcode_bytes: PoolRules::MAX_INITCODE_BYTES,
        min_tip: 0,
    }
}

fn pool_fork(spec: &ChainSpec, number: u64, timestamp: u64) -> PoolFork {
    match spec.spec_id_at(number, timestamp) {
        id if id >= SpecId::OSAKA => PoolFork::Osaka,
        id if id >= SpecId::PRAGUE => PoolFork::Prague,
        id if id >= SpecId::CANCUN => PoolFork::Cancun,
        id if id >= SpecId::SHANGHAI => PoolFork::Shanghai,
        id if id >= SpecId::LONDON => PoolFork::London,
        id if id >= SpecId::BERLIN => PoolFork::Berlin,
        id if id >= SpecId::ISTANBUL => PoolFork::Istanbul,
        id if id >= SpecId::SPURIOUS_DRAGON => PoolFork::SpuriousDragon,
        id if id >= SpecId::HOMESTEAD => PoolFork::Homestead,
        _ => PoolFork::Frontier,
    }
}

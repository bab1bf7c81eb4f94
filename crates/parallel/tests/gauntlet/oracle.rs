//! The same block through revm's own `State`, to check the reference's bookkeeping of changes.

use crate::{blocks::TestSpec, state::TestState};
use alloy_evm::{
    EvmFactory,
    block::BlockExecutor,
    eth::{EthBlockExecutor, EthEvmFactory},
};
use alloy_primitives::{Address, KECCAK256_EMPTY, U256};
use heddle_evm::{
    AccountState, BlockInput, BlockOutput, HeddleReceiptBuilder, InvalidTransactions, StateChanges,
};
use revm::{
    DatabaseRef,
    database::{BundleState, State, states::bundle_state::BundleRetention},
};
use std::collections::BTreeSet;

/// Asserts that revm's `State` ends where `output` says.
pub(crate) fn assert_agrees(
    spec: TestSpec,
    parent: &TestState,
    input: &BlockInput<'_>,
    output: &BlockOutput,
    context: &str,
) {
    let state = State::builder().with_database_ref(parent).with_bundle_update().build();
    let evm = EthEvmFactory::default().create_evm(state, input.env.clone());
    let mut executor = EthBlockExecutor::new(evm, input.ctx.clone(), spec, HeddleReceiptBuilder);
    executor.apply_pre_execution_changes().expect("the block is valid");
    for tx in input.transactions {
        let result = executor.execute_transaction(tx);
        assert!(result.is_ok() || input.invalid == InvalidTransactions::Skip, "{context}");
    }
    let (evm, result) = executor.finish().expect("the block is valid");
    assert_eq!(result.receipts, output.receipts, "{context}");
    assert_eq!(result.requests, output.requests, "{context}");
    let mut state = alloy_evm::Evm::into_db(evm);
    state.merge_transitions(BundleRetention::PlainState);
    compare(parent, &state.take_bundle(), &output.changes, context);
}

fn compare(parent: &TestState, bundle: &BundleState, changes: &StateChanges, context: &str) {
    let addresses: BTreeSet<Address> =
        bundle.state.keys().chain(changes.accounts.keys()).copied().collect();
    for address in addresses {
        let before = parent.basic_ref(address).expect("reads work").map(|info| as_state(&info));
        let theirs = bundle.state.get(&address);
        let ours = changes.accounts.get(&address);
        let their_account = theirs.map_or(before, |account| account.info.as_ref().map(as_state));
        assert_eq!(
            ours.map_or(before, |change| change.after),
            their_account,
            "{address}, {context}"
        );
        let their_slots = theirs.into_iter().flat_map(|account| account.storage.keys());
        let our_slots = ours.into_iter().flat_map(|change| change.storage.keys());
        let parent_slots =
            parent.accounts.get(&address).into_iter().flat_map(|(_, storage)| storage.keys());
        for slot in
            their_slots.chain(our_slots).chain(parent_slots).copied().collect::<BTreeSet<U256>>()
        {
            let before = parent.storage_ref(address, slot).expect("reads work");
            let theirs = match theirs {
                None => before,
                Some(account) => account.storage.get(&slot).map_or_else(
                    || if account.was_destroyed() { U256::ZERO } else { before },
                    |value| value.present_value,
                ),
            };
            let ours = match ours {
                None => before,
                Some(change) => change.storage.get(&slot).map_or_else(
                    || if change.wiped { U256::ZERO } else { before },
                    |value| value.after,
                ),
            };
            assert_eq!(ours, theirs, "slot {slot} of {address}, {context}");
        }
    }
}

fn as_state(info: &revm::state::AccountInfo) -> AccountState {
    let code_hash = if info.code_hash.is_zero() { KECCAK256_EMPTY } else { info.code_hash };
    AccountState { nonce: info.nonce, balance: info.balance, code_hash }
}

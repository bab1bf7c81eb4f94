//! From the pre-state of each transaction to that of the block.

use crate::{Prestate, PrestateAccount};
use alloy_primitives::{Address, U256, map::HashSet};
use serde::Deserialize;

/// The answer of `prestateTracer` in diff mode for one transaction: what it changed.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StateDiff {
    #[serde(default)]
    pre: Prestate,
    #[serde(default)]
    post: Prestate,
}

/// Puts the pre-states of a block's transactions together, in order. The first word about an
/// account or slot counts: until then no transaction had touched it.
///
/// A tracer leaves out accounts that did not exist yet (and some leave out zero slots), so that
/// the pre-state of a later transaction can be the first to name what an earlier one made. The
/// diffs tell these apart: what a transaction changed and its pre-state does not have was nothing
/// before.
#[derive(Debug, Default)]
pub(crate) struct PrestateMerge {
    merged: Prestate,
    slots: HashSet<(Address, U256)>,
    /// Changed, but with nothing to tell from what; whoever executes the block learns whether it
    /// matters.
    untold: HashSet<Address>,
}

impl PrestateMerge {
    /// Adds the next transaction.
    pub(crate) fn add(&mut self, before: Prestate, diff: Option<StateDiff>) {
        for (address, account) in before.accounts {
            // A tracer has no word for "there is no account".
            self.see(address, account.unwrap_or_default());
        }
        let Some(StateDiff { pre, post }) = diff else { return };
        for (address, account) in post.accounts {
            let was = pre.account(address);
            let known = self.merged.knows(address) || self.untold.contains(&address);
            if !known {
                if was.is_some() {
                    self.untold.insert(address);
                } else {
                    self.merged.insert(address, None);
                }
            }
            for slot in account.unwrap_or_default().storage.keys() {
                let value = was.and_then(|account| account.slot(slot.0)).unwrap_or_default();
                self.see_slot(address, slot.0, value);
            }
        }
    }

    /// The state before the block.
    pub(crate) fn into_prestate(self) -> Prestate {
        self.merged
    }

    fn see(&mut self, address: Address, mut account: PrestateAccount) {
        let storage = std::mem::take(&mut account.storage);
        if !self.merged.knows(address) && !self.untold.contains(&address) {
            // Some tracers write zeros where there is no account. Before Spurious Dragon there may
            // be an empty one, but far more often there is none.
            let exists = !account.is_empty() || !storage.is_empty();
            self.merged.insert(address, exists.then_some(account));
        }
        for (slot, value) in storage {
            self.see_slot(address, slot.0, value.0);
        }
    }

    fn see_slot(&mut self, address: Address, slot: U256, value: U256) {
        if self.slots.insert((address, slot)) {
            self.merged.insert_slot(address, slot, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;
    use serde_json::{Value, json};

    const SENDER: &str = "0x00000000000000000000000000000000000000aa";
    const CREATED: &str = "0x00000000000000000000000000000000000000bb";

    fn merge(transactions: impl IntoIterator<Item = (Value, Option<Value>)>) -> Prestate {
        let mut merge = PrestateMerge::default();
        for (before, diff) in transactions {
            let diff = diff.map(|diff| serde_json::from_value(diff).expect("a diff"));
            merge.add(serde_json::from_value(before).expect("a pre-state"), diff);
        }
        merge.into_prestate()
    }

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn the_first_word_about_an_account_and_about_each_slot_counts() {
        let first =
            json!({ SENDER: { "balance": "0x9", "nonce": 1, "storage": { "0x1": "0x5" } } });
        let second = json!({
            SENDER: { "balance": "0x8", "nonce": 2, "storage": { "0x1": "0x6", "0x2": "0x7" } }
        });
        let merged = merge([(first, None), (second, None)]);
        let account = merged.account(address(SENDER)).expect("it is there");
        assert_eq!((account.balance(), account.nonce()), (U256::from(9), 1));
        assert_eq!(account.slot(U256::from(1)), Some(U256::from(5)));
        assert_eq!(account.slot(U256::from(2)), Some(U256::from(7)));
    }

    #[test]
    fn what_an_earlier_transaction_created_was_not_there_before_the_block() {
        let create = json!({ SENDER: { "balance": "0x9" } });
        let created = json!({
            "pre": { SENDER: { "balance": "0x9" } },
            "post": { CREATED: { "nonce": 1, "code": "0xfe", "storage": { "0x1": "0x2" } } }
        });
        let call = json!({
            CREATED: { "balance": "0x0", "nonce": 1, "code": "0xfe", "storage": { "0x1": "0x2" } }
        });
        let unchanged = json!({ "pre": {}, "post": {} });
        let merged = merge([(create, Some(created)), (call.clone(), Some(unchanged))]);
        assert!(merged.knows(address(CREATED)) && merged.account(address(CREATED)).is_none());

        // Without diffs the first word is the later one.
        let merged = merge([(json!({}), None), (call, None)]);
        let account = merged.account(address(CREATED)).expect("so it seems");
        assert_eq!(account.code(), &Bytes::from_static(&[0xfe]));
    }

    #[test]
    fn a_zero_slot_that_a_tracer_leaves_out_is_zero_whatever_is_written_to_it() {
        let before = json!({ SENDER: { "balance": "0x9" } });
        let diff = json!({
            "pre": { SENDER: {} }, "post": { SENDER: { "storage": { "0x1": "0x7" } } }
        });
        let later = json!({ SENDER: { "balance": "0x9", "storage": { "0x1": "0x7" } } });
        let merged = merge([(before, Some(diff)), (later, None)]);
        let account = merged.account(address(SENDER)).expect("it is there");
        assert_eq!(account.slot(U256::from(1)), Some(U256::ZERO));
    }

    #[test]
    fn an_account_with_nothing_in_it_is_none() {
        let before =
            json!({ SENDER: { "balance": "0x0" }, CREATED: { "storage": { "0x1": "0x2" } } });
        let merged = merge([(before, None)]);
        assert!(merged.knows(address(SENDER)) && merged.account(address(SENDER)).is_none());
        let account = merged.account(address(CREATED)).expect("it has storage");
        assert_eq!(account.slot(U256::from(1)), Some(U256::from(2)));
    }

    #[test]
    fn an_account_of_which_only_a_change_is_told_stays_open() {
        let diff = json!({
            "pre": { SENDER: { "balance": "0x9" } }, "post": { SENDER: { "balance": "0x8" } }
        });
        let later = json!({ SENDER: { "balance": "0x8" } });
        let merged = merge([(json!({}), Some(diff)), (later, None)]);
        assert!(!merged.knows(address(SENDER)));
    }
}

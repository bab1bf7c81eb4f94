use crate::{NodeReader, SparseTrie, TrieError, TrieId, proof::decode_slot, state::decode_account};
use alloy_primitives::{B256, U256};
use alloy_trie::TrieAccount;
use nybbles::Nibbles;

/// The first accounts of a state whose hashed addresses are `from` or greater, at most `max`, in order.
///
/// # Errors
/// When the reader fails, or a node on the way is missing or damaged.
pub fn accounts_from<R: NodeReader>(
    reader: &R,
    from: B256,
    max: usize,
) -> Result<Vec<(B256, TrieAccount)>, TrieError<R::Error>> {
    let source = |path: &Nibbles| reader.account_node(path);
    let leaves =
        SparseTrie::from_stored_root(TrieId::Account, &source)?.leaves_from(&source, from, max)?;
    leaves.into_iter().map(|(key, leaf)| Ok((key, decode_account(&leaf, key)?))).collect()
}

/// The first slots of an account, named by its hashed address, whose own hashes are `from` or greater, at most `max`,
/// in order.
///
/// # Errors
/// When the reader fails, or a node on the way is missing or damaged.
pub fn slots_from<R: NodeReader>(
    reader: &R,
    hashed_address: B256,
    from: B256,
    max: usize,
) -> Result<Vec<(B256, U256)>, TrieError<R::Error>> {
    let id = TrieId::Storage(hashed_address);
    let source = |path: &Nibbles| reader.storage_node(hashed_address, path);
    let leaves = SparseTrie::from_stored_root(id, &source)?.leaves_from(&source, from, max)?;
    leaves.into_iter().map(|(key, leaf)| Ok((key, decode_slot(id, &leaf, key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AccountChange, AccountState, NoNodes, OverlayReader, SlotChange, StateChanges, state_root,
    };
    use alloy_primitives::{Address, keccak256};
    use std::collections::BTreeMap;

    #[test]
    fn pages_are_the_sorted_whole_cut_in_pieces() {
        let mut changes = StateChanges::default();
        let mut accounts = BTreeMap::new();
        let mut slots = BTreeMap::new();
        let rich = Address::repeat_byte(7);
        for index in 0..300u64 {
            let address =
                if index == 0 { rich } else { Address::from_word(U256::from(index).into()) };
            let state = AccountState { nonce: index + 1, ..Default::default() };
            let mut change = AccountChange { after: Some(state), ..Default::default() };
            if address == rich {
                for slot in 0..500u64 {
                    let (slot, after) = (U256::from(slot), U256::from(slot + 1));
                    change.storage.insert(slot, SlotChange { before: U256::ZERO, after });
                    slots.insert(keccak256(slot.to_be_bytes::<32>()), after);
                }
            }
            changes.accounts.insert(address, change);
            accounts.insert(keccak256(address), index + 1);
        }
        let (_, updates) = state_root(&NoNodes, &changes).unwrap();
        let reader = OverlayReader { base: NoNodes, updates: &updates };

        let mut from = B256::ZERO;
        let mut seen = Vec::new();
        loop {
            let page = accounts_from(&reader, from, 8).unwrap();
            seen.extend(page.iter().take(7).map(|(key, account)| (*key, account.nonce)));
            let Some((next, _)) = page.get(7) else { break };
            from = *next;
        }
        assert_eq!(seen, accounts.into_iter().collect::<Vec<_>>());

        let all: Vec<_> = slots.into_iter().collect();
        assert_eq!(slots_from(&reader, keccak256(rich), B256::ZERO, 1_000).unwrap(), all);
        let middle = all[250].0;
        assert_eq!(slots_from(&reader, keccak256(rich), middle, 3).unwrap(), all[250..253]);
        // Between two keys, and after the last one.
        let between = B256::from(U256::from_be_bytes(middle.0) + U256::ONE);
        assert_eq!(slots_from(&reader, keccak256(rich), between, 2).unwrap(), all[251..253]);
        assert_eq!(slots_from(&reader, keccak256(rich), B256::repeat_byte(0xff), 2).unwrap(), []);
        assert_eq!(slots_from(&reader, B256::ZERO, B256::ZERO, 2).unwrap(), [], "no such account");
    }
}

use crate::{
    AccountChange, NodeDefect, NodeReader, SparseTrie, StateChanges, StorageTrieUpdates, TrieError,
    TrieId, TrieUpdates,
};
use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use nybbles::Nibbles;
use rayon::prelude::*;

/// From how many changed slots on storage tries are hashed in parallel (if there are several).
/// Below it, waking threads costs more than the hashing (roughly 2 µs a slot).
const PARALLEL_STORAGE_SLOTS: usize = 256;

/// The state root after `changes`, computed over the stored nodes of the parent state, and what to
/// do to those nodes.
///
/// Storage roots come first, those of different accounts in parallel where there is enough to do,
/// then the account trie. The storage root of an account whose storage did not change comes from
/// its leaf.
///
/// # Errors
/// When the reader fails, or a node that is needed is missing or damaged.
pub fn state_root<R: NodeReader>(
    reader: &R,
    changes: &StateChanges,
) -> Result<(B256, TrieUpdates), TrieError<R::Error>> {
    let span = tracing::debug_span!("state_root", accounts = changes.accounts.len());
    let _entered = span.enter();

    let mut accounts =
        SparseTrie::from_stored_root(TrieId::Account, |path: &Nibbles| reader.account_node(path))?;
    let mut jobs = Vec::with_capacity(changes.accounts.len());
    for (address, change) in &changes.accounts {
        let hashed_address = keccak256(address);
        let storage_root = stored_storage_root(&mut accounts, hashed_address)?;
        jobs.push(AccountJob { hashed_address, storage_root, change });
    }

    let slots: usize = changes.accounts.values().map(|change| change.storage.len()).sum();
    let storages: Vec<(B256, StorageTrieUpdates)> = if slots >= PARALLEL_STORAGE_SLOTS {
        jobs.par_iter().map(|job| job.storage_root(reader)).collect::<Result<_, _>>()?
    } else {
        jobs.iter().map(|job| job.storage_root(reader)).collect::<Result<_, _>>()?
    };

    let mut updates = TrieUpdates::default();
    for (job, (storage_root, storage_updates)) in jobs.iter().zip(storages) {
        if !storage_updates.is_empty() {
            updates.storage_nodes.insert(job.hashed_address, storage_updates);
        }
        match job.change.after {
            None => accounts.remove(job.hashed_address)?,
            Some(after) => {
                let account =
                    TrieAccount::new(after.nonce, after.balance, storage_root, after.code_hash);
                accounts.insert(job.hashed_address, alloy_rlp::encode(account))?;
            }
        }
    }
    let (root, account_nodes) = accounts.seal();
    updates.account_nodes = account_nodes;
    Ok((root, updates))
}

/// The storage root in the leaf of an account, the empty root where there is no such account.
fn stored_storage_root<S: crate::NodeSource>(
    accounts: &mut SparseTrie<S>,
    hashed_address: B256,
) -> Result<B256, TrieError<S::Error>> {
    let Some(leaf) = accounts.get(hashed_address)? else {
        return Ok(EMPTY_ROOT_HASH);
    };
    decode_account(leaf, hashed_address).map(|account| account.storage_root)
}

pub(crate) fn decode_account<E>(
    leaf: &[u8],
    hashed_address: B256,
) -> Result<TrieAccount, TrieError<E>> {
    TrieAccount::decode(&mut &*leaf).map_err(|error| {
        let path = Nibbles::unpack(hashed_address);
        TrieError::damaged(TrieId::Account, path, NodeDefect::Account(error))
    })
}

struct AccountJob<'c> {
    hashed_address: B256,
    /// Before the change.
    storage_root: B256,
    change: &'c AccountChange,
}

impl AccountJob<'_> {
    /// The storage root after the change.
    fn storage_root<R: NodeReader>(
        &self,
        reader: &R,
    ) -> Result<(B256, StorageTrieUpdates), TrieError<R::Error>> {
        let deleted = self.change.after.is_none();
        if !deleted && !self.change.wiped && self.change.storage.is_empty() {
            return Ok((self.storage_root, StorageTrieUpdates::default()));
        }
        let starts_empty = deleted || self.change.wiped;
        // Nothing is stored of an empty trie, so only another one has nodes to be wiped.
        let wiped = starts_empty && self.storage_root != EMPTY_ROOT_HASH;
        if deleted {
            return Ok((EMPTY_ROOT_HASH, StorageTrieUpdates { wiped, ..Default::default() }));
        }

        let root = if starts_empty { EMPTY_ROOT_HASH } else { self.storage_root };
        let mut trie =
            SparseTrie::new(TrieId::Storage(self.hashed_address), root, |path: &Nibbles| {
                reader.storage_node(self.hashed_address, path)
            });
        for (slot, change) in &self.change.storage {
            let hashed_slot = keccak256(slot.to_be_bytes::<32>());
            if change.after == U256::ZERO {
                trie.remove(hashed_slot)?;
            } else {
                trie.insert(hashed_slot, alloy_rlp::encode(change.after))?;
            }
        }
        let (root, nodes) = trie.seal();
        Ok((root, StorageTrieUpdates { wiped, nodes }))
    }
}

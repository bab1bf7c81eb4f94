use crate::{
    AccountChange, AccountState, LeafValue, NodeDefect, NodeReader, SparseTrie, StateChanges,
    StorageTrieUpdates, TrieError, TrieId, TrieUpdates,
};
use alloy_primitives::{B256, U256, keccak256, map::B256Map};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use nybbles::Nibbles;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// From how many changed accounts or slots on keys are hashed and storage tries are computed in parallel. Below it, waking
/// threads costs more than the work (roughly 2 µs a slot).
const PARALLEL_CHANGES: usize = 256;

/// Nodes that stay in memory between changes. A leaf takes some 200 bytes and a branch 800, so these are some 350 MB if
/// it comes to that many; a million accounts whose nodes are all visited would need 1.4 million.
pub const NODES_KEPT_MAX: usize = 1_000_000;

/// The state root after `changes`, computed over the stored nodes of the parent state, and what to
/// do to those nodes.
///
/// # Errors
/// When the reader fails, or a node that is needed is missing or damaged.
pub fn state_root<R: NodeReader>(
    reader: &R,
    changes: &StateChanges,
) -> Result<(B256, TrieUpdates), TrieError<R::Error>> {
    let (trie, updates) = StateTrie::stored(reader)?.after(reader, changes)?;
    Ok((trie.root(), updates))
}

/// The tries of one state, with those of their nodes that recent changes visited: block after block finds most of what it
/// needs here.
#[derive(Debug)]
pub struct StateTrie {
    accounts: SparseTrie,
    storages: B256Map<SparseTrie>,
    /// Nodes in memory when they were counted, and what came since. Never too low.
    nodes_max: usize,
}

impl StateTrie {
    /// The tries whose nodes `reader` has, with none of them in memory.
    ///
    /// # Errors
    /// When the root node cannot be read.
    pub fn stored<R: NodeReader>(reader: &R) -> Result<Self, TrieError<R::Error>> {
        let source = |path: &Nibbles| reader.account_node(path);
        let accounts = SparseTrie::from_stored_root(TrieId::Account, &source)?;
        Ok(Self { accounts, storages: B256Map::default(), nodes_max: 0 })
    }

    /// The state root.
    pub const fn root(&self) -> B256 {
        self.accounts.root()
    }

    /// The tries after `changes`, and what these do to the stored nodes, which `reader` has as they were before.
    ///
    /// Storage roots come first, those of different accounts in parallel where there is enough to do,
    /// then the account trie. The storage root of an account whose storage did not change comes from
    /// its leaf.
    ///
    /// # Errors
    /// When the reader fails, or a node that is needed is missing or damaged.
    pub fn after<R: NodeReader>(
        mut self,
        reader: &R,
        changes: &StateChanges,
    ) -> Result<(Self, TrieUpdates), TrieError<R::Error>> {
        let span = tracing::debug_span!("state_root", accounts = changes.accounts.len());
        let _entered = span.enter();
        let source = |path: &Nibbles| reader.account_node(path);

        let hashed = hashed_addresses(changes);
        let storages = self.storage_jobs(&source, &hashed)?;
        let slots: usize = storages.iter().map(|job| job.change.storage.len()).sum();
        let computed: Vec<ComputedStorage> = if slots >= PARALLEL_CHANGES {
            let computed = storages.into_par_iter().map(|job| job.compute(reader));
            computed.collect::<Result<_, _>>()?
        } else {
            storages.into_iter().map(|job| job.compute(reader)).collect::<Result<_, _>>()?
        };

        let mut updates = TrieUpdates::default();
        let mut roots = computed.iter().map(|storage| (storage.hashed_address, storage.root));
        let mut next = roots.next();
        let leaves: Vec<(B256, Option<AccountLeaf>)> = hashed
            .into_iter()
            .map(|(hashed_address, change)| {
                let storage_root = next.filter(|(address, _)| *address == hashed_address);
                if storage_root.is_some() {
                    next = roots.next();
                }
                let storage_root = storage_root.map(|(_, root)| root);
                (hashed_address, change.after.map(|after| AccountLeaf { after, storage_root }))
            })
            .collect();
        self.accounts.update(&source, &leaves)?;
        let (_, account_nodes) = self.accounts.seal();
        self.nodes_max += self.accounts.take_added();
        updates.account_nodes = account_nodes;
        for ComputedStorage { hashed_address, trie, updates: nodes, .. } in computed {
            if let Some(mut trie) = trie {
                self.nodes_max += trie.take_added();
                self.storages.insert(hashed_address, trie);
            }
            if !nodes.is_empty() {
                updates.storage_nodes.insert(hashed_address, nodes);
            }
        }
        if self.nodes_max > NODES_KEPT_MAX {
            // Half of them, so that the walk over all is rare.
            self.keep_at_most(NODES_KEPT_MAX / 2);
        }
        Ok((self, updates))
    }

    /// The storage tries that change, taken out of `self`, in the order of `hashed`.
    fn storage_jobs<'c, S: crate::NodeSource>(
        &mut self,
        source: &S,
        hashed: &[(B256, &'c AccountChange)],
    ) -> Result<Vec<StorageJob<'c>>, TrieError<S::Error>> {
        let mut jobs = Vec::new();
        for (hashed_address, change) in hashed {
            if change.after.is_some() && !change.wiped && change.storage.is_empty() {
                continue;
            }
            let root = match self.accounts.get(source, *hashed_address)? {
                None => EMPTY_ROOT_HASH,
                Some(leaf) => decode_account(leaf, *hashed_address)?.storage_root,
            };
            let kept = self.storages.remove(hashed_address).filter(|kept| kept.root() == root);
            let mut trie =
                kept.unwrap_or_else(|| SparseTrie::new(TrieId::Storage(*hashed_address), root));
            trie.set_round(self.accounts.round());
            jobs.push(StorageJob { hashed_address: *hashed_address, trie, change });
        }
        Ok(jobs)
    }

    /// Keeps only the nodes in memory that recent changes visited, `nodes_max` at most.
    pub fn keep_at_most(&mut self, nodes_max: usize) {
        let mut by_round: BTreeMap<u32, usize> = BTreeMap::new();
        let mut add = |round| *by_round.entry(round).or_default() += 1;
        self.accounts.count(&mut add);
        self.storages.values().for_each(|trie| trie.count(&mut add));
        let mut kept = 0;
        let mut first_kept = self.accounts.round();
        for (round, nodes) in by_round.into_iter().rev() {
            if kept + nodes > nodes_max {
                break;
            }
            kept += nodes;
            first_kept = round;
        }
        self.accounts.forget_before(first_kept);
        self.storages.retain(|_, trie| trie.forget_before(first_kept));
        self.nodes_max = kept;
    }
}

/// The changed accounts by hashed address, ascending.
fn hashed_addresses(changes: &StateChanges) -> Vec<(B256, &AccountChange)> {
    let accounts: Vec<_> = changes.accounts.iter().collect();
    let hash =
        |(address, change): &(_, _)| (keccak256::<&alloy_primitives::Address>(*address), *change);
    let mut hashed: Vec<(B256, &AccountChange)>;
    if accounts.len() >= PARALLEL_CHANGES {
        hashed = accounts.par_iter().map(hash).collect();
        hashed.par_sort_unstable_by_key(|(hashed_address, _)| *hashed_address);
    } else {
        hashed = accounts.iter().map(hash).collect();
        hashed.sort_unstable_by_key(|(hashed_address, _)| *hashed_address);
    }
    hashed
}

pub(crate) fn decode_account<E>(
    leaf: &[u8],
    hashed_address: B256,
) -> Result<TrieAccount, TrieError<E>> {
    account_in(leaf).map_err(|defect| {
        TrieError::damaged(TrieId::Account, Nibbles::unpack(hashed_address), defect)
    })
}

fn account_in(leaf: &[u8]) -> Result<TrieAccount, NodeDefect> {
    TrieAccount::decode(&mut &*leaf).map_err(NodeDefect::Account)
}

/// What the leaf of an account is to have.
struct AccountLeaf {
    after: AccountState,
    /// As it was, if `None`.
    storage_root: Option<B256>,
}

impl LeafValue for AccountLeaf {
    fn value(&self, present: Option<&[u8]>) -> Result<Vec<u8>, NodeDefect> {
        let storage_root = match (self.storage_root, present) {
            (Some(root), _) => root,
            (None, Some(leaf)) => account_in(leaf)?.storage_root,
            (None, None) => EMPTY_ROOT_HASH,
        };
        let AccountState { nonce, balance, code_hash } = self.after;
        Ok(alloy_rlp::encode(TrieAccount::new(nonce, balance, storage_root, code_hash)))
    }
}

/// What a storage slot is to have.
struct SlotLeaf(U256);

impl LeafValue for SlotLeaf {
    fn value(&self, _present: Option<&[u8]>) -> Result<Vec<u8>, NodeDefect> {
        Ok(alloy_rlp::encode(self.0))
    }
}

/// A storage trie that is to change.
struct StorageJob<'c> {
    hashed_address: B256,
    /// Before the change.
    trie: SparseTrie,
    change: &'c AccountChange,
}

/// What became of a storage trie.
struct ComputedStorage {
    hashed_address: B256,
    root: B256,
    /// `None` if the account is gone.
    trie: Option<SparseTrie>,
    updates: StorageTrieUpdates,
}

impl StorageJob<'_> {
    fn compute<R: NodeReader>(self, reader: &R) -> Result<ComputedStorage, TrieError<R::Error>> {
        let Self { hashed_address, mut trie, change } = self;
        let deleted = change.after.is_none();
        // Nothing is stored of an empty trie, so only another one has nodes to be wiped.
        let wiped = (deleted || change.wiped) && trie.root() != EMPTY_ROOT_HASH;
        if deleted {
            let updates = StorageTrieUpdates { wiped, ..Default::default() };
            return Ok(ComputedStorage {
                hashed_address,
                root: EMPTY_ROOT_HASH,
                trie: None,
                updates,
            });
        }
        if wiped {
            let round = trie.round();
            trie = SparseTrie::new(TrieId::Storage(hashed_address), EMPTY_ROOT_HASH);
            trie.set_round(round);
        }
        let mut leaves: Vec<(B256, Option<SlotLeaf>)> = change
            .storage
            .iter()
            .map(|(slot, change)| {
                let leaf = (change.after != U256::ZERO).then_some(SlotLeaf(change.after));
                (keccak256(slot.to_be_bytes::<32>()), leaf)
            })
            .collect();
        leaves.sort_unstable_by_key(|(hashed_slot, _)| *hashed_slot);
        let source = |path: &Nibbles| reader.storage_node(hashed_address, path);
        trie.update(&source, &leaves)?;
        let (root, nodes) = trie.seal();
        let updates = StorageTrieUpdates { wiped, nodes };
        Ok(ComputedStorage { hashed_address, root, trie: Some(trie), updates })
    }
}

//! A state page by page, in the order of its tries: by the hashes of addresses and slots.

use crate::{ChainError, Scratch};
use alloy_primitives::{Address, B256, U256, keccak256};
use heddle_evm::StateChanges;
use heddle_store::StoreError;
use heddle_trie::{TrieAccount, accounts_from, slots_from};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

/// After how many hashes the caller is asked whether to go on.
const HASHES_BETWEEN_CHECKS: u32 = 4_096;

/// A page of accounts or slots, by hash.
type Page<T> = Vec<(B256, T)>;

impl Scratch {
    /// The root of the state; zero on a fork.
    ///
    /// # Errors
    /// When the database fails.
    pub fn root(&self) -> Result<B256, ChainError> {
        self.root_after(&StateChanges::default())
    }

    /// The first accounts whose hashed addresses are `from` or greater, at most `max`, in order. None on a fork.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accounts_from(&self, from: B256, max: usize) -> Result<Page<TrieAccount>, ChainError> {
        let Some(nodes) = self.nodes() else { return Ok(Vec::new()) };
        Ok(accounts_from(&nodes, from, max).map_err(StoreError::from)?)
    }

    /// The first slots of an account whose hashes are `from` or greater, at most `max`, in order. None on a fork.
    ///
    /// # Errors
    /// When the database fails.
    pub fn slots_from(
        &self,
        hashed_address: B256,
        from: B256,
        max: usize,
    ) -> Result<Page<U256>, ChainError> {
        let Some(nodes) = self.nodes() else { return Ok(Vec::new()) };
        Ok(slots_from(&nodes, hashed_address, from, max).map_err(StoreError::from)?)
    }

    /// The addresses with these hashes, found by hashing every address there is. `check` may give up.
    ///
    /// # Errors
    /// What `check` gives, or when the database fails.
    pub fn addresses_of<E: From<ChainError>>(
        &self,
        hashes: impl IntoIterator<Item = B256>,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<BTreeMap<B256, Address>, E> {
        let mut search = Search::new(hashes, check);
        if let Some(nodes) = self.past_nodes() {
            nodes.for_each_address(|address| search.meet(address, keccak256(address)))?;
        }
        search.end()
    }

    /// The slots of an account with these hashes, as [`Self::addresses_of`] finds addresses.
    ///
    /// # Errors
    /// As there.
    pub fn slots_of<E: From<ChainError>>(
        &self,
        address: Address,
        hashes: impl IntoIterator<Item = B256>,
        check: impl FnMut() -> Result<(), E>,
    ) -> Result<BTreeMap<B256, U256>, E> {
        let mut search = Search::new(hashes, check);
        if let Some(nodes) = self.past_nodes() {
            nodes.for_each_slot(&address, |slot| {
                search.meet(slot, keccak256(slot.to_be_bytes::<32>()))
            })?;
        }
        search.end()
    }
}

/// Looks for what has certain hashes.
struct Search<T, E, C> {
    wanted: BTreeSet<B256>,
    found: BTreeMap<B256, T>,
    met: u32,
    check: C,
    failed: Option<E>,
}

impl<T, E: From<ChainError>, C: FnMut() -> Result<(), E>> Search<T, E, C> {
    fn new(hashes: impl IntoIterator<Item = B256>, check: C) -> Self {
        let wanted = hashes.into_iter().collect();
        Self { wanted, found: BTreeMap::new(), met: 0, check, failed: None }
    }

    fn meet(&mut self, name: T, hash: B256) -> Result<ControlFlow<()>, ChainError> {
        self.met = self.met.wrapping_add(1);
        if self.met.is_multiple_of(HASHES_BETWEEN_CHECKS)
            && let Err(failed) = (self.check)()
        {
            self.failed = Some(failed);
            return Ok(ControlFlow::Break(()));
        }
        if self.wanted.remove(&hash) {
            self.found.insert(hash, name);
        }
        Ok(if self.wanted.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn end(self) -> Result<BTreeMap<B256, T>, E> {
        match self.failed {
            Some(failed) => Err(failed),
            None => Ok(self.found),
        }
    }
}

//! Taking over a chain from somewhere else, and handing one out: what state dumps need.
//!
//! Such a chain begins at its head. Its earlier blocks may be known with their transactions and receipts, but there is
//! no state of theirs, so nothing can run on it.
//!
//! And turning to a block of another node: then the state stays there.

use crate::{Alterations, Chain, ChainBlock, ChainError, GenesisBlock, chain::ChainEvent};
use alloy_consensus::Sealed;
use alloy_primitives::{Address, Bytes, U256};
use heddle_evm::{AccountChange, AccountState, RecoveredTransaction, StateChanges, Transaction};
use heddle_remote::Fork;
use heddle_store::{BlockBatch, NewBase, StoreError, StoredAccount};
use heddle_trie::{NoNodes, TrieUpdates, state_root};
use std::{collections::BTreeMap, sync::Arc};

/// A chain from somewhere else.
#[derive(Debug)]
pub struct NewChain {
    /// Blocks before its head, ascending, each the next one's parent, with the receipts of their transactions.
    pub earlier: Vec<ChainBlock>,
    /// Its head, with the receipts of its transactions.
    pub head: ChainBlock,
    /// The whole state after the head, as a change from nothing.
    pub state: StateChanges,
}

/// Senders and transactions apart, as the store takes them.
struct Parts {
    transactions: Vec<Transaction>,
    senders: Vec<Address>,
}

impl Parts {
    fn of(block: &ChainBlock) -> Self {
        let split = |tx: &RecoveredTransaction| (tx.inner().clone(), tx.signer());
        let (transactions, senders) = block.transactions.iter().map(split).unzip();
        Self { transactions, senders }
    }

    fn batch<'a>(
        &'a self,
        block: &'a ChainBlock,
        changes: &'a StateChanges,
        trie: &'a Arc<TrieUpdates>,
    ) -> BlockBatch<'a> {
        BlockBatch {
            header: &block.header,
            hash: block.hash(),
            transactions: &self.transactions,
            senders: &self.senders,
            ommers: &block.ommers,
            withdrawals: block.withdrawals.as_deref(),
            receipts: &block.receipts,
            changes,
            trie,
            total_difficulty: Some(block.total_difficulty),
        }
    }
}

impl Chain {
    /// Puts another chain in the place of this one, as a whole or not at all. Blocks must not be made at the same time:
    /// whoever makes them has to call this.
    ///
    /// # Errors
    /// If its blocks do not follow on one another, or it cannot be stored. Nothing has changed then.
    pub fn load(&self, new: &NewChain) -> Result<(), ChainError> {
        let _changing = self.changing.lock();
        let (root, trie) = match state_root(&NoNodes, &new.state) {
            Ok(known) => known,
            Err(error) => unreachable!("a trie built from nothing reads no nodes: {error}"),
        };
        let (no_changes, no_nodes) = (StateChanges::default(), Arc::default());
        let parts: Vec<Parts> = new.earlier.iter().map(Parts::of).collect();
        let earlier = new.earlier.iter().zip(&parts);
        let earlier: Vec<BlockBatch<'_>> =
            earlier.map(|(block, parts)| parts.batch(block, &no_changes, &no_nodes)).collect();
        let parts = Parts::of(&new.head);
        self.store.replace(&NewBase {
            earlier: &earlier,
            head: parts.batch(&new.head, &new.state, &trie.into()),
            root,
        })?;
        *self.remote.write() = None;
        self.stages.lock().clear();
        self.reload(ChainEvent { removed: Vec::new(), added: vec![new.head.id()] })
    }

    /// Goes on from a block of another node, in place of this chain. Its transactions stay there, as its state does.
    ///
    /// # Errors
    /// If it cannot be stored. Nothing has changed then.
    pub fn fork(&self, fork: &Fork) -> Result<(), ChainError> {
        let _changing = self.changing.lock();
        let total_difficulty = fork.total_difficulty;
        let withdrawals = fork.header.withdrawals_root.map(|_| Vec::new());
        let header = fork.header.clone();
        let head = ChainBlock::new(
            header,
            Vec::new(),
            Vec::new(),
            withdrawals,
            Vec::new(),
            total_difficulty,
        );
        let (no_changes, no_nodes) = (StateChanges::default(), Arc::default());
        self.store.fork(&Parts::of(&head).batch(&head, &no_changes, &no_nodes))?;
        *self.remote.write() = Some(fork.state.clone());
        self.stages.lock().clear();
        self.reload(ChainEvent { removed: Vec::new(), added: vec![head.id()] })
    }

    /// Back to the genesis block, whatever chain was loaded or forked since.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn reset(&self) -> Result<(), ChainError> {
        // The state of a dump whose only block is this genesis block need not be that of genesis.
        if !self.store.is_loaded() {
            self.unwind_to(0)?;
            return self.restore_altered(Alterations::default());
        }
        self.load(&GenesisBlock::new(&self.spec)?.into_chain())
    }

    /// Hands out every account of the newest state with its code, alterations included, in order of address. Gives the
    /// block whose state it is.
    ///
    /// # Errors
    /// The first that `visit` gives; or if the state cannot be read.
    pub fn for_each_account<E: From<ChainError>>(
        &self,
        mut visit: impl FnMut(StoredAccount, Bytes) -> Result<(), E>,
    ) -> Result<Arc<ChainBlock>, E> {
        let head = self.head_and_state();
        let altered = head.altered.together();
        let mut left: BTreeMap<_, _> =
            altered.iter().flat_map(|altered| altered.accounts.iter()).collect();
        let mut give = |account: StoredAccount| {
            let code =
                head.state.code_by_hash(account.state.code_hash).map_err(ChainError::from)?;
            visit(account, code)
        };
        /// What `visit` says, or the store.
        struct Stopped<E>(E);
        impl<E: From<ChainError>> From<StoreError> for Stopped<E> {
            fn from(error: StoreError) -> Self {
                Self(ChainError::from(error).into())
            }
        }
        let walked = head.base.view().for_each_account(|mut account| {
            // Those that exist only since they were altered, and come before this one.
            while let Some(first) = left.first_entry().filter(|next| *next.key() < &account.address)
            {
                let (address, change) = first.remove_entry();
                if let Some(state) = change.after {
                    give(with_slots(*address, state, Vec::new(), change)).map_err(Stopped)?;
                }
            }
            match left.remove(&account.address) {
                None => {}
                Some(change) => {
                    let Some(state) = change.after else { return Ok(()) };
                    let slots = if change.wiped { Vec::new() } else { account.slots };
                    account = with_slots(account.address, state, slots, change);
                }
            }
            give(account).map_err(Stopped)
        });
        walked.map_err(|Stopped(error)| error)?;
        for (address, change) in left {
            if let Some(state) = change.after {
                give(with_slots(*address, state, Vec::new(), change))?;
            }
        }
        Ok(head.block.clone())
    }
}

/// An account after a change of it.
fn with_slots(
    address: Address,
    state: AccountState,
    slots: Vec<(U256, U256)>,
    change: &AccountChange,
) -> StoredAccount {
    let mut slots: BTreeMap<_, _> = slots.into_iter().collect();
    slots.extend(change.storage.iter().map(|(slot, change)| (*slot, change.after)));
    slots.retain(|_, value| !value.is_zero());
    StoredAccount { address, state, slots: slots.into_iter().collect() }
}

impl GenesisBlock {
    fn into_chain(self) -> NewChain {
        let withdrawals = self.header.withdrawals_root.map(|_| Vec::new());
        let difficulty = self.header.difficulty;
        let header = Sealed::new_unchecked(self.header, self.hash);
        let head =
            ChainBlock::new(header, Vec::new(), Vec::new(), withdrawals, Vec::new(), difficulty);
        NewChain { earlier: Vec::new(), head, state: self.changes }
    }
}

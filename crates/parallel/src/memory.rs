//! Versioned memory: every value that a transaction of the block wrote, by location and writer.
//!
//! A writer whose last incarnation turned out wrong leaves its old values behind as *estimates*: a
//! reader that meets one knows that a new value is on its way and waits for it instead of running
//! on a stale one.
//!
//! A lock is held for one look at a cell or one change of it, never while the EVM runs.

use crate::{
    cell::{AccountValue, AccountWrite, Cell, Found, balance_can_be_open, takes_credit},
    counter::Additions,
    location::{Incarnation, Location, TxIndex},
    sync::{AtomicBool, Ordering},
    table::{RareTable, Table},
};
use alloy_primitives::{Address, U256};
use heddle_evm::AccountState;

pub(crate) type AccountCell = Cell<Address, AccountValue>;
pub(crate) type SlotCell = Cell<(Address, U256), U256>;
pub(crate) type WipeCell = Cell<Address, ()>;

/// One entry of a read set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read<'m> {
    Account(&'m AccountCell, AccountValue),
    /// That the account has this code and at least so many wei; the rest of it was looked at, but
    /// nothing depends on it.
    Contract(&'m AccountCell, AccountState, u128),
    /// That the account takes credit, whatever its balance.
    Payee(&'m AccountCell),
    Slot(&'m SlotCell, U256),
    /// A slot that only counts, and what it will probably hold.
    Counter(&'m SlotCell, U256),
}

impl Read<'_> {
    pub(crate) const fn location(&self) -> Location {
        match self {
            Self::Account(cell, _) | Self::Contract(cell, ..) | Self::Payee(cell) => {
                Location::Account(cell.key)
            }
            Self::Slot(cell, _) | Self::Counter(cell, _) => Location::Slot(cell.key.0, cell.key.1),
        }
    }
}

/// One entry of a write set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'m> {
    Account(&'m AccountCell, AccountWrite),
    Slot(&'m SlotCell, U256),
    /// Comes before what the same transaction writes to the slots.
    Wipe(&'m WipeCell),
}

impl Write<'_> {
    pub(crate) const fn location(&self) -> Location {
        match self {
            Self::Account(cell, _) => Location::Account(cell.key),
            Self::Slot(cell, _) => Location::Slot(cell.key.0, cell.key.1),
            Self::Wipe(cell) => Location::Wipe(cell.key),
        }
    }
}

/// A read that no longer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaleRead {
    pub(crate) location: Location,
    /// Who wrote it since; `None` if a write was taken back.
    pub(crate) writer: Option<TxIndex>,
}

#[derive(Debug)]
pub(crate) struct VersionedMemory {
    accounts: Table<Address, AccountValue>,
    slots: Table<(Address, U256), U256>,
    wipes: RareTable<Address, ()>,
    /// Whether any storage was ever wiped: nearly no block does that, and without it a slot needs
    /// no second look-up.
    wiped: AtomicBool,
    workers: usize,
}

impl VersionedMemory {
    /// For about so many accounts and slots, read and written by so many workers.
    pub(crate) fn new(accounts: usize, slots: usize, workers: usize) -> Self {
        Self {
            accounts: Table::new(accounts, workers),
            slots: Table::new(slots, workers),
            wipes: RareTable::new(workers),
            wiped: AtomicBool::new(false),
            workers,
        }
    }

    pub(crate) const fn workers(&self) -> usize {
        self.workers
    }

    /// Whether a block of that size can use this memory, and will not mind its size.
    pub(crate) fn fits(&self, accounts: usize, slots: usize, workers: usize) -> bool {
        self.workers == workers && self.accounts.fits(accounts) && self.slots.fits(slots)
    }

    /// Accounts and slots that were looked at.
    pub(crate) fn locations(&self) -> usize {
        self.accounts.len() + self.slots.len()
    }

    /// Forgets everything but where it was.
    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
        self.slots.clear();
        self.wipes = RareTable::new(self.workers);
        self.wiped.store(false, Ordering::Relaxed);
    }

    /// The basic part of an account.
    pub(crate) fn account(&self, address: Address, worker: usize) -> &AccountCell {
        self.accounts.get_or_insert(&address, worker)
    }

    /// As [`Self::account`], if anybody looked at it.
    pub(crate) fn known_account(&self, address: Address) -> Option<&AccountCell> {
        self.accounts.get(&address)
    }

    /// One slot.
    pub(crate) fn slot(&self, address: Address, slot: U256, worker: usize) -> &SlotCell {
        self.slots.get_or_insert(&(address, slot), worker)
    }

    /// As [`Self::slot`], if anybody looked at it.
    pub(crate) fn known_slot(&self, address: Address, slot: U256) -> Option<&SlotCell> {
        self.slots.get(&(address, slot))
    }

    /// All storage of an account.
    pub(crate) fn wipe(&self, address: Address, worker: usize) -> &WipeCell {
        self.wipes.get_or_insert(&address, worker)
    }

    /// What `reader` sees in a slot.
    pub(crate) fn find_slot(&self, cell: &SlotCell, reader: TxIndex) -> Found<U256> {
        let found = cell.find(reader);
        // Acquire pairs with the release in `publish`: whoever sees a slot or a status published
        // after a wipe sees the flag too.
        if !self.wiped.load(Ordering::Acquire) {
            return found;
        }
        let Some(wipe) = self.wipes.get(&cell.key.0) else { return found };
        match (wipe.find(reader), found) {
            (Found::Parent, found) => found,
            (_, Found::Estimate(tx)) | (Found::Estimate(tx), _) => Found::Estimate(tx),
            // Writes of the wiping transaction itself come after its wipe.
            (Found::Written(wiper, ()), Found::Written(writer, value)) if writer >= wiper => {
                Found::Written(writer, value)
            }
            (Found::Written(wiper, ()), _) => Found::Written(wiper, U256::ZERO),
        }
    }

    /// What `reader` will probably see in a slot: what is there without the writes of those that are
    /// known to add to it only, and what they add.
    pub(crate) fn foresee(
        &self,
        cell: &SlotCell,
        reader: TxIndex,
        additions: &Additions<'_>,
    ) -> (Found<U256>, U256) {
        if self.wiped.load(Ordering::Acquire) {
            return (self.find_slot(cell, reader), U256::ZERO);
        }
        let found = cell.find_without(reader, |writer| additions.know(writer));
        let first = match found {
            Found::Parent => TxIndex(0),
            Found::Written(writer, _) | Found::Estimate(writer) => TxIndex(writer.0 + 1),
        };
        (found, additions.sum(first))
    }

    /// Replaces the writes of the transaction's former incarnation by those of this one.
    pub(crate) fn publish(
        &self,
        tx: TxIndex,
        incarnation: Incarnation,
        former: &[Write<'_>],
        writes: &[Write<'_>],
        head: TxIndex,
    ) {
        for write in writes {
            match write {
                Write::Account(cell, write) => cell.publish(tx, incarnation, *write, head),
                Write::Slot(cell, value) => cell.publish(tx, incarnation, *value, head),
                Write::Wipe(cell) => {
                    cell.publish(tx, incarnation, (), head);
                    self.wiped.store(true, Ordering::Release);
                }
            }
        }
        for write in former {
            match write {
                Write::Account(cell, _) => cell.retract_former(tx, incarnation),
                Write::Slot(cell, _) => cell.retract_former(tx, incarnation),
                Write::Wipe(cell) => cell.retract_former(tx, incarnation),
            }
        }
    }

    /// Turns the writes of a transaction that is about to run again into estimates.
    pub(crate) fn mark_estimates(&self, tx: TxIndex, writes: &[Write<'_>]) {
        for write in writes {
            match write {
                Write::Account(cell, _) => cell.mark_estimate(tx),
                Write::Slot(cell, _) => cell.mark_estimate(tx),
                Write::Wipe(cell) => cell.mark_estimate(tx),
            }
        }
    }

    /// Takes the writes of a transaction back, as if it had never run.
    pub(crate) fn retract(&self, tx: TxIndex, writes: &[Write<'_>]) {
        for write in writes {
            match write {
                Write::Account(cell, _) => cell.retract(tx),
                Write::Slot(cell, _) => cell.retract(tx),
                Write::Wipe(cell) => cell.retract(tx),
            }
        }
    }

    /// Whether every read still sees what it saw. Values are compared, not versions: equal
    /// versions would prove too little, because a slot read between the publication of a wipe and
    /// that of the same transaction's writes was zero.
    pub(crate) fn validate(&self, tx: TxIndex, reads: &[Read<'_>]) -> Result<(), StaleRead> {
        reads.iter().try_for_each(|read| {
            let holds = match read {
                Read::Contract(cell, then, needed) => {
                    // Payments leave the code as it is and have their own limits.
                    let is_open = |now: &AccountState| {
                        now.code_hash == then.code_hash && balance_can_be_open(now)
                    };
                    let is_open = |now: &AccountValue| now.as_ref().is_some_and(is_open);
                    let mut holds = cell.check_found(cell.find_replaced(tx), is_open);
                    if holds.is_ok() && *needed > 0 {
                        let can_pay = |now: &AccountState| now.balance >= U256::from(*needed);
                        let can_pay = |now: &AccountValue| now.as_ref().is_some_and(can_pay);
                        holds = cell.check_found(cell.find_open(tx), can_pay);
                    }
                    holds
                }
                Read::Account(cell, value) => cell.check(tx, |now| now == value),
                Read::Payee(cell) => cell.check_found(cell.find_replaced(tx), takes_credit),
                Read::Slot(cell, value) | Read::Counter(cell, value) => {
                    self.check_slot(cell, tx, value)
                }
            };
            holds.map_err(|writer| StaleRead { location: read.location(), writer })
        })
    }

    /// Whether every read would see all of what it saw, also where nothing has depended on it yet.
    pub(crate) fn still_sees(&self, tx: TxIndex, reads: &[Read<'_>]) -> bool {
        let same = |read: &Read<'_>| match read {
            Read::Contract(cell, then, _) => cell.check(tx, |now| *now == Some(*then)).is_ok(),
            _ => true,
        };
        reads.iter().all(same) && self.validate(tx, reads).is_ok()
    }

    fn check_slot(
        &self,
        cell: &SlotCell,
        tx: TxIndex,
        value: &U256,
    ) -> Result<(), Option<TxIndex>> {
        if !self.wiped.load(Ordering::Acquire) {
            return cell.check(tx, |now| now == value);
        }
        match self.find_slot(cell, tx) {
            Found::Parent => cell.check(tx, |now| now == value),
            Found::Written(_, now) if now == *value => Ok(()),
            Found::Written(writer, _) | Found::Estimate(writer) => Err(Some(writer)),
        }
    }

    /// The accounts that `worker` was the first to look at.
    pub(crate) fn accounts_of(&self, worker: usize) -> impl Iterator<Item = &AccountCell> {
        self.accounts.made_by(worker)
    }

    /// The slots that `worker` was the first to look at.
    pub(crate) fn slots_of(&self, worker: usize) -> impl Iterator<Item = &SlotCell> {
        self.slots.made_by(worker)
    }

    /// The last transaction below `head` that wiped the account's storage, once all of them are
    /// committed.
    pub(crate) fn settled_wipe(&self, address: Address, head: TxIndex) -> Option<TxIndex> {
        if !self.wiped.load(Ordering::Acquire) {
            return None;
        }
        self.wipes.get(&address)?.settled(head).map(|(tx, ())| tx)
    }

    /// The value that the transactions below `head` leave in a slot, once all of them are
    /// committed; `None` if nobody wrote it, or its account was wiped later.
    pub(crate) fn settled_slot(&self, cell: &SlotCell, head: TxIndex) -> Option<U256> {
        let (tx, value) = cell.settled(head)?;
        self.settled_wipe(cell.key.0, head).is_none_or(|wipe| tx >= wipe).then_some(value)
    }

    /// As [`Self::settled_wipe`], once all transactions of the block are committed.
    pub(crate) fn last_wipe(&self, address: Address) -> Option<TxIndex> {
        self.settled_wipe(address, TxIndex::END)
    }

    /// As [`Self::settled_slot`], once all transactions of the block are committed.
    pub(crate) fn last_slot(&self, cell: &SlotCell) -> Option<U256> {
        self.settled_slot(cell, TxIndex::END)
    }
}

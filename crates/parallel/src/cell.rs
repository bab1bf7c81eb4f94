//! One location: what the parent state holds there and what the transactions of the block wrote.
//!
//! A read by transaction *j* sees the highest writer below *j*, or the parent state. Many
//! locations are only ever read, or written once: reading one that nobody wrote takes no lock.

use crate::{
    location::{Incarnation, TxIndex},
    sync::{AtomicBool, Mutex, Ordering},
};
use alloy_primitives::{KECCAK256_EMPTY, U256};
use heddle_evm::{AccountState, STORAGE_ONLY_CODE_HASH};
use smallvec::SmallVec;
use std::sync::OnceLock;

/// What a location holds.
pub(crate) trait Value: Copy + PartialEq + std::fmt::Debug {
    /// What a transaction writes there: a value, or a change of whatever is there.
    type Write: Copy + std::fmt::Debug;

    /// The value after `write`, if it does not depend on the one before.
    fn whole(write: &Self::Write) -> Option<Self>;
    /// The value after `write`.
    fn after(self, write: &Self::Write) -> Self;
    /// One write that does what `self` and then `above` do.
    fn join(below: &Self::Write, above: &Self::Write) -> Self::Write;
}

/// The basic part of an account, `None` where it does not exist.
pub(crate) type AccountValue = Option<AccountState>;

/// What a transaction does to the basic part of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountWrite {
    /// It becomes this.
    Is(AccountValue),
    /// Its balance grows, or shrinks if this is a negative number in two's complement. Sums are not
    /// conflicts: payments to and from one account need not wait for each other.
    Credit(U256),
}

/// Whether a plain payment to an account runs no code there and cannot overflow its balance,
/// however many more of them a block holds: asked of what is there before all of them.
pub fn takes_credit(account: &Option<AccountState>) -> bool {
    account.is_none_or(|account| {
        account.code_hash == KECCAK256_EMPTY && account.balance < CREDITED_BALANCE_MAX
    })
}

/// Whether a transaction may call an account and move ether to and from it while it is left open
/// how much the account has: one with code, which is there whatever it has.
pub fn balance_can_be_open(account: &AccountState) -> bool {
    account.code_hash != KECCAK256_EMPTY
        && account.code_hash != STORAGE_ONLY_CODE_HASH
        && account.balance < CREDITED_BALANCE_MAX
}

/// Balances from here on are not credited blindly.
const CREDITED_BALANCE_MAX: U256 = U256::from_limbs([0, 0, 0, 1 << 62]);

/// Payments from here on are not made blindly: 2^32 of them stay below 2^255.
pub(crate) const CREDIT_MAX: U256 = U256::from_limbs([0, 0, 0, 1 << 30]);

impl Value for AccountValue {
    type Write = AccountWrite;

    fn whole(write: &AccountWrite) -> Option<Self> {
        match write {
            AccountWrite::Is(account) => Some(*account),
            AccountWrite::Credit(_) => None,
        }
    }

    fn after(self, write: &AccountWrite) -> Self {
        match write {
            AccountWrite::Is(account) => *account,
            AccountWrite::Credit(amount) => {
                let account = self.unwrap_or_default();
                // See `CREDIT_MAX`: validation lets no credit stand that could overflow.
                Some(AccountState { balance: account.balance.wrapping_add(*amount), ..account })
            }
        }
    }

    fn join(below: &AccountWrite, above: &AccountWrite) -> AccountWrite {
        match (below, above) {
            (AccountWrite::Credit(a), AccountWrite::Credit(b)) => {
                AccountWrite::Credit(a.wrapping_add(*b))
            }
            (AccountWrite::Is(account), AccountWrite::Credit(_)) => {
                AccountWrite::Is(account.after(above))
            }
            (_, AccountWrite::Is(_)) => *above,
        }
    }
}

impl Value for U256 {
    type Write = Self;

    fn whole(write: &Self) -> Option<Self> {
        Some(*write)
    }
    fn after(self, write: &Self) -> Self {
        *write
    }
    fn join(_: &Self, above: &Self) -> Self {
        *above
    }
}

/// That the storage of an account was wiped.
impl Value for () {
    type Write = Self;

    fn whole((): &Self) -> Option<Self> {
        Some(())
    }
    fn after(self, (): &Self) -> Self {}
    fn join((): &Self, (): &Self) -> Self {}
}

#[derive(Debug, Clone, Copy)]
struct Version<W> {
    tx: TxIndex,
    incarnation: Incarnation,
    /// The writer is about to run again; whoever meets this waits for it.
    estimate: bool,
    write: W,
}

impl<W> Version<W> {
    const fn is_estimate(&self) -> bool {
        self.estimate
    }
}

/// Writers of one location in block order; most locations have one.
type Versions<W> = SmallVec<[Version<W>; 1]>;

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<V> {
    /// Nobody in the block wrote it: the parent state holds it.
    Parent,
    /// What the earlier transactions left; the last of them.
    Written(TxIndex, V),
    /// This transaction is about to write it again.
    Estimate(TxIndex),
}

/// One location of the block.
#[derive(Debug)]
pub(crate) struct Cell<K, V: Value> {
    pub(crate) key: K,
    /// The value in the parent state, once somebody has read it.
    parent: OnceLock<V>,
    /// Whether anybody ever wrote it.
    written: AtomicBool,
    /// Whether anybody ever wrote a value that does not depend on the one before: hardly any account
    /// that many pay to is ever changed otherwise.
    replaced: AtomicBool,
    versions: Mutex<Versions<V::Write>>,
}

/// Length at which a list of versions is first looked through for ones that nobody can read any
/// more; then at every doubling.
const PRUNE_FROM: usize = 8;

impl<K, V: Value> Cell<K, V> {
    pub(crate) fn new(key: K) -> Self {
        Self {
            key,
            parent: OnceLock::new(),
            written: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            versions: Mutex::new(SmallVec::new()),
        }
    }

    /// What the parent state holds; asks `load` if nobody has asked before. Two may ask at once:
    /// that is cheaper than one waiting while the other reads a disk.
    pub(crate) fn parent<E>(&self, load: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        match self.parent.get() {
            Some(value) => Ok(*value),
            None => {
                let value = load()?;
                Ok(*self.parent.get_or_init(|| value))
            }
        }
    }

    /// What the parent state holds, if anybody has asked.
    pub(crate) fn known_parent(&self) -> Option<V> {
        self.parent.get().copied()
    }

    /// What `reader` sees.
    pub(crate) fn find(&self, reader: TxIndex) -> Found<V> {
        // Acquire pairs with the release in `publish`. A reader that comes too early for a write
        // reads the parent state and is found out when it is validated.
        if !self.written.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        self.resolve(below(&versions, reader), Version::is_estimate)
    }

    /// As [`Self::find`], but changes of whatever is there are taken as they are, even if they may
    /// come out otherwise.
    pub(crate) fn find_open(&self, reader: TxIndex) -> Found<V> {
        if !self.written.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        let stops =
            |version: &Version<V::Write>| version.estimate && V::whole(&version.write).is_some();
        self.resolve(below(&versions, reader), stops)
    }

    /// What `reader` would see if all that was ever done to the location since it was last replaced
    /// had not been done. Takes no lock if it never was.
    pub(crate) fn find_replaced(&self, reader: TxIndex) -> Found<V> {
        // As with `written` in `find`.
        if !self.replaced.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        let replaced = below(&versions, reader)
            .iter()
            .rev()
            .find_map(|version| V::whole(&version.write).map(|value| (version, value)));
        match replaced {
            None => Found::Parent,
            Some((version, _)) if version.estimate => Found::Estimate(version.tx),
            Some((version, value)) => Found::Written(version.tx, value),
        }
    }

    fn resolve(
        &self,
        below: &[Version<V::Write>],
        stops: impl Fn(&Version<V::Write>) -> bool,
    ) -> Found<V> {
        let Some(last) = below.last() else { return Found::Parent };
        let mut first = below.len();
        let mut value = None;
        while value.is_none() && first > 0 {
            first -= 1;
            if stops(&below[first]) {
                return Found::Estimate(below[first].tx);
            }
            value = V::whole(&below[first].write);
        }
        let value = match value {
            Some(value) => below[first + 1..].iter().fold(value, |value, v| value.after(&v.write)),
            None => {
                let Some(parent) = self.parent.get() else {
                    unreachable!("who writes a change has read the parent's value")
                };
                below.iter().fold(*parent, |value, version| value.after(&version.write))
            }
        };
        Found::Written(last.tx, value)
    }

    /// Whether `reader` sees a value that `holds`; if not, who wrote it since (`None` if a write
    /// was taken back). Values are compared, not versions: execution depends on values only.
    pub(crate) fn check(
        &self,
        reader: TxIndex,
        holds: impl Fn(&V) -> bool,
    ) -> Result<(), Option<TxIndex>> {
        self.check_found(self.find(reader), holds)
    }

    /// As [`Self::check`], with what one of the ways to look at the location has found.
    pub(crate) fn check_found(
        &self,
        found: Found<V>,
        holds: impl Fn(&V) -> bool,
    ) -> Result<(), Option<TxIndex>> {
        match found {
            Found::Parent if self.parent.get().is_some_and(&holds) => Ok(()),
            Found::Parent => Err(None),
            Found::Written(_, value) if holds(&value) => Ok(()),
            Found::Written(writer, _) | Found::Estimate(writer) => Err(Some(writer)),
        }
    }

    /// Puts in what an incarnation wrote, in place of what the one before wrote here. Everything
    /// below `head` is final.
    pub(crate) fn publish(
        &self,
        tx: TxIndex,
        incarnation: Incarnation,
        write: V::Write,
        head: TxIndex,
    ) {
        let replaces = V::whole(&write).is_some();
        let version = Version { tx, incarnation, estimate: false, write };
        let mut versions = self.versions.lock();
        match versions.last() {
            Some(last) if last.tx >= tx => {
                match versions.binary_search_by_key(&tx, |other| other.tx) {
                    Ok(place) => versions[place] = version,
                    Err(place) => versions.insert(place, version),
                }
            }
            _ => versions.push(version),
        }
        if versions.len() >= PRUNE_FROM && versions.len().is_power_of_two() {
            prune::<V>(&mut versions, head);
        }
        drop(versions);
        for (flag, holds) in [(&self.written, true), (&self.replaced, replaces)] {
            if holds && !flag.load(Ordering::Relaxed) {
                flag.store(true, Ordering::Release);
            }
        }
    }

    /// Removes what an incarnation other than `incarnation` of `tx` wrote.
    pub(crate) fn retract_former(&self, tx: TxIndex, incarnation: Incarnation) {
        self.with_version(tx, |versions, place| {
            if versions[place].incarnation != incarnation {
                versions.remove(place);
            }
        });
    }

    /// Turns what `tx` wrote into an estimate.
    pub(crate) fn mark_estimate(&self, tx: TxIndex) {
        self.with_version(tx, |versions, place| versions[place].estimate = true);
    }

    /// Takes back what `tx` wrote, as if it had never run.
    pub(crate) fn retract(&self, tx: TxIndex) {
        self.with_version(tx, |versions, place| {
            versions.remove(place);
        });
    }

    fn with_version(&self, tx: TxIndex, act: impl FnOnce(&mut Versions<V::Write>, usize)) {
        let mut versions = self.versions.lock();
        if let Ok(place) = versions.binary_search_by_key(&tx, |version| version.tx) {
            act(&mut versions, place);
        }
    }

    /// The value that the transactions below `head` leave and the last of them that wrote it, once
    /// all of them are committed; `None` if nobody wrote it.
    pub(crate) fn settled(&self, head: TxIndex) -> Option<(TxIndex, V)> {
        match self.find(head) {
            Found::Written(tx, value) => Some((tx, value)),
            Found::Parent | Found::Estimate(_) => None,
        }
    }

    /// As [`Self::settled`], once all transactions of the block are committed.
    pub(crate) fn last(&self) -> Option<(TxIndex, V)> {
        self.settled(TxIndex::END)
    }
}

/// The versions that `reader` may see. Searched, not scanned: a hot location has thousands of
/// writers above its readers.
fn below<W>(versions: &[Version<W>], reader: TxIndex) -> &[Version<W>] {
    &versions[..versions.partition_point(|version| version.tx < reader)]
}

/// Joins the writes of committed transactions into one: only the last of them can be read.
fn prune<V: Value>(versions: &mut Versions<V::Write>, head: TxIndex) {
    let committed = versions.partition_point(|version| version.tx < head);
    if committed < 2 {
        return;
    }
    let write = |version: &Version<V::Write>| version.write;
    let joined = versions[1..committed]
        .iter()
        .fold(write(&versions[0]), |below, above| V::join(&below, &above.write));
    versions.drain(..committed - 1);
    versions[0].write = joined;
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    const FIRST: Incarnation = Incarnation(0);

    fn account(balance: u64) -> AccountValue {
        Some(AccountState { balance: U256::from(balance), ..AccountState::default() })
    }

    fn credited(writes: u32, head: TxIndex) -> Cell<u8, AccountValue> {
        let cell = Cell::new(0);
        cell.parent(|| Ok::<_, ()>(account(7))).unwrap();
        for tx in 0..writes {
            cell.publish(TxIndex(tx), FIRST, AccountWrite::Credit(U256::from(1)), head);
        }
        cell
    }

    #[test]
    fn credits_add_up_on_the_parent_s_value_and_on_a_written_one() {
        let cell = credited(5, TxIndex(0));
        assert_eq!(cell.find(TxIndex(0)), Found::Parent);
        assert_eq!(cell.find(TxIndex(3)), Found::Written(TxIndex(2), account(10)));
        cell.publish(TxIndex(1), Incarnation(1), AccountWrite::Is(account(100)), TxIndex(0));
        assert_eq!(cell.find(TxIndex(1)), Found::Written(TxIndex(0), account(8)));
        assert_eq!(cell.find(TxIndex(5)), Found::Written(TxIndex(4), account(103)));
    }

    #[test]
    fn an_estimate_below_a_credit_stops_the_reader() {
        let cell = credited(3, TxIndex(0));
        cell.mark_estimate(TxIndex(1));
        assert_eq!(cell.find(TxIndex(1)), Found::Written(TxIndex(0), account(8)));
        assert_eq!(cell.find(TxIndex(3)), Found::Estimate(TxIndex(1)));
    }

    #[test]
    fn committed_writes_are_joined_and_uncommitted_ones_kept_apart() {
        let cell = credited(64, TxIndex(60));
        assert!(cell.versions.lock().len() <= 64 - 58);
        for reader in 60..=64 {
            let expected = Found::Written(TxIndex(reader - 1), account(7 + u64::from(reader)));
            assert_eq!(cell.find(TxIndex(reader)), expected);
        }
        assert_eq!(cell.last(), Some((TxIndex(63), account(71))));
    }

    #[test]
    fn what_a_later_incarnation_did_not_write_again_is_gone() {
        let cell = Cell::<u8, U256>::new(0);
        cell.publish(TxIndex(1), FIRST, U256::from(1), TxIndex(0));
        cell.publish(TxIndex(2), FIRST, U256::from(2), TxIndex(0));
        cell.retract_former(TxIndex(2), Incarnation(1));
        cell.retract_former(TxIndex(1), FIRST);
        assert_eq!(cell.find(TxIndex(9)), Found::Written(TxIndex(1), U256::from(1)));
        cell.retract(TxIndex(1));
        assert_eq!(cell.find(TxIndex(9)), Found::Parent);
    }
}

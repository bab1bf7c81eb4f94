//! One location: what the parent state holds there and what the transactions of the block wrote.
//!
//! A read by transaction *j* sees the highest writer below *j*, or the parent state. Many
//! locations are only ever read, or written once: reading one that nobody wrote takes no lock.

use crate::{
    location::{Incarnation, TxIndex},
    sync::{AtomicBool, AtomicU16, Mutex, Ordering},
};
use alloy_primitives::{KECCAK256_EMPTY, U256};
use heddle_evm::{AccountState, STORAGE_ONLY_CODE_HASH};
use std::{fmt::Debug, slice, sync::OnceLock};

/// What a location holds.
pub(crate) trait Value: Copy + PartialEq + Debug + Into<Self::Kept> {
    /// What a transaction writes there: a value, or a change of whatever is there.
    type Write: Copy + Debug + Into<Self::KeptWrite>;
    /// A value as cells keep it: blocks have hundreds of thousands of cells, and what they cost is
    /// mostly the memory that they touch.
    type Kept: Debug;
    /// A write as cells keep it.
    type KeptWrite: Debug;

    /// The value that is kept.
    fn of(kept: &Self::Kept) -> Self;
    /// The write that is kept.
    fn write_of(kept: &Self::KeptWrite) -> Self::Write;

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

/// An account in little room. Nearly all accounts have no code and less than 2^128 wei.
#[derive(Debug)]
pub(crate) enum KeptAccount {
    Missing,
    Plain { nonce: u64, balance: Low },
    Whole(Box<AccountState>),
}

/// As [`KeptAccount`].
#[derive(Debug)]
pub(crate) enum KeptAccountWrite {
    IsMissing,
    IsPlain { nonce: u64, balance: Low },
    IsWhole(Box<AccountState>),
    Credit { amount: Low, is_negative: bool },
    LargeCredit(Box<U256>),
}

/// A number below 2^128. A `u128` would have to lie at a multiple of sixteen bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Low([u64; 2]);

impl Low {
    fn of(number: &U256) -> Option<Self> {
        let [low, high, 0, 0] = *number.as_limbs() else { return None };
        Some(Self([low, high]))
    }

    const fn get(self) -> U256 {
        let Self([low, high]) = self;
        U256::from_limbs([low, high, 0, 0])
    }
}

const fn plain(nonce: u64, balance: Low) -> AccountState {
    AccountState { nonce, balance: balance.get(), code_hash: KECCAK256_EMPTY }
}

impl From<AccountValue> for KeptAccount {
    fn from(account: AccountValue) -> Self {
        let Some(account) = account else { return Self::Missing };
        match Low::of(&account.balance) {
            Some(balance) if account.code_hash == KECCAK256_EMPTY => {
                Self::Plain { nonce: account.nonce, balance }
            }
            _ => Self::Whole(Box::new(account)),
        }
    }
}

impl From<AccountWrite> for KeptAccountWrite {
    fn from(write: AccountWrite) -> Self {
        match write {
            AccountWrite::Is(account) => match account.into() {
                KeptAccount::Missing => Self::IsMissing,
                KeptAccount::Plain { nonce, balance } => Self::IsPlain { nonce, balance },
                KeptAccount::Whole(account) => Self::IsWhole(account),
            },
            AccountWrite::Credit(amount) => {
                let kept = |amount: &U256, is_negative| {
                    Some(Self::Credit { amount: Low::of(amount)?, is_negative })
                };
                kept(&amount, false)
                    .or_else(|| kept(&amount.wrapping_neg(), true))
                    .unwrap_or_else(|| Self::LargeCredit(Box::new(amount)))
            }
        }
    }
}

impl Value for AccountValue {
    type Write = AccountWrite;
    type Kept = KeptAccount;
    type KeptWrite = KeptAccountWrite;

    fn of(kept: &KeptAccount) -> Self {
        match kept {
            KeptAccount::Missing => None,
            KeptAccount::Plain { nonce, balance } => Some(plain(*nonce, *balance)),
            KeptAccount::Whole(account) => Some(**account),
        }
    }

    fn write_of(kept: &KeptAccountWrite) -> AccountWrite {
        match kept {
            KeptAccountWrite::IsMissing => AccountWrite::Is(None),
            KeptAccountWrite::IsPlain { nonce, balance } => {
                AccountWrite::Is(Some(plain(*nonce, *balance)))
            }
            KeptAccountWrite::IsWhole(account) => AccountWrite::Is(Some(**account)),
            KeptAccountWrite::Credit { amount, is_negative: false } => {
                AccountWrite::Credit(amount.get())
            }
            KeptAccountWrite::Credit { amount, is_negative: true } => {
                AccountWrite::Credit(amount.get().wrapping_neg())
            }
            KeptAccountWrite::LargeCredit(amount) => AccountWrite::Credit(**amount),
        }
    }

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
    type Kept = Self;
    type KeptWrite = Self;

    fn of(kept: &Self) -> Self {
        *kept
    }
    fn write_of(kept: &Self) -> Self {
        *kept
    }
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
    type Kept = Self;
    type KeptWrite = Self;

    fn of((): &Self) -> Self {}
    fn write_of((): &Self) -> Self {}
    fn whole((): &Self) -> Option<Self> {
        Some(())
    }
    fn after(self, (): &Self) -> Self {}
    fn join((): &Self, (): &Self) -> Self {}
}

#[derive(Debug)]
struct Version<V: Value> {
    tx: TxIndex,
    attempt: Attempt,
    write: V::KeptWrite,
}

impl<V: Value> Version<V> {
    fn write(&self) -> V::Write {
        V::write_of(&self.write)
    }

    /// The value after it, if it does not depend on the one before.
    fn whole(&self) -> Option<V> {
        V::whole(&self.write())
    }

    const fn is_estimate(&self) -> bool {
        self.attempt.is_estimate()
    }
}

/// An incarnation, and in the lowest bit whether it is an estimate: the writer is about to run
/// again, and whoever meets it waits for that.
#[derive(Debug, Clone, Copy)]
struct Attempt(u32);

impl Attempt {
    const fn new(incarnation: Incarnation) -> Self {
        Self(incarnation.0 << 1)
    }

    const fn is_of(self, incarnation: Incarnation) -> bool {
        self.0 >> 1 == Self::new(incarnation).0 >> 1
    }

    const fn is_estimate(self) -> bool {
        self.0 & 1 == 1
    }

    const fn estimated(self) -> Self {
        Self(self.0 | 1)
    }
}

/// Writers of one location in block order; most locations have one at most.
#[derive(Debug)]
enum Versions<V: Value> {
    None,
    One(Version<V>),
    /// Behind a single pointer, so that this takes no more room than one version.
    #[expect(clippy::box_collection, reason = "a list is three times as large as a pointer to it")]
    Many(Box<Vec<Version<V>>>),
}

impl<V: Value> Versions<V> {
    fn all(&self) -> &[Version<V>] {
        match self {
            Self::None => &[],
            Self::One(version) => slice::from_ref(version),
            Self::Many(versions) => versions,
        }
    }

    fn insert(&mut self, place: usize, version: Version<V>) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(version),
            Self::One(other) => {
                let mut both = Vec::with_capacity(MANY_MIN);
                both.push(other);
                both.insert(place, version);
                Self::Many(Box::new(both))
            }
            Self::Many(mut versions) => {
                versions.insert(place, version);
                Self::Many(versions)
            }
        };
    }

    fn at(&mut self, place: usize) -> &mut Version<V> {
        match self {
            Self::None => unreachable!("places are those of versions"),
            Self::One(version) => version,
            Self::Many(versions) => &mut versions[place],
        }
    }

    fn remove(&mut self, place: usize) {
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Many(versions) => drop(versions.remove(place)),
        }
    }
}

/// Room in a list of versions at first.
const MANY_MIN: usize = 4;

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
    parent: OnceLock<V::Kept>,
    /// Whether anybody ever wrote it.
    written: AtomicBool,
    /// See [`Self::rule`]; plus one, if there is one.
    rule: AtomicU16,
    /// Whether anybody ever wrote a value that does not depend on the one before: hardly any account
    /// that many pay to is ever changed otherwise.
    replaced: AtomicBool,
    versions: Mutex<Versions<V>>,
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
            rule: AtomicU16::new(0),
            replaced: AtomicBool::new(false),
            versions: Mutex::new(Versions::None),
        }
    }

    /// What the parent state holds; asks `load` if nobody has asked before. Two may ask at once:
    /// that is cheaper than one waiting while the other reads a disk.
    pub(crate) fn parent<E>(&self, load: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        match self.parent.get() {
            Some(kept) => Ok(V::of(kept)),
            None => {
                let value = load()?;
                Ok(V::of(self.parent.get_or_init(|| value.into())))
            }
        }
    }

    /// What the parent state holds, if anybody has asked.
    pub(crate) fn known_parent(&self) -> Option<V> {
        self.parent.get().map(V::of)
    }

    /// Says that a rule knows how much transactions add to it.
    pub(crate) fn set_rule(&self, rule: u16) {
        self.rule.store(rule + 1, Ordering::Relaxed);
    }

    /// The rule that knows how much most transactions add to it. Nothing depends on when that is
    /// seen.
    pub(crate) fn rule(&self) -> Option<u16> {
        self.rule.load(Ordering::Relaxed).checked_sub(1)
    }

    /// What `reader` sees.
    pub(crate) fn find(&self, reader: TxIndex) -> Found<V> {
        // Acquire pairs with the release in `publish`. A reader that comes too early for a write
        // reads the parent state and is found out when it is validated.
        if !self.written.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        self.resolve(below(versions.all(), reader), Version::is_estimate)
    }

    /// As [`Self::find`], with the versions left out whose writers are such.
    pub(crate) fn find_without(&self, reader: TxIndex, skip: impl Fn(TxIndex) -> bool) -> Found<V> {
        if !self.written.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        let mut below = below(versions.all(), reader);
        while let [rest @ .., last] = below
            && skip(last.tx)
        {
            below = rest;
        }
        self.resolve(below, Version::is_estimate)
    }

    /// As [`Self::find`], but changes of whatever is there are taken as they are, even if they may
    /// come out otherwise.
    pub(crate) fn find_open(&self, reader: TxIndex) -> Found<V> {
        if !self.written.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        let stops = |version: &Version<V>| version.is_estimate() && version.whole().is_some();
        self.resolve(below(versions.all(), reader), stops)
    }

    /// What `reader` would see if all that was ever done to the location since it was last replaced
    /// had not been done. Takes no lock if it never was.
    pub(crate) fn find_replaced(&self, reader: TxIndex) -> Found<V> {
        // As with `written` in `find`.
        if !self.replaced.load(Ordering::Acquire) {
            return Found::Parent;
        }
        let versions = self.versions.lock();
        let replaced = below(versions.all(), reader)
            .iter()
            .rev()
            .find_map(|version| version.whole().map(|value| (version, value)));
        match replaced {
            None => Found::Parent,
            Some((version, _)) if version.is_estimate() => Found::Estimate(version.tx),
            Some((version, value)) => Found::Written(version.tx, value),
        }
    }

    fn resolve(&self, below: &[Version<V>], stops: impl Fn(&Version<V>) -> bool) -> Found<V> {
        let Some(last) = below.last() else { return Found::Parent };
        let mut first = below.len();
        let mut value = None;
        while value.is_none() && first > 0 {
            first -= 1;
            if stops(&below[first]) {
                return Found::Estimate(below[first].tx);
            }
            value = below[first].whole();
        }
        let value = match value {
            Some(value) => {
                below[first + 1..].iter().fold(value, |value, v| value.after(&v.write()))
            }
            None => {
                let Some(parent) = self.known_parent() else {
                    unreachable!("who writes a change has read the parent's value")
                };
                below.iter().fold(parent, |value, version| value.after(&version.write()))
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
            Found::Parent if self.known_parent().as_ref().is_some_and(&holds) => Ok(()),
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
        let version = Version { tx, attempt: Attempt::new(incarnation), write: write.into() };
        let mut versions = self.versions.lock();
        let all = versions.all();
        match all.last() {
            Some(last) if last.tx >= tx => match all.binary_search_by_key(&tx, |other| other.tx) {
                Ok(place) => *versions.at(place) = version,
                Err(place) => versions.insert(place, version),
            },
            _ => {
                let end = all.len();
                versions.insert(end, version);
            }
        }
        if let Versions::Many(many) = &mut *versions
            && many.len() >= PRUNE_FROM
            && many.len().is_power_of_two()
        {
            prune(many, head);
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
            if !versions.at(place).attempt.is_of(incarnation) {
                versions.remove(place);
            }
        });
    }

    /// Turns what `tx` wrote into an estimate.
    pub(crate) fn mark_estimate(&self, tx: TxIndex) {
        self.with_version(tx, |versions, place| {
            let version = versions.at(place);
            version.attempt = version.attempt.estimated();
        });
    }

    /// Takes back what `tx` wrote, as if it had never run.
    pub(crate) fn retract(&self, tx: TxIndex) {
        self.with_version(tx, |versions, place| {
            versions.remove(place);
        });
    }

    fn with_version(&self, tx: TxIndex, act: impl FnOnce(&mut Versions<V>, usize)) {
        let mut versions = self.versions.lock();
        if let Ok(place) = versions.all().binary_search_by_key(&tx, |version| version.tx) {
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
fn below<V: Value>(versions: &[Version<V>], reader: TxIndex) -> &[Version<V>] {
    &versions[..versions.partition_point(|version| version.tx < reader)]
}

/// Joins the writes of committed transactions into one: only the last of them can be read.
fn prune<V: Value>(versions: &mut Vec<Version<V>>, head: TxIndex) {
    let committed = versions.partition_point(|version| version.tx < head);
    if committed < 2 {
        return;
    }
    let joined = versions[1..committed]
        .iter()
        .fold(versions[0].write(), |below, above| V::join(&below, &above.write()));
    versions.drain(..committed - 1);
    versions[0].write = joined.into();
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};

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
        assert!(cell.versions.lock().all().len() <= 64 - 58);
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

    #[test]
    fn accounts_and_writes_are_kept_as_they_are() {
        let numbers: [U256; 8] =
            [0_usize, 1, 64, 127, 128, 129, 200, 255].map(|bit| U256::ONE << bit);
        let numbers = numbers
            .into_iter()
            .flat_map(|number| [number - U256::ONE, number, number.wrapping_neg(), U256::ZERO]);
        for balance in numbers {
            for code_hash in [KECCAK256_EMPTY, STORAGE_ONLY_CODE_HASH, B256::repeat_byte(7)] {
                let state = AccountState { nonce: u64::MAX, balance, code_hash };
                assert_eq!(AccountValue::of(&Some(state).into()), Some(state));
                let write = AccountWrite::Is(Some(state));
                assert_eq!(AccountValue::write_of(&write.into()), write);
            }
            let write = AccountWrite::Credit(balance);
            assert_eq!(AccountValue::write_of(&write.into()), write);
        }
        assert_eq!(AccountValue::of(&None.into()), None);
        let write = AccountWrite::Is(None);
        assert_eq!(AccountValue::write_of(&write.into()), write);
    }

    #[test]
    #[cfg(not(feature = "delays"))]
    fn cells_are_small() {
        assert_eq!(size_of::<Cell<Address, AccountValue>>(), 112);
        assert_eq!(size_of::<Cell<(Address, U256), U256>>(), 160);
    }
}

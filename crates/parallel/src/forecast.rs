//! What is known about a block before it runs, and whether that speaks for running it on more than
//! one worker. Wrong guesses cost time, never results.

use crate::{
    location::{Location, TxIndex},
    scheduler::Forecast,
};
use alloy_consensus::Transaction as _;
use alloy_primitives::map::{AddressMap, Entry, HashMap};
use heddle_evm::RecoveredTransaction;
use smallvec::{SmallVec, smallvec};

/// About how many locations a block touches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) accounts: usize,
    pub(crate) slots: usize,
}

/// Gas for which a transaction may be expected to touch another slot.
const GAS_PER_SLOT: u64 = 20_000;
/// Most slots to expect of one transaction, and of a block: beyond, tables get slower.
const SLOTS_PER_TRANSACTION_MAX: u64 = 64;
const SLOTS_MAX: usize = 1 << 20;

impl Size {
    pub(crate) fn of(transactions: &[RecoveredTransaction]) -> Self {
        let slots = |tx: &RecoveredTransaction| {
            if tx.input().is_empty() {
                return 0;
            }
            (tx.gas_limit() / GAS_PER_SLOT).min(SLOTS_PER_TRANSACTION_MAX) as usize
        };
        let slots: usize = transactions.iter().map(slots).sum();
        Self { accounts: 2 * transactions.len() + 16, slots: slots.clamp(16, SLOTS_MAX) }
    }
}

/// What a transaction will probably touch: from a simulation on an earlier state, say, or from a
/// block access list (EIP-7928). A transaction is made to wait until those have run that write what
/// it reads. Hints that are wrong cost time and nothing else; of a long one only the beginning is
/// looked at, the less the lighter the transaction is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessHint {
    /// Locations whose value it depends on. The sender's account, which every transaction reads,
    /// may be left out.
    pub reads: Vec<Location>,
    /// Locations that it changes.
    pub writes: Vec<Location>,
}

/// What a plain payment needs (yellow paper, G_transaction).
const PAYMENT_GAS: u64 = 21_000;

/// Locations of one hint that are looked at, of reads and of writes each: so many for a transaction
/// with no work, and one more for so much work. Looking at them must cost a small part of running
/// the transaction, however many there are.
const HINT_LOCATIONS_MIN: usize = 4;
const HINT_WORK_PER_LOCATION: usize = 2;
/// Earlier transactions that one is made to wait for.
const PREDECESSORS_MAX: usize = 32;

/// A block's transactions before they run. Work is counted in units of a plain payment.
#[derive(Debug)]
pub struct BlockForecast {
    /// Each of them.
    pub transactions: Vec<Forecast>,
    /// What the transactions have to wait for, see [`Forecast::predecessors`].
    pub predecessors: Vec<TxIndex>,
    /// Work of all transactions.
    pub work: u64,
    /// Work of those that are payments.
    pub payments: u64,
    /// Work of the heaviest chain of transactions that have to wait for each other.
    pub chain_work: u64,
}

/// Gas of a call that counts as much as a plain payment: less than a payment's, because the EVM
/// takes longer to start than a payment takes in all.
const GAS_PER_WORK: u64 = 5_000;
/// Work up to which one worker is done before a second one is awake.
const WORK_ALONE_MAX: u64 = 512;
/// Share of the work, in percent, that one chain may have where more workers than one are to gain
/// anything.
pub(crate) const CHAIN_PERCENT_MAX: u64 = 60;
/// Work of calls for each payment from which on all workers gain: two of them together take as long
/// for a payment, with its versions, as one takes in place.
const CALL_WORK_PER_PAYMENT_MIN: u64 = 2;

impl std::fmt::Display for BlockForecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { work, payments, chain_work, .. } = self;
        write!(f, "work {work}, payments {payments}, heaviest chain {chain_work}")
    }
}

impl BlockForecast {
    /// `hints` are those of the first transactions; there may be none.
    pub fn of(transactions: &[RecoveredTransaction], hints: &[AccessHint]) -> Self {
        let mut senders =
            AddressMap::<TxIndex>::with_capacity_and_hasher(transactions.len(), Default::default());
        let mut writers = Writers::default();
        let mut all = Self {
            transactions: Vec::with_capacity(transactions.len()),
            predecessors: Vec::new(),
            work: 0,
            payments: 0,
            chain_work: 0,
        };
        // Work of the heaviest chain that ends with each transaction.
        let mut paths = Vec::<u64>::with_capacity(transactions.len());
        for (index, tx) in transactions.iter().enumerate() {
            let tx_index = TxIndex(index as u32);
            let is_payment = tx.input().is_empty() && tx.to().is_some();
            let work = if is_payment { 1 } else { (tx.gas_limit() / GAS_PER_WORK).clamp(4, 64) };
            let first = all.predecessors.len();
            if let Some(hint) = hints.get(index) {
                // With no more gas than that it runs no code.
                let plain = is_payment && tx.gas_limit() == PAYMENT_GAS;
                let credited = tx.to().filter(|_| plain).map(Location::Account);
                let locations = HINT_LOCATIONS_MIN + work as usize / HINT_WORK_PER_LOCATION;
                writers.add(tx_index, hint, locations, credited, &mut all.predecessors);
            }
            match senders.entry(tx.signer()) {
                Entry::Vacant(entry) => drop(entry.insert(tx_index)),
                Entry::Occupied(mut entry) => {
                    all.predecessors.push(std::mem::replace(entry.get_mut(), tx_index));
                }
            }
            let path = |before: &TxIndex| paths[before.as_usize()];
            let before = all.predecessors[first..].iter().map(path).max().unwrap_or(0);
            paths.push(before + work);
            all.work += work;
            all.payments += u64::from(is_payment);
            all.chain_work = all.chain_work.max(before + work);
            let predecessors = (first as u32, (all.predecessors.len() - first) as u8);
            all.transactions.push(Forecast { predecessors, work: work as u8 });
        }
        all
    }

    fn is_chain(&self) -> bool {
        self.chain_work * 100 > self.work * CHAIN_PERCENT_MAX
    }

    fn is_payments(&self) -> bool {
        self.work - self.payments < self.payments * CALL_WORK_PER_PAYMENT_MIN
    }

    /// Whether more than one worker may make the block faster, if reading state takes no time.
    pub fn can_gain(&self) -> bool {
        self.work > WORK_ALONE_MAX && !self.is_chain() && !self.is_payments()
    }

    /// For a block that one worker begins, because [`Self::can_gain`] says no: when to think again.
    pub fn pace(&self) -> Pace<'_> {
        Pace {
            forecast: self,
            work_done: 0,
            slow_work: 0,
            work_left: self.work,
            began_ns: None,
            last_ns: 0,
        }
    }
}

/// Who will have written a location: the last one that changes it, and the payments to it since,
/// which do not wait for each other.
#[derive(Debug, Default)]
struct Writers {
    of: HashMap<Location, SmallVec<[TxIndex; 2]>>,
    /// Whether any storage is wiped.
    wipes: bool,
}

impl Writers {
    /// Takes in so many locations of the hint of `tx`, which does no more to the `credited` account
    /// than pay it. What the transaction has to wait for goes to `predecessors`.
    fn add(
        &mut self,
        tx: TxIndex,
        hint: &AccessHint,
        locations: usize,
        credited: Option<Location>,
        predecessors: &mut Vec<TxIndex>,
    ) {
        let mut waits_for = SmallVec::<[TxIndex; PREDECESSORS_MAX]>::new();
        for location in hint.reads.iter().take(locations) {
            if credited != Some(*location) {
                waits_for.extend(self.of.get(location).into_iter().flatten().copied());
            }
            if let Location::Slot(address, _) = location
                && self.wipes
            {
                let wipe = self.of.get(&Location::Wipe(*address));
                waits_for.extend(wipe.into_iter().flatten().copied());
            }
        }
        waits_for.sort_unstable();
        waits_for.dedup();
        // The last ones, which probably wait for those before them.
        let from = waits_for.len().saturating_sub(PREDECESSORS_MAX);
        predecessors.extend(&waits_for[from..]);
        for location in hint.writes.iter().take(locations) {
            self.wipes |= matches!(location, Location::Wipe(_));
            match self.of.entry(*location) {
                Entry::Occupied(mut entry)
                    if credited == Some(*location) && entry.get().len() < PREDECESSORS_MAX =>
                {
                    entry.get_mut().push(tx);
                }
                Entry::Occupied(mut entry) => *entry.get_mut() = smallvec![tx],
                Entry::Vacant(entry) => drop(entry.insert(smallvec![tx])),
            }
        }
    }
}

/// How fast one worker gets on.
#[derive(Debug)]
pub struct Pace<'f> {
    forecast: &'f BlockForecast,
    work_done: u64,
    /// Of transactions that were slow.
    slow_work: u64,
    work_left: u64,
    began_ns: Option<u64>,
    last_ns: u64,
}

/// Transactions after which the pace says something.
const PACE_AFTER: u32 = 4;
/// Nanoseconds for a unit of work from which on reading state is what takes the time: several
/// workers wait for it at once.
const SLOW_NS: u64 = 2_500;
/// Nanoseconds that must be left for others to help: to wake them and to put in place what is there already takes a part of
/// a millisecond.
const LEFT_MIN_NS: u64 = 2_000_000;
/// Fewer transactions are few: one of them is likely to be as heavy as all others together, or to wait for them. So more time
/// must be left.
const FEW: usize = 8;
const LEFT_OF_FEW_MIN_NS: u64 = 20_000_000;

impl Pace<'_> {
    /// Whether all workers should go on after `tx`, which ended at this time.
    pub fn is_slow(&mut self, tx: TxIndex, now_ns: u64) -> bool {
        let forecasts = &self.forecast.transactions;
        let work = u64::from(forecasts[tx.as_usize()].work);
        let took_ns = now_ns - std::mem::replace(&mut self.last_ns, now_ns);
        let Some(began_ns) = self.began_ns else {
            // The first one finds everything cold.
            self.began_ns = Some(now_ns);
            self.work_left -= work;
            return false;
        };
        self.work_done += work;
        self.work_left -= work;
        if took_ns >= SLOW_NS * work {
            self.slow_work += work;
        }
        if tx.0 % PACE_AFTER != PACE_AFTER - 1 || self.forecast.is_chain() {
            return false;
        }
        let ns_a_unit = (now_ns - began_ns) / self.work_done;
        // One transaction that took long says nothing: the system may have stopped this worker.
        let reads_are_slow = ns_a_unit >= SLOW_NS && 2 * self.slow_work >= self.work_done;
        let slow = reads_are_slow || !self.forecast.is_payments();
        let are_few = forecasts.len() - 1 - tx.as_usize() < FEW;
        let left_min_ns = if are_few { LEFT_OF_FEW_MIN_NS } else { LEFT_MIN_NS };
        slow && ns_a_unit * self.work_left >= left_min_ns
    }
}

//! What a block's own conflicts say about the transactions that are still to run.
//!
//! Who fights over a location has something in common that can be seen before it runs: all call
//! one contract, and in their call data there is a pool, a proposal, a holder. The first conflict
//! over a location makes a *rule*: transactions that have all of what its writer and its reader
//! have in common will touch that location too, and each is made to wait for the one before. A
//! further conflict there takes from the rule what the new reader does not have; transactions that
//! follow a rule and do not touch its location refute it. Whatever a rule says, it costs or saves
//! time only.
//!
//! Where the location is a slot that only counts (see [`Counter`]), who follows a rule need not wait
//! for those of whom it is known what they add.

use crate::{
    counter::{Additions, Counter, Expectation, Nature, WORDS_MAX, Words},
    forecast::CHAIN_PERCENT_MAX,
    location::{Location, TxIndex},
    sync::{AtomicBool, Mutex, Ordering},
};
use alloy_consensus::Transaction as _;
use alloy_primitives::{
    U256,
    map::{Entry, HashMap},
};
use heddle_evm::RecoveredTransaction;
use smallvec::SmallVec;

/// Locations for which there are rules at once.
const RULES_MAX: usize = 512;
/// Rules that are found by one word. More would make handing out transactions slow; who has to be
/// found by a word that all have in common is not worth that.
const RULES_A_WORD_MAX: usize = 8;
/// Rules that a transaction is held against. To be found by more is nothing that happens by itself.
const RULES_A_TRANSACTION_MAX: usize = 16;
/// Rules that a transaction is made to wait for.
pub(crate) const LINKS_MAX: usize = 4;
/// Counters that a transaction adds to, as far as it is of interest.
pub(crate) const COUNTERS_MAX: usize = 8;
/// Calls of one slot that are handed out ahead of the head while it is not known yet what their
/// functions add there: those handed out before do not profit from it.
const UNTAUGHT_MAX: usize = 6;
/// Transactions that have followed a rule when it is judged: by whether at least half of them have
/// touched its location.
const TRIALS: u8 = 16;
/// Work of transactions that follow a rule, in units of a plain payment, after which it is asked
/// whether nearly all transactions do.
const CHAIN_WORK_MIN: u64 = 512;

/// Slots that are found to count, and the rules that know how.
pub(crate) type CountersFound = SmallVec<[(Location, u16); COUNTERS_MAX]>;

/// What can be seen of a call before it runs: fingerprints of the contract, the function, the
/// sender and the words of its call data. An attacker can make them collide, which costs time.
type Traits = SmallVec<[u64; WORDS_MAX + 3]>;

/// A rule that a transaction follows, and the one before it that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) rule: u16,
    pub(crate) predecessor: TxIndex,
    /// Whether it is to be told what came of it.
    pub(crate) on_trial: bool,
}

/// What is known of a transaction when it is handed out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    /// Those with the last predecessors first.
    pub(crate) links: SmallVec<[Link; LINKS_MAX]>,
    /// Rules whose locations may be counters that it adds to.
    pub(crate) counters: SmallVec<[u16; COUNTERS_MAX]>,
}

/// What a conflict says about those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surprise {
    /// There may be many like it.
    New,
    /// A rule is there against more of them.
    Once,
    /// It follows a rule that came too late for one before it, which ran on a stale value.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Followed,
    /// Another rule says the same, and whoever follows that one follows this.
    Covered,
    /// It was wrong, or it makes the block one chain.
    Dropped,
}

#[derive(Debug)]
struct Rule {
    location: Location,
    /// What its transactions have in common; the first is the contract.
    common: Traits,
    /// By which of them it is found.
    key: u64,
    /// The last transaction that follows it and of which it is not known what it adds.
    last: TxIndex,
    /// If the location is a slot that may only count.
    counter: Option<Counter>,
    /// Other rules that say the same, about other locations.
    covers: SmallVec<[u16; 2]>,
    standing: Standing,
    touched: u8,
    missed: u8,
    /// Conflicts there that were held against it less than those without a rule. There is an end
    /// to that.
    excused: u8,
    /// Work of the transactions that follow it, and of all that were handed out when it was made.
    work: u64,
    work_before: u64,
}

#[derive(Debug, Default)]
struct Rules {
    all: Vec<Rule>,
    by_location: HashMap<Location, u16>,
    by_word: HashMap<u64, SmallVec<[u16; 2]>>,
    /// Those with counters.
    counters: Vec<u16>,
    /// Work of all transactions that were handed out since there are rules.
    work: u64,
}

/// The rules of one block.
#[derive(Debug)]
pub(crate) struct Learner<'b> {
    transactions: &'b [RecoveredTransaction],
    /// Whether there are any.
    has_rules: AtomicBool,
    /// Whether counters are looked for.
    counts: AtomicBool,
    /// Held for a few transactions at a time, never while the EVM runs.
    rules: Mutex<Rules>,
}

impl<'b> Learner<'b> {
    /// Without any. It learns nothing about transactions that are not among these.
    pub(crate) fn new(transactions: &'b [RecoveredTransaction], counts: bool) -> Self {
        Self {
            transactions,
            has_rules: AtomicBool::new(false),
            counts: AtomicBool::new(counts),
            rules: Mutex::default(),
        }
    }

    pub(crate) fn counts(&self) -> bool {
        self.counts.load(Ordering::Relaxed)
    }

    /// Looks for counters from now on.
    pub(crate) fn set_counts(&self) {
        self.counts.store(true, Ordering::Relaxed);
    }

    /// Whether transactions are to be handed out by [`Self::hand_out`]. Nothing depends on when
    /// that is seen.
    pub(crate) fn has_rules(&self) -> bool {
        self.has_rules.load(Ordering::Relaxed)
    }

    /// `reader` had read at `location` what `writer` has changed; `linked` are the rules that it
    /// followed.
    pub(crate) fn conflict(
        &self,
        location: Location,
        writer: TxIndex,
        reader: TxIndex,
        linked: impl Fn(u16) -> bool,
    ) -> Surprise {
        let Some(common) = self.in_common(writer, reader) else { return Surprise::New };
        let mut rules = self.rules.lock();
        let rules = &mut *rules;
        let count = rules.all.len();
        match rules.by_location.entry(location) {
            Entry::Vacant(_) if count == RULES_MAX => Surprise::New,
            Entry::Vacant(entry) => {
                entry.insert(count as u16);
                let counts = matches!(location, Location::Slot(..)) && self.counts();
                rules.all.push(Rule {
                    location,
                    key: common[0],
                    common,
                    last: reader,
                    counter: counts.then(Counter::default),
                    covers: SmallVec::new(),
                    standing: Standing::Followed,
                    touched: 0,
                    missed: 0,
                    excused: 0,
                    work: 0,
                    work_before: rules.work,
                });
                rules.file(count as u16);
                if counts {
                    rules.counters.push(count as u16);
                }
                self.has_rules.store(true, Ordering::Relaxed);
                Surprise::New
            }
            Entry::Occupied(entry) => {
                let number = *entry.get();
                let rule = &mut rules.all[usize::from(number)];
                rule.last = rule.last.max(reader);
                if rule.standing == Standing::Dropped {
                    return Surprise::New;
                }
                let before = rule.common.len();
                rule.common.retain(|word| common.contains(word));
                if rule.common.len() < before {
                    rules.file_again(number);
                    return Surprise::Once;
                }
                rule.excused = rule.excused.saturating_add(1);
                if rule.excused == u8::MAX {
                    Surprise::New
                } else if rule.standing == Standing::Covered || linked(number) || rule.counts() {
                    Surprise::Late
                } else {
                    Surprise::Once
                }
            }
        }
    }

    /// Takes the transactions that `take` gives, in order, each with its work, and says what is
    /// known of them, unless more will be known soon. Everything below `head` is final.
    pub(crate) fn hand_out(
        &self,
        take: impl FnOnce() -> std::ops::Range<usize>,
        head: TxIndex,
        work: impl Fn(usize) -> u8,
        mut hand: impl FnMut(usize, &Handed),
    ) -> std::ops::Range<usize> {
        let mut rules = self.rules.lock();
        if rules.teach_soon(head) {
            return 0..0;
        }
        let taken = take();
        for index in taken.clone() {
            let work = u64::from(work(index));
            rules.work += work;
            let Some(call) = self.transactions.get(index).and_then(Call::of) else { continue };
            let handed = rules.follow(TxIndex(index as u32), &call, work, head);
            if handed != Handed::default() {
                hand(index, &handed);
            }
        }
        taken
    }

    /// Lets `ask` know what transactions from the head on and before `end` will add to the slot of a
    /// rule.
    pub(crate) fn with_additions<R>(
        &self,
        rule: u16,
        head: &dyn Fn() -> TxIndex,
        end: TxIndex,
        ask: impl FnOnce(&Additions<'_>) -> R,
    ) -> R {
        let rules = self.rules.lock();
        let counter = rules.all.get(usize::from(rule)).and_then(|rule| rule.counter.as_ref());
        match counter {
            Some(counter) => ask(&counter.additions(head, end)),
            None => ask(&Counter::default().additions(head, end)),
        }
    }

    /// `tx` has run, and `added` says what it has added to a slot. Gives the slots that are found to
    /// be counters by this, with their rules, and the rules about which it has said nothing, because
    /// what it added was not expected and is not `believed` (see [`Counter::saw`]).
    pub(crate) fn counted(
        &self,
        tx: TxIndex,
        rules: impl Iterator<Item = u16>,
        added: impl Fn(&Location) -> U256,
        believed: bool,
    ) -> (CountersFound, SmallVec<[u16; COUNTERS_MAX]>) {
        let (mut found, mut odd) = (SmallVec::new(), SmallVec::new());
        let Some(tx_input) = self.transactions.get(tx.as_usize()).map(|tx| tx.input()) else {
            return (found, odd);
        };
        let (function, words) = (function_of(tx_input), Words::of(tx_input));
        let mut guard = self.rules.lock();
        let all = &mut *guard;
        for number in rules {
            let Some(rule) = all.all.get_mut(usize::from(number)) else { continue };
            let Some(counter) = &mut rule.counter else { continue };
            let nature = counter.nature();
            if !counter.saw(tx, function, words, added(&rule.location), believed) {
                odd.push(number);
                continue;
            }
            match counter.nature() {
                Nature::Counter if nature != Nature::Counter => found.push((rule.location, number)),
                Nature::Counter | Nature::Unknown => {}
                Nature::Other => {
                    rule.counter = None;
                    all.counters.retain(|other| *other != number);
                }
            }
        }
        (found, odd)
    }

    /// Whether a rule turned out to be wrong.
    pub(crate) fn is_dropped(&self, rule: u16) -> bool {
        let rules = self.rules.lock();
        rules.all.get(usize::from(rule)).is_some_and(|rule| rule.standing == Standing::Dropped)
    }

    /// A transaction that follows a rule has run; `touched` says whether it touched a location.
    pub(crate) fn tried(&self, rule: u16, touched: impl FnOnce(Location) -> bool) {
        let mut rules = self.rules.lock();
        let Some(tried) = rules.all.get_mut(usize::from(rule)) else { return };
        // More may have been on their way than it takes.
        if tried.touched + tried.missed == TRIALS {
            return;
        }
        if touched(tried.location) {
            tried.touched += 1;
        } else {
            tried.missed += 1;
        }
        if tried.touched + tried.missed == TRIALS && tried.missed > tried.touched {
            rules.drop_rule(rule);
        }
    }

    fn in_common(&self, writer: TxIndex, reader: TxIndex) -> Option<Traits> {
        let of = |tx: TxIndex| self.transactions.get(tx.as_usize()).and_then(traits);
        let (writer, reader) = (of(writer)?, of(reader)?);
        // Without the contract in common, the rest is as likely as not to mean nothing.
        (writer[0] == reader[0])
            .then(|| writer.into_iter().filter(|word| reader.contains(word)).collect())
    }
}

impl Rule {
    /// Whether its location is known to be a counter.
    fn counts(&self) -> bool {
        self.counter.as_ref().is_some_and(|counter| counter.nature() == Nature::Counter)
    }
}

impl Rules {
    /// Lets a rule be found by the word that it has in common with the fewest others.
    fn file(&mut self, number: u16) {
        let rule = &self.all[usize::from(number)];
        let others = |word: &u64| self.by_word.get(word).map_or(0, |rules| rules.len());
        let same = |other: &&u16| self.all[usize::from(**other)].common == rule.common;
        // Of several, one of the last: call data says more than contract and function.
        let Some(key) = rule.common.iter().rev().min_by_key(|word| others(word)).copied() else {
            return;
        };
        let mut filed = rule.common.iter().filter_map(|word| self.by_word.get(word)).flatten();
        let coverer = filed.find(same).map(|coverer| usize::from(*coverer));
        let standing = if let Some(coverer) = coverer {
            let covers = &mut self.all[coverer].covers;
            if covers.len() == RULES_A_WORD_MAX {
                Standing::Dropped
            } else {
                covers.push(number);
                Standing::Covered
            }
        } else if others(&key) == RULES_A_WORD_MAX {
            Standing::Dropped
        } else {
            self.by_word.entry(key).or_default().push(number);
            Standing::Followed
        };
        let rule = &mut self.all[usize::from(number)];
        (rule.key, rule.standing) = (key, standing);
    }

    fn unfile(&mut self, number: u16) {
        if let Some(rules) = self.by_word.get_mut(&self.all[usize::from(number)].key) {
            rules.retain(|other| *other != number);
        }
        for rule in &mut self.all {
            rule.covers.retain(|other| *other != number);
        }
    }

    /// Files a rule that says something else now, and those that said the same until now.
    fn file_again(&mut self, number: u16) {
        self.unfile(number);
        let covered = std::mem::take(&mut self.all[usize::from(number)].covers);
        self.file(number);
        for other in covered {
            self.file(other);
        }
    }

    fn drop_rule(&mut self, number: u16) {
        self.unfile(number);
        let rule = &mut self.all[usize::from(number)];
        (rule.standing, rule.counter) = (Standing::Dropped, None);
        let covered = std::mem::take(&mut rule.covers);
        self.counters.retain(|other| *other != number);
        // What is wrong about one location may be right about another.
        for other in covered {
            self.file(other);
        }
    }

    /// Whether some that are on their way will teach what those to come will profit from.
    fn teach_soon(&self, head: TxIndex) -> bool {
        self.counters.iter().any(|number| {
            let counter = self.all[usize::from(*number)].counter.as_ref();
            counter.is_some_and(|counter| counter.untaught_from(head) >= UNTAUGHT_MAX)
        })
    }

    /// The rules that `tx` follows.
    fn follow(&mut self, tx: TxIndex, call: &Call<'_>, work: u64, head: TxIndex) -> Handed {
        let mut handed = Handed::default();
        let mut chains = SmallVec::<[u16; 1]>::new();
        let mut left = RULES_A_TRANSACTION_MAX;
        let found = call.traits.iter().filter_map(|word| self.by_word.get(word)).flatten();
        for found in found.take(RULES_A_TRANSACTION_MAX).copied() {
            for place in 0..=self.all[usize::from(found)].covers.len() {
                let covers = &self.all[usize::from(found)].covers;
                let number = place.checked_sub(1).map_or(found, |place| covers[place]);
                if left == 0 {
                    break;
                }
                left -= 1;
                let rule = &mut self.all[usize::from(number)];
                if rule.last >= tx || !rule.common.iter().all(|word| call.traits.contains(word)) {
                    continue;
                }
                let mut expected = Expectation::Nothing;
                if let Some(counter) = &mut rule.counter
                    && handed.counters.len() < COUNTERS_MAX
                {
                    expected = counter.follow(tx, call.function(), call.words, head);
                    handed.counters.push(number);
                }
                if expected == Expectation::Nothing {
                    rule.work += work;
                    let all = self.work - rule.work_before;
                    // A block that is one chain gets slower by waiting for each other; without the
                    // rule, conflicts say so.
                    if rule.work >= CHAIN_WORK_MIN && rule.work * 100 > all * CHAIN_PERCENT_MAX {
                        chains.push(number);
                        continue;
                    }
                }
                let is_known = matches!(expected, Expectation::Adds(_));
                let predecessor = rule.last;
                if !is_known {
                    rule.last = tx;
                }
                let links = &mut handed.links;
                let is_over = is_known && predecessor < head;
                if is_over || links.iter().any(|link| link.predecessor == predecessor) {
                    continue;
                }
                let on_trial = rule.touched + rule.missed < TRIALS;
                let link = Link { rule: number, predecessor, on_trial };
                let place = links.iter().position(|other| other.predecessor < predecessor);
                links.insert(place.unwrap_or(links.len()), link);
                links.truncate(LINKS_MAX);
            }
        }
        for chain in chains {
            self.drop_rule(chain);
        }
        handed
    }
}

/// A call before it runs.
struct Call<'t> {
    /// The first is the contract's, the second the function's.
    traits: Traits,
    words: Words<'t>,
}

impl<'t> Call<'t> {
    fn of(tx: &'t RecoveredTransaction) -> Option<Self> {
        Some(Self { traits: traits(tx)?, words: Words::of(tx.input()) })
    }

    fn function(&self) -> u64 {
        self.traits[1]
    }
}

/// The fingerprint of a call's function.
fn function_of(call_data: &[u8]) -> u64 {
    fingerprint(&call_data[..call_data.len().min(4)], 2)
}

/// Those of a call; `None` for a transaction that is none. The first is the contract's.
fn traits(tx: &RecoveredTransaction) -> Option<Traits> {
    let (target, input) = (tx.to()?, tx.input());
    if input.is_empty() {
        return None;
    }
    let mut traits = Traits::new();
    // The contract and the function are told from words of call data, a sender is not.
    traits.push(fingerprint(target.as_slice(), 1));
    traits.push(function_of(input));
    traits.push(fingerprint(tx.signer_ref().into_word().as_slice(), 0));
    for (place, word) in Words::of(input).iter().enumerate() {
        // Accounts and hashes mean the same wherever they are (two tokens of a pool, in either
        // order), numbers do not.
        let is_number = word[..24] == [0; 24];
        let word = fingerprint(word, if is_number { 3 + place as u64 } else { 0 });
        if !traits.contains(&word) {
            traits.push(word);
        }
    }
    Some(traits)
}

/// Of at most 32 bytes.
fn fingerprint(bytes: &[u8], seed: u64) -> u64 {
    /// The golden ratio, as multiplicative hashes use it.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    bytes.chunks(8).fold(seed, |hash, chunk| {
        let mut limb = [0; 8];
        limb[..chunk.len()].copy_from_slice(chunk);
        (hash.rotate_left(23) ^ u64::from_le_bytes(limb)).wrapping_mul(FACTOR)
    })
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559, transaction::Recovered};
    use alloy_primitives::{Address, Signature, U256};

    const HOT: Location = Location::Account(Address::ZERO);
    const COLD: Location = Location::Account(Address::repeat_byte(1));
    const SLOT: Location = Location::Slot(Address::ZERO, U256::ZERO);

    /// A call with such words as arguments, from a sender of its own.
    fn call(index: usize, contract: u8, words: &[U256]) -> RecoveredTransaction {
        let mut input = vec![1, 2, 3, 4];
        input.extend(words.iter().flat_map(|word| word.to_be_bytes::<32>()));
        let to = Address::repeat_byte(contract).into();
        let tx = TxEip1559 { to, input: input.into(), ..Default::default() };
        let signed = tx.into_signed(Signature::test_signature());
        let sender = Address::with_last_byte(index as u8).into_word();
        Recovered::new_unchecked(signed.into(), Address::from_word(!sender))
    }

    fn number(number: u64) -> U256 {
        U256::from(number)
    }

    fn token(number: u64) -> U256 {
        U256::from(1) << 150 | U256::from(number)
    }

    /// What each transaction has to wait for when the rest of the block is handed out.
    fn hand_out(learner: &Learner<'_>, from: usize) -> Vec<Option<u32>> {
        let mut predecessors = vec![None; learner.transactions.len()];
        learner.hand_out(
            || from..learner.transactions.len(),
            TxIndex(0),
            |_| 4,
            |index, handed| {
                predecessors[index] = handed.links.first().map(|link| link.predecessor.0);
            },
        );
        predecessors
    }

    fn conflict(learner: &Learner<'_>, writer: u32, reader: u32) -> Surprise {
        conflict_at(learner, HOT, writer, reader)
    }

    fn conflict_at(learner: &Learner<'_>, place: Location, writer: u32, reader: u32) -> Surprise {
        learner.conflict(place, TxIndex(writer), TxIndex(reader), |_| false)
    }

    #[test]
    fn who_shares_what_a_conflict_s_two_share_waits_for_the_one_before() {
        let swap = |index, a, b| call(index, 7, &[number(index as u64), token(a), token(b)]);
        let mut block: Vec<_> =
            [(1, 2), (2, 1), (3, 4), (1, 2), (2, 1), (4, 3)].into_iter().enumerate().collect();
        block.push((6, (1, 2)));
        let mut block: Vec<_> = block.into_iter().map(|(i, (a, b))| swap(i, a, b)).collect();
        // The same words for another contract.
        block.push(call(7, 8, &[number(7), token(1), token(2)]));
        let learner = Learner::new(&block, true);
        assert!(!learner.has_rules());
        assert_eq!(conflict(&learner, 0, 1), Surprise::New);
        assert!(learner.has_rules());
        let expected = [None, None, None, Some(1), Some(3), None, Some(4), None];
        assert_eq!(hand_out(&learner, 2), expected);
    }

    #[test]
    fn what_a_further_reader_does_not_have_is_no_part_of_the_rule() {
        let vote =
            |index: usize, proposal, support| call(index, 7, &[number(proposal), number(support)]);
        let votes = [(1, 2), (1, 2), (2, 1), (1, 0), (2, 2), (1, 1)];
        let block: Vec<_> = votes.iter().enumerate().map(|(i, (p, s))| vote(i, *p, *s)).collect();
        let learner = Learner::new(&block, true);
        conflict(&learner, 0, 1);
        assert_eq!(hand_out(&learner, 2), [None; 6], "no other vote has both");
        assert_eq!(conflict(&learner, 1, 3), Surprise::Once, "the rule is made wider");
        assert_eq!(hand_out(&learner, 4), [None, None, None, None, None, Some(3)]);
    }

    #[test]
    fn a_rule_whose_transactions_do_not_touch_its_location_is_dropped() {
        let block: Vec<_> = (0..8).map(|index| call(index, 7, &[])).collect();
        let learner = Learner::new(&block, true);
        conflict(&learner, 0, 1);
        for _ in 0..TRIALS {
            assert_ne!(hand_out(&learner, 2)[2..], [None; 6]);
            learner.rules.lock().all[0].last = TxIndex(1);
            learner.tried(0, |location| location == COLD);
        }
        assert_eq!(hand_out(&learner, 2), [None; 8]);
        assert_eq!(conflict(&learner, 6, 7), Surprise::New, "and conflicts there count again");
    }

    #[test]
    fn where_nearly_all_follow_one_rule_there_is_none() {
        let count = 2 * CHAIN_WORK_MIN as usize / 4;
        let block: Vec<_> = (0..count).map(|index| call(index, 7, &[])).collect();
        let learner = Learner::new(&block, true);
        conflict(&learner, 0, 1);
        let predecessors = hand_out(&learner, 2);
        let linked = predecessors.iter().flatten().count();
        assert_eq!(linked as u64, CHAIN_WORK_MIN / 4 - 1);
        assert_eq!(conflict(&learner, 200, 201), Surprise::New);
    }

    /// What each transaction has to wait for when one after the other is handed out and adds so much
    /// at once.
    fn count(learner: &Learner<'_>, from: usize, added: impl Fn(usize) -> u64) -> Vec<Option<u32>> {
        let count = |index: usize| {
            let (mut predecessor, mut rules) = (None, SmallVec::new());
            let hand = |_, handed: &Handed| {
                predecessor = handed.links.first().map(|link| link.predecessor.0);
                rules.clone_from(&handed.counters);
            };
            learner.hand_out(|| index..index + 1, TxIndex(0), |_| 4, hand);
            let tx = TxIndex(index as u32);
            learner.counted(tx, rules.into_iter(), |_| U256::from(added(index)), true);
            predecessor
        };
        (from..learner.transactions.len()).map(count).collect()
    }

    #[test]
    fn nobody_waits_for_those_of_whom_it_is_known_what_they_add() {
        let mint = |index: usize| call(index, 7, &[number(index as u64 % 3)]);
        let block: Vec<_> = (0..12).map(mint).collect();
        let learner = Learner::new(&block, true);
        conflict_at(&learner, SLOT, 0, 1);
        let waits = count(&learner, 2, |index| index as u64 % 3);
        let expected = [Some(1), Some(2), Some(3), Some(4), Some(4), Some(4)];
        assert_eq!(waits[..6], expected, "three have to be seen");
        let sum = |rule| {
            let sum = |additions: &Additions<'_>| additions.sum(TxIndex(6));
            learner.with_additions(rule, &|| TxIndex(6), TxIndex(9), sum)
        };
        assert_eq!((sum(0), sum(1)), (number(3), U256::ZERO));
    }

    #[test]
    fn a_chain_of_those_of_whom_it_is_known_is_none() {
        let block: Vec<_> = (0..CHAIN_WORK_MIN as usize).map(|index| call(index, 7, &[])).collect();
        let learner = Learner::new(&block, true);
        conflict_at(&learner, SLOT, 0, 1);
        count(&learner, 2, |_| 1);
        assert_eq!(learner.rules.lock().all[0].standing, Standing::Followed);
        let learner = Learner::new(&block, true);
        conflict_at(&learner, SLOT, 0, 1);
        count(&learner, 2, |index| (index * index) as u64);
        assert_eq!(learner.rules.lock().all[0].standing, Standing::Dropped);
    }

    #[test]
    fn who_follows_a_rule_follows_those_that_say_the_same_of_other_locations() {
        let block: Vec<_> = (0..12).map(|index| call(index, 7, &[])).collect();
        let learner = Learner::new(&block, true);
        let other = Location::Slot(Address::ZERO, number(1));
        conflict_at(&learner, SLOT, 0, 1);
        conflict_at(&learner, other, 0, 1);
        assert_eq!(learner.rules.lock().all[1].standing, Standing::Covered);
        count(&learner, 2, |_| 5);
        for rule in [0, 1] {
            let sum = |additions: &Additions<'_>| additions.sum(TxIndex(6));
            assert_eq!(learner.with_additions(rule, &|| TxIndex(6), TxIndex(8), sum), number(10));
        }
    }

    #[test]
    fn rules_that_no_longer_say_the_same_go_on_apart() {
        let vote = |index: usize| call(index, 7, &[number(u64::from(index < 4))]);
        let block: Vec<_> = (0..16).map(vote).collect();
        let learner = Learner::new(&block, true);
        let other = Location::Slot(Address::ZERO, number(1));
        conflict_at(&learner, SLOT, 0, 1);
        conflict_at(&learner, other, 0, 1);
        let followed = |index| {
            let mut followed = SmallVec::new();
            let hand = |_, handed: &Handed| followed.clone_from(&handed.counters);
            learner.hand_out(|| index..index + 1, TxIndex(0), |_| 4, hand);
            followed.to_vec()
        };
        assert_eq!([followed(2), followed(4)], [vec![0, 1], vec![]]);
        assert_eq!(conflict_at(&learner, SLOT, 3, 5), Surprise::Once, "the first is made wider");
        assert_eq!(followed(6), [0]);
        conflict_at(&learner, other, 3, 7);
        assert_eq!(followed(8), [0, 1], "the second too");
    }

    #[test]
    fn nothing_is_learned_from_payments_and_unknown_transactions() {
        let mut block = vec![call(0, 7, &[]), call(1, 7, &[])];
        let to = Address::repeat_byte(7).into();
        let payment = TxEip1559 { to, ..Default::default() };
        let payment = payment.into_signed(Signature::test_signature()).into();
        block.push(Recovered::new_unchecked(payment, Address::ZERO));
        let learner = Learner::new(&block, true);
        assert_eq!(conflict(&learner, 0, 2), Surprise::New);
        assert_eq!(conflict(&learner, 0, 9), Surprise::New);
        assert!(!learner.has_rules());
    }
}

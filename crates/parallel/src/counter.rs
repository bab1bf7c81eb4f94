//! Slots that count: what a transaction adds to them can be told before it runs.
//!
//! A mint takes the next number of a collection and adds one, a deposit adds what its call data
//! says to the cash of a market. Who comes after need not wait to know what it will find there: the
//! value before, and what those between add. What was told so is a read like any other, which is
//! compared with the true value when its turn comes; a wrong guess costs time only.

use crate::location::TxIndex;
use alloy_primitives::U256;
use smallvec::SmallVec;
use std::{cell::Cell, collections::VecDeque, fmt};

/// Functions of one contract whose additions to a slot are told apart.
const FUNCTIONS_MAX: usize = 8;
/// Runs in a row that must have added as expected before anybody relies on it.
const SEEN_MIN: u8 = 3;
/// Runs of a function after which it is given up to tell what it adds, unless two in a row were
/// alike, and in any case.
const TRIED_MIN: u8 = 4;
const TRIED_MAX: u8 = 16;
/// A run that added something else counts this much against what is expected of its function, one
/// that added as expected counts one for it.
const MISS_COST: u8 = 4;
/// Count from which on nothing is expected of a function any more.
const MISSES_MAX: u8 = 64;

/// Runs alike from which on it does not matter any more why one added what was expected.
const STEADY: u8 = 32;

/// Words of call data that are looked at: the arguments of nearly all functions, with a path of
/// some tokens.
pub(crate) const WORDS_MAX: usize = 12;

/// The words of a call's data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'t>(&'t [u8]);

impl<'t> Words<'t> {
    pub(crate) fn of(call_data: &'t [u8]) -> Self {
        Self(call_data.get(4..).unwrap_or_default())
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'t [u8]> {
        self.0.chunks_exact(32).take(WORDS_MAX)
    }

    fn get(self, place: u32) -> Option<U256> {
        self.iter().nth(place as usize).map(U256::from_be_slice)
    }

    /// Bits of the words that are this number.
    fn that_are(self, number: U256) -> u16 {
        let number = number.to_be_bytes::<32>();
        let equal = self.iter().enumerate().filter(|(_, word)| **word == number);
        equal.fold(0, |mask, (place, _)| mask | 1 << place)
    }
}

/// What calls of one function add: all the same, or what a word of their call data says, or that
/// much less.
#[derive(Debug)]
struct Step {
    function: u64,
    constant: Option<U256>,
    /// Bits of the words that it may be.
    added: u16,
    taken: u16,
    /// Runs.
    tried: u8,
    /// Runs that were alike.
    seen: u8,
    misses: u8,
}

impl Step {
    const fn new(function: u64) -> Self {
        Self { function, constant: None, added: 0, taken: 0, tried: 0, seen: 0, misses: 0 }
    }

    fn nature(&self) -> Nature {
        match self.seen {
            _ if self.misses >= MISSES_MAX => Nature::Other,
            SEEN_MIN.. => Nature::Counter,
            2.. if self.tried < TRIED_MAX => Nature::Unknown,
            _ if self.tried < TRIED_MIN => Nature::Unknown,
            _ => Nature::Other,
        }
    }

    fn expects(&self, words: Words<'_>) -> Expectation {
        let word = |mask: u16| words.get(mask.trailing_zeros());
        match self.nature() {
            Nature::Unknown => Expectation::Untaught,
            Nature::Other => Expectation::Nothing,
            Nature::Counter => word(self.added)
                .or_else(|| word(self.taken).map(U256::wrapping_neg))
                .or(self.constant)
                .map_or(Expectation::Nothing, Expectation::Adds),
        }
    }

    /// A call with these words has added so much.
    fn saw(&mut self, words: Words<'_>, sum: U256) {
        self.tried = self.tried.saturating_add(1);
        let (added, taken) = (words.that_are(sum), words.that_are(sum.wrapping_neg()));
        let constant = Some(sum).filter(|sum| self.constant == Some(*sum));
        let hit = self.added & added != 0 || self.taken & taken != 0 || constant.is_some();
        if hit {
            (self.added, self.taken) = (self.added & added, self.taken & taken);
            self.constant = constant;
            self.seen = self.seen.saturating_add(1);
            if self.misses < MISSES_MAX {
                self.misses = self.misses.saturating_sub(1);
            }
            return;
        }
        if self.seen >= SEEN_MIN {
            self.misses = self.misses.saturating_add(MISS_COST);
            // It has failed, probably, which says nothing about the others.
            if sum.is_zero() {
                return;
            }
        } else {
            self.seen = 1;
        }
        (self.added, self.taken, self.constant) = (added, taken, Some(sum));
    }
}

/// What is expected of a transaction that may add to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    /// That it adds this.
    Adds(U256),
    /// Nothing, but soon there will be something to expect of the like.
    Untaught,
    /// Nothing.
    Nothing,
}

/// A transaction that may add to a slot.
#[derive(Debug)]
struct Follower {
    tx: TxIndex,
    expected: Expectation,
    /// What those before it add, as far as that is known, all that there ever were.
    before: U256,
}

/// One slot, and who adds to it.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    steps: SmallVec<[Step; 2]>,
    /// In block order.
    followers: VecDeque<Follower>,
    /// What all of them add, as [`Follower::before`].
    total: U256,
    /// The last of them that is [`Expectation::Untaught`].
    last_untaught: TxIndex,
}

/// What transactions on their way will add to a slot.
pub struct Additions<'c> {
    followers: &'c VecDeque<Follower>,
    total: U256,
    /// Everything before is final.
    head: Cell<TxIndex>,
    /// What that is now, if it was not asked yet.
    head_now: Cell<Option<&'c dyn Fn() -> TxIndex>>,
    /// Those from here on do not matter.
    end: TxIndex,
    /// Followers from here on were passed in [`Self::know`].
    passed: Cell<usize>,
}

impl fmt::Debug for Additions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, head, end, .. } = self;
        let mut all = f.debug_struct("Additions");
        all.field("total", total).field("head", &head.get()).field("end", end);
        all.finish_non_exhaustive()
    }
}

impl Additions<'_> {
    /// Whether what `tx` has written is no more than what was there and this. What is not final is
    /// better not built upon then: it may stand on a wrong guess, this does not. To be asked of one
    /// after the other, the last first, while none of their writes can be taken together: what is
    /// final by then counts as final.
    pub fn know(&self, tx: TxIndex) -> bool {
        if let Some(head_now) = self.head_now.take() {
            self.head.set(head_now());
        }
        if tx < self.head.get() || tx >= self.end {
            return false;
        }
        let mut passed = self.passed.get();
        while passed > 0 && self.followers[passed - 1].tx > tx {
            passed -= 1;
        }
        self.passed.set(passed);
        passed.checked_sub(1).is_some_and(|place| {
            let follower = &self.followers[place];
            follower.tx == tx && matches!(follower.expected, Expectation::Adds(_))
        })
    }

    /// Of all transactions from `first` on.
    pub fn sum(&self, first: TxIndex) -> U256 {
        let before = |tx: TxIndex| {
            let place = self.followers.partition_point(|follower| follower.tx < tx);
            self.followers.get(place).map_or(self.total, |follower| follower.before)
        };
        let first = first.max(self.head.get());
        if first >= self.end { U256::ZERO } else { before(self.end).wrapping_sub(before(first)) }
    }
}

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Too little.
    Unknown,
    /// That it counts.
    Counter,
    /// That it does something else.
    Other,
}

impl Counter {
    /// Takes in the next transaction that may add to it. Everything below `head` is final.
    pub(crate) fn follow(
        &mut self,
        tx: TxIndex,
        function: u64,
        words: Words<'_>,
        head: TxIndex,
    ) -> Expectation {
        while self.followers.front().is_some_and(|first| first.tx < head) {
            self.followers.pop_front();
        }
        let expected = self.step(function).map_or(Expectation::Nothing, |step| step.expects(words));
        self.followers.push_back(Follower { tx, expected, before: self.total });
        if let Expectation::Adds(sum) = expected {
            self.total = self.total.wrapping_add(sum);
        }
        if expected == Expectation::Untaught {
            self.last_untaught = tx;
        }
        expected
    }

    fn step(&mut self, function: u64) -> Option<&mut Step> {
        let known = self.steps.iter().position(|step| step.function == function);
        let place = known.unwrap_or(self.steps.len());
        if known.is_none() && self.steps.len() < FUNCTIONS_MAX {
            self.steps.push(Step::new(function));
        }
        self.steps.get_mut(place)
    }

    /// Those from the head on and before `end` of which it is known what they will add.
    pub(crate) fn additions<'c>(
        &'c self,
        head: &'c dyn Fn() -> TxIndex,
        end: TxIndex,
    ) -> Additions<'c> {
        Additions {
            followers: &self.followers,
            total: self.total,
            head: Cell::new(head()),
            head_now: Cell::new(Some(head)),
            end,
            passed: Cell::new(self.followers.partition_point(|follower| follower.tx < end)),
        }
    }

    /// How many on their way, from `head` on, will teach something.
    pub(crate) fn untaught_from(&self, head: TxIndex) -> usize {
        if self.last_untaught < head {
            return 0;
        }
        let later = self.followers.iter().rev().take_while(|follower| follower.tx >= head);
        later.filter(|follower| follower.expected == Expectation::Untaught).count()
    }

    /// `tx` has added so much. What nobody expected is taken in only if it is `believed`: a run that
    /// saw one slot as it was before others and a second one as it was after them adds what it never
    /// will in the end. Whether it was taken in.
    pub(crate) fn saw(
        &mut self,
        tx: TxIndex,
        function: u64,
        words: Words<'_>,
        sum: U256,
        believed: bool,
    ) -> bool {
        let place = self.followers.binary_search_by_key(&tx, |follower| follower.tx);
        let mut is_as_expected = false;
        if let Ok(place) = place
            && let Expectation::Adds(expected) = &mut self.followers[place].expected
        {
            is_as_expected = *expected == sum;
            if believed && !is_as_expected {
                let more = sum.wrapping_sub(*expected);
                *expected = sum;
                for later in self.followers.range_mut(place + 1..) {
                    later.before = later.before.wrapping_add(more);
                }
                self.total = self.total.wrapping_add(more);
            }
        }
        if !is_as_expected && !believed {
            return false;
        }
        if let Some(step) = self.step(function) {
            if is_as_expected && step.seen >= STEADY && step.nature() == Nature::Counter {
                step.misses = step.misses.saturating_sub(1);
            } else {
                step.saw(words, sum);
            }
        }
        true
    }

    pub(crate) fn nature(&self) -> Nature {
        let has = |nature| self.steps.iter().any(|step| step.nature() == nature);
        let known = [Nature::Counter, Nature::Unknown].into_iter().find(|nature| has(*nature));
        known.unwrap_or(if self.steps.is_empty() { Nature::Unknown } else { Nature::Other })
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    const NOW: TxIndex = TxIndex(0);

    fn number(number: u64) -> U256 {
        U256::from(number)
    }

    /// Call data with this word.
    fn data(word: u64) -> Vec<u8> {
        [&[1, 2, 3, 4], &number(word).to_be_bytes::<32>()[..]].concat()
    }

    fn follow(counter: &mut Counter, tx: u32, function: u64, word: u64) -> Expectation {
        counter.follow(TxIndex(tx), function, Words::of(&data(word)), NOW)
    }

    /// A counter that has seen such calls of function 7: their one word, and what they added.
    fn after(calls: impl IntoIterator<Item = (u64, U256)>) -> Counter {
        let mut counter = Counter::default();
        for (index, (word, sum)) in calls.into_iter().enumerate() {
            follow(&mut counter, index as u32, 7, word);
            counter.saw(TxIndex(index as u32), 7, Words::of(&data(word)), sum, true);
        }
        counter
    }

    /// What a call with this word is expected to add.
    fn expected(counter: &mut Counter, word: u64) -> Option<U256> {
        match follow(counter, 1_000, 7, word) {
            Expectation::Adds(sum) => Some(sum),
            Expectation::Untaught | Expectation::Nothing => None,
        }
    }

    #[test]
    fn what_is_added_is_the_same_or_in_the_call_data() {
        let one = |word| (word, number(1));
        assert_eq!(expected(&mut after([4, 5].map(one)), 6), None, "too few");
        assert_eq!(expected(&mut after([4, 5, 6].map(one)), 7), Some(number(1)));
        let word = |word| (word, number(word));
        assert_eq!(expected(&mut after([4, 5, 6].map(word)), 7), Some(number(7)));
        let less = |word| (word, number(word).wrapping_neg());
        assert_eq!(expected(&mut after([4, 5, 6].map(less)), 7), Some(number(7).wrapping_neg()));
        let none = |word| (word, U256::ZERO);
        assert_eq!(expected(&mut after([4, 5, 6].map(none)), 7), Some(U256::ZERO));
        let square = |word| (word, number(word * word));
        assert_eq!(expected(&mut after((4..40).map(square)), 7), None);
    }

    #[test]
    fn a_call_that_fails_now_and_then_changes_nothing_and_one_that_often_does_ends_it() {
        let fails = |every: u64| {
            move |word: u64| {
                (word, if word.is_multiple_of(every) { U256::ZERO } else { number(word) })
            }
        };
        assert_eq!(expected(&mut after((1..1_000).map(fails(10))), 7), Some(number(7)));
        assert_eq!(expected(&mut after((1..100).map(fails(2))), 7), None);
    }

    #[test]
    fn another_amount_from_now_on_is_learned_at_once() {
        let calls = (0..9).map(|index| (index, number(if index < 5 { 100 } else { 99 })));
        assert_eq!(expected(&mut after(calls), 7), Some(number(99)));
    }

    #[test]
    fn what_nobody_expected_of_a_run_that_is_not_believed_changes_nothing() {
        let mut counter = after((1..4).map(|word| (word, number(word))));
        follow(&mut counter, 10, 7, 4);
        follow(&mut counter, 11, 7, 5);
        let sum = |counter: &Counter| counter.additions(&|| TxIndex(10), TxIndex(20)).sum(NOW);
        for _ in 0..=MISSES_MAX {
            assert!(!counter.saw(TxIndex(10), 7, Words::of(&data(4)), number(9), false));
        }
        assert_eq!((sum(&counter), counter.nature()), (number(9), Nature::Counter));
        assert!(counter.saw(TxIndex(10), 7, Words::of(&data(4)), number(4), false));
        assert!(counter.saw(TxIndex(10), 7, Words::of(&data(4)), number(9), true));
        assert_eq!(sum(&counter), number(14), "and what comes after it stays as it was");
        assert_eq!(counter.additions(&|| TxIndex(11), TxIndex(20)).sum(NOW), number(5));
    }

    #[test]
    fn those_between_add_what_they_are_expected_to_or_what_they_did() {
        let mut counter = after((1..4).map(|word| (word, number(word))));
        for (tx, word) in [(10, 4), (11, 5), (13, 6)] {
            let expected = follow(&mut counter, tx, 7, word);
            assert_eq!(expected, Expectation::Adds(number(word)));
        }
        let other = follow(&mut counter, 14, 8, 9);
        assert_eq!((other, counter.untaught_from(TxIndex(14))), (Expectation::Untaught, 1));
        let sum = |counter: &Counter, first, end| {
            counter.additions(&|| TxIndex(first), TxIndex(end)).sum(TxIndex(first))
        };
        assert_eq!(sum(&counter, 10, 13), number(9));
        assert_eq!(sum(&counter, 11, 20), number(11));
        counter.saw(TxIndex(11), 7, Words::of(&data(5)), U256::ZERO, true);
        assert_eq!(sum(&counter, 10, 14), number(10));
        let additions = counter.additions(&|| TxIndex(11), TxIndex(20));
        assert_eq!(
            [20, 14, 13, 12, 11, 10].map(|tx| additions.know(TxIndex(tx))),
            [false, false, true, false, true, false]
        );
        let head = Cell::new(10);
        let head_now = || TxIndex(head.get());
        let additions = counter.additions(&head_now, TxIndex(20));
        head.set(12);
        assert!(!additions.know(TxIndex(11)), "it has become final meanwhile");
        assert_eq!(additions.sum(NOW), number(6));
    }
}

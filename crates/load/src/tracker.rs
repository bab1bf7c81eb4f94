//! What has become of every transaction so far.

use crate::Latencies;
use alloy_primitives::{B256, map::B256Map};
use std::{
    cell::{Cell, RefCell},
    time::Instant,
};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unsent,
    Sent,
    SentAgain,
    Refused,
    Included,
}

/// How many have come how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: usize,
    pub(crate) refused: usize,
    pub(crate) included: usize,
    /// Times that a transaction had to be sent again.
    pub(crate) retried: usize,
}

/// Different refusals that are kept.
const REFUSALS_MAX: usize = 8;

/// What has become of every transaction so far. Lives on one thread, so it needs no locks.
pub(crate) struct Tracker {
    start: Instant,
    index_of: B256Map<u32>,
    fates: RefCell<Vec<Fate>>,
    meant_at: RefCell<Vec<Instant>>,
    latencies: RefCell<Latencies>,
    counts: Cell<Counts>,
    /// What the node said, and how often.
    refusals: RefCell<Vec<(String, usize)>>,
    /// Blocks with transactions of ours, and how many transactions they have in all.
    blocks: RefCell<Vec<(u64, usize)>>,
    answered: Cell<Instant>,
    included: Cell<Instant>,
    /// Told when transactions got into a block.
    pub(crate) room: Notify,
    /// Told when nothing is left to wait for.
    pub(crate) done: Notify,
}

impl Tracker {
    pub(crate) fn new(hashes: impl Iterator<Item = B256>, start: Instant) -> Self {
        let index_of: B256Map<u32> = hashes.zip(0..).collect();
        let count = index_of.len();
        Self {
            start,
            index_of,
            fates: RefCell::new(vec![Fate::Unsent; count]),
            meant_at: RefCell::new(vec![start; count]),
            latencies: RefCell::new(Latencies::new()),
            counts: Cell::default(),
            refusals: RefCell::default(),
            blocks: RefCell::default(),
            answered: Cell::new(start),
            included: Cell::new(start),
            room: Notify::new(),
            done: Notify::new(),
        }
    }

    /// Starts the clock.
    pub(crate) fn restart(&mut self) {
        self.start = Instant::now();
        self.answered.set(self.start);
        self.included.set(self.start);
    }

    pub(crate) const fn start(&self) -> Instant {
        self.start
    }

    pub(crate) fn total(&self) -> usize {
        self.index_of.len()
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// Sent and in no block.
    pub(crate) const fn pending(&self) -> usize {
        let counts = self.counts.get();
        counts.sent.saturating_sub(counts.included + counts.refused)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
        if counts.included + counts.refused == self.total() {
            self.done.notify_one();
        }
    }

    pub(crate) fn sent(&self, index: u32, meant: Instant) {
        self.fates.borrow_mut()[index as usize] = Fate::Sent;
        self.meant_at.borrow_mut()[index as usize] = meant;
        self.count(|counts| counts.sent += 1);
    }

    pub(crate) fn send_again(&self, index: u32) {
        let fate = &mut self.fates.borrow_mut()[index as usize];
        if *fate == Fate::Sent {
            *fate = Fate::SentAgain;
        }
        self.count(|counts| counts.retried += 1);
    }

    pub(crate) fn is_sent_again(&self, index: u32) -> bool {
        self.fates.borrow()[index as usize] != Fate::Sent
    }

    /// The node will not take it.
    pub(crate) fn refused(&self, index: u32, message: &str) {
        let fate = &mut self.fates.borrow_mut()[index as usize];
        if !matches!(fate, Fate::Sent | Fate::SentAgain) {
            return;
        }
        *fate = Fate::Refused;
        let mut refusals = self.refusals.borrow_mut();
        if let Some((_, count)) = refusals.iter_mut().find(|(known, _)| known == message) {
            *count += 1;
        } else if refusals.len() < REFUSALS_MAX {
            refusals.push((message.to_owned(), 1));
        }
        self.count(|counts| counts.refused += 1);
    }

    pub(crate) fn refusals(&self) -> Vec<(String, usize)> {
        self.refusals.borrow().clone()
    }

    /// An answer came.
    pub(crate) fn answered(&self) {
        self.answered.set(Instant::now());
    }

    /// When the last answer came.
    pub(crate) const fn last_answer(&self) -> Instant {
        self.answered.get()
    }

    /// When the last of ours was seen in a block.
    pub(crate) const fn last_included(&self) -> Instant {
        self.included.get()
    }

    /// A block is there, with `total` transactions, of which `hashes` are those to look at.
    pub(crate) fn block(&self, number: u64, hashes: impl Iterator<Item = B256>, total: usize) {
        let now = Instant::now();
        let mut ours = 0;
        let mut unrefused = 0;
        {
            let mut fates = self.fates.borrow_mut();
            let meant_at = self.meant_at.borrow();
            let mut latencies = self.latencies.borrow_mut();
            for index in hashes.filter_map(|hash| self.index_of.get(&hash)) {
                let index = *index as usize;
                let before = std::mem::replace(&mut fates[index], Fate::Included);
                if before == Fate::Included {
                    continue;
                }
                unrefused += usize::from(before == Fate::Refused);
                ours += 1;
                latencies.record(now.saturating_duration_since(meant_at[index]));
            }
        }
        if ours > 0 {
            self.blocks.borrow_mut().push((number, total));
            self.included.set(now);
            self.room.notify_waiters();
            self.count(|counts| {
                counts.included += ours;
                counts.refused -= unrefused;
            });
        }
    }

    pub(crate) fn blocks(&self) -> Vec<(u64, usize)> {
        self.blocks.borrow().clone()
    }

    pub(crate) fn latencies(&self) -> Latencies {
        self.latencies.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker() -> Tracker {
        Tracker::new((0..4).map(B256::repeat_byte), Instant::now())
    }

    #[test]
    fn a_transaction_is_included_once_and_strangers_do_not_count() {
        let tracker = tracker();
        tracker.sent(0, Instant::now());
        let hashes = || [B256::repeat_byte(0), B256::repeat_byte(9)].into_iter();
        tracker.block(5, hashes(), 2);
        tracker.block(6, hashes(), 2);
        assert_eq!(tracker.counts(), Counts { sent: 1, included: 1, ..Counts::default() });
        assert_eq!(tracker.blocks(), [(5, 2)]);
        assert_eq!(tracker.latencies().count(), 1);
    }

    #[test]
    fn refusals_are_counted_and_taken_back_if_the_chain_has_it_all_the_same() {
        let tracker = tracker();
        for index in 0..2 {
            tracker.sent(index, Instant::now());
            tracker.refused(index, "nonce too high");
            tracker.refused(index, "nonce too high");
        }
        assert_eq!(tracker.refusals(), [("nonce too high".to_owned(), 2)]);
        assert_eq!(tracker.pending(), 0);
        tracker.block(1, [B256::repeat_byte(1)].into_iter(), 1);
        let expected = Counts { sent: 2, refused: 1, included: 1, retried: 0 };
        assert_eq!(tracker.counts(), expected);
    }
}

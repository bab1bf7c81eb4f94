//! Time as blocks see it: the system's, moved by what development clients ask for.

use crate::MineError;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where block timestamps come from.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The system's time, in seconds since 1970. It may jump, in both directions.
    system_s: fn() -> i128,
    /// Seconds added to the system's time; negative after a timestamp in the past was set.
    offset_s: i128,
    /// Timestamp that the next block must have.
    next: Option<u64>,
    /// Seconds between a block and its parent, in place of the time of day.
    interval_s: Option<u64>,
}

/// What a block used up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    next: Option<u64>,
    /// By how much that moved the clock, in seconds.
    moved_s: i128,
}

fn system_s() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i128::from(since.as_secs()))
}

impl Default for Clock {
    fn default() -> Self {
        Self { system_s, offset_s: 0, next: None, interval_s: None }
    }
}

impl Clock {
    /// Now, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(((self.system_s)() + self.offset_s).max(0)).unwrap_or(u64::MAX)
    }

    /// Moves the clock forward; gives the whole offset in seconds. Blocks that came faster than one a second have left
    /// the clock behind: it moves from the head's time then, so that the next block is that much later.
    pub(crate) fn advance(&mut self, seconds: u64, head: u64) -> Result<i128, MineError> {
        let behind = i128::from(head.saturating_sub(self.now()));
        let moved = i128::from(self.now()) + behind + i128::from(seconds);
        // Blocks after it must still have a timestamp that fits; half the range leaves enough.
        if moved > i128::from(u64::MAX / 2) {
            return Err(MineError::ClockOverflow(seconds));
        }
        self.offset_s += behind + i128::from(seconds);
        Ok(self.offset_s)
    }

    /// Gives the next block this timestamp and lets time go on from there.
    pub(crate) fn set_next(&mut self, timestamp: u64, head: u64) -> Result<(), MineError> {
        if timestamp <= head {
            return Err(MineError::TimestampTooOld { timestamp, head });
        }
        if timestamp > u64::MAX / 2 {
            return Err(MineError::ClockOverflow(timestamp));
        }
        self.next = Some(timestamp);
        Ok(())
    }

    /// The timestamp of a block on a parent with timestamp `parent`, without using it up.
    pub(crate) fn peek(&self, parent: u64) -> u64 {
        let by_interval = || self.interval_s.map(|interval| parent.saturating_add(interval));
        let timestamp = self.next.or_else(by_interval).unwrap_or_else(|| self.now());
        timestamp.max(parent.saturating_add(1))
    }

    /// Lets so many seconds lie between blocks, whatever time it is; `None` follows the time again.
    pub(crate) const fn set_interval(&mut self, interval_s: Option<u64>) {
        self.interval_s = interval_s;
    }

    /// Makes it this time now; gives by how many seconds that moved the clock.
    pub(crate) fn set_now(&mut self, timestamp: u64) -> Result<i128, MineError> {
        if timestamp > u64::MAX / 2 {
            return Err(MineError::ClockOverflow(timestamp));
        }
        let moved = i128::from(timestamp) - i128::from(self.now());
        self.offset_s += moved;
        Ok(moved)
    }

    /// A block with this timestamp was made. One that was set since the block was begun is for the next one.
    pub(crate) fn used(&mut self, timestamp: u64) -> Used {
        let Some(next) = self.next.take_if(|next| *next <= timestamp) else {
            return Used::default();
        };
        let moved_s = i128::from(timestamp) - (self.system_s)() - self.offset_s;
        self.offset_s += moved_s;
        Used { next: Some(next), moved_s }
    }

    /// That block was not made after all. What was set since stays.
    pub(crate) fn give_back(&mut self, used: Used) {
        self.offset_s -= used.moved_s;
        self.next = self.next.or(used.next);
    }

    /// The offset, to come back to with [`Self::restore`].
    pub(crate) const fn offset_s(&self) -> i128 {
        self.offset_s
    }

    pub(crate) const fn restore(&mut self, offset_s: i128) {
        self.offset_s = offset_s;
        self.next = None;
    }

    /// The system's time again.
    pub(crate) fn reset(&mut self) {
        *self = Self { system_s: self.system_s, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local! {
        /// The time of a system whose clock is set while the node runs.
        static SYSTEM_S: Cell<i128> = const { Cell::new(0) };
    }

    proptest! {
        #[test]
        fn blocks_stay_in_order_of_time_however_the_systems_clock_jumps(
            steps in prop::collection::vec((-400_000_000i128..400_000_000, 0u8..12, 1u64..100_000), 1..60),
        ) {
            SYSTEM_S.set(1_750_000_000);
            let mut clock = Clock { system_s: || SYSTEM_S.get(), ..Clock::default() };
            let mut parent = clock.now();
            for (jump, what, seconds) in steps {
                let is_steady = what > 3;
                SYSTEM_S.set(SYSTEM_S.get() + if is_steady { i128::from(seconds) } else { jump });
                match what {
                    4 => drop(clock.advance(seconds, parent).unwrap()),
                    5 => clock.set_next(parent + seconds, parent).unwrap(),
                    6 => clock.set_interval(Some(seconds)),
                    7 => clock.set_interval(None),
                    8 => drop(clock.set_now(parent.saturating_sub(seconds)).unwrap()),
                    _ => {}
                }
                let timestamp = clock.peek(parent);
                prop_assert!(timestamp > parent);
                if clock.next.is_none() && clock.interval_s.is_none() {
                    // As soon as the clock is ahead again blocks follow it, and until then they are a second apart.
                    prop_assert_eq!(timestamp, clock.now().max(parent + 1));
                }
                clock.used(timestamp);
                parent = timestamp;
            }
        }
    }

    #[test]
    fn timestamps_always_grow() {
        let clock = Clock::default();
        let far = clock.now() + 1_000;
        assert_eq!(clock.peek(far), far + 1);
    }

    #[test]
    fn time_moves_on_from_the_head_where_that_is_ahead() {
        let mut clock = Clock::default();
        let far = clock.now() + 1_000;
        clock.advance(50, far).unwrap();
        assert!((far + 50..far + 55).contains(&clock.peek(far)));
        clock.advance(50, 7).unwrap();
        assert!((far + 100..far + 105).contains(&clock.peek(far)));
    }

    #[test]
    fn time_goes_on_from_a_timestamp_that_was_set() {
        let mut clock = Clock::default();
        let target = clock.now() + 50_000;
        clock.set_next(target, 0).unwrap();
        assert_eq!(clock.peek(0), target);
        clock.used(target);
        assert!((target..target + 5).contains(&clock.peek(target - 1)));
    }

    #[test]
    fn a_block_that_was_not_made_gives_its_timestamp_back_and_nothing_else() {
        let mut clock = Clock::default();
        let now = clock.now();
        clock.set_next(now + 50_000, 0).unwrap();
        let used = clock.used(now + 50_000);
        clock.advance(70, 0).unwrap();
        clock.give_back(used);
        assert_eq!(clock.peek(0), now + 50_000);
        assert!((now + 70..now + 75).contains(&clock.now()));
        let used = clock.used(now + 50_000);
        clock.set_next(now + 60_000, 0).unwrap();
        clock.give_back(used);
        assert_eq!(clock.peek(0), now + 60_000, "what was set since goes first");
        let used = clock.used(now + 10);
        clock.give_back(used);
        assert_eq!(clock.peek(0), now + 60_000);
    }

    #[test]
    fn blocks_keep_their_distance_if_told_to_whatever_time_it_is() {
        let mut clock = Clock::default();
        clock.set_interval(Some(7));
        assert_eq!(clock.peek(1_000), 1_007);
        clock.set_next(2_000, 1_000).unwrap();
        assert_eq!(clock.peek(1_000), 2_000, "what was set for the next block goes first");
        clock.used(2_000);
        clock.set_interval(None);
        assert!(clock.peek(1_000) >= 2_000);
    }

    #[test]
    fn the_time_can_be_set_in_both_directions() {
        let mut clock = Clock::default();
        let now = clock.now();
        assert!((-1_001..=-1_000).contains(&clock.set_now(now - 1_000).unwrap()));
        assert!((now - 1_000..now - 990).contains(&clock.now()));
        assert!(clock.set_now(u64::MAX).is_err());
    }

    #[test]
    fn a_timestamp_not_after_the_head_is_refused() {
        let mut clock = Clock::default();
        assert!(matches!(clock.set_next(7, 7), Err(MineError::TimestampTooOld { .. })));
        assert!(matches!(clock.advance(u64::MAX, 7), Err(MineError::ClockOverflow(_))));
    }
}

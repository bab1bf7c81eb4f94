//! Time as blocks see it: the system's, moved by what development clients ask for.

use crate::MineError;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where block timestamps come from.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Seconds added to the system's time; negative after a timestamp in the past was set.
    offset_s: i128,
    /// Timestamp that the next block must have.
    next: Option<u64>,
}

fn system_s() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i128::from(since.as_secs()))
}

impl Clock {
    /// Now, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from((system_s() + self.offset_s).max(0)).unwrap_or(u64::MAX)
    }

    /// Moves the clock forward; gives the whole offset in seconds.
    pub(crate) fn advance(&mut self, seconds: u64) -> Result<i128, MineError> {
        let moved = i128::from(self.now()) + i128::from(seconds);
        // Blocks after it must still have a timestamp that fits; half the range leaves enough.
        if moved > i128::from(u64::MAX / 2) {
            return Err(MineError::ClockOverflow(seconds));
        }
        self.offset_s += i128::from(seconds);
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
        self.next.unwrap_or_else(|| self.now()).max(parent.saturating_add(1))
    }

    /// A block with this timestamp was made.
    pub(crate) fn used(&mut self, timestamp: u64) {
        if self.next.take().is_some() {
            self.offset_s = i128::from(timestamp) - system_s();
        }
    }

    /// The offset, to come back to with [`Self::restore`].
    pub(crate) const fn offset_s(&self) -> i128 {
        self.offset_s
    }

    pub(crate) const fn restore(&mut self, offset_s: i128) {
        self.offset_s = offset_s;
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_always_grow() {
        let clock = Clock::default();
        let far = clock.now() + 1_000;
        assert_eq!(clock.peek(far), far + 1);
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
    fn a_timestamp_not_after_the_head_is_refused() {
        let mut clock = Clock::default();
        assert!(matches!(clock.set_next(7, 7), Err(MineError::TimestampTooOld { .. })));
        assert!(matches!(clock.advance(u64::MAX), Err(MineError::ClockOverflow(_))));
    }
}

//! What one connection sends, and when.

use crate::tracker::Tracker;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The encoded requests of one connection, in their order.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    requests: Vec<Box<str>>,
    /// Which transaction each is.
    indices: Vec<u32>,
    /// Where the same sender's former one is.
    former: Vec<Option<u32>>,
}

impl Lane {
    pub(crate) fn push(&mut self, request: Box<str>, index: usize, former: Option<u32>) {
        self.requests.push(request);
        self.indices.push(index as u32);
        self.former.push(former);
    }

    pub(crate) const fn len(&self) -> usize {
        self.requests.len()
    }

    /// A request and which transaction it is.
    #[cfg(test)]
    pub(crate) fn request(&self, position: usize) -> (&str, usize) {
        (&self.requests[position], self.indices[position] as usize)
    }

    /// The body of a request for these: a batch, unless it is one.
    fn body(&self, positions: &[u32]) -> Bytes {
        let text = |position: &u32| self.requests[*position as usize].as_bytes();
        if let [alone] = positions {
            return Bytes::copy_from_slice(text(alone));
        }
        let bytes: usize = positions.iter().map(|position| text(position).len() + 1).sum();
        let mut body = Vec::with_capacity(bytes + 1);
        for position in positions {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(text(position));
        }
        body.push(b']');
        body.into()
    }
}

/// When transactions are to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    /// Transactions a second, all lanes together; `None` as soon as possible.
    pub(crate) rate: Option<f64>,
    /// Most in a request.
    pub(crate) batch: usize,
    /// Most that are sent and in no block.
    pub(crate) pending_max: usize,
    /// Whether a request holds no two transactions of one sender.
    pub(crate) apart: bool,
}

/// What a lane does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Sends this.
    Send(Bytes),
    /// Waits until then.
    Until(Instant),
    /// Waits for transactions to get into blocks.
    Room,
    /// Waits for an answer.
    Answer,
    /// Nothing: all is sent and answered.
    Done,
}

/// First and longest wait of a lane before it sends again what found no room.
const BACKOFF: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(500)];

/// A lane under way.
pub(crate) struct Sending<'a> {
    lane: &'a Lane,
    schedule: Schedule,
    tracker: &'a Tracker,
    next: usize,
    /// What found no room, and is to be sent before anything new, so that nonces stay in order.
    again: VecDeque<u32>,
    /// Requests without an answer.
    waiting: usize,
    pause: Option<Instant>,
    backoff: Duration,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(lane: &'a Lane, schedule: Schedule, tracker: &'a Tracker) -> Self {
        let [backoff, _] = BACKOFF;
        let again = VecDeque::new();
        Self { lane, schedule, tracker, next: 0, again, waiting: 0, pause: None, backoff }
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// What to do now. What is to be sent counts as sent.
    pub(crate) fn next(&mut self) -> Next {
        if self.again.is_empty() && self.next == self.lane.len() {
            return if self.waiting == 0 { Next::Done } else { Next::Answer };
        }
        let now = Instant::now();
        if let Some(pause) = self.pause.filter(|pause| now < *pause) {
            return Next::Until(pause);
        }
        self.pause = None;
        if !self.again.is_empty() {
            let count = self.again.len().min(self.schedule.batch);
            let positions: Vec<_> = self.again.drain(..count).collect();
            self.waiting += 1;
            return Next::Send(self.lane.body(&positions));
        }
        let room = self.schedule.pending_max.saturating_sub(self.tracker.pending());
        let most = self.schedule.batch.min(self.lane.len() - self.next).min(room);
        if most == 0 {
            return Next::Room;
        }
        let count = match self.schedule.rate {
            None => most,
            Some(rate) => {
                let due = |position: &usize| self.due(*position, rate);
                let positions = self.next..self.next + most;
                let count = positions.take_while(|position| due(position) <= now).count();
                if count == 0 {
                    return Next::Until(due(&self.next));
                }
                count
            }
        };
        let count = if self.schedule.apart { self.apart(count) } else { count };
        let positions: Vec<_> = (self.next..self.next + count).map(|at| at as u32).collect();
        for position in &positions {
            // When it was meant to be sent, not when we got round to it.
            let meant = self.schedule.rate.map(|rate| self.due(*position as usize, rate));
            self.tracker.sent(self.lane.indices[*position as usize], meant.unwrap_or(now));
        }
        self.next += count;
        self.waiting += 1;
        Next::Send(self.lane.body(&positions))
    }

    /// How many of the next `count` are of different senders.
    fn apart(&self, count: usize) -> usize {
        let former = &self.lane.former[self.next..self.next + count];
        let new = |former: &&Option<u32>| former.is_none_or(|at| (at as usize) < self.next);
        former.iter().take_while(new).count()
    }

    fn due(&self, position: usize, rate: f64) -> Instant {
        let after = f64::from(self.lane.indices[position]) / rate;
        self.tracker.start() + Duration::from_secs_f64(after)
    }

    /// Takes the answer to a request.
    pub(crate) fn answered(&mut self, body: &[u8]) -> Result<(), String> {
        use crate::answer::{self, Verdict};
        self.waiting = self.waiting.saturating_sub(1);
        let mut unknown = None;
        let mut full = false;
        answer::read(body, |id, refusal| {
            let Some(index) = self.lane.indices.get(id as usize).copied() else {
                unknown = Some(id);
                return;
            };
            let Some(message) = refusal else {
                return;
            };
            match answer::verdict(message, self.tracker.is_sent_again(index)) {
                Verdict::Known => {}
                Verdict::Busy => {
                    full = true;
                    self.tracker.send_again(index);
                    self.again.push_back(id);
                }
                Verdict::Refused => self.tracker.refused(index, message),
            }
        })?;
        self.tracker.answered();
        if full {
            self.back_off();
        } else {
            self.backoff = BACKOFF[0];
        }
        unknown.map_or(Ok(()), |id| Err(format!("it answers a request {id} that nobody made")))
    }

    /// Sends the same once more after a while.
    fn back_off(&mut self) {
        // In the order of nonces, whatever order the answers came in.
        self.again.make_contiguous().sort_unstable();
        self.pause = Some(Instant::now() + self.backoff);
        self.backoff = (2 * self.backoff).min(BACKOFF[1]);
    }

    /// The node would not take a whole request now.
    pub(crate) fn busy(&mut self, body: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Id {
            id: u32,
        }
        self.waiting = self.waiting.saturating_sub(1);
        let ids: Vec<Id> = serde_json::from_slice(body)
            .or_else(|_| serde_json::from_slice(body).map(|id| vec![id]))
            .unwrap_or_default();
        for Id { id } in ids {
            if let Some(index) = self.lane.indices.get(id as usize) {
                self.tracker.send_again(*index);
                self.again.push_back(id);
            }
        }
        self.back_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn lane(count: usize) -> Lane {
        let mut lane = Lane::default();
        for position in 0..count {
            // Two senders in turn.
            let former = position.checked_sub(2).map(|at| at as u32);
            lane.push(format!(r#"{{"id":{position}}}"#).into(), position, former);
        }
        lane
    }

    fn tracker(count: u8) -> Tracker {
        Tracker::new((0..count).map(B256::repeat_byte), Instant::now())
    }

    const CLOSED: Schedule = Schedule { rate: None, batch: 2, pending_max: 100, apart: false };

    fn sent(next: Next) -> String {
        match next {
            Next::Send(body) => String::from_utf8(body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_batches_and_the_last_may_be_alone() {
        let (lane, tracker) = (lane(3), tracker(3));
        let mut sending = Sending::new(&lane, CLOSED, &tracker);
        assert_eq!(sent(sending.next()), r#"[{"id":0},{"id":1}]"#);
        assert_eq!(sent(sending.next()), r#"{"id":2}"#);
        assert!(matches!(sending.next(), Next::Answer));
        for body in
            [r#"[{"id":0,"result":"0x"},{"id":1,"result":"0x"}]"#, r#"{"id":2,"result":"0x"}"#]
        {
            sending.answered(body.as_bytes()).unwrap();
        }
        assert!(matches!(sending.next(), Next::Done));
        assert_eq!(tracker.pending(), 3);
    }

    #[test]
    fn what_found_no_room_is_sent_again_first_and_in_order() {
        let (lane, tracker) = (lane(4), tracker(4));
        let mut sending = Sending::new(&lane, CLOSED, &tracker);
        sent(sending.next());
        let full = r#""error":{"code":-32000,"message":"txpool is full"}"#;
        sending.answered(format!(r#"[{{"id":1,{full}}},{{"id":0,{full}}}]"#).as_bytes()).unwrap();
        let Next::Until(then) = sending.next() else { panic!("it does not wait") };
        std::thread::sleep(then.saturating_duration_since(Instant::now()));
        assert_eq!(sent(sending.next()), r#"[{"id":0},{"id":1}]"#);
        assert_eq!(sent(sending.next()), r#"[{"id":2},{"id":3}]"#);
        assert_eq!(tracker.counts().retried, 2);
        sending.busy(br#"[{"id":2},{"id":3}]"#);
        assert_eq!(tracker.counts().retried, 4);
    }

    #[test]
    fn one_sender_s_transactions_can_be_kept_apart() {
        let (lane, tracker) = (lane(5), tracker(5));
        let schedule = Schedule { batch: 10, apart: true, ..CLOSED };
        let mut sending = Sending::new(&lane, schedule, &tracker);
        assert_eq!(sent(sending.next()), r#"[{"id":0},{"id":1}]"#);
        assert_eq!(sent(sending.next()), r#"[{"id":2},{"id":3}]"#);
        assert_eq!(sent(sending.next()), r#"{"id":4}"#);
    }

    #[test]
    fn no_more_are_pending_than_may_be() {
        let (lane, tracker) = (lane(5), tracker(5));
        let schedule = Schedule { pending_max: 3, ..CLOSED };
        let mut sending = Sending::new(&lane, schedule, &tracker);
        sent(sending.next());
        assert_eq!(sent(sending.next()), r#"{"id":2}"#);
        assert!(matches!(sending.next(), Next::Room));
        tracker.block(1, [B256::repeat_byte(0)].into_iter(), 1);
        assert_eq!(sent(sending.next()), r#"{"id":3}"#);
    }

    #[test]
    fn at_a_fixed_rate_nothing_is_early_and_what_is_late_counts_from_when_it_was_due() {
        let (lane, tracker) = (lane(5), tracker(5));
        let schedule = Schedule { rate: Some(100.0), batch: 10, ..CLOSED };
        let mut sending = Sending::new(&lane, schedule, &tracker);
        assert_eq!(sent(sending.next()), r#"{"id":0}"#);
        let Next::Until(due) = sending.next() else { panic!("it does not wait") };
        assert_eq!(due - tracker.start(), Duration::from_millis(10));
        // A stall: three are due by then.
        std::thread::sleep(Duration::from_millis(35));
        assert_eq!(sent(sending.next()), r#"[{"id":1},{"id":2},{"id":3}]"#);
        tracker.block(1, [B256::repeat_byte(1)].into_iter(), 1);
        assert!(tracker.latencies().longest_ms() >= 25.0, "{}", tracker.latencies().longest_ms());
    }
}

//! Chance that comes out the same every time.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// A stream of choices, given by its seed on every machine alike.
#[derive(Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `end`, which must not be zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        // In 64 bits, because a draw in `usize` differs between machines.
        self.0.random_range(0..end as u64) as usize
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability.clamp(0.0, 1.0))
    }

    /// `marked` of `count` places, true, in a random order.
    pub(crate) fn marks(&mut self, count: usize, marked: usize) -> Vec<bool> {
        let mut marks: Vec<_> = (0..count).map(|index| index < marked).collect();
        marks.shuffle(&mut self.0);
        marks
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.0);
    }

    /// Who sends each of `count` transactions: mostly a new sender each, but one in ten comes from
    /// somebody who has sent before, at most `each` from anybody. Senders are numbered from zero.
    pub(crate) fn senders(&mut self, count: usize, each: usize) -> Vec<usize> {
        const AGAIN: f64 = 0.1;
        let mut sent: Vec<usize> = Vec::new();
        let mut senders = Vec::with_capacity(count);
        for _ in 0..count {
            let again = !sent.is_empty() && self.chance(AGAIN);
            let earlier = again.then(|| self.below(sent.len())).filter(|who| sent[*who] < each);
            let sender = earlier.unwrap_or_else(|| {
                sent.push(0);
                sent.len() - 1
            });
            sent[sender] += 1;
            senders.push(sender);
        }
        senders
    }
}

/// Zipf's law: of `count` things, the one of rank r (from 1) comes up in proportion to r^-exponent.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// Sums of the weights up to each rank.
    sums: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut add = |rank: usize| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        Self { sums: (1..=count.max(1)).map(&mut add).collect() }
    }

    /// A rank, from zero.
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let last = self.sums.len() - 1;
        let point = random.0.random::<f64>() * self.sums[last];
        self.sums.partition_point(|sum| *sum <= point).min(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender_in_ten_has_sent_before_and_nobody_too_often() {
        let senders = Random::new(7).senders(10_000, 3);
        let mut sent = vec![0; senders.len()];
        for sender in &senders {
            sent[*sender] += 1;
        }
        let distinct = sent.iter().filter(|count| **count > 0).count();
        assert!((8_900..9_200).contains(&distinct), "{distinct}");
        assert!(sent.iter().all(|count| *count <= 3));
    }

    #[test]
    fn ranks_come_up_as_zipf_says() {
        let (zipf, mut random) = (Zipf::new(20, 1.0), Random::new(1));
        let mut drawn = [0_f64; 20];
        for _ in 0..100_000 {
            drawn[zipf.draw(&mut random)] += 1.0;
        }
        for (rank, count) in drawn.iter().enumerate() {
            let expected = drawn[0] / (rank + 1) as f64;
            assert!((count / expected - 1.0).abs() < 0.1, "rank {rank}: {count} of {expected}");
        }
    }
}

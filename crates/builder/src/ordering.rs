//! The order within equal fees, for many workers.
//!
//! Whoever pays more goes first, and a sender's transactions go by nonce; among those that pay the same the order is free.
//! It is used to begin early what much else waits for: list scheduling by the work that waits (Graham, "Bounds on
//! multiprocessing timing anomalies", 1969; the priority is Hu's level, 1961). The place of a transaction is when it would
//! begin with so many workers, so that the parts of a chain have others between them, which run meanwhile.
//!
//! Of two transactions of which one needs the other the first stays first. Nobody gets ahead by what it would take
//! itself, only by what waits for it, and where nothing waits for anything nothing moves.

use alloy_primitives::{
    Address,
    map::{AddressMap, HashMap},
};
use heddle_parallel::{AccessHint, Location};
use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

/// A transaction, as far as its place is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'h> {
    pub(crate) sender: Address,
    /// Wei that the beneficiary gets for a unit of gas.
    pub(crate) tip: u128,
    /// What it may take.
    pub(crate) gas_limit: u64,
    /// What it touches, if that is known.
    pub(crate) hint: Option<&'h AccessHint>,
}

/// The order in which to offer these, as places in `transactions`. Only those that follow each other there and have the
/// same tip change places, and only if something is known of one of them.
pub(crate) fn in_parallel_order(transactions: &[Placed<'_>], workers: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(transactions.len());
    while order.len() < transactions.len() {
        let first = order.len();
        let same_tip = |tx: &&Placed<'_>| tx.tip == transactions[first].tip;
        let end = first + transactions[first..].iter().take_while(same_tip).count();
        order_run(transactions, first..end, workers, &mut order);
    }
    order
}

fn order_run(
    transactions: &[Placed<'_>],
    run: Range<usize>,
    workers: usize,
    order: &mut Vec<usize>,
) {
    let (first, run_of) = (run.start, &transactions[run.clone()]);
    let is_known = run_of.iter().any(|tx| tx.hint.is_some());
    let dependencies = is_known.then(|| Dependencies::of(run_of));
    match dependencies.filter(|dependencies| dependencies.any) {
        Some(dependencies) => {
            let weights: Vec<u64> = run_of.iter().map(|tx| tx.gas_limit.max(1)).collect();
            let begun = Schedule::new(&dependencies, &weights).run(workers.max(1));
            debug_assert_eq!(begun.len(), run_of.len(), "everything begins once");
            order.extend(begun.into_iter().map(|index| first + index));
        }
        None => order.extend(run),
    }
}

/// Which transactions of a run need others before them.
struct Dependencies {
    /// Those that need each of them.
    followers: Vec<Vec<usize>>,
    /// How many each of them needs.
    needs: Vec<usize>,
    any: bool,
}

impl Dependencies {
    fn of(transactions: &[Placed<'_>]) -> Self {
        let mut all = Self {
            followers: vec![Vec::new(); transactions.len()],
            needs: vec![0; transactions.len()],
            any: false,
        };
        let mut senders = AddressMap::<usize>::default();
        let mut writers = HashMap::<Location, usize>::default();
        let mut needed = Vec::new();
        for (index, tx) in transactions.iter().enumerate() {
            needed.extend(senders.insert(tx.sender, index));
            for location in tx.hint.iter().flat_map(|hint| &hint.reads) {
                needed.extend(writers.get(location));
                if let Location::Slot(address, _) = location {
                    needed.extend(writers.get(&Location::Wipe(*address)));
                }
            }
            for location in tx.hint.iter().flat_map(|hint| &hint.writes) {
                writers.insert(*location, index);
            }
            needed.sort_unstable();
            needed.dedup();
            all.any |= !needed.is_empty();
            all.needs[index] = needed.len();
            needed.drain(..).for_each(|before| all.followers[before].push(index));
        }
        all
    }

    /// Work of the heaviest chain that waits for each of them, itself not counted.
    fn waiting_work(&self, weights: &[u64]) -> Vec<u64> {
        let mut waiting = vec![0_u64; weights.len()];
        for (index, followers) in self.followers.iter().enumerate().rev() {
            // Followers come later, so theirs is known.
            let chain = |follower: &usize| weights[*follower].saturating_add(waiting[*follower]);
            waiting[index] = followers.iter().map(chain).max().unwrap_or_default();
        }
        waiting
    }
}

/// Transactions on so many workers, in time that is counted in gas.
struct Schedule<'d> {
    dependencies: &'d Dependencies,
    weights: &'d [u64],
    waiting_work: Vec<u64>,
    /// How many of those that it needs have not ended.
    needs: Vec<usize>,
    /// What can begin: most waiting work first, then as it came.
    ready: BinaryHeap<(u64, Reverse<usize>)>,
    begun: Vec<usize>,
}

impl<'d> Schedule<'d> {
    fn new(dependencies: &'d Dependencies, weights: &'d [u64]) -> Self {
        let mut schedule = Self {
            dependencies,
            weights,
            waiting_work: dependencies.waiting_work(weights),
            needs: dependencies.needs.clone(),
            ready: BinaryHeap::with_capacity(weights.len()),
            begun: Vec::with_capacity(weights.len()),
        };
        for index in 0..weights.len() {
            if schedule.needs[index] == 0 {
                schedule.make_ready(index);
            }
        }
        schedule
    }

    fn make_ready(&mut self, index: usize) {
        self.ready.push((self.waiting_work[index], Reverse(index)));
    }

    /// The order in which they begin.
    fn run(mut self, workers: usize) -> Vec<usize> {
        // When what is running ends, first one first.
        let mut running = BinaryHeap::<Reverse<(u64, usize)>>::with_capacity(workers);
        let mut now = 0_u64;
        loop {
            while running.len() < workers
                && let Some((_, Reverse(index))) = self.ready.pop()
            {
                self.begun.push(index);
                running.push(Reverse((now.saturating_add(self.weights[index]), index)));
            }
            let Some(Reverse((at, index))) = running.pop() else { return self.begun };
            now = at;
            self.end(index);
            while let Some(Reverse((at, index))) = running.peek().copied()
                && at == now
            {
                running.pop();
                self.end(index);
            }
        }
    }

    fn end(&mut self, index: usize) {
        for follower in &self.dependencies.followers[index] {
            self.needs[*follower] -= 1;
            if self.needs[*follower] == 0 {
                self.make_ready(*follower);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use proptest::prelude::*;

    fn slot(slot: u8) -> Location {
        Location::Slot(Address::repeat_byte(0xcc), U256::from(slot))
    }

    /// A transaction that changes what it reads.
    fn changes(locations: &[u8]) -> AccessHint {
        let locations: Vec<_> = locations.iter().copied().map(slot).collect();
        AccessHint { reads: locations.clone(), writes: locations }
    }

    fn placed(sender: u8, tip: u128, gas_limit: u64, hint: Option<&AccessHint>) -> Placed<'_> {
        Placed { sender: Address::repeat_byte(sender), tip, gas_limit, hint }
    }

    #[test]
    fn without_hints_nothing_moves() {
        let same_sender = [1, 2, 2, 3, 1].map(|sender| placed(sender, 5, 50_000, None));
        assert_eq!(in_parallel_order(&same_sender, 4), [0, 1, 2, 3, 4]);
        assert_eq!(in_parallel_order(&[], 4), [0; 0]);
    }

    #[test]
    fn where_nothing_waits_for_anything_nothing_moves_however_much_gas_is_claimed() {
        let hints = [changes(&[1]), changes(&[2]), changes(&[3])];
        let gas = [21_000, 9_000_000, 50_000];
        let all: Vec<_> =
            (0..3).map(|index| placed(index as u8, 5, gas[index], Some(&hints[index]))).collect();
        assert_eq!(in_parallel_order(&all, 2), [0, 1, 2]);
    }

    #[test]
    fn the_chain_begins_first_and_others_run_beside_it() {
        let (chain, alone) = (changes(&[7]), [changes(&[1]), changes(&[2]), changes(&[3])]);
        let mut all: Vec<_> =
            (0..3).map(|index| placed(index as u8, 5, 100_000, Some(&alone[index]))).collect();
        all.extend((3..6).map(|sender| placed(sender, 5, 100_000, Some(&chain))));
        // Two workers: one has the chain, the other has the rest meanwhile.
        assert_eq!(in_parallel_order(&all, 2), [3, 0, 4, 1, 2, 5]);
        assert_eq!(in_parallel_order(&all, 1), [3, 4, 0, 1, 2, 5]);
    }

    #[test]
    fn of_two_chains_the_heavier_one_begins_first() {
        let (light, heavy) = (changes(&[1]), changes(&[2]));
        let all = [
            placed(1, 5, 50_000, Some(&light)),
            placed(2, 5, 50_000, Some(&light)),
            placed(3, 5, 50_000, Some(&heavy)),
            placed(4, 5, 900_000, Some(&heavy)),
        ];
        assert_eq!(in_parallel_order(&all, 1), [2, 0, 1, 3]);
    }

    #[test]
    fn a_higher_tip_goes_first_whatever_waits() {
        let chain = changes(&[7]);
        let all = [
            placed(1, 9, 50_000, None),
            placed(2, 5, 50_000, None),
            placed(3, 5, 50_000, Some(&chain)),
            placed(4, 5, 50_000, Some(&chain)),
            placed(5, 1, 50_000, Some(&chain)),
        ];
        assert_eq!(in_parallel_order(&all, 2), [0, 2, 1, 3, 4]);
    }

    #[test]
    fn a_slot_needs_whoever_wiped_its_account() {
        let wipes = AccessHint {
            reads: Vec::new(),
            writes: vec![Location::Wipe(Address::repeat_byte(0xcc))],
        };
        let reads = AccessHint { reads: vec![slot(1)], writes: Vec::new() };
        let all = [
            placed(1, 5, 50_000, None),
            placed(2, 5, 50_000, Some(&wipes)),
            placed(3, 5, 50_000, Some(&reads)),
        ];
        assert_eq!(in_parallel_order(&all, 1), [1, 0, 2]);
    }

    type Drawn = (u8, u128, u64, Option<(Vec<u8>, Vec<u8>)>);

    fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
        let locations = || prop::collection::vec(0_u8..8, 0..4);
        let hint = prop::option::of((locations(), locations()));
        prop::collection::vec((0_u8..12, 0_u128..3, 0_u64..1 << 24, hint), 0..80)
    }

    proptest! {
        #[test]
        fn only_equal_tips_change_places_and_nonces_and_dependencies_keep_theirs(
            drawn in drawn(),
            workers in 0_usize..9,
        ) {
            let hints: Vec<Option<AccessHint>> = drawn.iter().map(|(.., hint)| {
                let (reads, writes) = hint.clone()?;
                let slots = |of: Vec<u8>| of.into_iter().map(slot).collect();
                Some(AccessHint { reads: slots(reads), writes: slots(writes) })
            }).collect();
            let all: Vec<_> = drawn.iter().zip(&hints).map(|((sender, tip, gas, _), hint)| {
                placed(*sender, *tip, *gas, hint.as_ref())
            }).collect();
            let order = in_parallel_order(&all, workers);
            prop_assert_eq!(&order, &in_parallel_order(&all, workers), "the same again");

            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..all.len()), "everything once");
            let mut place_of = vec![0; all.len()];
            for (place, index) in order.iter().enumerate() {
                place_of[*index] = place;
                prop_assert_eq!(all[*index].tip, all[place].tip);
                let run = |from: usize, to: usize| all[from..=to].iter().all(|tx| tx.tip == all[from].tip);
                prop_assert!(run(place.min(*index), place.max(*index)), "not across another tip");
            }
            for later in 0..all.len() {
                for earlier in 0..later {
                    let (before, after) = (&all[earlier], &all[later]);
                    // Of the writers of a location the last one counts, and those before it only as they need each other.
                    let is_last = |location: &Location| !all[earlier + 1..later].iter().any(|between| {
                        between.hint.is_some_and(|hint| hint.writes.contains(location))
                    });
                    let writes = |location: &Location| {
                        before.hint.is_some_and(|hint| hint.writes.contains(location)) && is_last(location)
                    };
                    let needs = after.hint.is_some_and(|hint| hint.reads.iter().any(writes));
                    if before.sender == after.sender || needs {
                        prop_assert!(place_of[earlier] < place_of[later], "{earlier} before {later}");
                    }
                }
            }
        }
    }
}

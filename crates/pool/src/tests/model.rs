//! The pool against a model that is too simple to be wrong: a map per sender, recomputed after each step.

use std::collections::BTreeMap;

use alloy_primitives::{TxHash, U256};
use proptest::prelude::*;

use super::{BASE_FEE, Bench, Transfer, account};
use crate::{PoolError, SenderState};

const SENDERS: u64 = 3;
const NONCES: u64 = 8;

#[derive(Clone, Debug)]
enum Step {
    Add { sender: u64, nonce: u64, fee: u128 },
    AddMany(Vec<(u64, u64, u128)>),
    Mine { count: usize },
    SetAccount { sender: u64, nonce: u64, balance: u64 },
    Remove { sender: u64, nonce: u64 },
    RemoveSender { sender: u64 },
}

fn tx() -> impl Strategy<Value = (u64, u64, u128)> {
    (0..SENDERS, 0..NONCES, 1..30u128)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => tx().prop_map(|(sender, nonce, fee)| Step::Add { sender, nonce, fee }),
        3 => prop::collection::vec(tx(), 1..8).prop_map(Step::AddMany),
        3 => (0..6usize).prop_map(|count| Step::Mine { count }),
        2 => (0..SENDERS, 0..NONCES, 0..5000u64)
            .prop_map(|(sender, nonce, balance)| Step::SetAccount { sender, nonce, balance: balance * 1000 }),
        1 => (0..SENDERS, 0..NONCES).prop_map(|(sender, nonce)| Step::Remove { sender, nonce }),
        1 => (0..SENDERS).prop_map(|sender| Step::RemoveSender { sender }),
    ]
}

fn transfer(sender: u64, nonce: u64, fee: u128) -> Transfer {
    Transfer::new(sender, nonce).fees(fee, fee)
}

fn cost(fee: u128) -> U256 {
    U256::from(21_000 * fee)
}

#[derive(Default)]
struct ModelSender {
    nonce: u64,
    balance: U256,
    /// Fee by nonce.
    txs: BTreeMap<u64, u128>,
}

impl ModelSender {
    fn pending(&self) -> Vec<u64> {
        (self.nonce..).take_while(|nonce| self.txs.contains_key(nonce)).collect()
    }

    fn add(&mut self, nonce: u64, fee: u128) -> Result<(), &'static str> {
        if self.txs.get(&nonce) == Some(&fee) {
            return Err("already_known");
        }
        if nonce < self.nonce {
            return Err("nonce_too_low");
        }
        if cost(fee) > self.balance {
            return Err("insufficient_funds");
        }
        let others = self.pending().into_iter().filter(|other| *other != nonce);
        let total: U256 = others.map(|other| cost(self.txs[&other])).sum();
        if total + cost(fee) > self.balance {
            return Err("insufficient_funds");
        }
        if self.txs.get(&nonce).is_some_and(|old| fee <= *old || fee < old * 110 / 100) {
            return Err("replacement_underpriced");
        }
        self.txs.insert(nonce, fee);
        Ok(())
    }

    fn settle(&mut self) {
        let (nonce, balance) = (self.nonce, self.balance);
        self.txs.retain(|tx_nonce, fee| *tx_nonce >= nonce && cost(*fee) <= balance);
    }

    fn state(&self) -> SenderState {
        SenderState { nonce: self.nonce, balance: self.balance, has_non_delegation_code: false }
    }
}

struct Run {
    bench: Bench,
    model: Vec<ModelSender>,
}

impl Run {
    fn new() -> Self {
        let bench = Bench::with_rules(|rules| rules.base_fee = 0);
        let model: Vec<_> = (0..SENDERS)
            .map(|_| ModelSender { balance: U256::from(3_000_000), ..Default::default() })
            .collect();
        for (n, sender) in model.iter().enumerate() {
            bench.accounts.set(n as u64, sender.state());
        }
        Self { bench, model }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add { sender, nonce, fee } => {
                let ours = self.bench.add(transfer(*sender, *nonce, *fee)).map(|_| ());
                let theirs = self.model[*sender as usize].add(*nonce, *fee);
                assert_eq!(
                    ours.as_ref().map_err(PoolError::reason),
                    theirs.as_ref().map_err(|reason| *reason)
                );
            }
            Step::AddMany(txs) => {
                let batch = txs
                    .iter()
                    .map(|(sender, nonce, fee)| transfer(*sender, *nonce, *fee).build())
                    .collect();
                let ours =
                    self.bench.pool.add_many(batch, &self.bench.accounts, crate::Origin::External);
                for ((sender, nonce, fee), ours) in txs.iter().zip(ours) {
                    let theirs = self.model[*sender as usize].add(*nonce, *fee);
                    assert_eq!(ours.map(|_| ()).map_err(|error| error.reason()), theirs);
                }
            }
            Step::Mine { count } => self.mine(*count),
            Step::SetAccount { sender, nonce, balance } => {
                let model = &mut self.model[*sender as usize];
                (model.nonce, model.balance) = (*nonce, U256::from(*balance));
                model.settle();
                self.bench.head(&[(*sender, model.state())]);
            }
            Step::Remove { sender, nonce } => {
                if let Some(fee) = self.model[*sender as usize].txs.remove(nonce) {
                    assert!(
                        self.bench.pool.remove(&transfer(*sender, *nonce, fee).hash()).is_some()
                    );
                }
            }
            Step::RemoveSender { sender } => {
                let model = std::mem::take(&mut self.model[*sender as usize].txs);
                assert_eq!(self.bench.pool.remove_sender(account(*sender)).len(), model.len());
            }
        }
        self.compare();
    }

    /// Takes the best transactions into a block, as far as balances go.
    fn mine(&mut self, count: usize) {
        let mut best = self.bench.pool.best(0, 0);
        let mut mined: Vec<TxHash> = Vec::new();
        while mined.len() < count {
            let Some(tx) = best.next() else { break };
            let n = (0..SENDERS).find(|n| account(*n) == tx.sender()).expect("one of ours");
            let model = &mut self.model[n as usize];
            assert_eq!(tx.nonce(), model.nonce, "best is in nonce order");
            if tx.cost() > model.balance {
                best.mark_invalid(&tx);
                continue;
            }
            model.txs.remove(&tx.nonce());
            model.nonce += 1;
            model.balance -= tx.cost();
            mined.push(tx.hash());
        }
        self.model.iter_mut().for_each(ModelSender::settle);
        let states: Vec<_> = self
            .model
            .iter()
            .enumerate()
            .map(|(n, sender)| (account(n as u64), sender.state()))
            .collect();
        for (n, sender) in self.model.iter().enumerate() {
            self.bench.accounts.set(n as u64, sender.state());
        }
        self.bench.pool.on_new_head((*self.bench.pool.rules()).clone(), states, &mined);
    }

    fn compare(&self) {
        self.bench.pool.check_books();
        for (n, model) in self.model.iter().enumerate() {
            let n = n as u64;
            let pending = model.pending();
            assert_eq!(self.bench.pending(n), pending);
            let queued: Vec<u64> =
                model.txs.keys().copied().filter(|nonce| !pending.contains(nonce)).collect();
            assert_eq!(self.bench.queued(n), queued);
            let next = (!model.txs.is_empty()).then(|| model.nonce + pending.len() as u64);
            assert_eq!(self.bench.pool.pending_nonce(account(n)), next);
            for (nonce, fee) in &model.txs {
                assert!(self.bench.pool.contains(&transfer(n, *nonce, *fee).hash()));
            }
        }
        self.compare_best();
    }

    /// The order of `best`, found the slow way: at each turn the best head of any sender.
    fn compare_best(&self) {
        let mut left: Vec<Vec<_>> = (0..SENDERS)
            .map(|n| {
                let mut txs = self.bench.pool.content_from(account(n)).pending;
                txs.reverse();
                txs
            })
            .collect();
        for tx in self.bench.pool.best(0, 0) {
            let best = left
                .iter_mut()
                .filter(|txs| !txs.is_empty())
                .max_by_key(|txs| {
                    let head = txs.last().expect("not empty");
                    (head.effective_tip(0), std::cmp::Reverse(head.sequence()))
                })
                .expect("as many as pending");
            assert_eq!(best.pop().map(|tx| tx.hash()), Some(tx.hash()));
        }
        assert!(left.iter().all(Vec::is_empty));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn the_pool_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
    }

    #[test]
    fn a_full_pool_keeps_its_books_and_its_limits(
        txs in prop::collection::vec((0..12u64, 0..6u64, 1..20u128), 1..120),
        base_fees in prop::collection::vec(0..15u64, 1..6),
    ) {
        let bench = Bench::with_limits(|limits| {
            limits.transactions_max = 20;
            limits.queued_max = 8;
            limits.per_sender_max = 5;
        });
        for (n, (sender, nonce, tip)) in txs.iter().enumerate() {
            if n % 20 == 19 {
                let mut rules = (*bench.pool.rules()).clone();
                rules.base_fee = base_fees[n / 20 % base_fees.len()];
                bench.pool.on_new_head(rules, [], &[]);
            }
            let before = bench.pool.status();
            let is_full = bench.pool.len() == 20;
            let result = bench.add(transfer(*sender, *nonce, *tip));
            if is_full && result.is_err() {
                prop_assert_eq!(bench.pool.status(), before, "a refusal changes nothing");
            }
            prop_assert!(bench.pool.len() <= 20);
        }
        prop_assert!(bench.pool.best(BASE_FEE, 0).count() <= bench.pool.len());
    }
}

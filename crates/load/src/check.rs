//! The accounting: what the chain says became of every transaction, and whether accounts and contracts agree.

use crate::{
    LoadError, LoadReport,
    client::{Client, Receipt},
    encode::Tracked,
};
use alloy_primitives::{
    Address, B256, Bytes, U256,
    map::{AddressMap, B256Map},
};
use heddle_workload::{Change, Reading};

/// Most of each kind of number that is compared; of more, every second or third and so on is.
const COMPARED_MAX: usize = 100_000;
/// Receipts asked for in one request: some megabytes.
const RECEIPTS_AT_ONCE: usize = 4_000;
/// JSON-RPC's code for a method that does not exist.
const METHOD_NOT_FOUND: i64 = -32_601;

/// What the chain says of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in no block.
    Missing,
    /// It is in a block, with this status, for this price in wei and this gas.
    Executed { succeeded: bool, price: U256, gas: u64 },
}

/// What is wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) words: Vec<String>,
    pub(crate) count: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: impl FnOnce() -> String) {
        self.count += 1;
        if self.words.len() < LoadReport::FAULTS_MAX {
            self.words.push(fault());
        }
    }
}

/// Finds every transaction in the chain by the receipts of the blocks that are said to hold them.
pub(crate) async fn outcomes(
    client: &mut Client,
    transactions: &[Tracked],
    blocks: &[(u64, usize)],
    faults: &mut Faults,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Outcome>, LoadError> {
    let index_of: B256Map<usize> = transactions.iter().map(|tx| tx.hash).zip(0..).collect();
    let mut outcomes = vec![Outcome::Missing; transactions.len()];
    let mut seen = 0;
    let mut rest = blocks;
    while !rest.is_empty() {
        let mut transactions = 0;
        let within = |(_, total): &&(u64, usize)| {
            transactions += total;
            transactions <= RECEIPTS_AT_ONCE
        };
        let (now, later) = rest.split_at(rest.iter().take_while(within).count().max(1));
        rest = later;
        let numbers = now.iter().map(|(number, _)| [format!("{number:#x}")]).collect();
        let answer = client.calls("eth_getBlockReceipts", numbers, |_| {}).await;
        let receipts: Vec<Vec<Receipt>> = match answer {
            Err(LoadError::Refused { code: METHOD_NOT_FOUND, .. }) => {
                return one_by_one(client, &index_of, outcomes, progress).await;
            }
            answer => answer?,
        };
        for ((number, _), receipts) in now.iter().zip(receipts) {
            for receipt in receipts {
                let Some(index) = index_of.get(&receipt.transaction_hash) else { continue };
                if outcomes[*index] != Outcome::Missing {
                    let hash = receipt.transaction_hash;
                    faults.add(|| {
                        format!("transaction {hash} is in the chain twice, again in block {number}")
                    });
                }
                if receipt.block_number.to::<u64>() != *number {
                    let (hash, block) = (receipt.transaction_hash, receipt.block_number);
                    faults.add(|| {
                        format!("the receipt of {hash} in block {number} names block {block}")
                    });
                }
                outcomes[*index] = outcome(&receipt);
                seen += 1;
            }
        }
        progress(seen);
    }
    Ok(outcomes)
}

/// Where nodes do not give the receipts of a block at once.
async fn one_by_one(
    client: &mut Client,
    index_of: &B256Map<usize>,
    mut outcomes: Vec<Outcome>,
    progress: impl FnMut(usize),
) -> Result<Vec<Outcome>, LoadError> {
    let hashes: Vec<[B256; 1]> = index_of.keys().map(|hash| [*hash]).collect();
    let receipts: Vec<Option<Receipt>> =
        client.calls("eth_getTransactionReceipt", hashes, progress).await?;
    for receipt in receipts.iter().flatten() {
        if let Some(index) = index_of.get(&receipt.transaction_hash) {
            outcomes[*index] = outcome(receipt);
        }
    }
    Ok(outcomes)
}

fn outcome(receipt: &Receipt) -> Outcome {
    let gas = receipt.gas_used.to::<u64>();
    Outcome::Executed {
        succeeded: receipt.status.to::<u64>() == 1,
        price: U256::from(gas) * receipt.effective_gas_price.to::<U256>(),
        gas,
    }
}

/// How many of each there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) included: usize,
    pub(crate) failed: usize,
    pub(crate) expected_failures: usize,
    pub(crate) gas: u64,
}

/// Compares each transaction's outcome with what was meant.
pub(crate) fn tally(transactions: &[Tracked], outcomes: &[Outcome], faults: &mut Faults) -> Tally {
    let mut tally = Tally::default();
    for (tx, outcome) in transactions.iter().zip(outcomes) {
        let hash = tx.hash;
        match *outcome {
            Outcome::Missing => {
                tally.failed += 1;
                faults.add(|| format!("transaction {hash} of {} is in no block", tx.from));
            }
            Outcome::Executed { succeeded, gas, .. } => {
                tally.included += 1;
                tally.gas += gas;
                match (succeeded, tx.fails) {
                    (true, false) => {}
                    (false, true) => tally.expected_failures += 1,
                    (false, false) => {
                        tally.failed += 1;
                        faults.add(|| format!("transaction {hash} of {} failed", tx.from));
                    }
                    (true, true) => faults.add(|| {
                        format!("transaction {hash} of {} was made to fail and succeeded", tx.from)
                    }),
                }
            }
        }
    }
    tally
}

/// The accounts' and contracts' numbers before the timed part.
pub(crate) struct Books {
    /// With the nonces at the start.
    senders: Vec<(Address, u64)>,
    holders: Vec<Address>,
    ether: Vec<U256>,
    effects: Vec<(Reading, Change)>,
    readings: Vec<U256>,
}

impl Books {
    /// Reads what may change: the nonces of senders, the ether of senders and receivers, and what
    /// contracts say.
    pub(crate) async fn open(
        client: &mut Client,
        transactions: &[Tracked],
        effects: Vec<(Reading, Change)>,
    ) -> Result<Self, LoadError> {
        let mut known: AddressMap<()> = AddressMap::default();
        let mut senders = Vec::new();
        for tx in transactions {
            if known.insert(tx.from, ()).is_none() {
                senders.push(tx.from);
            }
        }
        let mut holders = senders.clone();
        for tx in transactions.iter().filter(|tx| !tx.value.is_zero()) {
            if let Some(to) = tx.to.filter(|to| known.insert(*to, ()).is_none()) {
                holders.push(to);
            }
        }
        let (senders, holders) = (sample(senders), sample(holders));
        let nonces = client.nonces(&senders, |_| {}).await?;
        let senders = senders.into_iter().zip(nonces.iter().map(|nonce| nonce.to())).collect();
        let effects = sample(effects);
        let ether = client.balances(&holders, |_| {}).await?;
        let readings = read(client, &effects, |_| {}).await?;
        Ok(Self { senders, holders, ether, effects, readings })
    }

    /// How many numbers there are to compare.
    pub(crate) const fn len(&self) -> usize {
        self.senders.len() + self.holders.len() + self.effects.len()
    }

    /// Reads everything anew and compares.
    pub(crate) async fn close(
        self,
        client: &mut Client,
        transactions: &[Tracked],
        outcomes: &[Outcome],
        faults: &mut Faults,
        mut progress: impl FnMut(usize),
    ) -> Result<(), LoadError> {
        let mut counts: AddressMap<u64> = AddressMap::default();
        let mut moves: AddressMap<[U256; 2]> = AddressMap::default();
        for (tx, outcome) in transactions.iter().zip(outcomes) {
            let Outcome::Executed { succeeded, price, .. } = *outcome else { continue };
            *counts.entry(tx.from).or_default() += 1;
            let value = if succeeded { tx.value } else { U256::ZERO };
            moves.entry(tx.from).or_default()[1] += price + value;
            if let Some(to) = tx.to {
                moves.entry(to).or_default()[0] += value;
            }
        }
        let accounts: Vec<_> = self.senders.iter().map(|(account, _)| *account).collect();
        let nonces = client.nonces(&accounts, &mut progress).await?;
        for ((account, before), after) in self.senders.iter().zip(nonces) {
            let expected = before + counts.get(account).copied().unwrap_or_default();
            if after.to::<u64>() != expected {
                faults.add(|| format!("{account} has nonce {after}, not {expected}"));
            }
        }
        let done = accounts.len();
        let ether = client.balances(&self.holders, |more| progress(done + more)).await?;
        for ((account, before), after) in self.holders.iter().zip(&self.ether).zip(ether) {
            let [received, spent] = moves.get(account).copied().unwrap_or_default();
            let expected = (*before + received).saturating_sub(spent);
            if after != expected {
                faults.add(|| format!("{account} has {after} wei, not {expected}"));
            }
        }
        let done = done + self.holders.len();
        let readings = read(client, &self.effects, |more| progress(done + more)).await?;
        for (((reading, change), before), after) in
            self.effects.iter().zip(&self.readings).zip(readings)
        {
            if !change.is_met(*before, after) {
                faults.add(|| format!("{reading} went from {before} to {after}, not {change}"));
            }
        }
        Ok(())
    }
}

/// Evenly spread over all, at most [`COMPARED_MAX`].
fn sample<T>(all: Vec<T>) -> Vec<T> {
    let step = all.len().div_ceil(COMPARED_MAX).max(1);
    all.into_iter().step_by(step).collect()
}

async fn read(
    client: &mut Client,
    effects: &[(Reading, Change)],
    progress: impl FnMut(usize),
) -> Result<Vec<U256>, LoadError> {
    let calls = effects.iter().map(|(reading, _)| (reading.contract(), reading.call())).collect();
    let answers: Vec<Bytes> = client.views(calls, progress).await?;
    let word = |((reading, _), answer): (&(Reading, Change), &Bytes)| {
        let at = 32 * reading.word();
        let word = answer.get(at..at + 32).ok_or_else(|| LoadError::Answer {
            method: "eth_call".to_owned(),
            reason: format!("{} bytes for the {reading}", answer.len()),
        })?;
        Ok(U256::from_be_slice(word))
    };
    effects.iter().zip(&answers).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(fails: bool) -> Tracked {
        let (hash, from) = (B256::ZERO, Address::ZERO);
        Tracked { hash, from, to: None, value: U256::ZERO, fails }
    }

    #[test]
    fn what_was_made_to_fail_must_and_nothing_else_may() {
        let executed = |succeeded| Outcome::Executed { succeeded, price: U256::ZERO, gas: 10 };
        let cases = [
            (false, executed(true), (1, 0, 0), 0),
            (true, executed(false), (1, 0, 1), 0),
            (false, executed(false), (1, 1, 0), 1),
            (true, executed(true), (1, 0, 0), 1),
            (false, Outcome::Missing, (0, 1, 0), 1),
            (true, Outcome::Missing, (0, 1, 0), 1),
        ];
        for (fails, outcome, (included, failed, expected_failures), count) in cases {
            let mut faults = Faults::default();
            let tally = tally(&[tracked(fails)], &[outcome], &mut faults);
            let gas = 10 * included as u64;
            assert_eq!(tally, Tally { included, failed, expected_failures, gas }, "{outcome:?}");
            assert_eq!(faults.count, count, "{outcome:?}");
        }
    }

    #[test]
    fn faults_are_all_counted_but_not_all_kept() {
        let mut faults = Faults::default();
        for number in 0..100 {
            faults.add(|| number.to_string());
        }
        assert_eq!((faults.count, faults.words.len()), (100, LoadReport::FAULTS_MAX));
    }

    #[test]
    fn too_many_are_thinned_out_evenly() {
        let sampled = sample((0..COMPARED_MAX * 2 + 1).collect());
        assert!(sampled.len() <= COMPARED_MAX);
        assert!(sampled.windows(2).all(|pair| pair[1] - pair[0] == 3));
        assert_eq!(sample(vec![1, 2]), [1, 2]);
    }
}

//! A workload for a node that somebody else runs: what to send to set the stage, what to send then, and
//! what must have come of it.

use crate::{
    Change, Reading, WorkloadError, WorkloadKind, WorkloadOptions,
    contracts::Own,
    scenario::Scenario,
    setup::{Setup, Step, TX_GAS_LIMIT, with_arguments},
    workload::scenario,
};
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, Bytes, TxKind, U256};
use alloy_sol_types::SolValue;
use heddle_evm::RecoveredTransaction;
use std::{fmt, sync::Arc};

/// Accounts of a kind; different kinds share nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Those that send the workload's transactions.
    Sender = 1,
    /// Those that are paid and send nothing.
    Receiver = 2,
    /// Those that deploy the contracts. There is one.
    Owner = 3,
}

/// Which address an account of a group has. Addresses of senders and owners are those of keys that
/// the caller has.
pub type AddressBook = Arc<dyn Fn(Group, usize) -> Address + Send + Sync>;

/// A transaction that is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who sends it.
    pub from: Address,
    /// Its nonce: senders begin at zero.
    pub nonce: u64,
    /// The callee, or a deployment.
    pub to: TxKind,
    /// Wei.
    pub value: U256,
    /// Call data or init code.
    pub input: Bytes,
    /// Enough for what it does.
    pub gas_limit: u64,
    /// Whether it is made to fail.
    pub fails: bool,
}

impl Call {
    pub(crate) fn new(tx: &RecoveredTransaction, gas_limit: u64, fails: bool) -> Self {
        Self {
            from: tx.signer(),
            nonce: tx.nonce(),
            to: tx.kind(),
            value: tx.value(),
            input: tx.input().clone(),
            gas_limit,
            fails,
        }
    }
}

/// A workload for a node.
///
/// Differs from the block of the same name in what a node and a longer run ask for: senders send
/// many transactions each, Uniswap V2 has 20 pools and V3 at most 32 sets of contracts, and the
/// transactions do the same in whatever order those of different senders come.
#[derive(Debug)]
pub struct LiveWorkload {
    /// What sets the stage. All of one step must be in blocks before the next is sent.
    pub steps: Vec<Vec<Call>>,
    /// The workload, each sender's transactions in the order of their nonces.
    pub transactions: Vec<Call>,
    /// What is different afterwards, apart from ether, if each transaction was executed once.
    pub effects: Vec<(Reading, Change)>,
}

impl LiveWorkload {
    /// Makes the plan for at most `senders` accounts that send (in `hybrid` and `mixed-defi` those
    /// of `options.accounts` that come up). The set-up is executed in memory as well, so it is known
    /// to work and what gas it needs.
    ///
    /// # Errors
    /// If a contract from npm is missing, or the set-up does not work.
    pub fn new(
        kind: WorkloadKind,
        options: &WorkloadOptions,
        senders: usize,
        addresses: AddressBook,
    ) -> Result<Self, WorkloadError> {
        let mut setup = Setup::live(senders, addresses)?;
        let Scenario { transactions, failing } = scenario(kind, options, &mut setup)?;
        let mut calls: Vec<_> =
            transactions.into_iter().map(|tx| Call::new(&tx, tx.gas_limit(), false)).collect();
        for index in failing {
            calls[index].fails = true;
        }
        let (steps, effects) = setup.into_recording();
        Ok(Self { steps, transactions: calls, effects })
    }
}

/// The init code that pays these accounts when it is deployed with the sum of it. Takes at most
/// [`PAYMENT_GAS`] for each account and [`PAYMENTS_GAS`] for all together.
///
/// # Errors
/// If the contract in this program cannot be read.
pub fn payments(to: &[(Address, U256)]) -> Result<Bytes, WorkloadError> {
    let (accounts, values): (Vec<_>, Vec<_>) = to.iter().copied().unzip();
    let arguments = (accounts, values).abi_encode_params();
    Ok(with_arguments(&Own::Disperse.init_code()?, &arguments))
}

/// Gas of paying one account by [`payments`]: 25,000 for making it, 9,000 for the value, 2,600 for
/// the access, up to 1,500 for its part of the data, and the loop.
pub const PAYMENT_GAS: u64 = 41_000;
/// Gas of [`payments`] apart from the accounts: 21,000 for the transaction, 32,000 for the creation, some
/// 200 bytes of code, and room.
pub const PAYMENTS_GAS: u64 = 200_000;

/// What makes a set-up one for a node: other accounts, and everything written down.
pub(crate) struct Recording {
    pub(crate) addresses: AddressBook,
    /// How many accounts send at most.
    pub(crate) senders: usize,
    pub(crate) steps: Vec<Vec<Call>>,
    pub(crate) effects: crate::effects::Effects,
}

impl Recording {
    /// Room beyond what a transaction of the set-up used in memory, in gas: on a node time passes
    /// between two of them, so that interest accrues and oracles move, and refunds come at the end.
    const GAS_MARGIN: u64 = 100_000;

    /// Writes down an executed block of the set-up, in the order of its steps.
    pub(crate) fn note(
        &mut self,
        steps: &[Step],
        transactions: &[RecoveredTransaction],
        cumulative_gas: impl Iterator<Item = u64>,
    ) {
        let mut before = 0;
        let mut latest = None;
        for ((step, tx), gas) in steps.iter().zip(transactions).zip(cumulative_gas) {
            let used = gas - before;
            before = gas;
            if latest != Some(*step) {
                latest = Some(*step);
                self.steps.push(Vec::new());
            }
            let limit = (used + used / 2 + Self::GAS_MARGIN).min(TX_GAS_LIMIT);
            if let Some(calls) = self.steps.last_mut() {
                calls.push(Call::new(tx, limit, false));
            }
        }
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("senders", &self.senders).finish_non_exhaustive()
    }
}

//! The transactions of one block, through revm or, where that is enough, without it.

use crate::{
    cell::AccountValue,
    engine::{Interrupt, Trace, Transactions, Verdict, View},
    location::TxIndex,
    payment::{Payment, PaymentRules},
    sync::{AtomicU64, Ordering, RwLock},
    translation::Translations,
    tx_evm::{DbInterrupt, Outcome},
    worker::Worker,
};
use alloy_consensus::Transaction as _;
use alloy_evm::{EvmEnv, ToTxEnv};
use alloy_primitives::{
    Address, B256, Log, U256,
    map::{B256Map, HashMap},
};
use heddle_evm::{
    ExecutionError, InvalidTransactions, ParentState, RecoveredTransaction, SkippedTransaction,
    TransactionError, account_info,
};
use revm::{
    context::{
        Cfg, TxEnv,
        result::{EVMError, InvalidTransaction},
    },
    primitives::hardfork::SpecId,
    state::Bytecode,
};
use std::fmt;

/// What running one transaction gave.
#[derive(Debug)]
pub(crate) enum Output {
    Ran(Ran),
    /// The transaction cannot be at this place.
    Invalid(Box<InvalidTransaction>),
    /// The block has less gas left than the transaction may use.
    NoRoom,
}

/// A transaction that ran, well or not.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<Log>,
    /// What the beneficiary gets, in wei; `None` where fees are switched off.
    pub(crate) fee: Option<u128>,
    /// What it did to the beneficiary's account beside paying it the fee. Behind a pointer, because
    /// hardly any transaction does.
    pub(crate) beneficiary: Option<Box<BeneficiaryWrite>>,
}

/// What a transaction did to the beneficiary's account beside paying it the fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeneficiaryWrite {
    Becomes(AccountValue),
    /// It destroyed itself; the fee of the same transaction is destroyed with it.
    Destroyed,
}

/// A transaction of the block, as its receipt will have it.
#[derive(Debug)]
pub(crate) struct CommittedTransaction {
    pub(crate) tx: TxIndex,
    pub(crate) success: bool,
    pub(crate) cumulative_gas_used: u64,
    pub(crate) logs: Vec<Log>,
}

/// What the commits of a block add up to.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) transactions: Vec<CommittedTransaction>,
    pub(crate) gas_used: u64,
    pub(crate) blob_gas_used: u64,
    pub(crate) skipped: Vec<SkippedTransaction>,
    /// The beneficiary's account now. Fees are sums: they are added here, in order, instead of
    /// making every transaction depend on the one before.
    pub(crate) beneficiary: AccountValue,
}

impl Committed {
    /// Nothing yet of so many transactions.
    pub(crate) fn new(transactions: usize, beneficiary: AccountValue) -> Self {
        Self {
            transactions: Vec::with_capacity(transactions),
            gas_used: 0,
            blob_gas_used: 0,
            skipped: Vec::new(),
            beneficiary,
        }
    }
}

/// The transactions of a block, over the state they start from.
pub(crate) struct BlockTransactions<'a, P> {
    pub(crate) parent: &'a P,
    pub(crate) env: &'a EvmEnv,
    pub(crate) transactions: &'a [RecoveredTransaction],
    pub(crate) translations: &'a Translations,
    invalid: InvalidTransactions,
    payments: Option<PaymentRules>,
    /// Gas of the transactions committed so far. What the head reads of it is final.
    gas_used: AtomicU64,
    /// Code that the block itself deployed. Found by hash, so an entry of an incarnation that
    /// came to nothing does no harm.
    code: RwLock<B256Map<Bytecode>>,
    /// EIP-7702 transactions with their authorities recovered.
    set_code_envs: RwLock<HashMap<TxIndex, TxEnv>>,
}

impl<P> fmt::Debug for BlockTransactions<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockTransactions").field("transactions", &self.transactions.len()).finish()
    }
}

impl<'a, P> BlockTransactions<'a, P> {
    pub(crate) fn new(
        parent: &'a P,
        env: &'a EvmEnv,
        transactions: &'a [RecoveredTransaction],
        translations: &'a Translations,
        invalid: InvalidTransactions,
        gas_used: u64,
    ) -> Self {
        Self {
            parent,
            env,
            transactions,
            translations,
            invalid,
            payments: PaymentRules::new(env),
            gas_used: AtomicU64::new(gas_used),
            code: RwLock::default(),
            set_code_envs: RwLock::default(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.transactions.len()
    }

    pub(crate) fn beneficiary(&self) -> Address {
        self.env.block_env.beneficiary
    }

    /// Code deployed by the block, for the state that it leaves.
    pub(crate) fn into_code(self) -> B256Map<Bytecode> {
        std::mem::take(&mut *self.code.write())
    }

    pub(crate) fn publish_code(&self, hash: B256, code: &Bytecode) {
        if !self.code.read().contains_key(&hash) {
            self.code.write().insert(hash, code.clone());
        }
    }

    pub(crate) fn deployed(&self, hash: &B256) -> Option<Bytecode> {
        self.code.read().get(hash).cloned()
    }

    fn pay(&self, beneficiary: AccountValue, fee: Option<u128>) -> AccountValue {
        let Some(fee) = fee.map(U256::from) else { return beneficiary };
        let mut account = beneficiary.unwrap_or_default();
        // As revm has it: what does not fit is not paid.
        account.balance = account.balance.checked_add(fee).unwrap_or(account.balance);
        // Paying nothing touches the account all the same, see EIP-161.
        let keeps_empty = !self.env.cfg_env.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        (keeps_empty || !account_info(&account).is_empty()).then_some(account)
    }

    /// Whether a transaction fits into the block after so much gas. In order, one that does not is
    /// not even looked at.
    pub(crate) fn has_room(&self, tx: TxIndex, gas_used: u64) -> bool {
        self.lacks_room(self.transactions[tx.as_usize()].gas_limit(), gas_used).is_none()
    }

    /// The transaction as a plain payment, if it is one.
    pub(crate) fn payment(&self, tx: TxIndex) -> Option<Payment> {
        self.payments.as_ref()?.payment(&self.transactions[tx.as_usize()])
    }

    /// Gas that the block has left, if `gas_limit` is more than that.
    fn lacks_room(&self, gas_limit: u64, gas_used: u64) -> Option<u64> {
        let available = self.env.block_env.gas_limit.saturating_sub(gas_used);
        let needed = gas_limit.min(Cfg::tx_gas_limit_cap(&self.env.cfg_env));
        (needed > available).then_some(available)
    }

    /// The transaction as revm wants it. With EIP-7702 this recovers the authorities, which is
    /// worth remembering for the next incarnation.
    pub(crate) fn tx_env(&self, tx: TxIndex) -> TxEnv {
        let transaction = &self.transactions[tx.as_usize()];
        if transaction.authorization_list().is_none() {
            return transaction.to_tx_env();
        }
        if let Some(env) = self.set_code_envs.read().get(&tx) {
            return env.clone();
        }
        let env: TxEnv = transaction.to_tx_env();
        self.set_code_envs.write().insert(tx, env.clone());
        env
    }

    fn refuse(
        &self,
        committed: &mut Committed,
        tx: TxIndex,
        reason: TransactionError,
    ) -> Verdict<ExecutionError> {
        let index = tx.as_usize();
        match self.invalid {
            InvalidTransactions::Skip => {
                committed.skipped.push(SkippedTransaction { index, reason });
                Verdict::Leave
            }
            InvalidTransactions::Reject => Verdict::Stop(ExecutionError::InvalidTransaction {
                index,
                hash: *self.transactions[index].inner().tx_hash(),
                reason,
            }),
        }
    }

    /// Takes a transaction into the block, with final results only.
    pub(crate) fn take_in(
        &self,
        committed: &mut Committed,
        tx: TxIndex,
        output: Output,
    ) -> Verdict<ExecutionError> {
        let transaction = &self.transactions[tx.as_usize()];
        let gas_limit = transaction.gas_limit();
        if let Some(available) = self.lacks_room(gas_limit, committed.gas_used) {
            let reason = TransactionError::BlockGasExceeded { gas_limit, available };
            return self.refuse(committed, tx, reason);
        }
        let ran = match output {
            Output::NoRoom => unreachable!("room is only ever taken, never given back"),
            Output::Invalid(reason) => {
                let reason = TransactionError::Invalid(*reason);
                return self.refuse(committed, tx, reason);
            }
            Output::Ran(ran) => ran,
        };
        committed.beneficiary = match ran.beneficiary.as_deref() {
            Some(BeneficiaryWrite::Destroyed) => None,
            Some(BeneficiaryWrite::Becomes(now)) => self.pay(*now, ran.fee),
            None => self.pay(committed.beneficiary, ran.fee),
        };
        committed.gas_used += ran.gas_used;
        self.gas_used.store(committed.gas_used, Ordering::Relaxed);
        if self.env.cfg_env.spec.is_enabled_in(SpecId::CANCUN) {
            committed.blob_gas_used += transaction.blob_gas_used().unwrap_or_default();
        }
        committed.transactions.push(CommittedTransaction {
            tx,
            success: ran.success,
            cumulative_gas_used: committed.gas_used,
            logs: ran.logs,
        });
        Verdict::Keep
    }
}

impl<'m, P: ParentState> Transactions<'m> for BlockTransactions<'_, P> {
    type Worker<'w>
        = Worker<'w, 'm, P>
    where
        Self: 'w,
        'm: 'w;
    type Output = Output;
    type Committed = Committed;
    type Error = ExecutionError;

    fn execute<'w>(
        &'w self,
        worker: &mut Worker<'w, 'm, P>,
        view: &mut View<'w, 'm, Committed>,
        trace: &mut Trace<'m>,
    ) -> Result<Output, Interrupt<ExecutionError>>
    where
        'm: 'w,
    {
        if view.at_head && !self.has_room(view.tx, self.gas_used.load(Ordering::Relaxed)) {
            return Ok(Output::NoRoom);
        }
        if let Some(payment) = self.payment(view.tx) {
            let paid = worker.pay(&payment, view, trace).map_err(|interrupt| match interrupt {
                DbInterrupt::After(other) => Interrupt::After(other),
                DbInterrupt::Failed(error) if view.at_head => {
                    Interrupt::Failed(ExecutionError::State(error))
                }
                DbInterrupt::AtHead | DbInterrupt::Failed(_) => Interrupt::AtHead,
            })?;
            if let Some(ran) = paid {
                return Ok(Output::Ran(ran));
            }
        }
        match worker.transact(self.tx_env(view.tx), view, trace) {
            Ok(Outcome::Ran(ran)) => Ok(Output::Ran(ran)),
            Ok(Outcome::Invalid(reason)) => Ok(Output::Invalid(Box::new(reason))),
            Err(Interrupt::After(other)) => Err(Interrupt::After(other)),
            // Stale reads can lead to anything, even to a state that the parent cannot answer for.
            Err(Interrupt::Failed(error)) if view.at_head => Err(Interrupt::Failed(failed(error))),
            Err(Interrupt::AtHead | Interrupt::Failed(_)) => Err(Interrupt::AtHead),
        }
    }

    fn commit(
        &self,
        committed: &mut Committed,
        tx: TxIndex,
        output: Output,
    ) -> Verdict<ExecutionError> {
        self.take_in(committed, tx, output)
    }
}

/// Why the EVM failed at a transaction that is final.
pub(crate) fn failed(error: EVMError<DbInterrupt, InvalidTransaction>) -> ExecutionError {
    match error {
        EVMError::Database(DbInterrupt::Failed(error)) => ExecutionError::State(error),
        error => ExecutionError::Block(error.to_string()),
    }
}

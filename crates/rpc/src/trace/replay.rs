//! A block's transactions, one after the other, on the state that they met.

use alloy_evm::{Evm, EvmEnv, ToTxEnv, eth::EthEvmContext};
use heddle_chain::{BlockRules, Chain, ChainBlock, State};
use heddle_evm::{
    BlockState, BlockTransition, RecoveredTransaction, StateChanges, block_context, watched_evm,
};
use revm::{
    DatabaseCommit, Inspector,
    context::{TxEnv, result::ResultAndState},
};

use crate::{errors::Failure, watch::Guard};

/// A block that runs again. It may be one that is on no chain, if its parent is.
pub(crate) struct Replay<'a> {
    parent: State,
    steps: BlockTransition<'a, BlockRules<'a>, State>,
    env: EvmEnv,
    transactions: &'a [RecoveredTransaction],
    next: usize,
}

/// A transaction that was watched, and what it met.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    pub(crate) env: &'a EvmEnv,
    pub(crate) transaction: &'a TxEnv,
    pub(crate) done: &'a ResultAndState,
    /// The state before it.
    pub(crate) before: &'a mut BlockState<State>,
}

impl<'a> Replay<'a> {
    /// Opens the block on its parent's state. `rules` are the block's.
    pub(crate) fn begin(
        chain: &Chain,
        rules: &'a BlockRules<'a>,
        block: &'a ChainBlock,
    ) -> Result<Self, Failure> {
        let header = &block.header;
        if header.number == 0 {
            return Err(Failure::server("genesis is not traceable"));
        }
        let env = rules.evm_env(header);
        let context = block_context(header, &block.ommers, block.withdrawals.as_deref());
        let parent = chain.state_before(block)?;
        let steps = BlockTransition::begin(rules, env.clone(), context, parent.clone())
            .map_err(Failure::server)?;
        Ok(Self { parent, steps, env, transactions: &block.transactions, next: 0 })
    }

    /// Runs transactions that nobody watches until `index` is the next.
    pub(crate) fn skip_to(&mut self, index: usize, guard: &Guard) -> Result<(), Failure> {
        while self.next < index.min(self.transactions.len()) {
            guard.check()?;
            let next = self.next;
            self.steps.execute(&self.transactions[next]).map_err(|error| failed(next, error))?;
            self.next += 1;
        }
        Ok(())
    }

    /// Runs the next transaction under an inspector and the guard, and lets `tell` say what came of it before its
    /// changes are made. `None` after the last one.
    pub(crate) fn watch<I, R>(
        &mut self,
        inspector: &mut I,
        guard: &mut Guard,
        tell: impl FnOnce(&mut I, Watched<'_>) -> Result<R, Failure>,
    ) -> Result<Option<R>, Failure>
    where
        I: for<'db> Inspector<EthEvmContext<&'db mut BlockState<State>>>,
    {
        let Some(transaction) = self.transactions.get(self.next) else { return Ok(None) };
        guard.check()?;
        guard.next_transaction();
        let environment: TxEnv = transaction.to_tx_env();
        let watchers = (&mut *inspector, &mut *guard);
        let mut evm = watched_evm(self.steps.state_mut(), self.env.clone(), watchers, true);
        let done =
            evm.transact_raw(environment.clone()).map_err(|error| failed(self.next, error))?;
        drop(evm);
        guard.check()?;
        self.next += 1;
        let before = self.steps.state_mut();
        let watched = Watched { env: &self.env, transaction: &environment, done: &done, before };
        let told = tell(inspector, watched)?;
        self.steps.state_mut().commit(done.state);
        Ok(Some(told))
    }

    /// The state that the next transaction meets.
    pub(crate) fn state(&self) -> Result<State, Failure> {
        let changes = self.steps.state().changes()?;
        Ok(self.parent.with_changes(changes.into()))
    }

    /// What the block changed in the state so far.
    pub(crate) fn changes(&self) -> Result<StateChanges, Failure> {
        Ok(self.steps.state().changes()?)
    }

    /// Ends the block after its last transaction; what it changed in the state.
    pub(crate) fn finish(self) -> Result<StateChanges, Failure> {
        Ok(self.steps.finish().map_err(Failure::server)?.changes)
    }

    /// Rules and block environment.
    pub(crate) const fn env(&self) -> &EvmEnv {
        &self.env
    }
}

fn failed(index: usize, error: impl std::fmt::Display) -> Failure {
    Failure::server(format!("transaction {index} of the block failed to run: {error}"))
}

//! The parts of a block around its transactions, from alloy-evm: system calls before (EIP-4788,
//! EIP-2935), requests after (EIP-6110, 7002, 7251), withdrawals, rewards and the DAO fork.

use crate::{
    BlockOutput, BlockState, ExecutionError, HeddleReceiptBuilder, LogBlooms, ParentState, Receipt,
    RecoveredTransaction, StateChanges, StateError, build_receipt, complete_instructions,
    dao::{DaoDone, move_balances},
};
use alloy_evm::{
    EthEvm, Evm, EvmEnv, EvmFactory,
    block::BlockExecutor,
    eth::{
        EthBlockExecutionCtx, EthBlockExecutor, EthEvmFactory, EthTxResult, spec::EthExecutorSpec,
    },
    precompiles::PrecompilesMap,
};
use alloy_hardforks::EthereumHardfork;
use revm::{
    DatabaseCommit, DatabaseRef, context::result::ResultAndState, inspector::NoOpInspector,
    primitives::hardfork::SpecId,
};

type Executor<'a, S, P> = EthBlockExecutor<
    'a,
    alloy_evm::EthEvm<BlockState<P>, NoOpInspector, PrecompilesMap>,
    DaoDone<'a, S>,
    HeddleReceiptBuilder,
>;

/// A block between its pre-execution system calls and its end. Both executors start one, put the
/// transactions in, and finish it, so that everything but the transactions is the same code.
#[expect(missing_debug_implementations, reason = "the EVM inside has none")]
pub struct BlockTransition<'a, S, P>
where
    S: EthExecutorSpec,
    P: DatabaseRef<Error = StateError>,
{
    executor: Executor<'a, S, P>,
    blooms: LogBlooms,
}

/// Accounts that a block looks at beside those of its transactions: the beneficiary's, system
/// contracts. With one too few, the state of a block of payments is copied as a whole in the end.
const ACCOUNTS_AROUND: usize = 16;

impl<'a, S, P> BlockTransition<'a, S, P>
where
    S: EthExecutorSpec,
    P: ParentState,
{
    /// Opens a block on the parent state and makes the pre-execution system calls.
    pub fn begin(
        spec: &'a S,
        env: EvmEnv,
        ctx: EthBlockExecutionCtx<'a>,
        parent: P,
    ) -> Result<Self, ExecutionError> {
        if env.cfg_env.spec >= SpecId::AMSTERDAM {
            // Its two-dimensional gas (EIP-8037) is not in the receipts that executors exchange.
            return Err(ExecutionError::Block("the Amsterdam fork is not supported".to_owned()));
        }
        let dao = spec.ethereum_fork_activation(EthereumHardfork::Dao);
        let mut state = BlockState::new(parent);
        if dao.transitions_at_block(env.block_env.number.saturating_to()) {
            move_balances(&mut state).map_err(ExecutionError::State)?;
        }
        let cfg = env.cfg_env.clone();
        let mut evm = EthEvmFactory::default().create_evm(state, env).into_inner();
        complete_instructions(&mut evm.instruction, &cfg);
        let evm = EthEvm::new(evm, false);
        let mut executor = EthBlockExecutor::new(evm, ctx, DaoDone(spec), HeddleReceiptBuilder);
        executor.apply_pre_execution_changes().map_err(ExecutionError::from_block)?;
        Ok(Self { executor, blooms: LogBlooms::default() })
    }

    /// Makes room for the results of so many transactions more.
    pub fn reserve(&mut self, transactions: usize) {
        self.executor.reserve(transactions);
        self.reserve_accounts(transactions);
    }

    /// As [`Self::reserve`], for the accounts alone.
    pub fn reserve_accounts(&mut self, transactions: usize) {
        // At least a sender and somebody else.
        self.state_mut().reserve(2 * transactions + ACCOUNTS_AROUND);
    }

    /// Executes and commits the next transaction; on error nothing of it is kept.
    pub fn execute(&mut self, tx: &RecoveredTransaction) -> Result<(), ExecutionError> {
        let executed = self.executor.execute_transaction_without_commit(tx);
        let EthTxResult { result: ResultAndState { result, state }, blob_gas_used, tx_type } =
            executed.map_err(ExecutionError::from_block)?;
        // As alloy-evm commits, but that the receipt is made in its place, hashes for its bloom are
        // remembered, and revm gets its map back: together a fifth of the time of a transfer.
        let executor = &mut self.executor;
        executor.cumulative_tx_gas_used += result.gas().tx_gas_used();
        executor.block_regular_gas_used += result.gas().block_regular_gas_used();
        if executor.evm.cfg_env().spec.is_enabled_in(SpecId::CANCUN) {
            executor.blob_gas_used += blob_gas_used;
        }
        let (success, gas_used) = (result.is_success(), executor.cumulative_tx_gas_used);
        let logs = result.into_logs();
        let bloom = self.blooms.bloom(&logs);
        executor.receipts.push(build_receipt(tx_type, success, gas_used, logs, bloom));
        executor.evm.db_mut().commit(state);
        let emptied = executor.evm.db_mut().take_emptied();
        executor.evm.ctx_mut().journaled_state.inner.state = emptied;
        Ok(())
    }

    /// Puts in the results of transactions that were executed elsewhere. Their writes must be in
    /// [`Self::state_mut`] before the block is finished.
    pub fn put_results(&mut self, receipts: Vec<Receipt>, gas_used: u64, blob_gas_used: u64) {
        self.executor.receipts = receipts;
        self.executor.cumulative_tx_gas_used = gas_used;
        self.executor.block_regular_gas_used = gas_used;
        self.executor.blob_gas_used = blob_gas_used;
    }

    /// The state as the transactions so far left it.
    pub fn state(&self) -> &BlockState<P> {
        self.executor.evm.db()
    }

    /// As [`Self::state`], for writing.
    pub fn state_mut(&mut self) -> &mut BlockState<P> {
        self.executor.evm.db_mut()
    }

    /// Makes the post-execution changes and gives what the block did.
    pub fn finish(self) -> Result<BlockOutput, ExecutionError> {
        self.finish_with(BlockState::changes)
    }

    /// As [`Self::finish`], with `changes` to gather the net change of the state.
    pub fn finish_with(
        self,
        changes: impl FnOnce(&BlockState<P>) -> Result<StateChanges, StateError>,
    ) -> Result<BlockOutput, ExecutionError> {
        let (evm, result) = self.executor.finish().map_err(ExecutionError::from_block)?;
        Ok(BlockOutput {
            receipts: result.receipts,
            requests: result.requests,
            gas_used: result.gas_used,
            blob_gas_used: result.blob_gas_used,
            changes: changes(&evm.into_db()).map_err(ExecutionError::State)?,
            skipped: Vec::new(),
        })
    }
}

//! Executing a block that others made, and comparing the result with its header.

use crate::{
    BlockStages, Chain, ChainBlock, ChainError, ImportError, State, rules::BlockRules,
    stages::timed,
};
use alloy_consensus::{Eip658Value, Header, Sealed, TxReceipt, proofs::calculate_receipt_root};
use alloy_primitives::{B256, Bloom};
use heddle_chainspec::EthereumHardforks;
use heddle_evm::{
    BlockInput, BlockOutput, BlockTransition, InvalidTransactions, Receipt, StateChanges,
    block_context,
};
use heddle_store::{BlockBatch, Store, StoreError};
use heddle_trie::{NodeReader, StateTrie, TrieUpdates, state_root};
use std::sync::Arc;

/// A block that was executed and agrees with its header, and what it does to the state.
#[derive(Debug)]
pub(crate) struct ExecutedBlock {
    pub(crate) block: Arc<ChainBlock>,
    pub(crate) changes: Arc<StateChanges>,
    pub(crate) trie: Arc<TrieUpdates>,
    pub(crate) stages: BlockStages,
}

impl Chain {
    /// Executes a block of the chain again on all workers, on the state that it started from, as when it came in. For
    /// what its profile says; nothing is kept. While it runs, new blocks share the workers with it.
    ///
    /// # Errors
    /// If its parent is not on the chain, or the state cannot be read.
    pub fn execute_again(
        &self,
        block: &ChainBlock,
    ) -> Result<heddle_parallel::ExecutedBlock, ChainError> {
        let parent = self.state_before(block)?;
        let rules = BlockRules::of(&self.spec, &block.header);
        let executed = self.executor.execute(&rules, &parent, &block_input(&rules, block));
        executed.map_err(ChainError::Execution)
    }

    /// Executes a validated block without receipts on the state of its parent and checks all that
    /// its header says about the result. `nodes` and `trie` are those of that state; the block comes with the tries after
    /// it.
    pub(crate) fn execute_and_verify<R: NodeReader<Error = StoreError>>(
        &self,
        mut block: ChainBlock,
        parent: &State,
        nodes: &R,
        trie: StateTrie,
    ) -> Result<(ExecutedBlock, StateTrie), ImportError> {
        let header = &block.header;
        let rules = BlockRules::of(&self.spec, header);
        let input = block_input(&rules, &block);
        let (executed, time) = timed(|| self.executor.execute(&rules, parent, &input));
        let executed = executed?;
        let mut stages = BlockStages::executed(&executed.profile, time);
        let mut output = executed.output;
        if !self.spec.is_byzantium_active_at_block(header.number) {
            put_intermediate_roots(&rules, parent, nodes, &input, &mut output)?;
        }
        verify_output(header, &output)?;

        let (after, time) = timed(|| trie.after(nodes, &output.changes));
        let (after, updates) = after.map_err(StoreError::from)?;
        let root = after.root();
        stages.set_state_root(time);
        if root != header.state_root {
            return Err(ImportError::StateRoot { header: header.state_root, actual: root });
        }
        block.receipts = output.receipts;
        let executed = ExecutedBlock {
            block: Arc::new(block),
            changes: Arc::new(output.changes),
            trie: Arc::new(updates),
            stages,
        };
        Ok((executed, after))
    }
}

/// A block as the executors take it.
pub fn block_input<'a>(rules: &BlockRules<'_>, block: &'a ChainBlock) -> BlockInput<'a> {
    let header = &block.header;
    BlockInput {
        env: rules.evm_env(header),
        ctx: block_context(header, &block.ommers, block.withdrawals.as_deref()),
        transactions: &block.transactions,
        invalid: InvalidTransactions::Reject,
    }
}

/// Before Byzantium a receipt holds the state root after its transaction instead of a status
/// (EIP-658 ended that), which only going step by step gives. The steps must end where the parallel
/// execution did.
fn put_intermediate_roots<R: NodeReader<Error = StoreError>>(
    rules: &BlockRules<'_>,
    parent: &State,
    nodes: &R,
    input: &BlockInput<'_>,
    output: &mut BlockOutput,
) -> Result<(), ImportError> {
    let mut steps = BlockTransition::begin(rules, input.env.clone(), input.ctx.clone(), parent)?;
    let mut roots = Vec::with_capacity(input.transactions.len());
    for tx in input.transactions {
        steps.execute(tx)?;
        let changes = steps.state().changes().map_err(ChainError::State)?;
        let (root, _) = state_root(nodes, &changes).map_err(StoreError::from)?;
        roots.push(root);
    }
    let sequential = steps.finish()?;
    if sequential != *output {
        let number = input.env.block_env.number.saturating_to();
        return Err(ChainError::ExecutorsDiffer(number).into());
    }
    for (receipt, root) in output.receipts.iter_mut().zip(roots) {
        set_post_state(receipt, root);
    }
    Ok(())
}

fn set_post_state(receipt: &mut Receipt, root: B256) {
    // Typed transactions came with Berlin.
    if let Receipt::Legacy(receipt) = receipt {
        receipt.receipt.status = Eip658Value::PostState(root);
    }
}

fn verify_output(header: &Sealed<Header>, output: &BlockOutput) -> Result<(), ImportError> {
    if output.gas_used != header.gas_used {
        return Err(ImportError::GasUsed { header: header.gas_used, actual: output.gas_used });
    }
    if let Some(claimed) = header.blob_gas_used
        && claimed != output.blob_gas_used
    {
        return Err(ImportError::BlobGasUsed { header: claimed, actual: output.blob_gas_used });
    }
    let bloom = output.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom());
    if bloom != header.logs_bloom {
        let header = Box::new(header.logs_bloom);
        return Err(ImportError::LogsBloom { header, actual: Box::new(bloom) });
    }
    let receipts = calculate_receipt_root(&output.receipts);
    if receipts != header.receipts_root {
        return Err(ImportError::ReceiptsRoot { header: header.receipts_root, actual: receipts });
    }
    if let Some(claimed) = header.requests_hash {
        let actual = output.requests.requests_hash();
        if claimed != actual {
            return Err(ImportError::RequestsHash { header: claimed, actual });
        }
    }
    Ok(())
}

/// Puts executed blocks on top of the store's head, all or none.
pub(crate) fn commit(store: &Store, blocks: &[ExecutedBlock]) -> Result<(), StoreError> {
    let parts: Vec<(Vec<_>, Vec<_>)> = blocks
        .iter()
        .map(|executed| {
            let transactions = executed.block.transactions.iter();
            transactions.map(|tx| (tx.inner().clone(), tx.signer())).unzip()
        })
        .collect();
    let batches: Vec<_> = blocks
        .iter()
        .zip(&parts)
        .map(|(executed, (transactions, senders))| BlockBatch {
            header: &executed.block.header,
            hash: executed.block.hash(),
            transactions,
            senders,
            ommers: &executed.block.ommers,
            withdrawals: executed.block.withdrawals.as_deref(),
            receipts: &executed.block.receipts,
            changes: &executed.changes,
            trie: &executed.trie,
            total_difficulty: Some(executed.block.total_difficulty),
        })
        .collect();
    // What was altered here by hand these blocks did not start from.
    store.put_alterations::<StateChanges>(0, &[])?;
    store.commit_blocks(&batches)
}

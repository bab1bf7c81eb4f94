//! New blocks on the head: execute, seal, commit.

use crate::{
    Alterations, BlockStages, Chain, ChainBlock, ChainError, Offered, State, Tip, stages::timed,
};
use alloy_consensus::{
    Header, Sealed,
    proofs::{calculate_receipt_root, calculate_transaction_root, calculate_withdrawals_root},
};
use alloy_eips::{eip4895::Withdrawal, eip7685::Requests};
use alloy_primitives::{Address, B256, Bloom, Bytes, U256};
use heddle_chainspec::EthereumHardforks;
use heddle_evm::{
    BlockInput, BlockOutput, InvalidTransactions, Receipt, RecoveredTransaction,
    SkippedTransaction, StateChanges, block_context,
};
use heddle_parallel::Execution;
use heddle_store::{BlockBatch, StoreError};
use heddle_trie::{NodeReader, StateTrie, TrieUpdates};
use std::sync::Arc;

/// What the maker of a block decides.
#[derive(Debug, Clone)]
pub struct BlockAttributes {
    /// Seconds since 1970; must be after the parent's.
    pub timestamp: u64,
    /// Who gets the fees.
    pub beneficiary: Address,
    /// What the PREVRANDAO opcode gives (EIP-4399).
    pub prev_randao: B256,
    /// Gas limit of the block.
    pub gas_limit: u64,
    /// EIP-4895; used from Shanghai on.
    pub withdrawals: Vec<Withdrawal>,
    /// EIP-4788; used from Cancun on.
    pub parent_beacon_block_root: B256,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// In place of the base fee that follows from the parent.
    pub base_fee: Option<u64>,
}

/// What a block is made on.
struct Ground<'a, R> {
    block: &'a ChainBlock,
    state: &'a State,
    /// The same without what was altered since the block.
    base: &'a State,
    /// What was altered.
    altered: Alterations,
    /// Of its trie; a fork's state has none.
    nodes: Option<R>,
    /// Whether the tries after the block are kept for the one that is made on it, in all likelihood.
    keeps_trie: bool,
}

/// A block that was executed and sealed but is not on the chain.
#[derive(Debug, Clone)]
pub struct ProducedBlock {
    /// The block.
    pub block: Arc<ChainBlock>,
    /// Transactions that were offered and could not be part of it, by their place in the offer.
    pub skipped: Vec<SkippedTransaction>,
    /// What it asks of the consensus layer (EIP-7685).
    pub requests: Requests,
    /// How it was made.
    pub stages: BlockStages,
    /// What it changes in the state of its parent.
    pub changes: Arc<StateChanges>,
    /// The state after it.
    pub state: State,
    pub(crate) trie: Arc<TrieUpdates>,
}

impl Chain {
    /// The header of a block on `parent`, without what execution gives.
    pub fn draft_on(&self, parent: &Sealed<Header>, attributes: &BlockAttributes) -> Header {
        let timestamp = attributes.timestamp;
        let spec = &self.spec;
        let cancun = spec.is_cancun_active_at_timestamp(timestamp);
        Header {
            parent_hash: parent.hash(),
            number: parent.number + 1,
            timestamp,
            beneficiary: attributes.beneficiary,
            mix_hash: attributes.prev_randao,
            gas_limit: attributes.gas_limit,
            extra_data: attributes.extra_data.clone(),
            difficulty: U256::ZERO,
            base_fee_per_gas: spec
                .next_base_fee(parent)
                .map(|fee| attributes.base_fee.unwrap_or(fee)),
            excess_blob_gas: spec.next_excess_blob_gas(parent, timestamp),
            parent_beacon_block_root: cancun.then_some(attributes.parent_beacon_block_root),
            withdrawals_root: spec
                .is_shanghai_active_at_timestamp(timestamp)
                .then(|| calculate_withdrawals_root(&attributes.withdrawals)),
            ..Header::default()
        }
    }

    /// Executes the offered transactions on the head, in order and leaving out what is invalid,
    /// and seals the block, which is meant to be committed. Nothing of the chain changes.
    pub fn produce(
        &self,
        attributes: &BlockAttributes,
        offered: impl Into<Offered>,
    ) -> Result<ProducedBlock, ChainError> {
        self.produce_on_head(attributes, offered.into(), true)
    }

    /// As [`Self::produce`], for a block that is only looked at.
    pub fn preview(
        &self,
        attributes: &BlockAttributes,
        offered: impl Into<Offered>,
    ) -> Result<ProducedBlock, ChainError> {
        self.produce_on_head(attributes, offered.into(), false)
    }

    /// As [`Self::produce`], on a block that is not on the chain yet.
    pub fn produce_after(
        &self,
        tip: &Tip,
        attributes: &BlockAttributes,
        offered: impl Into<Offered>,
    ) -> Result<ProducedBlock, ChainError> {
        let (state, nodes) = (tip.state(), tip.nodes());
        let ground = Ground {
            block: tip.block(),
            state,
            base: state,
            altered: Alterations::default(),
            nodes,
            keeps_trie: true,
        };
        self.produce_on(ground, attributes, offered.into(), InvalidTransactions::Skip)
    }

    fn produce_on_head(
        &self,
        attributes: &BlockAttributes,
        offered: Offered,
        keeps_trie: bool,
    ) -> Result<ProducedBlock, ChainError> {
        let head = self.head_and_state();
        let ground = Ground {
            block: &head.block,
            state: &head.state,
            base: &head.base,
            altered: head.altered.clone(),
            nodes: (!head.base.is_fork()).then(|| head.base.view()),
            keeps_trie,
        };
        self.produce_on(ground, attributes, offered, InvalidTransactions::Skip)
    }

    /// As [`Self::produce`], on any block of the chain that is not too far back for its trie
    /// ([`heddle_store::Store::reorg_depth`]).
    pub fn build_on(
        &self,
        parent: u64,
        attributes: &BlockAttributes,
        offered: Vec<RecoveredTransaction>,
        invalid: InvalidTransactions,
    ) -> Result<ProducedBlock, ChainError> {
        let block = self.block_by_number(parent)?.ok_or(ChainError::UnknownBlock(parent))?;
        let scratch = self.scratch_at(parent)?;
        let (state, nodes) = (scratch.state(), scratch.nodes());
        let ground = Ground {
            block: &block,
            state,
            base: state,
            altered: Alterations::default(),
            nodes,
            keeps_trie: false,
        };
        self.produce_on(ground, attributes, offered.into(), invalid)
    }

    fn produce_on<R: NodeReader<Error = StoreError>>(
        &self,
        ground: Ground<'_, R>,
        attributes: &BlockAttributes,
        Offered { transactions: offered, hints }: Offered,
        invalid: InvalidTransactions,
    ) -> Result<ProducedBlock, ChainError> {
        let Ground { block: parent_block, state: parent_state, base, altered, nodes, keeps_trie } =
            ground;
        let parent = &parent_block.header;
        let timestamp = attributes.timestamp;
        if timestamp <= parent.timestamp {
            return Err(ChainError::TimestampTooOld { timestamp, parent: parent.timestamp });
        }
        if !self.spec.is_proof_of_stake(parent.number + 1) {
            return Err(ChainError::BeforeMerge(parent.number + 1));
        }
        let mut header = self.draft_on(parent, attributes);
        let withdrawals = header.withdrawals_root.map(|_| attributes.withdrawals.clone());
        let input = BlockInput {
            env: self.evm_env(&header),
            ctx: block_context(&header, &[], withdrawals.as_deref()),
            transactions: &offered,
            invalid,
        };
        let execution = Execution { hints: &hints, ..Execution::default() };
        let execute =
            || self.executor.execute_with(self.spec.as_ref(), parent_state, &input, execution);
        let (executed, time) = timed(execute);
        let executed = executed?;
        let mut stages = BlockStages::executed(&executed.profile, time);
        let mut output = executed.output;
        if let Some(altered) = altered.together() {
            // The stored state knows nothing of it yet.
            output.changes = altered.then(output.changes);
        }
        let transactions = without_skipped(offered, &output.skipped);
        if nodes.is_none() {
            read_wiped(base, &mut output.changes)?;
        }
        // Neither of the two needs the other.
        let trie_after =
            |nodes| timed(|| self.trie_after(parent_block, nodes, &output.changes, keeps_trie));
        let (trie, (body, time)) = both(
            transactions.len(),
            || nodes.as_ref().map(trie_after),
            || timed(|| body_roots(&transactions, &output.receipts)),
        );
        stages.set_body_roots(time);
        let trie = trie.map(|(trie, time)| {
            stages.set_state_root(time);
            trie
        });
        let (trie_after, trie) = match trie.transpose()? {
            Some((after, updates)) => (Some(after), updates),
            None => (None, TrieUpdates::default()),
        };
        let root = trie_after.as_ref().map_or(B256::ZERO, StateTrie::root);
        self.seal(&mut header, root, &body, &output);
        let BlockOutput { receipts, requests, changes, skipped, .. } = output;
        let block = Arc::new(ChainBlock::new(
            Sealed::new(header),
            transactions,
            Vec::new(),
            withdrawals,
            receipts,
            parent_block.total_difficulty,
        ));
        if let Some(trie) = trie_after.filter(|_| keeps_trie) {
            self.kept_trie.put(block.hash(), trie);
        }
        let changes = Arc::new(changes);
        // Of the whole change only what comes after the alterations is new to this state, and the
        // rest says what it says already.
        let state = parent_state.with_changes(changes.clone());
        Ok(ProducedBlock { block, skipped, requests, stages, changes, state, trie: Arc::new(trie) })
    }

    /// The tries after the block that makes these changes, and what it does to the nodes.
    fn trie_after<R: NodeReader<Error = StoreError>>(
        &self,
        parent: &ChainBlock,
        nodes: &R,
        changes: &StateChanges,
        keeps_trie: bool,
    ) -> Result<(StateTrie, TrieUpdates), StoreError> {
        let before = if keeps_trie {
            self.kept_trie.take(parent.hash(), nodes)?
        } else {
            StateTrie::stored(nodes)?
        };
        Ok(before.after(nodes, changes)?)
    }

    fn seal(&self, header: &mut Header, state_root: B256, body: &BodyRoots, output: &BlockOutput) {
        let timestamp = header.timestamp;
        header.state_root = state_root;
        header.gas_used = output.gas_used;
        header.transactions_root = body.transactions;
        header.receipts_root = body.receipts;
        header.logs_bloom = body.logs_bloom;
        header.blob_gas_used =
            self.spec.is_cancun_active_at_timestamp(timestamp).then_some(output.blob_gas_used);
        header.requests_hash = self
            .spec
            .is_prague_active_at_timestamp(timestamp)
            .then(|| output.requests.requests_hash());
    }

    /// Puts a produced block on the chain: all of it becomes visible, or nothing does.
    pub fn commit(&self, produced: ProducedBlock) -> Result<Arc<ChainBlock>, ChainError> {
        let _changing = self.changing.lock();
        let block = produced.block;
        let head = self.head();
        if block.header.parent_hash != head.hash() {
            let parent = block.header.parent_hash;
            return Err(ChainError::HeadMoved { parent, head: head.hash() });
        }
        let (transactions, senders): (Vec<_>, Vec<_>) =
            block.transactions.iter().map(|tx| (tx.inner().clone(), tx.signer())).unzip();
        let batch = BlockBatch {
            header: &block.header,
            hash: block.hash(),
            transactions: &transactions,
            senders: &senders,
            ommers: &block.ommers,
            withdrawals: block.withdrawals.as_deref(),
            receipts: &block.receipts,
            changes: &produced.changes,
            trie: &produced.trie,
            total_difficulty: Some(block.total_difficulty),
        };
        let (committed, time) = timed(|| self.store.commit_block(&batch));
        committed?;
        let mut stages = produced.stages;
        stages.set_commit(time);
        metrics::gauge!("chain_head_number").set(block.number() as f64);
        self.stages.lock().put(block.hash(), stages);
        self.advance(block.clone())?;
        Ok(block)
    }
}

/// Transactions of a block from which on it pays to wake another thread for half of what is to be hashed. A woken thread looks
/// for more for a while, which takes from whoever else has to do with a small block.
const TOGETHER_MIN: usize = 64;

/// Does both, at the same time for a block of enough transactions.
fn both<A: Send, B: Send>(
    transactions: usize,
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    if transactions < TOGETHER_MIN { (one(), other()) } else { rayon::join(one, other) }
}

/// What the header says about transactions and receipts.
struct BodyRoots {
    transactions: B256,
    receipts: B256,
    logs_bloom: Bloom,
}

fn body_roots(transactions: &[RecoveredTransaction], receipts: &[Receipt]) -> BodyRoots {
    let (transactions, receipts_root) = both(
        transactions.len(),
        || calculate_transaction_root(transactions),
        || calculate_receipt_root(receipts),
    );
    let logs_bloom =
        receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
    BodyRoots { transactions, receipts: receipts_root, logs_bloom }
}

/// Fills in what the slots were that a block wrote after it had wiped the account: of a state that is not all here, the
/// store cannot know it.
fn read_wiped(base: &State, changes: &mut StateChanges) -> Result<(), ChainError> {
    let wiped = changes.accounts.iter().filter(|(_, change)| change.wiped);
    for address in wiped.map(|(address, _)| *address).collect::<Vec<_>>() {
        let Some(change) = changes.accounts.get_mut(&address) else { continue };
        for slot in change.storage.keys().copied().collect::<Vec<_>>() {
            let before = base.storage_at(address, slot)?;
            if let Some(slot) = change.storage.get_mut(&slot) {
                slot.before = before;
            }
        }
    }
    Ok(())
}

fn without_skipped(
    offered: Vec<RecoveredTransaction>,
    skipped: &[SkippedTransaction],
) -> Vec<RecoveredTransaction> {
    let mut skipped = skipped.iter().map(|skipped| skipped.index).peekable();
    let taken = |(index, _): &(usize, RecoveredTransaction)| skipped.next_if_eq(index).is_none();
    offered.into_iter().enumerate().filter(taken).map(|(_, tx)| tx).collect()
}

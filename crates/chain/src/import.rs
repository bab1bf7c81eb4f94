//! Blocks that others made: validated, executed, verified, and put where they belong.

use crate::{
    Chain, ChainBlock, ChainError, ImportError, State,
    chain::ChainEvent,
    rules::is_merged,
    stages::timed,
    validate::{Ancestors, check_body, check_header, check_ommers, recover_senders},
    verify::{ExecutedBlock, commit},
};
use alloy_consensus::{Header, Sealed};
use alloy_eips::eip4895::Withdrawals;
use alloy_primitives::{Address, B256, U256};
use alloy_rlp::Decodable;
use heddle_evm::{Block, RecoveredTransaction};
use heddle_store::{BlockId, PastNodes, StoreError, StoredBlock};
use heddle_trie::{StateTrie, TrieUpdates};
use std::{sync::Arc, time::Instant};

/// Longest branch beside the chain whose blocks are executed although it does not (yet) become the
/// chain. Each of its blocks needs those before it executed again, so that the work grows with the
/// square; a longer branch is kept as validated and executed as a whole when it becomes the chain.
pub const SIDE_BRANCH_EXECUTED_MAX: usize = 32;

/// Where an imported block went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStatus {
    /// It is the head now.
    Head,
    /// It is kept beside the chain.
    Side,
    /// It was there before; nothing changed.
    AlreadyKnown,
}

/// An imported block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// Number of the block.
    pub number: u64,
    /// Hash of the block.
    pub hash: B256,
    /// Where it went.
    pub status: ImportStatus,
}

/// The senders of a block's transactions, or which signature is none.
pub(crate) type Senders = Result<Vec<Address>, ImportError>;

/// The block that another one builds on.
struct Parent {
    header: Header,
    total_difficulty: U256,
}

/// A branch that leaves the chain at `fork`, executed up to some block.
struct Branch {
    fork: u64,
    state: State,
    nodes: PastNodes,
    trie: StateTrie,
    blocks: Vec<ExecutedBlock>,
}

impl Chain {
    /// Takes a block whose parent is known: validates it against every rule of its fork (but not
    /// the proof-of-work seal), executes it through the parallel executor and compares all roots.
    /// The head follows the heaviest branch before the merge, and after it the newest block.
    ///
    /// # Errors
    /// With the rule that the block breaks, or what kept this node from telling. Nothing of the
    /// chain has changed then.
    pub fn import(&self, block: Block) -> Result<Imported, ImportError> {
        self.import_prepared(block, None)
    }

    /// As [`Self::import`], where the senders may have been recovered before.
    pub(crate) fn import_prepared(
        &self,
        block: Block,
        senders: Option<Senders>,
    ) -> Result<Imported, ImportError> {
        let _changing = self.changing.lock();
        let hash = block.header.hash_slow();
        let number = block.header.number;
        let done = |status| Ok(Imported { number, hash, status });
        if self.number_by_hash(hash)?.is_some() || self.store.side_block(&hash)?.is_some() {
            return done(ImportStatus::AlreadyKnown);
        }
        if self.forked().is_some() {
            return Err(ChainError::NotVerifiable.into());
        }
        if number == 0 {
            let expected = self.genesis_hash();
            return Err(ImportError::WrongGenesis { expected, actual: hash });
        }
        let parent = self.parent_of(&block.header)?;
        let block = self.validate(block, senders, hash, &parent)?;

        let head = self.head_and_state();
        if block.header.parent_hash == head.block.hash() {
            let nodes = head.base.view();
            let trie = self.kept_trie.take(head.block.hash(), nodes).map_err(ChainError::from)?;
            let (executed, trie) = self.execute_and_verify(block, &head.base, nodes, trie)?;
            self.append(executed)?;
            self.kept_trie.put(hash, trie);
            return done(ImportStatus::Head);
        }

        let merged = is_merged(&self.spec, number, parent.total_difficulty);
        let becomes_head = merged || block.total_difficulty > head.block.total_difficulty;
        let path = self.path_to(block.header.parent_hash)?;
        if !becomes_head && path.len() >= SIDE_BRANCH_EXECUTED_MAX {
            self.store.put_side_block(&stored(&block))?;
            return done(ImportStatus::Side);
        }
        let mut branch = self.execute_branch(path)?;
        let (executed, _) =
            self.execute_and_verify(block, &branch.state, &branch.nodes.reader(), branch.trie)?;
        if becomes_head {
            branch.blocks.push(executed);
            self.reorganise(branch.fork, branch.blocks)?;
            done(ImportStatus::Head)
        } else {
            self.store.put_side_block(&stored(&executed.block))?;
            done(ImportStatus::Side)
        }
    }

    /// As [`Self::import`], from RLP.
    ///
    /// # Errors
    /// Also where the bytes are not exactly one block.
    pub fn import_rlp(&self, mut bytes: &[u8]) -> Result<Imported, ImportError> {
        let block = Block::decode(&mut bytes).map_err(ImportError::Rlp)?;
        if !bytes.is_empty() {
            return Err(ImportError::TrailingBytes(bytes.len()));
        }
        self.import(block)
    }

    /// Makes a known block the head, as a consensus client or an operator chooses: goes back to one
    /// of the chain, or over to a branch beside it, which is executed and verified first. The blocks
    /// that leave the chain are kept beside it (unless they are more than [`heddle_store::Store::reorg_depth`]).
    ///
    /// # Errors
    /// If the block is not known, or one of its branch is invalid; the head is the old one then.
    pub fn set_head(&self, hash: B256) -> Result<Arc<ChainBlock>, ImportError> {
        let _changing = self.changing.lock();
        let head = self.head();
        if hash == head.hash() {
            return Ok(head);
        }
        if let Some(number) = self.number_by_hash(hash)? {
            self.reorganise(number, Vec::new())?;
        } else {
            let path = self.path_to(hash)?;
            let branch = self.execute_branch(path)?;
            self.reorganise(branch.fork, branch.blocks)?;
        }
        Ok(self.head())
    }

    fn parent_of(&self, header: &Header) -> Result<Parent, ImportError> {
        let hash = header.parent_hash;
        if let Some(block) = self.block_by_hash(hash)? {
            let total_difficulty = block.total_difficulty;
            return Ok(Parent { header: block.header.inner().clone(), total_difficulty });
        }
        let block = self
            .store
            .side_block(&hash)?
            .ok_or(ImportError::UnknownParent { number: header.number, parent: hash })?;
        let total_difficulty = block.total_difficulty.unwrap_or_default();
        Ok(Parent { header: block.header, total_difficulty })
    }

    /// All that can be told without executing the block.
    fn validate(
        &self,
        block: Block,
        senders: Option<Senders>,
        hash: B256,
        parent: &Parent,
    ) -> Result<ChainBlock, ImportError> {
        let started = Instant::now();
        let spec = &*self.spec;
        let merged = is_merged(spec, block.header.number, parent.total_difficulty);
        check_header(spec, &block.header, &parent.header, merged)?;
        let size = check_body(spec, &block)?;
        check_ommers(spec, &block.header, &block.body.ommers, merged, self)?;
        // A header that is wrong comes before a signature that is.
        let senders = senders.unwrap_or_else(|| recover_senders(spec, &block))?;
        let transactions = block.body.transactions.into_iter().zip(senders);
        let block = ChainBlock {
            total_difficulty: parent.total_difficulty.saturating_add(block.header.difficulty),
            header: Sealed::new_unchecked(block.header, hash),
            transactions: transactions
                .map(|(tx, sender)| RecoveredTransaction::new_unchecked(tx, sender))
                .collect(),
            ommers: block.body.ommers,
            withdrawals: block.body.withdrawals.map(Withdrawals::into_inner),
            receipts: Vec::new(),
            size,
        };
        metrics::histogram!("chain_validate_seconds").record(started.elapsed());
        Ok(block)
    }

    /// The blocks of a branch from where it leaves the chain up to and including `hash`, ascending,
    /// and the number of the last block of the chain below them.
    fn path_to(&self, hash: B256) -> Result<SidePath, ImportError> {
        let mut blocks = Vec::new();
        let mut next = hash;
        loop {
            if let Some(fork) = self.number_by_hash(next)? {
                blocks.reverse();
                return Ok(SidePath { fork, blocks });
            }
            let block = self.store.side_block(&next)?.ok_or(ImportError::UnknownBlock(next))?;
            next = block.header.parent_hash;
            blocks.push(block);
        }
    }

    /// Executes the blocks of a branch in memory; the chain does not change.
    fn execute_branch(&self, path: SidePath) -> Result<Branch, ImportError> {
        let SidePath { fork, blocks } = path;
        let head = self.head().number();
        let max = self.store.reorg_depth();
        if head - fork > max {
            return Err(ImportError::ForkTooDeep { fork, head, max });
        }
        let nodes = self.store.past_nodes(fork).map_err(ChainError::from)?;
        let trie = StateTrie::stored(&nodes.reader()).map_err(StoreError::from);
        let mut branch = Branch {
            fork,
            state: self.state_at(fork)?,
            trie: trie.map_err(ChainError::from)?,
            nodes,
            blocks: Vec::with_capacity(blocks.len() + 1),
        };
        for block in blocks {
            let (number, hash) = (block.header.number, block.hash);
            let block = ChainBlock::from_store(block, Vec::new());
            let (executed, trie) = self
                .execute_and_verify(block, &branch.state, &branch.nodes.reader(), branch.trie)
                .map_err(|reason| match reason {
                    // The node's own trouble.
                    ImportError::Chain(error) => ImportError::Chain(error),
                    reason => {
                        ImportError::InvalidAncestor { number, hash, reason: Box::new(reason) }
                    }
                })?;
            let id = BlockId { number, hash };
            branch.state = branch.state.with_block(id, executed.changes.clone());
            branch.nodes.extend(TrieUpdates::clone(&executed.trie));
            branch.trie = trie;
            branch.blocks.push(executed);
        }
        Ok(branch)
    }

    /// Puts an executed block on the head. Only under `changing`.
    fn append(&self, mut executed: ExecutedBlock) -> Result<(), ChainError> {
        let (committed, time) = timed(|| commit(&self.store, std::slice::from_ref(&executed)));
        committed?;
        executed.stages.set_commit(time);
        metrics::gauge!("chain_head_number").set(executed.block.number() as f64);
        self.stages.lock().put(executed.block.hash(), executed.stages);
        self.advance(executed.block)
    }

    /// Replaces the blocks above `fork` by executed ones. Only under `changing`.
    fn reorganise(&self, fork: u64, blocks: Vec<ExecutedBlock>) -> Result<(), ChainError> {
        let removed = self.blocks_above(fork)?;
        tracing::info!(
            fork,
            removed = removed.len(),
            added = blocks.len(),
            "the chain is reorganised"
        );
        // A longer way back could not be gone as a branch again.
        if removed.len() as u64 <= self.store.reorg_depth() {
            for block in &removed {
                self.store.put_side_block(&stored(block))?;
            }
        }
        self.store.unwind_to(fork)?;
        let committed = commit(&self.store, &blocks);
        let mut added = Vec::with_capacity(blocks.len());
        if committed.is_ok() {
            let mut stages = self.stages.lock();
            for executed in blocks {
                stages.put(executed.block.hash(), executed.stages);
                added.push(executed.block.id());
            }
        }
        // Also where committing failed (a full disk): the head is then the fork block.
        self.reload(ChainEvent { removed, added })?;
        Ok(committed?)
    }
}

/// Blocks beside the chain, from the first one above block `fork` on.
struct SidePath {
    fork: u64,
    blocks: Vec<StoredBlock>,
}

impl SidePath {
    const fn len(&self) -> usize {
        self.blocks.len()
    }
}

impl Ancestors for Chain {
    fn ancestor(&self, hash: B256) -> Result<Option<(Header, Vec<Header>)>, ChainError> {
        if let Some(block) = self.block_by_hash(hash)? {
            return Ok(Some((block.header.inner().clone(), block.ommers.clone())));
        }
        let block = self.store.side_block(&hash)?;
        Ok(block.map(|block| (block.header, block.ommers)))
    }
}

fn stored(block: &ChainBlock) -> StoredBlock {
    StoredBlock {
        header: block.header.inner().clone(),
        hash: block.hash(),
        transactions: block.transactions.iter().map(|tx| tx.inner().clone()).collect(),
        senders: block.transactions.iter().map(|tx| tx.signer()).collect(),
        ommers: block.ommers.clone(),
        withdrawals: block.withdrawals.clone(),
        total_difficulty: Some(block.total_difficulty),
    }
}

//! The chain as everybody reads it.

use crate::{
    Alterations, BlockStages, ChainBlock, ChainError, CodeCache, GenesisBlock, State,
    kept_trie::KeptTrie, recent_blocks::RecentBlocks, rules::BlockRules,
};
use alloy_consensus::{Header, Sealed};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256};
use heddle_chainspec::ChainSpec;
use heddle_parallel::ParallelExecutor;
use heddle_remote::RemoteState;
use heddle_store::{BlockBatch, BlockId, Prunable, StateView, Store};
use heddle_trie::AccountProof;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};
use tokio::sync::broadcast;

/// Blocks of which it is known how long their stages took, a hundred bytes each.
const STAGES_KEPT_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("is not zero");

/// Head changes a subscriber may be behind before it loses some (and is told so).
const EVENTS_MAX: usize = 256;

/// A change of the canonical chain.
#[derive(Debug, Clone)]
pub struct ChainEvent {
    /// Blocks that left the chain, ascending.
    pub removed: Vec<Arc<ChainBlock>>,
    /// Blocks that came onto the chain, ascending. They can be read from it, unless they have left it again; here they
    /// would stay in memory until the last subscriber has come to this.
    pub added: Vec<BlockId>,
}

/// The head and the state after it, replaced together.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) block: Arc<ChainBlock>,
    /// As the block left it.
    pub(crate) base: State,
    /// What was altered since.
    pub(crate) altered: Alterations,
    /// Both together: what everybody sees.
    pub(crate) state: State,
}

impl Head {
    pub(crate) fn new(block: Arc<ChainBlock>, base: State, altered: Alterations) -> Self {
        let state = altered.over(&base);
        Self { block, base, altered, state }
    }
}

/// The canonical chain. Shared as `Arc<Chain>`.
#[derive(Debug)]
pub struct Chain {
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) store: Store,
    pub(crate) executor: ParallelExecutor,
    pub(crate) code: Arc<CodeCache>,
    genesis_hash: B256,
    head: RwLock<Arc<Head>>,
    /// Where the state below this chain is, if it is a fork.
    pub(crate) remote: RwLock<Option<Arc<RemoteState>>>,
    /// Held while the chain changes. Taken before every other lock here.
    pub(crate) changing: Mutex<()>,
    blocks: Mutex<RecentBlocks>,
    pub(crate) stages: Mutex<LruCache<B256, BlockStages>>,
    pub(crate) kept_trie: KeptTrie,
    events: broadcast::Sender<ChainEvent>,
}

impl Chain {
    /// Opens the chain in `store`, writing the genesis block if it is empty.
    pub fn open(
        spec: Arc<ChainSpec>,
        genesis: &GenesisBlock,
        store: Store,
        executor: ParallelExecutor,
    ) -> Result<Self, ChainError> {
        if store.head().is_none() {
            store.commit_genesis(&BlockBatch {
                header: &genesis.header,
                hash: genesis.hash,
                transactions: &[],
                senders: &[],
                ommers: &[],
                withdrawals: genesis.header.withdrawals_root.map(|_| [].as_slice()),
                receipts: &[],
                changes: &genesis.changes,
                trie: &genesis.trie,
                total_difficulty: Some(genesis.header.difficulty),
            })?;
        }
        let code = Arc::new(CodeCache::default());
        let head = Self::load_head(&store, &code, None)?;
        Ok(Self {
            spec,
            store,
            executor,
            code,
            genesis_hash: genesis.hash,
            head: RwLock::new(Arc::new(head)),
            remote: RwLock::default(),
            changing: Mutex::new(()),
            blocks: Mutex::default(),
            stages: Mutex::new(LruCache::new(STAGES_KEPT_MAX)),
            kept_trie: KeptTrie::default(),
            events: broadcast::channel(EVENTS_MAX).0,
        })
    }

    fn load_head(
        store: &Store,
        code: &Arc<CodeCache>,
        remote: Option<Arc<RemoteState>>,
    ) -> Result<Head, ChainError> {
        let state = State::new(Arc::new(store.latest()?), code.clone(), remote);
        let number = state.view().number();
        let block = Self::load_block(store, number)?.ok_or(ChainError::UnknownBlock(number))?;
        // What was altered after the block counts again after a restart.
        let altered = Alterations::stored(store.alterations(number.saturating_add(1))?);
        Ok(Head::new(Arc::new(block), state, altered))
    }

    fn load_block(store: &Store, number: u64) -> Result<Option<ChainBlock>, ChainError> {
        let Some(block) = store.block(number)? else {
            return Ok(None);
        };
        let receipts = store.receipts(number)?.ok_or(ChainError::UnknownBlock(number))?;
        // An unwind between the two reads can give the receipts of another block.
        if receipts.len() != block.transactions.len() {
            return Ok(None);
        }
        Ok(Some(ChainBlock::from_store(block, receipts)))
    }

    /// The rules.
    pub const fn spec(&self) -> &Arc<ChainSpec> {
        &self.spec
    }

    /// EIP-155 chain id.
    pub fn chain_id(&self) -> u64 {
        self.spec.chain_id()
    }

    /// Hash of the genesis block of the rules; a chain that was loaded may have another block zero.
    pub const fn genesis_hash(&self) -> B256 {
        self.genesis_hash
    }

    /// Number of executor workers.
    pub const fn workers(&self) -> usize {
        self.executor.workers()
    }

    /// The store below.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn head_and_state(&self) -> Arc<Head> {
        self.head.read().clone()
    }

    /// The newest block.
    pub fn head(&self) -> Arc<ChainBlock> {
        self.head.read().block.clone()
    }

    /// The state after the newest block.
    pub fn latest_state(&self) -> State {
        self.head.read().state.clone()
    }

    /// Number of the newest block that a consensus client calls safe; as long as there is none,
    /// the head is.
    pub fn safe_number(&self) -> u64 {
        self.head().number()
    }

    /// Number of the newest block that a consensus client calls finalized; as long as there is
    /// none, the head is.
    pub fn finalized_number(&self) -> u64 {
        self.head().number()
    }

    /// A block of the chain.
    pub fn block_by_number(&self, number: u64) -> Result<Option<Arc<ChainBlock>>, ChainError> {
        let head = self.head();
        if number == head.number() {
            return Ok(Some(head));
        }
        if number > head.number() {
            return Ok(None);
        }
        if let Some(block) = self.blocks.lock().get(number) {
            return Ok(Some(block.clone()));
        }
        let Some(block) = Self::load_block(&self.store, number)?.map(Arc::new) else {
            return Ok(None);
        };
        let mut blocks = self.blocks.lock();
        // Not if the chain changed since: the cache was emptied then, before this block got here.
        if self.store.canonical_hash(number)? == Some(block.hash()) {
            blocks.put(block.clone());
        }
        Ok(Some(block))
    }

    /// A block of the chain.
    pub fn block_by_hash(&self, hash: B256) -> Result<Option<Arc<ChainBlock>>, ChainError> {
        let head = self.head();
        if hash == head.hash() {
            return Ok(Some(head));
        }
        match self.store.block_number(&hash)? {
            Some(number) => Ok(self.block_by_number(number)?.filter(|block| block.hash() == hash)),
            None => Ok(None),
        }
    }

    /// A header of the chain.
    pub fn header_by_number(&self, number: u64) -> Result<Option<Sealed<Header>>, ChainError> {
        let head = self.head();
        if number == head.number() {
            return Ok(Some(head.header.clone()));
        }
        if let Some(block) = self.blocks.lock().get(number) {
            return Ok(Some(block.header.clone()));
        }
        Ok(self.store.header(number)?.map(Sealed::new))
    }

    /// The hash of a block of the chain.
    pub fn hash_by_number(&self, number: u64) -> Result<Option<B256>, ChainError> {
        let head = self.head();
        if number == head.number() {
            return Ok(Some(head.hash()));
        }
        Ok(self.store.canonical_hash(number)?)
    }

    /// The number of a block of the chain.
    pub fn number_by_hash(&self, hash: B256) -> Result<Option<u64>, ChainError> {
        let head = self.head();
        if hash == head.hash() {
            return Ok(Some(head.number()));
        }
        Ok(self.store.block_number(&hash)?)
    }

    /// The block of a transaction, and its place there.
    pub fn transaction_location(&self, hash: B256) -> Result<Option<(u64, usize)>, ChainError> {
        for location in self.store.transaction_candidates(&hash)? {
            let (number, index) = (location.block, location.index as usize);
            let block = self.block_by_number(number)?;
            let found = block.as_ref().and_then(|block| block.transactions.get(index));
            if found.is_some_and(|tx| *tx.inner().tx_hash() == hash) {
                return Ok(Some((number, index)));
            }
        }
        Ok(None)
    }

    /// Refuses to look for logs where they are not kept any more.
    pub fn check_logs_kept(&self, from: u64) -> Result<(), ChainError> {
        Ok(self.store.check_kept(Prunable::Receipts, from)?)
    }

    /// The blocks of `from..=to` that can have a log of one of these addresses whose topics are among those given for
    /// their place, ascending. An empty list of alternatives means any. None is left out; blocks can be named that have
    /// no such log.
    pub fn blocks_with_logs(
        &self,
        from: u64,
        to: u64,
        addresses: &[Address],
        topics: &[Vec<B256>],
    ) -> Result<Vec<u64>, ChainError> {
        Ok(self.store.blocks_with_logs(from, to, addresses, topics)?)
    }

    /// The accounts that the blocks `from..=to` changed, also those that are again what they were.
    pub fn changed_accounts(&self, from: u64, to: u64) -> Result<BTreeSet<Address>, ChainError> {
        Ok(self.store.changed_accounts(from, to)?)
    }

    /// The state after a block.
    pub fn state_at(&self, number: u64) -> Result<State, ChainError> {
        let head = self.head_and_state();
        if number == head.block.number() {
            return Ok(head.state.clone());
        }
        if number > head.block.number() {
            return Err(ChainError::UnknownBlock(number));
        }
        self.state_over(self.store.state_at(number)?)
    }

    fn state_over(&self, view: StateView) -> Result<State, ChainError> {
        let remote = self.remote.read().clone();
        if view.elsewhere() != remote.as_ref().map(|remote| remote.number()) {
            return Err(ChainError::Replaced);
        }
        Ok(State::new(Arc::new(view), self.code.clone(), remote))
    }

    /// Whether this chain goes on from a block of another node.
    pub fn is_fork(&self) -> bool {
        self.remote.read().is_some()
    }

    /// The block of another node that this chain goes on from, and the state after it, if it is a fork.
    pub fn forked(&self) -> Option<Arc<RemoteState>> {
        self.remote.read().clone()
    }

    /// EIP-1186 proofs in the state after a block.
    pub fn proof_at(
        &self,
        number: u64,
        address: Address,
        slots: &[U256],
    ) -> Result<AccountProof, ChainError> {
        Ok(self.store.proof_at(number, address, slots)?)
    }

    /// Rules and block environment of a block.
    pub fn evm_env(&self, header: &Header) -> EvmEnv {
        BlockRules::of(&self.spec, header).evm_env(header)
    }

    /// The base fee of the next block, in wei; zero before London.
    pub fn next_base_fee(&self) -> u64 {
        self.base_fee_after(&self.head())
    }

    /// The price of blob gas in the next block, in wei; zero before Cancun.
    pub fn next_blob_base_fee(&self) -> u128 {
        self.blob_base_fee_after(&self.head())
    }

    /// How a recent block came onto this chain, if it was executed here since the start.
    pub fn stages(&self, hash: &B256) -> Option<BlockStages> {
        self.stages.lock().get(hash).copied()
    }

    /// Head changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }

    pub(crate) fn put_head(&self, head: Head) {
        *self.head.write() = Arc::new(head);
    }

    /// Makes a committed block the head. Only under `changing`.
    pub(crate) fn advance(&self, block: Arc<ChainBlock>) -> Result<(), ChainError> {
        let state = self.state_over(self.store.latest()?)?;
        let id = block.id();
        let former = {
            let mut head = self.head.write();
            std::mem::replace(&mut *head, Arc::new(Head::new(block, state, Alterations::default())))
        };
        self.blocks.lock().put(former.block.clone());
        // Nobody listening is fine.
        let _ = self.events.send(ChainEvent { removed: Vec::new(), added: vec![id] });
        Ok(())
    }

    /// Takes the blocks above `number` off the chain; gives them, ascending.
    pub fn unwind_to(&self, number: u64) -> Result<Vec<Arc<ChainBlock>>, ChainError> {
        let _changing = self.changing.lock();
        let head = self.head();
        if number > head.number() {
            return Err(ChainError::UnknownBlock(number));
        }
        let removed = self.blocks_above(number)?;
        if removed.is_empty() {
            return Ok(removed);
        }
        self.store.unwind_to(number)?;
        self.reload(ChainEvent { removed: removed.clone(), added: Vec::new() })?;
        Ok(removed)
    }

    /// The blocks above `number`, ascending.
    pub(crate) fn blocks_above(&self, number: u64) -> Result<Vec<Arc<ChainBlock>>, ChainError> {
        let mut blocks = Vec::new();
        for number in number + 1..=self.head().number() {
            let block = self.block_by_number(number)?;
            blocks.push(block.ok_or(ChainError::UnknownBlock(number))?);
        }
        Ok(blocks)
    }

    /// Makes the store's head the head. Only under `changing`.
    pub(crate) fn reload(&self, event: ChainEvent) -> Result<(), ChainError> {
        let head = Self::load_head(&self.store, &self.code, self.forked())?;
        metrics::gauge!("chain_head_number").set(head.block.number() as f64);
        *self.head.write() = Arc::new(head);
        self.blocks.lock().clear();
        // Nobody listening is fine.
        let _ = self.events.send(event);
        Ok(())
    }
}

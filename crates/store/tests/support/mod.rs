//! A chain in plain maps, which builds blocks for a store and says what the store must answer.
#![allow(dead_code, reason = "each test file uses its part")]

use alloy_consensus::proofs::{
    calculate_ommers_root, calculate_receipt_root, calculate_transaction_root,
    calculate_withdrawals_root,
};
use alloy_consensus::{
    EthereumTxEnvelope, Header, Receipt, ReceiptEnvelope, SignableTransaction, TxEip1559, TxLegacy,
};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, Signature, U256, keccak256};
use heddle_store::{
    BlockBatch, BlockId, ChainIdentity, Store, StoreError, StoredBlock, Transaction,
    TransactionLocation,
};
use heddle_trie::{
    AccountChange, AccountState, Nibbles, NoNodes, SlotChange, StateChanges, TrieError,
    TrieUpdates, prove_account, state_root,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) const ACCOUNTS: u8 = 12;
pub(crate) const SLOTS: u8 = 8;

type Storage = BTreeMap<U256, U256>;

/// A state: accounts with their storage.
pub(crate) type Model = BTreeMap<Address, (AccountState, Storage)>;

/// What happens to one account in one block.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Update { balance: u64, storage: Vec<(u8, u8)> },
    Wipe { storage: Vec<(u8, u8)>, code: u8 },
    Delete,
}

pub(crate) type Steps = BTreeMap<u8, Step>;

/// One block with everything that a batch borrows.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) stored: StoredBlock,
    pub(crate) receipts: Vec<ReceiptEnvelope>,
    pub(crate) changes: StateChanges,
    pub(crate) trie: Arc<TrieUpdates>,
}

impl Block {
    pub(crate) fn batch(&self) -> BlockBatch<'_> {
        BlockBatch {
            header: &self.stored.header,
            hash: self.stored.hash,
            transactions: &self.stored.transactions,
            senders: &self.stored.senders,
            ommers: &self.stored.ommers,
            withdrawals: self.stored.withdrawals.as_deref(),
            receipts: &self.receipts,
            changes: &self.changes,
            trie: &self.trie,
            total_difficulty: self.stored.total_difficulty,
        }
    }
}

/// Blocks from genesis on, and the state after each.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) blocks: Vec<Block>,
    pub(crate) states: Vec<Model>,
}

pub(crate) fn address(index: u8) -> Address {
    Address::repeat_byte(index)
}

pub(crate) fn slot(index: u8) -> U256 {
    // Some slots are small and some are hashes, as in real storage.
    if index.is_multiple_of(2) { U256::from(index) } else { keccak256([index]).into() }
}

impl Chain {
    /// A genesis with three accounts, one of which has storage.
    pub(crate) fn new() -> Self {
        let storage = vec![(1, 7), (2, 9), (3, 1)];
        let steps = [
            (1, Step::Update { balance: 1_000, storage: vec![] }),
            (2, Step::Wipe { storage, code: 3 }),
            (3, Step::Update { balance: 5, storage: vec![] }),
        ];
        let mut changes = changes(&Model::new(), &steps.into());
        for change in changes.accounts.values_mut() {
            change.wiped = false;
        }
        let (state_root, trie) = state_root(&NoNodes, &changes).expect("nothing to read");
        let header = Header { state_root, gas_limit: 30_000_000, ..Default::default() };
        let state = applied(&Model::new(), &changes);
        let genesis = block(header, vec![], Some(vec![]), changes, trie);
        Self { blocks: vec![genesis], states: vec![state] }
    }

    pub(crate) fn identity(&self) -> ChainIdentity {
        ChainIdentity { chain_id: 31_337, genesis_hash: self.blocks[0].stored.hash }
    }

    pub(crate) fn head(&self) -> BlockId {
        let block = self.blocks.last().expect("genesis is never removed");
        BlockId { number: block.stored.header.number, hash: block.stored.hash }
    }

    /// Adds a block that does `steps`, over the nodes in `store`.
    pub(crate) fn extend(&mut self, store: &Store, steps: &Steps, salt: u64) -> &Block {
        self.try_extend(store, steps, salt).expect("genesis is stored and nodes are intact")
    }

    /// As [`Self::extend`], where the store may not be readable.
    pub(crate) fn try_extend(
        &mut self,
        store: &Store,
        steps: &Steps,
        salt: u64,
    ) -> Result<&Block, TrieError<StoreError>> {
        let changes = changes(self.states.last().expect("a state for every block"), steps);
        let view = store.latest().expect("genesis is stored");
        let (root, trie) = state_root(&view, &changes)?;
        Ok(self.push(root, trie, changes, salt))
    }

    pub(crate) fn push(
        &mut self,
        state_root: B256,
        trie: TrieUpdates,
        changes: StateChanges,
        salt: u64,
    ) -> &Block {
        let parent = self.head();
        let number = parent.number + 1;
        let header = Header {
            number,
            parent_hash: parent.hash,
            state_root,
            timestamp: salt,
            ..Default::default()
        };
        let transactions = (0..number % 4).map(|index| transaction(number, index, salt)).collect();
        let withdrawals = number.is_multiple_of(2).then(|| {
            vec![Withdrawal { index: number, validator_index: 1, address: address(9), amount: 5 }]
        });
        let state = applied(self.states.last().expect("a state for every block"), &changes);
        self.blocks.push(block(header, transactions, withdrawals, changes, trie));
        self.states.push(state);
        self.blocks.last().expect("just pushed")
    }

    /// Removes the blocks above `number`; their hashes, the old head first.
    pub(crate) fn unwind_to(&mut self, number: usize) -> Vec<B256> {
        self.states.truncate(number + 1);
        self.blocks.drain(number + 1..).rev().map(|block| block.stored.hash).collect()
    }
}

fn transaction(number: u64, index: u64, salt: u64) -> Transaction {
    let nonce = number * 1_000 + index;
    let signature = Signature::test_signature();
    if index.is_multiple_of(2) {
        let gas_price = u128::from(salt);
        let legacy = TxLegacy { nonce, gas_price, ..Default::default() };
        EthereumTxEnvelope::Legacy(legacy.into_signed(signature))
    } else {
        let input = Bytes::from(vec![7; 40]);
        let max_fee_per_gas = u128::from(salt);
        let dynamic = TxEip1559 { nonce, input, max_fee_per_gas, ..Default::default() };
        EthereumTxEnvelope::Eip1559(dynamic.into_signed(signature))
    }
}

fn block(
    header: Header,
    transactions: Vec<Transaction>,
    withdrawals: Option<Vec<Withdrawal>>,
    changes: StateChanges,
    trie: TrieUpdates,
) -> Block {
    let receipts: Vec<ReceiptEnvelope> = (1u64..)
        .zip(&transactions)
        .map(|(index, transaction)| {
            let log = Log::new_unchecked(
                address(index as u8),
                vec![B256::with_last_byte(index as u8)],
                Bytes::from(vec![1; index as usize]),
            );
            // The first as before Byzantium, with a state root in place of a status.
            let status =
                if index == 1 { header.state_root.into() } else { (index % 3 != 0).into() };
            let receipt = Receipt {
                status,
                cumulative_gas_used: 21_000 * index,
                logs: vec![log; index as usize - 1],
            };
            ReceiptEnvelope::from_typed(transaction.tx_type(), receipt.with_bloom())
        })
        .collect();
    let ommer = Header { number: header.number, ..Default::default() };
    let ommers = if header.number % 5 == 4 { vec![ommer] } else { vec![] };
    let header = Header {
        transactions_root: calculate_transaction_root(&transactions),
        receipts_root: calculate_receipt_root(&receipts),
        // Fields of a header come one after the other: none of this without the one before it.
        base_fee_per_gas: withdrawals.is_some().then_some(7),
        withdrawals_root: withdrawals.as_deref().map(calculate_withdrawals_root),
        ommers_hash: calculate_ommers_root(&ommers),
        gas_used: receipts.last().map_or(0, |receipt| receipt.cumulative_gas_used()),
        logs_bloom: receipts
            .iter()
            .fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
        ..header
    };
    let stored = StoredBlock {
        hash: header.hash_slow(),
        senders: transactions.iter().map(|tx| Address::from_word(*tx.tx_hash())).collect(),
        transactions,
        ommers,
        withdrawals,
        total_difficulty: (!header.number.is_multiple_of(3))
            .then(|| U256::from(header.number << 40)),
        header,
    };
    Block { stored, receipts, changes, trie: trie.into() }
}

/// The change set that does `steps` to `state`.
pub(crate) fn changes(state: &Model, steps: &Steps) -> StateChanges {
    let mut changes = StateChanges::default();
    for (index, step) in steps {
        let existing = state.get(&address(*index));
        let before = existing.map(|(account, _)| *account);
        let mut change = AccountChange { before, ..Default::default() };
        let slots = match step {
            Step::Delete if before.is_none() => continue,
            Step::Delete => {
                change.wiped = true;
                &vec![]
            }
            Step::Update { balance, storage } => {
                let account = before.unwrap_or_default();
                change.after = Some(AccountState { balance: U256::from(*balance), ..account });
                storage
            }
            Step::Wipe { storage, code } => {
                let code = Bytes::from(vec![*code; 5]);
                let code_hash = keccak256(&code);
                changes.code.insert(code_hash, code);
                change.after = Some(AccountState { nonce: 1, balance: U256::MAX, code_hash });
                change.wiped = true;
                storage
            }
        };
        for (index, value) in slots {
            let (slot, after) = (slot(*index), U256::from(*value));
            let before = existing.filter(|_| !change.wiped);
            let before = before.and_then(|(_, storage)| storage.get(&slot).copied());
            change.storage.insert(slot, SlotChange { before: before.unwrap_or_default(), after });
        }
        change.storage.retain(|_, slot| slot.before != slot.after);
        changes.accounts.insert(address(*index), change);
    }
    changes
}

fn applied(state: &Model, changes: &StateChanges) -> Model {
    let mut state = state.clone();
    for (address, change) in &changes.accounts {
        let Some(after) = change.after else {
            state.remove(address);
            continue;
        };
        let (account, storage) = state.entry(*address).or_default();
        *account = after;
        if change.wiped {
            storage.clear();
        }
        for (slot, value) in &change.storage {
            storage.insert(*slot, value.after);
        }
        storage.retain(|_, value| !value.is_zero());
    }
    state
}

/// Everything the store says about the chain and about every state, against the model.
pub(crate) fn check(store: &Store, chain: &Chain) {
    let head = chain.head();
    assert_eq!(store.head(), Some(head));
    for (number, (block, state)) in (0u64..).zip(chain.blocks.iter().zip(&chain.states)) {
        check_block(store, number, block);
        check_state(store, chain, number, state);
    }
    assert_eq!(store.block(head.number + 1).expect("readable"), None);
    assert_eq!(store.canonical_hash(head.number + 1).expect("readable"), None);
    let report = store.verify_state().expect("the state is right");
    assert_eq!(report.head, head);
    let last = chain.states.last().expect("a state for every block");
    assert_eq!(report.accounts, last.len() as u64);
    let slots: usize = last.values().map(|(_, storage)| storage.len()).sum();
    assert_eq!(report.slots, slots as u64);
    let report = store.verify_blocks(|_| {}).expect("the blocks are right");
    assert_eq!((report.first, report.headers), (0, chain.blocks.len() as u64));
    assert_eq!((report.bodies, report.receipts), (report.headers, report.headers));
    check_entries(store, chain);
}

pub(crate) fn check_block(store: &Store, number: u64, block: &Block) {
    let stored = &block.stored;
    assert_eq!(store.block(number).expect("readable").as_ref(), Some(stored));
    assert_eq!(store.block_by_hash(&stored.hash).expect("readable").as_ref(), Some(stored));
    assert_eq!(store.header(number).expect("readable").as_ref(), Some(&stored.header));
    assert_eq!(
        store.header_by_hash(&stored.hash).expect("readable").as_ref(),
        Some(&stored.header)
    );
    assert_eq!(store.canonical_hash(number).expect("readable"), Some(stored.hash));
    assert_eq!(store.block_number(&stored.hash).expect("readable"), Some(number));
    assert_eq!(store.receipts(number).expect("readable").as_ref(), Some(&block.receipts));
    assert_eq!(store.total_difficulty(number).expect("readable"), stored.total_difficulty);
    for (index, transaction) in (0u32..).zip(&stored.transactions) {
        let found = store.transaction_candidates(transaction.tx_hash()).expect("readable");
        assert_eq!(found, [TransactionLocation { block: number, index }]);
    }
}

pub(crate) fn check_state(store: &Store, chain: &Chain, number: u64, state: &Model) {
    let view = store.state_at(number).expect("a block of the chain");
    assert_eq!(view.number(), number);
    for account in 0..=ACCOUNTS {
        let address = address(account);
        let expected = state.get(&address);
        let found = view.account(&address).expect("readable");
        assert_eq!(found, expected.map(|(account, _)| *account), "{address} at block {number}");
        for index in 0..=SLOTS {
            let slot = slot(index);
            let value = expected.and_then(|(_, storage)| storage.get(&slot).copied());
            let found = view.storage(&address, slot).expect("readable");
            assert_eq!(found, value.unwrap_or_default(), "{address} {slot} at block {number}");
        }
        let has_code =
            found.filter(|account| account.code_hash != AccountState::default().code_hash);
        if let Some(account) = has_code {
            let code = view.code(&account.code_hash).expect("readable").expect("code is kept");
            assert_eq!(keccak256(code), account.code_hash);
        }
    }
    for (other, block) in (0u64..).zip(&chain.blocks) {
        let expected = (other <= number).then_some(block.stored.hash);
        assert_eq!(view.block_hash(other).expect("readable"), expected);
    }
}

/// No table holds more, or less, than the chain accounts for.
fn check_entries(store: &Store, chain: &Chain) {
    let entries: BTreeMap<_, _> = store
        .table_sizes()
        .expect("readable")
        .into_iter()
        .map(|table| (table.name, table.entries as usize))
        .collect();
    let blocks = chain.blocks.len();
    for table in ["headers", "block_numbers", "bodies", "receipts"] {
        assert_eq!(entries[table], blocks, "{table}");
    }
    assert_eq!(entries["changes"], blocks - 1);
    let transactions = chain.blocks.iter().map(|block| block.stored.transactions.len());
    assert_eq!(entries["transactions"], transactions.sum::<usize>());

    if store.unsettled_blocks() > 0 {
        return;
    }
    // A list of blocks for each account and slot that ever changed: none is so long here that it takes a second one.
    let mut accounts = BTreeSet::new();
    let mut slots = BTreeSet::new();
    for pair in chain.states.windows(2) {
        accounts.extend(differing(&pair[0], &pair[1], |(account, _)| *account));
        for address in (0..=ACCOUNTS).map(address) {
            let none = Storage::new();
            let before = pair[0].get(&address).map_or(&none, |(_, storage)| storage);
            let after = pair[1].get(&address).map_or(&none, |(_, storage)| storage);
            let changed = differing(before, after, |value| *value);
            slots.extend(changed.into_iter().map(|slot| (address, slot)));
        }
    }
    if chain.blocks.len() < 100 {
        assert_eq!(entries["account_history"], accounts.len());
    }
    // A wiped slot that gets its old value back is entered too.
    assert!(entries["storage_history"] >= slots.len());

    let whole = changes_from_nothing(chain.states.last().expect("a state for every block"));
    let (_, nodes) = state_root(&NoNodes, &whole).expect("nothing to read");
    assert_eq!(entries["account_nodes"], nodes.account_nodes.len());
    let storage_nodes: usize = nodes.storage_nodes.values().map(|trie| trie.nodes.len()).sum();
    assert_eq!(entries["storage_nodes"], storage_nodes);
}

fn differing<K: Copy + Ord, V, T: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    value: impl Fn(&V) -> T,
) -> Vec<K> {
    let changed = after.iter().filter(|(key, v)| before.get(key).map(&value) != Some(value(v)));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    changed.map(|(key, _)| *key).chain(gone.copied()).collect()
}

pub(crate) fn changes_from_nothing(state: &Model) -> StateChanges {
    let mut changes = StateChanges::default();
    for (address, (account, storage)) in state {
        let mut change = AccountChange { after: Some(*account), ..Default::default() };
        for (slot, after) in storage {
            change.storage.insert(*slot, SlotChange { before: U256::ZERO, after: *after });
        }
        changes.accounts.insert(*address, change);
    }
    changes
}

/// Puts further blocks on the chain, and on its store.
pub(crate) fn commit(store: &Store, chain: &mut Chain, blocks: u64) {
    if store.head().is_none() {
        store.commit_genesis(&chain.blocks[0].batch()).expect("an empty store takes its genesis");
    }
    for _ in 0..blocks {
        let seed = chain.blocks.len() as u64;
        let block = chain.extend(store, &steps(seed), seed);
        store.commit_block(&block.batch()).expect("it extends the head");
    }
}

/// Proofs of every account at every block, against the header and the model.
pub(crate) fn check_proofs(store: &Store, chain: &Chain) {
    let slots: Vec<U256> = (0..=SLOTS).map(slot).collect();
    for (number, (block, state)) in (0u64..).zip(chain.blocks.iter().zip(&chain.states)) {
        for address in (0..=ACCOUNTS).step_by(3).map(address) {
            let proof = store.proof_at(number, address, &slots).expect("not too old");
            let expected = state.get(&address);
            let root = block.stored.header.state_root;
            let leaf = proof.account.map(alloy_rlp::encode);
            let key = Nibbles::unpack(keccak256(address));
            alloy_trie::proof::verify_proof(root, key, leaf, &proof.proof).expect("valid proof");
            let found = proof.account.map(|account| (account.nonce, account.balance));
            assert_eq!(found, expected.map(|(account, _)| (account.nonce, account.balance)));
            for slot in &proof.storage {
                let value = expected.and_then(|(_, storage)| storage.get(&slot.slot).copied());
                assert_eq!(slot.value, value.unwrap_or_default());
            }
        }
        let whole = changes_from_nothing(state);
        let (root, nodes) = state_root(&NoNodes, &whole).expect("nothing to read");
        assert_eq!(root, block.stored.header.state_root);
        let reader = heddle_trie::OverlayReader { base: NoNodes, updates: &nodes };
        let fresh = prove_account(&reader, address(2), &slots).expect("nodes are intact");
        assert_eq!(store.proof_at(number, address(2), &slots).expect("not too old"), fresh);
    }
}

/// Steps that depend on `seed` only, for tests that want many different blocks.
pub(crate) fn steps(seed: u64) -> Steps {
    let random = |lane: u64| keccak256((seed * 31 + lane).to_be_bytes());
    (0..5)
        .map(|lane| {
            let word = random(lane);
            let storage = (0..word[1] % 5)
                .map(|slot| (word[2 + slot as usize] % SLOTS, word[10 + slot as usize] % 4))
                .collect();
            let step = match word[0] % 10 {
                0 => Step::Delete,
                1 => Step::Wipe { storage, code: word[9] },
                _ => Step::Update { balance: word[8].into(), storage },
            };
            (word[31] % ACCOUNTS, step)
        })
        .collect()
}

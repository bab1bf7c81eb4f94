//! The state after one block of another node, read when something asks for it and kept from then on.

use crate::{
    RemoteError,
    cache::{CacheFile, Record},
    client::Call,
    node::RemoteNode,
};
use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U64, U256, address, keccak256,
    map::{AddressMap, B256Map, HashMap},
};
use heddle_trie::AccountState;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// Accounts and slots kept in memory, some 150 bytes each. Beyond, all are read anew.
const ENTRIES_MAX: usize = 2_000_000;

/// The contracts that keep a ring of block hashes (EIP-2935) and of beacon roots (EIP-4788). Every block writes into slots
/// that no block on the fork has read, one after the other.
const RINGS: [Address; 2] = [
    address!("0000F90827F1C53a10cb7A02335B175320002935"),
    address!("000F3df6D732807Ef1319fB7B8bB8522d0Beac02"),
];

/// Slots of a ring that are read together, so that not every block waits for the other node.
const RING_SLOTS_AT_ONCE: usize = 64;

/// Bytes of code kept in memory; beyond, all is read anew.
const CODE_BYTES_MAX: usize = 256 << 20;

/// The state after one block.
#[derive(Debug)]
pub struct RemoteState {
    node: RemoteNode,
    chain_id: u64,
    number: u64,
    hash: B256,
    /// The block as parameters name it.
    block: Value,
    known: RwLock<Known>,
    /// What is being read: whoever wants the same waits for it.
    on_its_way: Mutex<HashMap<Key, Arc<Outcome>>>,
    cache: Option<CacheFile>,
}

/// What came of reading something, for all who wait for it.
type Outcome = OnceLock<Result<(), RemoteError>>;

#[derive(Debug, Default)]
struct Known {
    accounts: AddressMap<Option<AccountState>>,
    slots: HashMap<(Address, U256), U256>,
    block_hashes: HashMap<u64, B256>,
    code: B256Map<Bytes>,
    code_bytes: usize,
    /// An account with the code, to read it again. Never forgotten: a changed account is known elsewhere, and only its
    /// code here.
    owners: B256Map<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Account(Address),
    Slot(Address, U256),
    Code(B256),
    BlockHash(u64),
}

/// What a block's answer is asked for.
#[derive(Deserialize)]
struct HashOnly {
    hash: B256,
}

impl Known {
    fn learn(&mut self, record: &Record) {
        if self.accounts.len() + self.slots.len() >= ENTRIES_MAX {
            self.accounts = AddressMap::default();
            self.slots = HashMap::default();
        }
        match record {
            Record::Account { address, balance, nonce, code_hash } => {
                let state =
                    AccountState { nonce: *nonce, balance: *balance, code_hash: *code_hash };
                self.accounts.insert(*address, Some(state).filter(|state| !state.is_empty()));
                if *code_hash != KECCAK256_EMPTY {
                    self.owners.entry(*code_hash).or_insert(*address);
                }
            }
            Record::Code(code) => {
                if self.code_bytes >= CODE_BYTES_MAX {
                    (self.code, self.code_bytes) = (B256Map::default(), 0);
                }
                if self.code.insert(keccak256(code), code.clone()).is_none() {
                    self.code_bytes += code.len();
                }
            }
            Record::Slot(address, slot, value) => {
                self.slots.insert((*address, *slot), *value);
            }
            Record::BlockHash(number, hash) => {
                self.block_hashes.insert(*number, *hash);
            }
        }
    }
}

impl RemoteState {
    pub(crate) fn new(
        node: RemoteNode,
        (chain_id, number, hash): (u64, u64, B256),
        block: Value,
        cache: Option<(CacheFile, Vec<Record>)>,
    ) -> Self {
        let mut known = Known::default();
        let cache = cache.map(|(file, records)| {
            records.iter().for_each(|record| known.learn(record));
            file
        });
        let (known, on_its_way) = (RwLock::new(known), Mutex::default());
        Self { node, chain_id, number, hash, block, known, on_its_way, cache }
    }

    /// The node.
    pub const fn node(&self) -> &RemoteNode {
        &self.node
    }

    /// EIP-155 chain id of the node.
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Number of the block.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its hash.
    pub const fn hash(&self) -> B256 {
        self.hash
    }

    /// The account at `address`, `None` if there is none.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn account(&self, address: Address) -> Result<Option<AccountState>, RemoteError> {
        let known = || self.known.read().accounts.get(&address).copied();
        if let Some(account) = known() {
            return Ok(account);
        }
        self.once(Key::Account(address), || self.read_accounts(&[address]))?;
        known().map_or_else(|| self.forgotten("eth_getBalance"), Ok)
    }

    /// Reads several accounts at once, to have them later.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn read_ahead(&self, addresses: &[Address]) -> Result<(), RemoteError> {
        let unknown = |address: &&Address| !self.known.read().accounts.contains_key(*address);
        let addresses: Vec<Address> = addresses.iter().filter(unknown).copied().collect();
        if addresses.is_empty() { Ok(()) } else { self.read_accounts(&addresses) }
    }

    /// The value of a storage slot; zero if it, or the account, does not exist.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn storage(&self, address: Address, slot: U256) -> Result<U256, RemoteError> {
        let known = || self.known.read().slots.get(&(address, slot)).copied();
        if let Some(value) = known() {
            return Ok(value);
        }
        // What was never a contract has no storage. That spares a question for every slot of those created here.
        let may_have_storage =
            |account: &AccountState| account.nonce > 0 || account.code_hash != KECCAK256_EMPTY;
        if !self.account(address)?.as_ref().is_some_and(may_have_storage) {
            return Ok(U256::ZERO);
        }
        self.once(Key::Slot(address, slot), || {
            let (first, count) = if RINGS.contains(&address) {
                (slot - slot % U256::from(RING_SLOTS_AT_ONCE), RING_SLOTS_AT_ONCE)
            } else {
                (slot, 1)
            };
            self.read_slots(address, (0..count).map(|index| first + U256::from(index)))
        })?;
        known().map_or_else(|| self.forgotten("eth_getStorageAt"), Ok)
    }

    /// The code with this hash, if an account that was read has it.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn code(&self, hash: B256) -> Result<Option<Bytes>, RemoteError> {
        let known = || self.known.read().code.get(&hash).cloned();
        if let Some(code) = known() {
            return Ok(Some(code));
        }
        let Some(owner) = self.known.read().owners.get(&hash).copied() else { return Ok(None) };
        self.once(Key::Code(hash), || {
            let [code]: [Bytes; 1] = self.read([self.call("eth_getCode", [json!(owner)])])?;
            if keccak256(&code) != hash {
                return Err(self.wrong("eth_getCode", format!("the code of {owner} has changed")));
            }
            self.keep(&[Record::Code(code)]);
            Ok(())
        })?;
        known().map_or_else(|| self.forgotten("eth_getCode"), |code| Ok(Some(code)))
    }

    /// The hash of a block at or before this one.
    ///
    /// # Errors
    /// If the node cannot be asked, or has no such block.
    pub fn block_hash(&self, number: u64) -> Result<B256, RemoteError> {
        if number == self.number {
            return Ok(self.hash);
        }
        let known = || self.known.read().block_hashes.get(&number).copied();
        if let Some(hash) = known() {
            return Ok(hash);
        }
        self.once(Key::BlockHash(number), || {
            let call = Call::new("eth_getBlockByNumber", [json!(U64::from(number)), json!(false)]);
            let [block]: [Option<HashOnly>; 1] = self.read([call])?;
            let node = || self.node.name();
            let block = block.ok_or_else(|| RemoteError::NoBlock { node: node(), number })?;
            self.keep(&[Record::BlockHash(number, block.hash)]);
            Ok(())
        })?;
        known().map_or_else(|| self.forgotten("eth_getBlockByNumber"), Ok)
    }

    fn read_accounts(&self, addresses: &[Address]) -> Result<(), RemoteError> {
        const METHODS: [&str; 3] = ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"];
        let calls: Vec<Call> = addresses
            .iter()
            .flat_map(|address| METHODS.map(|method| self.call(method, [json!(address)])))
            .collect();
        let mut answers = self.node.read(calls.clone())?.into_iter().zip(&calls);
        let client = self.node.client();
        let mut records = Vec::new();
        for address in addresses {
            let mut next =
                || answers.next().ok_or_else(|| self.wrong(METHODS[0], "no answer".to_owned()));
            let (balance, nonce, code) = (next()?, next()?, next()?);
            let balance: U256 = client.read(balance.1, balance.0)?;
            let nonce: U64 = client.read(nonce.1, nonce.0)?;
            let code: Bytes = client.read(code.1, code.0)?;
            let code_hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) };
            if !code.is_empty() && !self.known.read().code.contains_key(&code_hash) {
                records.push(Record::Code(code));
            }
            let (address, nonce) = (*address, nonce.to());
            records.push(Record::Account { address, balance, nonce, code_hash });
        }
        self.keep(&records);
        Ok(())
    }

    fn read_slots(
        &self,
        address: Address,
        slots: impl Iterator<Item = U256>,
    ) -> Result<(), RemoteError> {
        let slots: Vec<U256> = slots.collect();
        let call =
            |slot: &U256| self.call("eth_getStorageAt", [json!(address), json!(B256::from(*slot))]);
        let calls: Vec<Call> = slots.iter().map(call).collect();
        let answers = self.node.read(calls.clone())?.into_iter().zip(&calls);
        let mut records = Vec::new();
        for ((answer, call), slot) in answers.zip(slots) {
            records.push(Record::Slot(address, slot, self.node.client().read(call, answer)?));
        }
        self.keep(&records);
        Ok(())
    }

    /// A call about the state after the block.
    fn call<const N: usize>(&self, method: &'static str, params: [Value; N]) -> Call {
        let mut params = Vec::from(params);
        params.push(self.block.clone());
        Call { method, params }
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        [call]: [Call; 1],
    ) -> Result<[T; 1], RemoteError> {
        let answer = self.node.read(vec![call.clone()])?.remove(0);
        Ok([self.node.client().read(&call, answer)?])
    }

    fn keep(&self, records: &[Record]) {
        let mut known = self.known.write();
        records.iter().for_each(|record| known.learn(record));
        drop(known);
        if let Some(cache) = &self.cache {
            cache.append(records);
        }
    }

    /// Reads what `key` names, unless somebody is at it: then waits for what comes of that.
    fn once(
        &self,
        key: Key,
        read: impl FnOnce() -> Result<(), RemoteError>,
    ) -> Result<(), RemoteError> {
        let reading = self.on_its_way.lock().entry(key).or_default().clone();
        let result = reading.get_or_init(read).clone();
        // Not one that somebody else has begun since.
        let mut on_its_way = self.on_its_way.lock();
        if on_its_way.get(&key).is_some_and(|now| Arc::ptr_eq(now, &reading)) {
            on_its_way.remove(&key);
        }
        result
    }

    /// It was read, and so much else at the same time that it is gone again.
    fn forgotten<T>(&self, method: &'static str) -> Result<T, RemoteError> {
        Err(self.wrong(method, "too much at once to be kept; ask again".to_owned()))
    }

    fn wrong(&self, method: &'static str, reason: String) -> RemoteError {
        RemoteError::Answer { node: self.node.name(), method, reason }
    }
}

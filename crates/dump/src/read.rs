//! From bytes to a chain.

use crate::{
    DumpError,
    format::{AccountJson, BlockJson, DumpJson, RecordJson},
};
use alloy_consensus::{Sealed, transaction::SignerRecoverable};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use flate2::read::GzDecoder;
use heddle_chain::{Chain, ChainBlock, NewChain, State};
use heddle_evm::{
    AccountChange, AccountState, BlockState, Receipt, RecoveredTransaction, SlotChange,
    StateChanges, StateError,
};
use revm::state::Bytecode;
use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
};

/// Most bytes of JSON in a dump: some two million slots. A gzipped dump is not decompressed any further.
pub const JSON_BYTES_MAX: u64 = 256 << 20;

/// Most accounts and slots of the present state that a loaded one is put together with: both are in memory then.
const ENTRIES_MAX: usize = 2_000_000;

/// The highest number and the latest time, in seconds, that a block may have: room for the blocks after it.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// The first two bytes of everything that is gzipped.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The longest reason that is passed on; parsers repeat what they read, and that may be long.
const REASON_BYTES_MAX: usize = 400;

/// A dump that was read and whose parts belong together.
#[derive(Debug)]
pub struct Dump {
    accounts: BTreeMap<Address, Account>,
    /// Ascending, each the next one's parent; the last is the head. Empty in the dumps of old versions.
    blocks: Vec<ChainBlock>,
}

#[derive(Debug)]
struct Account {
    state: AccountState,
    code: Bytes,
    /// None of them zero.
    slots: Vec<(U256, U256)>,
}

/// What a dump makes of a chain.
#[derive(Debug)]
pub enum Loaded {
    /// Another chain, to take the place of the present one.
    Chain(Box<NewChain>),
    /// The same chain with other accounts: the dump has no blocks.
    Accounts(Dump),
}

impl Dump {
    /// Reads a dump, gzipped or not.
    ///
    /// # Errors
    /// If it is damaged, cut off, too large, or its parts do not belong together.
    pub fn parse(bytes: &[u8]) -> Result<Self, DumpError> {
        let mut decompressed = Vec::new();
        let too_large = DumpError::TooLarge { max: JSON_BYTES_MAX };
        let json = if bytes.starts_with(&GZIP) {
            let mut reader = GzDecoder::new(bytes).take(JSON_BYTES_MAX + 1);
            reader.read_to_end(&mut decompressed).map_err(DumpError::Gzip)?;
            &decompressed
        } else {
            bytes
        };
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(too_large);
        }
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let dump: DumpJson = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| wrong(error.path().to_string(), error.inner()))?;
        deserializer.end().map_err(|error| wrong("the end".to_owned(), &error))?;
        Self::check(dump)
    }

    fn check(dump: DumpJson) -> Result<Self, DumpError> {
        let head = dump.best_block_number.or(dump.block.map(|block| block.number));
        let blocks = chain_up_to(head, dump.blocks, dump.transactions)?;
        let mut accounts = BTreeMap::new();
        for (address, account) in dump.accounts {
            accounts.insert(address, Account::check(address, account)?);
        }
        Ok(Self { accounts, blocks })
    }

    /// The number of the head, `None` where the dump has no blocks.
    pub fn head(&self) -> Option<u64> {
        self.blocks.last().map(ChainBlock::number)
    }

    /// The chain that this becomes on top of the present one. Accounts that the dump does not name stay as they are;
    /// those that it names become what it says.
    ///
    /// # Errors
    /// If the present state cannot be read or is too large.
    pub fn onto(mut self, chain: &Chain) -> Result<Loaded, DumpError> {
        let Some(head) = self.blocks.pop() else { return Ok(Loaded::Accounts(self)) };
        let (mut accounts, mut code) = (BTreeMap::new(), BTreeMap::new());
        let mut put = |address, state: AccountState, slots: Vec<(U256, U256)>, bytes: Bytes| {
            if !bytes.is_empty() {
                code.insert(state.code_hash, bytes);
            }
            let change = |(slot, after)| (slot, SlotChange { before: U256::ZERO, after });
            let storage = slots.into_iter().map(change).collect();
            let after = Some(state);
            accounts.insert(address, AccountChange { before: None, after, wiped: false, storage });
        };
        let mut entries = 0;
        chain.for_each_account(|account, code| {
            entries += 1 + account.slots.len();
            if entries > ENTRIES_MAX {
                return Err(DumpError::TooManyEntries { max: ENTRIES_MAX });
            }
            if !self.accounts.contains_key(&account.address) {
                put(account.address, account.state, account.slots, code);
            }
            Ok(())
        })?;
        for (address, account) in self.accounts {
            if account.exists() {
                put(address, account.state, account.slots, account.code);
            }
        }
        let state = StateChanges { accounts: accounts.into_iter().collect(), code };
        Ok(Loaded::Chain(Box::new(NewChain { earlier: self.blocks, head, state })))
    }

    /// Makes the accounts of the state what the dump says.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn alter(self, state: &mut BlockState<State>) -> Result<(), StateError> {
        for (address, account) in self.accounts {
            let exists = account.exists();
            if !account.code.is_empty() {
                let code = Bytecode::new_raw_checked(account.code).map_err(StateError::new)?;
                state.insert_code(account.state.code_hash, code);
            }
            state.set_account(address, exists.then_some(account.state), true)?;
            for (slot, value) in account.slots {
                state.set_storage(address, slot, value)?;
            }
        }
        Ok(())
    }
}

impl Account {
    fn check(address: Address, account: AccountJson) -> Result<Self, DumpError> {
        let AccountJson { nonce, balance, code, storage } = account;
        let code_hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) };
        // What the EVM could not load later.
        Bytecode::new_raw_checked(code.clone()).map_err(|error| DumpError::Json {
            path: format!("accounts.{address}.code"),
            reason: error.to_string(),
        })?;
        let slots = storage.into_iter().map(|(slot, value)| (slot.0, value.into()));
        let slots = slots.filter(|(_, value): &(U256, U256)| !value.is_zero()).collect();
        Ok(Self { state: AccountState { nonce, balance, code_hash }, code, slots })
    }

    /// An empty account is none (EIP-161).
    fn exists(&self) -> bool {
        !self.state.is_empty() || !self.slots.is_empty()
    }
}

/// The head and its ancestors, as far as they are there, with the receipts of their transactions.
fn chain_up_to(
    head: Option<u64>,
    blocks: Vec<BlockJson>,
    records: Vec<RecordJson>,
) -> Result<Vec<ChainBlock>, DumpError> {
    let Some(head) = head.filter(|_| !blocks.is_empty()) else { return Ok(Vec::new()) };
    let mut receipts: HashMap<(B256, usize), Receipt> = records
        .into_iter()
        .map(|record| ((record.block_hash, record.info.transaction_index), record.receipt))
        .collect();
    let mut by_hash: HashMap<B256, BlockJson> =
        blocks.into_iter().map(|block| (block.header.hash_slow(), block)).collect();
    let is_head = |(_, block): &(&B256, &BlockJson)| block.header.number == head;
    let mut next = by_hash.iter().find(is_head).map(|(hash, _)| *hash).ok_or_else(|| {
        DumpError::Inconsistent(format!("its head, block {head}, is not among its blocks"))
    })?;
    let mut chain: Vec<ChainBlock> = Vec::new();
    while let Some(block) = by_hash.remove(&next) {
        let number = block.header.number;
        if number > NUMBER_MAX || block.header.timestamp > NUMBER_MAX {
            let reason = format!("block {number} has a number or a time above {NUMBER_MAX}");
            return Err(DumpError::Inconsistent(reason));
        }
        if let Some(child) = chain.last()
            && number.checked_add(1) != Some(child.number())
        {
            let child = child.number();
            let reason = format!("block {number} is the parent of block {child}");
            return Err(DumpError::Inconsistent(reason));
        }
        let parent = block.header.parent_hash;
        chain.push(with_receipts(next, block, &mut receipts)?);
        next = parent;
    }
    if !by_hash.is_empty() {
        tracing::info!(blocks = by_hash.len(), "the dump has blocks that are not on its chain");
    }
    chain.reverse();
    Ok(chain)
}

fn with_receipts(
    hash: B256,
    block: BlockJson,
    receipts: &mut HashMap<(B256, usize), Receipt>,
) -> Result<ChainBlock, DumpError> {
    let number = block.header.number;
    let mut transactions = Vec::with_capacity(block.transactions.len());
    let mut gas_before = 0;
    let mut given: Vec<Receipt> = Vec::with_capacity(block.transactions.len());
    for (index, tx) in block.transactions.into_iter().enumerate() {
        let sender = match tx.impersonated_sender {
            Some(sender) => sender,
            None => tx.transaction.recover_signer_unchecked().map_err(|_| {
                DumpError::Inconsistent(format!(
                    "transaction {index} of block {number} has a signature that belongs to nobody"
                ))
            })?,
        };
        let receipt = receipts.remove(&(hash, index)).ok_or_else(|| {
            DumpError::Inconsistent(format!("transaction {index} of block {number} has no receipt"))
        })?;
        if receipt.cumulative_gas_used() < gas_before {
            return Err(DumpError::Inconsistent(format!(
                "up to transaction {index} of block {number} less gas is used than before it"
            )));
        }
        gas_before = receipt.cumulative_gas_used();
        given.push(receipt);
        transactions.push(RecoveredTransaction::new_unchecked(tx.transaction, sender));
    }
    // Anvil leaves the list out where the header has its root.
    let withdrawals = block.header.withdrawals_root.map(|_| block.withdrawals.unwrap_or_default());
    let header = Sealed::new_unchecked(block.header, hash);
    Ok(ChainBlock::new(header, transactions, block.ommers, withdrawals, given, U256::ZERO))
}

fn wrong(path: String, error: &serde_json::Error) -> DumpError {
    let mut reason = error.to_string();
    if reason.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or_default());
        reason.push('…');
    }
    DumpError::Json { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const SMALL: &str = r#"{"accounts": {"0x00000000000000000000000000000000000000aa":
        {"nonce": 1, "balance": "0x5", "code": "0x00", "storage": {"0x1": "0x0000000000000000000000000000000000000000000000000000000000000007"}}}}"#;

    #[test]
    fn a_dump_may_be_gzipped_and_may_lack_blocks() {
        for bytes in [SMALL.as_bytes().to_vec(), gzipped(SMALL.as_bytes())] {
            let dump = Dump::parse(&bytes).unwrap();
            assert_eq!((dump.head(), dump.accounts.len()), (None, 1));
            let account = dump.accounts.values().next().unwrap();
            assert_eq!(
                (account.state.nonce, &account.slots),
                (1, &vec![(U256::from(1), U256::from(7))])
            );
        }
    }

    #[test]
    fn what_is_cut_off_or_wrong_is_refused_with_the_place() {
        let whole = gzipped(SMALL.as_bytes());
        for length in 3..whole.len() {
            let error = Dump::parse(&whole[..length]).unwrap_err().to_string();
            assert!(error.contains("damaged or cut off"), "{length}: {error}");
        }
        for length in 0..SMALL.len() {
            assert!(Dump::parse(&SMALL.as_bytes()[..length]).is_err(), "{length}");
        }
        for (json, says) in [
            ("[]", "the state dump is wrong at ."),
            (r#"{"block": {"number": "0x1"}}"#, "missing field `accounts`"),
            (&SMALL.replace("0x5", "0xgg"), "accounts.0x00000000000000000000000000000000000000aa.balance"),
            (&SMALL.replace("0x00\"", "0xef0100\""), "accounts.0x00000000000000000000000000000000000000AA.code"),
            (&format!("{SMALL} x"), "wrong at the end"),
            (
                &SMALL.replacen('{', r#"{"best_block_number": 7, "blocks": [{"header": HEADER, "transactions": []}], "#, 1)
                    .replace("HEADER", &serde_json::to_string(&alloy_consensus::Header::default()).unwrap()),
                "its head, block 7, is not among its blocks",
            ),
        ] {
            let error = Dump::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_small_file_that_would_become_a_huge_one_is_refused() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let megabyte = vec![b' '; 1 << 20];
        for _ in 0..(JSON_BYTES_MAX >> 20) + 1 {
            encoder.write_all(&megabyte).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(Dump::parse(&bomb), Err(DumpError::TooLarge { .. })));
    }
}

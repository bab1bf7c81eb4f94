//! States page by page: `debug_storageRangeAt`, `debug_accountRange` and `debug_dumpBlock`, in geth's forms and in its
//! order, which is that of the hashes.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, hex, keccak256};
use base64::{Engine, prelude::BASE64_STANDARD};
use heddle_chain::{BlockRules, Scratch};
use heddle_trie::EMPTY_ROOT_HASH;
use revm::DatabaseRef;
use serde::Serialize;

use crate::{
    context::Context,
    errors::Failure,
    params::{Args, BlockNumber, BlockParam, Number},
    trace::{Options, Replay},
    watch::Deadline,
};

/// Most accounts on a page, as in geth.
const ACCOUNTS_MAX: usize = 256;
/// Most slots on a page of `debug_storageRangeAt`; geth has no limit.
const SLOTS_MAX: usize = 1_024;
/// Most slots of all accounts on a page together. An answer with as many is about 16 MB.
const DUMPED_SLOTS_MAX: usize = 100_000;

/// Where a page begins: a hash, or the beginning of one.
fn start(key: &Bytes) -> Result<B256, Failure> {
    if key.len() > 32 {
        return Err(Failure::params("the start key is longer than a hash"));
    }
    Ok(B256::right_padding_from(key))
}

/// A fork's state is not here as a whole.
fn check_whole(scratch: &Scratch) -> Result<(), Failure> {
    if scratch.has_root() {
        return Ok(());
    }
    Err(Failure::server("the state of a fork is not known as a whole; it cannot be paged through"))
}

/// What `debug_storageRangeAt` is asked for.
#[derive(Debug)]
pub(crate) struct StorageRange {
    block: BlockParam,
    index: usize,
    address: Address,
    start: B256,
    max: usize,
}

impl StorageRange {
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        let size = |number: Number| usize::try_from(number.0).unwrap_or(usize::MAX);
        Ok(Self {
            block: args.required()?,
            index: size(args.required()?),
            address: args.required()?,
            start: start(&args.required()?)?,
            max: size(args.required()?).min(SLOTS_MAX),
        })
    }
}

/// What `debug_storageRangeAt` answers.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoragePage {
    /// As in geth, null where the account has no storage at all.
    storage: Option<BTreeMap<B256, StorageEntry>>,
    next_key: Option<B256>,
}

/// A slot, and the value in it.
#[derive(Clone, Debug, Serialize)]
struct StorageEntry {
    key: Option<B256>,
    value: B256,
}

/// `debug_storageRangeAt`: the storage that the transaction with this index in the block met.
pub(crate) fn storage_range(
    context: &Context,
    request: &StorageRange,
) -> Result<StoragePage, Failure> {
    let &StorageRange { block, index, address, start, max } = request;
    if block == BlockParam::Pending {
        return Err(Failure::server("pending state is not available"));
    }
    let block = context.block(block)?;
    let block = block.ok_or_else(|| Failure::server("block not found"))?;
    if block.number() == 0 {
        return Err(Failure::server("no transaction in genesis"));
    }
    // The first index stands for the beginning of a block without transactions too.
    if index > 0 && index >= block.transactions.len() {
        return Err(Failure::server(format!(
            "transaction index {index} out of range for block {}",
            block.hash()
        )));
    }
    let deadline = Deadline::new(context.limits.trace_time_max);
    let mut scratch = context.chain.scratch_before(&block)?;
    check_whole(&scratch)?;
    let rules = BlockRules::of(context.chain.spec(), &block.header);
    let mut replay = Replay::begin(&context.chain, &rules, &block)?;
    replay.skip_to(index, &Options::default().guard(&context.limits))?;
    let changes = replay.changes()?;
    let written: Vec<U256> = changes
        .accounts
        .get(&address)
        .map(|account| account.storage.keys().copied().collect())
        .unwrap_or_default();
    scratch.apply(changes)?;

    let hashed = keccak256(address);
    if scratch.slots_from(hashed, B256::ZERO, 1)?.is_empty() {
        return Ok(StoragePage::default());
    }
    let mut found = scratch.slots_from(hashed, start, max + 1)?;
    let next_key = found.get(max).map(|(hash, _)| *hash);
    found.truncate(max);
    let mut names =
        scratch.slots_of::<Failure>(address, found.iter().map(|(hash, _)| *hash), || {
            deadline.check()
        })?;
    // What the block wrote and took back again is in no table.
    names.extend(written.into_iter().map(|slot| (keccak256(slot.to_be_bytes::<32>()), slot)));
    let entry = |(hash, value): (B256, U256)| {
        let key = names.get(&hash).map(|slot| B256::from(*slot));
        (hash, StorageEntry { key, value: value.into() })
    };
    Ok(StoragePage { storage: Some(found.into_iter().map(entry).collect()), next_key })
}

/// What `debug_accountRange` is asked for.
#[derive(Debug)]
pub(crate) struct AccountRange {
    block: BlockParam,
    start: B256,
    max: usize,
    without_code: bool,
    without_storage: bool,
}

impl AccountRange {
    pub(crate) fn parse(args: &mut Args<'_>) -> Result<Self, Failure> {
        let request = Self {
            block: args.required()?,
            start: start(&args.or(Bytes::new())?)?,
            max: match args.or(Number(0))?.0 {
                max @ 1..=256 => max as usize,
                _ => ACCOUNTS_MAX,
            },
            without_code: args.or(false)?,
            without_storage: args.or(false)?,
        };
        // Whether to list accounts whose address is not known. It always is.
        let _: Option<bool> = args.optional()?;
        Ok(request)
    }

    /// What `debug_dumpBlock` is: the first page, with everything.
    pub(crate) fn parse_dump(args: &mut Args<'_>) -> Result<Self, Failure> {
        let block = args.required::<BlockNumber>()?.0;
        let (without_code, without_storage) = (false, false);
        Ok(Self { block, start: B256::ZERO, max: ACCOUNTS_MAX, without_code, without_storage })
    }
}

/// A page of the state, as geth dumps it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Dump {
    /// The state root, without 0x.
    root: String,
    accounts: BTreeMap<String, DumpedAccount>,
    /// The hashed address that the next page begins with, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DumpedAccount {
    /// Decimal.
    balance: String,
    nonce: u64,
    root: B256,
    code_hash: B256,
    #[serde(skip_serializing_if = "is_empty")]
    code: Bytes,
    /// Values without 0x and leading zeros.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    storage: BTreeMap<B256, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    /// The hashed address.
    key: B256,
}

fn is_empty(code: &Bytes) -> bool {
    code.is_empty()
}

/// `debug_accountRange`, `debug_dumpBlock`.
pub(crate) fn account_range(context: &Context, request: &AccountRange) -> Result<Dump, Failure> {
    if request.block == BlockParam::Pending {
        return Err(Failure::server("pending state is not available"));
    }
    let deadline = Deadline::new(context.limits.trace_time_max);
    let scratch = context.chain.scratch_at(context.known_number(request.block)?)?;
    check_whole(&scratch)?;
    let mut page = scratch.accounts_from(request.start, request.max + 1)?;
    let next = page.get(request.max).map(|(hash, _)| BASE64_STANDARD.encode(hash));
    page.truncate(request.max);
    let names =
        scratch.addresses_of::<Failure>(page.iter().map(|(hash, _)| *hash), || deadline.check())?;

    let mut accounts = BTreeMap::new();
    let mut slots_left = DUMPED_SLOTS_MAX;
    for (hash, account) in page {
        deadline.check()?;
        let address = names.get(&hash).copied();
        let code = if request.without_code || account.code_hash == KECCAK256_EMPTY {
            Bytes::new()
        } else {
            scratch.state().code_by_hash_ref(account.code_hash)?.original_bytes()
        };
        let storage = match address {
            Some(address)
                if !request.without_storage && account.storage_root != EMPTY_ROOT_HASH =>
            {
                let storage = whole_storage(&scratch, address, slots_left, deadline)?;
                slots_left -= storage.len();
                storage
            }
            _ => BTreeMap::new(),
        };
        let dumped = DumpedAccount {
            balance: account.balance.to_string(),
            nonce: account.nonce,
            root: account.storage_root,
            code_hash: account.code_hash,
            code,
            storage,
            address,
            key: hash,
        };
        let name = address.map_or_else(|| format!("pre({hash})"), |address| address.to_string());
        accounts.insert(name, dumped);
    }
    Ok(Dump { root: hex::encode(scratch.root()?), accounts, next })
}

fn whole_storage(
    scratch: &Scratch,
    address: Address,
    most: usize,
    deadline: Deadline,
) -> Result<BTreeMap<B256, String>, Failure> {
    let found = scratch.slots_from(keccak256(address), B256::ZERO, most + 1)?;
    if found.len() > most {
        return Err(Failure::Limit(format!(
            "the accounts have more than {DUMPED_SLOTS_MAX} slots; leave out their storage, ask for fewer, or use debug_storageRangeAt"
        )));
    }
    let names =
        scratch.slots_of::<Failure>(address, found.iter().map(|(hash, _)| *hash), || {
            deadline.check()
        })?;
    let value = |value: U256| hex::encode(value.to_be_bytes_trimmed_vec());
    let named = found.into_iter().filter_map(|(hash, content)| {
        names.get(&hash).map(|slot| (B256::from(*slot), value(content)))
    });
    Ok(named.collect())
}

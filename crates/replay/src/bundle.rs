//! Bundles: one historical block with its full pre-state, self-contained.

use crate::{
    FlatState, ReplayError,
    prestate::AccountJson,
    quantity::{Quantity, Quantity64},
    transaction_json::{BundledTransaction, TransactionJson},
};
use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Most bytes of JSON in one bundle, after decompression. The largest mainnet blocks need about
/// 10 MB; a block that fills today's gas limit with nothing but cold code needs about 400 MB.
pub const BUNDLE_BYTES_MAX: u64 = 512 << 20;

/// The first two bytes of every gzip file (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The longest message about a wrong value, in characters: the parser repeats the value.
const REASON_CHARACTERS_MAX: usize = 300;

/// One historical block with its full pre-state.
#[derive(Debug)]
pub struct Bundle {
    /// Where it was read from.
    pub path: PathBuf,
    /// The chain it belongs to (EIP-155).
    pub chain_id: u64,
    /// The block's header.
    pub header: Header,
    /// The block's hash, as the bundle gives it.
    pub hash: Option<B256>,
    /// Transactions in block order.
    pub transactions: Vec<BundledTransaction>,
    /// Hashes of the ommers. Their headers are not in a bundle, so their rewards, which no
    /// receipt shows, cannot be paid.
    pub ommers: Vec<B256>,
    /// Withdrawals (EIP-4895); `None` before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// The state before the block, and the hashes for `BLOCKHASH`.
    pub state: FlatState,
    /// What a node says each transaction did; optional, and only for naming the first one that
    /// turned out otherwise.
    pub receipts: Option<Vec<BundledReceipt>>,
}

/// The parts of a receipt that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledReceipt {
    /// Gas of the block up to and including the transaction.
    pub cumulative_gas_used: u64,
    /// Whether it succeeded; `None` before Byzantium.
    pub success: Option<bool>,
    /// Bloom of its logs.
    pub logs_bloom: Option<Bloom>,
}

impl Bundle {
    /// Reads a bundle, gzipped or not.
    ///
    /// # Errors
    /// With the file, and the JSON path in it, of what is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ReplayError> {
        let path = path.as_ref();
        let json = read_json(path)?;
        Self::parse(path, &json)
    }

    /// Reads a bundle from the text of one; `path` is its name in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: impl Into<PathBuf>, json: &[u8]) -> Result<Self, ReplayError> {
        let path = path.into();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let invalid = |at: String, reason: String| {
            let reason = shorten(&reason);
            ReplayError::Invalid { path: path.clone(), at, reason }
        };
        let file: BundleJson =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
                let at = match error.path().to_string() {
                    root if root == "." => "$".to_owned(),
                    at => at,
                };
                invalid(at, error.into_inner().to_string())
            })?;
        deserializer.end().map_err(|error| invalid("$".to_owned(), error.to_string()))?;
        let (header, block) = file.block.split();
        let mut transactions = Vec::with_capacity(block.transactions.len());
        for (index, transaction) in block.transactions.into_iter().enumerate() {
            transactions.push(transaction.into_transaction().map_err(|(field, reason)| {
                invalid(format!("block.transactions[{index}].{field}"), reason)
            })?);
        }
        let block_hashes = file.block_hashes.into_iter().map(|(number, hash)| (number.0, hash));
        let state = FlatState::new(&header, file.prestate, block_hashes)
            .map_err(|(address, reason)| invalid(format!("prestate.{address}.code"), reason))?;
        let receipts = file.receipts.map(|receipts| receipts.into_iter().map(Into::into).collect());
        Ok(Self {
            path,
            chain_id: file.chain_id.0,
            header,
            hash: block.hash,
            transactions,
            ommers: block.uncles,
            withdrawals: block
                .withdrawals
                .map(|withdrawals| withdrawals.into_iter().map(Into::into).collect()),
            state,
            receipts,
        })
    }
}

/// The bundles that these files and directories mean: a file is one, of a directory every
/// `.json` and `.json.gz` directly in it, by block number where that is its name.
///
/// # Errors
/// For what cannot be read, and for a directory without bundles.
pub fn find_bundles<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<PathBuf>, ReplayError> {
    let mut bundles = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        let read_error = |source| ReplayError::Read { path: path.to_owned(), source };
        if !std::fs::metadata(path).map_err(read_error)?.is_dir() {
            bundles.push(path.to_owned());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(read_error)? {
            let entry = entry.map_err(read_error)?.path();
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".json") || name.ends_with(".json.gz") {
                let number = name.split('.').next().and_then(|stem| stem.parse::<u64>().ok());
                inside.push((number.unwrap_or(u64::MAX), entry));
            }
        }
        if inside.is_empty() {
            return Err(ReplayError::NoBundle { path: path.to_owned() });
        }
        inside.sort();
        bundles.extend(inside.into_iter().map(|(_, path)| path));
    }
    Ok(bundles)
}

fn read_json(path: &Path) -> Result<Vec<u8>, ReplayError> {
    let read_error = |source: io::Error| ReplayError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(read_error)?);
    let compressed = file.fill_buf().map_err(read_error)?.starts_with(&GZIP_MAGIC);
    let mut json = Vec::new();
    // One byte more than allowed tells a bundle that is too large from one that just fits.
    let limit = BUNDLE_BYTES_MAX + 1;
    let read = if compressed {
        MultiGzDecoder::new(file).take(limit).read_to_end(&mut json)
    } else {
        file.take(limit).read_to_end(&mut json)
    };
    match read {
        Err(error) => Err(read_error(error)),
        Ok(count) if count as u64 == limit => {
            Err(ReplayError::TooLarge { path: path.to_owned(), limit_bytes: BUNDLE_BYTES_MAX })
        }
        Ok(_) => Ok(json),
    }
}

/// Leaves the middle out of a message that is too long; its ends say what is wrong and where.
fn shorten(reason: &str) -> String {
    let count = reason.chars().count();
    if count <= REASON_CHARACTERS_MAX {
        return reason.to_owned();
    }
    let half = REASON_CHARACTERS_MAX / 2;
    let start = reason.chars().take(half);
    start.chain(" … ".chars()).chain(reason.chars().skip(count - half)).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a bundle: chainId, block, prestate, blockHashes")]
struct BundleJson {
    chain_id: Quantity64,
    block: BlockJson,
    prestate: BTreeMap<Address, AccountJson>,
    #[serde(default)]
    block_hashes: BTreeMap<Quantity64, B256>,
    receipts: Option<Vec<ReceiptJson>>,
}

/// The block as `eth_getBlockByNumber` gives it. Fields that no replay needs may be missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a block as eth_getBlockByNumber gives it")]
struct BlockJson {
    number: Quantity64,
    hash: Option<B256>,
    parent_hash: B256,
    sha3_uncles: Option<B256>,
    miner: Address,
    #[serde(default)]
    state_root: B256,
    #[serde(default)]
    transactions_root: B256,
    receipts_root: B256,
    logs_bloom: Bloom,
    #[serde(default)]
    difficulty: Quantity,
    gas_limit: Quantity64,
    gas_used: Quantity64,
    timestamp: Quantity64,
    #[serde(default)]
    extra_data: Bytes,
    #[serde(default)]
    mix_hash: B256,
    #[serde(default)]
    nonce: B64,
    base_fee_per_gas: Option<Quantity64>,
    withdrawals_root: Option<B256>,
    blob_gas_used: Option<Quantity64>,
    excess_blob_gas: Option<Quantity64>,
    parent_beacon_block_root: Option<B256>,
    requests_hash: Option<B256>,
    transactions: Vec<TransactionJson>,
    #[serde(default)]
    uncles: Vec<B256>,
    withdrawals: Option<Vec<WithdrawalJson>>,
}

/// What of a block is not its header.
struct Body {
    hash: Option<B256>,
    transactions: Vec<TransactionJson>,
    uncles: Vec<B256>,
    withdrawals: Option<Vec<WithdrawalJson>>,
}

impl BlockJson {
    fn split(self) -> (Header, Body) {
        let header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: self.sha3_uncles.unwrap_or(EMPTY_OMMER_ROOT_HASH),
            beneficiary: self.miner,
            state_root: self.state_root,
            transactions_root: self.transactions_root,
            receipts_root: self.receipts_root,
            logs_bloom: self.logs_bloom,
            difficulty: self.difficulty.0,
            number: self.number.0,
            gas_limit: self.gas_limit.0,
            gas_used: self.gas_used.0,
            timestamp: self.timestamp.0,
            extra_data: self.extra_data,
            mix_hash: self.mix_hash,
            nonce: self.nonce,
            base_fee_per_gas: self.base_fee_per_gas.map(|fee| fee.0),
            withdrawals_root: self.withdrawals_root,
            blob_gas_used: self.blob_gas_used.map(|gas| gas.0),
            excess_blob_gas: self.excess_blob_gas.map(|gas| gas.0),
            parent_beacon_block_root: self.parent_beacon_block_root,
            requests_hash: self.requests_hash,
            ..Default::default()
        };
        let body = Body {
            hash: self.hash,
            transactions: self.transactions,
            uncles: self.uncles,
            withdrawals: self.withdrawals,
        };
        (header, body)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WithdrawalJson {
    index: Quantity64,
    validator_index: Quantity64,
    address: Address,
    amount: Quantity64,
}

impl From<WithdrawalJson> for Withdrawal {
    fn from(json: WithdrawalJson) -> Self {
        Self {
            index: json.index.0,
            validator_index: json.validator_index.0,
            address: json.address,
            amount: json.amount.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson {
    cumulative_gas_used: Quantity64,
    status: Option<Quantity64>,
    logs_bloom: Option<Bloom>,
}

impl From<ReceiptJson> for BundledReceipt {
    fn from(json: ReceiptJson) -> Self {
        Self {
            cumulative_gas_used: json.cumulative_gas_used.0,
            success: json.status.map(|status| status.0 == 1),
            logs_bloom: json.logs_bloom,
        }
    }
}

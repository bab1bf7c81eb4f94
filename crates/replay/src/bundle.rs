//! Bundles: one historical block with its full pre-state, self-contained.

use crate::{
    FlatState, Prestate, ReplayError,
    block_json::{BlockJson, HeaderJson},
    quantity::{Quantity64, or_default},
    transaction_json::BundledTransaction,
};
use alloy_consensus::{Header, proofs::calculate_ommers_root};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{B256, Bloom};
use flate2::read::MultiGzDecoder;
use heddle_chainspec::{ChainConfig, ChainSpec, GAS_LIMIT_MIN, Genesis};
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
    /// Hashes of the ommers.
    pub ommers: Vec<B256>,
    /// The ommers' headers, where the bundle has them. Their rewards, which no receipt shows,
    /// cannot be paid without.
    pub ommer_headers: Option<Vec<Header>>,
    /// Withdrawals (EIP-4895); `None` before Shanghai.
    pub withdrawals: Option<Vec<Withdrawal>>,
    /// The state before the block, and the hashes for `BLOCKHASH`.
    pub state: FlatState,
    /// What a node says each transaction did; optional, and only for naming the first one that
    /// turned out otherwise.
    pub receipts: Option<Vec<BundledReceipt>>,
    /// The rules of its chain, where the bundle brings them with it.
    pub spec: Option<ChainSpec>,
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
        let (HeaderJson { header, hash, names_ommers }, body) = file.block.split();
        let given = body.transactions.ok_or_else(|| {
            invalid("block.transactions".to_owned(), "they are missing".to_owned())
        })?;
        let mut transactions = Vec::with_capacity(given.len());
        for (index, transaction) in given.into_iter().enumerate() {
            transactions.push(transaction.into_transaction().map_err(|(field, reason)| {
                invalid(format!("block.transactions[{index}].{field}"), reason)
            })?);
        }
        let ommer_headers =
            file.uncles.map(|ommers| read_ommers(ommers, names_ommers.then_some(&header)));
        let ommer_headers =
            ommer_headers.transpose().map_err(|reason| invalid("uncles".to_owned(), reason))?;
        let block_hashes = file.block_hashes.into_iter().map(|(number, hash)| (number.0, hash));
        let state = FlatState::new(&header, &file.prestate, block_hashes)
            .map_err(|(address, reason)| invalid(format!("prestate.{address}.code"), reason))?;
        let chain_id = file.chain_id.0;
        let spec = file.config.map(|config| read_rules(config, chain_id));
        let spec = spec.transpose().map_err(|reason| invalid("config".to_owned(), reason))?;
        let receipts = file.receipts.map(|receipts| receipts.into_iter().map(Into::into).collect());
        Ok(Self {
            path,
            chain_id,
            header,
            hash,
            transactions,
            ommers: body.uncles,
            ommer_headers,
            withdrawals: body.withdrawals,
            state,
            receipts,
            spec,
        })
    }
}

/// The headers of ommers; they must be those that `header` commits to.
fn read_ommers(ommers: Vec<BlockJson>, header: Option<&Header>) -> Result<Vec<Header>, String> {
    let ommers: Vec<Header> = ommers.into_iter().map(|ommer| ommer.split().0.header).collect();
    let root = calculate_ommers_root(&ommers);
    match header.map(|header| header.ommers_hash).filter(|given| *given != root) {
        Some(given) => Err(format!("they hash to {root}, but block.sha3Uncles is {given}")),
        None => Ok(ommers),
    }
}

/// The rules that a bundle brings with it. They need nothing of a genesis block but its
/// configuration.
fn read_rules(config: ChainConfig, chain_id: u64) -> Result<ChainSpec, String> {
    if config.chain_id != chain_id {
        return Err(format!("its chainId is {}, but the bundle's is {chain_id}", config.chain_id));
    }
    let genesis = Genesis { config, gas_limit: GAS_LIMIT_MIN, ..Default::default() };
    ChainSpec::from_genesis(genesis).map_err(|error| error.to_string())
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
pub(crate) fn shorten(reason: &str) -> String {
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
    /// As in a genesis file.
    config: Option<ChainConfig>,
    block: BlockJson,
    uncles: Option<Vec<BlockJson>>,
    prestate: Prestate,
    #[serde(default, deserialize_with = "or_default")]
    block_hashes: BTreeMap<Quantity64, B256>,
    receipts: Option<Vec<ReceiptJson>>,
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

//! Writing bundles.

use crate::{Bundle, Prestate, ReplayError};
use alloy_primitives::B256;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// A bundle to be written: a [`Bundle`] in the words of nodes and tracers, whole.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleFile {
    /// EIP-155.
    pub chain_id: u64,
    /// The `config` of the chain's genesis file, for chains whose rules are not built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// What `eth_getBlockByNumber` gives, with full transactions.
    pub block: Value,
    /// What `eth_getUncleByBlockNumberAndIndex` gives, for each ommer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncles: Vec<Value>,
    /// The state before the block.
    pub prestate: Prestate,
    /// Hashes that `BLOCKHASH` may ask for, by block number.
    pub block_hashes: BTreeMap<u64, B256>,
    /// `cumulativeGasUsed`, `status` and `logsBloom` of each receipt; they name the first
    /// transaction that turns out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Vec<Value>>,
}

/// Where the bundle of a block is in a directory.
pub fn bundle_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.json.gz"))
}

impl BundleFile {
    /// The bundle, as if it had been read from `path`.
    ///
    /// # Errors
    /// If its parts are not those of a bundle.
    pub fn to_bundle(&self, path: impl Into<PathBuf>) -> Result<Bundle, ReplayError> {
        let path = path.into();
        let json = serde_json::to_vec(self).map_err(|error| ReplayError::Write {
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        Bundle::parse(path, &json)
    }

    /// Writes the bundle, gzipped. By way of a second file, so that whatever happens meanwhile
    /// there is never half a bundle under this name.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ReplayError> {
        let unfinished = path.with_extension("unfinished");
        let written = self.write_to(&unfinished).and_then(|()| fs::rename(&unfinished, path));
        written.map_err(|source| ReplayError::Write { path: path.to_owned(), source })
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut compressed = GzEncoder::new(file, Compression::default());
        serde_json::to_writer(&mut compressed, self)?;
        compressed.finish()?.flush()
    }
}

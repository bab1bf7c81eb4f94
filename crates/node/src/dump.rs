//! State dumps in files.

use crate::NodeError;
use heddle_builder::Miner;
use heddle_chain::Chain;
use heddle_dump::{Dump, DumpError, JSON_BYTES_MAX, Loaded};
use std::{
    fs::File,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// The file that a path names: in a directory it is `state.json`, as in Anvil.
fn file_at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("state.json") } else { path.to_owned() }
}

/// Whether there is a dump to load.
pub fn has_dump(path: &Path) -> bool {
    file_at(path).is_file()
}

/// Starts the chain of a new node from a dump.
pub(crate) async fn load(path: &Path, miner: &Miner) -> Result<(), NodeError> {
    let blocks = miner.chain().head().number();
    if blocks > 0 {
        return Err(NodeError::ChainHasBlocks { blocks });
    }
    let path = file_at(path);
    let in_dump = |error| NodeError::Dump { path: path.clone(), source: Box::new(error) };
    let dump = Dump::parse(&read(&path)?).map_err(in_dump)?;
    let loaded = match dump.onto(miner.chain()).map_err(in_dump)? {
        Loaded::Chain(new) => miner.load(*new).await,
        Loaded::Accounts(dump) => miner.alter(move |state| dump.alter(state)).await,
    };
    loaded.map_err(|error| NodeError::Load(Box::new(error)))?;
    let head = miner.chain().head().number();
    tracing::info!(path = %path.display(), head, "the state dump is loaded");
    Ok(())
}

/// No more of a file than a dump may have.
fn read(path: &Path) -> Result<Vec<u8>, NodeError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| NodeError::DumpFile { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Writes the chain into a file; by way of a second one, so that an interruption leaves the old one.
pub(crate) fn write(chain: &Chain, path: &Path) -> Result<PathBuf, NodeError> {
    let path = file_at(path);
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let write = || -> Result<(), DumpError> {
        let mut file = BufWriter::new(File::create(&unfinished)?);
        heddle_dump::write_json(chain, &mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(std::fs::rename(&unfinished, &path)?)
    };
    write().map_err(|error| NodeError::Dump { path: path.clone(), source: Box::new(error) })?;
    Ok(path)
}

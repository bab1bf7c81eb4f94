//! What was read, on disk, so that the next start need not ask again.
//!
//! One file for each block that was forked: a line that says which, then a line for each record: a checksum and JSON.
//! Lines are only ever added. A last line without its end was being written when the process died, and is dropped;
//! anything else that does not read is damage, and the file is set aside.

use crate::RemoteError;
use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// How large a file becomes: some two million slots.
pub const CACHE_FILE_BYTES_MAX: u64 = 256 << 20;

/// How large all files together become, before those that were not used for longest are deleted.
pub const CACHE_BYTES_MAX: u64 = 1 << 30;

/// The layout of the file; another one is not read.
const VERSION: u32 = 1;

/// Hex digits of a line's checksum, and the space after them.
const CHECKSUM: usize = 9;

/// Something that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Record {
    #[serde(rename_all = "camelCase")]
    Account {
        address: Address,
        balance: U256,
        nonce: u64,
        code_hash: B256,
    },
    Code(Bytes),
    Slot(Address, U256, U256),
    BlockHash(u64, B256),
}

/// What the first line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Title {
    heddle_fork_cache: u32,
    chain_id: u64,
    number: u64,
    hash: B256,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct CacheFile {
    path: PathBuf,
    /// `None` once nothing more is to be written.
    file: Mutex<Option<(File, u64)>>,
}

/// A file's name for the block, below the directory.
fn path_of(directory: &Path, (chain_id, number, hash): (u64, u64, B256)) -> PathBuf {
    directory.join(chain_id.to_string()).join(format!("{number}-{hash:#x}.jsonl"))
}

fn checksum(json: &str) -> String {
    hex::encode(&keccak256(json)[..(CHECKSUM - 1) / 2])
}

fn line(json: &str) -> String {
    format!("{} {json}\n", checksum(json))
}

/// The JSON of a line, if its checksum is right.
fn json_of(line: &str) -> Option<&str> {
    let (sum, json) = line.split_at_checked(CHECKSUM)?;
    (sum.trim_end_matches(' ') == checksum(json)).then_some(json)
}

impl CacheFile {
    /// Opens or makes the file for a block; what it holds.
    ///
    /// # Errors
    /// If the directory or the file cannot be used.
    pub(crate) fn open(
        directory: &Path,
        block: (u64, u64, B256),
    ) -> Result<(Self, Vec<Record>), RemoteError> {
        let path = path_of(directory, block);
        let failed =
            |source: io::Error| RemoteError::Cache { path: path.clone(), source: Arc::new(source) };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        make_room(directory, &path);
        let (chain_id, number, hash) = block;
        let title = Title { heddle_fork_cache: VERSION, chain_id, number, hash };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(&path).map_err(failed)?;
        let is_ours = file.try_lock().is_ok();
        if !is_ours {
            tracing::info!(path = %path.display(), "another process writes this fork cache; it is only read");
        }
        let read = match read(&mut file, &title).map_err(failed)? {
            Ok(read) => read,
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "the fork cache is damaged; it is set aside, and all is read anew");
                let aside = path.with_extension("damaged");
                if is_ours {
                    fs::rename(&path, aside).map_err(failed)?;
                    file = options.open(&path).map_err(failed)?;
                    file.lock().map_err(failed)?;
                }
                Whole::default()
            }
        };
        let mut length = read.bytes;
        if is_ours {
            // Only a line that was being written, or nothing.
            file.set_len(length).map_err(failed)?;
            let now = SystemTime::now();
            // For telling what was not used for long; without it, that is told by writing.
            let _ = file.set_modified(now);
            if length == 0 {
                let first = line(&serde_json::to_string(&title).map_err(|e| failed(e.into()))?);
                file.write_all(first.as_bytes()).map_err(failed)?;
                length = first.len() as u64;
            }
        }
        let open = is_ours.then_some((file, length));
        Ok((Self { path, file: Mutex::new(open) }, read.records))
    }

    /// Adds records; when that fails, no more are added, and the log says so.
    pub(crate) fn append(&self, records: &[Record]) {
        let mut file = self.file.lock();
        let Some((open, length)) = &mut *file else { return };
        let mut lines = String::new();
        for record in records {
            match serde_json::to_string(record) {
                Ok(json) => lines.push_str(&line(&json)),
                Err(error) => unreachable!("a record has only what JSON can say: {error}"),
            }
        }
        *length += lines.len() as u64;
        let (full, max) = (*length > CACHE_FILE_BYTES_MAX, CACHE_FILE_BYTES_MAX);
        if full {
            tracing::warn!(path = %self.path.display(), max, "the fork cache is full; what is read from now on is not kept");
        } else if let Err(error) = open.write_all(lines.as_bytes()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the fork cache; what is read from now on is not kept");
        } else {
            return;
        }
        *file = None;
    }
}

/// What a file holds, and how many bytes of it are whole lines.
#[derive(Default)]
struct Whole {
    records: Vec<Record>,
    bytes: u64,
}

/// Reads a file; the inner error says what is wrong with it.
fn read(file: &mut File, title: &Title) -> io::Result<Result<Whole, String>> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(CACHE_FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    text.truncate(end);
    let Ok(text) = String::from_utf8(text) else {
        return Ok(Err("it is no text".to_owned()));
    };
    let mut lines = text.lines().enumerate();
    let Some((_, first)) = lines.next() else { return Ok(Ok(Whole::default())) };
    let found = json_of(first).and_then(|json| serde_json::from_str::<Title>(json).ok());
    if found.as_ref() != Some(title) {
        return Ok(Err("its first line does not name this block".to_owned()));
    }
    let mut records = Vec::new();
    for (index, text) in lines {
        match json_of(text).and_then(|json| serde_json::from_str(json).ok()) {
            Some(record) => records.push(record),
            None => return Ok(Err(format!("line {} is damaged", index + 1))),
        }
    }
    Ok(Ok(Whole { records, bytes: end as u64 }))
}

/// Deletes the files that were not used for longest, until there is room for one more.
fn make_room(directory: &Path, keep: &Path) {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries(directory)
        .flat_map(|chain| entries(&chain.path()).collect::<Vec<_>>())
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    files.sort_unstable();
    let mut together: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if together + CACHE_FILE_BYTES_MAX <= CACHE_BYTES_MAX {
            return;
        }
        if path != keep && fs::remove_file(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed an old fork cache");
            together -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: (u64, u64, B256) = (4_242, 7, B256::repeat_byte(1));

    fn records() -> Vec<Record> {
        let address = Address::repeat_byte(2);
        vec![
            Record::Account {
                address,
                balance: U256::MAX,
                nonce: 3,
                code_hash: B256::repeat_byte(4),
            },
            Record::Code(Bytes::from_static(&[0xef, 1, 0])),
            Record::Slot(address, U256::from(5), U256::MAX),
            Record::BlockHash(6, B256::repeat_byte(7)),
        ]
    }

    #[test]
    fn records_are_there_again_and_a_line_that_was_cut_off_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (file, found) = CacheFile::open(directory.path(), BLOCK).unwrap();
        assert_eq!(found, []);
        file.append(&records()[..2]);
        file.append(&records()[2..]);
        drop(file);
        let path = path_of(directory.path(), BLOCK);
        let whole = fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for length in [whole.len(), whole.len() - 1, last + 3, last] {
            fs::write(&path, &whole[..length]).unwrap();
            let (file, found) = CacheFile::open(directory.path(), BLOCK).unwrap();
            let kept = if length == whole.len() { 4 } else { 3 };
            assert_eq!(found, records()[..kept], "{length}");
            file.append(&records()[kept..]);
            drop(file);
            assert_eq!(fs::read(&path).unwrap(), whole, "{length}");
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside_whatever_byte_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (file, _) = CacheFile::open(directory.path(), BLOCK).unwrap();
        file.append(&records());
        drop(file);
        let path = path_of(directory.path(), BLOCK);
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len() - 1).step_by(7) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x21;
            fs::write(&path, &damaged).unwrap();
            let (_, found) = CacheFile::open(directory.path(), BLOCK).unwrap();
            assert_eq!(found, [], "byte {place}");
            assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), damaged);
        }
    }

    #[test]
    fn a_second_process_reads_and_does_not_write() {
        let directory = tempfile::tempdir().unwrap();
        let (first, _) = CacheFile::open(directory.path(), BLOCK).unwrap();
        first.append(&records()[..1]);
        let (second, found) = CacheFile::open(directory.path(), BLOCK).unwrap();
        assert_eq!(found, records()[..1]);
        second.append(&records()[1..2]);
        first.append(&records()[2..3]);
        drop((first, second));
        let (_, found) = CacheFile::open(directory.path(), BLOCK).unwrap();
        assert_eq!(found, [&records()[..1], &records()[2..3]].concat());
    }

    #[test]
    fn the_oldest_files_go_when_there_is_no_room_and_a_full_one_takes_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let other = |number| (4_242, number, B256::repeat_byte(1));
        for number in 1..=5 {
            drop(CacheFile::open(directory.path(), other(number)).unwrap());
            let file =
                OpenOptions::new().write(true).open(path_of(directory.path(), other(number)));
            let file = file.unwrap();
            // Holes take no room on the disk.
            file.set_len(CACHE_FILE_BYTES_MAX).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number))
                .unwrap();
        }
        drop(CacheFile::open(directory.path(), BLOCK).unwrap());
        let exists = |number| path_of(directory.path(), other(number)).exists();
        assert_eq!([1, 2, 3, 4, 5].map(exists), [false, false, true, true, true]);

        let (file, _) = CacheFile::open(directory.path(), BLOCK).unwrap();
        file.file.lock().as_mut().unwrap().1 = CACHE_FILE_BYTES_MAX;
        file.append(&records());
        assert!(file.file.lock().is_none());
        drop(file);
        assert_eq!(CacheFile::open(directory.path(), BLOCK).unwrap().1, []);
    }
}

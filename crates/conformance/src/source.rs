//! Where test files come from: a directory, one file, or an archive that is read as it stands.

use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A test file of JSON.
#[derive(Debug, Clone)]
pub struct TestFile {
    /// Its path below where the search began.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why tests could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct SourceError {
    /// Of the file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Bytes of one test file, after decompression: the largest that there are have some 100 MB.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// All test files below a path: a directory, a JSON file (gzipped or not), or a `.tar.zst` archive.
#[derive(Debug)]
pub struct Suite {
    path: PathBuf,
}

impl Suite {
    /// Names the place; nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Gives each test file to `take`, in order of path or as they are in the archive.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn for_each(&self, take: &mut dyn FnMut(TestFile)) -> Result<(), SourceError> {
        let failed = |source| SourceError { path: self.path.clone(), source };
        if self.path.is_dir() {
            return read_directory(&self.path, &self.path, take);
        }
        if self.path.extension().is_some_and(|extension| extension == "zst") {
            return self.read_archive(take).map_err(failed);
        }
        let bytes = read_file(&self.path, File::open(&self.path).map_err(failed)?);
        let bytes = bytes.map_err(failed)?;
        take(TestFile { path: self.path.file_name().unwrap_or_default().into(), bytes });
        Ok(())
    }

    fn read_archive(&self, take: &mut dyn FnMut(TestFile)) -> io::Result<()> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(&self.path)?)?);
        for entry in archive.entries()? {
            let entry = entry?;
            let path = entry.path()?.into_owned();
            if is_test(&path) {
                let bytes = read_file(&path, entry)?;
                take(TestFile { path, bytes });
            }
        }
        Ok(())
    }
}

fn read_directory(
    root: &Path,
    directory: &Path,
    take: &mut dyn FnMut(TestFile),
) -> Result<(), SourceError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SourceError { path, source }
    };
    let entries = fs::read_dir(directory).map_err(failed(directory))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(directory))?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_directory(root, &path, take)?;
        } else if is_test(&path) {
            let file = File::open(&path).map_err(failed(&path))?;
            let bytes = read_file(&path, file).map_err(failed(&path))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
            take(TestFile { path, bytes });
        }
    }
    Ok(())
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
    let hidden = name.starts_with('.') || name == "index.json";
    !hidden && (name.ends_with(".json") || name.ends_with(".json.gz"))
}

/// The bytes of a file, unpacked if its name says that it is gzipped.
fn read_file(path: &Path, file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let limit = FILE_BYTES_MAX + 1;
    let count = if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).take(limit).read_to_end(&mut bytes)?
    } else {
        file.take(limit).read_to_end(&mut bytes)?
    };
    if count as u64 == limit {
        return Err(io::Error::other(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

//! Keys and certificates on disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::keypair::{InvalidKey, Keypair};

/// The longest file of a key, in bytes.
const KEY_LEN_MAX: u64 = 16 * 1024;

/// The longest file of certificates, in bytes.
const PUBLIC_LEN_MAX: u64 = 8 * 1024 * 1024;

/// Who may read a key: its owner.
const KEY_MODE: u32 = 0o600;

/// Who may read what is public: everybody.
const PUBLIC_MODE: u32 = 0o644;

/// Why a file was not read or written. A file that was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(clippy::module_name_repetitions, reason = "it is used by its name alone")]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot {what}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The system refused to write it.
    #[error("{}: cannot {what}: {source}; what was there before is untouched", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// There is a file already.
    #[error("{}: it is there already, and a key is never overwritten", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others than the owner may read a secret.
    #[error(
        "{}: others may read this secret (mode {mode:04o}); mend it with: chmod 600 {}",
        path.display(), path.display()
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Who may do what, as the system has it.
        mode: u32,
    },
    /// It is no file, but a directory or a device.
    #[error("{}: it is no regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is longer than such a file can be.
    #[error("{}: {len} bytes, at most {max} are read", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        len: u64,
        /// How long it may be.
        max: u64,
    },
    /// It is no text.
    #[error("{}: it is no text in UTF-8", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("{}: {source}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: InvalidKey,
    },
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, what, source }
}

fn unwritten(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Write { path, what, source }
}

/// Writes a key into a new file that only its owner may read.
///
/// # Errors
///
/// [`FileError`]; a file that is there is not overwritten.
pub fn write_key(path: &Path, key: &Keypair) -> Result<(), FileError> {
    let temporary = written(path, key.to_pem().as_bytes(), KEY_MODE)?;
    // A link is made only where nothing is.
    let linked = std::fs::hard_link(&temporary.0, path);
    match linked {
        Ok(()) => settle(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(FileError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(unwritten(path, "create it")(source)),
    }
}

/// Puts a key in the place of another, in one step.
///
/// # Errors
///
/// [`FileError`]; the old key is still there then.
pub fn replace_key(path: &Path, key: &Keypair) -> Result<(), FileError> {
    replace(path, key.to_pem().as_bytes(), KEY_MODE)
}

/// Writes what everybody may read, in one step and in the place of what was there.
///
/// # Errors
///
/// [`FileError`]; what was there still is.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, bytes, PUBLIC_MODE)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = written(path, bytes, mode)?;
    std::fs::rename(&temporary.0, path).map_err(unwritten(path, "replace it"))?;
    settle(path)
}

/// A file beside the one that is meant, which goes away if nothing becomes of it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may have been renamed.
        drop(std::fs::remove_file(&self.0));
    }
}

/// How many files this process has written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes and syncs a file beside the one that is meant.
fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<Temporary, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{number}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let opened = options.open(&beside).or_else(|error| match error.kind() {
        // It is of a process that had the same number, and was killed.
        ErrorKind::AlreadyExists => {
            std::fs::remove_file(&beside).and_then(|()| options.open(&beside))
        }
        _ => Err(error),
    });
    let mut file = opened.map_err(unwritten(path, "write beside it"))?;
    let temporary = Temporary(beside);
    // The process may mask modes; these are meant as they are.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .map_err(unwritten(path, "write beside it"))?;
    Ok(temporary)
}

/// Makes the name of a file as durable as its bytes.
fn settle(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let folder = File::open(folder).map_err(io(path, "open its folder"))?;
    folder.sync_all().map_err(io(path, "sync its folder"))
}

/// Reads a key that nobody but its owner may read.
///
/// # Errors
///
/// [`FileError`].
pub fn read_key(path: &Path) -> Result<Keypair, FileError> {
    let text = read_secret(path)?;
    Keypair::from_pem(&text).map_err(|source| FileError::Key { path: path.to_owned(), source })
}

/// Reads a text that nobody but its owner may read.
///
/// # Errors
///
/// [`FileError`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let (file, mode) = opened(path, KEY_LEN_MAX)?;
    if mode & 0o077 != 0 {
        return Err(FileError::Mode { path: path.to_owned(), mode });
    }
    text(path, file, KEY_LEN_MAX).map(Zeroizing::new)
}

/// Reads a text that everybody may read.
///
/// # Errors
///
/// [`FileError`].
pub fn read_public(path: &Path) -> Result<String, FileError> {
    let (file, _mode) = opened(path, PUBLIC_LEN_MAX)?;
    text(path, file, PUBLIC_LEN_MAX)
}

fn opened(path: &Path, max: u64) -> Result<(File, u32), FileError> {
    let file = File::open(path).map_err(io(path, "open it"))?;
    let metadata = file.metadata().map_err(io(path, "look at it"))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > max {
        return Err(FileError::TooLong { path: path.to_owned(), len: metadata.len(), max });
    }
    Ok((file, metadata.mode() & 0o7777))
}

fn text(path: &Path, file: File, max: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).map_err(io(path, "read it"))?;
    String::from_utf8(bytes).map_err(|_text| FileError::NotText { path: path.to_owned() })
}

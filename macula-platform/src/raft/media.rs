//! What a store's files stand on.
//!
//! Each file is a [redb](https://www.redb.org) database. All commits are of two phases: what is new
//! is on disk before the header points to it. So when the header points to something damaged, that
//! is no interrupted write but damage, and the file is refused instead of going back to what was
//! there before. What an older commit had would be a lie: more was acknowledged since.

#[cfg(test)]
pub(crate) mod faulty;
mod mirrored;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::Arc;

use macula_core::port::Answer;
use parking_lot::{Mutex, RwLock};
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction,
};

use super::sealed::Damage;
use mirrored::Mirrored;

/// Memory for pages of one file, in bytes.
const PAGE_CACHE: usize = 16 << 20;

/// Where files are kept.
pub trait Medium: Debug + Send + Sync + 'static {
    /// Whether there is a file of this name.
    ///
    /// # Errors
    ///
    /// If that cannot be known.
    fn has(&self, name: &str) -> std::io::Result<bool>;

    /// The bytes of a file of this name; none if it is new.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    fn file(&self, name: &str) -> std::io::Result<Box<dyn StorageBackend>>;

    /// Gives a file another name, or has it gone, for certain once this returns.
    ///
    /// # Errors
    ///
    /// If it cannot. It has one of both names.
    fn rename(&self, name: &str, to: Option<&str>) -> std::io::Result<()>;

    /// What is waited for before something is brought to disk. Real disks take their time by themselves.
    fn lag(&self) -> Option<Arc<dyn Lag>> {
        None
    }
}

/// How long a disk takes where the time is virtual, in which what it does takes none.
pub trait Lag: Debug + Send + Sync + 'static {
    /// Waits as long as it takes to bring something to disk once.
    fn wait(&self) -> Answer<'static, ()>;
}

/// Gives files other names, under which nothing looks for them and nothing was before. Those that are not
/// there need none.
///
/// # Errors
///
/// If one of them cannot be renamed; those before it are.
pub(super) fn set_aside(medium: &dyn Medium, names: &[&str], mark: &str) -> std::io::Result<()> {
    for name in names {
        if medium.has(name)? {
            medium.rename(name, Some(&free_name(medium, name, mark)?))?;
        }
    }
    Ok(())
}

/// How often files of one mark are set aside.
const ASIDE_MAX: u32 = 100;

fn free_name(medium: &dyn Medium, name: &str, mark: &str) -> std::io::Result<String> {
    let first = std::iter::once(format!("{name}.{mark}"));
    for free in first.chain((2..=ASIDE_MAX).map(|number| format!("{name}.{mark}-{number}"))) {
        if !medium.has(&free)? {
            return Ok(free);
        }
    }
    let why =
        format!("{name} was set aside {ASIDE_MAX} times as {mark}: remove what is not needed");
    Err(std::io::Error::other(why))
}

/// Files in a folder, which is made if it is not there.
#[derive(Debug, Clone)]
pub struct Folder(pub PathBuf);

impl Medium for Folder {
    fn file(&self, name: &str) -> std::io::Result<Box<dyn StorageBackend>> {
        // What is in it is for nobody else on the machine.
        let mut folder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.recursive(true).create(&self.0)?;
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.0.join(name))?;
        Ok(Box::new(FileBackend::new(file).map_err(std::io::Error::other)?))
    }

    fn has(&self, name: &str) -> std::io::Result<bool> {
        self.0.join(name).try_exists()
    }

    fn rename(&self, name: &str, to: Option<&str>) -> std::io::Result<()> {
        match to {
            Some(to) => std::fs::rename(self.0.join(name), self.0.join(to))?,
            None => std::fs::remove_file(self.0.join(name))?,
        }
        File::open(&self.0)?.sync_all()
    }
}

/// Memory: what is there ends with the last clone of this, so that a member that is started anew in the
/// same process has what it had.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Arc<InMemoryBackend>>>>);

impl Medium for Memory {
    fn file(&self, name: &str) -> std::io::Result<Box<dyn StorageBackend>> {
        let mut files = self.0.lock();
        let file = files.entry(name.to_owned()).or_insert_with(|| Arc::new(InMemoryBackend::new()));
        Ok(Box::new(Kept(Arc::clone(file))))
    }

    fn has(&self, name: &str) -> std::io::Result<bool> {
        Ok(self.0.lock().contains_key(name))
    }

    fn rename(&self, name: &str, to: Option<&str>) -> std::io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(name);
        let file = file.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        if let Some(to) = to {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }
}

/// A file in memory that outlives its database.
#[derive(Debug)]
struct Kept(Arc<InMemoryBackend>);

impl StorageBackend for Kept {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
}

/// Why a store does not serve. What is on disk is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row of a file is damaged.
    #[error("{file}: {damage}")]
    Damaged {
        /// The file.
        file: &'static str,
        /// Which row, and how.
        #[source]
        damage: Damage,
    },
    /// The file itself is damaged.
    #[error("{file}: the file is damaged: {why}")]
    Corrupted {
        /// The file.
        file: &'static str,
        /// What redb says.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {why}")]
    Io {
        /// The file.
        file: &'static str,
        /// What redb or the system says.
        why: String,
    },
    /// A write has failed before, and what the file has since is not known.
    #[error("{file}: a write has failed, and nothing is written until it is opened anew")]
    Failed {
        /// The file.
        file: &'static str,
    },
}

impl StoreError {
    /// Whether something was not as it was written. To open it again does not help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Corrupted { .. })
    }

    pub(crate) fn of(file: &'static str, error: impl Into<redb::Error>) -> Self {
        match error.into() {
            redb::Error::Corrupted(why) => Self::Corrupted { file, why },
            other => Self::Io { file, why: other.to_string() },
        }
    }

    pub(crate) fn io(file: &'static str, error: &std::io::Error) -> Self {
        Self::Io { file, why: error.to_string() }
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: &'static str,
    /// None once it is closed.
    database: RwLock<Option<Database>>,
    lag: Option<Arc<dyn Lag>>,
}

impl Store {
    /// Opens a file and looks at all of its pages.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it is damaged anywhere, or cannot be read.
    pub(crate) fn open(medium: &dyn Medium, name: &'static str) -> Result<Self, StoreError> {
        let io = |error| StoreError::io(name, &error);
        if !medium.has(name).map_err(io)? {
            // A file that is not whole yet cannot be told from one that is damaged; so it has
            // another name until it is.
            let beside = format!("{name}.new");
            if medium.has(&beside).map_err(io)? {
                medium.rename(&beside, None).map_err(io)?;
            }
            let begun = Self::open_as(medium, name, &beside)?;
            begun.write(|_| Ok(()))?;
            drop(begun);
            medium.rename(&beside, Some(name)).map_err(io)?;
        }
        Self::open_as(medium, name, name)
    }

    fn open_as(medium: &dyn Medium, name: &'static str, at: &str) -> Result<Self, StoreError> {
        let backend = medium.file(at).map_err(|error| StoreError::io(name, &error))?;
        let mut builder = Database::builder();
        builder.set_cache_size(PAGE_CACHE);
        builder.set_check_integrity_on_open(true);
        let backend = Mirrored::open(backend, at).map_err(|error| StoreError::io(name, &error))?;
        let database = builder.create_with_backend(backend);
        let database = database.map_err(|error| StoreError::of(name, error))?;
        Ok(Self { name, database: RwLock::new(Some(database)), lag: medium.lag() })
    }

    /// Closes the file for whoever opens it next, though this lives on: nothing is read or written
    /// from now on. It waits until what is being written is on disk.
    pub(crate) fn close(&self) {
        drop(self.database.write().take());
    }

    /// Waits as long as the next commit takes in virtual time.
    pub(crate) async fn lag(&self) {
        if let Some(lag) = &self.lag {
            lag.wait().await;
        }
    }

    /// Does something with the file, which is not closed meanwhile.
    pub(crate) fn with<T>(
        &self,
        what: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &*self.database.read() {
            Some(database) => what(database),
            None => Err(StoreError::Failed { file: self.name }),
        }
    }

    /// Writes something: all of it is on disk, or nothing, when this returns.
    pub(crate) fn write<T>(
        &self,
        what: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let write = self.begin(database)?;
            let done = what(&write)?;
            write.commit().map_err(|error| self.failed(error))?;
            Ok(done)
        })
    }

    fn begin(&self, database: &Database) -> Result<WriteTransaction, StoreError> {
        let mut write = database.begin_write().map_err(|error| self.failed(error))?;
        write.set_durability(Durability::Immediate).map_err(|error| self.failed(error))?;
        write.set_two_phase_commit(true);
        Ok(write)
    }

    /// Reads something, as it is at one moment.
    pub(crate) fn read<T>(
        &self,
        what: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| what(&database.begin_read().map_err(|error| self.failed(error))?))
    }

    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::of(self.name, error)
    }

    pub(crate) fn damaged(&self, damage: Damage) -> StoreError {
        StoreError::Damaged { file: self.name, damage }
    }
}

//! A file whose header is there twice.
//!
//! All of a redb file has checksums but one byte: that which says which of its two commits counts.
//! Another bit there would take the last commit back without a word. So the header stands once more,
//! with a checksum, on a page before the file. Both are written before the same sync. If they differ
//! the copy counts: it was the header once all that it points to was on disk, and if the power went
//! before the sync, nobody was told of either.

use std::fmt::Debug;
use std::io::Result;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use super::super::sealed::{self, Damage};

/// How many bytes the page before the file has.
const PAGE_LEN: u64 = 4_096;

/// How many bytes of the file are there twice.
const HEADER_LEN: usize = 512;

/// How many bytes the copy has with its checksum.
const ROW_LEN: usize = HEADER_LEN + sealed::OVERHEAD;

const WHAT: &str = "the copy of the header";
const KEY: &[u8] = b"header";

type Locked<T> = std::result::Result<T, BackendError>;

/// The file behind its first page.
#[derive(Debug)]
pub(super) struct Mirrored {
    file: Box<dyn StorageBackend>,
    header: Mutex<[u8; HEADER_LEN]>,
}

impl Mirrored {
    /// Opens a file, and puts its header right if it is not what its copy says.
    pub(super) fn open(file: Box<dyn StorageBackend>, name: &str) -> Result<Self> {
        let mut header = [0; HEADER_LEN];
        if file.len()? >= PAGE_LEN + HEADER_LEN as u64 {
            file.read(PAGE_LEN, &mut header)?;
            let mut row = [0; ROW_LEN];
            file.read(0, &mut row)?;
            match sealed::open_bytes(WHAT, KEY, &row) {
                Ok(copy) if *copy == header => {}
                Ok(copy) => {
                    tracing::warn!(
                        file = name,
                        "the header was not what its copy says, and was put right"
                    );
                    header.copy_from_slice(copy);
                    file.write(PAGE_LEN, &header)?;
                    file.sync_data()?;
                }
                // A later version has its own.
                Err(Damage::Version { .. }) => {}
                // The power went while it was written, or a bit of it is another one.
                Err(error) => {
                    tracing::warn!(file = name, %error, "the copy of the header is written anew");
                    file.write(0, &sealed::seal_bytes(KEY, &header))?;
                    file.sync_data()?;
                }
            }
        }
        Ok(Self { file, header: Mutex::new(header) })
    }
}

impl StorageBackend for Mirrored {
    fn len(&self) -> Result<u64> {
        Ok(self.file.len()?.saturating_sub(PAGE_LEN))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(offset + PAGE_LEN, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len + PAGE_LEN)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write(offset + PAGE_LEN, data)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(room) = HEADER_LEN.checked_sub(from).filter(|room| *room > 0) else {
            return Ok(());
        };
        let mut header = self.header.lock();
        let len = data.len().min(room);
        if let (Some(to), Some(data)) = (header.get_mut(from..from + len), data.get(..len)) {
            to.copy_from_slice(data);
        }
        self.file.write(0, &sealed::seal_bytes(KEY, &*header))
    }

    fn close(&self) -> Result<()> {
        self.file.close()
    }

    // Which bytes are locked matters only to whoever else opens the file in this way.

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.file.query_lock_range(start, end)
    }
}

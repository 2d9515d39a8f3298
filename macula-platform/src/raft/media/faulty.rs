//! A disk that loses power.
//!
//! What was written since a file was last brought to disk may be there after the power is back, or
//! a part of it, or nothing, write by write, as the seed has it. What was brought to disk is there.
//!
//! What a sync that fails was to bring there is not, and no later sync brings it: programs see it all the
//! same, as with a system that takes pages for clean that it could not write (Rebello and others, *Can
//! Applications Recover from fsync Failures?*, 2020).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::port::Answer;
use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

use super::{Lag, Medium};

/// The smallest part of a write that is there or not, in bytes.
const SECTOR: usize = 512;

/// What a commit takes on a slow disk: from so long on, in 300 steps; and now and then so long.
const LAG_MIN: Duration = Duration::from_micros(100);
const LAG_STEP: Duration = Duration::from_micros(100);
const LAG_LONG: Duration = Duration::from_millis(300);
const LONG_CHANCE: f64 = 0.05;

/// A disk. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Faulty(Arc<Mutex<Disk>>, Arc<Stall>);

/// Whether what is to be brought to disk has to wait.
#[derive(Debug, Default)]
struct Stall(Mutex<bool>, Condvar);

struct Disk {
    files: BTreeMap<String, File>,
    random: Entropy,
    /// After how many more writes and syncs the power is cut.
    left: Option<u64>,
    /// How many there were.
    done: u64,
    is_off: bool,
    /// Whether what is brought to disk is not: a bug to plant.
    skips_syncs: bool,
    /// How often something was brought to disk.
    syncs: u64,
    /// After how many more syncs one fails.
    fails_after: Option<u64>,
    /// Whether one has failed.
    has_failed: bool,
    /// Whether what is brought to disk takes a while, in virtual time.
    is_slow: bool,
    /// Which boot it is: a file that was opened in another is closed.
    boot: u64,
}

impl Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Disk {
    /// Counts a change, unless the power is cut before it.
    fn change(&mut self) -> Result<()> {
        if self.left == Some(0) {
            self.is_off = true;
        }
        if self.is_off {
            return Err(Error::other("the power is off"));
        }
        self.done += 1;
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }

    /// What comes of the next sync.
    fn next_sync(&mut self) -> Synced {
        if self.fails_after == Some(0) {
            (self.fails_after, self.has_failed) = (None, true);
            return Synced::Fails;
        }
        self.fails_after = self.fails_after.map(|after| after - 1);
        self.syncs += 1;
        if self.skips_syncs { Synced::Lies } else { Synced::Brings }
    }
}

/// What comes of a sync.
enum Synced {
    /// All is on disk.
    Brings,
    /// It says so, and nothing is.
    Lies,
    /// It says that it has failed, and nothing of it ever will be there.
    Fails,
}

#[derive(Default)]
struct File {
    /// As programs see it.
    seen: Vec<u8>,
    /// As it is on disk for certain.
    kept: Vec<u8>,
    /// What has happened since, in order.
    since: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write(at, data) => {
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(data);
            }
        }
    }
}

impl Faulty {
    /// A disk without files.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        let disk = Arc::new(Mutex::new(Disk {
            files: BTreeMap::new(),
            random: Entropy::from_seed(seed),
            left: None,
            done: 0,
            is_off: false,
            skips_syncs: false,
            syncs: 0,
            fails_after: None,
            has_failed: false,
            is_slow: false,
            boot: 0,
        }));
        Self(disk, Arc::default())
    }

    /// Has all that is brought to disk take for ever; or go on.
    pub(crate) fn stall(&self, is_stalled: bool) {
        *self.1.0.lock() = is_stalled;
        self.1.1.notify_all();
    }

    /// How often something was brought to disk.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Cuts the power before the next write or sync but `after`.
    pub(crate) fn cut_after(&self, after: u64) {
        self.0.lock().left = Some(after);
    }

    /// Whether the power is cut.
    #[must_use]
    pub(crate) fn is_off(&self) -> bool {
        self.0.lock().is_off
    }

    /// Says that all is on disk, and does not bring it there.
    pub(crate) fn skip_syncs(&self) {
        self.0.lock().skips_syncs = true;
    }

    /// Has one sync fail, after so many more that do not. What was written before it is lost with the
    /// power, though programs see it until then; what lengths files have is not.
    pub(crate) fn fail_sync_after(&self, after: u64) {
        self.0.lock().fails_after = Some(after);
    }

    /// Whether a sync has failed.
    #[must_use]
    pub(crate) fn has_failed(&self) -> bool {
        self.0.lock().has_failed
    }

    /// Has all that is brought to disk take a while in virtual time, now and then a long one.
    pub(crate) fn slow_down(&self) {
        self.0.lock().is_slow = true;
    }

    /// Closes all files for whoever has them open. The power stays on.
    pub(crate) fn close_all(&self) {
        self.0.lock().boot += 1;
    }

    /// Cuts the power, if it is not cut, and puts it on again.
    pub(crate) fn reboot(&self) {
        let mut disk = self.0.lock();
        let Disk { files, random, .. } = &mut *disk;
        for file in files.values_mut() {
            for change in file.since.drain(..) {
                match &change {
                    Change::Len(_) if random.chance(0.5) => change.apply(&mut file.kept),
                    Change::Len(_) => {}
                    Change::Write(at, data) => {
                        for (part, sector) in data.chunks(SECTOR).enumerate() {
                            let at = at + part * SECTOR;
                            let is_within = at + sector.len() <= file.kept.len();
                            if is_within && random.chance(0.5) {
                                Change::Write(at, sector.to_vec()).apply(&mut file.kept);
                            }
                        }
                    }
                }
            }
            file.seen = file.kept.clone();
        }
        disk.is_off = false;
        disk.left = None;
        disk.boot += 1;
    }

    /// The bytes of a file, as programs see them.
    #[must_use]
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.lock().files.get(name).map(|file| file.seen.clone()).unwrap_or_default()
    }

    /// Puts other bytes into a file, whoever has it open.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.0.lock();
        let file = disk.files.entry(name.to_owned()).or_default();
        (file.seen, file.kept, file.since) = (bytes.to_vec(), bytes.to_vec(), Vec::new());
    }
}

impl Medium for Faulty {
    fn file(&self, name: &str) -> Result<Box<dyn StorageBackend>> {
        let mut disk = self.0.lock();
        disk.files.entry(name.to_owned()).or_default();
        Ok(Box::new(Open { disk: self.clone(), name: name.to_owned(), boot: disk.boot }))
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.0.lock().files.contains_key(name))
    }

    fn rename(&self, name: &str, to: Option<&str>) -> Result<()> {
        let mut disk = self.0.lock();
        disk.change()?;
        let file = disk.files.remove(name).ok_or_else(|| Error::other("no such file"))?;
        if let Some(to) = to {
            disk.files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn lag(&self) -> Option<Arc<dyn Lag>> {
        Some(Arc::new(self.clone()))
    }
}

impl Lag for Faulty {
    fn wait(&self) -> Answer<'static, ()> {
        let lag = {
            let mut disk = self.0.lock();
            if !disk.is_slow {
                None
            } else if disk.random.chance(LONG_CHANCE) {
                Some(LAG_LONG)
            } else {
                Some(LAG_MIN + LAG_STEP * u32::try_from(disk.random.below(300)).unwrap())
            }
        };
        Box::pin(async move {
            if let Some(lag) = lag {
                tokio::time::sleep(lag).await;
            }
        })
    }
}

#[derive(Debug)]
struct Open {
    disk: Faulty,
    name: String,
    boot: u64,
}

impl Open {
    /// Does something to the file. What changes it is counted, and may be the last.
    fn with<T>(&self, changes: bool, what: impl FnOnce(&mut File) -> T) -> Result<T> {
        let mut disk = self.disk.0.lock();
        self.begin(&mut disk, changes)?;
        disk.files.get_mut(&self.name).map(what).ok_or_else(|| Error::other("no such file"))
    }

    fn begin(&self, disk: &mut Disk, changes: bool) -> Result<()> {
        if disk.is_off || disk.boot != self.boot {
            return Err(Error::other("the power is off"));
        }
        if changes { disk.change() } else { Ok(()) }
    }
}

impl StorageBackend for Open {
    fn len(&self) -> Result<u64> {
        self.with(false, |file| file.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let at = usize::try_from(offset).map_err(Error::other)?;
        self.with(false, |file| {
            let bytes = file.seen.get(at..at + out.len());
            bytes.map(|bytes| out.copy_from_slice(bytes))
        })?
        .ok_or_else(|| Error::other("beyond the end"))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let len = usize::try_from(len).map_err(Error::other)?;
        self.with(true, |file| {
            file.seen.resize(len, 0);
            file.since.push(Change::Len(len));
        })
    }

    fn sync_data(&self) -> Result<()> {
        let Stall(is_stalled, goes_on) = &*self.disk.1;
        let mut stalled = is_stalled.lock();
        while *stalled {
            goes_on.wait(&mut stalled);
        }
        drop(stalled);
        let mut disk = self.disk.0.lock();
        self.begin(&mut disk, true)?;
        let comes = disk.next_sync();
        let file = disk.files.get_mut(&self.name);
        let File { kept, since, .. } = file.ok_or_else(|| Error::other("no such file"))?;
        match comes {
            Synced::Brings => since.drain(..).for_each(|change| change.apply(kept)),
            Synced::Lies => {}
            Synced::Fails => {
                let lens = since.drain(..).filter(|change| matches!(change, Change::Len(_)));
                lens.for_each(|len| len.apply(kept));
                return Err(Error::other("it could not be written"));
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let at = usize::try_from(offset).map_err(Error::other)?;
        self.with(true, |file| {
            let change = Change::Write(at, data.to_vec());
            change.apply(&mut file.seen);
            file.since.push(change);
        })
    }
}

//! The disk by itself: appends to a plain file, and the store on which the log stands.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use macula_core::clock::{Clock as _, TokioClock};
use redb::{Database, Durability, TableDefinition};

use super::VALUE_LEN;

/// What keeps its files in memory: nothing there is ever brought to disk.
const NO_DISKS: [&str; 2] = ["tmpfs", "ramfs"];

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

/// A folder for the files of one run, which goes with it, and the file system that it is on.
pub(super) struct Place {
    folder: PathBuf,
    kind: String,
    device: String,
}

impl Place {
    pub(super) fn new(within: &Path) -> anyhow::Result<Self> {
        let within = within.canonicalize();
        let within = within.context("the folder for the files of the run (--dir)")?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo");
        let mounts = mounts.context("no /proc on this system")?;
        let (kind, device) =
            file_system(&mounts, &within).context("an odd /proc/self/mountinfo")?;
        let shown = within.display();
        ensure!(
            !NO_DISKS.contains(&kind.as_str()),
            "{shown} is on {kind}, which brings nothing to a disk: say another folder with --dir"
        );
        let folder = within.join(format!("macula-bench-kv-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, kind, device })
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// On what the files are.
    pub(super) fn described(&self) -> String {
        format!("{} on {}", self.kind, self.device)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// The kind and the device of the file system that a folder is on: that of the longest mount point.
/// The format is that of proc(5): an octal escape stands for a space.
fn file_system(mounts: &str, folder: &Path) -> Option<(String, String)> {
    let mounts = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let mut after = after.split(' ');
        Some((PathBuf::from(point), after.next()?.to_owned(), after.next()?.to_owned()))
    });
    let mounts = mounts.filter(|(point, ..)| folder.starts_with(point));
    // Of two at one place the later one is seen.
    let (_, kind, device) = mounts.max_by_key(|(point, ..)| point.as_os_str().len())?;
    Some((kind, device))
}

/// A plain file.
pub(super) struct Plain(File);

impl Plain {
    pub(super) fn new(place: &Place) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create_new(true).append(true).open(place.at("plain"));
        Ok(Self(file.context("a plain file")?))
    }

    /// Appends values one after the other, each of which is on disk before the next, and says how long
    /// each took.
    pub(super) fn append(&mut self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let value = [7; VALUE_LEN];
        let timed = |_| {
            let began = TokioClock.now();
            self.0.write_all(&value)?;
            self.0.sync_data()?;
            Ok(TokioClock.now() - began)
        };
        (0..count).map(timed).collect()
    }
}

/// How a commit of the store is brought to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// As the log's are.
    TwoPhases,
    /// As the store's usually are.
    OnePhase,
}

/// The store by itself.
pub(super) struct Raw {
    database: Database,
    sync: Sync,
    next: u64,
}

impl Raw {
    pub(super) fn new(place: &Place, sync: Sync) -> anyhow::Result<Self> {
        let database = Database::create(place.at(&format!("raw-{sync:?}.redb")))?;
        Ok(Self { database, sync, next: 0 })
    }

    /// Commits batches of so many entries one after the other, and says how long each took.
    pub(super) fn commit(&mut self, batch: u64, count: usize) -> anyhow::Result<Vec<Duration>> {
        let value = [7; VALUE_LEN];
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let began = TokioClock.now();
            let mut write = self.database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_two_phase_commit(self.sync == Sync::TwoPhases);
            let mut table = write.open_table(ENTRIES)?;
            for entry in self.next..self.next + batch {
                table.insert(entry, value.as_slice())?;
            }
            drop(table);
            write.commit()?;
            took.push(TokioClock.now() - began);
            self.next += batch;
        }
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use super::file_system;
    use std::path::Path;

    #[test]
    fn a_folder_is_on_the_file_system_of_the_longest_mount_point_above_it() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      23 22 0:20 / /tmp rw,nosuid shared:3 - tmpfs none rw\n\
                      24 22 0:21 / /tmp/a\\040b rw - xfs /dev/vdb rw\n";
        let of = |folder: &str| file_system(mounts, Path::new(folder)).unwrap();
        let pair = |kind: &str, device: &str| (kind.to_owned(), device.to_owned());
        assert_eq!(of("/home/tmp"), pair("ext4", "/dev/vda"));
        assert_eq!(of("/tmp/x"), pair("tmpfs", "none"));
        assert_eq!(of("/tmpx"), pair("ext4", "/dev/vda"));
        assert_eq!(of("/tmp/a b/c"), pair("xfs", "/dev/vdb"));
        assert_eq!(file_system("", Path::new("/")), None);
    }
}

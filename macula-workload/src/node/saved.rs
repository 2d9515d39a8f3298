//! The routing table on disk: what finds the mesh again when all seeds are gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_core::identity::file::{read_public, write_public};
use macula_infra::dht::Dht;
use macula_infra::dht::proto::table::Snapshot;
use tokio::task::AbortHandle;

/// How often the table is written, though it has as many entries as before.
const WRITE_EVERY: Duration = Duration::from_secs(30);

/// How often it is looked whether it has more, or fewer.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads a table. One that cannot be read is left alone and told: the node can do without.
pub(super) fn read(path: Option<&Path>) -> Snapshot {
    let Some(path) = path.filter(|path| path.symlink_metadata().is_ok()) else {
        return Snapshot::default();
    };
    let text = read_public(path).map_err(|error| error.to_string());
    let table = text.and_then(|text| {
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    });
    table.unwrap_or_else(|error| {
        tracing::warn!(%error, "the saved routing table is not used");
        Snapshot::default()
    })
}

/// Writes the table now and then, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    dht: Dht,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
        write(&self.path, &self.dht);
    }
}

impl Keeper {
    pub(super) fn start(path: PathBuf, dht: Dht) -> Self {
        let (to, of) = (path.clone(), dht.clone());
        let task = tokio::spawn(async move {
            let (mut written, mut waited) = (0, Duration::ZERO);
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                waited += LOOK_EVERY;
                let entries = of.saved().entries.len();
                if entries != written || waited >= WRITE_EVERY {
                    write(&to, &of);
                    (written, waited) = (entries, Duration::ZERO);
                }
            }
        });
        Self { path, dht, task: task.abort_handle() }
    }
}

/// A table without entries says less than the one that is there.
fn write(path: &Path, dht: &Dht) {
    let table = dht.saved();
    if table.entries.is_empty() {
        return;
    }
    let written = serde_json::to_vec(&table)
        .map_err(|error| error.to_string())
        .and_then(|bytes| write_public(path, &bytes).map_err(|error| error.to_string()));
    if let Err(error) = written {
        tracing::warn!(%error, "the routing table was not saved");
    }
}

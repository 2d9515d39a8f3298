//! The routing table on disk: what finds the mesh again when all seeds are gone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_core::identity::NodeId;
use macula_core::identity::file::{read_public, write_public};
use macula_infra::dht::proto::table::{Saved, Snapshot};
use macula_infra::membership::proto::SEEDS_MAX;
use macula_infra::membership::update::Status;
use macula_infra::mesh::Mesh;
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
    mesh: Mesh,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = write(&self.path, &self.mesh) {
            unsaved(&error);
        }
    }
}

impl Keeper {
    pub(super) fn start(path: PathBuf, mesh: Mesh) -> Self {
        let (to, of) = (path.clone(), mesh.clone());
        let task = tokio::spawn(async move {
            let (mut written, mut waited, mut said) = (0, Duration::ZERO, None);
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                waited += LOOK_EVERY;
                let entries = of.dht().saved().entries.len();
                if entries != written || waited >= WRITE_EVERY {
                    let (to, of) = (to.clone(), of.clone());
                    // A slow disk holds nothing else up.
                    let done = tokio::task::spawn_blocking(move || write(&to, &of)).await;
                    let failed = done.unwrap_or_else(|panic| Err(panic.to_string())).err();
                    // What is wrong for long is said once.
                    if failed != said {
                        failed.iter().for_each(|error| unsaved(error));
                        said = failed;
                    }
                    (written, waited) = (entries, Duration::ZERO);
                }
            }
        });
        Self { path, mesh, task: task.abort_handle() }
    }
}

/// What finds the mesh again: the table, and members that are not in it yet, as those who joined
/// just before the node stops.
fn table(mesh: &Mesh) -> Snapshot {
    let mut table = mesh.dht().saved();
    let known: HashSet<NodeId> = table.entries.iter().map(|saved| saved.contact.node).collect();
    let members = mesh.membership().members().into_iter();
    let missing = members
        .filter(|member| member.status == Status::Alive && !known.contains(&member.contact.node))
        .map(|member| Saved { contact: member.contact, seen_ago_s: 0 });
    table.entries.extend(missing.take(SEEDS_MAX));
    table
}

/// A table without entries says less than the one that is there.
fn write(path: &Path, mesh: &Mesh) -> Result<(), String> {
    let table = table(mesh);
    if table.entries.is_empty() {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&table).map_err(|error| error.to_string())?;
    write_public(path, &bytes).map_err(|error| error.to_string())
}

fn unsaved(error: &str) {
    tracing::warn!(error, "the routing table was not saved");
}

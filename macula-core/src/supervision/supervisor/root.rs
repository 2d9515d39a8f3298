//! A tree that runs, as whoever started it holds it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::path::Path;
use crate::supervision::event::Event;
use crate::supervision::exit::ExitReason;
use crate::supervision::policy::{ChildKind, Restart};
use crate::supervision::proto::ChildState;
use crate::supervision::slot::Presence;
use crate::supervision::tree::{Tree, TreeNode, picture};

use super::SupervisorHandle;

/// How long a picture of the tree waits for one supervisor.
const PICTURE_PATIENCE: Duration = Duration::from_secs(1);

/// A tree that runs, until it is [stopped](Self::stop). A tree whose root is dropped goes on running.
#[derive(Debug)]
pub struct Root {
    pub(super) handle: SupervisorHandle,
    pub(super) tree: Arc<Tree>,
    pub(super) ended: watch::Receiver<Option<ExitReason>>,
}

impl Root {
    /// The root supervisor.
    #[must_use]
    pub const fn handle(&self) -> &SupervisorHandle {
        &self.handle
    }

    /// Everything that happens in the tree from now on. A listener that is too slow is told how
    /// many events it lost.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.tree.listen()
    }

    /// The supervisor at a path.
    #[must_use]
    pub fn supervisor(&self, path: &Path) -> Option<SupervisorHandle> {
        self.tree.supervisor(path)
    }

    /// A picture of the tree as it stands.
    pub async fn snapshot(&self) -> TreeNode {
        let presence = self.handle.presence();
        let node = TreeNode {
            path: Path::root(),
            kind: ChildKind::Supervisor,
            state: if presence == Presence::Up { ChildState::Running } else { ChildState::Down },
            restart: Restart::Temporary,
            strategy: None,
            dynamic: false,
            incarnation: self.handle.incarnation(),
            restarts: 0,
            last_exit: None,
            up_ms: None,
            children: Vec::new(),
        };
        picture(Arc::clone(&self.tree), node, PICTURE_PATIENCE).await
    }

    /// Waits for the end, and says why it came.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is lost: it can be asked again.
    pub async fn wait(&self) -> ExitReason {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Cancelled),
            Err(_gone) => ExitReason::Cancelled,
        }
    }

    /// Stops the tree in order and waits for its end.
    pub async fn stop(&self) -> ExitReason {
        self.handle.stop();
        self.wait().await
    }

    /// Kills the root. Its children are killed with it, in no order.
    pub fn kill(&self) {
        if let Some(cell) = self.handle.cell() {
            cell.kill();
        }
    }
}

//! The supervised actor that announces names.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use macula_core::clock::TokioClock;
use macula_core::path::InvalidId;
use macula_core::port::DirectoryError;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use tokio::task::JoinSet;

use super::announcer::{Announcer, Input, Output};
use super::{Names, Progress, metrics, place};
use crate::desk::Seat;

/// How long the directory may take.
const WITHIN: Duration = Duration::from_secs(15);

/// The announcer in its shell.
pub(crate) type NamesActor = Shell<Announcer, Deeds, TokioClock>;

/// The worker.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(names: Names) -> Result<Worker<NamesActor>, InvalidId> {
    Worker::with("names", move |_: &_| {
        // Nobody is refused: there are no more changes than calls of `serve`.
        let inbox = Inbox::new(usize::MAX);
        let seat = names.0.desk.begin(&inbox);
        let changes = names.0.changes.load(Ordering::Relaxed);
        let announcer = Announcer::new(names.served(), changes);
        let deeds = Deeds { names: names.clone(), said: JoinSet::new(), _seat: seat };
        Ok(Start::Run(Shell::default(), Driver::new(announcer, deeds, TokioClock, inbox)))
    })
}

/// What the announcer wants done. What is under way ends with the actor's life.
pub(crate) struct Deeds {
    names: Names,
    said: JoinSet<()>,
    _seat: Seat<Input>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Effects<Announcer> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        while self.said.try_join_next().is_some() {}
        let (directory, inbox) = (Arc::clone(&self.names.0.directory), inbox.clone());
        let (Output::Announce(name) | Output::Withdraw(name)) = &output;
        let metadata = self.names.0.calling.served.metadata(name).unwrap_or_default();
        self.said.spawn(async move {
            let (Output::Announce(name) | Output::Withdraw(name)) = &output;
            let place = place(name);
            let saying = match &output {
                Output::Announce(_) => directory.announce(&place, metadata),
                Output::Withdraw(_) => directory.withdraw(&place),
            };
            let said = tokio::time::timeout(WITHIN, saying).await;
            let late = || DirectoryError::Unavailable("no answer in time".to_owned());
            let reached = match said.unwrap_or_else(|_elapsed| Err(late())) {
                Ok(()) => true,
                Err(error) => {
                    tracing::info!(?output, %error, "the directory of names");
                    false
                }
            };
            inbox.push(Input::Said { name: Arc::clone(name), reached });
        });
    }

    fn observe(&mut self, announcer: &Announcer) {
        let progress =
            Progress { changes: announcer.changes(), unannounced: announcer.unannounced() };
        self.names.0.progress.send_replace(progress);
        let unannounced = u32::try_from(progress.unannounced).unwrap_or(u32::MAX);
        ::metrics::gauge!(metrics::UNANNOUNCED).set(f64::from(unannounced));
    }
}

//! The supervised actor that announces names.

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
use super::{Announced, Progress};
use crate::desk::Seat;

/// How long the directory may take.
const WITHIN: Duration = Duration::from_secs(15);

/// The announcer in its shell.
pub(crate) type AnnouncerActor = Shell<Announcer, Deeds, TokioClock>;

/// The worker, under an id.
///
/// # Errors
///
/// If the id is none.
pub(crate) fn worker(id: &str, announced: Announced) -> Result<Worker<AnnouncerActor>, InvalidId> {
    Worker::with(id, move |_: &_| {
        // Nobody is refused: there are no more changes than calls of whoever has the names.
        let inbox = Inbox::new(usize::MAX);
        let changes = announced.0.changes.load(Ordering::Relaxed);
        let seat = announced.0.desk.begin(&inbox);
        let told = announced.0.told.lock().clone();
        let announcer = Announcer::new((announced.0.current)(), &told, changes);
        let deeds = Deeds { announced: announced.clone(), said: JoinSet::new(), _seat: seat };
        Ok(Start::Run(Shell::default(), Driver::new(announcer, deeds, TokioClock, inbox)))
    })
}

/// What the announcer wants done. What is under way ends with the actor's life.
#[derive(Debug)]
pub(crate) struct Deeds {
    announced: Announced,
    said: JoinSet<()>,
    _seat: Seat<Input>,
}

impl Effects<Announcer> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        while self.said.try_join_next().is_some() {}
        let (directory, inbox) = (Arc::clone(&self.announced.0.directory), inbox.clone());
        let place = self.announced.0.place;
        let (Output::Announce(name) | Output::Withdraw(name)) = &output;
        let metadata = (self.announced.0.metadata)(name);
        let announced = self.announced.clone();
        announced.0.told.lock().insert(Arc::clone(name));
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
            if reached && matches!(output, Output::Withdraw(_)) {
                announced.0.told.lock().remove(name);
            }
            inbox.push(Input::Said { name: Arc::clone(name), reached });
        });
    }

    fn observe(&mut self, announcer: &Announcer) {
        let progress =
            Progress { changes: announcer.changes(), unannounced: announcer.unannounced() };
        self.announced.0.progress.send_replace(progress);
        let unannounced = u32::try_from(progress.unannounced).unwrap_or(u32::MAX);
        ::metrics::gauge!(self.announced.0.gauge).set(f64::from(unannounced));
    }
}

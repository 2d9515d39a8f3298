//! Drives an [`Elector`] beside openraft.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use macula_core::machine::Machine as _;
use openraft::{Raft, ServerState};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::elector::{Elector, Input, Output, Standing};
use super::log::LogStore;
use super::metrics;
use super::network::Network;
use super::timer::Timer;
use super::types::Types;
use super::wire::{Answer, Ask};

/// An elector that can be told and asked from anywhere.
pub(super) struct Driving {
    elector: Mutex<Elector>,
    told: Notify,
    timer: Arc<dyn Timer>,
}

impl Driving {
    pub(super) fn new(elector: Elector, timer: Arc<dyn Timer>) -> Arc<Self> {
        Arc::new(Self { elector: Mutex::new(elector), told: Notify::new(), timer })
    }

    pub(super) fn elector(&self) -> MutexGuard<'_, Elector> {
        self.elector.lock()
    }

    pub(super) fn now(&self) -> Instant {
        self.timer.now()
    }

    pub(super) fn tell(&self, input: Input) {
        self.elector.lock().handle(self.now(), input);
        self.told.notify_one();
    }

    /// What the elector wants next, and whether openraft has ended. If it is to stand openraft is told of
    /// it here, in one step with the elector's word: a leader that is heard later is heard by openraft
    /// later, too, and gets no promise for its lease.
    fn next(&self, raft: &Raft<Types>, network: &Network) -> Option<(Output, bool)> {
        let mut elector = self.elector.lock();
        let output = elector.poll_output()?;
        let Output::Elect { is_hurried } = output else { return Some((output, false)) };
        if !is_hurried {
            *network.offered.lock() = None;
        }
        let told = raft.trigger().elect().now_or_never();
        Some((output, !matches!(told, Some(Ok(())))))
    }
}

/// Drives until openraft has ended.
pub(super) async fn drive(
    driving: Arc<Driving>,
    raft: Raft<Types>,
    log: LogStore,
    network: Network,
    ask_within: Duration,
) {
    let mut changes = raft.server_metrics();
    let mut asking = JoinSet::new();
    loop {
        let standing = {
            let now = changes.borrow_and_update();
            let membership = now.membership_config.membership();
            let (voters, groups) =
                (membership.voter_ids().collect(), membership.get_joint_config().clone());
            Standing { voters, groups, leads: now.state == ServerState::Leader }
        };
        // Not told, which would wake this very loop for ever.
        driving.elector().handle(driving.now(), Input::Stands(standing));
        while let Some((output, has_ended)) = driving.next(&raft, &network) {
            // If it has ended, so does this.
            if has_ended {
                return;
            }
            match output {
                Output::Elect { is_hurried } => {
                    let why = if is_hurried { "transfer" } else { "silence" };
                    ::metrics::counter!(metrics::ELECTIONS, "why" => why).increment(1);
                }
                Output::Beat => {
                    if raft.trigger().heartbeat().await.is_err() {
                        return;
                    }
                }
                Output::Ask { round, member } => {
                    let (way, last) = (network.to(member), log.last());
                    asking.spawn(async move {
                        let answer = way.ask(Ask::WouldVote(last), ask_within).await;
                        let would = matches!(answer, Ok(Answer::WouldVote(true)));
                        Input::Answered { round, member, would }
                    });
                }
            }
        }
        let timeout = driving.elector().poll_timeout();
        let due = async {
            match timeout {
                Some((at, _)) => driving.timer.until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(answered) = asking.join_next() => {
                if let Ok(answered) = answered {
                    driving.elector().handle(driving.now(), answered);
                }
            }
            changed = changes.changed() => if changed.is_err() { return },
            () = driving.told.notified() => {}
            () = due => driving.elector().handle_timeout(driving.now()),
        }
    }
}

//! Drives an [`Elector`] beside openraft.

use std::sync::Arc;
use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::machine::Machine as _;
use openraft::{Raft, ServerState};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::elector::{Elector, Input, Output, Standing};
use super::log::LogStore;
use super::network::Network;
use super::types::Types;
use super::wire::{Answer, Ask};

/// An elector that can be told and asked from anywhere.
pub(super) struct Driving {
    elector: Mutex<Elector>,
    told: Notify,
}

impl Driving {
    pub(super) fn new(elector: Elector) -> Arc<Self> {
        Arc::new(Self { elector: Mutex::new(elector), told: Notify::new() })
    }

    pub(super) fn elector(&self) -> MutexGuard<'_, Elector> {
        self.elector.lock()
    }

    pub(super) fn tell(&self, input: Input) {
        self.elector.lock().handle(TokioClock.now(), input);
        self.told.notify_one();
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
    let mut metrics = raft.server_metrics();
    let mut asking = JoinSet::new();
    loop {
        let standing = {
            let metrics = metrics.borrow_and_update();
            let voters = metrics.membership_config.membership().voter_ids().collect();
            Standing { voters, leads: metrics.state == ServerState::Leader }
        };
        // Not told, which would wake this very loop for ever.
        driving.elector().handle(TokioClock.now(), Input::Stands(standing));
        loop {
            let output = driving.elector().poll_output();
            match output {
                None => break,
                Some(Output::Elect) => {
                    // If it has ended, so does this.
                    if raft.trigger().elect().await.is_err() {
                        return;
                    }
                }
                Some(Output::Ask { round, member }) => {
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
                Some((at, _)) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(answered) = asking.join_next() => {
                if let Ok(answered) = answered {
                    driving.elector().handle(TokioClock.now(), answered);
                }
            }
            changed = metrics.changed() => if changed.is_err() { return },
            () = driving.told.notified() => {}
            () = due => driving.elector().handle_timeout(TokioClock.now()),
        }
    }
}

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

    /// What the elector wants next, and whether openraft has ended. If it is to stand, openraft is told so by
    /// `elect`, which gets whether the leader wants it and gives whether openraft is there still. That is one
    /// step with the elector's word: a leader that is heard later is heard by openraft later, too, and gets
    /// no promise for its lease.
    fn next(&self, elect: impl FnOnce(bool) -> bool) -> Option<(Output, bool)> {
        let mut elector = self.elector.lock();
        let output = elector.poll_output()?;
        let Output::Elect { is_hurried } = output else { return Some((output, false)) };
        let is_told = elect(is_hurried);
        drop(elector);
        Some((output, !is_told))
    }

    /// Asks openraft for its vote by `ask`, if the elector `would` give it now. That is one step, too: a
    /// leader that is heard later gets no promise from whom has voted before.
    pub(super) fn vote<T>(
        &self,
        would: impl FnOnce(&Elector, Instant) -> bool,
        ask: impl FnOnce() -> T,
    ) -> Option<T> {
        let elector = self.elector.lock();
        let asked = would(&elector, self.now()).then(ask);
        drop(elector);
        asked
    }
}

/// Tells openraft to stand. Gives whether it is there still: it has got the word then, though nothing was
/// waited for.
fn elect(raft: &Raft<Types>, network: &Network, is_hurried: bool) -> bool {
    if !is_hurried {
        *network.offered.lock() = None;
    }
    matches!(raft.trigger().elect().now_or_never(), Some(Ok(())))
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
        let elect = |is_hurried| elect(&raft, &network, is_hurried);
        while let Some((output, has_ended)) = driving.next(elect) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use macula_core::entropy::Entropy;
    use macula_core::machine::Machine as _;

    use super::super::elector::{Config, Elector, Input, Output, Standing};
    use super::super::timer::Ticking;
    use super::super::types::MemberId;
    use super::Driving;

    /// One that votes alone, and is to stand now.
    fn about_to_stand() -> Arc<Driving> {
        let (timer, own) = (Arc::new(Ticking), MemberId::from(1));
        let now = crate::raft::timer::now();
        let elector = Elector::new(Config::default(), own, Entropy::from_seed(1), now);
        let driving = Driving::new(elector, timer);
        let voters = [own].into();
        driving.tell(Input::Stands(Standing { groups: vec![[own].into()], voters, leads: false }));
        let (at, _) = driving.elector().poll_timeout().unwrap();
        driving.elector().handle_timeout(at);
        driving
    }

    #[test]
    fn nobody_is_heard_between_the_word_to_stand_and_openrafts_hearing_it() {
        let driving = about_to_stand();
        let next = driving.next(|is_hurried| driving.elector.is_locked() && !is_hurried);
        assert_eq!(next, Some((Output::Elect { is_hurried: false }, false)));
        assert!(!driving.elector.is_locked());
        // One that has ended is told of.
        let next = about_to_stand().next(|_| false);
        assert_eq!(next, Some((Output::Elect { is_hurried: false }, true)));
    }

    #[test]
    fn openraft_is_not_told_to_stand_when_a_leader_was_heard_before() {
        let driving = about_to_stand();
        driving.tell(Input::Heard);
        assert_eq!(driving.next(|_| panic!("it is told")), None);
    }

    #[test]
    fn nobody_is_heard_between_the_leave_to_vote_and_openrafts_being_asked() {
        let driving = about_to_stand();
        let is_in_one_step = |_: &Elector, _| driving.elector.is_locked();
        assert_eq!(driving.vote(is_in_one_step, || driving.elector.is_locked()), Some(true));
        assert!(!driving.elector.is_locked());
        driving.tell(Input::Heard);
        let would = |elector: &Elector, now| elector.would_vote(now, None, None);
        assert_eq!(driving.vote(would, || panic!("it is asked")), None::<()>);
    }
}

//! What a voter does beside answering: it counts leases while it leads, and says where it is.

use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use macula_core::machine::Machine as _;
use macula_core::port::Directory;
use tokio::task::JoinSet;

use super::changing::finish;
use super::command::{Command, LeaseId, NOBODY, Once};
use super::expiry::{Input, Output};
use super::groups;
use super::metrics;
use super::service::{APPLY_WITHIN, Service};
use super::state::{Lease, State};
use super::ways::NAME;
use super::wire;
use crate::raft::Member;

/// How soon it is tried again to count, or to announce.
const AGAIN: Duration = Duration::from_millis(50);

/// How long after an announcement has failed it is tried again at most.
const ANNOUNCE_AGAIN_MAX: Duration = Duration::from_secs(5);

type Of = Arc<Member<State>>;

/// Counts the leases of a member, until it ends.
pub(super) async fn count(service: Service, member: Of) {
    let mut counting = Counting {
        service,
        member: Arc::clone(&member),
        term: None,
        known: OrdMap::new(),
        revoking: JoinSet::new(),
    };
    let (mut applied, mut changes) = (member.applied(), member.changes());
    loop {
        applied.borrow_and_update();
        drop(changes.borrow_and_update());
        let is_settled = counting.lead().await;
        counting.compare();
        counting.carry_out();
        let deadline = counting.service.0.expiry.lock().poll_timeout();
        let due = async {
            match deadline {
                Some((at, _)) => member.timer().until(at).await,
                None => std::future::pending().await,
            }
        };
        let again = async {
            if is_settled {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(AGAIN).await;
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            Some(revoked) = counting.revoking.join_next() => {
                if let Ok(Some(input)) = revoked {
                    counting.tell(input);
                }
            }
            () = counting.service.0.told.notified() => {}
            () = due => {
                counting.service.0.expiry.lock().handle_timeout(member.now());
            }
            () = again => {}
        }
    }
}

struct Counting {
    service: Service,
    member: Of,
    /// In which term it leads and counts.
    term: Option<u64>,
    known: OrdMap<LeaseId, Lease>,
    /// Each says what has become of its lease.
    revoking: JoinSet<Option<Input>>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Nobody counts any more.
        self.tell(Input::Follows);
    }
}

impl Counting {
    fn tell(&self, input: Input) {
        self.service.0.expiry.lock().handle(self.member.now(), input);
    }

    /// Begins to count when the member has begun to lead and has all that was agreed upon before, and
    /// ends when it leads no more. Whether there is nothing more to be done.
    async fn lead(&mut self) -> bool {
        let member = &self.member;
        let term = || (member.leader() == Some(member.id())).then(|| member.term());
        let now_leads = term();
        if now_leads == self.term {
            return true;
        }
        self.tell(Input::Follows);
        (self.term, self.known) = (None, OrdMap::new());
        if now_leads.is_none() {
            return true;
        }
        if member.read_point().await.is_err() || term() != now_leads {
            return false;
        }
        self.known = member.state().lease_map().clone();
        let leases = self.known.iter().map(|(id, lease)| (*id, lease.ttl_ms)).collect();
        self.tell(Input::Leads(leases));
        self.term = now_leads;
        // In a task of its own: it may take as long as it takes to reach the others.
        let (member, changing) = (Arc::clone(member), Arc::clone(&self.service.0.changing));
        if member.members().is_changing {
            self.revoking.spawn(async move {
                let _alone = changing.lock().await;
                // If it fails the next leader does it, or the next change.
                drop(finish(&member).await);
                None
            });
        }
        true
    }

    /// Tells the expiry which leases have come and gone.
    fn compare(&mut self) {
        if self.term.is_none() {
            return;
        }
        let now = self.member.state().lease_map().clone();
        for difference in self.known.diff(&now) {
            match difference {
                DiffItem::Add(lease, Lease { ttl_ms, .. }) => {
                    self.tell(Input::Granted(*lease, *ttl_ms));
                }
                DiffItem::Remove(lease, _) => self.tell(Input::Gone(*lease)),
                DiffItem::Update { .. } => {}
            }
        }
        self.known = now;
    }

    fn carry_out(&mut self) {
        while let Some(Output::Revoke(lease)) = {
            let mut expiry = self.service.0.expiry.lock();
            expiry.poll_output()
        } {
            let (member, term) = (Arc::clone(&self.member), self.term);
            self.revoking.spawn(async move {
                let not_revoked = Some(Input::NotRevoked(lease));
                // Whoever leads anew counts anew.
                if Some(member.term()) != term {
                    return not_revoked;
                }
                let command = Command::Revoke { lease };
                let once = Once { session: NOBODY, opened: 0, serial: 0, done_below: 0, command };
                let Ok(command) = wire::write(&once) else { return not_revoked };
                match tokio::time::timeout(APPLY_WITHIN, member.propose(command)).await {
                    Ok(Ok(_)) => {
                        ::metrics::counter!(metrics::EXPIRED).increment(1);
                        Some(Input::Gone(lease))
                    }
                    Ok(Err(_)) | Err(_) => not_revoked,
                }
            });
        }
    }
}

/// Announces a member while it votes, with the group in which it does, until it ends.
pub(super) async fn announce(member: Of, directory: Arc<dyn Directory>) {
    let (mut changes, mut announced, mut again) = (member.changes(), None, AGAIN);
    loop {
        drop(changes.borrow_and_update());
        let votes = member.members().voters.contains(&member.id());
        let now = votes.then(|| groups::written(member.group()));
        let mut is_settled = now == announced;
        if !is_settled {
            let done = match &now {
                Some(group) => directory.announce(NAME, group.clone()).await,
                None => directory.withdraw(NAME).await,
            };
            is_settled = done.is_ok();
            if let Err(error) = done {
                tracing::debug!(%error, "the voter is not announced yet");
            } else {
                (announced, again) = (now, AGAIN);
            }
        }
        let later = async {
            if is_settled {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(again).await;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = later => again = (again * 2).min(ANNOUNCE_AGAIN_MAX),
        }
    }
}

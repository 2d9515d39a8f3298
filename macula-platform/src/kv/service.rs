//! Answers clients, at a voter.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::machine::Machine as _;
use macula_core::port::{Answer, Call, Serve};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::changing::SNAPSHOT_WITHIN;
use super::checks;
use super::command::{LeaseId, Once, Refusal};
use super::config::{Config, InvalidConfig};
use super::expiry::{Expiry, Input};
use super::limits::PAGE_MAX;
use super::metrics;
use super::rates::Rates;
use super::state::{Events, State};
use super::wire::{self, Ask, Declined, Level, Node, Reply, Status, Stranger};
use crate::raft::actor::{Group, Standing};
use crate::raft::types::MemberId;
use crate::raft::{Member, ProposeError, timer};

/// How long a command may take. One that takes longer has met a leader that leads no more.
pub(super) const APPLY_WITHIN: Duration = Duration::from_secs(5);

/// A leader that most have not acknowledged for so long takes on no more commands.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// How often a watch that waits looks whether its member is still in touch.
const TOUCH: Duration = Duration::from_secs(1);

/// The longest that a watch waits.
const WATCH_MAX: Duration = Duration::from_secs(60);

/// Serves the keys and values of this node's member. Clones are the same, and it outlives all of the
/// member's lives: while there is none, it says so.
#[derive(Clone)]
pub struct Service(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) group: Group<State>,
    pub(super) node: NodeId,
    pub(super) call: Arc<dyn Call>,
    requests: Semaphore,
    watches: Semaphore,
    watches_max: usize,
    in_flight_kib: Semaphore,
    rates: Mutex<Rates>,
    pub(super) expiry: Mutex<Expiry>,
    /// The expiry has a new deadline.
    pub(super) told: Notify,
    /// There is one change of the group at a time.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    /// Who votes in another group, as far as is known.
    pub(super) strangers: Mutex<Vec<Stranger>>,
}

impl Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("group", &self.0.group).finish_non_exhaustive()
    }
}

type Of = Arc<Member<State>>;

impl Service {
    /// The service of a node's member. `call` is the way to the services of other nodes.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`].
    pub fn new(
        config: &Config,
        group: Group<State>,
        node: NodeId,
        call: Arc<dyn Call>,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        Ok(Self(Arc::new(Inner {
            group,
            node,
            call,
            requests: Semaphore::new(config.requests_max),
            watches: Semaphore::new(config.watches_max),
            watches_max: config.watches_max,
            in_flight_kib: Semaphore::new(config.in_flight_kib_max),
            rates: Mutex::new(Rates::new(config.asks_per_s_max)),
            expiry: Mutex::default(),
            told: Notify::new(),
            changing: Arc::default(),
            strangers: Mutex::default(),
        })))
    }

    /// Whether the member is in a group, and what it has is not old.
    pub(super) fn is_in_touch(&self) -> bool {
        let member = self.0.group.member();
        member.is_some_and(|member| member.is_in_group() && member.is_in_touch())
    }

    /// The group that the member is in; none if it is in none, or does not run.
    pub(super) fn group(&self) -> Option<MemberId> {
        self.0.group.member().and_then(|member| member.group())
    }

    /// How many watches wait here.
    pub(super) fn watches(&self) -> u64 {
        checks::size(self.0.watches_max.saturating_sub(self.0.watches.available_permits()))
    }

    /// How it stands with the member; none while it does not run.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.0.group.member().map(|member| self.status_of(&member))
    }

    /// Answers a question of this node itself, or of another one.
    pub(super) async fn answer(&self, from: NodeId, ask: Ask) -> Reply {
        let word = metrics::word(&ask);
        let reply = self.admitted(from, ask).await.unwrap_or_else(Reply::Declined);
        metrics::answered(word, &reply);
        reply
    }

    async fn admitted(&self, from: NodeId, ask: Ask) -> Result<Reply, Declined> {
        if from != self.0.node {
            let allowed = self.0.rates.lock().ask(timer::now(), from);
            allowed.map_err(|again| Declined::TooOften {
                again_in_ms: u64::try_from(again.as_millis()).unwrap_or(u64::MAX).max(1),
            })?;
        }
        let member = match &*self.0.group.standing() {
            Standing::Here(member) => Arc::clone(member),
            Standing::Away => return Err(Declined::Away("the member is not there".to_owned())),
            Standing::Damaged(error) => return Err(Declined::Away(error.to_string())),
        };
        if let Ask::Events { prefix, after, max, wait_ms } = ask {
            let _place = place(&self.0.watches, 1, "watches")?;
            let wait = Duration::from_millis(wait_ms).min(WATCH_MAX);
            return events(&member, &prefix, after, max, wait).await.map(Reply::Events);
        }
        let _place = place(&self.0.requests, 1, "requests")?;
        self.asked(&member, ask).await
    }

    async fn asked(&self, member: &Of, ask: Ask) -> Result<Reply, Declined> {
        match ask {
            Ask::Apply(once) => self.apply(member, &once).await,
            Ask::Get { key, level } => {
                read(member, level, |state| Reply::Got {
                    item: state.get(&key).cloned(),
                    revision: state.revision(),
                })
                .await
            }
            Ask::Range { from, to, max, level } => {
                let max = usize::try_from(max).unwrap_or(PAGE_MAX);
                let look = |state: &State| Reply::Page(state.range(&from, to.as_ref(), max));
                read(member, level, look).await
            }
            Ask::KeepAlive(lease) => self.keep_alive(member, lease).await,
            Ask::Status => Ok(Reply::Status(Box::new(self.status_of(member)))),
            Ask::Change(change) => self.change(member, change).await,
            Ask::Snapshot => match member.snapshot(SNAPSHOT_WITHIN).await {
                Ok(()) => Ok(Reply::Changed),
                // It is not asked for again: that takes as long.
                Err(error) => Err(Declined::NoChange(error.to_string())),
            },
            // Answered before.
            Ask::Events { .. } => Err(Declined::NoChange("it is a watch".to_owned())),
        }
    }

    async fn apply(&self, member: &Of, once: &Once) -> Result<Reply, Declined> {
        checks::command(&once.command).map_err(Declined::Refused)?;
        member.may_propose(QUIET_MAX).map_err(declined)?;
        let command =
            wire::write(once).map_err(|why| Declined::Refused(Refusal::Unreadable(why)))?;
        let _room = self.room(command.len())?;
        match tokio::time::timeout(APPLY_WITHIN, member.propose(command)).await {
            Ok(Ok((_, answer))) => Ok(Reply::Applied(answer)),
            // It was proposed, and what becomes of it the next leader knows.
            Ok(Err(ProposeError::NotLeader { leader })) => {
                let why = "the leader leads no more".to_owned();
                Err(Declined::Unknown { why, leader: leader.map(node_of) })
            }
            Ok(Err(error)) => Err(Declined::Unknown { why: error.to_string(), leader: None }),
            Err(_elapsed) => {
                let why = "it takes too long to agree".to_owned();
                Err(Declined::Unknown { why, leader: None })
            }
        }
    }

    /// The holder of a lease is there. What it is told holds whoever leads next: most have said since
    /// it asked that this member leads, so that nobody else has begun to count before that.
    async fn keep_alive(&self, member: &Of, lease: LeaseId) -> Result<Reply, Declined> {
        member.read_point().await.map_err(declined)?;
        let no_lease = || Declined::Refused(Refusal::NoLease(lease));
        let kept = {
            let mut expiry = self.0.expiry.lock();
            if !expiry.leads() {
                return Err(Declined::Away("leases are not counted yet".to_owned()));
            }
            // While the expiry is held it decides nothing; what it has decided before, and has been
            // done already, is seen in the state.
            let granted = member.state().lease(lease).map(|lease| lease.ttl_ms);
            let (now, granted) = (member.now(), granted.ok_or_else(no_lease)?);
            // One that was granted a moment ago.
            expiry.handle(now, Input::Granted(lease, granted));
            expiry.keep_alive(now, lease)
        };
        self.0.told.notify_one();
        kept.map(|ttl_ms| Reply::Kept { ttl_ms }).ok_or_else(no_lease)
    }

    fn status_of(&self, member: &Of) -> Status {
        let revision = member.state().revision();
        Status {
            member: member.id(),
            group: member.group(),
            strangers: self.0.strangers.lock().clone(),
            leader: member.leader(),
            term: member.term(),
            members: member.members(),
            applied: *member.applied().borrow(),
            revision,
            snapshot: member.snapshot_index(),
            is_in_touch: member.is_in_touch(),
        }
    }

    /// Room for so many bytes.
    fn room(&self, len: usize) -> Result<SemaphorePermit<'_>, Declined> {
        place(&self.0.in_flight_kib, len / 1024 + 1, "bytes in flight")
    }
}

fn place<'a>(
    places: &'a Semaphore,
    count: usize,
    what: &str,
) -> Result<SemaphorePermit<'a>, Declined> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    places.try_acquire_many(count).map_err(|_full| Declined::Busy(format!("too many {what}")))
}

pub(super) fn node_of(member: MemberId) -> Node {
    Node(*member.node_bytes())
}

pub(super) fn declined(error: ProposeError) -> Declined {
    match error {
        ProposeError::NotLeader { leader } => Declined::NotLeader(leader.map(node_of)),
        ProposeError::Membership(why) => Declined::NoChange(why),
        ProposeError::Failed(why) => Declined::Away(why),
    }
}

/// Looks at the state, as freshly as was asked for.
pub(super) async fn read<T>(
    member: &Of,
    level: Level,
    look: impl Fn(&State) -> T,
) -> Result<T, Declined> {
    let look = || look(&member.state());
    match level {
        Level::Stale if member.is_in_group() => return Ok(look()),
        Level::Stale => return Err(Declined::NotLeader(None)),
        Level::Lease => {
            if let Some(until) = member.lease_until() {
                let seen = look();
                // Whoever was stopped meanwhile has seen what may be old.
                if member.now() < until {
                    return Ok(seen);
                }
            }
        }
        Level::Linearizable => {}
    }
    member.read_point().await.map_err(declined)?;
    Ok(look())
}

/// What happens after a revision. Only a member that is in touch says that nothing does.
async fn events(
    member: &Of,
    prefix: &[u8],
    after: u64,
    max: u64,
    wait: Duration,
) -> Result<Events, Declined> {
    let max = usize::try_from(max).unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let until = timer::now() + wait;
    let (mut applied, mut upto) = (member.applied(), after);
    loop {
        applied.borrow_and_update();
        if !member.is_in_group() || !member.is_in_touch() {
            return Err(Declined::NotLeader(member.leader().map(node_of)));
        }
        let found = {
            let state = member.state();
            // A client may know more than this member has yet.
            (upto <= state.revision()).then(|| state.events_after(upto, prefix, max))
        };
        if let Some(found) = found {
            let found = found.map_err(Declined::Refused)?;
            if !found.events.is_empty() || found.has_more {
                return Ok(found);
            }
            upto = found.upto;
        }
        let now = timer::now();
        if now >= until {
            return Ok(Events { events: Vec::new(), upto, has_more: false });
        }
        let look = until.min(now + TOUCH).saturating_duration_since(now);
        if let Ok(Err(_gone)) = tokio::time::timeout(look, applied.changed()).await {
            return Err(Declined::Away("the member has ended".to_owned()));
        }
    }
}

/// How many bytes an answer has, about.
fn len_of(reply: &Reply) -> usize {
    let item = |item: &Option<super::command::Item>| item.as_ref().map_or(0, |i| i.value.len());
    match reply {
        Reply::Applied(bytes) => bytes.len(),
        Reply::Got { item: found, .. } => item(found),
        Reply::Page(page) => {
            page.items.iter().map(|(key, item)| key.len() + item.value.len()).sum()
        }
        Reply::Events(found) => {
            found.events.iter().map(|event| event.key.len() + item(&event.item)).sum()
        }
        Reply::Kept { .. } | Reply::Status(_) | Reply::Changed | Reply::Declined(_) => 0,
    }
}

impl Serve for Service {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        let service = self.clone();
        Box::pin(async move {
            let ask: Ask = wire::read(&question)?;
            drop(question);
            if ask.is_of_operators() {
                // Whoever may ask here need not have the right to that.
                let why = "what changes the group is asked for under another name".to_owned();
                return wire::write(&Reply::Declined(Declined::NoChange(why)));
            }
            let reply = service.answer(from, ask).await;
            match service.room(len_of(&reply)) {
                Ok(_room) => wire::write(&reply),
                // What was applied is: whoever asks again is told.
                Err(why) if matches!(reply, Reply::Applied(_)) => {
                    drop(why);
                    let why = "there is no room for the answer".to_owned();
                    wire::write(&Reply::Declined(Declined::Unknown { why, leader: None }))
                }
                Err(why) => wire::write(&Reply::Declined(why)),
            }
        })
    }
}

/// Serves those who change the group, and nobody else.
#[derive(Debug, Clone)]
struct Changes(Service);

impl Service {
    /// What answers those who change the group. It has a name of its own, so that rules of access can
    /// tell them from those who only read and write.
    #[must_use]
    pub fn changes(&self) -> impl Serve + use<> {
        Changes(self.clone())
    }
}

impl Serve for Changes {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        let Self(service) = self.clone();
        Box::pin(async move {
            let ask: Ask = wire::read(&question)?;
            if !ask.is_of_operators() {
                return Err("only what changes the group is asked for here".to_owned());
            }
            wire::write(&service.answer(from, ask).await)
        })
    }
}

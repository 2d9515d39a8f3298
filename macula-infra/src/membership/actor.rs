//! The supervised actor of the membership, its sessions, and the handle to both.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::identity::{Keypair, NodeId};
use macula_core::path::InvalidId;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use macula_core::wire::{self as frames, Frame, Kind};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::departures::Departures;
use super::event::Event;
use super::limits::{Limits, Refusal, Refused};
use super::proto::{Identity, Input, Output, SEEDS_MAX, Swim};
use super::update::{Role, Seen, Stamp, Status};
use super::{metrics, wire};
use crate::contact::Contact;
use crate::desk::{Desk, Seat};
use crate::link::{Link, Service, Session, unsupported};
use crate::post::{Parcel, Post};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};

/// The first of the kinds of frames that belong to the membership.
pub(crate) const FIRST_KIND: u8 = 0x20;

/// A message of the membership.
const MESSAGE: Kind = Kind(FIRST_KIND);

/// How many inputs wait for the machine. More are lost, as the network might lose them.
const INBOX_LEN_MAX: usize = 16_384;

/// How many events wait for one who listens.
const EVENTS_MAX: usize = 1_024;

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// The longest message, in bytes.
const MESSAGE_LEN_MAX: usize = 60 * 1_024;

/// The membership in its shell.
pub(crate) type MembershipActor = Shell<Swim, Deeds, TokioClock>;

/// A member, as its node sees itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who, and where.
    pub contact: Contact,
    /// Which life.
    pub life: u64,
    /// What it is for.
    pub role: Role,
    /// How it stands.
    pub status: Status,
}

/// Who is in the mesh, from one node. Clones are the same.
#[derive(Clone)]
pub struct Membership(Arc<Shared>);

struct Shared {
    desk: Desk<Input>,
    events: broadcast::Sender<Event>,
    /// What is held of each member: for readers, and so that nothing is verified twice.
    held: DashMap<NodeId, (Arc<Seen>, Status)>,
    /// Those of them that run workloads.
    peers: watch::Sender<BTreeSet<NodeId>>,
    /// The last version that a life of the actor has used.
    version: AtomicU64,
    seeds: Mutex<Vec<Contact>>,
    departures: Departures,
    limits: Mutex<Limits>,
    /// Whether this node has said farewell.
    departed: watch::Sender<bool>,
}

impl Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("members", &self.0.held.len()).finish()
    }
}

impl Membership {
    pub(crate) fn new(seeds: Vec<Contact>, config: &Config) -> Self {
        Self(Arc::new(Shared {
            desk: Desk::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            held: DashMap::new(),
            peers: watch::Sender::default(),
            version: AtomicU64::new(0),
            seeds: Mutex::new(seeds),
            departures: Departures::default(),
            limits: Mutex::new(Limits::new(config)),
            departed: watch::Sender::new(false),
        }))
    }

    /// What happens to members from now on. Whoever is slow is told how many events it has missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// The members that are not gone, this node aside, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let member = |seen: &Seen, status: Status| {
            let presence = seen.presence();
            Member {
                contact: presence.contact.clone(),
                life: presence.stamp.life,
                role: presence.role,
                status,
            }
        };
        let held = self.0.held.iter().map(|entry| {
            let (seen, status) = entry.value();
            (*entry.key(), member(seen, *status))
        });
        held.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What is held of the members, for the actor's next life.
    fn held(&self) -> BTreeMap<NodeId, (Arc<Seen>, Status)> {
        self.0.held.iter().map(|entry| (*entry.key(), entry.value().clone())).collect()
    }

    /// The members that are not gone and are more than helpers at the start, this node aside, as they come
    /// and go.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.0.peers.subscribe()
    }

    /// Whether a node is a member and not gone.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.0.held.contains_key(&node)
    }

    /// Becomes part of the mesh of which these are members, and tries until it is.
    pub fn join(&self, seeds: Vec<Contact>) {
        let mut known = self.0.seeds.lock();
        known.retain(|old| seeds.iter().all(|seed| seed.node != old.node));
        known.splice(0..0, seeds);
        known.truncate(SEEDS_MAX);
        let seeds = known.clone();
        drop(known);
        self.0.desk.tell(Input::Join { seeds });
    }

    /// Says farewell, so that nobody has to find out that this node has gone. It is for the end of a
    /// node: this life of it does not come back.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the farewell goes on.
    pub async fn leave(&self) {
        let mut departed = self.0.departed.subscribe();
        self.0.desk.tell(Input::Leave);
        // The sender lives as long as this handle.
        let said = departed.wait_for(|departed| *departed);
        drop(tokio::time::timeout(FAREWELL_MAX, said).await);
    }

    /// What is cancelled when a life of a node, or a later one, is held to be gone.
    pub(crate) fn departure(&self, node: NodeId, life: u64) -> Arc<CancellationToken> {
        self.0.departures.of(node, life)
    }

    /// How many messages were not listened to.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.0.limits.lock().refused()
    }

    /// Takes a message, unless its sender says too much or what cannot be; that is counted.
    pub(super) fn hear(&self, now: Instant, from: NodeId, body: &[u8]) -> Result<(), Refusal> {
        let shared = &self.0;
        let known = |node| shared.held.get(&node).map(|entry| Arc::clone(&entry.value().0));
        let admitted = shared.limits.lock().admit(now, from, body.len());
        let limits = frames::Limits::for_body(MESSAGE_LEN_MAX);
        let heard = admitted.and_then(|()| Ok(wire::decode(body, &limits, known)?));
        match heard {
            Ok(message) => {
                shared.desk.offer(Input::Message { from, message });
                Ok(())
            }
            Err(refusal) => {
                let reason = shared.limits.lock().count(&refusal);
                ::metrics::counter!(metrics::REFUSED, "reason" => reason).increment(1);
                Err(refusal)
            }
        }
    }

    /// There is a connection to a node.
    pub(crate) fn met(&self, node: NodeId) {
        self.0.desk.offer(Input::Met { node });
    }
}

/// Makes the sessions of the membership.
#[derive(Debug, Clone)]
pub(crate) struct MembershipService(pub(crate) Membership);

impl Service for MembershipService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        self.0.met(link.node());
        Arc::new(Hearing { membership: self.0.clone(), is_trusted: link.peer().trusted })
    }
}

/// What comes over one connection.
#[derive(Debug)]
struct Hearing {
    membership: Membership,
    /// A peer that is only reported says nothing that counts.
    is_trusted: bool,
}

impl Session for Hearing {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        if frame.kind != MESSAGE {
            return unsupported(link, &frame);
        }
        if !self.is_trusted {
            return;
        }
        let peer = link.node();
        match self.membership.hear(TokioClock.now(), peer, &frame.body) {
            Ok(()) => {}
            Err(error @ Refusal::Flood) => tracing::debug!(peer = peer.short(), %error),
            Err(Refusal::Invalid(error)) => {
                tracing::warn!(peer = peer.short(), %error, "a message of the membership");
            }
        }
    }

    fn bulk(
        self: Arc<Self>,
        _link: Arc<Link>,
        _about: Frame,
        _body: Body,
    ) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn unsupported(&self, _link: &Arc<Link>, _kind: Kind, _id: u64) {}

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        self.membership.0.desk.offer(Input::Lost { node: link.node() });
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What the actor is made of.
pub(crate) struct Parts {
    pub(crate) membership: Membership,
    pub(crate) post: Post,
    pub(crate) contact: Contact,
    pub(crate) life: u64,
    pub(crate) role: Role,
    pub(crate) keypair: Keypair,
    pub(crate) config: Config,
    pub(crate) listener: Listener,
}

/// Hears of events, with what is known of where the node is. It is called by the actor, and does
/// not wait.
pub(crate) type Listener = Arc<dyn Fn(&Event, Option<&Contact>) + Send + Sync>;

/// The worker of the membership. `entropy` makes the dice of each of its lives.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    parts: Parts,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<MembershipActor>, InvalidId> {
    Worker::with("membership", move |_: &_| {
        let Parts { membership, post, contact, life, role, keypair, config, listener } = &parts;
        let inbox = Inbox::new(INBOX_LEN_MAX);
        // A life of the actor is none of the node, and goes on after what the last one has said.
        let version = membership.0.version.load(Ordering::Relaxed);
        let stamp = Stamp { life: *life, version };
        let me = Identity { contact: contact.clone(), stamp, role: *role };
        let mut swim = Swim::new(me, Box::new(keypair.clone()), config.clone(), entropy());
        // Whoever was a member is one still, until it is found to be gone: that would be told to nobody
        // if it were forgotten meanwhile.
        swim.resume(TokioClock.now(), membership.held());
        let members = membership.members().into_iter().map(|member| member.contact);
        let seeds = membership.0.seeds.lock().iter().cloned().chain(members).collect();
        inbox.push(Input::Join { seeds });
        let seat = membership.0.desk.begin(&inbox);
        let (membership, post) = (membership.clone(), post.clone());
        let deeds = Deeds {
            membership,
            post,
            news: Vec::new(),
            listener: Arc::clone(listener),
            _seat: seat,
        };
        Ok(Start::Run(Shell::default(), Driver::new(swim, deeds, TokioClock, inbox)))
    })
}

/// What the membership wants done.
pub(crate) struct Deeds {
    membership: Membership,
    post: Post,
    /// What has happened since the members were last looked at.
    news: Vec<Event>,
    listener: Listener,
    _seat: Seat<Input>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("membership", &self.membership).finish_non_exhaustive()
    }
}

impl Effects<Swim> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, _inbox: &Inbox<Input>) {
        match output {
            Output::Send { to, message } => match wire::encode(&message, MESSAGE_LEN_MAX) {
                Ok(body) => {
                    let (desk, node) = (self.membership.0.desk.clone(), to.node);
                    let unsent = Box::new(move || {
                        desk.offer(Input::Undelivered { to: node });
                    });
                    let parcel = Parcel { lane: Lane::Control, kind: MESSAGE, id: 0, body, unsent };
                    self.post.send(&to, parcel);
                }
                Err(error) => tracing::error!(%error, "a message of the membership"),
            },
            Output::Event(event) => {
                tracing::debug!(?event, "membership");
                self.news.push(event);
                ::metrics::counter!(metrics::EVENTS, "event" => word(&event)).increment(1);
            }
            Output::Misbehaved { peer, why } => {
                ::metrics::counter!(metrics::REFUSED, "reason" => "offence").increment(1);
                tracing::warn!(peer = peer.short(), ?why, "a member breaks the protocol");
            }
            Output::Superseded { life } => {
                tracing::error!(
                    life,
                    "another process lives under this node's key, in a later life"
                );
            }
            Output::Departed => {
                self.membership.0.departed.send_replace(true);
            }
        }
    }

    fn observe(&mut self, swim: &Swim) {
        let shared = &self.membership.0;
        shared.version.store(swim.me().stamp().version, Ordering::Relaxed);
        for event in self.news.drain(..) {
            let node = event.node();
            let role = swim.member(node).map(|(seen, _)| seen.presence().role);
            match swim.member(node) {
                Some((seen, status)) => drop(shared.held.insert(node, (Arc::clone(seen), status))),
                None => drop(shared.held.remove(&node)),
            }
            let is_peer = role.is_some_and(|role| role != Role::Bootstrap);
            shared.peers.send_if_modified(|peers| match is_peer {
                true => peers.insert(node),
                false => peers.remove(&node),
            });
            let contact = swim.seen(node).map(|seen| &seen.presence().contact);
            (self.listener)(&event, contact);
            if let Event::Gone { life, .. } = event {
                shared.departures.gone(node, life);
            }
            // Whoever hears of it finds it to be so. Nobody need listen.
            drop(shared.events.send(event));
        }
        let members = u32::try_from(shared.held.len()).unwrap_or(u32::MAX);
        ::metrics::gauge!(metrics::MEMBERS).set(f64::from(members));
    }
}

const fn word(event: &Event) -> &'static str {
    match event {
        Event::Joined { .. } => "joined",
        Event::Updated { .. } => "updated",
        Event::Suspected { .. } => "suspected",
        Event::Cleared { .. } => "cleared",
        Event::Gone { .. } => "gone",
        Event::Returned { .. } => "returned",
    }
}

#[cfg(test)]
mod tests;

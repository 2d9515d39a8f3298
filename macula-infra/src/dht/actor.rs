//! The supervised actor of the table, and its sessions.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::entropy::Entropy;
use macula_core::path::InvalidId;
use macula_core::shell::{Driver, Effects, Inbox, Shell};
use macula_core::supervision::{Start, Worker};
use macula_core::wire::{Frame, Kind, from_body};

use super::client::Dht;
use super::metrics;
use super::proto::limits::Offence;
use super::proto::node::{Bug, Config, Input, Mode, Node, Output, Side};
use super::proto::requests::{Fault, RequestId};
use super::proto::time::Moment;
use super::wire::{BODY_LEN_MAX, Refusal, Reply, Request};
use crate::access::Access;
use crate::contact::Contact;
use crate::desk::Seat;
use crate::link::{Link, Service, Session, unsupported};
use crate::pool::AddressBook;
use crate::post::{Long, Parcel, Post};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};
use crate::transport::overlay::is_overlay;

/// The first of the kinds of frames that belong to the table.
pub(crate) const FIRST_KIND: u8 = 0x30;

/// Operations for the receiver.
const REQUEST: Kind = Kind(FIRST_KIND);

/// Their results, with the request's correlation id.
const REPLY: Kind = Kind(FIRST_KIND + 1);

/// How many inputs wait for the machine. More are refused, and told to be so.
const INBOX_LEN_MAX: usize = 65_536;

/// How long a long body may take to come.
const LONG_WITHIN: Duration = Duration::from_secs(10);

/// The table in its shell.
pub(crate) type DhtActor = Shell<Node, Deeds, TokioClock>;

/// Makes the sessions of the table.
#[derive(Debug, Clone)]
pub(crate) struct DhtService {
    pub(crate) dht: Dht,
    pub(crate) book: AddressBook,
    pub(crate) access: Access,
}

impl Service for DhtService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        let is_foreign = !self.access.is_of_this_realm(link.peer());
        self.dht.opened(link.node(), is_foreign);
        let Self { dht, book, .. } = self.clone();
        let session = Talking { dht, book, is_foreign };
        // Nobody is believed to be another, so a peer that is only reported is no part of a table.
        // Nor is one that would keep what is of another realm.
        if link.peer().trusted && !is_foreign && can_be_dialled(link) {
            let contact = session.contact(link);
            self.dht.connected(contact, link.peer().incarnation);
        }
        Arc::new(session)
    }
}

/// Whether the peer says that it can be dialled, and not over relays alone.
fn can_be_dialled(link: &Link) -> bool {
    link.peer().listen.iter().any(|address| !is_overlay(*address))
}

/// What comes over one connection.
#[derive(Debug)]
struct Talking {
    dht: Dht,
    book: AddressBook,
    /// Whether the peer uses the names of another realm.
    is_foreign: bool,
}

impl Talking {
    /// The peer, where it can be dialled, if it can be and is to be.
    fn contact(&self, link: &Link) -> Contact {
        let node = link.node();
        let addresses = if can_be_dialled(link) && !self.is_foreign {
            self.book.addresses(node)
        } else {
            Vec::new()
        };
        Contact::new(node, addresses).directly()
    }

    fn heard(&self, link: &Link, kind: Kind, id: u64, body: &[u8]) {
        let input = if kind == REQUEST {
            let ops = Request::decode(body).ok().map(|request| request.ops);
            let is_foreign = self.is_foreign;
            Input::Request { from: self.contact(link), is_foreign, id, ops }
        } else {
            let results = Reply::decode(body).ok().map(|reply| reply.results);
            Input::Reply { from: link.node(), id: RequestId(id), results }
        };
        // What is not taken is as if it were lost: whoever asks has a timeout.
        self.dht.desk().offer(input);
    }
}

impl Session for Talking {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        match frame.kind {
            REQUEST | REPLY if link.peer().trusted => {
                self.heard(link, frame.kind, frame.id, &frame.body);
            }
            REQUEST | REPLY => {}
            _ => unsupported(link, &frame),
        }
    }

    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, body: Body) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if !matches!(about.kind, REQUEST | REPLY) || !link.peer().trusted {
                return;
            }
            let Ok(Long { len }) = from_body(&about.body, link.limits()) else { return };
            let read = tokio::time::timeout(LONG_WITHIN, body.read(len, BODY_LEN_MAX)).await;
            if let Ok(Ok(body)) = read {
                self.heard(&link, about.kind, about.id, &body);
            }
        })
    }

    fn unsupported(&self, _link: &Arc<Link>, kind: Kind, id: u64) {
        if kind == REQUEST {
            let (id, fault) = (RequestId(id), Fault::Unreachable);
            self.dht.desk().tell(Input::Undelivered { id, fault });
        }
    }

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        self.dht.closed(link.node());
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// What the actor is made of.
pub(crate) struct Parts {
    pub(crate) dht: Dht,
    pub(crate) post: Post,
    pub(crate) own: Contact,
    pub(crate) mode: Mode,
    pub(crate) config: Config,
}

/// The worker of the table. `entropy` makes the dice of each of its lives.
///
/// # Errors
///
/// Never: its id is one.
pub(crate) fn worker(
    parts: Parts,
    entropy: impl Fn() -> Entropy + Send + Sync + 'static,
) -> Result<Worker<DhtActor>, InvalidId> {
    Worker::with("dht", move |_: &_| {
        let Parts { dht, post, own, mode, config } = &parts;
        let inbox = Inbox::new(INBOX_LEN_MAX);
        let at = Moment { now: TokioClock.now(), since_epoch: dht.since_epoch() };
        let rules = Arc::clone(dht.rules());
        let mut node = Node::new(at, own.clone(), *mode, rules, config.clone(), entropy());
        node.restore(at.now, &dht.saved());
        if !config.has(Bug::NumbersAnew) {
            node.resume(dht.next_request());
        }
        if !config.has(Bug::ForgetsItsCallers) {
            dht.begin();
        }
        let seat = dht.desk().begin(&inbox);
        let published = dht.published();
        let forgets = config.has(Bug::ForgetsWhatItHasPut);
        for again in published.into_iter().filter(|_again| !forgets) {
            inbox.push(again);
        }
        let deeds = Deeds {
            dht: dht.clone(),
            post: post.clone(),
            saved_at: at.now,
            entries: 0,
            _seat: seat,
        };
        Ok(Start::Run(Shell::default(), Driver::new(node, deeds, TokioClock, inbox)))
    })
}

/// How often the table is kept for the actor's next life.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// What the table wants done.
pub(crate) struct Deeds {
    dht: Dht,
    post: Post,
    saved_at: Instant,
    /// How many entries there were then.
    entries: usize,
    _seat: Seat<Input>,
}

impl Debug for Deeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deeds").field("dht", &self.dht).finish_non_exhaustive()
    }
}

impl Deeds {
    fn send(&self, to: &Contact, kind: Kind, id: u64, body: Bytes) {
        let desk = self.dht.desk().clone();
        let unsent: Box<dyn FnOnce() + Send> = if kind == REQUEST {
            Box::new(move || {
                let (id, fault) = (RequestId(id), Fault::Unreachable);
                desk.tell(Input::Undelivered { id, fault });
            })
        } else {
            // Whoever asked has a timeout.
            Box::new(|| {})
        };
        self.post.send(to, Parcel { lane: Lane::Rpc, kind, id, body, unsent });
    }
}

impl Effects<Node> for Deeds {
    fn apply(&mut self, _now: Instant, output: Output, inbox: &Inbox<Input>) {
        match output {
            Output::Send { id, to, .. } if self.dht.is_foreign(to.node) => {
                // It was found before it was known what it is.
                inbox.push(Input::Gone(to.node));
                inbox.push(Input::Undelivered { id, fault: Fault::Unreachable });
            }
            Output::Send { id, to, ops } => {
                self.dht.requested(id);
                match (Request { ops }).encode() {
                    Ok(body) => self.send(&to, REQUEST, id.0, body),
                    Err(error) => {
                        tracing::error!(%error, "a request of the table");
                        inbox.push(Input::Undelivered { id, fault: Fault::Unreachable });
                    }
                }
            }
            Output::Reply { to, id, reply } => match reply.encode() {
                Ok(body) => self.send(&Contact::new(to, []), REPLY, id, body),
                Err(error) => tracing::error!(%error, "a reply of the table"),
            },
            Output::Sign { key, provider } => match self.dht.sign(&provider) {
                Ok(provider) => inbox.push(Input::Signed { key, provider }),
                Err(error) => tracing::error!(%error, "a provider cannot be signed"),
            },
            Output::Done { id, answer } => self.dht.done(id, answer),
            Output::Refused { peer, side, refusal } => {
                tracing::debug!(peer = peer.short(), ?side, %refusal, "something is refused");
                if refusal == Refusal::OtherRealm {
                    self.dht.audit_refusal(peer, side, &refusal);
                }
                let (side, reason) = (side_word(side), refusal.code().to_owned());
                ::metrics::counter!(metrics::REFUSED, "side" => side, "reason" => reason)
                    .increment(1);
            }
            Output::Misbehaved { peer, offence } => {
                let offence = word(offence);
                tracing::warn!(peer = peer.short(), offence, "a peer misbehaves in the table");
                ::metrics::counter!(metrics::MISBEHAVED, "offence" => offence).increment(1);
            }
        }
    }

    fn observe(&mut self, node: &Node) {
        let now = TokioClock.now();
        let stats = node.stats();
        let is_due = now.saturating_duration_since(self.saved_at) >= SAVE_EVERY;
        if is_due {
            // The node's calendar may have been set anew.
            self.dht.desk().offer(Input::Calendar(self.dht.since_epoch()));
        }
        if is_due || self.entries != stats.table.entries {
            (self.saved_at, self.entries) = (now, stats.table.entries);
            self.dht.save(node.table().save(now));
        }
        let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        ::metrics::gauge!(metrics::ENTRIES).set(count(stats.table.entries));
        ::metrics::gauge!(metrics::RECORDS).set(count(stats.records));
        self.dht.observe(stats);
    }
}

const fn word(offence: Offence) -> &'static str {
    match offence {
        Offence::Flood => "flood",
        Offence::Malformed => "malformed",
        Offence::WrongAnswer => "wrong_answer",
        Offence::Forged => "forged",
        Offence::Stale => "stale",
    }
}

const fn side_word(side: Side) -> &'static str {
    match side {
        Side::Keeper => "keeper",
        Side::Reader => "reader",
        Side::Shown => "shown",
    }
}

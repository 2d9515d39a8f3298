//! Relaying over one connection: what a peer asks of a relay, and what relays bring.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::wire::{Flags, Frame, Kind, from_body};
use parking_lot::Mutex;
use serde::Serialize;

use super::ledger::{Denial, NotCarried, Realm};
use super::reserver::Input;
use super::wire::{
    CARRIED, CARRY, DENIED, Denied, FIRST_KIND, HEAD_LEN, REACHED, RESERVE, RESERVED, Reserved,
    UNCARRIED, Uncarried, split,
};
use super::{Relay, metrics};
use crate::link::{Link, Service, Session, unsupported};
use crate::tokens::{Bucket, Rate};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};
use crate::transport::overlay::{Datagram, is_overlay};

/// Why a place is none to a node of another realm, as the audit has it.
const OTHER_REALM: &str = "it has a place here, of another realm";

/// How often a peer is told that something was not carried.
const TOLD: Rate = Rate { per_s: 20, burst: 40 };

/// Makes the sessions of relaying.
#[derive(Debug, Clone)]
pub(crate) struct RelayService(pub(crate) Relay);

impl Service for RelayService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        if is_overlay(link.peer().address) {
            ::metrics::gauge!(metrics::RELAYED).increment(1.0);
        }
        let places = self.0.places();
        if let Some(record) = self.0.record(&places).filter(|_| !places.is_empty()) {
            self.0.tell(link, &record);
        }
        let told = Mutex::new(Bucket::full(TokioClock.now(), TOLD));
        Arc::new(Relaying { relay: self.0.clone(), is_trusted: link.peer().trusted, told })
    }
}

/// What comes over one connection.
#[derive(Debug)]
struct Relaying {
    relay: Relay,
    is_trusted: bool,
    /// What the peer is told of what was not carried.
    told: Mutex<Bucket>,
}

/// Tells the peer something, if there is room.
fn tell<T: Serialize>(link: &Link, kind: Kind, id: u64, body: &T) {
    drop(link.lane(Lane::Relay).send((kind, Flags::default(), id), body));
}

impl Relaying {
    /// The peer wants a place here.
    fn reserve(&self, link: &Arc<Link>, id: u64) {
        // A connection to whoever has a place is in use, though nothing goes over it.
        drop(link.take_up_for_peer());
        if is_overlay(link.peer().address) {
            // What is carried in what is carried would wait for itself.
            return tell(link, DENIED, id, &Denied { why: Denial::Relayed });
        }
        let now = TokioClock.now();
        let reserved = self.relay.0.ledger.lock().reserve(now, link.node(), &realm_of(link));
        self.relay.carried();
        match reserved {
            Ok(lifetime) => {
                let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                tell(link, RESERVED, id, &Reserved { lifetime_ms });
            }
            Err(why) => tell(link, DENIED, id, &Denied { why }),
        }
    }

    /// Carries a datagram of the peer on to the node that it is for.
    fn carry(&self, link: &Arc<Link>, body: &Bytes) {
        let _in_use = link.take_up_for_peer();
        let shared = &self.relay.0;
        let Some((id, _ports, _payload)) = split(body) else { return refused("malformed") };
        let Ok(to) = NodeId::from_bytes(*id) else { return refused("malformed") };
        let from = link.node();
        let now = TokioClock.now();
        let realm = realm_of(link);
        let sender = (from, &realm);
        let carried = shared.ledger.lock().carry(now, sender, to, body.len());
        let carried = carried.and_then(|()| {
            let in_flight = self.relay.live(to).ok_or(NotCarried::Absent)?;
            let mut bytes = BytesMut::with_capacity(body.len());
            bytes.extend_from_slice(from.as_bytes());
            bytes.extend_from_slice(body.get(from.as_bytes().len()..).unwrap_or_default());
            let head = (CARRIED, Flags::default(), 0);
            match in_flight.link().lane(Lane::Relay).send_raw(head, &bytes) {
                Ok(()) => {
                    let len = u64::try_from(body.len() - HEAD_LEN).unwrap_or(0);
                    ::metrics::counter!(metrics::CARRIED).increment(len);
                }
                // There is no room for it: it is lost, as on any network.
                Err(_full) => refused("full"),
            }
            Ok(())
        });
        if let Err(why) = carried {
            refused(why.as_str());
            if self.told.lock().take(now, TOLD, 1).is_ok() {
                if shared.ledger.lock().crosses(sender, to) {
                    shared.access.refused(from, "relay", &to.to_string(), OTHER_REALM);
                }
                tell(link, UNCARRIED, 0, &Uncarried { node: to, why });
            }
        }
    }

    /// A relay did not carry something of this node's.
    fn uncarried(&self, relay: NodeId, node: NodeId, why: NotCarried) {
        ::metrics::counter!(metrics::UNCARRIED, "reason" => why.as_str()).increment(1);
        tracing::debug!(relay = relay.short(), node = node.short(), %why, "not carried");
        if !why.is_passing() {
            self.relay.0.paths.lock().refused(TokioClock.now(), node, relay);
        }
    }

    /// A relay brings a datagram for this node.
    fn arrived(&self, relay: NodeId, body: &Bytes) {
        let shared = &self.relay.0;
        let Some((id, (from, to), payload)) = split(body) else { return refused("malformed") };
        let Ok(node) = NodeId::from_bytes(*id) else { return refused("malformed") };
        let is_place = shared.places.lock().contains(&relay);
        let mut paths = shared.paths.lock();
        // Nobody else brings anything: whoever did could fill this node with what is not asked for.
        if !is_place && !paths.leads(relay, node) {
            return refused("stranger");
        }
        paths.heard(TokioClock.now(), node, relay);
        drop(paths);
        shared.overlay.deliver(Datagram { node, from, to, payload });
    }
}

fn realm_of(link: &Link) -> Realm {
    Realm::new(Arc::clone(&link.peer().realm), link.peer().uses_realm)
}

fn refused(reason: &'static str) {
    ::metrics::counter!(metrics::REFUSED, "reason" => reason).increment(1);
}

impl Session for Relaying {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        let (relay, shared) = (link.node(), &self.relay.0);
        match frame.kind {
            RESERVE | RESERVED | DENIED | CARRY | CARRIED | UNCARRIED | REACHED
                if !self.is_trusted => {}
            RESERVE => self.reserve(link, frame.id),
            RESERVED => {
                if let Ok(Reserved { lifetime_ms }) = from_body(&frame.body, link.limits()) {
                    let lifetime = Duration::from_millis(lifetime_ms);
                    shared.desk.offer(Input::Reserved { relay, lifetime });
                }
            }
            DENIED => {
                match from_body(&frame.body, link.limits()) {
                    Ok(Denied { why }) => {
                        tracing::info!(relay = relay.short(), %why, "no place at a relay");
                    }
                    Err(error) => {
                        tracing::info!(relay = relay.short(), %error, "no place at a relay");
                    }
                }
                shared.desk.offer(Input::Denied { relay });
            }
            CARRY | CARRIED if is_overlay(link.peer().address) => refused("nested"),
            CARRY => self.carry(link, &frame.body),
            CARRIED => self.arrived(relay, &frame.body),
            UNCARRIED => {
                if let Ok(Uncarried { node, why }) = from_body(&frame.body, link.limits()) {
                    self.uncarried(relay, node, why);
                }
            }
            REACHED => {
                if let Ok(reached) = from_body(&frame.body, link.limits())
                    && let Some(relays) = self.relay.learn(reached)
                {
                    shared.paths.lock().resolved(TokioClock.now(), link.node(), &relays);
                }
            }
            _ => unsupported(link, &frame),
        }
    }

    fn bulk(self: Arc<Self>, _: Arc<Link>, _: Frame, _: Body) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn unsupported(&self, link: &Arc<Link>, kind: Kind, _id: u64) {
        if kind == RESERVE {
            self.relay.0.desk.offer(Input::Denied { relay: link.node() });
        }
    }

    fn closed(&self, link: &Arc<Link>, _closed: &Closed) {
        let (shared, node, now) = (&self.relay.0, link.node(), TokioClock.now());
        if is_overlay(link.peer().address) {
            ::metrics::gauge!(metrics::RELAYED).decrement(1.0);
        }
        let is_replaced = self.relay.is_linked(node);
        if !is_replaced {
            // If the node has only lost its connection it asks for its place anew, over the next one.
            shared.ledger.lock().lapse(now, node);
        }
        shared.desk.offer(Input::Closed { relay: node });
        let mut paths = shared.paths.lock();
        if paths.uses(node) && !is_replaced {
            paths.lost(now, node);
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

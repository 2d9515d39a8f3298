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
use serde::Serialize;

use super::ledger::NotCarried;
use super::reserver::Input;
use super::wire::{
    ABSENT, Absent, CARRIED, CARRY, DENIED, Denied, FIRST_KIND, HEAD_LEN, RESERVE, RESERVED,
    Reserved, split,
};
use super::{Relay, metrics};
use crate::link::{Link, Service, Session, unsupported};
use crate::transport::Closed;
use crate::transport::lane::{Body, Lane};
use crate::transport::overlay::Datagram;

/// Makes the sessions of relaying.
#[derive(Debug, Clone)]
pub(crate) struct RelayService(pub(crate) Relay);

impl Service for RelayService {
    fn first_kind(&self) -> u8 {
        FIRST_KIND
    }

    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session> {
        Arc::new(Relaying { relay: self.0.clone(), is_trusted: link.peer().trusted })
    }
}

/// What comes over one connection.
#[derive(Debug)]
struct Relaying {
    relay: Relay,
    is_trusted: bool,
}

/// Tells the peer something, if there is room.
fn tell<T: Serialize>(link: &Link, kind: Kind, id: u64, body: &T) {
    drop(link.lane(Lane::Relay).send((kind, Flags::default(), id), body));
}

impl Relaying {
    /// The peer wants a place here.
    fn reserve(&self, link: &Link, id: u64) {
        let mut ledger = self.relay.0.ledger.lock();
        let reserved = ledger.reserve(TokioClock.now(), link.node());
        let count = u32::try_from(ledger.reservations()).unwrap_or(u32::MAX);
        drop(ledger);
        ::metrics::gauge!(metrics::RESERVATIONS).set(f64::from(count));
        match reserved {
            Ok(lifetime) => {
                let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                tell(link, RESERVED, id, &Reserved { lifetime_ms });
            }
            Err(denial) => tell(link, DENIED, id, &Denied { why: denial.to_string() }),
        }
    }

    /// Carries a datagram of the peer on to the node that it is for.
    fn carry(&self, link: &Link, body: &Bytes) {
        let shared = &self.relay.0;
        let Some((id, _ports, _payload)) = split(body) else { return refused("malformed") };
        let Ok(to) = NodeId::from_bytes(*id) else { return refused("malformed") };
        let from = link.node();
        let carried = shared.ledger.lock().carry(TokioClock.now(), from, to, body.len());
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
            if why == NotCarried::Absent {
                shared.ledger.lock().release(to);
                tell(link, ABSENT, 0, &Absent { node: to });
            }
        }
    }

    /// A relay brings a datagram for this node.
    fn arrived(&self, relay: NodeId, body: &Bytes) {
        let shared = &self.relay.0;
        let Some((id, (from, to), payload)) = split(body) else { return refused("malformed") };
        let Ok(node) = NodeId::from_bytes(*id) else { return refused("malformed") };
        let mut paths = shared.paths.lock();
        // Nobody else brings anything: whoever did could fill this node with what is not asked for.
        if !shared.places.lock().contains(&relay) && !paths.leads(relay, node) {
            return refused("stranger");
        }
        paths.heard(TokioClock.now(), node, relay);
        drop(paths);
        shared.overlay.deliver(Datagram { node, from, to, payload });
    }
}

fn refused(reason: &'static str) {
    ::metrics::counter!(metrics::REFUSED, "reason" => reason).increment(1);
}

impl Session for Relaying {
    fn frame(&self, link: &Arc<Link>, _lane: Lane, frame: Frame) {
        let (relay, shared) = (link.node(), &self.relay.0);
        match frame.kind {
            RESERVE | RESERVED | DENIED | CARRY | CARRIED | ABSENT if !self.is_trusted => {}
            RESERVE => self.reserve(link, frame.id),
            RESERVED => {
                if let Ok(Reserved { lifetime_ms }) = from_body(&frame.body, link.limits()) {
                    let lifetime = Duration::from_millis(lifetime_ms);
                    shared.desk.offer(Input::Reserved { relay, lifetime });
                }
            }
            DENIED => {
                if let Ok(Denied { why }) = from_body(&frame.body, link.limits()) {
                    tracing::info!(relay = relay.short(), why, "no place at a relay");
                }
                shared.desk.offer(Input::Denied { relay });
            }
            CARRY => self.carry(link, &frame.body),
            CARRIED => self.arrived(relay, &frame.body),
            ABSENT => {
                if let Ok(Absent { node }) = from_body(&frame.body, link.limits()) {
                    shared.paths.lock().absent(TokioClock.now(), node, relay);
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
        let shared = &self.relay.0;
        if self.relay.live(link.node()).is_some() {
            // Another connection has taken its place.
            return;
        }
        shared.ledger.lock().release(link.node());
        shared.paths.lock().lost(TokioClock.now(), link.node());
        shared.desk.offer(Input::Lost { relay: link.node() });
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

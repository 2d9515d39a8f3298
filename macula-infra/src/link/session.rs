//! What services do with the frames of a link.

use std::any::Any;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use macula_core::wire::{Flags, Frame, Kind};

use super::Link;
use crate::transport::lane::{Body, Lane};
use crate::transport::{Closed, UNSUPPORTED, Unsupported};

/// How many services a connection can have: one for each upper half of a frame's kind.
const SERVICES_MAX: usize = 16;

/// A service of the mesh, to which the frames of sixteen kinds belong.
pub trait Service: Send + Sync {
    /// The first of its kinds: a multiple of sixteen.
    fn first_kind(&self) -> u8;

    /// A connection was made.
    fn open(&self, link: &Arc<Link>) -> Arc<dyn Session>;
}

/// A service's part of one connection.
pub trait Session: Any + Send + Sync {
    /// A frame has come. It is handled without waiting: the lane is read on after this.
    fn frame(&self, link: &Arc<Link>, lane: Lane, frame: Frame);

    /// A long body is coming, about which `about` tells.
    fn bulk(self: Arc<Self>, link: Arc<Link>, about: Frame, body: Body) -> BoxFuture<'static, ()>;

    /// The peer does not know the kind of a frame of this service that was sent with this
    /// correlation id.
    fn unsupported(&self, link: &Arc<Link>, kind: Kind, id: u64);

    /// The connection is over. Told once.
    fn closed(&self, link: &Arc<Link>, closed: &Closed);

    /// Itself, for whoever knows its type.
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

/// The services of a node.
#[derive(Clone, Default)]
pub struct Services(Vec<Arc<dyn Service>>);

impl Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Services").field(&self.0.len()).finish()
    }
}

impl Services {
    /// With one service more.
    #[must_use]
    pub fn with(mut self, service: Arc<dyn Service>) -> Self {
        self.0.push(service);
        self
    }
}

/// The sessions of one link.
#[derive(Default)]
pub(super) struct Sessions([OnceLock<Arc<dyn Session>>; SERVICES_MAX]);

impl Sessions {
    pub(super) fn open(&self, services: &Services, link: &Arc<Link>) {
        for service in &services.0 {
            if let Some(place) = self.0.get(usize::from(service.first_kind() >> 4)) {
                drop(place.set(service.open(link)));
            }
        }
    }

    fn at(&self, kind: u8) -> Option<&Arc<dyn Session>> {
        self.0.get(usize::from(kind >> 4))?.get()
    }

    pub(super) fn of<S: Session>(&self, first_kind: u8) -> Option<&S> {
        self.at(first_kind)?.as_any().downcast_ref()
    }

    pub(super) fn close(&self, link: &Arc<Link>, closed: &Closed) {
        for session in self.0.iter().filter_map(OnceLock::get) {
            session.closed(link, closed);
        }
    }

    /// Tells the service of a kind that the peer does not know it.
    pub(super) fn unsupported(&self, link: &Arc<Link>, kind: Kind, id: u64) {
        if let Some(session) = self.at(kind.0) {
            session.unsupported(link, kind, id);
        }
    }

    /// Hands a frame to whom it belongs, or says that nobody knows it.
    pub(super) fn frame(&self, link: &Arc<Link>, lane: Lane, frame: Frame) {
        match self.at(frame.kind.0) {
            Some(session) => session.frame(link, lane, frame),
            None => unsupported(link, &frame),
        }
    }

    pub(super) async fn bulk(&self, link: Arc<Link>, about: Frame, body: Body) {
        match self.at(about.kind.0) {
            Some(session) => Arc::clone(session).bulk(link, about, body).await,
            None => unsupported(&link, &about),
        }
    }
}

/// Says that a frame's kind is not known here.
pub(crate) fn unsupported(link: &Arc<Link>, frame: &Frame) {
    let head = (UNSUPPORTED, Flags::default(), frame.id);
    // A peer whose control lane is full has more pressing troubles.
    drop(link.lane(Lane::Control).send(head, &Unsupported { kind: frame.kind.0 }));
}

//! A live connection at work: its lanes, what is in flight on it, and the actor that reads it.
//!
//! A [`Link`] is shared by all that use the connection. Taking it up for some work costs two
//! atomic operations and no message; when it is leaving, new work is refused and goes elsewhere.
//! The actor behind it stands in the tree below `infrastructure/peers`. It reads the peer's lanes
//! and hands each frame to the [`Session`] of the service that the frame's kind belongs to. When
//! the actor ends, however it does, the link is over, and every session hears of it once.
//!
//! Leaving is agreed upon, so that nothing is lost: a side that wants to close says goodbye, the
//! peer finishes what it has in flight and says that it is quiet, and then the first side closes.

mod actor;
mod idle;
mod reading;
mod session;
mod work;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use macula_core::clock::{Clock as _, TokioClock};
use macula_core::identity::NodeId;
use macula_core::supervision::{ChildSpec, Handle};
use macula_core::wire::Limits;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::pool::proto::ConnId;
use crate::transport::lane::{Bulks, Lane, Sender, Writing};
use crate::transport::{CloseCode, Closed, Connection, Goodbye, Opener, Pulse, kind};

pub(crate) use actor::Ended;
pub use idle::Idle;
pub(crate) use session::unsupported;
pub use session::{Service, Services, Session};
use work::Work;

/// A live connection.
pub struct Link {
    /// Which connection of this node.
    pub id: ConnId,
    opener: Arc<Opener>,
    lanes: [Sender; Lane::ALL.len()],
    bulks: Bulks,
    limits: Limits,
    body_len_max: usize,
    sessions: session::Sessions,
    work: Work,
    began: Instant,
    /// When it was last taken up: microseconds since `began`.
    used_us: AtomicU64,
    /// Rung when the last one lets go of a link that is leaving, and when it begins to leave.
    turn: Notify,
    leaving: watch::Sender<bool>,
    end: Mutex<Option<Closed>>,
    /// Hears that the peer takes no new work on it any more.
    left: Left,
    /// The actor that reads it.
    actor: OnceLock<Handle<actor::ReadingOver>>,
}

/// Hears that the peer of a link takes no new work on it any more.
pub(crate) type Left = Box<dyn Fn() + Send + Sync>;

impl Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.id)
            .field("node", &self.opener.node)
            .field("side", &self.opener.side)
            .finish_non_exhaustive()
    }
}

/// Work on a link, which is not closed in good order before this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Link>);

impl InFlight {
    /// The link that the work is on.
    #[must_use]
    pub const fn link(&self) -> &Arc<Link> {
        &self.0
    }

    /// More work on the same link, beside this.
    #[must_use]
    pub(crate) fn another(&self) -> Self {
        self.0.take_up_for_peer()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.work.let_go() {
            self.0.turn.notify_one();
        }
    }
}

/// How the caps of frames and bodies are set.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// The caps of decoders.
    pub limits: Limits,
    /// The longest body, in bytes.
    pub body_len_max: usize,
    /// How many bytes wait on a lane.
    pub lane_len_max: usize,
    /// Each frame has a write of its own.
    pub writes_apart: bool,
}

/// The child of `peers` that reads a link.
pub(crate) fn child(
    link: &Arc<Link>,
    ends: actor::Ends,
    endpoint_gone: CancellationToken,
    ended: Ended,
) -> ChildSpec {
    let (spec, handle) = actor::worker(Arc::clone(link), ends, endpoint_gone, ended).split();
    // A link has one actor.
    drop(link.actor.set(handle));
    spec
}

impl Link {
    pub(crate) fn new(
        id: ConnId,
        connection: Connection,
        caps: Caps,
        services: &Services,
        left: Left,
    ) -> (Arc<Self>, actor::Ends) {
        let (opener, streams, control, control_out) = connection.into_parts();
        let Caps { limits, body_len_max, lane_len_max, writes_apart } = caps;
        let writing = Writing { limits, len_max: lane_len_max, is_apart: writes_apart };
        let mut control_out = Some(control_out);
        let lanes = Lane::ALL.map(|lane| match control_out.take() {
            Some(stream) => Sender::opened(Arc::clone(&opener), lane, writing, stream),
            None => Sender::new(Arc::clone(&opener), lane, writing),
        });
        let link = Arc::new(Self {
            id,
            bulks: Bulks::new(Arc::clone(&opener)),
            opener,
            lanes,
            limits,
            body_len_max,
            sessions: session::Sessions::default(),
            work: Work::default(),
            began: TokioClock.now(),
            used_us: AtomicU64::new(0),
            turn: Notify::new(),
            leaving: watch::Sender::new(false),
            end: Mutex::new(None),
            left,
            actor: OnceLock::new(),
        });
        link.sessions.open(services, &link);
        (link, actor::Ends { streams, control })
    }

    /// Who is at the other end, and how the connection came about.
    #[must_use]
    pub fn peer(&self) -> &Opener {
        &self.opener
    }

    /// The peer.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.opener.node
    }

    /// The sending end of a lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> &Sender {
        let [control, rpc, high, normal, low, relay] = &self.lanes;
        match lane {
            Lane::Control => control,
            Lane::Rpc => rpc,
            Lane::PubsubHigh => high,
            Lane::PubsubNormal => normal,
            Lane::PubsubLow => low,
            Lane::Relay => relay,
        }
    }

    /// The turns of long bodies.
    #[must_use]
    pub const fn bulks(&self) -> &Bulks {
        &self.bulks
    }

    /// What is known of the connection.
    #[must_use]
    pub const fn opener(&self) -> &Arc<Opener> {
        &self.opener
    }

    /// The caps of decoders.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The longest body, in bytes.
    #[must_use]
    pub const fn body_len_max(&self) -> usize {
        self.body_len_max
    }

    /// The session of a service, if it has one here.
    #[must_use]
    pub fn session<S: Session>(&self, first_kind: u8) -> Option<&S> {
        self.sessions.of(first_kind)
    }

    /// Takes the link up for some work; none if it is leaving or over.
    #[must_use]
    pub fn take_up(self: &Arc<Self>) -> Option<InFlight> {
        let taken = self.work.take_up();
        let in_flight = InFlight(Arc::clone(self));
        if taken {
            self.touch();
        }
        taken.then_some(in_flight)
    }

    /// Takes the link up for work that the peer began, which it may do even while it is leaving.
    #[must_use]
    pub(crate) fn take_up_for_peer(self: &Arc<Self>) -> InFlight {
        self.work.take_up();
        self.touch();
        InFlight(Arc::clone(self))
    }

    fn touch(&self) {
        let since = TokioClock.now().saturating_duration_since(self.began);
        self.used_us.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it was last taken up.
    #[must_use]
    pub fn last_used(&self) -> Instant {
        self.began + Duration::from_micros(self.used_us.load(Ordering::Relaxed))
    }

    /// How much is in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.work.in_flight()
    }

    /// Whether it takes no new work.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.work.is_leaving()
    }

    /// Waits until it takes no new work.
    pub async fn left(&self) {
        let mut leaving = self.leaving.subscribe();
        // The sender lives as long as the link.
        drop(leaving.wait_for(|leaving| *leaving).await);
    }

    /// Takes no new work, if nothing is in flight and it was not used after `unused_since`. Says
    /// whether that is so.
    pub(crate) fn try_retire(&self, unused_since: Instant) -> bool {
        let retired = self.work.retire(|| self.last_used() <= unused_since);
        if retired {
            self.say_goodbye("idle");
        }
        retired
    }

    /// Takes no new work, and is closed when it is quiet on both sides.
    pub(crate) fn leave(&self, why: &str) {
        if !self.work.leave() {
            self.say_goodbye(why);
        }
    }

    fn say_goodbye(&self, why: &str) {
        self.leaving.send_replace(true);
        let goodbye = Goodbye { why: why.to_owned() };
        let head = (kind::GOODBYE, macula_core::wire::Flags::default(), 0);
        // A full or closed control lane is one whose connection is about to end by itself.
        drop(self.lane(Lane::Control).send(head, &goodbye));
        self.turn.notify_one();
    }

    /// The peer said goodbye: takes no new work, and tells when it is quiet.
    fn dismissed(&self) {
        if !self.work.leave() {
            self.leaving.send_replace(true);
            (self.left)();
        }
        self.turn.notify_one();
    }

    fn is_quiet(&self) -> bool {
        self.work.is_quiet()
    }

    fn say_quiet(&self) {
        let head = (kind::QUIET, macula_core::wire::Flags::default(), 0);
        drop(self.lane(Lane::Control).send(head, &Pulse {}));
    }

    /// Closes the connection at once. What is in flight ends with an error.
    pub(crate) fn close(&self, code: CloseCode) {
        self.end.lock().get_or_insert(Closed::Here(code));
        self.opener.close(code);
        self.turn.notify_one();
    }

    /// The link is over: once, and for all its sessions.
    pub(crate) fn over(self: &Arc<Self>, closed: &Closed) -> Closed {
        let closed = self.end.lock().get_or_insert_with(|| closed.clone()).clone();
        self.work.leave();
        self.leaving.send_replace(true);
        self.sessions.close(self, &closed);
        ::metrics::counter!(crate::transport::metrics::CLOSED, "reason" => closed.kind())
            .increment(1);
        closed
    }

    /// Kills the actor behind it, as a fault would: for drills. The connection ends with it.
    pub fn kill(&self) {
        if let Some(actor) = self.actor.get().and_then(Handle::actor_ref) {
            actor.kill();
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Closed> {
        self.end.lock().clone()
    }
}

//! A verified connection: who is at its other end, and its streams.

use std::fmt::{Debug, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use macula_core::identity::NodeId;
use s2n_quic::connection::{Error as QuicError, Handle, StreamAcceptor};
use s2n_quic::stream::{ReceiveStream, SendStream};

use super::admission::Counted;
use super::lane::{Incoming, Reader, incoming};
use super::peer_chain::ALERT_BASE;
use super::tls::{Credentials, JoinToken, Judged, Refusal};

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one that dialled.
    Dialler,
    /// The one that accepted.
    Acceptor,
}

impl Side {
    /// A word for it: the label of counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialler => "dialler",
            Self::Acceptor => "acceptor",
        }
    }
}

/// With which code a connection is closed (RFC 9000, section 20.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CloseCode {
    /// Whoever held it has ended.
    Dropped,
    /// It was quiet and is not needed.
    Done,
    /// The peer is not believed.
    Refused,
    /// The peer broke the protocol.
    Protocol,
    /// There is no room for it.
    Overloaded,
    /// The peer's certificate has ended, or was taken back.
    Distrusted,
    /// There is another connection to the same peer.
    Duplicate,
    /// The node stops.
    Stopping,
    /// Whoever was to take it is not there: nothing on it was read.
    Unread,
}

impl CloseCode {
    const ALL: [Self; 9] = [
        Self::Dropped,
        Self::Done,
        Self::Refused,
        Self::Protocol,
        Self::Overloaded,
        Self::Distrusted,
        Self::Duplicate,
        Self::Stopping,
        Self::Unread,
    ];

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Dropped => 0,
            Self::Done => 1,
            Self::Refused => 2,
            Self::Protocol => 3,
            Self::Overloaded => 4,
            Self::Distrusted => 5,
            Self::Duplicate => 6,
            Self::Stopping => 7,
            Self::Unread => 8,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|code| u64::from(code.number()) == number)
    }

    /// A word for it: the label of counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Overloaded => "overloaded",
            Self::Distrusted => "distrusted",
            Self::Duplicate => "duplicate",
            Self::Stopping => "stopping",
            Self::Unread => "unread",
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// This node closed it.
    Here(CloseCode),
    /// The peer closed it.
    There(CloseCode),
    /// The peer was not heard for the idle timeout.
    Silent,
    /// The peer is alive and does not know the connection any more.
    Reset,
    /// A side refused in the TLS handshake, with this alert (RFC 8446, section 6).
    Alert(u8),
    /// Anything else, in words.
    Other(String),
}

impl Closed {
    pub(super) fn from_quic(error: &QuicError) -> Self {
        use s2n_quic::provider::event::Location;
        match error {
            QuicError::Closed { initiator: Location::Local, .. } => Self::Here(CloseCode::Dropped),
            QuicError::Closed { .. } => Self::There(CloseCode::Dropped),
            QuicError::Application { error, initiator, .. } => {
                match (CloseCode::from_number(**error), initiator) {
                    (Some(code), Location::Local) => Self::Here(code),
                    (Some(code), _) => Self::There(code),
                    (None, _) => Self::Other(error.to_string()),
                }
            }
            QuicError::IdleTimerExpired { .. } | QuicError::NoValidPath { .. } => Self::Silent,
            QuicError::StatelessReset { .. } => Self::Reset,
            QuicError::Transport { code, .. } => {
                let alert = code.as_u64().checked_sub(ALERT_BASE);
                match alert.and_then(|alert| u8::try_from(alert).ok()) {
                    Some(alert) => Self::Alert(alert),
                    None => Self::Other(error.to_string()),
                }
            }
            other => Self::Other(other.to_string()),
        }
    }

    /// A word for the kind of end: the label of counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Here(code) | Self::There(code) => code.as_str(),
            Self::Silent => "silent",
            Self::Reset => "reset",
            Self::Alert(_) => "alert",
            Self::Other(_) => "other",
        }
    }

    /// Whether the peer ended it knowingly, and is still there.
    #[must_use]
    pub const fn is_orderly(&self) -> bool {
        matches!(
            self,
            Self::Here(CloseCode::Done | CloseCode::Duplicate)
                | Self::There(CloseCode::Done | CloseCode::Duplicate)
        )
    }
}

impl Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(code) => write!(f, "closed here ({})", code.as_str()),
            Self::There(code) => write!(f, "closed by the peer ({})", code.as_str()),
            Self::Silent => f.write_str("the peer was not heard any more"),
            Self::Reset => f.write_str("the peer does not know the connection any more"),
            Self::Alert(alert) => {
                let means = match alert {
                    42..=46 | 48 | 49 => "it does not believe this node; its log says why",
                    40 | 80 => "the handshake failed there; its log says why",
                    70 => "it does not speak TLS 1.3",
                    116 => "it wants a certificate",
                    120 => "it does not speak macula/1",
                    _ => "RFC 8446, section 6, says which that is",
                };
                write!(f, "TLS alert {alert}: {means}")
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Closed {}

/// All that is known of a connection, and the way to open streams on it. Shared by its users.
pub struct Opener {
    pub(super) handle: Handle,
    /// Who is at the other end.
    pub node: NodeId,
    /// Whether it has proved to own its node's key. Only a peer that is reported may not have, and
    /// only if its certificate names no key.
    pub proved: bool,
    /// Whether it was trusted when it came. A peer that is reported was not.
    pub trusted: bool,
    /// Which life of it.
    pub incarnation: u64,
    /// Which side this node is.
    pub side: Side,
    /// The peer's address, as it is seen here.
    pub address: SocketAddr,
    /// Where the peer says that it can be dialled.
    pub listen: Vec<SocketAddr>,
    /// The roles in its certificate.
    pub roles: Vec<String>,
    /// The realm whose names it says that it uses, as the hash of the realm's name.
    pub uses_realm: [u8; 32],
    /// Its realm: the name of the authority that has issued its certificate. Empty if it has none
    /// but itself, or is only reported.
    pub realm: Arc<str>,
    /// Until when its certificate holds, since the Unix epoch.
    pub not_after: Duration,
    /// How often trust had been replaced when the peer was judged.
    pub(super) generation: u64,
    /// The join token that let it in.
    pub(super) by_token: Option<JoinToken>,
    pub(super) chain: Arc<[Vec<u8>]>,
    pub(super) _counted: Option<Counted>,
}

impl Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("node", &self.node)
            .field("side", &self.side)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Opener {
    /// Opens a stream to the peer.
    pub(super) async fn open(&self) -> Result<SendStream, Closed> {
        let mut handle = self.handle.clone();
        handle.open_send_stream().await.map_err(|error| Closed::from_quic(&error))
    }

    /// Closes the connection at once. What is in flight is lost.
    pub fn close(&self, code: CloseCode) {
        self.handle.close(u32::from(code.number()).into());
    }

    /// Judges the peer again, by what is believed now.
    ///
    /// # Errors
    ///
    /// The [`Refusal`], if it is enforced.
    pub fn rejudge(&self, credentials: &Credentials) -> Result<(), Refusal> {
        let expected = (self.side == Side::Dialler).then_some(self.node);
        let peer = format!("{} at {}", self.node, self.address);
        match credentials.judge(self.side, expected, &self.chain) {
            Ok(Judged { node, .. }) if node != self.node => {
                let refusal = Refusal::FalseClaim { proved: node, claimed: self.node };
                credentials.refuse(refusal, peer)
            }
            Ok(Judged { token_due: false, .. }) => Ok(()),
            // The token is not asked for again, but it has to be the one that is known now.
            Ok(Judged { .. }) if self.by_token == credentials.join_token() => Ok(()),
            Ok(Judged { .. }) => credentials.refuse(Refusal::WrongToken(self.node), peer),
            Err(refusal) => credentials.refuse(refusal, peer),
        }
    }
}

/// Tells the peer that nothing on the connection was read, if it is dropped before somebody takes the
/// connection.
#[derive(Debug)]
pub(super) struct Untaken(pub(super) Option<Arc<Opener>>);

impl Drop for Untaken {
    fn drop(&mut self) {
        if let Some(opener) = &self.0 {
            opener.close(CloseCode::Unread);
        }
    }
}

/// A connection on which both sides have said hello.
#[derive(Debug)]
pub struct Connection {
    /// What is known of it.
    pub opener: Arc<Opener>,
    pub(super) untaken: Untaken,
    pub(super) streams: Streams,
    /// The peer's control lane, on which its hello has come.
    pub(super) control: Reader,
    pub(super) control_out: SendStream,
}

impl Connection {
    /// What is known of it, the peer's streams, and both ends of the control lane.
    pub(crate) fn into_parts(self) -> (Arc<Opener>, Streams, Reader, SendStream) {
        let Self { opener, mut untaken, streams, control, control_out } = self;
        untaken.0 = None;
        (opener, streams, control, control_out)
    }
}

/// The streams that the peer opens.
pub struct Streams(pub(super) StreamAcceptor, pub(super) Handle);

impl Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Streams")
    }
}

impl Streams {
    pub(super) async fn next_raw(&mut self) -> Result<ReceiveStream, Closed> {
        let stream = self.0.accept_receive_stream().await;
        match stream.map_err(|error| Closed::from_quic(&error))? {
            Some(stream) => Ok(stream),
            // The library ends so for a peer that has gone silent too; its handle tells which it is.
            None => Err(match self.1.ping() {
                Err(error) => Closed::from_quic(&error),
                Ok(()) => Closed::There(CloseCode::Dropped),
            }),
        }
    }

    /// The next stream that the peer opens, once it has said what it is for.
    ///
    /// # Errors
    ///
    /// How the connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn next(&mut self) -> Result<Pending, Closed> {
        self.next_raw().await.map(Pending)
    }
}

/// A stream of the peer that has not said what it is for.
pub struct Pending(ReceiveStream);

impl Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

impl Pending {
    /// Waits for the stream's first byte.
    ///
    /// # Errors
    ///
    /// As [`Reader::next`].
    pub async fn named(
        self,
        limits: macula_core::wire::Limits,
    ) -> Result<Incoming, super::lane::ReadError> {
        incoming(self.0, limits).await
    }
}

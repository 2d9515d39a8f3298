//! The hello of both sides: the last step before a connection counts.
//!
//! A dialler's QUIC connection is up before the acceptor has judged its certificate, so it counts
//! only once the acceptor's welcome has come.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::wire::{Flags, Frame, Limits, encode_frame, from_body};
use s2n_quic::Connection as Quic;
use s2n_quic::connection::Handle;
use s2n_quic::stream::SendStream;
use serde::Serialize;

use super::admission::Counted;
use super::connection::{Closed, Connection, Opener, Side, Streams, Untaken};
use super::endpoint::Me;
use super::lane::{Incoming, Lane, ReadError, Reader, incoming};
use super::peer_chain::Heard;
use super::tls::{self, Credentials, Expectation, JoinToken, Judged, Refusal};
use super::wire::{Hello, LISTEN_MAX, TurnedAway, Welcome, kind};

/// Why a greeting failed.
#[derive(Debug)]
pub(super) enum Failed {
    Refused(Refusal),
    TurnedAway(TurnedAway),
    Closed(Closed),
    Protocol(String),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed(closed) => Self::Closed(closed),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<Closed> for Failed {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}

/// A QUIC connection whose TLS handshake is done.
struct Fresh {
    handle: Handle,
    streams: Streams,
    address: SocketAddr,
    chain: Arc<[Vec<u8>]>,
    /// Whose key the peer has proved to own, whether it is trusted or not.
    proved: Option<NodeId>,
    generation: u64,
}

/// A peer, as logs name it.
struct Peer {
    node: NodeId,
    address: SocketAddr,
}

impl Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.node, self.address)
    }
}

/// What both sides learn of each other.
struct Met {
    /// None if the peer is not trusted, which is only reported.
    judged: Option<Judged>,
    by_token: Option<JoinToken>,
    claimed: NodeId,
    incarnation: u64,
    listen: Vec<SocketAddr>,
    uses_realm: [u8; 32],
}

/// The dialler's half.
pub(super) async fn dial(
    quic: Quic,
    me: &Me,
    expected: Expectation,
    limits: Limits,
) -> Result<Connection, Failed> {
    let mut fresh = fresh(quic, &me.credentials)?;
    let judged = judged(&me.credentials, Side::Dialler, expected.node(), &fresh)?;
    let hello = Hello {
        node: me.credentials.node(),
        incarnation: me.incarnation,
        listen: me.listen.clone(),
        // It is a secret, and not for peers that are only let be.
        token: me
            .credentials
            .join_token()
            .filter(|_token| judged.is_some())
            .map(|token| token.reveal().to_owned()),
        realm: me.realm.into(),
    };
    let out = say(&fresh.handle, kind::HELLO, &hello, &limits).await?;
    let (control, frame) = first(&mut fresh.streams, limits).await?;
    if frame.kind == kind::TURNED_AWAY {
        return Err(Failed::TurnedAway(read(&frame, &limits)?));
    }
    if frame.kind != kind::WELCOME {
        return Err(Failed::Protocol(format!("kind {:#04x} in place of a welcome", frame.kind.0)));
    }
    let Welcome { node: claimed, incarnation, listen, realm } = read(&frame, &limits)?;
    believe(&me.credentials, &fresh, claimed)?;
    let met = Met { judged, by_token: None, claimed, incarnation, listen, uses_realm: *realm };
    Ok(made(fresh, Side::Dialler, met, (control, out, None)))
}

/// The acceptor's half.
pub(super) async fn accept(
    quic: Quic,
    me: &Me,
    limits: Limits,
    counted: Counted,
) -> Result<Connection, Failed> {
    let mut fresh = fresh(quic, &me.credentials)?;
    let judged = judged(&me.credentials, Side::Acceptor, None, &fresh)?;
    let (control, frame) = first(&mut fresh.streams, limits).await?;
    if frame.kind != kind::HELLO {
        return Err(Failed::Protocol(format!("kind {:#04x} in place of a hello", frame.kind.0)));
    }
    let Hello { node: claimed, incarnation, listen, token, realm } = read(&frame, &limits)?;
    let mut by_token = None;
    if let Some(Judged { node, token_due: true, .. }) = &judged {
        match admit(&me.credentials, &fresh, *node, token.as_deref()) {
            Ok(token) => by_token = token,
            Err(refusal) => {
                let why = TurnedAway { busy: false, why: refusal.to_string() };
                turn_away(&fresh.handle, &why, &limits).await;
                return Err(refusal.into());
            }
        }
    }
    believe(&me.credentials, &fresh, claimed)?;
    let welcome = Welcome {
        node: me.credentials.node(),
        incarnation: me.incarnation,
        listen: me.listen.clone(),
        realm: me.realm.into(),
    };
    let met = Met { judged, by_token, claimed, incarnation, listen, uses_realm: *realm };
    let out = say(&fresh.handle, kind::WELCOME, &welcome, &limits).await?;
    Ok(made(fresh, Side::Acceptor, met, (control, out, Some(counted))))
}

/// Whether the peer is who it says it is, and somebody else than this node.
fn believe(credentials: &Credentials, fresh: &Fresh, claimed: NodeId) -> Result<(), Refusal> {
    let node = fresh.proved.unwrap_or(claimed);
    let peer = Peer { node, address: fresh.address };
    if node == credentials.node() || claimed == credentials.node() {
        // Nothing can be done with such a connection, so it is not made in any case.
        credentials.refuse_always(&Refusal::Myself, &peer);
        return Err(Refusal::Myself);
    }
    match fresh.proved {
        Some(proved) if proved != claimed => {
            credentials.refuse(Refusal::FalseClaim { proved, claimed }, &peer)
        }
        Some(_) | None => Ok(()),
    }
}

/// The token that lets a newcomer in; none if it is let in without, which is reported.
fn admit(
    credentials: &Credentials,
    fresh: &Fresh,
    node: NodeId,
    shown: Option<&str>,
) -> Result<Option<JoinToken>, Refusal> {
    let refusal = match (credentials.join_token(), shown) {
        (Some(token), Some(shown)) if token.matches(shown) => return Ok(Some(token)),
        (_, Some(_)) => Refusal::WrongToken(node),
        (_, None) => Refusal::NotAllowed(node),
    };
    credentials.refuse(refusal, Peer { node, address: fresh.address })?;
    Ok(None)
}

/// Says why there will be no connection, and waits until the peer has heard it.
async fn turn_away(handle: &Handle, why: &TurnedAway, limits: &Limits) {
    if let Ok(mut out) = say(handle, kind::TURNED_AWAY, why, limits).await {
        // Whether it was heard or not, the connection is closed after this.
        out.flush().await.ok();
    }
}

/// Tells a peer that there is no room for its connection.
pub(super) async fn overloaded(mut quic: Quic, why: &str, limits: &Limits) {
    let why = TurnedAway { busy: true, why: why.to_owned() };
    // The hello is not read: there is no room for it.
    quic.keep_alive(false).ok();
    turn_away(&quic.handle(), &why, limits).await;
}

fn fresh(quic: Quic, credentials: &Credentials) -> Result<Fresh, Failed> {
    let generation = credentials.generation();
    let address = quic.remote_addr().map_err(|error| Closed::from_quic(&error))?;
    let heard = quic.query_event_context(|heard: &Heard| heard.chain.clone());
    let chain = heard.ok().flatten().unwrap_or_default();
    let (mut handle, streams) = quic.split();
    handle.keep_alive(true).map_err(|error| Closed::from_quic(&error))?;
    let proved = tls::proved_node(&chain);
    let streams = Streams(streams, handle.clone());
    Ok(Fresh { handle, streams, address, chain, proved, generation })
}

/// Judges the peer; none if it is refused and reported only.
fn judged(
    credentials: &Credentials,
    judging: Side,
    expected: Option<NodeId>,
    fresh: &Fresh,
) -> Result<Option<Judged>, Refusal> {
    match credentials.judge(judging, expected, &fresh.chain) {
        Ok(judged) => Ok(Some(judged)),
        // The handshake has counted whatever it could see.
        Err(Refusal::NoCertificate) => {
            credentials.refuse(Refusal::NoCertificate, fresh.address).map(|()| None)
        }
        Err(refusal) if credentials.enforces() => Err(refusal),
        Err(_reported) => Ok(None),
    }
}

async fn say<T: Serialize>(
    handle: &Handle,
    kind: macula_core::wire::Kind,
    body: &T,
    limits: &Limits,
) -> Result<SendStream, Failed> {
    let mut bytes = BytesMut::from(&[Lane::Control.number()][..]);
    encode_frame(&mut bytes, kind, Flags::default(), 0, body, limits)
        .map_err(|error| Failed::Protocol(error.to_string()))?;
    let mut handle = handle.clone();
    let stream = handle.open_send_stream().await;
    let mut stream = stream.map_err(|error| Closed::from_quic(&error))?;
    let bytes: Bytes = bytes.freeze();
    stream.send(bytes).await.map_err(|error| Failed::from(ReadError::from_quic(&error)))?;
    Ok(stream)
}

/// The first frame of the peer's control lane. No other stream may come before it.
async fn first(streams: &mut Streams, limits: Limits) -> Result<(Reader, Frame), Failed> {
    let stream = streams.next_raw().await?;
    let Incoming::Lane(Lane::Control, mut control) = incoming(stream, limits).await? else {
        return Err(Failed::Protocol("another stream before the control lane".to_owned()));
    };
    let frame = control.next().await?;
    let frame = frame.ok_or_else(|| Failed::Protocol("the control lane has ended".to_owned()))?;
    Ok((control, frame))
}

fn read<'a, T: serde::Deserialize<'a>>(frame: &'a Frame, limits: &Limits) -> Result<T, Failed> {
    from_body(&frame.body, limits).map_err(|error| Failed::Protocol(error.to_string()))
}

fn made(
    fresh: Fresh,
    side: Side,
    met: Met,
    (control, control_out, counted): (Reader, SendStream, Option<Counted>),
) -> Connection {
    let Met { judged, by_token, claimed, mut incarnation, mut listen, uses_realm } = met;
    listen.truncate(LISTEN_MAX);
    let node = fresh.proved.unwrap_or(claimed);
    if fresh.proved.is_none() {
        // Whoever may not be the node that it claims to be ends no connection of that node, and
        // teaches nobody where it can be dialled.
        incarnation = 0;
        listen.clear();
    }
    let trusted = judged.is_some();
    let (roles, realm, not_after) = match judged {
        Some(judged) => (judged.roles, judged.realm, judged.not_after),
        None => (Vec::new(), String::new(), std::time::Duration::MAX),
    };
    let opener = Opener {
        handle: fresh.handle,
        node,
        proved: fresh.proved.is_some(),
        trusted,
        incarnation,
        side,
        address: fresh.address,
        listen,
        roles,
        uses_realm,
        realm: realm.into(),
        not_after,
        generation: fresh.generation,
        by_token,
        chain: fresh.chain,
        _counted: counted,
    };
    ::metrics::counter!(super::metrics::OPENED, "side" => side.as_str()).increment(1);
    let opener = Arc::new(opener);
    let untaken = Untaken(Some(Arc::clone(&opener)));
    Connection { opener, untaken, streams: fresh.streams, control, control_out }
}

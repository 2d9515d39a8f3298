//! What reads a connection: its control lane, and whatever streams the peer opens.

use std::sync::Arc;

use macula_core::wire::{Flags, Frame, Kind};
use tokio::task::JoinSet;

use super::Link;
use super::actor::Ends;
use crate::transport::lane::{BulkReader, Incoming, Lane, ReadError, Reader};
use crate::transport::{CloseCode, Closed, Goodbye, Pulse, Unsupported, kind};

/// How many streams of one connection are read: no fewer than a peer may open, since a stream that
/// is not read takes from what all streams may send.
const READING_MAX: usize = 10_000;

/// Reads until the connection is over, and says how it ended.
pub(super) async fn read(link: Arc<Link>, ends: Ends) -> Closed {
    let closed = Reading::new(link).run(ends).await;
    match closed {
        Ok(never) => match never {},
        Err(closed) => closed,
    }
}

enum Never {}

struct Reading {
    link: Arc<Link>,
    readers: JoinSet<Result<(), ReadError>>,
    /// Whether this side has said goodbye and the peer has answered that it is quiet.
    peer_quiet: bool,
    peer_leaves: bool,
    quiet_said: bool,
}

impl Reading {
    fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            readers: JoinSet::new(),
            peer_quiet: false,
            peer_leaves: false,
            quiet_said: false,
        }
    }

    async fn run(mut self, ends: Ends) -> Result<Never, Closed> {
        let Ends { mut streams, mut control } = ends;
        loop {
            tokio::select! {
                // The one that a peer can keep ready for ever comes last.
                biased;
                () = self.link.turn.notified() => self.turn()?,
                stream = streams.next(), if self.readers.len() < READING_MAX => {
                    let link = Arc::clone(&self.link);
                    let stream = stream?;
                    self.readers.spawn(async move {
                        match stream.named(*link.limits()).await {
                            Ok(Incoming::Lane(lane, reader)) => read_lane(link, lane, reader).await,
                            Ok(Incoming::Bulk(bulk)) => read_bulk(link, bulk).await,
                            Err(error) => given_up(error),
                        }
                    });
                }
                Some(read) = self.readers.join_next() => match read {
                    Ok(Ok(()) | Err(ReadError::Reset | ReadError::Silent | ReadError::Closed(_))) => {}
                    Ok(Err(error)) => return Err(self.broken(error)),
                    Err(panicked) => return Err(Closed::Other(panicked.to_string())),
                },
                frame = control.next() => match frame {
                    Ok(Some(frame)) => self.control(frame)?,
                    Ok(None) => return Err(Closed::There(CloseCode::Dropped)),
                    Err(error) => return Err(self.broken(error)),
                },
            }
        }
    }

    /// The peer broke the protocol, or the connection has ended.
    fn broken(&self, error: ReadError) -> Closed {
        match error {
            ReadError::Closed(closed) => closed,
            error => {
                let node = self.link.node().short();
                tracing::warn!(node, "a peer does not keep to the protocol: {error}");
                self.link.close(CloseCode::Protocol);
                Closed::Here(CloseCode::Protocol)
            }
        }
    }

    /// The link has changed: it leaves, is quiet, or was closed.
    fn turn(&mut self) -> Result<(), Closed> {
        if let Some(closed) = self.link.ended() {
            return Err(closed);
        }
        if self.link.is_quiet() {
            if self.peer_leaves && !self.quiet_said {
                self.quiet_said = true;
                self.link.say_quiet();
            }
            if self.peer_quiet {
                self.link.close(CloseCode::Done);
                return Err(Closed::Here(CloseCode::Done));
            }
        }
        Ok(())
    }

    fn control(&mut self, frame: Frame) -> Result<(), Closed> {
        let link = &self.link;
        match frame.kind {
            kind::GOODBYE => {
                let goodbye: Result<Goodbye, _> =
                    macula_core::wire::from_body(&frame.body, link.limits());
                let why = goodbye.map(|goodbye| goodbye.why).unwrap_or_default();
                tracing::debug!(node = link.node().short(), why, "a peer says goodbye");
                self.peer_leaves = true;
                link.dismissed();
            }
            kind::QUIET => {
                self.peer_quiet = true;
                return self.turn();
            }
            kind::PING => {
                let head = (kind::PONG, Flags::default(), frame.id);
                drop(link.lane(Lane::Control).send(head, &Pulse {}));
            }
            kind::PONG | kind::HELLO | kind::WELCOME | kind::TURNED_AWAY => {}
            kind::UNSUPPORTED => {
                let body = macula_core::wire::from_body(&frame.body, link.limits());
                if let Ok(Unsupported { kind }) = body {
                    link.sessions.unsupported(link, Kind(kind), frame.id);
                }
            }
            _ => link.sessions.frame(link, Lane::Control, frame),
        }
        Ok(())
    }
}

async fn read_lane(link: Arc<Link>, lane: Lane, mut reader: Reader) -> Result<(), ReadError> {
    while let Some(frame) = reader.next().await? {
        link.sessions.frame(&link, lane, frame);
    }
    Ok(())
}

async fn read_bulk(link: Arc<Link>, bulk: BulkReader) -> Result<(), ReadError> {
    let (about, body) = match bulk.about().await {
        Ok(read) => read,
        Err(error) => return given_up(error),
    };
    let session = Arc::clone(&link);
    session.sessions.bulk(link, about, body).await;
    Ok(())
}

/// A stream that ends before it has said what it is about was given up by its sender.
fn given_up(error: ReadError) -> Result<(), ReadError> {
    match error {
        ReadError::Truncated => Ok(()),
        error => Err(error),
    }
}

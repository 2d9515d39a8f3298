//! What travels on the control lane. Wire types are no domain types: they only ever gain fields.

use std::net::SocketAddr;

use macula_core::identity::NodeId;
use macula_core::wire::Kind;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// The kinds of frames on the control lane: 0x01 to 0x0f.
pub mod kind {
    use super::Kind;

    /// The dialler says who it is.
    pub const HELLO: Kind = Kind(0x01);
    /// The acceptor says who it is, and that it takes the connection.
    pub const WELCOME: Kind = Kind(0x02);
    /// The acceptor does not take the connection.
    pub const TURNED_AWAY: Kind = Kind(0x03);
    /// No new work on this connection, please: it is going to be closed when it is quiet.
    pub const GOODBYE: Kind = Kind(0x04);
    /// The other side has no work on this connection any more.
    pub const QUIET: Kind = Kind(0x05);
    /// A question for a sign of life.
    pub const PING: Kind = Kind(0x06);
    /// The answer, with the question's correlation id.
    pub const PONG: Kind = Kind(0x07);
    /// A frame of a kind that is not known here, by its kind and its correlation id.
    pub const UNSUPPORTED: Kind = Kind(0x08);
}

pub use kind::UNSUPPORTED;

/// The first frame of a dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) node: NodeId,
    /// Which life of the node: it grows with each start of its process.
    pub(super) incarnation: u64,
    /// Where it can be dialled, as it believes itself.
    #[serde(default)]
    pub(super) listen: Vec<SocketAddr>,
    #[serde(default)]
    pub(super) token: Option<String>,
    /// The realm whose names it uses.
    #[serde(default)]
    pub(super) realm: ByteArray<32>,
}

/// The first frame of an acceptor that takes a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    #[serde(default)]
    pub(super) listen: Vec<SocketAddr>,
    #[serde(default)]
    pub(super) realm: ByteArray<32>,
}

/// The only frame of an acceptor that does not take a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TurnedAway {
    /// Whether a later try may succeed.
    #[serde(default)]
    pub(super) busy: bool,
    pub(super) why: String,
}

/// Why a connection is going to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// A word for it.
    pub why: String,
}

/// A frame is not known here. Correlation ids are each service's own, so the kind says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// The frame's kind.
    pub kind: u8,
}

/// The empty body of frames that say all by their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pulse {}

/// How many addresses of a peer are kept.
pub(super) const LISTEN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::{Goodbye, Hello, Pulse, TurnedAway, Unsupported, Welcome};
    use data_encoding::HEXLOWER;
    use macula_core::identity::Keypair;
    use macula_core::wire::{Limits, from_body, to_body};
    use serde::{Deserialize, Serialize};

    fn hello() -> Hello {
        Hello {
            node: Keypair::from_seed([1; 32]).node_id(),
            incarnation: 7,
            listen: vec!["127.0.0.1:7400".parse().unwrap()],
            token: Some("join".to_owned()),
            realm: [7; 32].into(),
        }
    }

    fn golden<T: Serialize>(message: &T) -> String {
        HEXLOWER.encode(&to_body(message, 4096).unwrap())
    }

    #[test]
    fn every_message_has_its_bytes_for_ever() {
        let Hello { node, incarnation, listen, realm, .. } = hello();
        let all = [
            golden(&hello()),
            golden(&Welcome { node, incarnation, listen, realm }),
            golden(&TurnedAway { busy: true, why: "full".to_owned() }),
            golden(&Goodbye { why: "idle".to_owned() }),
            golden(&Pulse {}),
            golden(&Unsupported { kind: 0x10 }),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn an_old_reader_takes_a_new_writer_and_the_other_way_round() {
        #[derive(Serialize, Deserialize)]
        struct Newer {
            node: macula_core::identity::NodeId,
            incarnation: u64,
            colour: String,
        }
        let node = hello().node;
        let newer = Newer { node, incarnation: 9, colour: "red".to_owned() };
        let read: Hello = from_body(&to_body(&newer, 4096).unwrap(), &Limits::default()).unwrap();
        assert_eq!((read.node, read.incarnation, read.listen.len()), (node, 9, 0));
        let read: Welcome =
            from_body(&to_body(&hello(), 4096).unwrap(), &Limits::default()).unwrap();
        assert_eq!(read.listen, hello().listen);
    }
}

//! The frames of relaying.

use bytes::{Bytes, BytesMut};
use macula_core::identity::NodeId;
use macula_core::wire::Kind;
use serde::{Deserialize, Serialize};

use super::ledger::{Denial, NotCarried};
use crate::transport::overlay::Datagram;

/// The first of the kinds of frames that belong to relaying.
pub(crate) const FIRST_KIND: u8 = 0x60;

/// Asks a relay for a place, or to keep it. The body is empty.
pub(super) const RESERVE: Kind = Kind(FIRST_KIND);

/// The relay has given a place: the body is [`Reserved`].
pub(super) const RESERVED: Kind = Kind(FIRST_KIND + 1);

/// The relay has not: the body is [`Denied`].
pub(super) const DENIED: Kind = Kind(FIRST_KIND + 2);

/// A datagram for a node, to its relay.
pub(super) const CARRY: Kind = Kind(FIRST_KIND + 3);

/// A datagram from a node, from its relay.
pub(super) const CARRIED: Kind = Kind(FIRST_KIND + 4);

/// The relay did not carry something: the body is [`Uncarried`].
pub(super) const UNCARRIED: Kind = Kind(FIRST_KIND + 5);

/// Where the sender is reached now: the body is as that of its record.
pub(super) const REACHED: Kind = Kind(FIRST_KIND + 6);

/// How many bytes stand before the payload of a datagram: the node, and two ports.
pub(super) const HEAD_LEN: usize = 36;

/// Asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reserve {}

/// A place was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reserved {
    /// For how many milliseconds.
    pub(super) lifetime_ms: u64,
}

/// No place was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Denied {
    /// Why.
    pub(super) why: Denial,
}

/// Something was not carried to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Uncarried {
    /// For which node it was.
    pub(super) node: NodeId,
    /// Why it was not.
    pub(super) why: NotCarried,
}

/// The bytes of a datagram, with the node that it is for or from.
pub(super) fn encode(node: NodeId, datagram: &Datagram) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD_LEN + datagram.payload.len());
    bytes.extend_from_slice(node.as_bytes());
    bytes.extend_from_slice(&datagram.from.to_be_bytes());
    bytes.extend_from_slice(&datagram.to.to_be_bytes());
    bytes.extend_from_slice(&datagram.payload);
    bytes.freeze()
}

/// The bytes of the node that a datagram is for or from, its two ports, and what it carries; none if
/// it is too short.
pub(super) fn split(bytes: &Bytes) -> Option<(&[u8; 32], (u16, u16), Bytes)> {
    let (node, rest) = bytes.split_first_chunk::<32>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let (to, _payload) = rest.split_first_chunk::<2>()?;
    let ports = (u16::from_be_bytes(*from), u16::from_be_bytes(*to));
    Some((node, ports, bytes.slice(HEAD_LEN..)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use macula_core::identity::Keypair;
    use macula_core::wire::{Limits, from_body, to_body};
    use proptest::prelude::*;

    use super::{Denial, Denied, HEAD_LEN, NotCarried, Uncarried, encode, split};
    use crate::transport::overlay::Datagram;

    proptest! {
        #[test]
        fn a_datagram_is_read_as_it_was_written(
            seed in any::<[u8; 32]>(),
            from: u16,
            to: u16,
            payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let node = Keypair::from_seed(seed).node_id();
            let datagram = Datagram { node, from, to, payload: payload.into() };
            let bytes = encode(node, &datagram);
            prop_assert_eq!(split(&bytes), Some((node.as_bytes(), (from, to), datagram.payload)));
        }

        #[test]
        fn no_bytes_do_any_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let len = bytes.len();
            if let Some((_, _, payload)) = split(&Bytes::from(bytes)) {
                prop_assert_eq!(payload.len() + HEAD_LEN, len);
            }
        }
    }

    #[test]
    fn refusals_have_their_bytes_for_ever() {
        let denied = to_body(&Denied { why: Denial::RealmFull }, 64).unwrap();
        assert_eq!(denied.as_ref(), b"\x81\xa3why\xaarealm_full");
        let node = Keypair::from_seed([7; 32]).node_id();
        let uncarried = Uncarried { node, why: NotCarried::RealmQuota };
        let bytes = to_body(&uncarried, 128).unwrap();
        assert_eq!(from_body::<Uncarried>(&bytes, &Limits::for_body(128)), Ok(uncarried));
        // Whoever does not know a word knows that there is one.
        assert!(from_body::<Denied>(b"\x81\xa3why\xa3new", &Limits::for_body(128)).is_err());
    }

    #[test]
    fn a_datagram_has_its_bytes_for_ever() {
        let node = Keypair::from_seed([7; 32]).node_id();
        let datagram = Datagram { node, from: 2, to: 1, payload: Bytes::from("hi") };
        let bytes = encode(node, &datagram);
        assert_eq!(bytes.get(..32), Some(node.as_bytes().as_slice()));
        assert_eq!(bytes.get(32..), Some(&[0, 2, 0, 1, b'h', b'i'][..]));
    }
}

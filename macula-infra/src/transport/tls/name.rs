//! The name in a `ClientHello`: whom a dial expects, and which dial it is.
//!
//! The TLS library tells a verifier nothing of a connection but this name (SNI, RFC 6066). It has
//! the number of the dial, by which the dialler finds out why its verifier refused, and the node
//! that is expected, if one is: `d7.<52 characters>.macula` or `d7.any.macula`.

use macula_core::identity::NodeId;

/// Whom a dial expects to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum Expectation {
    /// This node and no other.
    Node(NodeId),
    /// Any that is trusted.
    Anybody,
}

/// The name under which one dial asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct DialName {
    pub(in crate::transport) number: u64,
    pub(in crate::transport) expected: Expectation,
}

const SUFFIX: &str = ".macula";

impl DialName {
    pub(in crate::transport) fn encode(self) -> String {
        match self.expected {
            Expectation::Node(node) => format!("d{}.{node}{SUFFIX}", self.number),
            Expectation::Anybody => format!("d{}.any{SUFFIX}", self.number),
        }
    }

    pub(in crate::transport) fn decode(text: &str) -> Option<Self> {
        let (number, expected) = text.strip_suffix(SUFFIX)?.strip_prefix('d')?.split_once('.')?;
        let expected = match expected {
            "any" => Expectation::Anybody,
            node => Expectation::Node(node.parse().ok()?),
        };
        Some(Self { number: number.parse().ok()?, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::{DialName, Expectation};
    use macula_core::identity::Keypair;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let node = Keypair::from_seed([7; 32]).node_id();
        for expected in [Expectation::Anybody, Expectation::Node(node)] {
            let name = DialName { number: 40, expected };
            assert_eq!(DialName::decode(&name.encode()), Some(name));
        }
        for wrong in ["", "macula", "d1.any", "x1.any.macula", "d1.short.macula"] {
            assert_eq!(DialName::decode(wrong), None, "{wrong}");
        }
    }
}

//! What is true: the closest nodes to a key, told by somebody who knows all of them.

use crate::dht::key::{BITS, Key};
use crate::dht::proto::peer::Peer;

/// All nodes in the order of their keys.
#[derive(Debug, Clone, Default)]
pub struct Oracle(Vec<Peer>);

impl Oracle {
    /// An oracle that knows these.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = Peer>) -> Self {
        let mut sorted: Vec<Peer> = peers.into_iter().collect();
        sorted.sort_unstable_by_key(Peer::key);
        Self(sorted)
    }

    /// The nodes that are closest to a key, the closest first.
    #[must_use]
    pub fn closest(&self, target: Key, count: usize) -> Vec<Peer> {
        let mut found = Vec::with_capacity(count);
        descend(&self.0, target, 0, count, &mut found);
        found
    }

    /// All of them.
    #[must_use]
    pub fn peers(&self) -> &[Peer] {
        &self.0
    }
}

/// Goes down the tree of prefixes, first on the side where the target is.
fn descend(peers: &[Peer], target: Key, bit: usize, count: usize, found: &mut Vec<Peer>) {
    if found.len() >= count || peers.is_empty() {
        return;
    }
    if peers.len() == 1 || bit >= BITS {
        found.extend(peers.iter().take(count - found.len()).cloned());
        return;
    }
    let ones_at = peers.partition_point(|peer| !has_bit(peer.key(), bit));
    let (zeros, ones) = peers.split_at(ones_at);
    let (near, far) = if has_bit(target, bit) { (ones, zeros) } else { (zeros, ones) };
    descend(near, target, bit + 1, count, found);
    descend(far, target, bit + 1, count, found);
}

fn has_bit(key: Key, bit: usize) -> bool {
    key.as_bytes().get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
}

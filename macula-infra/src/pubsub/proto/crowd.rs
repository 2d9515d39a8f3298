//! Where in the directory many subscribers of one prefix are found.
//!
//! A key of the directory gives a few hundred nodes at most, and keeps no more than a thousand. So a
//! prefix has more keys as it has more subscribers: its own name; two that each take a half of the
//! nodes, by the first bit of their ids; four by the first two; and so on. It is a prefix hash tree
//! (Ramabhadran, Ratnasamy, Hellerstein and Shenker, PODC 2004) of which nobody is in charge. A node
//! looks now and then how many there are at the deepest of its own keys. If that is crowded it
//! announces itself at the next one too, and if both that and the one above are nearly empty, no longer.
//! A publisher begins at the prefix, and wherever it finds many it looks at both halves: so it finds
//! all, once all who are there know that they are many.
//!
//! With n subscribers that takes about n/10 searches, and some minutes after n have come at once. How
//! many can be found is bounded by what a publisher remembers of one prefix: 8,192 nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;

/// With so many nodes a key is crowded: they all are found in one search, nearly always.
pub(crate) const CROWD: usize = 64;

/// A publisher that has found so many at a key looks further.
pub(crate) const MANY: usize = CROWD / 2;

/// How often a prefix is halved at most.
const DEPTH_MAX: u8 = 10;

/// How soon a node looks at its own key again, at first.
const LOOK_INITIAL: Duration = Duration::from_secs(5);

/// The longest such wait.
const LOOK_MAX: Duration = Duration::from_secs(320);

/// No topic holds this.
const MARK: char = '~';

/// Under what a node is announced, among the subscribers of a prefix, at one of its keys.
pub(crate) fn name(prefix: &str, node: NodeId, depth: u8) -> Arc<str> {
    if depth == 0 {
        return prefix.into();
    }
    let bits = node.as_bytes().iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits = bits.take(depth.into()).map(|bit| if bit == 0 { '0' } else { '1' });
    prefix.chars().chain([MARK]).chain(bits).collect::<String>().into()
}

/// The prefix of which a name is a key, and how deep that is.
pub(crate) fn prefix_of(name: &str) -> (&str, u8) {
    let (prefix, bits) = name.split_once(MARK).unwrap_or((name, ""));
    (prefix, u8::try_from(bits.len()).unwrap_or(u8::MAX))
}

/// The keys of both halves.
pub(crate) fn halves(name: &str) -> Vec<Arc<str>> {
    let (_, depth) = prefix_of(name);
    if depth >= DEPTH_MAX {
        return Vec::new();
    }
    let mark = if depth == 0 { MARK.to_string() } else { String::new() };
    ['0', '1'].map(|bit| format!("{name}{mark}{bit}").into()).into()
}

/// What a node does about the prefixes under which it is announced.
#[derive(Debug)]
pub(crate) struct Crowds {
    me: NodeId,
    entropy: Entropy,
    prefixes: BTreeMap<Arc<str>, Crowd>,
    timers: Deadlines<Arc<str>>,
}

#[derive(Debug)]
struct Crowd {
    /// It is announced at the keys down to this one.
    depth: u8,
    /// At which it looks.
    looked: Option<u8>,
    wait: Duration,
}

/// What came of looking at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, for now.
    Nothing,
    /// It is to be looked at another one.
    Look(Arc<str>),
    /// The node is to be announced at the keys of a prefix down to this depth.
    Depth(Arc<str>, u8),
}

impl Crowds {
    pub(crate) fn new(me: NodeId, entropy: Entropy) -> Self {
        Self { me, entropy, prefixes: BTreeMap::new(), timers: Deadlines::default() }
    }

    /// This node is announced under a prefix so deep, or no longer.
    pub(crate) fn announced(&mut self, now: Instant, prefix: Arc<str>, depth: Option<u8>) {
        match depth {
            Some(depth) => {
                let crowd = Crowd { depth, looked: None, wait: LOOK_INITIAL };
                self.prefixes.insert(Arc::clone(&prefix), crowd);
                self.look_later(now, prefix);
            }
            None => {
                self.prefixes.remove(&prefix);
                self.timers.clear(prefix);
            }
        }
    }

    /// Nodes that came together do not look together.
    fn look_later(&mut self, now: Instant, prefix: Arc<str>) {
        let Some(crowd) = self.prefixes.get_mut(&prefix) else { return };
        let micros = u64::try_from(crowd.wait.as_micros()).unwrap_or(u64::MAX);
        let wait = crowd.wait / 2 + Duration::from_micros(self.entropy.below(micros));
        crowd.wait = (crowd.wait * 2).min(LOOK_MAX);
        self.timers.set(prefix, now + wait);
    }

    /// When it is to be looked next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.next().map(|(at, _)| at)
    }

    /// A key that it is time to look at.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Arc<str>> {
        let prefix = self.timers.due(now)?;
        let crowd = self.prefixes.get_mut(&prefix)?;
        crowd.looked = Some(crowd.depth);
        Some(name(&prefix, self.me, crowd.depth))
    }

    /// So many are at a key, if that could be found out.
    pub(crate) fn found(&mut self, now: Instant, at: &str, nodes: Option<usize>) -> Next {
        let (prefix, depth) = prefix_of(at);
        let Some(crowd) = self.prefixes.get_mut(prefix) else { return Next::Nothing };
        if crowd.looked != Some(depth) || *name(prefix, self.me, depth) != *at {
            return Next::Nothing;
        }
        crowd.looked = None;
        let prefix: Arc<str> = prefix.into();
        let before = crowd.depth;
        match nodes {
            Some(CROWD..) if depth == before && depth < DEPTH_MAX => crowd.depth += 1,
            Some(nodes) if depth == before && depth > 0 && nodes < CROWD / 4 => {
                // Others may not know yet that there are many.
                crowd.looked = Some(depth - 1);
                return Next::Look(name(&prefix, self.me, depth - 1));
            }
            Some(nodes) if depth < before && nodes < MANY => crowd.depth = depth,
            _ => {}
        }
        let depth = crowd.depth;
        if depth != before {
            crowd.wait = LOOK_INITIAL;
        }
        self.look_later(now, Arc::clone(&prefix));
        if depth == before { Next::Nothing } else { Next::Depth(prefix, depth) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use macula_core::clock::{Clock as _, TokioClock};
    use macula_core::entropy::Entropy;
    use macula_core::identity::Keypair;

    use super::{CROWD, Crowds, DEPTH_MAX, MANY, Next, halves, name, prefix_of};

    #[test]
    fn each_key_has_two_halves_and_each_node_is_in_one() {
        for number in 0..50 {
            let node = Keypair::from_seed([number; 32]).node_id();
            for prefix in ["", "a.b"] {
                for depth in 0..DEPTH_MAX {
                    let (here, below) = (name(prefix, node, depth), name(prefix, node, depth + 1));
                    assert_eq!(prefix_of(&here), (prefix, depth));
                    assert_eq!(halves(&here).iter().filter(|half| **half == below).count(), 1);
                }
            }
        }
        let node = Keypair::from_seed([1; 32]).node_id();
        assert!(halves(&name("a", node, DEPTH_MAX)).is_empty());
        assert!(name("a", node, 1).parse::<macula_core::topic::Topic>().is_err());
    }

    #[test]
    fn whoever_is_in_a_crowd_goes_deeper_and_comes_back_when_it_is_over() {
        let now = TokioClock.now();
        let me = Keypair::from_seed([1; 32]).node_id();
        let mut crowds = Crowds::new(me, Entropy::from_seed(1));
        crowds.announced(now, "a".into(), Some(0));
        let mut at = now;
        let mut look = |crowds: &mut Crowds| {
            at = crowds.next().unwrap();
            (at, crowds.due(at).unwrap())
        };
        let (then, key) = look(&mut crowds);
        assert_eq!(crowds.found(then, &key, Some(CROWD - 1)), Next::Nothing);
        let (then, key) = look(&mut crowds);
        assert_eq!(crowds.found(then, &key, Some(CROWD)), Next::Depth("a".into(), 1));
        let (then, key) = look(&mut crowds);
        assert_eq!(key, name("a", me, 1));
        // Nobody else has come there, while the one above is still crowded.
        assert_eq!(crowds.found(then, &key, Some(1)), Next::Look("a".into()));
        assert_eq!(crowds.found(then, "a", Some(MANY)), Next::Nothing);
        let (then, key) = look(&mut crowds);
        assert_eq!(crowds.found(then, &key, None), Next::Nothing, "it is not known");
        let (then, key) = look(&mut crowds);
        assert_eq!(crowds.found(then, &key, Some(1)), Next::Look("a".into()));
        assert_eq!(crowds.found(then, "a", Some(MANY - 1)), Next::Depth("a".into(), 0));
        assert!(crowds.next().unwrap() < then + Duration::from_secs(10));
        crowds.announced(then, "a".into(), None);
        assert_eq!((crowds.next(), crowds.found(then, "a", Some(99))), (None, Next::Nothing));
    }
}

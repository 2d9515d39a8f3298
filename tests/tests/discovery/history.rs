//! What has happened in a run, as far as it says what is to be found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_tests::world::{Entry, Part, What};

use super::load::{KEYS, PROVIDED};
use super::seen::{End, Op, Seen, Value, Wish};

/// A life of a node.
pub(crate) type Living = (usize, u64);

/// An operation, from its beginning to its end.
#[derive(Debug, Clone)]
pub(crate) struct Deed<'a> {
    pub(crate) op: Op,
    pub(crate) by: Living,
    pub(crate) wish: Wish,
    pub(crate) asked: Duration,
    pub(crate) ended: Option<(Duration, &'a End)>,
}

/// A value that was put, as far as its author was told.
#[derive(Debug, Clone)]
pub(crate) struct Put<'a> {
    pub(crate) op: Op,
    pub(crate) key: u8,
    pub(crate) sequence: u64,
    pub(crate) by: Living,
    pub(crate) asked: Duration,
    pub(crate) ended: Duration,
    pub(crate) kept: &'a [usize],
    pub(crate) is_reached: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History<'a> {
    pub(crate) deeds: BTreeMap<Op, Deed<'a>>,
    /// When each life of a node has ended.
    pub(crate) crashed: BTreeMap<Living, Duration>,
    /// Which actors were killed, and when.
    pub(crate) killed: Vec<(Living, Part, Duration)>,
    /// Which actors supervision has begun anew, and when.
    pub(crate) restarted: Vec<(Living, &'a str, Duration)>,
    pub(crate) healed: Option<Duration>,
    /// Whose table has held something against a peer, and when.
    pub(crate) blamed: Option<(Living, Duration)>,
    /// The newest life of each node.
    lives: BTreeMap<usize, u64>,
    pub(crate) end: Duration,
}

impl<'a> History<'a> {
    pub(crate) fn of(entries: &'a [Entry<Seen>]) -> Self {
        let mut history = Self::default();
        for entry in entries {
            history.entry(entry);
        }
        history
    }

    fn entry(&mut self, Entry { at, node, life, what }: &'a Entry<Seen>) {
        let by = (*node, *life);
        self.end = *at;
        match what {
            What::Born => drop(self.lives.insert(*node, *life)),
            What::Crashed => drop(self.crashed.insert(by, *at)),
            What::Killed(part) => self.killed.push((by, *part, *at)),
            What::Healed => self.healed = Some(*at),
            What::Seen(Seen::Asked { op, wish }) => {
                let deed = Deed { op: *op, by, wish: *wish, asked: *at, ended: None };
                self.deeds.insert(*op, deed);
            }
            What::Seen(Seen::Ended { op, end }) => {
                if let Some(deed) = self.deeds.get_mut(op) {
                    deed.ended = Some((*at, end));
                }
            }
            What::Seen(Seen::Restarted { part, .. }) => self.restarted.push((by, part, *at)),
            What::Seen(Seen::Blamed { .. }) => drop(self.blamed.get_or_insert((by, *at))),
            What::Up | What::Parted(_) | What::Held(_) | What::Mended(_) | What::Calm => {}
        }
    }

    /// The values that were put, as far as their authors were told.
    pub(crate) fn puts(&self) -> impl Iterator<Item = Put<'a>> {
        self.deeds.values().filter_map(|deed| {
            let (Wish::Put { key, .. }, Some((ended, End::Stored { sequence, kept, wanted, .. }))) =
                (deed.wish, deed.ended)
            else {
                return None;
            };
            let Deed { op, by, asked, .. } = *deed;
            let is_reached = kept.len() >= *wanted;
            Some(Put { op, key, sequence: *sequence, by, asked, ended, kept, is_reached })
        })
    }

    /// Whether a node has kept what its table held from one moment to another.
    pub(crate) fn has_kept(&self, node: usize, since: Duration, until: Duration) -> bool {
        let within = |at: &Duration| (since..=until).contains(at);
        let crashed = self.crashed.iter().any(|((of, _), at)| *of == node && within(at));
        let killed = |((of, _), part, at): &(Living, Part, Duration)| {
            *of == node && *part == Part::Dht && within(at)
        };
        !crashed && !self.killed.iter().any(killed)
    }

    /// Which sequence number has to be found under a key, at least: that of the newest value which
    /// enough nodes have taken, and of which one has never lost it or its author goes on to see to it.
    pub(crate) fn floor(&self, key: u8) -> u64 {
        let is_safe = |put: &Put<'_>| {
            let lasts = |node: &usize| self.has_kept(*node, put.asked, self.end);
            !self.crashed.contains_key(&put.by) || put.kept.iter().any(lasts)
        };
        let puts = self.puts().filter(|put| put.key == key && put.is_reached);
        puts.filter(is_safe).map(|put| put.sequence).max().unwrap_or(0)
    }

    /// The nodes that provide something: in its present life each has said so, and has not taken it
    /// back since. What it was told of that is no matter, unless it is unknown whether it was taken
    /// back.
    fn providing(&self, key: u8) -> Providing {
        let (mut surely, mut perhaps) = (BTreeSet::new(), BTreeSet::new());
        let living = |deed: &&Deed<'_>| self.lives.get(&deed.by.0) == Some(&deed.by.1);
        for deed in self.deeds.values().filter(living) {
            let node = deed.by.0;
            match deed.wish {
                Wish::Provide { key: of } if of == key => {
                    surely.insert(node);
                }
                Wish::Withdraw { key: of } if of == key => {
                    let did = surely.remove(&node);
                    if matches!(deed.ended, Some((_, End::Failed { unsure: true, .. }))) {
                        perhaps.extend(did.then_some(node));
                        continue;
                    }
                }
                _ => continue,
            }
            perhaps.remove(&node);
        }
        Providing { surely, perhaps }
    }

    /// Whether nothing of the storm is under way any more, and each node has looked at everything
    /// since and found what has to be found.
    pub(crate) fn is_settled(&self, since: Duration) -> bool {
        let open = self.deeds.values().filter(|deed| deed.ended.is_none());
        let mut open = open.filter(|deed| !self.crashed.contains_key(&deed.by));
        open.all(|deed| deed.asked >= since) && self.all_is_found(since)
    }

    /// Whether what each node has found last is what has to be found.
    fn all_is_found(&self, since: Duration) -> bool {
        let mut last: BTreeMap<(usize, Looked), (Duration, &Deed<'_>)> = BTreeMap::new();
        let looked = self.deeds.values().filter(|deed| deed.asked >= since);
        for deed in looked.filter(|deed| deed.ended.is_some()) {
            let Some(what) = Looked::of(deed.wish) else { continue };
            let newest = last.entry((deed.by.0, what)).or_insert((deed.asked, deed));
            if newest.0 < deed.asked {
                *newest = (deed.asked, deed);
            }
        }
        let nodes = self.lives.len();
        let all = nodes * (usize::from(KEYS) + usize::from(PROVIDED) + 1);
        last.len() == all && last.values().all(|(_, deed)| self.fault(deed).is_none())
    }

    /// What is wrong with what was found, if it was looked for in a mesh that is whole.
    pub(crate) fn fault(&self, deed: &Deed<'_>) -> Option<String> {
        let (_, end) = deed.ended?;
        match (deed.wish, end) {
            (_, End::Failed { why, .. }) => Some(format!("it failed: {why}")),
            (Wish::Get { key }, End::Got { value, .. }) => {
                let (found, floor) = (value.map_or(0, |value| value.sequence), self.floor(key));
                (found < floor).then(|| format!("{found} was found under {key}, and not {floor}"))
            }
            (Wish::Find { key }, End::Found { nodes }) => {
                let providing = self.providing(key);
                (!providing.may_be(nodes)).then(|| {
                    format!("{nodes:?} were found to provide {key}, and not {providing:?}")
                })
            }
            (Wish::Lookup, End::Nodes { nodes }) => {
                let others: Vec<usize> =
                    self.lives.keys().copied().filter(|node| *node != deed.by.0).collect();
                (*nodes != others).then(|| format!("{nodes:?} were found, and not {others:?}"))
            }
            _ => None,
        }
    }

    /// The operations that have put what was found.
    pub(crate) fn authors(&self) -> BTreeMap<Op, usize> {
        let puts = self.deeds.values().filter(|deed| matches!(deed.wish, Wish::Put { .. }));
        puts.map(|deed| (deed.op, deed.by.0)).collect()
    }

    /// All that was got.
    pub(crate) fn got(&self) -> impl Iterator<Item = (&Deed<'a>, Value)> {
        self.deeds.values().filter_map(|deed| match deed.ended {
            Some((_, End::Got { value: Some(value), .. })) => Some((deed, *value)),
            _ => None,
        })
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> BTreeSet<usize> {
        self.lives.keys().copied().collect()
    }
}

/// Who provides something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Providing {
    surely: BTreeSet<usize>,
    /// It was told that it is unknown whether what it wanted to take back is.
    perhaps: BTreeSet<usize>,
}

impl Providing {
    /// Whether these nodes may be all of them.
    fn may_be(&self, nodes: &[usize]) -> bool {
        let nodes: BTreeSet<usize> = nodes.iter().copied().collect();
        let unexpected = nodes.difference(&self.surely);
        nodes.is_superset(&self.surely)
            && unexpected.into_iter().all(|node| self.perhaps.contains(node))
    }
}

/// What a node looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Looked {
    Value(u8),
    Providers(u8),
    Nodes,
}

impl Looked {
    const fn of(wish: Wish) -> Option<Self> {
        match wish {
            Wish::Get { key } => Some(Self::Value(key)),
            Wish::Find { key } => Some(Self::Providers(key)),
            Wish::Lookup => Some(Self::Nodes),
            Wish::Put { .. } | Wish::Provide { .. } | Wish::Withdraw { .. } => None,
        }
    }
}

//! The topics that this node publishes to: who gets their messages, and what waits for that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::topic::{Pattern, Topic};

use super::crowd::{self, MANY};
use super::flow::Stored;
use super::ids::ById;
use super::outlet::Interested;
use super::subscribers::Takers;
use super::trie::Trie;
use super::{TopicId, Weight};

/// How long what was found under a prefix is believed.
pub(crate) const FOUND_TTL: Duration = Duration::from_secs(30);

/// How long it is believed that nobody is there.
const NOBODY_TTL: Duration = Duration::from_secs(1);

/// How many nodes are remembered under one prefix.
const NODES_MAX: usize = 8_192;

/// At how many keys of one prefix it is looked at one time, but for one more.
const SOUGHT_MAX: usize = 1_024;

/// Nodes, and whether somebody there has room.
pub(crate) type Nodes = Vec<(NodeId, bool)>;

/// Who gets the messages of a topic.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// The nodes with subscribers that are in no group, and whether those have room.
    pub(crate) plain: Nodes,
    /// The nodes with members of each group, likewise.
    pub(crate) groups: Vec<(Arc<str>, Nodes)>,
    /// The subscribers of this node.
    pub(crate) here: Takers,
}

impl Audience {
    pub(crate) fn len(&self) -> usize {
        self.plain.len() + self.groups.len()
    }
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) topic: Topic,
    /// The prefixes under which its subscribers can be found.
    pub(crate) prefixes: Vec<Arc<str>>,
    pub(crate) audience: Arc<Audience>,
    /// How many subscribers were told, once they are known.
    pub(crate) told: Option<usize>,
    /// Something was published since its subscribers were looked for last.
    pub(crate) is_used: bool,
    /// Nobody looks for its subscribers, because nothing was published for a while.
    pub(crate) is_dormant: bool,
    /// How many copies are on their way to single nodes.
    pub(crate) direct: u64,
    /// What waits for room.
    pub(crate) parked: VecDeque<(Arc<Stored>, Weight)>,
}

/// What is known under a prefix.
#[derive(Debug, Default)]
struct Prefix {
    topics: BTreeSet<TopicId>,
    nodes: BTreeSet<NodeId>,
    /// The keys at which they are looked for now.
    sought: BTreeSet<Arc<str>>,
    found_at: Option<Instant>,
    /// Somebody was looked for, whatever came of it.
    is_answered: bool,
}

/// All topics.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// They are looked up, and never walked over.
    named: ById<TopicId, Named>,
    by_name: BTreeMap<Topic, TopicId>,
    prefixes: BTreeMap<Arc<str>, Prefix>,
    /// What other nodes want.
    pub(crate) interests: Trie<Interested>,
    pub(crate) parked: BTreeSet<TopicId>,
    /// Those whose subscribers are not known yet.
    pub(crate) unknown: BTreeSet<TopicId>,
}

impl Topics {
    pub(crate) fn get(&self, id: TopicId) -> Option<&Named> {
        self.named.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: TopicId) -> Option<&mut Named> {
        self.named.get_mut(&id)
    }

    /// Says whether it is new.
    pub(crate) fn open(&mut self, id: TopicId, topic: Topic) -> bool {
        if self.named.contains_key(&id) || self.by_name.contains_key(&topic) {
            return false;
        }
        let prefixes: Vec<Arc<str>> =
            std::iter::once("").chain(topic.prefixes()).map(Arc::from).collect();
        for prefix in &prefixes {
            self.prefixes.entry(Arc::clone(prefix)).or_default().topics.insert(id);
        }
        self.by_name.insert(topic.clone(), id);
        let named = Named {
            topic,
            prefixes,
            audience: Arc::default(),
            told: None,
            is_used: false,
            is_dormant: false,
            direct: 0,
            parked: VecDeque::new(),
        };
        self.named.insert(id, named);
        self.unknown.insert(id);
        true
    }

    /// Gives what waited.
    pub(crate) fn close(&mut self, id: TopicId) -> Option<Named> {
        let named = self.named.remove(&id)?;
        self.by_name.remove(&named.topic);
        self.parked.remove(&id);
        self.unknown.remove(&id);
        for prefix in &named.prefixes {
            if let Some(at) = self.prefixes.get_mut(prefix) {
                at.topics.remove(&id);
                if at.topics.is_empty() {
                    self.prefixes.remove(prefix);
                }
            }
        }
        Some(named)
    }

    /// The topics that a pattern matches.
    pub(crate) fn matching(&self, pattern: &Pattern) -> Vec<TopicId> {
        let all = self.prefixes.get(pattern.prefix()).map(|at| &at.topics);
        let ids = all.into_iter().flatten().copied();
        let matches =
            |id: &TopicId| self.named.get(id).is_some_and(|named| pattern.matches(&named.topic));
        ids.filter(matches).collect()
    }

    /// Works out anew who gets the messages of a topic. `here` are those of this node, `me`.
    pub(crate) fn weigh(&mut self, id: TopicId, me: NodeId, here: Takers) {
        let Some(named) = self.named.get_mut(&id) else { return };
        let mut plain: BTreeMap<NodeId, bool> = BTreeMap::new();
        let mut groups: BTreeMap<Arc<str>, BTreeMap<NodeId, bool>> = BTreeMap::new();
        self.interests.matches(&named.topic, |Interested { node, group, is_open }| {
            let nodes = match group {
                None => &mut plain,
                Some(group) => groups.entry(Arc::clone(group)).or_default(),
            };
            *nodes.entry(*node).or_default() |= is_open;
        });
        if here.has_plain() {
            plain.insert(me, true);
        }
        for group in here.groups() {
            groups.entry(Arc::clone(group)).or_default().insert(me, true);
        }
        let groups = groups.into_iter().map(|(group, nodes)| (group, nodes.into_iter().collect()));
        let (plain, groups) = (plain.into_iter().collect(), groups.collect());
        named.audience = Arc::new(Audience { plain, groups, here });
    }

    /// The prefixes of a topic that are to be looked for now.
    pub(crate) fn seek(&mut self, id: TopicId, now: Instant) -> Vec<Arc<str>> {
        let Some(named) = self.named.get(&id) else { return Vec::new() };
        let mut sought = Vec::new();
        for prefix in &named.prefixes {
            let Some(at) = self.prefixes.get_mut(prefix) else { continue };
            let ttl = if at.nodes.is_empty() { NOBODY_TTL } else { FOUND_TTL / 2 };
            let is_good = at.found_at.is_some_and(|found| now < found + ttl);
            if at.sought.is_empty() && !is_good {
                at.sought.insert(Arc::clone(prefix));
                sought.push(Arc::clone(prefix));
            }
        }
        sought
    }

    /// Some nodes have subscriptions with a prefix. Gives those that were not known to, and the
    /// topics that they may want.
    pub(crate) fn found(
        &mut self,
        prefix: &str,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> (Vec<NodeId>, Vec<TopicId>) {
        let Some(at) = self.prefixes.get_mut(prefix) else { return (Vec::new(), Vec::new()) };
        let mut fresh = Vec::new();
        for node in nodes {
            if at.nodes.len() < NODES_MAX && at.nodes.insert(node) {
                fresh.push(node);
            }
        }
        (fresh, at.topics.iter().copied().collect())
    }

    /// It was looked at a key of a prefix, and so many were found, if that could be found out. Says
    /// where it is to be looked next: if there are many, at both halves of it.
    pub(crate) fn sought(
        &mut self,
        now: Instant,
        name: &str,
        nodes: Option<usize>,
    ) -> Vec<Arc<str>> {
        let Some(at) = self.prefixes.get_mut(crowd::prefix_of(name).0) else { return Vec::new() };
        if !at.sought.remove(name) {
            return Vec::new();
        }
        if crowd::prefix_of(name).1 == 0 && nodes.is_some() {
            at.found_at = Some(now);
        }
        let mut next = Vec::new();
        if nodes.is_some_and(|nodes| nodes >= MANY) && at.sought.len() < SOUGHT_MAX {
            next = crowd::halves(name);
            at.sought.extend(next.iter().cloned());
        }
        at.is_answered |= at.sought.is_empty();
        next
    }

    /// The nodes that may want a topic.
    pub(crate) fn nodes_of(&self, id: TopicId) -> BTreeSet<NodeId> {
        let prefixes = self.named.get(&id).into_iter().flat_map(|named| &named.prefixes);
        let at = prefixes.filter_map(|prefix| self.prefixes.get(prefix));
        at.flat_map(|at| at.nodes.iter().copied()).collect()
    }

    /// Whether all prefixes of a topic were looked for.
    pub(crate) fn is_sought(&self, id: TopicId) -> bool {
        let mut prefixes = self.named.get(&id).into_iter().flat_map(|named| &named.prefixes);
        prefixes.all(|prefix| self.prefixes.get(prefix).is_some_and(|at| at.is_answered))
    }

    /// A node is there no more.
    pub(crate) fn gone(&mut self, node: NodeId) {
        for at in self.prefixes.values_mut() {
            at.nodes.remove(&node);
        }
    }

    /// Forgets all that waits, and gives it back.
    pub(crate) fn unpark(&mut self, id: TopicId) -> VecDeque<(Arc<Stored>, Weight)> {
        self.parked.remove(&id);
        self.named.get_mut(&id).map(|named| std::mem::take(&mut named.parked)).unwrap_or_default()
    }
}

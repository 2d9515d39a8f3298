//! The subscriptions of this node: whose they are, how much room each has, and what they have in
//! common for the publishers' nodes.
//!
//! A subscription has room for so many messages and bytes, which whoever reads it gives back. A
//! message is handed to all who want it or, if it is promised to arrive and one of them has no room,
//! to nobody yet. One that is not promised passes over those that have no room; they are told of the
//! gap as soon as they have.

mod room;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use macula_core::identity::NodeId;
use macula_core::topic::{Pattern, Topic};

use super::super::message::{Event, Gap, Message, Missed, Qos};
use super::ids::ById;
use super::trie::Trie;
use super::word::{
    Carried, FLOWS, Failure, FlowId, Life, Missing, Replay, Route, Standing, SubId, Wanted,
};

pub(crate) use room::{Room, weight};

/// How many patterns with the same prefix publishers are told of one by one.
const COARSE_AT: usize = 1_024;

/// A subscription with room for fewer quarters of its queue than this is short. With the usual queues
/// what is left has room for all that one publisher's node may have under way and in its own queue when
/// it hears of that: so nothing is lost to whoever is the only one.
const SHORT_AT: usize = 2;

/// Of how many publishers and topics a subscription that has no room remembers gaps.
const GAPS_MAX: usize = 64;

/// Of how many nodes that refuse it a subscription is told.
const REFUSALS_MAX: usize = 64;

/// How many nodes' replays a subscription remembers.
pub(crate) const REPLAYED_MAX: usize = 4_096;

/// What a subscription is.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) wanted: Wanted,
    pub(crate) qos: Qos,
    pub(crate) replay: Replay,
    /// What it has room for when nothing waits in it.
    pub(crate) capacity: Room,
    /// What it has room for now.
    pub(crate) room: Room,
    /// Whose messages were replayed to it in an earlier life of the actor, and how far.
    pub(crate) replayed: BTreeMap<NodeId, Replayed>,
    /// What it has missed in an earlier life, and was not told.
    pub(crate) gaps: Vec<Gap>,
}

/// How far the replay of one publisher's node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Replayed {
    /// Which life of the node.
    life: u64,
    /// Which flows have passed the point up to which was replayed.
    flows: u8,
    /// The last number that was replayed in each flow, so that a replay that begins anew gives
    /// nothing twice.
    last: [u64; FLOWS],
}

impl Replayed {
    const fn new(life: u64) -> Self {
        Self { life, flows: 0, last: [0; FLOWS] }
    }
}

#[derive(Debug)]
struct Sub {
    wish: Wish,
    /// As what publishers are told of it.
    told: Wanted,
    /// It is short of room, and was not yet given back enough.
    is_short: bool,
    /// What it has missed since it had room last.
    gaps: BTreeMap<(NodeId, Topic), Gap>,
    /// The nodes that send it nothing since they may not, and whether it was told so.
    refusals: BTreeMap<NodeId, bool>,
    replayed: BTreeMap<NodeId, Replayed>,
}

/// All subscriptions with the same pattern and group.
#[derive(Debug, Default)]
struct Members {
    subs: BTreeSet<SubId>,
    short: usize,
}

impl Members {
    fn standing(&self) -> Standing {
        match self.subs.len() {
            0 => Standing::Gone,
            len if len == self.short => Standing::Paused,
            _ => Standing::Open,
        }
    }
}

/// Who wants a topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Takers {
    plain: Vec<SubId>,
    groups: BTreeMap<Arc<str>, Vec<SubId>>,
}

/// From whom, and where, a message comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) publisher: NodeId,
    pub(crate) life: Life,
    pub(crate) flow: FlowId,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Handed {
    /// It has ended, well if nothing else is said.
    Over(Option<Failure>),
    /// It has to wait for room.
    NotYet(Carried),
}

/// The subscriptions of a node.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    /// They are looked up, and never walked over.
    subs: ById<SubId, Sub>,
    trie: Trie<SubId>,
    wanted: BTreeMap<Arc<str>, BTreeMap<Wanted, Members>>,
    /// The prefixes of which publishers are told one by one, however many patterns there are: somebody
    /// may not send all that begins with one. There are patterns with each.
    fine: BTreeSet<Arc<str>>,
    /// Those that want to have what was before them.
    replaying: BTreeSet<SubId>,
    /// What they are told, each in its order.
    out: BTreeMap<SubId, Vec<Event>>,
    /// Those for whom the last message was: no memory is taken for each.
    targets: Vec<SubId>,
    /// Those that have missed something, or were told that they have.
    owing: BTreeSet<SubId>,
    /// How far replays are, where that has changed.
    replays: VecDeque<(SubId, NodeId, Replayed)>,
    changes: VecDeque<(Wanted, Standing)>,
    /// The prefixes that have their first pattern.
    fresh: Vec<Arc<str>>,
}

impl Subscribers {
    pub(crate) fn len(&self) -> usize {
        self.subs.len()
    }

    /// What to tell a subscription.
    pub(crate) fn poll(&mut self) -> Option<(SubId, Vec<Event>)> {
        self.out.pop_first()
    }

    /// The next replay that is further than it was.
    pub(crate) fn poll_replay(&mut self) -> Option<(SubId, NodeId, Replayed)> {
        self.replays.pop_front()
    }

    /// What a subscription is still to be told that it has missed, if that has changed.
    pub(crate) fn poll_owed(&mut self) -> Option<(SubId, Vec<Gap>)> {
        let id = self.owing.pop_first()?;
        let gaps = self.subs.get(&id).map(|sub| sub.gaps.values().cloned().collect());
        Some((id, gaps.unwrap_or_default()))
    }

    /// What stands otherwise than it was told.
    pub(crate) fn poll_change(&mut self) -> Option<(Wanted, Standing)> {
        self.changes.pop_front()
    }

    /// The prefixes that have their first pattern since this was asked last.
    pub(crate) fn take_fresh(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.fresh)
    }

    /// All that is wanted below a prefix that patterns have.
    pub(crate) fn wanted_at(&self, prefix: &str) -> impl Iterator<Item = (&Wanted, Standing)> {
        let there = self.wanted.get(prefix).into_iter().flatten();
        there.map(|(wanted, members)| (wanted, members.standing()))
    }

    /// The prefixes of all patterns, at most so many.
    pub(crate) fn prefixes(&self, max: usize) -> Vec<Arc<str>> {
        self.wanted.keys().take(max).cloned().collect()
    }

    /// The subscriptions with a pattern of this prefix to which a publisher has not replayed.
    pub(crate) fn unreplayed_at<'a>(
        &'a self,
        prefix: &str,
        publisher: NodeId,
        life: Life,
    ) -> impl Iterator<Item = (SubId, &'a Wish)> {
        let there = self.wanted.get(prefix).into_iter().flat_map(BTreeMap::values);
        let ids = there.flat_map(|members| members.subs.intersection(&self.replaying));
        let subs = ids.filter_map(|id| self.subs.get(id).map(|sub| (*id, sub)));
        let waits = move |(_, sub): &(SubId, &Sub)| !sub.has_all(publisher, life);
        subs.filter(waits).map(|(id, sub)| (id, &sub.wish))
    }

    /// What a subscription wants, if a publisher has not replayed all of it.
    pub(crate) fn unreplayed(&self, id: SubId, publisher: NodeId, life: Life) -> Option<&Wish> {
        let sub = self.subs.get(&id).filter(|sub| !sub.has_all(publisher, life));
        sub.map(|sub| &sub.wish)
    }

    pub(crate) fn add(&mut self, id: SubId, mut wish: Wish) {
        let gaps = std::mem::take(&mut wish.gaps).into_iter();
        let gaps: BTreeMap<_, _> =
            gaps.map(|gap| ((gap.publisher, gap.topic.clone()), gap)).collect();
        let prefix: Arc<str> = wish.wanted.pattern.prefix().into();
        let told = self.told_as(&wish.wanted, &prefix);
        self.trie.insert(&wish.wanted.pattern, id);
        if wish.replay.is_wanted() {
            self.replaying.insert(id);
        }
        let is_short = wish.room.is_below(wish.capacity, SHORT_AT);
        let (replayed, refusals) = (wish.replayed.clone(), BTreeMap::new());
        let mut sub = Sub { wish, told: told.clone(), is_short, gaps, refusals, replayed };
        if !sub.gaps.is_empty() {
            self.owing.insert(id);
            Self::tell_owed(id, &mut sub, &mut self.out);
        }
        self.subs.insert(id, sub);
        if !self.wanted.contains_key(&prefix) {
            self.fresh.push(Arc::clone(&prefix));
        }
        self.enter(id, prefix, told, is_short);
    }

    /// A subscription is one of those of which publishers are told as of this.
    fn enter(&mut self, id: SubId, prefix: Arc<str>, told: Wanted, is_short: bool) {
        let members = self.wanted.entry(prefix).or_default().entry(told.clone()).or_default();
        let before = members.standing();
        members.subs.insert(id);
        members.short += usize::from(is_short);
        let now = members.standing();
        if now != before {
            self.changes.push_back((told, now));
        }
    }

    /// It is none of them any more.
    fn leave(&mut self, id: SubId, told: &Wanted, is_short: bool) {
        self.change(told, |members| {
            members.subs.remove(&id);
            members.short -= usize::from(is_short);
        });
        let prefix = told.pattern.prefix();
        if let Some(there) = self.wanted.get_mut(prefix) {
            if there.get(told).is_some_and(|members| members.subs.is_empty()) {
                there.remove(told);
            }
            if there.is_empty() {
                self.wanted.remove(prefix);
                self.fine.remove(prefix);
            }
        }
    }

    /// A node does not send what a pattern matches, since its rules forbid that this node gets it.
    /// Whoever wants that is told. Of those that want less, and were only told of as of that, publishers
    /// are told one by one from now on.
    pub(crate) fn refused(&mut self, publisher: NodeId, pattern: &Pattern) {
        let there = self.wanted.get(pattern.prefix()).into_iter().flatten();
        let of = there.filter(|(wanted, _)| wanted.pattern == *pattern);
        let ids: Vec<SubId> = of.flat_map(|(_, members)| &members.subs).copied().collect();
        let mut finer = Vec::new();
        for id in ids {
            let Some(sub) = self.subs.get_mut(&id) else { continue };
            if sub.wish.wanted.pattern != *pattern {
                finer.push(id);
            } else if sub.refusals.len() < REFUSALS_MAX {
                sub.refusals.entry(publisher).or_default();
                Self::tell_owed(id, sub, &mut self.out);
                self.weigh(id);
            }
        }
        for id in finer {
            let Some(sub) = self.subs.get_mut(&id) else { continue };
            let (finer, is_short) = (sub.wish.wanted.clone(), sub.is_short);
            let coarse = std::mem::replace(&mut sub.told, finer.clone());
            let prefix: Arc<str> = pattern.prefix().into();
            self.fine.insert(Arc::clone(&prefix));
            self.enter(id, prefix, finer, is_short);
            self.leave(id, &coarse, is_short);
        }
    }

    /// As what publishers are told of a pattern: as itself or, if there are many with the same
    /// prefix, as all that begins with that. What is sent in vain then is passed over here.
    fn told_as(&self, wanted: &Wanted, prefix: &str) -> Wanted {
        let there = self.wanted.get(prefix);
        let is_known = there.is_some_and(|there| there.contains_key(wanted));
        let is_much = there.is_some_and(|there| there.len() >= COARSE_AT);
        if !is_much || is_known || wanted.group.is_some() || self.fine.contains(prefix) {
            return wanted.clone();
        }
        let all = if prefix.is_empty() { "**".to_owned() } else { format!("{prefix}.**") };
        // One that is as long as may be has nothing shorter that holds it.
        all.parse().map_or_else(|_| wanted.clone(), |pattern| Wanted::new(pattern, None))
    }

    /// A subscription is over.
    pub(crate) fn remove(&mut self, id: SubId) {
        let Some(sub) = self.subs.remove(&id) else { return };
        let (wanted, told) = (sub.wish.wanted, sub.told);
        self.trie.remove(&wanted.pattern, &id);
        self.replaying.remove(&id);
        self.leave(id, &told, sub.is_short);
    }

    fn change(&mut self, wanted: &Wanted, change: impl FnOnce(&mut Members)) {
        let there = self.wanted.get_mut(wanted.pattern.prefix());
        let Some(members) = there.and_then(|there| there.get_mut(wanted)) else { return };
        let before = members.standing();
        change(members);
        let now = members.standing();
        if now != before {
            self.changes.push_back((wanted.clone(), now));
        }
    }

    /// Somebody has read from a subscription. Says whether that was any news.
    pub(crate) fn consumed(&mut self, id: SubId, read: Room) -> bool {
        let Some(sub) = self.subs.get_mut(&id) else { return false };
        let Wish { capacity, room, .. } = &mut sub.wish;
        room.messages = (room.messages + read.messages).min(capacity.messages);
        room.bytes = (room.bytes + read.bytes).min(capacity.bytes);
        if !sub.gaps.is_empty() {
            self.owing.insert(id);
        }
        Self::tell_owed(id, sub, &mut self.out);
        self.weigh(id);
        true
    }

    /// Whether a subscription is short of room, if that has changed.
    fn weigh(&mut self, id: SubId) {
        let Some(sub) = self.subs.get_mut(&id) else { return };
        let is_short = sub.is_short_now();
        if std::mem::replace(&mut sub.is_short, is_short) == is_short {
            return;
        }
        let told = sub.told.clone();
        self.change(&told, |members| {
            if is_short {
                members.short += 1;
            } else {
                members.short -= 1;
            }
        });
    }

    /// Tells a subscription what it is to be told beside messages, as far as it has room.
    fn tell_owed(id: SubId, sub: &mut Sub, out: &mut BTreeMap<SubId, Vec<Event>>) {
        for (publisher, is_told) in &mut sub.refusals {
            if !*is_told && sub.wish.room.is_there() {
                *is_told = true;
                sub.wish.room.spend(0);
                out.entry(id).or_default().push(Event::Refused { publisher: *publisher });
            }
        }
        while sub.wish.room.is_there()
            && let Some((_, gap)) = sub.gaps.pop_first()
        {
            sub.wish.room.spend(0);
            out.entry(id).or_default().push(Event::Gap(gap));
        }
    }

    /// Who wants a topic.
    pub(crate) fn takers(&self, topic: &Topic) -> Takers {
        let mut takers = Takers::default();
        self.trie.matches(topic, |id| {
            let sub = self.subs.get(id);
            match sub.map(|sub| &sub.wish.wanted.group) {
                Some(Some(group)) => takers.groups.entry(Arc::clone(group)).or_default().push(*id),
                Some(None) => takers.plain.push(*id),
                None => {}
            }
        });
        takers
    }

    /// For whom of those who want a message's topic it is.
    fn targets(
        &self,
        origin: Origin,
        carried: &Carried,
        takers: &Takers,
        targets: &mut Vec<SubId>,
    ) {
        let Route { plain, groups, only } = &carried.route;
        targets.clear();
        if let Some(only) = only {
            return targets.extend(self.subs.contains_key(only).then_some(*only));
        }
        let is_live = |id: &&SubId| {
            self.subs.get(id).is_some_and(|sub| sub.is_live(origin, &self.replaying, **id))
        };
        if *plain {
            targets.extend(takers.plain.iter().filter(is_live));
        }
        for group in groups {
            let Some(members) = takers.groups.get(group) else { continue };
            let count = u64::try_from(members.len()).unwrap_or(1).max(1);
            let members = members.iter().filter(is_live);
            // Those that have the same room take turns.
            let with_room = members.zip(0_u64..).filter_map(|(id, place)| {
                let sub = self.subs.get(id)?;
                Some((
                    sub.wish.room.messages.min(sub.wish.room.bytes),
                    (place + carried.sequence) % count,
                    *id,
                ))
            });
            targets.extend(with_room.max().map(|(_, _, id)| id));
        }
    }

    /// Hands a message to all whom it is for, or to nobody if it has to wait for one of them.
    pub(crate) fn hand(&mut self, origin: Origin, carried: Carried, takers: &Takers) -> Handed {
        if !carried.is_allowed {
            return Handed::Over(Some(Failure::Forbidden));
        }
        let mut targets = std::mem::take(&mut self.targets);
        self.targets(origin, &carried, takers, &mut targets);
        let handed = self.hand_to(origin, carried, &targets);
        self.targets = targets;
        handed
    }

    fn hand_to(&mut self, origin: Origin, carried: Carried, targets: &[SubId]) -> Handed {
        let Some((last, others)) = targets.split_last() else {
            return Handed::Over(Some(Failure::Unsubscribed));
        };
        let is_promised = origin.flow.qos() == Qos::AtLeastOnce;
        let waits = |id: &SubId| {
            let sub = self.subs.get(id);
            sub.is_some_and(|sub| sub.wish.qos == Qos::AtLeastOnce && !sub.wish.room.is_there())
        };
        if is_promised && targets.iter().any(waits) {
            return Handed::NotYet(carried);
        }
        let mut failure = None;
        for id in others {
            let failed = self.hand_one(origin, carried.clone(), *id);
            failure = failure.or(failed);
        }
        let failed = self.hand_one(origin, carried, *last);
        Handed::Over(failure.or(failed))
    }

    /// Hands a message to one, or notes that it misses it.
    fn hand_one(&mut self, origin: Origin, carried: Carried, id: SubId) -> Option<Failure> {
        let sub = self.subs.get_mut(&id)?;
        if carried.route.only.is_some() {
            if !sub.is_fresh(origin, carried.sequence) {
                return None;
            }
            self.replays.push_back((id, origin.publisher, *sub.replayed_by(origin)));
        }
        let failure = if sub.wish.room.is_there() {
            sub.wish.room.spend(carried.payload.len());
            self.out.entry(id).or_default().push(Event::Message(message(origin, carried)));
            None
        } else {
            let missing = Missing::one(&carried.topic, carried.sequence, Missed::SlowSubscriber);
            sub.miss(origin.publisher, &missing);
            self.owing.insert(id);
            Some(Failure::Slow)
        };
        if sub.is_short != sub.is_short_now() {
            self.weigh(id);
        }
        failure
    }

    /// Messages do not come: whoever wanted all of their topic is told.
    pub(crate) fn missing(&mut self, origin: Origin, missing: &Missing) {
        for id in &self.takers(&missing.topic).plain {
            let Some(sub) = self.subs.get_mut(id) else { continue };
            if sub.is_live(origin, &self.replaying, *id) {
                sub.miss(origin.publisher, missing);
                self.owing.insert(*id);
                Self::tell_owed(*id, sub, &mut self.out);
            }
        }
    }

    /// A publisher has replayed all that it had in this flow.
    pub(crate) fn cut(&mut self, origin: Origin, id: SubId) {
        let Some(sub) = self.subs.get_mut(&id) else { return };
        let replayed = sub.replayed_by(origin);
        replayed.flows |= 1 << origin.flow.number();
        self.replays.push_back((id, origin.publisher, *replayed));
    }

    /// How many messages may be replayed to a subscription, so that they have room.
    pub(crate) fn room_of(&self, id: SubId) -> usize {
        self.subs.get(&id).map_or(0, |sub| sub.wish.room.messages)
    }
}

impl Sub {
    /// Whether it is short of room; if it was, it has to be given back more to be so no longer.
    const fn is_short_now(&self) -> bool {
        self.wish.room.is_below(self.wish.capacity, if self.is_short { 3 } else { SHORT_AT })
    }

    /// Whether a publisher has replayed all that it had to it.
    fn has_all(&self, publisher: NodeId, life: Life) -> bool {
        let replayed = self.replayed.get(&publisher);
        replayed.is_some_and(|replayed| replayed.life == life.node && replayed.flows == u8::MAX)
    }

    /// How far a publisher's replay is.
    fn replayed_by(&mut self, origin: Origin) -> &mut Replayed {
        let Origin { publisher, life, .. } = origin;
        if self.replayed.len() >= REPLAYED_MAX && !self.replayed.contains_key(&publisher) {
            self.replayed.pop_first();
        }
        let replayed = self.replayed.entry(publisher).or_insert_with(|| Replayed::new(life.node));
        if replayed.life != life.node {
            *replayed = Replayed::new(life.node);
        }
        replayed
    }

    /// Whether a message that is replayed was not yet.
    fn is_fresh(&mut self, origin: Origin, sequence: u64) -> bool {
        let replayed = self.replayed_by(origin);
        let Some(last) = replayed.last.get_mut(origin.flow.index()) else { return false };
        let is_fresh = sequence > *last && replayed.flows & (1 << origin.flow.number()) == 0;
        *last = sequence.max(*last);
        is_fresh
    }

    /// Whether it gets what comes now, and not only what is replayed to it.
    fn is_live(&self, origin: Origin, replaying: &BTreeSet<SubId>, id: SubId) -> bool {
        if !replaying.contains(&id) {
            return true;
        }
        let cut = self.replayed.get(&origin.publisher);
        let flow = 1 << origin.flow.number();
        cut.is_some_and(|cut| cut.life == origin.life.node && cut.flows & flow != 0)
    }

    fn miss(&mut self, publisher: NodeId, missing: &Missing) {
        let key = (publisher, missing.topic.clone());
        if let Some(gap) = self.gaps.get_mut(&key) {
            gap.from = gap.from.min(missing.from);
            gap.to = gap.to.max(missing.to);
            gap.count = gap.count.saturating_add(missing.count);
            gap.why = missing.why;
        } else if self.gaps.len() < GAPS_MAX {
            let Missing { topic, from, to, count, why } = missing.clone();
            self.gaps.insert(key, Gap { topic, publisher, from, to, count, why });
        }
    }
}

fn message(origin: Origin, carried: Carried) -> Message {
    let Carried { topic, sequence, payload, route, .. } = carried;
    Message {
        topic,
        payload,
        publisher: origin.publisher,
        life: origin.life.node,
        sequence,
        qos: origin.flow.qos(),
        priority: origin.flow.priority(),
        is_replayed: route.only.is_some(),
    }
}

/// The patterns and groups of subscriptions.
impl Wanted {
    pub(crate) const fn new(pattern: Pattern, group: Option<Arc<str>>) -> Self {
        Self { pattern, group }
    }
}

impl Takers {
    pub(crate) fn has_plain(&self) -> bool {
        !self.plain.is_empty()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }
}

impl Subscribers {
    /// Whether one of those has room: of a group, or of those that are in none.
    pub(crate) fn has_room(&self, takers: &Takers, group: Option<&str>) -> bool {
        let ids = match group {
            None => Some(&takers.plain),
            Some(group) => takers.groups.get(group),
        };
        let has = |id: &SubId| self.subs.get(id).is_some_and(|sub| sub.wish.room.is_there());
        ids.into_iter().flatten().any(has)
    }
}

//! Events, who has seen which, and what follows from that.

use macula_core::hlc::Timestamp;
use macula_core::replica::ReplicaId;

/// Numbers of events below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) const fn insert(&mut self, id: usize) {
        assert!(id < 64);
        self.0 |= 1 << id;
    }

    pub(super) const fn contains(self, id: usize) -> bool {
        self.0 >> id & 1 == 1
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

impl FromIterator<usize> for Seen {
    fn from_iter<I: IntoIterator<Item = usize>>(ids: I) -> Self {
        let mut seen = Self::default();
        ids.into_iter().for_each(|id| seen.insert(id));
        seen
    }
}

/// What a replica does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act<O> {
    Do(O),
    /// It removes all that it sees.
    Reset,
}

/// Something that a replica did, and what it had seen then.
#[derive(Debug, Clone)]
pub(super) struct Viewed<O> {
    pub(super) id: usize,
    pub(super) replica: ReplicaId,
    pub(super) stamp: Timestamp,
    pub(super) act: Act<O>,
    pub(super) seen: Seen,
}

impl<O> Viewed<O> {
    pub(super) const fn op(&self) -> Option<&O> {
        match &self.act {
            Act::Do(op) => Some(op),
            Act::Reset => None,
        }
    }
}

/// All events in the order in which they happened, and which of them a replica has seen.
#[derive(Debug, Clone)]
pub(super) struct View<O> {
    events: Vec<Viewed<O>>,
    seen: Seen,
}

impl<O: Clone> View<O> {
    pub(super) const fn new(events: Vec<Viewed<O>>, seen: Seen) -> Self {
        Self { events, seen }
    }

    /// The same view of those events that `part` makes something of.
    pub(super) fn part<P: Clone>(&self, part: impl Fn(&Act<O>) -> Option<Act<P>>) -> View<P> {
        let events = self.events.iter().filter_map(|event| {
            let Viewed { id, replica, stamp, seen, .. } = event.clone();
            Some(Viewed { act: part(&event.act)?, id, replica, stamp, seen })
        });
        let events: Vec<_> = events.collect();
        View { events, seen: self.seen }
    }

    /// The events that `puts` is true of and that have been seen, unless another that has been seen
    /// was done by a replica to which they were in force, and `replaces` them.
    ///
    /// If all that was seen by a replica whose event has been seen has been seen too, this is the
    /// same as: unless another that has been seen had seen them and replaces them. This is asserted.
    pub(super) fn in_force(
        &self,
        puts: impl Fn(&O) -> bool,
        replaces: impl Fn(&Viewed<O>, &Viewed<O>) -> bool,
    ) -> Vec<&Viewed<O>> {
        // Which events each one takes out of force.
        let mut takes: Vec<(usize, Seen)> = Vec::new();
        let among = |takes: &[(usize, Seen)], seen: Seen| -> Vec<&Viewed<O>> {
            let taken = |id| takes.iter().any(|(by, ids)| seen.contains(*by) && ids.contains(id));
            let there = self.events.iter().filter(|event| seen.contains(event.id));
            there.filter(|event| event.op().is_some_and(&puts) && !taken(event.id)).collect()
        };
        for event in &self.events {
            let before = among(&takes, event.seen);
            let taken = before.into_iter().filter(|earlier| replaces(event, earlier));
            let taken = taken.map(|earlier| earlier.id).collect();
            takes.push((event.id, taken));
        }
        let there = among(&takes, self.seen);
        if self.is_closed() {
            let seen: Vec<_> =
                self.events.iter().filter(|event| self.seen.contains(event.id)).collect();
            let stays = seen.iter().filter(|event| {
                event.op().is_some_and(&puts)
                    && !seen.iter().any(|by| by.seen.contains(event.id) && replaces(by, event))
            });
            assert!(stays.map(|event| event.id).eq(there.iter().map(|event| event.id)));
        }
        there
    }

    /// Whether all that those had seen who did what was seen has been seen.
    pub(super) fn is_closed(&self) -> bool {
        let mut seen = self.events.iter().filter(|event| self.seen.contains(event.id));
        seen.all(|event| event.seen.is_subset(self.seen))
    }

    /// The events that have been seen.
    pub(super) fn seen(&self) -> impl Iterator<Item = &Viewed<O>> {
        self.events.iter().filter(|event| self.seen.contains(event.id))
    }

    /// What the replica saw that did `event`.
    pub(super) fn before(&self, event: &Viewed<O>) -> Self {
        Self { events: self.events.clone(), seen: event.seen }
    }
}

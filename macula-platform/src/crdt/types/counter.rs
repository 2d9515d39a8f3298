//! Counters.

use macula_core::replica::ReplicaId;

use crate::crdt::codec::{DecodeError, Reader, put_ordered};
use crate::crdt::contract::{Delta, Tidy};
use crate::crdt::dot::Dot;
use crate::crdt::limits::Refused;
use crate::crdt::store::{DotFun, Payload};
use crate::crdt::write::Write;

/// What a replica has counted in all, under the dot of the last time that it counted.
trait Tally: Payload + Copy + Default {
    /// Both together. None if that has no room.
    fn plus(self, more: Self) -> Option<Self>;

    /// The greatest of its numbers.
    fn most(self) -> u64;
}

impl Payload for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_ordered(out, *self);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.ordered()
    }
}

impl Tally for u64 {
    fn plus(self, more: Self) -> Option<Self> {
        self.checked_add(more)
    }

    fn most(self) -> u64 {
        self
    }
}

/// What was added and what was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Balance {
    up: u64,
    down: u64,
}

impl Payload for Balance {
    fn encode(&self, out: &mut Vec<u8>) {
        put_ordered(out, self.up);
        put_ordered(out, self.down);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { up: from.ordered()?, down: from.ordered()? })
    }
}

impl Tally for Balance {
    fn plus(self, more: Self) -> Option<Self> {
        let (up, down) = (self.up.checked_add(more.up), self.down.checked_add(more.down));
        Some(Self { up: up?, down: down? })
    }

    fn most(self) -> u64 {
        self.up.max(self.down)
    }
}

/// What each replica has counted. Of several dots of one replica, which deltas out of order can leave,
/// the last has what the others had too.
fn tallies<T: Tally>(of: &DotFun<T>) -> impl Iterator<Item = (Dot, T)> {
    let mut live = of.iter().peekable();
    std::iter::from_fn(move || {
        let (mut dot, mut tally) = live.next()?;
        while let Some((later, more)) = live.next_if(|(next, _)| next.replica == dot.replica) {
            (dot, tally) = (later, more);
        }
        Some((dot, *tally))
    })
}

fn tally_of<T: Tally>(replica: ReplicaId, of: &DotFun<T>) -> T {
    let own = of.iter().rev().find(|(dot, _)| dot.replica == replica);
    own.map_or_else(T::default, |(_, tally)| *tally)
}

fn count<T: Tally>(
    of: &DotFun<T>,
    more: T,
    write: &mut Write<'_>,
) -> Result<Delta<DotFun<T>>, Refused> {
    let replica = write.replica();
    let before = tally_of(replica, of);
    let full = Refused::CounterFull { counted: before.most(), more: more.most() };
    let after = before.plus(more).ok_or(full)?;
    of.put(after, write, |dot| dot.replica == replica)
}

/// A delta that adds up what earlier lives of each node have counted that write no more, under the last of
/// them.
fn fold<T: Tally>(of: &DotFun<T>, tidy: &Tidy<'_>) -> Option<Delta<DotFun<T>>> {
    let mut groups: Vec<(Vec<Dot>, T)> = Vec::new();
    // Counts that have no room in one stay apart.
    for (dot, tally) in tallies(of).filter(|(dot, _)| tidy.departed.contains(&dot.replica)) {
        // What stands in the way of the last, which has it too.
        let of_life = of.iter().map(|(dot, _)| dot).filter(|one| one.replica == dot.replica);
        let is_same = |(dots, _): &&mut (Vec<Dot>, T)| {
            dots.last().is_some_and(|last| last.replica.node == dot.replica.node)
        };
        let group = groups.last_mut().filter(is_same);
        match group.and_then(|group| Some((group.1.plus(tally)?, group))) {
            Some((sum, group)) => {
                group.1 = sum;
                group.0.extend(of_life);
            }
            None => groups.push((of_life.collect(), tally)),
        }
    }
    groups.retain(|(dots, _)| dots.len() > 1);
    (!groups.is_empty()).then(|| DotFun::folded(groups))
}

/// A counter that only grows.
///
/// Each replica has a total of its own, and the value is the sum. A removal of the counter takes away
/// the totals that the remover has seen; one of a replica that goes on counting meanwhile stays as a
/// whole, with what it had counted before.
///
/// As in Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive study of Convergent and Commutative
/// Replicated Data Types* (INRIA RR-7506, 2011), section 3.1.2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GCounter(DotFun<u64>);

impl GCounter {
    /// The value.
    #[must_use]
    pub fn value(&self) -> u128 {
        tallies(&self.0).map(|(_, total)| u128::from(total)).sum()
    }

    /// A delta that adds to it.
    ///
    /// # Errors
    ///
    /// [`Refused::CounterFull`], [`Refused::DotsSpent`].
    pub fn increment(&self, by: u64, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        Ok(count(&self.0, by, write)?.map(Self))
    }
}

crdt_type!(GCounter, DotFun<u64>, "g-counter", {
    fn tidy(&self, tidy: &Tidy<'_>, _write: &mut Write<'_>) -> Option<Delta<Self>> {
        Some(fold(&self.0, tidy)?.map(Self))
    }
});

/// A counter that grows and shrinks. Nothing keeps it from going below zero: two replicas that do not
/// hear each other take away from it what is there only once.
///
/// Removals, and the source, are those of [`GCounter`]; section 3.1.3.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PnCounter(DotFun<Balance>);

impl PnCounter {
    /// The value.
    #[must_use]
    pub fn value(&self) -> i128 {
        tallies(&self.0).map(|(_, total)| i128::from(total.up) - i128::from(total.down)).sum()
    }

    /// A delta that adds to it.
    ///
    /// # Errors
    ///
    /// [`Refused::CounterFull`], [`Refused::DotsSpent`].
    pub fn increment(&self, by: u64, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        Ok(count(&self.0, Balance { up: by, down: 0 }, write)?.map(Self))
    }

    /// A delta that takes away from it.
    ///
    /// # Errors
    ///
    /// As [`increment`](Self::increment).
    pub fn decrement(&self, by: u64, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
        Ok(count(&self.0, Balance { up: 0, down: by }, write)?.map(Self))
    }
}

crdt_type!(PnCounter, DotFun<Balance>, "pn-counter", {
    fn tidy(&self, tidy: &Tidy<'_>, _write: &mut Write<'_>) -> Option<Delta<Self>> {
        Some(fold(&self.0, tidy)?.map(Self))
    }
});

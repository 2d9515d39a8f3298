//! What happens in a world, in its order and with virtual times.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use macula_core::sim::trace::Trace;

use super::faults::Part;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What<S> {
    /// A life of a node begins. It has not started yet.
    Born,
    /// Its tree is up.
    Up,
    /// The node crashes.
    Crashed,
    /// One of its actors is killed.
    Killed(Part),
    /// Nothing gets from it to another node, or back; what was under way is lost.
    Parted(usize),
    /// Everything between it and another node is held.
    Held(usize),
    /// The way to another node is whole again; what was held gets through.
    Mended(usize),
    /// All faults have ended, everywhere.
    Calm,
    /// The mesh has healed, everywhere.
    Healed,
    /// The scenario tells of something.
    Seen(S),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry<S> {
    /// When, since the beginning of the run: the millisecond.
    pub at: Duration,
    /// Which node.
    pub node: usize,
    /// Which life of it; the first is 1.
    pub life: u64,
    /// What.
    pub what: What<S>,
}

struct Inner<S> {
    entries: Vec<Entry<S>>,
    trace: Trace,
    /// How many entries there are of this moment.
    crowd: (Duration, usize),
    /// Who does not let time go on, in words.
    spins: Option<String>,
}

/// How many entries one virtual millisecond may have.
const CROWD_MAX: usize = 20_000;

/// The log of a run. Clones are the same.
pub struct Log<S> {
    /// Virtual time in milliseconds, which the run sets before each step.
    now_ms: Arc<AtomicU64>,
    inner: Arc<Mutex<Inner<S>>>,
}

impl<S> Clone for Log<S> {
    fn clone(&self) -> Self {
        Self { now_ms: Arc::clone(&self.now_ms), inner: Arc::clone(&self.inner) }
    }
}

impl<S> Debug for Log<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("entries", &self.inner.lock().entries.len()).finish()
    }
}

impl<S> Default for Log<S> {
    fn default() -> Self {
        let inner = Inner {
            entries: Vec::new(),
            trace: Trace::default(),
            crowd: (Duration::ZERO, 0),
            spins: None,
        };
        Self { now_ms: Arc::default(), inner: Arc::new(Mutex::new(inner)) }
    }
}

impl<S> Log<S> {
    /// The virtual time since the beginning of the run.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    /// One number for all entries, in their order and with their times, and for all datagrams on
    /// the network: between whom, when, and how long.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.inner.lock().trace.hash()
    }

    /// Looks at all entries so far.
    pub fn read<T>(&self, look: impl FnOnce(&[Entry<S>]) -> T) -> T {
        look(&self.inner.lock().entries)
    }

    pub(super) fn clock(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.now_ms)
    }

    pub(super) fn set_now(&self, now: Duration) {
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.now_ms.store(ms, Ordering::Relaxed);
    }

    /// Notes that a node does not let time go on.
    pub(super) fn spins(&self, node: usize, what: &str) {
        let at = self.now();
        let told = format!("node {node} spins in one virtual instant, at {at:?}: {what}");
        self.inner.lock().spins.get_or_insert(told);
    }

    /// Whether a node does not let time go on.
    pub(super) fn spinning(&self) -> Option<String> {
        self.inner.lock().spins.clone()
    }

    /// Takes what is not told to people into the hash.
    pub(super) fn stir(&self, details: impl Hash + Debug) {
        let now = self.now();
        self.inner.lock().trace.event(now, "network", details);
    }
}

impl<S: Clone + Hash + Debug> Log<S> {
    pub(super) fn push(&self, node: usize, life: u64, what: What<S>) {
        let entry = Entry { at: self.now(), node, life, what };
        let mut inner = self.inner.lock();
        if inner.crowd.0 != entry.at {
            inner.crowd = (entry.at, 0);
        }
        inner.crowd.1 += 1;
        if inner.crowd.1 > CROWD_MAX {
            drop(inner);
            return self.spins(node, "it tells of too much at once");
        }
        inner.trace.event(entry.at, "entry", (entry.node, entry.life, &entry.what));
        inner.entries.push(entry);
    }

    /// The last entries as text, for people.
    #[must_use]
    pub fn lines(&self, lines_max: usize) -> String {
        let line = |Entry { at, node, life, what }: &Entry<S>| {
            format!("{:>8} ms  node {node}.{life}  {what:?}\n", at.as_millis())
        };
        self.read(|entries| {
            entries.iter().skip(entries.len().saturating_sub(lines_max)).map(line).collect()
        })
    }
}

/// Where two logs part: what each has around there.
#[must_use]
pub fn first_difference<E: PartialEq + Clone>(one: &[E], other: &[E]) -> Option<(Vec<E>, Vec<E>)> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let at = at.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))?;
    let around = |log: &[E]| log.iter().skip(at.saturating_sub(3)).take(8).cloned().collect();
    Some((around(one), around(other)))
}

//! A bucket: states under keys, with one causal context.
//!
//! It is what a replica has of a group of keys, and all that a replicator needs to bring two of them
//! together. It is pure: it is told the time, and never waits.
//!
//! Deltas ([`KeyDelta`]) may come in any order and any number of times. Whole states come with the
//! context of the replica that has them, and are joined key by key ([`Bucket::join_state`]); of that
//! context a bucket believes to have seen only what was live in the states it was given, until it is
//! told that it has been given all that differ ([`Bucket::claim`]). What is in the context and not
//! in any state counts as removed, so a context that is claimed too early removes what was never seen.
//!
//! Each change has a dot of its own, also one that only takes away, so that of each it can be said
//! whether a replica has seen it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use macula_core::replica::ReplicaId;
use smallvec::SmallVec;

use super::codec::{DecodeError, Decoder, Digest, Encoder};
use super::context::Context;
use super::contract::{Crdt, Delta, Piece, Place, Tidy};
use super::dot::Dot;
use super::kind::Kind;
use super::limits::{InvalidLimit, KEY_LEN_CAP, Limits, Refused};
use super::stamps::Stamps;
use super::state::{Kinds, State};
use super::write::Write;
use summary::Summary;

/// How many times the weight that writers may fill is taken of others.
const OTHERS_WEIGHT_FACTOR: usize = 2;

/// How many bytes a span of a context takes encoded at most, and a replica that it names.
const SPAN_WEIGHT: usize = 48;

/// A change of the state of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyDelta {
    /// The key.
    pub key: Arc<str>,
    /// The change.
    pub delta: Delta<State>,
}

impl KeyDelta {
    /// Makes this one and a later one of the same key and kind into one. Says whether they are of the
    /// same; if they are not, nothing was done.
    pub fn join(&mut self, later: &Self) -> bool {
        let (own, later_delta) = (&mut self.delta, &later.delta);
        let joined = self.key == later.key
            && own.state.join(&own.context, &later_delta.state, &later_delta.context).is_some();
        if joined {
            own.context.join(&later_delta.context);
        }
        joined
    }

    /// The same change in deltas whose states and contexts weigh `weight_max` each at most, if they can
    /// be cut so small. Each is a delta of its own, and between them others see a part of the change:
    /// what is new first, and then that what it replaces has gone.
    #[must_use]
    pub fn split(self, weight_max: usize) -> Vec<Self> {
        let Self { key, delta: Delta { state, context } } = self;
        let spans_max = (weight_max / SPAN_WEIGHT).max(1);
        if state.weight() <= weight_max && context.spans_len() <= spans_max {
            return vec![Self { key, delta: Delta { state, context } }];
        }
        let mut all = Vec::new();
        let mut place = Some(Place::new());
        while let Some(from) = place.filter(|_| !state.is_bottom()) {
            let Piece { state: piece, next } = state.piece(&from, weight_max);
            place = next;
            let context = piece.dots();
            let delta = Delta { state: piece, context };
            all.extend((!delta.is_empty()).then(|| Self { key: Arc::clone(&key), delta }));
        }
        for context in context.minus(&state.dots()).parts(spans_max) {
            let delta = Delta { state: state.bottom(), context };
            all.push(Self { key: Arc::clone(&key), delta });
        }
        all
    }

    /// Writes the key, the kind, the state and the context.
    pub fn encode(&self, out: &mut Encoder) {
        put_state(out, &self.key, &self.delta.state);
        out.context(&self.delta.context);
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not that.
    pub fn decode(kinds: &Kinds, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (key, state) = take_state(kinds, from)?;
        Ok(Self { key, delta: Delta { state, context: from.context()? } })
    }
}

/// Writes a key, and the kind and the state that it has.
pub fn put_state(out: &mut Encoder, key: &str, state: &State) {
    out.bytes(key.as_bytes());
    out.kind(&state.kind());
    state.encode(out);
}

/// Reads what [`put_state`] has written.
///
/// # Errors
///
/// [`DecodeError`], if it is not that.
pub fn take_state(kinds: &Kinds, from: &mut Decoder<'_>) -> Result<(Arc<str>, State), DecodeError> {
    let key = from.bytes("a key", KEY_LEN_CAP)?;
    let key = std::str::from_utf8(key).ok().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| from.form("no key"))?.into();
    let kind = from.kind()?;
    Ok((key, kinds.decode(&kind, from)?))
}

/// What a key has.
#[derive(Debug, Clone)]
pub struct Entry {
    state: State,
    digest: OnceLock<Digest>,
    /// Whether it is in the sum of all.
    counted: bool,
}

impl Entry {
    const fn new(state: State) -> Self {
        Self { state, digest: OnceLock::new(), counted: false }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The hash of kind and state, which is remembered until the state changes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| self.state.digest())
    }
}

/// What the keys of a bucket have. A key has one entry, unless replicas that did not hear each other
/// used it for different kinds; then each kind has its own.
type Slots = BTreeMap<Arc<str>, SmallVec<[Entry; 1]>>;

/// A replica's states of a group of keys, and its causal context.
///
/// ```
/// use macula_platform::crdt::bucket::Bucket;
/// use macula_platform::crdt::types::LwwRegister;
/// # use macula_core::replica::ReplicaId;
/// # use std::time::Duration;
/// # let now = Duration::from_secs(1_700_000_000);
///
/// let mut bucket = Bucket::new(ReplicaId { node: 1, incarnation: 1 }, Default::default())?;
/// bucket.update("topic", now, |topic: &LwwRegister, write| topic.set(*b"cheese", write))?;
/// assert_eq!(bucket.read::<LwwRegister>("topic")?.and_then(|topic| topic.get()), Some(&(*b"cheese").into()));
///
/// // The bad day: the key is in use for something else, and is as it was.
/// use macula_platform::crdt::types::OrSet;
/// let refused = bucket.update("topic", now, |set: &OrSet, write| set.add(*b"ada", write));
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     "\"topic\" is of type lww-register, and or-set was asked for"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bucket {
    limits: Limits,
    kinds: Arc<Kinds>,
    replica: ReplicaId,
    /// The last dot that was used, and the last that may be.
    counter: u64,
    counter_max: u64,
    lapses: u64,
    stamps: Stamps,
    context: Context,
    slots: Slots,
    summary: Summary,
    weight: usize,
}

impl Bucket {
    /// An empty bucket that writes as `replica`, which has never written to it.
    ///
    /// # Errors
    ///
    /// [`InvalidLimit`] if nothing can be written under the limits.
    pub fn new(replica: ReplicaId, limits: Limits) -> Result<Self, InvalidLimit> {
        limits.check()?;
        Ok(Self {
            limits,
            kinds: Arc::default(),
            replica,
            counter: 0,
            counter_max: u64::MAX,
            lapses: 0,
            stamps: Stamps::default(),
            context: Context::default(),
            slots: Slots::new(),
            summary: Summary::default(),
            weight: 0,
        })
    }

    /// The same bucket, with other kinds. It is for a bucket that is empty.
    #[must_use]
    pub fn with_kinds(mut self, kinds: Arc<Kinds>) -> Self {
        self.kinds = kinds;
        self
    }

    /// The same bucket, with another clock.
    #[must_use]
    pub const fn with_stamps(mut self, stamps: Stamps) -> Self {
        self.stamps = stamps;
        self
    }

    /// Writes from now on as `replica`, with dots after `counter` and after all of it that were seen,
    /// and up to `counter_max`.
    ///
    /// A replica that keeps its counter reserves a block of dots before it uses them: after a crash
    /// it goes on after the block. One that keeps nothing goes on as the next incarnation.
    pub fn write_as(&mut self, replica: ReplicaId, counter: u64, counter_max: u64) {
        self.replica = replica;
        self.counter = counter.max(self.context.last(replica));
        self.counter_max = counter_max;
    }

    /// As whom it writes.
    #[must_use]
    pub const fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The last dot of its own that it has used, and the last that it may use.
    #[must_use]
    pub const fn counter(&self) -> (u64, u64) {
        (self.counter, self.counter_max)
    }

    /// What it takes.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it can read.
    #[must_use]
    pub const fn kinds(&self) -> &Arc<Kinds> {
        &self.kinds
    }

    /// All that has been seen.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The clock, with its counts of what it refused.
    #[must_use]
    pub const fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// How often others knew updates of this replica that it did not know itself: it has forgotten
    /// them, and goes on after them. Any is a fault of whoever said as whom to write.
    #[must_use]
    pub const fn lapses(&self) -> u64 {
        self.lapses
    }

    /// About how many bytes the states and their keys take.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What the keys have, in order of the keys from a bound on. A key that is used for several kinds
    /// comes once for each, in the order of their names.
    pub fn entries(&self, from: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        let slots = self.slots.range::<str, _>((from, Bound::Unbounded));
        slots.flat_map(|(key, slot)| slot.iter().map(move |entry| (key, entry)))
    }

    /// The state of a key; none if it is bottom.
    ///
    /// # Errors
    ///
    /// [`Refused::OtherKind`] if the key is in use, and not for this kind.
    pub fn read<C: Crdt>(&self, key: &str) -> Result<Option<&C>, Refused> {
        let Some((key, slot)) = self.slots.get_key_value(key) else { return Ok(None) };
        match slot.iter().find_map(|entry| entry.state.of()) {
            Some(state) => Ok(Some(state)),
            None => Err(other_kind(key, slot, C::kind())),
        }
    }

    /// Changes the state of a key by `change`, which is given the state, or bottom, and makes a
    /// delta. The delta is applied, and given back for others. It is empty if nothing changed.
    ///
    /// # Errors
    ///
    /// [`Refused`] if a limit is broken, if the key is in use for another kind, if the kind is not
    /// known, or if `change` is refused.
    pub fn update<C: Crdt>(
        &mut self,
        key: &str,
        now: Duration,
        change: impl FnOnce(&C, &mut Write<'_>) -> Result<Delta<C>, Refused>,
    ) -> Result<KeyDelta, Refused> {
        let range = (self.counter, self.counter_max);
        let mut write = Write::new(self.replica, range, self.stamps, now, &self.limits);
        let only = (Bound::Included(key), Bound::Included(key));
        let Some((name, slot)) = self.slots.range_mut::<str, _>(only).next() else {
            self.check_new(key, C::kind())?;
            let delta = named(change(&C::default(), &mut write)?, self.counter, &mut write)?;
            check_weight(self.weight, &self.limits, delta.state.is_bottom())?;
            (_, self.stamps) = write.spent();
            self.counter = self.counter.max(delta.context.last(self.replica));
            let (name, state) = (Arc::from(key), State::new(delta.state.clone()));
            self.join_slot(&name, &state, &delta.context);
            self.context.join(&delta.context);
            return Ok(KeyDelta { key: name, delta: Delta { state, context: delta.context } });
        };
        let name = Arc::clone(name);
        let Some(entry) = slot.iter_mut().find(|entry| entry.state.of::<C>().is_some()) else {
            return Err(other_kind(&name, slot, C::kind()));
        };
        let before = weight_of(key, &entry.state);
        let key_weight_max = self.limits.key_weight_max;
        let Some(state) = entry.state.of_mut::<C>() else {
            return Err(Refused::UnknownKind(C::kind()));
        };
        let delta = named(change(state, &mut write)?, self.counter, &mut write)?;
        check_weight(self.weight, &self.limits, delta.state.is_bottom())?;
        if before > key_weight_max && !delta.state.is_bottom() {
            return Err(Refused::KeyWeightMax { weight: before, key_weight_max });
        }
        (_, self.stamps) = write.spent();
        // A dot that was drawn and is not in the delta was never used, and leaves no gap.
        self.counter = self.counter.max(delta.context.last(self.replica));
        if !delta.is_empty() {
            state.join(&self.context, &delta.state, &delta.context);
            let gone = state.is_bottom();
            self.summary.change(&name, entry);
            self.weight = (self.weight + weight_of(key, &entry.state)).saturating_sub(before);
            self.context.join(&delta.context);
            if gone {
                self.drop_bottom(&name);
            }
        }
        Ok(KeyDelta { key: name, delta: delta.map(State::new) })
    }

    /// Removes a key: all that is known of it here, whatever its kind. What others do meanwhile
    /// stays. The key can be used again at once, for any kind. It is nothing if there is no such key.
    ///
    /// # Errors
    ///
    /// [`Refused::DotsSpent`]; the key is as it was.
    pub fn remove(&mut self, key: &str) -> Result<Vec<KeyDelta>, Refused> {
        let Some((key, slot)) = self.slots.get_key_value(key) else { return Ok(Vec::new()) };
        let range = (self.counter, self.counter_max);
        let write = &mut Write::new(self.replica, range, self.stamps, Duration::ZERO, &self.limits);
        let mut removed = Vec::new();
        for entry in slot {
            let (state, mut context) = (entry.state.bottom(), entry.state.dots());
            context.insert(write.dot()?);
            removed.push(KeyDelta { key: Arc::clone(key), delta: Delta { state, context } });
        }
        let key = Arc::clone(key);
        self.counter += u64::try_from(removed.len()).unwrap_or(u64::MAX);
        for mut entry in self.slots.remove(&key).into_iter().flatten() {
            self.summary.go(&key, &mut entry);
            self.weight = self.weight.saturating_sub(weight_of(&key, &entry.state));
        }
        self.summary.gone(&key);
        for change in &removed {
            self.context.join(&change.delta.context);
        }
        Ok(removed)
    }

    /// Takes out of a key what nobody needs any more, and says what others have to be told.
    pub fn tidy(&mut self, key: &str, tidy: &Tidy<'_>, now: Duration) -> Vec<KeyDelta> {
        let Some((key, slot)) = self.slots.get_key_value(key) else { return Vec::new() };
        let key = Arc::clone(key);
        let range = (self.counter, self.counter_max);
        let mut write = Write::new(self.replica, range, self.stamps, now, &self.limits);
        let mut deltas = Vec::new();
        for entry in slot {
            let before = write.last();
            let Some(mut delta) = entry.state.tidy(tidy, &mut write) else { continue };
            if write.last() == before {
                let Ok(dot) = write.dot() else { break };
                delta.context.insert(dot);
            }
            deltas.push(KeyDelta { key: Arc::clone(&key), delta });
        }
        (self.counter, self.stamps) = write.spent();
        for change in &deltas {
            self.join_slot(&change.key, &change.delta.state, &change.delta.context);
            self.context.join(&change.delta.context);
        }
        deltas
    }

    /// Applies a delta from elsewhere. Says whether the state changed.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is no room, or the state is of a type that is not known here.
    pub fn join(&mut self, change: &KeyDelta, now: Duration) -> Result<bool, Refused> {
        let KeyDelta { key, delta: Delta { state, context } } = change;
        self.check_spans(context)?;
        let changed = self.join_checked(key, state, context, now)?;
        self.context.join(context);
        Ok(changed)
    }

    /// Joins a whole state from elsewhere, where `context` has been seen; for a key that is bottom
    /// there, it is bottom. Says whether the state changed.
    ///
    /// Only the dots that are live in `theirs` count as seen then; see [`claim`](Self::claim).
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_state(
        &mut self,
        key: &Arc<str>,
        theirs: &State,
        context: &Context,
        now: Duration,
    ) -> Result<bool, Refused> {
        // Their gaps are closed once all is claimed, and there are not more than the weight allows.
        let live = theirs.dots();
        let changed = self.join_checked(key, theirs, context, now)?;
        self.context.join(&live);
        Ok(changed)
    }

    /// Believes to have seen all of `context`: every state was joined that differed from those of the
    /// replica that had seen it.
    pub fn claim(&mut self, context: &Context) {
        self.note_own(context);
        self.context.join(context);
    }

    fn join_checked(
        &mut self,
        key: &Arc<str>,
        theirs: &State,
        context: &Context,
        now: Duration,
    ) -> Result<bool, Refused> {
        let weight_max = self.limits.weight_max.saturating_mul(OTHERS_WEIGHT_FACTOR);
        if self.weight > weight_max && !theirs.is_bottom() {
            return Err(Refused::WeightMax { weight: self.weight, weight_max });
        }
        let changed = self.join_slot(key, theirs, context);
        let changed = changed.ok_or_else(|| Refused::UnknownKind(theirs.kind()))?;
        if let Some(latest) = theirs.latest() {
            self.stamps.observe(latest, now);
        }
        self.note_own(context);
        Ok(changed)
    }

    /// Joins a state with that of its key and kind. None if they cannot be joined.
    fn join_slot(&mut self, key: &Arc<str>, theirs: &State, context: &Context) -> Option<bool> {
        let (ours, mut weight) = (&self.context, self.weight);
        let (slot, summary) = (self.slots.get_mut(key), &mut self.summary);
        let found = slot.and_then(|slot| {
            slot.iter_mut().find_map(|entry| {
                let before = weight_of(key, &entry.state);
                let changed = entry.state.join(ours, theirs, context)?;
                weight = (weight + weight_of(key, &entry.state)).saturating_sub(before);
                if changed {
                    summary.change(key, entry);
                }
                Some((changed, entry.state.is_bottom()))
            })
        });
        self.weight = weight;
        if let Some((changed, gone)) = found {
            if gone {
                self.drop_bottom(key);
            }
            return Some(changed);
        }
        let mut state = theirs.bottom();
        let changed = state.join(ours, theirs, context)?;
        if !state.is_bottom() {
            self.insert(key, state)?;
        }
        Some(changed)
    }

    /// Adds an entry. None if there is one of its kind, which was not to be joined with it.
    fn insert(&mut self, key: &Arc<str>, state: State) -> Option<()> {
        let (kind, weight) = (state.kind(), weight_of(key, &state));
        let slot = self.slots.entry(Arc::clone(key)).or_default();
        let place = slot.binary_search_by_key(&kind, |entry| entry.state.kind()).err()?;
        slot.insert(place, Entry::new(state));
        self.summary.come(key);
        self.weight += weight;
        Some(())
    }

    /// Drops entries of a key that came to be bottom.
    fn drop_bottom(&mut self, key: &Arc<str>) {
        let (slot, summary) = (self.slots.get_mut(key), &mut self.summary);
        let Some(slot) = slot else { return };
        let mut weight = self.weight;
        slot.retain(|entry| {
            let stays = !entry.state.is_bottom();
            weight = weight.saturating_sub(if stays { 0 } else { weight_of(key, &entry.state) });
            if !stays {
                summary.go(key, entry);
            }
            stays
        });
        self.weight = weight;
        if slot.is_empty() {
            self.slots.remove(key);
            self.summary.gone(key);
        }
    }

    /// An own dot that somebody has seen is not used again, even if this replica has forgotten it.
    fn note_own(&mut self, context: &Context) {
        let seen = context.last(self.replica);
        if seen > self.counter {
            self.counter = seen;
            self.lapses += 1;
        }
    }

    fn check_new(&self, key: &str, kind: Kind) -> Result<(), Refused> {
        self.limits.check_key(key)?;
        let (keys, keys_max) = (self.slots.len(), self.limits.keys_max);
        if keys >= keys_max {
            return Err(Refused::KeysMax { keys, keys_max });
        }
        if !self.kinds.knows(&kind) {
            return Err(Refused::UnknownKind(kind));
        }
        Ok(())
    }

    fn check_spans(&self, more: &Context) -> Result<(), Refused> {
        let spans = self.context.spans_len().saturating_add(more.spans_len());
        let spans_max = self.limits.spans_max;
        if spans > spans_max && !self.context.includes(more) {
            return Err(Refused::SpansMax { spans, spans_max });
        }
        Ok(())
    }
}

/// Gives a change that only takes away a dot of its own, so that what a replica has seen says all of
/// what it has done. `before` is the last dot before the change.
fn named<C: Crdt>(
    mut delta: Delta<C>,
    before: u64,
    write: &mut Write<'_>,
) -> Result<Delta<C>, Refused> {
    let replica = write.replica();
    if !delta.is_empty() && delta.context.last(replica) <= before {
        // One that was drawn in vain is as good as a fresh one, and leaves no gap.
        let is_drawn = write.last().counter > before;
        let dot = if is_drawn { Dot { replica, counter: before + 1 } } else { write.dot()? };
        delta.context.insert(dot);
    }
    Ok(delta)
}

/// About how many bytes an entry takes beside its key and what its state says.
const ENTRY_WEIGHT: usize = 128;

fn weight_of(key: &str, state: &State) -> usize {
    ENTRY_WEIGHT + key.len() + state.weight()
}

/// Whether there is room for an update. What only removes always has room.
const fn check_weight(weight: usize, limits: &Limits, removes: bool) -> Result<(), Refused> {
    let weight_max = limits.weight_max;
    if weight > weight_max && !removes {
        return Err(Refused::WeightMax { weight, weight_max });
    }
    Ok(())
}

fn other_kind(key: &Arc<str>, slot: &[Entry], asked: Kind) -> Refused {
    let key = Arc::clone(key);
    match slot.first().map(|entry| entry.state.kind()) {
        Some(there) if there != asked => Refused::OtherKind { key, there, asked },
        Some(_) | None => Refused::UnknownKind(asked),
    }
}

mod forgetting;
mod summary;

#[cfg(test)]
mod tests;

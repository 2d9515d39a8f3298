//! Patterns, and whose they are: finds those that match a topic without looking at the others.
//!
//! Each segment of a pattern is one step down. A topic is walked segment by segment with all places
//! at which a pattern that begins like it can be, so the work depends on how many patterns match a
//! part of the topic, and not on how many there are.

use std::collections::{BTreeSet, HashMap};

use macula_core::topic::{Pattern, Segment, Topic};

/// The place of the empty pattern, from which all others hang.
const ROOT: usize = 0;

/// Patterns with their values. A pattern can have several, each once.
#[derive(Debug, Clone)]
pub(crate) struct Trie<T> {
    places: Vec<Place<T>>,
    /// Places that nothing uses.
    free: Vec<usize>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Place<T> {
    /// It is looked up, and never walked over.
    exact: HashMap<Box<str>, usize>,
    any: Option<usize>,
    /// The values of the pattern that ends here.
    here: BTreeSet<T>,
    /// The values of the pattern that ends with `**` here.
    rest: BTreeSet<T>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), any: None, here: BTreeSet::new(), rest: BTreeSet::new() }
    }
}

impl<T> Place<T> {
    fn is_bare(&self) -> bool {
        self.exact.is_empty() && self.any.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { places: vec![Place::default()], free: Vec::new(), len: 0 }
    }
}

impl<T: Ord + Clone> Trie<T> {
    /// How many values there are.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a value under a pattern, and says whether it was not there.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: T) -> bool {
        let (mut at, mut is_rest) = (ROOT, false);
        for segment in pattern.segments() {
            match segment {
                Segment::Rest => is_rest = true,
                Segment::Any | Segment::Exact(_) => at = self.step_or_grow(at, segment),
            }
        }
        let Some(place) = self.places.get_mut(at) else { return false };
        let values = if is_rest { &mut place.rest } else { &mut place.here };
        let is_new = values.insert(value);
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes a value away from a pattern, and says whether it was there.
    pub(crate) fn remove(&mut self, pattern: &Pattern, value: &T) -> bool {
        let (mut at, mut is_rest) = (ROOT, false);
        let mut path = Vec::new();
        for segment in pattern.segments() {
            if segment == Segment::Rest {
                is_rest = true;
                continue;
            }
            path.push((at, segment));
            let Some(next) = self.step(at, segment) else { return false };
            at = next;
        }
        let Some(place) = self.places.get_mut(at) else { return false };
        let values = if is_rest { &mut place.rest } else { &mut place.here };
        let was_there = values.remove(value);
        self.len -= usize::from(was_there);
        while let Some((above, segment)) = path.pop() {
            if self.places.get(at).is_none_or(|place| !place.is_bare()) {
                break;
            }
            if let Some(place) = self.places.get_mut(above) {
                match segment {
                    Segment::Exact(text) => drop(place.exact.remove(text)),
                    Segment::Any | Segment::Rest => place.any = None,
                }
            }
            self.free.push(at);
            at = above;
        }
        was_there
    }

    /// Hands out the values of all patterns that match a topic. A value that is under several of
    /// them comes several times.
    pub(crate) fn matches<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a T)) {
        let mut heads = vec![ROOT];
        let mut next = Vec::new();
        for segment in topic.segments() {
            for place in heads.drain(..).filter_map(|at| self.places.get(at)) {
                place.rest.iter().for_each(&mut found);
                next.extend(place.exact.get(segment).copied());
                next.extend(place.any);
            }
            std::mem::swap(&mut heads, &mut next);
        }
        for place in heads.into_iter().filter_map(|at| self.places.get(at)) {
            place.rest.iter().chain(&place.here).for_each(&mut found);
        }
    }

    fn step(&self, at: usize, segment: Segment<'_>) -> Option<usize> {
        let place = self.places.get(at)?;
        match segment {
            Segment::Exact(text) => place.exact.get(text).copied(),
            Segment::Any | Segment::Rest => place.any,
        }
    }

    fn step_or_grow(&mut self, at: usize, segment: Segment<'_>) -> usize {
        if let Some(next) = self.step(at, segment) {
            return next;
        }
        let next = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() - 1
        });
        if let Some(place) = self.places.get_mut(at) {
            match segment {
                Segment::Exact(text) => drop(place.exact.insert(text.into(), next)),
                Segment::Any | Segment::Rest => place.any = Some(next),
            }
        }
        next
    }
}

#[cfg(test)]
mod tests;

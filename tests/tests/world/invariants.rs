//! What has to hold for calls and monitors, whatever the weather.

use std::collections::BTreeMap;
use std::time::Duration;

use macula_tests::world::{Entry, What};

use super::counting::{Seen, WITHIN, answer_to};

/// How much later than its deadline a call may end.
const LATE_MAX: Duration = Duration::from_millis(5);

/// How long after the end of a life its watchers are told at the latest: a connection is lost after
/// two seconds of silence.
const TOLD_WITHIN: Duration = Duration::from_secs(4);

type Verdict = Result<(), String>;

#[derive(Debug)]
struct Call {
    asked: Duration,
    caller: (usize, u64),
    handled: u64,
    ended: bool,
    not_run: bool,
}

#[derive(Debug)]
struct Watch {
    since: Duration,
    watcher: (usize, u64),
    of: usize,
    told: bool,
}

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<u64, Call>,
    watches: BTreeMap<u64, Watch>,
    /// When each life of a node ended.
    crashed: BTreeMap<(usize, u64), Duration>,
    /// The ends of counters: of which node, and when.
    ends: Vec<(usize, Duration)>,
    /// How many lives the counter of a node has had, in this life of the node.
    begun: BTreeMap<usize, u64>,
    healed: Option<Duration>,
}

/// Checks them all.
pub(crate) fn check(entries: &[Entry<Seen>]) -> Verdict {
    let mut state = State::default();
    for entry in entries {
        state.entry(entry)?;
    }
    let end = entries.last().map_or(Duration::ZERO, |entry| entry.at);
    state.calls_ended(end)?;
    state.watchers_told(end)
}

impl State {
    fn entry(&mut self, entry: &Entry<Seen>) -> Verdict {
        let Entry { at, node, life, what } = entry;
        match what {
            What::Crashed => {
                self.crashed.insert((*node, *life), *at);
                self.ends.push((*node, *at));
                self.begun.remove(node);
            }
            What::Healed => self.healed = Some(*at),
            What::Seen(seen) => self.seen((*node, *life), *at, seen)?,
            What::Born
            | What::Up
            | What::Killed(_)
            | What::Parted(_)
            | What::Held(_)
            | What::Mended(_)
            | What::Calm => {}
        }
        Ok(())
    }

    fn seen(&mut self, life: (usize, u64), at: Duration, seen: &Seen) -> Verdict {
        match seen {
            Seen::Asked { call, .. } => {
                let new =
                    Call { asked: at, caller: life, handled: 0, ended: false, not_run: false };
                self.calls.insert(*call, new);
            }
            Seen::Handled { call } => self.handled(*call)?,
            Seen::Answered { call, answer } => {
                let known = self.ended(*call, at)?;
                if *answer != answer_to(*call) {
                    return Err(format!("{call:#x} got the answer {answer:#x} of another"));
                }
                if known.handled == 0 {
                    return Err(format!("{call:#x} was answered and never handled"));
                }
            }
            Seen::Failed { call, may_have_run, why } => {
                self.failed(*call, at, *may_have_run, why)?;
            }
            Seen::Begun => {
                // If one has begun before, that one has ended.
                let lives = self.begun.entry(life.0).or_default();
                *lives += 1;
                if *lives > 1 {
                    self.ends.push((life.0, at));
                }
            }
            Seen::Watched { watch, of } => {
                let watching = Watch { since: at, watcher: life, of: *of, told: false };
                self.watches.insert(*watch, watching);
            }
            Seen::Down { watch, .. } => {
                let watching = self.watches.get_mut(watch).ok_or("it tells of no watch")?;
                if std::mem::replace(&mut watching.told, true) {
                    return Err(format!("watch {watch:#x} was told twice"));
                }
            }
            Seen::DownAgain { watch } => return Err(format!("watch {watch:#x} was told twice")),
        }
        Ok(())
    }

    fn handled(&mut self, call: u64) -> Verdict {
        let known =
            self.calls.get_mut(&call).ok_or_else(|| format!("{call:#x} was never asked"))?;
        known.handled += 1;
        if known.handled > 1 {
            return Err(format!("{call:#x} was handled twice"));
        }
        if known.not_run {
            return Err(format!("{call:#x} failed as not handled, and was handled after that"));
        }
        Ok(())
    }

    /// A call ends: once, and not late.
    fn ended(&mut self, call: u64, at: Duration) -> Result<&mut Call, String> {
        let known =
            self.calls.get_mut(&call).ok_or_else(|| format!("{call:#x} was never asked"))?;
        if std::mem::replace(&mut known.ended, true) {
            return Err(format!("{call:#x} ended twice"));
        }
        let took = at - known.asked;
        if took > WITHIN + LATE_MAX {
            return Err(format!("{call:#x} ended after {took:?}"));
        }
        Ok(known)
    }

    fn failed(&mut self, call: u64, at: Duration, may_have_run: bool, why: &str) -> Verdict {
        let healed = self.healed;
        let known = self.ended(call, at)?;
        known.not_run = !may_have_run;
        if known.not_run && known.handled > 0 {
            return Err(format!("{call:#x} was handled, and failed as not handled: {why}"));
        }
        if healed.is_some_and(|healed| healed < known.asked) {
            return Err(format!("{call:#x} failed after the mesh had healed: {why}"));
        }
        Ok(())
    }

    fn calls_ended(&self, end: Duration) -> Verdict {
        for (call, known) in &self.calls {
            let lived_until = self.crashed.get(&known.caller).copied().unwrap_or(end);
            if !known.ended && lived_until > known.asked + WITHIN + LATE_MAX {
                return Err(format!("{call:#x} never ended"));
            }
        }
        Ok(())
    }

    fn watchers_told(&self, end: Duration) -> Verdict {
        for (watch, known) in self.watches.iter().filter(|(_, known)| !known.told) {
            let lived_until = self.crashed.get(&known.watcher).copied().unwrap_or(end);
            let over = |(of, at): &&(usize, Duration)| *of == known.of && *at > known.since;
            let Some((_, over)) = self.ends.iter().find(over) else { continue };
            if lived_until > *over + TOLD_WITHIN {
                return Err(format!("watch {watch:#x} was never told of the end at {over:?}"));
            }
        }
        Ok(())
    }
}

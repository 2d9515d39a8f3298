//! A publisher's end of a session: the flows to one node, and what that node wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::topic::Pattern;

use super::super::message::Outcome;
use super::config::Config;
use super::flow::{Copy, Flow};
use super::word::{
    Batch, FLOWS, FlowId, FlowReport, Interest, Life, PREFIXES_MAX, Replay, SessionId, Standing,
    SubId, Wanted, Window,
};

/// Of how many prefixes a node is asked.
const ASKED_MAX: usize = 65_536;

/// How many patterns are remembered that a node may not want.
const FORBIDDEN_MAX: usize = 4_096;

/// How many patterns a node may want.
const WANTED_MAX: usize = 65_536;

/// How many subscriptions are given what was before them, in one session.
const REPLAYS_MAX: usize = 65_536;

/// How many of these wait for room. What is beyond is forgotten, and asked for with the next greeting.
const REPLAYS_WAITING_MAX: usize = 1_024;

/// How long it is waited before a node is greeted again, at first.
const RETRY_INITIAL: Duration = Duration::from_millis(100);

/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long what was sent may not have arrived, before the other end is asked.
const PROBE_UNSURE: Duration = Duration::from_millis(500);

/// How often it is asked while something waits for it.
const PROBE_WAITING: Duration = Duration::from_secs(2);

/// How often it is asked if nothing does.
const PROBE_IDLE: Duration = Duration::from_secs(15);

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is to be begun, or gone on with.
    Greeting,
    /// Messages are sent.
    Open,
    /// The other node does not take part.
    Refused,
}

/// What a node has said of what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It follows on what was said before.
    Well,
    /// Something in between was lost: it has to be asked again.
    Gap,
    /// It is older than what is known.
    Old,
}

/// A subscription's wish to have what was before it.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) sub: SubId,
    pub(crate) pattern: Pattern,
    pub(crate) replay: Replay,
    /// How many messages it takes.
    pub(crate) max: usize,
}

/// The publisher's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) session: SessionId,
    pub(crate) state: State,
    flows: [Flow; FLOWS],
    window: Window,
    config: Config,
    /// The subscriber's end, if it has ever been there.
    pub(crate) other: Option<Life>,
    /// The prefixes that it is asked of, and whether it has answered.
    asked: BTreeMap<Arc<str>, bool>,
    version: u64,
    wanted: BTreeMap<Wanted, Standing>,
    /// How many of those have no room.
    paused: usize,
    /// What it may not want, and is told so.
    forbidden: BTreeSet<Pattern>,
    /// The subscriptions that were given in this session what was before them.
    replayed: BTreeSet<SubId>,
    /// Those of them that have not had it yet, since there was no room.
    replays: VecDeque<Wish>,
    attempts: u32,
    /// Since when it was not there.
    pub(crate) since: Instant,
}

impl Outlet {
    pub(crate) fn new(session: SessionId, now: Instant, config: Config) -> Self {
        let mut ids = FlowId::all();
        // There are as many flows as ids.
        let flow =
            |_| Flow::new(ids.next().unwrap_or_else(|| FlowId::of(<_>::default(), <_>::default())));
        Self {
            session,
            state: State::Greeting,
            flows: std::array::from_fn(flow),
            window: Window { messages: 0, bytes: 0 },
            config,
            other: None,
            asked: BTreeMap::new(),
            replayed: BTreeSet::new(),
            replays: VecDeque::new(),
            version: 0,
            wanted: BTreeMap::new(),
            paused: 0,
            forbidden: BTreeSet::new(),
            attempts: 0,
            since: now,
        }
    }

    pub(crate) fn flow(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(id.index())
    }

    /// Whether there is room for a message in a flow.
    pub(crate) fn has_room(&self, id: FlowId) -> bool {
        let waiting = self.flows.get(id.index()).map(Flow::waiting);
        self.state != State::Refused
            && waiting.is_some_and(|(messages, len)| {
                messages < self.config.queue_messages_max && len < self.config.queue_len_max
            })
    }

    /// How many entries have not ended.
    pub(crate) fn outstanding(&self) -> usize {
        self.flows.iter().map(Flow::outstanding).sum()
    }

    /// Whether something was sent that has not arrived, as far as is known.
    pub(crate) fn is_unsure(&self) -> bool {
        self.flows.iter().any(Flow::is_unsure)
    }

    /// Asks of a prefix, if it was not asked of yet.
    pub(crate) fn ask(&mut self, prefix: &Arc<str>) -> bool {
        if self.asked.contains_key(prefix) || self.asked.len() >= ASKED_MAX {
            return false;
        }
        self.asked.insert(Arc::clone(prefix), false);
        true
    }

    /// The prefixes of which no answer has come, in portions.
    pub(crate) fn unanswered(&self) -> Vec<Vec<Arc<str>>> {
        let open = self.asked.iter().filter(|(_, is_answered)| !**is_answered);
        let open: Vec<Arc<str>> = open.map(|(prefix, _)| Arc::clone(prefix)).collect();
        open.chunks(PREFIXES_MAX).map(<[_]>::to_vec).collect()
    }

    /// Whether it need not be waited for to know what it wants of these.
    pub(crate) fn has_answered(&self, prefixes: &[Arc<str>]) -> bool {
        self.state == State::Refused
            || self.attempts > 1
            || prefixes.iter().all(|prefix| self.asked.get(prefix).is_none_or(|answered| *answered))
    }

    /// How long to wait before the next greeting.
    pub(crate) fn back_off(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        let factor = 1_u32 << (self.attempts - 1).min(10);
        RETRY_INITIAL.saturating_mul(factor).min(RETRY_MAX)
    }

    /// The other end takes part. Says whether it is the one of before, if there was one.
    pub(crate) fn welcomed(&mut self, life: Life, window: Window, received: &[u64]) -> bool {
        if self.other.is_some_and(|other| other != life) {
            return false;
        }
        (self.other, self.window, self.attempts) = (Some(life), window, 0);
        self.state = State::Open;
        for (flow, received) in self.flows.iter_mut().zip(received) {
            flow.rewind(*received);
        }
        true
    }

    /// The next messages to be sent.
    pub(crate) fn batch(
        &mut self,
        now: Instant,
        ended: &mut Vec<(Copy, Outcome)>,
    ) -> Option<Batch> {
        if self.state != State::Open {
            return None;
        }
        self.flows
            .iter_mut()
            .find_map(|flow| flow.batch(now, (self.window, self.config.batch_messages_max), ended))
    }

    /// The other end says how far it is. Says whether that can be.
    pub(crate) fn report(
        &mut self,
        reports: &[FlowReport],
        ended: &mut Vec<(Copy, Outcome)>,
    ) -> bool {
        self.attempts = 0;
        reports
            .iter()
            .all(|report| self.flow(report.flow).is_some_and(|flow| flow.report(report, ended)))
    }

    /// The other end says what it wants. `changed` hears of each change.
    pub(crate) fn hear(
        &mut self,
        interest: Interest,
        mut changed: impl FnMut(&Wanted, Option<Standing>, Option<Standing>),
    ) -> Heard {
        let Interest { version, anew, entries, .. } = interest;
        if version <= self.version {
            return Heard::Old;
        }
        if anew.is_empty() && version != self.version + 1 {
            return Heard::Gap;
        }
        // What is said anew holds, whatever was lost before it.
        let follows = version == self.version + 1;
        self.version = version;
        let mut entries: BTreeMap<Wanted, Standing> = entries.into_iter().collect();
        if !anew.is_empty() {
            for prefix in &anew {
                // It may say more than it was asked, of which nothing is remembered.
                if let Some(answered) = self.asked.get_mut(prefix) {
                    *answered = true;
                }
            }
            let told = |wanted: &Wanted| anew.iter().any(|of| **of == *wanted.pattern.prefix());
            let over: Vec<Wanted> =
                self.wanted.keys().filter(|wanted| told(wanted)).cloned().collect();
            for wanted in over {
                entries.entry(wanted).or_insert(Standing::Gone);
            }
        }
        for (wanted, standing) in entries {
            let now = (standing != Standing::Gone).then_some(standing);
            let before = match now {
                Some(now)
                    if self.wanted.len() < WANTED_MAX || self.wanted.contains_key(&wanted) =>
                {
                    self.wanted.insert(wanted.clone(), now)
                }
                Some(_) => continue,
                None => self.wanted.remove(&wanted),
            };
            let paused = |standing| usize::from(standing == Some(Standing::Paused));
            self.paused = self.paused + paused(now) - paused(before);
            if before != now {
                changed(&wanted, before, now);
            }
        }
        if follows { Heard::Well } else { Heard::Gap }
    }

    /// It may not want these.
    pub(crate) fn forbid(&mut self, patterns: &[Pattern]) {
        let room = FORBIDDEN_MAX.saturating_sub(self.forbidden.len());
        self.forbidden.extend(patterns.iter().take(room).cloned());
    }

    /// What it may not want.
    pub(crate) fn forbidden(&self) -> Vec<Pattern> {
        self.forbidden.iter().cloned().collect()
    }

    /// Whether something was said of what is wanted that has not come.
    pub(crate) const fn misses(&self, version: u64) -> bool {
        self.version != version
    }

    /// After what time without news the other end is asked how things stand.
    pub(crate) fn probe_after(&self) -> Duration {
        let waits = self.outstanding() > 0 || self.paused > 0;
        match (self.is_unsure(), waits) {
            (true, _) => PROBE_UNSURE,
            (false, true) => PROBE_WAITING,
            (false, false) => PROBE_IDLE,
        }
    }

    /// All has to be asked again.
    pub(crate) fn forget_answers(&mut self) {
        self.asked.values_mut().for_each(|answered| *answered = false);
    }

    /// Another life of the other end numbers anew what it says.
    pub(crate) fn begin_anew(&mut self) {
        self.version = 0;
        self.forbidden.clear();
        self.replayed.clear();
        self.replays.clear();
        self.forget_answers();
    }

    /// A subscription wants to have what was before it. One that asks again did not know that it was
    /// heard.
    pub(crate) fn replay(&mut self, wish: Wish) {
        let is_room = self.replayed.len() < REPLAYS_MAX && self.replays.len() < REPLAYS_WAITING_MAX;
        if is_room && self.replayed.insert(wish.sub) {
            self.replays.push_back(wish);
        }
    }

    /// The next of these wishes, if there is room: so one replay at most goes past the bound of what
    /// waits.
    pub(crate) fn next_replay(&mut self) -> Option<Wish> {
        if FlowId::all().all(|flow| self.has_room(flow)) { self.replays.pop_front() } else { None }
    }

    /// All that was wanted.
    pub(crate) fn take_wanted(&mut self) -> BTreeMap<Wanted, Standing> {
        (self.version, self.paused) = (0, 0);
        std::mem::take(&mut self.wanted)
    }

    /// None of the subscriptions is there any more that were to be told of what does not come.
    pub(crate) fn forget_missing(&mut self) {
        self.flows.iter_mut().for_each(Flow::forget_missing);
    }

    /// What was under way, and what waited, when the session is over.
    pub(crate) fn abandon(&mut self) -> (Vec<Copy>, Vec<Copy>) {
        let (mut flying, mut waiting) = (Vec::new(), Vec::new());
        for flow in &mut self.flows {
            let (flew, waited) = flow.abandon();
            flying.extend(flew);
            waiting.extend(waited);
        }
        (flying, waiting)
    }
}

/// Who wants something of what this node publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interested {
    pub(crate) node: NodeId,
    pub(crate) group: Option<Arc<str>>,
    /// Whether somebody there has room.
    pub(crate) is_open: bool,
}

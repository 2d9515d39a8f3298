//! The publisher's ends of sessions.

use std::time::Instant;

use macula_core::identity::NodeId;
use macula_core::topic::Pattern;

use super::super::super::message::{Missed, Outcome, Qos, Reason};
use super::super::flow::Copy;
use super::super::outlet::{Heard, Interested, Outlet, State, Wish};
use super::super::word::{
    FLOWS, FlowId, FlowReport, Interest, Life, Route, SessionId, Standing, Wanted, Window, Word,
};
use super::super::{Bug, Output, Unsent};
use super::{ANSWER_WITHIN, Broker, GIVE_UP_AFTER, SESSIONS_MAX, Timer};

impl Broker {
    /// Sees to it that there is a session with a node.
    pub(super) fn outlet(&mut self, now: Instant, node: NodeId) -> Option<&mut Outlet> {
        if node == self.me.node {
            return None;
        }
        if !self.outlets.contains_key(&node) {
            if self.outlets.len() >= SESSIONS_MAX {
                return None;
            }
            let session = SessionId(self.entropy.next_u64());
            self.outlets.insert(node, Outlet::new(session, now, self.me.config));
            self.timers.set(Timer::Retry(node), now);
        }
        self.outlets.get_mut(&node)
    }

    /// Greets a node, or asks it what it has not answered.
    pub(super) fn greet(&mut self, now: Instant, node: NodeId) {
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        let session = outlet.session;
        match outlet.state {
            State::Refused => {}
            State::Greeting if now >= outlet.since + GIVE_UP_AFTER => self.drop_outlet(now, node),
            State::Greeting => {
                let (wait, is_new) = (outlet.back_off(), outlet.other.is_none());
                self.timers.set(Timer::Retry(node), now + wait.max(ANSWER_WITHIN));
                let (realm, life) = (self.me.realm, self.me.life);
                self.send(node, session, Word::Hello { realm, life, is_new });
                self.know_all(now);
            }
            State::Open => self.ask(now, node),
        }
    }

    fn ask(&mut self, now: Instant, node: NodeId) {
        let Some(outlet) = self.outlets.get_mut(&node).filter(|outlet| outlet.state == State::Open)
        else {
            return;
        };
        let (session, unanswered) = (outlet.session, outlet.unanswered());
        if unanswered.is_empty() {
            return self.timers.clear(Timer::Retry(node));
        }
        self.timers.set(Timer::Retry(node), now + ANSWER_WITHIN);
        for prefixes in unanswered {
            self.send(node, session, Word::Ask { prefixes });
        }
    }

    /// Asks a node of the prefixes of topics under which it was found.
    pub(super) fn ask_soon(&mut self, now: Instant, node: NodeId) {
        if self.outlets.get(&node).is_some_and(|outlet| outlet.state == State::Open) {
            self.timers.set(Timer::Retry(node), now);
        }
    }

    /// What was sent has not arrived, as far as is known: the other end is asked.
    pub(super) fn probe(&mut self, now: Instant, node: NodeId) {
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        if outlet.state != State::Open {
            return;
        }
        if outlet.is_unsure() {
            (outlet.state, outlet.since) = (State::Greeting, now);
            return self.greet(now, node);
        }
        let session = outlet.session;
        let (realm, life) = (self.me.realm, self.me.life);
        self.send(node, session, Word::Hello { realm, life, is_new: false });
        self.watch(now, node);
    }

    /// Sees to it that the other end is asked how things stand, if it says nothing.
    fn watch(&mut self, now: Instant, node: NodeId) {
        let Some(outlet) = self.outlets.get(&node) else { return };
        let at = now + outlet.probe_after();
        if self.timers.get(Timer::Probe(node)).is_none_or(|before| at < before) {
            self.timers.set(Timer::Probe(node), at);
        }
    }

    pub(super) fn send_batches(&mut self, now: Instant, node: NodeId) {
        let mut ended = Vec::new();
        let mut batches = Vec::new();
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        while let Some(batch) = outlet.batch(now, &mut ended) {
            batches.push(batch);
        }
        let session = outlet.session;
        if !batches.is_empty() {
            self.watch(now, node);
        }
        for batch in batches {
            self.send(node, session, Word::Batch(batch));
        }
        if !ended.is_empty() {
            self.ended(ended);
            self.pending.room = true;
            self.flush_soon(now);
        }
    }

    pub(super) fn welcomed(
        &mut self,
        now: Instant,
        node: NodeId,
        (life, window): (Life, Window),
        (version, received): (u64, &[u64]),
    ) {
        let received = if self.has(Bug::NeverSendsAgain) { &[u64::MAX; FLOWS] } else { received };
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        let was_lost = outlet.state == State::Greeting;
        if !outlet.welcomed(life, window, received) {
            return self.renew(now, node, Some(life));
        }
        if was_lost {
            // It may not have come.
            let (session, patterns) = (outlet.session, outlet.forbidden());
            self.forbid(node, session, patterns);
        }
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        if outlet.misses(version) {
            outlet.forget_answers();
        }
        self.ask(now, node);
        self.timers.clear(Timer::Probe(node));
        self.watch(now, node);
        self.pending.outlets.insert(node);
        self.flush_soon(now);
    }

    /// The other end knows nothing of the session: it has begun a new life. `life` is that, if it is
    /// known. Subscriptions outlive an actor, so what was wanted still is as long as nothing else is
    /// said.
    pub(super) fn renew(&mut self, now: Instant, node: NodeId, life: Option<Life>) {
        let session = SessionId(self.entropy.next_u64());
        let resends = self.has(Bug::ResendsWhatMayBeThere);
        let forgets_gaps = self.has(Bug::ForgetsGaps);
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        let is_same_node =
            life.zip(outlet.other).is_none_or(|(now, before)| now.node == before.node);
        outlet.begin_anew();
        let (flying, waiting) = outlet.abandon();
        if !is_same_node || forgets_gaps {
            outlet.forget_missing();
        }
        outlet.session = session;
        (outlet.state, outlet.other, outlet.since) = (State::Greeting, None, now);
        let (mut lost, mut homeless) = (Vec::new(), Vec::new());
        for mut copy in flying {
            copy.may_be_there = true;
            // Whoever got it may get it again, if that was promised.
            let is_promised = copy.stored.qos == Qos::AtLeastOnce || resends;
            if is_same_node && is_promised {
                if let Some(flow) = outlet.flow(copy.stored.flow()) {
                    flow.push(copy);
                }
            } else {
                if is_same_node
                    && copy.route.plain
                    && !forgets_gaps
                    && let Some(flow) = outlet.flow(copy.stored.flow())
                {
                    flow.miss(&copy.stored, Missed::Restarted);
                }
                lost.push(copy);
            }
        }
        for copy in waiting {
            if !is_same_node && copy.is_for_any_member() {
                homeless.push(copy);
            } else if let Some(flow) = outlet.flow(copy.stored.flow()) {
                flow.push(copy);
            }
        }
        if is_same_node {
            self.invite_again(now, node);
        } else {
            self.leave_all(now, node);
            self.unwanted(now, node);
            homeless.extend(lost);
            lost = self.reroute(now, homeless);
        }
        self.ended(lost.into_iter().map(|copy| (copy, Outcome::Dropped(Reason::NodeLost))));
        self.greet(now, node);
        self.flush_soon(now);
    }

    /// Nothing is known of what a node wants.
    pub(super) fn unwanted(&mut self, now: Instant, node: NodeId) {
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        for (wanted, standing) in outlet.take_wanted() {
            self.interest(now, node, &wanted, (Some(standing), None));
        }
    }

    /// What a node wants has changed.
    fn interest(
        &mut self,
        now: Instant,
        node: NodeId,
        wanted: &Wanted,
        (before, after): (Option<Standing>, Option<Standing>),
    ) {
        let interested = |standing| Interested {
            node,
            group: wanted.group.clone(),
            is_open: standing == Standing::Open,
        };
        if let Some(before) = before {
            self.topics.interests.remove(&wanted.pattern, &interested(before));
        }
        if let Some(after) = after {
            self.topics.interests.insert(&wanted.pattern, interested(after));
        }
        self.touch(now, &wanted.pattern);
    }

    /// Tells a node what it may not subscribe to.
    fn forbid(&mut self, node: NodeId, session: SessionId, patterns: Vec<Pattern>) {
        if !patterns.is_empty() {
            self.send(node, session, Word::Forbidden { patterns });
        }
    }

    pub(super) fn heard(&mut self, now: Instant, node: NodeId, mut interest: Interest) {
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        let (session, forbidden) = (outlet.session, std::mem::take(&mut interest.forbidden));
        outlet.forbid(&forbidden);
        let mut changes = Vec::new();
        let heard = outlet.hear(interest, |wanted, before, after| {
            changes.push((wanted.clone(), before, after));
        });
        if heard == Heard::Gap {
            outlet.forget_answers();
            self.ask_soon(now, node);
        } else {
            self.watch(now, node);
        }
        self.forbid(node, session, forbidden);
        for (wanted, before, after) in changes {
            self.interest(now, node, &wanted, (before, after));
        }
        self.know_all(now);
    }

    /// A node wants to have for a subscription what was before it.
    pub(super) fn replay(&mut self, now: Instant, node: NodeId, wish: Wish) {
        if let Some(outlet) = self.outlets.get_mut(&node) {
            outlet.replay(wish);
        }
        self.replay_what_fits(now, node);
    }

    fn replay_what_fits(&mut self, now: Instant, node: NodeId) {
        while let Some(wish) = self.outlets.get_mut(&node).and_then(Outlet::next_replay) {
            let Wish { sub, pattern, replay, max } = wish;
            let kept = self.archive.lock().replay(now, &pattern, replay, max);
            let route = Route { only: Some(sub), ..Route::default() };
            for stored in kept {
                self.enqueue(now, node, Copy::new(stored, route.clone()));
            }
            let Some(outlet) = self.outlets.get_mut(&node) else { return };
            for flow in FlowId::all() {
                if let Some(flow) = outlet.flow(flow) {
                    flow.cut(sub);
                }
            }
            self.pending.outlets.insert(node);
            self.flush_soon(now);
        }
    }

    pub(super) fn reported(
        &mut self,
        now: Instant,
        node: NodeId,
        life: Life,
        reports: &[FlowReport],
    ) {
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        if outlet.other != Some(life) {
            return;
        }
        let mut ended = Vec::new();
        if !outlet.report(reports, &mut ended) {
            let why = "it reports what was not sent";
            self.out.push_back(Output::Misbehaved { peer: node, why });
        }
        self.timers.clear(Timer::Probe(node));
        self.watch(now, node);
        // Whoever was a member of a group may be none any more.
        let unwanted = Outcome::Dropped(Reason::Unsubscribed);
        let (homeless, ended) = ended
            .into_iter()
            .partition::<Vec<_>, _>(|(copy, how)| *how == unwanted && copy.is_for_any_member());
        let homeless = self.reroute(now, homeless.into_iter().map(|(copy, _)| copy));
        self.ended(homeless.into_iter().map(|copy| (copy, unwanted)));
        self.ended(ended);
        self.pending.room = true;
        self.pending.outlets.insert(node);
        self.flush_soon(now);
        self.replay_what_fits(now, node);
    }

    pub(super) fn refused(&mut self, now: Instant, node: NodeId) {
        self.leave_all(now, node);
        self.unwanted(now, node);
        let Some(outlet) = self.outlets.get_mut(&node) else { return };
        outlet.state = State::Refused;
        let (mut flying, waiting) = outlet.abandon();
        let forbidden = Outcome::Dropped(Reason::Forbidden);
        flying.iter_mut().for_each(|copy| copy.may_be_there = true);
        let copies = self.reroute(now, flying.into_iter().chain(waiting));
        self.ended(copies.into_iter().map(|copy| (copy, forbidden)));
        self.know_all(now);
        self.flush_soon(now);
    }

    /// Something for a node was not sent.
    pub(super) fn unsent(&mut self, now: Instant, to: NodeId, session: SessionId, what: Unsent) {
        match what {
            Unsent::Nothing => {}
            Unsent::Subscriber => self.tell_again(now, to, session),
            Unsent::Publisher | Unsent::Batch { .. } => {
                let outlet = self.outlets.get_mut(&to);
                let Some(outlet) = outlet.filter(|outlet| outlet.session == session) else {
                    return;
                };
                if outlet.state != State::Refused {
                    if outlet.state == State::Open {
                        (outlet.state, outlet.since) = (State::Greeting, now);
                    }
                    let wait = outlet.back_off();
                    self.timers.set(Timer::Retry(to), now + wait);
                    self.know_all(now);
                }
            }
        }
    }

    /// The session with a node is over for good.
    pub(super) fn drop_outlet(&mut self, now: Instant, node: NodeId) {
        self.leave_all(now, node);
        self.unwanted(now, node);
        let Some(mut outlet) = self.outlets.remove(&node) else { return };
        self.timers.clear(Timer::Retry(node));
        self.timers.clear(Timer::Probe(node));
        let (mut flying, waiting) = outlet.abandon();
        flying.iter_mut().for_each(|copy| copy.may_be_there = true);
        let flying = self.reroute(now, flying);
        let waiting = self.reroute(now, waiting);
        let (lost, gone) = (Reason::NodeLost, Reason::NodeGone);
        self.ended(flying.into_iter().map(|copy| (copy, Outcome::Dropped(lost))));
        self.ended(waiting.into_iter().map(|copy| (copy, Outcome::Dropped(gone))));
        self.topics.gone(node);
        self.know_all(now);
        self.pending.room = true;
        self.flush_soon(now);
    }
}

//! Requests to a supervisor, with OTP's answers.

use std::fmt::Debug;
use std::time::Instant;

use crate::path::ChildId;
use crate::supervision::error::AdminError;
use crate::supervision::policy::Flags;

use super::child::{Child, StartCause, State};
use super::{ChildState, Counts, HELD_MAX, Key, Phase, Plan, Reply, Request, Spec, Target, Ticket};

impl<P: Clone + Debug> Plan<P> {
    pub(super) fn request(&mut self, now: Instant, ticket: Ticket, request: Request<P>) {
        match request {
            Request::Which => {
                let children = self.listed().map(|(key, child)| child.info(now, key)).collect();
                self.reply(ticket, Reply::Children(children));
            }
            Request::WhichOne(target) => match self.find(&target) {
                Ok(key) => {
                    if let Some(child) = self.children.get(&key) {
                        let info = Box::new(child.info(now, key));
                        self.reply(ticket, Reply::Child(info));
                    }
                }
                Err(error) => self.refuse(ticket, error),
            },
            Request::Count => {
                let mut counts = Counts::default();
                for child in self.children.values() {
                    counts.add(child.policy.kind, child.is_up());
                }
                self.reply(ticket, Reply::Counts(counts));
            }
            change => match self.phase {
                Phase::Unborn | Phase::Booting if self.held.len() < HELD_MAX => {
                    self.held.push_back((ticket, change));
                }
                Phase::Unborn | Phase::Booting => self.refuse(ticket, AdminError::Busy),
                Phase::Ending(_) | Phase::Ended => self.refuse(ticket, AdminError::ShuttingDown),
                Phase::Running => {
                    if let Err(error) = self.change(now, ticket, change) {
                        self.refuse(ticket, error);
                    }
                }
            },
        }
    }

    fn change(
        &mut self,
        now: Instant,
        ticket: Ticket,
        request: Request<P>,
    ) -> Result<(), AdminError> {
        match request {
            Request::Start(spec) => {
                let key = self.enlist(spec)?;
                self.start(now, key, StartCause::Admin { ticket, fresh: true });
            }
            Request::Terminate(Target::Key(key)) if self.dynamic && self.is_gone(key) => {
                self.reply(ticket, Reply::Done);
            }
            Request::Terminate(target) => {
                let key = self.find(&target)?;
                self.terminate(now, ticket, key);
            }
            Request::Restart(target) => {
                let key = self.find_down(&target)?;
                self.start(now, key, StartCause::Admin { ticket, fresh: false });
            }
            Request::Delete(target) => {
                let key = self.find_down(&target)?;
                self.remove(key);
                self.reply(ticket, Reply::Done);
            }
            Request::Retry(target) => {
                let key = self.find(&target)?;
                self.retry(now, key);
                self.reply(ticket, Reply::Done);
            }
            Request::Reconfigure { flags, specs } => {
                self.reconfigure(flags, specs)?;
                self.reply(ticket, Reply::Done);
            }
            Request::Which | Request::WhichOne(_) | Request::Count => {}
        }
        Ok(())
    }

    /// In start order; a dynamic supervisor's in the order in which they came.
    fn listed(&self) -> impl Iterator<Item = (Key, &Child<P>)> {
        let ordered = self.order.values().filter_map(|&key| Some((key, self.children.get(&key)?)));
        let dynamic = self.dynamic.then(|| self.children.iter().map(|(&key, child)| (key, child)));
        ordered.chain(dynamic.into_iter().flatten())
    }

    fn find(&self, target: &Target) -> Result<Key, AdminError> {
        match target {
            Target::Id(id) => {
                self.ids.get(id).copied().ok_or_else(|| AdminError::NotFound(id.to_string()))
            }
            Target::Key(key) if self.children.contains_key(key) => Ok(*key),
            Target::Key(key) => Err(AdminError::NotFound(format!("with key {}", key.0))),
        }
    }

    /// Whether a child had this key and is not listed any more. OTP too takes the wish for the deed
    /// when it is asked to terminate a process that is dead.
    fn is_gone(&self, key: Key) -> bool {
        (self.key_base..self.key_base + self.next_key).contains(&key.0)
            && !self.children.contains_key(&key)
    }

    /// A child that is listed and down, and not because it is about to be started.
    fn find_down(&self, target: &Target) -> Result<Key, AdminError> {
        if self.dynamic {
            return Err(AdminError::Dynamic);
        }
        let key = self.find(target)?;
        let Some(child) = self.children.get(&key) else {
            return Err(AdminError::NotFound(format!("with key {}", key.0)));
        };
        if child.state == State::Down && child.payload.is_none() {
            // A temporary child has one life, and leaves the list as soon as its end is decided.
            return Err(AdminError::NotFound(child.id.to_string()));
        }
        let due = self.group.as_ref().is_some_and(|group| group.will_start(key));
        match child.shown_state() {
            ChildState::Down if !due => Ok(key),
            ChildState::Down | ChildState::Starting | ChildState::Restarting => {
                Err(AdminError::Restarting(child.id.clone()))
            }
            ChildState::Running | ChildState::Stopping => {
                Err(AdminError::Running(child.id.clone()))
            }
        }
    }

    /// Checks a spec and puts it at the end of the list, down.
    pub(super) fn enlist(&mut self, spec: Spec<P>) -> Result<Key, AdminError> {
        spec.policy.check(self.flags.auto_shutdown)?;
        if let Some(id) = &spec.id
            && let Some(child) = self.ids.get(id).and_then(|key| self.children.get(key))
        {
            return Err(match child.state {
                _ if self.phase == Phase::Unborn => AdminError::DuplicateId(id.clone()),
                State::Down | State::Waiting => AdminError::AlreadyPresent(id.clone()),
                State::Starting { .. }
                | State::Aborting { .. }
                | State::Up { .. }
                | State::Stopping { .. } => AdminError::AlreadyStarted(id.clone()),
            });
        }
        if self.children.len() >= self.children_max {
            return Err(AdminError::ChildrenMax(self.children_max));
        }
        let mut number = self.next_key;
        let id = match spec.id {
            Some(id) => id,
            None if self.dynamic => loop {
                // A child that came with such an id may have taken it.
                let id = ChildId::numbered(number);
                if !self.ids.contains_key(&id) {
                    break id;
                }
                number += 1;
            },
            None => return Err(AdminError::MissingId),
        };
        self.next_key = number + 1;
        let key = Key(self.key_base + number);
        if !self.dynamic {
            self.order.insert(number, key);
        }
        self.ids.insert(id.clone(), key);
        let child = Child::new((id, number), spec.policy, spec.lives, spec.payload);
        self.children.insert(key, child);
        Ok(key)
    }

    /// Checks everything before it changes anything.
    fn reconfigure(&mut self, flags: Flags, specs: Vec<Spec<P>>) -> Result<(), AdminError> {
        flags.check(self.dynamic)?;
        if self.dynamic && !specs.is_empty() {
            return Err(AdminError::Dynamic);
        }
        let mut seen = std::collections::BTreeSet::new();
        for spec in &specs {
            let id = spec.id.clone().ok_or(AdminError::MissingId)?;
            spec.policy.check(flags.auto_shutdown)?;
            if !seen.insert(id.clone()) {
                return Err(AdminError::DuplicateId(id));
            }
        }
        for child in self.children.values().filter(|child| !seen.contains(&child.id)) {
            child.policy.check(flags.auto_shutdown)?;
        }
        self.flags = flags;
        let mut ranked: Vec<Key> = self
            .order
            .values()
            .copied()
            .filter(|key| self.children.get(key).is_some_and(|child| !seen.contains(&child.id)))
            .collect();
        for spec in specs {
            let listed = spec.id.as_ref().and_then(|id| self.ids.get(id)).copied();
            let key = match listed {
                Some(key) => {
                    if let Some(child) = self.children.get_mut(&key) {
                        child.policy = spec.policy;
                        child.payload = Some(spec.payload);
                    }
                    key
                }
                None => self.enlist(spec)?,
            };
            ranked.push(key);
        }
        self.rank(ranked);
        Ok(())
    }

    /// Gives the children a new start order.
    fn rank(&mut self, keys: Vec<Key>) {
        if self.dynamic {
            return;
        }
        self.order.clear();
        for key in keys {
            let rank = self.next_key;
            self.next_key += 1;
            if let Some(child) = self.children.get_mut(&key) {
                child.rank = rank;
                self.order.insert(rank, key);
            }
        }
    }
}

//! The rules, and what follows from them.

use std::fmt::Display;

use macula_core::identity::NodeId;
use macula_core::topic::{Pattern, Segment};

use super::Subject;
use crate::bounds::{Invalid, number};

/// How many rules there may be: each question goes through all of them.
pub const RULES_MAX: usize = 1_024;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Call a procedure or an actor, open a stream to it, or watch it.
    Call,
    /// Provide a procedure, or serve an actor.
    Advertise,
    /// Publish to a topic.
    Publish,
    /// Subscribe to a pattern.
    Subscribe,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Call, Self::Advertise, Self::Publish, Self::Subscribe];

    /// As configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Advertise => "advertise",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

impl From<Action> for &'static str {
    fn from(action: Action) -> Self {
        action.as_str()
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Effect {
    /// It may be done.
    #[default]
    Allow,
    /// It may not.
    Deny,
}

/// One rule. It fits if the action, the node and the name do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// For which actions. None stands for all.
    pub actions: Vec<Action>,
    /// For which nodes. If there are neither nodes nor roles it is for everybody.
    pub nodes: Vec<NodeId>,
    /// For nodes that have one of these roles in their certificates, besides.
    pub roles: Vec<String>,
    /// For which names. None stands for all. A rule that denies fits a pattern that somebody wants
    /// to subscribe to if any topic is of both; one that allows, only if it covers all of it.
    pub names: Vec<Pattern>,
}

/// The rules, in their order, and what holds where none fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What holds where no rule fits. By default everybody may do everything.
    pub default: Effect,
    /// The first that fits decides. At most [`RULES_MAX`].
    pub rules: Vec<Rule>,
}

/// Why something may not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    #[error("no rule allows it")]
    Default,
    #[error("it uses the names of another realm")]
    Realm,
    /// The place of the rule, from 1 on.
    #[error("rule {0} denies it")]
    Rule(usize),
}

impl Rule {
    fn fits<'a, I: Iterator<Item = Segment<'a>>>(
        &self,
        subject: Subject<'_>,
        action: Action,
        name: &impl Fn() -> I,
    ) -> bool {
        let is_anybody = self.nodes.is_empty() && self.roles.is_empty();
        let fits_name = |pattern: &Pattern| match self.effect {
            Effect::Allow => pattern.covers_all(name()),
            Effect::Deny => pattern.meets(name()),
        };
        (self.actions.is_empty() || self.actions.contains(&action))
            && (is_anybody
                || self.nodes.contains(&subject.node)
                || self.roles.iter().any(|role| subject.roles.contains(role)))
            && (self.names.is_empty() || self.names.iter().any(fits_name))
    }
}

impl Rules {
    /// Whether the values can stand.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if there are too many rules.
    pub fn check(&self) -> Result<(), Invalid> {
        number("rules", self.rules.len(), 0, RULES_MAX)
    }

    /// Whether everything is allowed to everybody.
    pub(super) fn allows_all(&self) -> bool {
        self.default == Effect::Allow && self.rules.iter().all(|rule| rule.effect == Effect::Allow)
    }

    /// Whether somebody may do something. `name` gives the name's segments.
    pub(super) fn decide<'a, I: Iterator<Item = Segment<'a>>>(
        &self,
        subject: Subject<'_>,
        action: Action,
        name: impl Fn() -> I,
    ) -> Result<(), Why> {
        let fits = |(_, rule): &(usize, &Rule)| rule.fits(subject, action, &name);
        let (effect, why) = match self.rules.iter().enumerate().find(fits) {
            Some((place, rule)) => (rule.effect, Why::Rule(place + 1)),
            None => (self.default, Why::Default),
        };
        match effect {
            Effect::Allow => Ok(()),
            Effect::Deny => Err(why),
        }
    }
}

//! Which of several providers is asked.

use std::sync::Arc;
use std::time::Duration;

use macula_core::entropy::Entropy;
use macula_core::identity::{NodeId, digest};

/// How calls are spread over the providers of a procedure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// The better of two that are drawn by lot: by what is under way with each, and how long its
    /// answers take (M. Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*).
    #[default]
    PowerOfTwo,
    /// The one whose fastest answer came fastest lately. This node is nearest to itself.
    Nearest,
    /// One after the other.
    RoundRobin,
    /// Always the same for one key, as long as the same provide (D. Thaler, C. Ravishankar,
    /// *Using Name-Based Mappings to Increase Hit Rates*): when one goes or comes, only its keys
    /// move.
    Sticky(Arc<str>),
}

/// A provider that may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) node: NodeId,
    /// How many calls are under way with it.
    pub(crate) outstanding: u32,
    /// How long its answers take; none if nothing is known.
    pub(crate) latency: Option<Duration>,
    /// The shortest time lately.
    pub(crate) floor: Option<Duration>,
    /// Whether it is to be found out whether it is well again.
    pub(crate) is_probe: bool,
}

impl Choice {
    /// What one more call would cost. Who is not known costs next to nothing, and so becomes known.
    fn cost(&self) -> u128 {
        let latency = self.latency.map_or(1, |latency| latency.as_micros().max(1));
        latency * u128::from(self.outstanding + 1)
    }
}

/// Picks one; none of none. `last` is who was picked before this.
pub(crate) fn pick(
    balance: &Balance,
    choices: &[Choice],
    last: Option<NodeId>,
    entropy: &mut Entropy,
) -> Option<Choice> {
    let probe = choices.iter().find(|choice| choice.is_probe).copied();
    match balance {
        Balance::PowerOfTwo => probe.or_else(|| better_of_two(choices, entropy)),
        Balance::Nearest => {
            probe.or_else(|| choices.iter().min_by_key(|choice| choice.floor).copied())
        }
        Balance::RoundRobin => {
            let next = choices.iter().filter(|choice| last.is_none_or(|last| choice.node > last));
            let next = next.min_by_key(|choice| choice.node);
            next.or_else(|| choices.iter().min_by_key(|choice| choice.node)).copied()
        }
        Balance::Sticky(key) => {
            let weight =
                |choice: &&Choice| digest(&[key.as_bytes(), choice.node.as_bytes()].concat());
            choices.iter().max_by_key(weight).copied()
        }
    }
}

fn better_of_two(choices: &[Choice], entropy: &mut Entropy) -> Option<Choice> {
    let count = u64::try_from(choices.len()).unwrap_or(u64::MAX);
    let first = usize::try_from(entropy.below(count)).unwrap_or_default();
    // Another one, each with the same chance.
    let second = usize::try_from(entropy.below(count.saturating_sub(1))).unwrap_or_default();
    let second = if second >= first { second + 1 } else { second };
    let (first, second) = (choices.get(first).copied(), choices.get(second).copied());
    match (first, second) {
        (Some(one), Some(other)) if other.cost() < one.cost() => Some(other),
        (one, _) => one,
    }
}

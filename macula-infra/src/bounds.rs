//! The ranges of configured values.

use std::fmt::Display;
use std::time::Duration;

/// Values that cannot stand, alone or together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, and has to be {legal}")]
pub struct Invalid {
    /// Which key.
    pub key: &'static str,
    /// What it says.
    pub found: String,
    /// What would be legal.
    pub legal: String,
}

/// Whether a number is in a range, both of whose ends belong to it.
pub(crate) fn number<N: PartialOrd + Display>(
    key: &'static str,
    found: N,
    min: N,
    max: N,
) -> Result<(), Invalid> {
    if (&min..=&max).contains(&&found) {
        return Ok(());
    }
    Err(Invalid { key, found: found.to_string(), legal: format!("{min} to {max}") })
}

/// Whether a span of time is.
pub(crate) fn span(
    key: &'static str,
    found: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), Invalid> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    let shown = humantime::format_duration;
    let legal = format!("{} to {}", shown(min), shown(max));
    Err(Invalid { key, found: shown(found).to_string(), legal })
}

//! Commands that go on: a line for each thing that a node tells of.

use macula_workload::admin::{self, Request};
use serde_json::Value;

use super::ask::{Whom, plain, socket, unanswered};
use super::{Failure, print};

/// What becomes of something that is told.
pub(super) enum Told {
    /// It is printed, and is one of those that were asked for.
    Counts(String),
    /// It is printed beside them.
    Aside(String),
    /// It is not printed.
    Silent,
}

/// Prints what happens, a line each, until there are as many as were asked for. `told` says how people
/// read it.
pub(super) fn follow(
    whom: &Whom,
    asked: &Request,
    count: Option<u64>,
    told: impl Fn(&Value) -> Told,
) -> Result<(), Failure> {
    let (mut left, mut printed) = (count.unwrap_or(u64::MAX), Ok(()));
    let mut has_begun = false;
    let each = |value: Value| {
        // The first answer only says what is followed.
        if !std::mem::replace(&mut has_begun, true) {
            return true;
        }
        let (line, counts) = match told(&value) {
            Told::Counts(line) => (line, true),
            Told::Aside(line) => (line, false),
            Told::Silent => return true,
        };
        printed = print(&if whom.json { value.to_string() } else { plain(&line) });
        left = left.saturating_sub(u64::from(counts));
        left > 0 && printed.is_ok()
    };
    admin::follow(&socket(whom)?, asked, each).map_err(unanswered)?;
    Ok(printed?)
}

//! What has to hold, whatever the weather and whatever is killed.

use std::time::Duration;

use macula_infra::dht::proto::records::Condition;
use macula_tests::world::{Entry, Part};

use super::history::{Deed, History, Put};
use super::seen::{Seen, Wish};

/// How long an operation may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How much later than its deadline it may end.
const LATE_MAX: Duration = Duration::from_millis(5);

/// How long after the end of its table's actor an operation ends at the latest: that is noticed at
/// once, and it does not wait for its deadline.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// How long after a kill supervision has begun the next life at the latest.
const RESTARTED_WITHIN: Duration = Duration::from_millis(500);

type Verdict = Result<(), String>;

/// Checks them all.
pub(crate) fn check(entries: &[Entry<Seen>]) -> Verdict {
    let history = History::of(entries);
    each_end_comes(&history)?;
    whoever_waits_is_told_of_a_restart(&history)?;
    every_actor_was_killed_and_restarted(&history)?;
    nobody_is_blamed(&history)?;
    what_is_got_was_put(&history)?;
    a_node_keeps_what_it_has_taken(&history)?;
    nothing_is_amiss_once_healed(&history)
}

/// How long an operation may take: a put that has to find out what is there takes two steps.
const fn within(wish: Wish) -> Duration {
    match wish {
        Wish::Put { condition: Condition::Any, .. } => Duration::from_secs(2 * WITHIN.as_secs()),
        _ => WITHIN,
    }
}

/// All operations end with an answer or an error, in time.
fn each_end_comes(history: &History<'_>) -> Verdict {
    for deed in history.deeds.values() {
        let last = deed.asked + within(deed.wish) + LATE_MAX;
        let lived_until = history.crashed.get(&deed.by).copied().unwrap_or(history.end);
        let over = deed.ended.map_or(lived_until, |(at, _)| at);
        if over > last {
            return Err(format!("{deed:x?} took until {over:?}"));
        }
    }
    Ok(())
}

/// What is under way when the actor dies ends then.
fn whoever_waits_is_told_of_a_restart(history: &History<'_>) -> Verdict {
    let kills = history.killed.iter().filter(|(_, part, _)| *part == Part::Dht);
    for (by, _, at) in kills {
        let lived_until = history.crashed.get(by).copied().unwrap_or(history.end);
        let under_way = |deed: &&Deed<'_>| {
            let ended = deed.ended.map_or(lived_until, |(at, _)| at);
            deed.by == *by && deed.asked <= *at && ended > *at + TOLD_WITHIN
        };
        if let Some(deed) = history.deeds.values().find(under_way) {
            return Err(format!("{deed:x?} was not told that the table was restarted at {at:?}"));
        }
    }
    Ok(())
}

/// The kills have really happened: at least one of each actor on each node, and supervision has seen
/// each of them.
fn every_actor_was_killed_and_restarted(history: &History<'_>) -> Verdict {
    for part in [Part::Membership, Part::Dht] {
        for node in history.nodes() {
            let kills =
                history.killed.iter().filter(|((of, _), what, _)| (*of, *what) == (node, part));
            if kills.count() == 0 {
                return Err(format!("{part:?} of node {node} was never killed"));
            }
        }
    }
    for (by, part, at) in &history.killed {
        let name = match part {
            Part::Membership => "/membership",
            Part::Dht => "/dht",
            Part::PubSub => "/pubsub",
            Part::Relay => "/relay",
            Part::Replicator => "/crdt",
            // It is no part of the tree that is made anew.
            Part::Connection => continue,
        };
        let last = *at + RESTARTED_WITHIN;
        let seen = history.restarted.iter().any(|(of, what, when)| {
            of == by && what.ends_with(name) && (*at..=last).contains(when)
        });
        let has_crashed = history.crashed.get(by).is_some_and(|crashed| *crashed <= last);
        if !seen && !has_crashed {
            return Err(format!("nobody has restarted {part:?} of {by:?} after {at:?}"));
        }
    }
    Ok(())
}

/// All nodes are honest, so nobody holds anything against anybody.
fn nobody_is_blamed(history: &History<'_>) -> Verdict {
    match history.blamed {
        Some((by, at)) => Err(format!("the table of {by:?} blames a peer, at {at:?}")),
        None => Ok(()),
    }
}

/// Nobody finds what nobody has put.
fn what_is_got_was_put(history: &History<'_>) -> Verdict {
    let authors = history.authors();
    for (deed, value) in history.got() {
        if authors.get(&value.op) != Some(&value.by) {
            return Err(format!("{deed:x?} got what nobody has put"));
        }
    }
    Ok(())
}

/// In one life of its table, a node that keeps one value of a sequence number takes no other with
/// it, and none with a smaller one. That is what compare-and-set stands on: two that have succeeded
/// from one sequence number have no node in common, so in a mesh of which both reach all there is one
/// that has a majority.
fn a_node_keeps_what_it_has_taken(history: &History<'_>) -> Verdict {
    let puts: Vec<Put<'_>> = history.puts().collect();
    for one in &puts {
        for other in puts.iter().filter(|other| other.key == one.key && other.op != one.op) {
            let is_older = other.sequence < one.sequence && one.ended < other.asked;
            if other.sequence != one.sequence && !is_older {
                continue;
            }
            let (since, until) = (one.asked.min(other.asked), one.ended.max(other.ended));
            let both = one.kept.iter().filter(|node| other.kept.contains(node));
            if let Some(node) = both.copied().find(|node| history.has_kept(*node, since, until)) {
                return Err(format!("node {node} has taken {one:x?} and then {other:x?}"));
            }
        }
    }
    Ok(())
}

/// Once the mesh is whole, no operation fails, and all find all.
fn nothing_is_amiss_once_healed(history: &History<'_>) -> Verdict {
    let healed = history.healed.ok_or("it has not healed")?;
    for deed in history.deeds.values().filter(|deed| deed.asked > healed) {
        if let Some(fault) = history.fault(deed) {
            return Err(format!("{deed:x?} after the mesh had healed: {fault}"));
        }
    }
    Ok(())
}

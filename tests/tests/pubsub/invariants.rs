//! What has to hold, whatever the weather and whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use macula_infra::pubsub::{Reason, Report};
use macula_tests::world::{Entry, Part};

use super::history::{Got, History, Living};
use super::load::{Load, QUEUE_LEN, is_promised};
use super::seen::{End, Op, Seen};

type Verdict = Result<(), String>;

/// What came so long before something that is wrong is told with it.
const NEAR: Duration = Duration::from_secs(1);

/// Checks them all. A violation begins with the name of its invariant.
pub(crate) fn check(entries: &[Entry<Seen>], load: &Load) -> Verdict {
    let history = History::of(entries, load.cast);
    let all: [(&str, Verdict); 9] = [
        ("everything_was_killed", everything_was_killed(&history, load.kills)),
        ("nothing_fails", nothing_fails(&history)),
        ("what_is_got_was_published", what_is_got_was_published_and_wanted(&history)),
        ("nothing_comes_twice", nothing_comes_twice(&history)),
        ("one_of_a_group_has_it", one_of_a_group_has_it(&history)),
        ("the_order_holds", the_order_holds(&history)),
        ("each_copy_ends", each_copy_ends(&history)),
        ("what_is_counted_was_seen", what_is_counted_was_seen(&history)),
        ("what_is_promised_arrives", what_is_promised_arrives(&history, load.crashes)),
    ];
    all.into_iter().try_for_each(|(name, held)| held.map_err(|why| format!("{name}: {why}")))
}

fn everything_was_killed(history: &History<'_>, kills: &[Part]) -> Verdict {
    for node in history.lives.keys() {
        let killed = history.killed.iter().filter(|((of, _), ..)| of == node);
        let killed: BTreeSet<Part> = killed.map(|(_, part, _)| *part).collect();
        if let Some(part) = kills.iter().find(|part| !killed.contains(part)) {
            return Err(format!("{part:?} of node {node} was never killed"));
        }
    }
    Ok(())
}

/// Each copy that was accepted ends, and in bounded time.
fn each_copy_ends(history: &History<'_>) -> Verdict {
    match history.stuck.first() {
        Some((by, at, report)) => {
            let pending = report.pending();
            Err(format!("{pending} copies of {by:?} have not ended at {at:?}: {report:?}"))
        }
        None => Ok(()),
    }
}

/// Publishing gives a result, and no error.
fn nothing_fails(history: &History<'_>) -> Verdict {
    for (op, sent) in &history.sent {
        if let Some(End::Failed(why)) = sent.end {
            return Err(format!("{op:x?} was not published: {why}"));
        }
    }
    Ok(())
}

fn what_is_got_was_published_and_wanted(history: &History<'_>) -> Verdict {
    for got in &history.got {
        let sent =
            history.sent.get(&got.op).ok_or_else(|| format!("nobody has published {got:x?}"))?;
        if sent.topic != got.topic || !history.cast.wants(got.by.0, got.topic) {
            return Err(format!("{got:x?} was published to another topic: {sent:?}"));
        }
        if sent.end == Some(&End::Not) {
            return Err(format!("{got:x?} is not on its way, its publisher was told"));
        }
    }
    Ok(())
}

/// What is not promised comes once. What is may come again if one of the two ends was begun anew.
fn nothing_comes_twice(history: &History<'_>) -> Verdict {
    let mut first: BTreeMap<(usize, Op), &Got> = BTreeMap::new();
    for got in &history.got {
        let Some(before) = first.insert((got.by.0, got.op), got) else { continue };
        let ends = [got.by.0, got.op.by().0];
        let is_killed = history.killed.iter().any(|((node, _), part, at)| {
            *part == Part::PubSub && ends.contains(node) && *at <= got.at
        });
        let is_crashed = history.crashed.keys().any(|(node, _)| ends.contains(node));
        if !is_promised(got.topic) || !(is_killed || is_crashed) {
            return Err(format!("{got:x?} came twice, and before that {before:x?}"));
        }
    }
    Ok(())
}

/// What is not promised comes to one member of a group, and to no other.
fn one_of_a_group_has_it(history: &History<'_>) -> Verdict {
    let mut first: BTreeMap<(usize, Op), &Got> = BTreeMap::new();
    for got in history.got.iter().filter(|got| !is_promised(got.topic)) {
        let subscriber = history.cast.subscriber(got.by.0);
        if let Some(before) = first.insert((subscriber, got.op), got) {
            return Err(format!("{got:x?}, and before that {before:x?}"));
        }
    }
    Ok(())
}

/// Messages of one topic and priority come in the order of their publisher; those that come again
/// aside, and those that a group got because one of its members had gone.
fn the_order_holds(history: &History<'_>) -> Verdict {
    let mut last: BTreeMap<(Living, Living, usize, u8), u64> = BTreeMap::new();
    let mut seen: BTreeSet<(Living, Op)> = BTreeSet::new();
    let may_be_late = |got: &Got| history.cast.is_team && is_promised(got.topic);
    let all = history.got.iter().filter(|got| !may_be_late(got));
    for got in all.filter(|got| seen.insert((got.by, got.op))) {
        let last = last.entry((got.by, got.op.by(), got.topic, got.priority)).or_default();
        if got.sequence <= *last {
            let killed = history.killed.iter().filter(|((node, _), ..)| *node == got.by.0);
            let killed: Vec<_> = killed.map(|(_, part, at)| (part, at)).collect();
            let numbers = history.got.iter().filter(|other| {
                (other.by.0, other.op.by(), other.topic) == (got.by.0, got.op.by(), got.topic)
            });
            let near: Vec<String> = numbers
                .filter(|other| other.at + NEAR >= got.at && other.at <= got.at)
                .map(|other| format!("{:x}/{} {:?}", other.sequence, other.priority, other.at))
                .collect();
            return Err(format!("{got:x?} came after {last:x}; killed: {killed:?}; {near:?}"));
        }
        *last = got.sequence;
    }
    Ok(())
}

fn of(report: &Report, reason: Reason) -> u64 {
    report.dropped.get(&reason).copied().unwrap_or_default()
}

/// Each copy of a message ends once, and as its subscriber saw it.
fn what_is_counted_was_seen(history: &History<'_>) -> Verdict {
    for (by, (at, told)) in &history.settled {
        if !history.lives_on(*by) {
            continue;
        }
        let report = &told.all;
        let ended = report.delivered + report.expired + report.dropped();
        if report.accepted != ended {
            return Err(format!("{by:?} has told of {ended} ends: {report:?}"));
        }
        let is_counted = |got: &&Got| {
            got.op.by() == *by && history.sent.get(&got.op).is_some_and(|sent| sent.at <= *at)
        };
        // A group is one subscriber, whoever of it has got a copy.
        let place = |got: &Got| match history.cast.is_team {
            true => (None, got.op),
            false => (Some(got.by), got.op),
        };
        let copies: BTreeSet<(Option<Living>, Op)> =
            history.got.iter().filter(is_counted).map(place).collect();
        let seen = u64::try_from(copies.len()).unwrap();
        // What waits for a slow subscriber is lost with its node.
        let crashed =
            history.crashed.keys().filter(|(node, _)| history.cast.is_slow(*node)).count();
        let unread = u64::try_from(crashed * QUEUE_LEN).unwrap();
        let unknown = of(report, Reason::NodeLost) + of(report, Reason::Restarted);
        if seen + unread < report.delivered || seen > report.delivered + unknown {
            return Err(format!("{seen} copies of {by:?} were seen, and told was {report:?}"));
        }
    }
    Ok(())
}

/// What is promised is dropped only if its subscriber's node is lost.
fn what_is_promised_arrives(history: &History<'_>, crashes: bool) -> Verdict {
    for (by, (_, told)) in &history.settled {
        let report = &told.promised;
        let lost = of(report, Reason::NodeLost) + of(report, Reason::NodeGone);
        let allowed = if crashes { lost } else { 0 };
        let allowed = allowed + of(report, Reason::Restarted);
        if report.expired > 0 || report.dropped() > allowed {
            return Err(format!("{by:?} has lost what was promised: {report:?}"));
        }
    }
    if crashes {
        return Ok(());
    }
    let mut seen: BTreeMap<Op, BTreeSet<usize>> = BTreeMap::new();
    for got in &history.got {
        seen.entry(got.op).or_default().insert(history.cast.subscriber(got.by.0));
    }
    // What a publisher's own restart has lost it has counted: no more than that is missing.
    let mut missing: BTreeMap<Living, (u64, Op)> = BTreeMap::new();
    for (op, sent) in history.sent.iter().filter(|(_, sent)| is_promised(sent.topic)) {
        let Some(End::Accepted(subscribers)) = sent.end else { continue };
        let by = seen.get(op).map_or(0, BTreeSet::len);
        let is_over = history.settled.get(&op.by()).is_some_and(|(told, _)| *told > sent.at);
        if is_over && by < *subscribers {
            let missing = missing.entry(op.by()).or_insert((0, *op));
            missing.0 += u64::try_from(subscribers - by).unwrap();
        }
    }
    for (by, (missing, first)) in missing {
        let counted =
            history.settled.get(&by).map_or(0, |(_, told)| of(&told.promised, Reason::Restarted));
        if missing > counted {
            let which =
                format!("{missing} promised copies of {by:?}, {first:x?} the first of them");
            return Err(format!("{which}, were accepted and not got; {counted} are counted"));
        }
    }
    Ok(())
}

//! Elections of nodes that are killed, cut off and stopped, while voters are too and clocks differ.
//!
//! `MACULA_ELECTION_KILLS` says how many leaders are killed, and `MACULA_ELECTION_SEEDS` how many storms
//! there are.

use std::time::Duration;

use super::world::{CANDIDATES, FAILOVER, Nodes, TTL, Writes, in_virtual_time, number_of};
use crate::election::proto::Bug;
use crate::election::{Event, Options};
use crate::raft::timer;

/// How many leaders are killed if nothing else is said.
const KILLS: u64 = 1_000;

/// How many storms there are if nothing else is said.
const STORMS: u64 = 10;

/// Kills so many leaders, with the group's leader or without.
async fn kills(seed: u64, count: u64) -> Result<(), String> {
    let mut nodes = Nodes::new(seed, None).await;
    let mut since = timer::now();
    CANDIDATES.into_iter().for_each(|number| nodes.start(number));
    for kill in 0..count {
        let failed = format!("seed {seed}: nobody is elected after {kill} kills");
        let (leader, took) = nodes.next_elected(since, FAILOVER).await.ok_or(failed)?;
        let pause = nodes.dice.below(3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // What was told first is told until somebody is killed.
        let last = nodes.elected_after(since).map(|(_, number, _)| number);
        if last != Some(leader) {
            return Err(format!("seed {seed}: {leader} was deposed by {last:?}, after {took:?}"));
        }
        since = timer::now();
        nodes.kill(leader).await;
        let voter = if nodes.dice.chance(0.5) {
            let voter = nodes.world.leader().await;
            nodes.world.kill(voter).await;
            Some(voter)
        } else {
            None
        };
        let down = nodes.dice.below(1_500);
        tokio::time::sleep(Duration::from_millis(down)).await;
        nodes.start(leader);
        if let Some(voter) = voter {
            nodes.world.start(voter).await.map_err(|error| error.to_string())?;
        }
    }
    let log = nodes.log.lock();
    if let Some(wrong) = &log.wrong {
        return Err(format!("seed {seed}: {wrong}"));
    }
    // At least one for each kill; the last one's successor may not be there yet.
    let elected = u64::try_from(log.elected.len()).unwrap();
    if elected < count { Err(format!("seed {seed}: {elected} elections")) } else { Ok(()) }
}

#[test]
fn each_kill_of_a_leader_has_another_one_elected_in_bounded_time() {
    let count = number_of("MACULA_ELECTION_KILLS", KILLS);
    for (seed, done) in (0..count).step_by(20).enumerate() {
        let seed = u64::try_from(seed).unwrap();
        in_virtual_time(kills(seed, 20.min(count - done))).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_failover_of_the_group_deposes_nobody_who_leads_with_the_defaults() {
    let mut nodes = Nodes::new(1, None).await;
    let elections = nodes.boot(11);
    let mut candidacy = elections.campaign("a", Options::default()).unwrap();
    let Some(Event::Elected(leadership)) = candidacy.next().await else { panic!() };
    for _ in 0..10 {
        let voter = nodes.world.leader().await;
        nodes.world.kill(voter).await;
        tokio::time::sleep(Options::default().ttl()).await;
        nodes.world.start(voter).await.unwrap();
        assert!(leadership.is_valid());
    }
}

/// What was seen in a storm.
#[derive(Debug, Default)]
struct Seen {
    elected: usize,
    writes: usize,
    overslept: u64,
}

/// Stops, cuts off and kills whomever, then mends all. Gives what was seen, or what is wrong.
async fn storm(seed: u64, bug: Option<Bug>, writes: Writes) -> Result<Seen, String> {
    let mut nodes = Nodes::new(seed, bug).await;
    nodes.writes = writes;
    (nodes.slowness, nodes.busy_ms_max) = (TTL / 2, 1_500);
    CANDIDATES.into_iter().for_each(|number| nodes.start(number));
    for _ in 0..40 {
        let pause = 200 + nodes.dice.below(1_800);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let last = nodes.log.lock().elected.last().map(|(_, number, _)| *number);
        let any = CANDIDATES[usize::try_from(nodes.dice.below(3)).unwrap()];
        // Mostly it is who leads that is met.
        let victim = last.filter(|_| nodes.dice.chance(0.7)).unwrap_or(any);
        match nodes.dice.below(8) {
            0 | 1 => nodes.cut(victim),
            2 | 3 => nodes.stop(victim),
            4 => {
                CANDIDATES.into_iter().for_each(|number| nodes.go_on(number));
            }
            5 => {
                nodes.kill(victim).await;
                nodes.start(victim);
            }
            6 => {
                let voter = nodes.world.leader().await;
                nodes.world.kill(voter).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                nodes.world.start(voter).await.map_err(|error| error.to_string())?;
            }
            _ => {
                nodes.world.mend();
                CANDIDATES.into_iter().for_each(|number| nodes.go_on(number));
            }
        }
        let wrong = nodes.log.lock().wrong.take();
        if let Some(wrong) = wrong {
            return Err(format!("seed {seed}: {wrong}"));
        }
    }
    nodes.world.mend();
    CANDIDATES.into_iter().for_each(|number| nodes.go_on(number));
    // All is well again: somebody acts.
    let acts = nodes.log.lock().acts;
    let until = timer::now() + TTL * 6;
    while nodes.log.lock().acts < acts + 10 {
        if timer::now() > until {
            return Err(format!("seed {seed}: it does not heal"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut log = nodes.log.lock();
    log.judge_writes();
    match &log.wrong {
        Some(wrong) => Err(format!("seed {seed}: {wrong}")),
        None => {
            Ok(Seen { elected: log.elected.len(), writes: log.writes(), overslept: log.overslept })
        }
    }
}

#[test]
fn nobody_acts_or_is_told_or_writes_when_another_one_leads() {
    let mut all = Seen::default();
    let storms = number_of("MACULA_ELECTION_SEEDS", STORMS);
    for seed in 0..storms {
        let seen = in_virtual_time(storm(seed, None, Writes::Guarded)).unwrap();
        all.elected += seen.elected;
        all.writes += seen.writes;
        all.overslept += seen.overslept;
    }
    let each = usize::try_from(storms).unwrap().max(1);
    // Some leaders do not run for longer than their lease, and go on while another one leads.
    assert!(
        all.elected / each > 5 && all.overslept * 2 > storms && all.writes / each > 50,
        "{all:?}"
    );
}

fn finds(bug: Bug) {
    // One of them needs a rare order of things.
    let found =
        (0..300).find_map(|seed| in_virtual_time(storm(seed, Some(bug), Writes::Nothing)).err());
    assert!(found.as_ref().is_some_and(|found| !found.contains("heal")), "{bug:?}: {found:?}");
}

#[test]
fn who_counts_from_the_answer_is_found() {
    finds(Bug::CountsFromTheAnswer);
}

#[test]
fn who_is_told_too_late_is_found() {
    finds(Bug::TellsTheLate);
}

#[test]
fn who_writes_whatever_has_happened_since_it_looked_is_found() {
    let stormy = |seed| in_virtual_time(storm(seed, None, Writes::Unguarded)).err();
    let found = (0..30).find_map(stormy);
    assert!(found.as_ref().is_some_and(|found| found.contains("writes at")), "{found:?}");
}

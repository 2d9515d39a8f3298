//! No two run at one time, whatever happens.

use std::time::Duration;

use macula_core::supervision::Restart;

use super::child::{Habit, Stage};
use crate::election::proto::Bug;
use crate::election::tests::world::{CANDIDATES, FAILOVER, TTL, in_virtual_time, number_of};
use crate::raft::timer;

/// How many storms there are if nothing else is said.
const STORMS: u64 = 6;

const HABITS: [Habit; 3] = [
    habit(true, false, Restart::Permanent),
    habit(true, true, Restart::Permanent),
    habit(false, false, Restart::Transient),
];

const fn habit(is_stubborn: bool, is_careless: bool, restart: Restart) -> Habit {
    Habit { is_stubborn, is_careless, starts_for: Duration::ZERO, restart }
}

/// Gives how many children have begun, or what is wrong.
async fn storm(seed: u64, bug: Option<Bug>) -> Result<u64, String> {
    let mut stage = Stage::new(seed, bug).await;
    stage.nodes.slowness = TTL / 2;
    for (number, habit) in CANDIDATES.into_iter().zip(HABITS) {
        stage.start(number, habit).await;
    }
    for _ in 0..40 {
        let pause = 200 + stage.nodes.dice.below(1_800);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let any = usize::try_from(stage.nodes.dice.below(3)).unwrap();
        let runs = stage.seen().map(|seen| seen.number);
        let victim = runs.filter(|_| stage.nodes.dice.chance(0.7)).unwrap_or(CANDIDATES[any]);
        let what = stage.nodes.dice.below(11);
        // Its mistake is seen when nobody hears it any more.
        let what = if bug == Some(Bug::CountsFromTheAnswer) { what % 3 / 2 * 10 } else { what };
        match what {
            0 | 1 => stage.nodes.cut(victim),
            2 | 3 => stage.stop(victim),
            4 => stage.crash(victim),
            5 => stage.finish(victim),
            6 => {
                stage.kill(victim).await;
                let habit = HABITS[usize::from(victim - CANDIDATES[0])];
                stage.start(victim, habit).await;
            }
            7 => stage.ask_to_resign().await,
            8 => {
                let paths = ["alone", "alone/reigns", "alone/reigns/reign"];
                stage.kill_actor(victim, paths[any]);
            }
            _ => {
                stage.nodes.world.mend();
                CANDIDATES.into_iter().for_each(|number| stage.go_on(number));
            }
        }
        let wrong = stage.runs.lock().wrong.take();
        if let Some(wrong) = wrong {
            return Err(format!("seed {seed}: {wrong}"));
        }
    }
    stage.nodes.world.mend();
    CANDIDATES.into_iter().for_each(|number| stage.go_on(number));
    let until = timer::now() + TTL * 6;
    let mut runs = 0;
    while runs < 10 {
        runs += u32::from(stage.seen().is_some());
        if timer::now() > until {
            return Err(format!("seed {seed}: it does not heal"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let runs = stage.runs.lock();
    match &runs.wrong {
        Some(wrong) => Err(format!("seed {seed}: {wrong}")),
        None => Ok(runs.started),
    }
}

#[test]
fn no_two_children_run_at_one_time() {
    let storms = number_of("MACULA_ELECTION_SEEDS", STORMS);
    let mut started = 0;
    for seed in 0..storms {
        started += in_virtual_time(storm(seed, None)).unwrap();
    }
    let each = started / storms.max(1);
    assert!(each > 5, "{each} children begin in a storm");
}

/// Kills so many nodes on which the child runs, with the group's leader or without.
async fn kills(seed: u64, count: u64) -> Result<(), String> {
    let mut stage = Stage::new(seed, None).await;
    for (number, habit) in CANDIDATES.into_iter().zip(HABITS) {
        stage.start(number, habit).await;
    }
    let mut since = timer::now();
    for kill in 0..count {
        let alive = stage.running().await;
        let took = timer::now() - since;
        if took > FAILOVER {
            return Err(format!("seed {seed}: after {kill} kills it took {took:?}"));
        }
        let pause = stage.nodes.dice.below(3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        since = timer::now();
        stage.kill(alive.number).await;
        let voter = if stage.nodes.dice.chance(0.5) {
            let voter = stage.nodes.world.leader().await;
            stage.nodes.world.kill(voter).await;
            Some(voter)
        } else {
            None
        };
        let down = stage.nodes.dice.below(1_500);
        tokio::time::sleep(Duration::from_millis(down)).await;
        stage.start(alive.number, HABITS[usize::from(alive.number - CANDIDATES[0])]).await;
        if let Some(voter) = voter {
            stage.nodes.world.start(voter).await.map_err(|error| error.to_string())?;
        }
    }
    let wrong = stage.runs.lock().wrong.take();
    wrong.map_or(Ok(()), |wrong| Err(format!("seed {seed}: {wrong}")))
}

#[test]
fn each_kill_of_a_node_has_its_child_run_elsewhere_in_bounded_time() {
    let count = number_of("MACULA_ELECTION_KILLS", 1_000);
    for (seed, done) in (0..count).step_by(20).enumerate() {
        let seed = u64::try_from(seed).unwrap();
        in_virtual_time(kills(seed, 20.min(count - done))).unwrap();
    }
}

fn finds(bug: Bug) {
    let found = (0..30).find_map(|seed| in_virtual_time(storm(seed, Some(bug))).err());
    assert!(found.as_ref().is_some_and(|found| !found.contains("heal")), "{bug:?}: {found:?}");
}

#[test]
fn who_lets_go_while_its_child_stops_is_found() {
    finds(Bug::LetsGoTooEarly);
}

#[test]
fn who_counts_from_the_answer_has_two_children() {
    finds(Bug::CountsFromTheAnswer);
}

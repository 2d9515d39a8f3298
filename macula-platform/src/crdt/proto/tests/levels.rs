//! Levels of writes and reads, and what is said if they are not reached.

use std::time::Duration;

use macula_core::sim::{Address, Faults};

use super::returning::collected;
use super::world::{Setup, World, config, elements};
use crate::crdt::Session;
use crate::crdt::proto::{Change, Event, Level, Token};
use crate::crdt::types::OrSet;

fn five() -> World {
    let setup = Setup { seed: 1, nodes: 5, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.run(Duration::from_secs(2));
    assert!(World::is_equal(&world.sim));
    world
}

fn add(element: u64) -> Change {
    let element = element.to_be_bytes();
    Change::of(move |set: &OrSet, write| set.add(element, write))
}

#[test]
fn what_is_reached_is_said_whether_it_was_enough_or_not() {
    let mut world = five();
    let levels = [Level::Local, Level::N(3), Level::Majority, Level::All];
    let tickets = levels.map(|level| world.write(Address(0), "set", level, add(1)).unwrap());
    world.run(Duration::from_secs(1));
    for (ticket, least) in tickets.into_iter().zip([1, 3, 3, 5]) {
        assert!(world.is_good(ticket) && world.ended[&ticket].reached >= least);
    }
    // Two of five on one side.
    world.sim.sever(&[&[Address(0), Address(1)]]);
    let tickets = levels.map(|level| world.write(Address(0), "set", level, add(2)).unwrap());
    world.run(Duration::from_secs(5));
    assert!(world.is_good(tickets[0]));
    let why = |ticket: u64| world.ended[&ticket].why.clone().unwrap();
    assert_eq!(why(tickets[1]), "2 of 5 members were reached in time, and 3 were wanted");
    assert_eq!(why(tickets[3]), "2 of 5 members were reached in time, and 5 were wanted");
    // It was written all the same.
    world.heal(Duration::from_secs(20)).unwrap();
    assert_eq!(elements(world.sim.machine(Address(4)).unwrap(), "set"), [1, 2]);
    let ticket = world.write(Address(3), "set", Level::All, Change::removal()).unwrap();
    world.run(Duration::from_secs(1));
    assert!(world.is_good(ticket));
    assert!(world.hosts().all(|host| host.replica.bucket().is_empty()));
}

#[test]
fn a_read_at_a_level_has_what_those_had_who_were_asked() {
    let mut world = five();
    world.sim.sever(&[&[Address(0)]]);
    world.write(Address(1), "set", Level::Local, add(7)).unwrap();
    world.write(Address(0), "set", Level::Local, add(8)).unwrap();
    let read = |world: &mut World, level| {
        let ticket = world.next_ticket();
        let within = Duration::from_secs(1);
        world.event(Address(0), Event::Read { ticket, key: "set".into(), level, within });
        ticket
    };
    let alone = read(&mut world, Level::Majority);
    world.run(Duration::from_secs(2));
    assert!(world.ended[&alone].why.is_some());
    assert_eq!(elements(world.sim.machine(Address(0)).unwrap(), "set"), [8]);
    world.sim.mend();
    world.sim.set_faults(Faults { delay_max: Duration::from_millis(50), ..Faults::NONE });
    let mut ticket = read(&mut world, Level::Majority);
    for _ in 0..20 {
        world.run(Duration::from_millis(1100));
        if world.is_good(ticket) {
            break;
        }
        ticket = read(&mut world, Level::Majority);
    }
    assert!(world.is_good(ticket));
    assert_eq!(elements(world.sim.machine(Address(0)).unwrap(), "set"), [7, 8]);
}

#[test]
fn what_was_seen_at_one_node_is_waited_for_at_another() {
    let mut world = five();
    world.sim.sever(&[&[Address(4)]]);
    world.write(Address(0), "set", Level::Local, add(1)).unwrap();
    world.write(Address(0), "set", Level::Local, Change::removal()).unwrap();
    let token: Token = world.sim.machine(Address(0)).unwrap().replica.token();
    let (ticket, within) = (world.next_ticket(), Duration::from_secs(1));
    world.event(Address(4), Event::Cover { ticket, token: token.clone(), within });
    world.run(Duration::from_secs(2));
    let why = world.ended[&ticket].why.clone();
    assert_eq!(why.as_deref(), Some("what was asked for was not seen here in time"));
    world.sim.mend();
    let (ticket, within) = (world.next_ticket(), Duration::from_secs(20));
    world.event(Address(4), Event::Cover { ticket, token, within });
    world.run(Duration::from_secs(10));
    assert!(world.is_good(ticket));
    assert!(elements(world.sim.machine(Address(4)).unwrap(), "set").is_empty());
}

#[test]
fn what_a_session_has_seen_is_not_asked_for_once_it_is_collected() {
    let mut world = five();
    world.write(Address(1), "set", Level::All, add(1)).unwrap();
    world.run(Duration::from_secs(1));
    let token = |world: &World| world.sim.machine(Address(0)).unwrap().replica.token();
    let (session, bucket) = (Session::default(), "bucket".into());
    session.saw(&bucket, &token(&world));
    let cover = |world: &mut World, session: &Session| {
        let before = session.token(&bucket).unwrap();
        let (ticket, within) = (world.next_ticket(), Duration::from_secs(1));
        world.event(Address(0), Event::Cover { ticket, token: before.clone(), within });
        world.run(Duration::from_secs(2));
        assert!(world.is_good(ticket), "{:?}", world.ended.get(&ticket));
        before
    };
    for _ in 0..3 {
        // The life of which all was seen is over, and nothing of it is left.
        world.write(Address(0), "set", Level::All, Change::removal()).unwrap();
        collected(&mut world, Address(1), 1);
        // What was written since joins what was seen before.
        session.saw(&bucket, &token(&world));
        let bytes = session.to_bytes();
        let elsewhere = Session::from_bytes(&bytes).unwrap();
        cover(&mut world, &elsewhere);
        let before = cover(&mut world, &session);
        session.covered(&bucket, Some(&before), token(&world));
        cover(&mut world, &session);
    }
    assert!(world.hosts().all(|host| host.replica.stats().epoch >= 3));
    // A read that is late takes nothing back of what was seen meanwhile.
    let (before, now) = (session.token(&bucket), token(&world));
    world.write(Address(0), "set", Level::Local, add(9)).unwrap();
    session.saw(&bucket, &token(&world));
    session.covered(&bucket, before.as_ref(), now);
    assert_eq!(session.token(&bucket), Some(token(&world)));
}

#[test]
fn one_that_has_just_started_does_not_take_itself_for_all() {
    let mut world = five();
    let newcomer = Address(0);
    world.sim.crash(newcomer);
    world.sim.sever(&[&[newcomer]]);
    world.sim.start(newcomer);
    let levels = [Level::Local, Level::Majority, Level::All];
    let tickets = levels.map(|level| world.write(newcomer, "set", level, add(1)).unwrap());
    world.run(Duration::from_secs(5));
    let why = |ticket: u64| world.ended[&ticket].why.clone();
    assert_eq!(why(tickets[0]), None);
    let too_few = "1 of 5 members were reached in time, and 3 were wanted";
    assert_eq!(why(tickets[1]).as_deref(), Some(too_few));
    assert!(why(tickets[2]).is_some());
    // Who is asked again and again, and says nothing, is none that it has to wait for.
    world.run(Duration::from_secs(10));
    let ticket = world.write(newcomer, "set", Level::All, add(2)).unwrap();
    assert!(world.is_good(ticket));
    // One that says no does not count, either.
    world.heal(Duration::from_secs(20)).unwrap();
    let ticket = world.write(newcomer, "set", Level::All, add(3)).unwrap();
    world.run(Duration::from_secs(1));
    assert_eq!(world.ended[&ticket].reached, 5);
}

#[test]
fn one_that_takes_no_frames_is_not_waited_for() {
    let setup = Setup { seed: 1, nodes: 2, config: config(), disk: |_| false, bug: None };
    let mut world = World::new(setup);
    world.sim.crash(Address(1));
    let ticket = world.write(Address(0), "set", Level::All, add(1)).unwrap();
    assert!(!world.ended.contains_key(&ticket));
    world.event(Address(0), Event::Declined(2));
    assert!(world.is_good(ticket));
}

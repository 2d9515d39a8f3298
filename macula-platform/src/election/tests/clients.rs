//! What candidates, observers and operators see.

use super::world::{NAME, Nodes, TTL, options};
use crate::election::fence::GuardError;
use crate::election::{Error, Event, Leadership, Options, Why};
use crate::kv::command::{Condition, Holds, Op, Txn};
use crate::kv::tests::world::soon;

async fn leadership(candidacy: &mut crate::election::Candidacy) -> Leadership {
    match candidacy.next().await {
        Some(Event::Elected(leadership)) => leadership,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_until_it_resigns_and_then_another_one_does() {
    let mut nodes = Nodes::new(1, None).await;
    let (one, other) = (nodes.boot(11), nodes.boot(12));
    let mut observed = other.observe(NAME).unwrap();
    assert_eq!(observed.next().await.unwrap().leader, None);
    let mut first = one.campaign(NAME, options()).unwrap();
    let held = leadership(&mut first).await;
    let seen = observed.next().await.unwrap();
    assert_eq!(seen.leader.unwrap().token, held.token());
    assert_eq!(held.check(), Ok(held.token()));
    let mut second = other.campaign(NAME, options()).unwrap();
    // For longer than a lease.
    let early = tokio::time::timeout(TTL * 3, second.next()).await;
    assert!(early.is_err() && held.is_valid() && second.leads().is_none());
    let resigned = tokio::spawn(first.resign());
    soon(|| !held.is_valid()).await;
    // It has not let go of what it holds; so nobody else leads, but by the end of the lease.
    tokio::time::sleep(TTL / 4).await;
    assert!(second.leads().is_none() && !resigned.is_finished());
    drop(held);
    let began = crate::raft::timer::now();
    let next = leadership(&mut second).await;
    assert!(crate::raft::timer::now() - began < TTL / 2);
    resigned.await.unwrap();
    assert!(next.token() > seen.leader.unwrap().token);
    assert_eq!(observed.next().await.unwrap().leader, None);
    assert_eq!(observed.next().await.unwrap().leader.unwrap().token, next.token());
    // One that is dropped has resigned, too.
    drop((second, next));
    assert_eq!(observed.next().await.unwrap().leader, None);
}

#[tokio::test(start_paused = true)]
async fn an_operator_has_a_leader_resign_and_it_lets_others_have_their_turn() {
    let mut nodes = Nodes::new(2, None).await;
    let (one, other) = (nodes.boot(11), nodes.boot(12));
    assert_eq!(other.resign(NAME).await, Ok(None));
    let mut first = one.campaign(NAME, options()).unwrap();
    let held = leadership(&mut first).await;
    // Names may begin with one another.
    let longer = format!("{NAME}/longer");
    let mut beside = other.campaign(&longer, options()).unwrap();
    let beside = leadership(&mut beside).await;
    let page = other.list(None).await.unwrap();
    let listed: Vec<_> = page.elections.iter().map(|(name, it)| (name, it.token)).collect();
    assert_eq!(listed, [(&NAME.to_owned(), held.token()), (&longer, beside.token())]);
    assert_eq!(other.list(Some(NAME)).await.unwrap().elections.len(), 1);
    let mut second = other.campaign(NAME, options()).unwrap();
    assert_eq!(other.resign(NAME).await, Ok(Some(held.token())));
    let why = held.over().await;
    let token = held.token();
    drop(held);
    assert_eq!(why, Why::Asked);
    let told = first.next().await;
    assert!(matches!(told, Some(Event::Deposed { why: Why::Asked, token: it }) if it == token));
    assert!(leadership(&mut second).await.token() > token);
    assert!(beside.is_valid());
}

#[tokio::test(start_paused = true)]
async fn who_leads_no_more_writes_nothing() {
    let mut nodes = Nodes::new(3, None).await;
    let one = nodes.boot(11);
    let kv = nodes.world.client();
    let mut candidacy = one.campaign(NAME, options()).unwrap();
    let token = leadership(&mut candidacy).await.token();
    let guarded = kv.guarded(NAME, token);
    guarded.put("a", "1").await.unwrap();
    // A condition that does not hold is no matter of the guard.
    let holds = Holds::Absent;
    let conditions = vec![Condition { key: "a".into(), holds }];
    let otherwise = vec![Op::Get("a".into())];
    let done = guarded.txn(Txn { conditions, then: Vec::new(), otherwise }).await.unwrap();
    assert!(!done.held && done.found.len() == 1);
    let otherwise = vec![Op::Delete("a".into())];
    let told = guarded.txn(Txn { otherwise, ..Txn::default() }).await;
    assert_eq!(told.unwrap_err(), GuardError::Otherwise);
    candidacy.step_down();
    assert!(matches!(candidacy.next().await, Some(Event::Deposed { why: Why::Resigned, .. })));
    let next = leadership(&mut candidacy).await.token();
    let stale = guarded.put("a", "2").await.unwrap_err();
    assert!(matches!(stale, GuardError::Stale(stale) if stale.newest == Some(next)), "{stale}");
    assert!(kv.guarded(NAME, next).delete("a").await.unwrap());
    candidacy.resign().await;
    let stale = kv.guarded(NAME, next).delete("b").await.unwrap_err();
    assert_eq!(stale.to_string(), format!("token {next} is stale: nobody leads"));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_is_not_told_late() {
    let mut nodes = Nodes::new(4, None).await;
    let one = nodes.boot(11);
    let mut candidacy = one.campaign(NAME, options()).unwrap();
    let watching = candidacy.leads();
    assert_eq!(watching, None);
    tokio::time::sleep(TTL).await;
    let first = candidacy.leads().unwrap();
    // It leads, and loses that, and nobody has asked.
    nodes.cut(11);
    tokio::time::sleep(TTL).await;
    assert_eq!(candidacy.leads(), None);
    nodes.world.mend();
    let next = leadership(&mut candidacy).await;
    assert!(next.token() > first && next.is_valid());
    // A time that has passed is told even if nothing runs that looks after it.
    nodes.nodes.get_mut(&11).unwrap().elections.gate().stop();
    let token = next.token();
    assert!(matches!(
        candidacy.next().await,
        Some(Event::Deposed { token: it, why: Why::Expired }) if it == token
    ));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let mut nodes = Nodes::new(5, None).await;
    let one = nodes.boot(11);
    assert!(matches!(one.campaign("", options()), Err(Error::Name(_))));
    assert!(matches!(one.campaign("a", Options { ttl_ms: 10 }), Err(Error::Ttl(10))));
    assert!(one.observe("\n").is_err());
    let all: Vec<_> = (0..crate::election::limits::CANDIDACIES_MAX)
        .map(|number| one.campaign(&format!("e/{number}"), options()).unwrap())
        .collect();
    assert!(matches!(one.campaign("a", options()), Err(Error::TooMany(_))));
    drop(all);
    soon(|| one.campaign("a", options()).is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_when_it_may_have_missed_who_led() {
    let mut nodes = Nodes::new(6, None).await;
    let (one, kv) = (nodes.boot(11), nodes.world.client());
    let mut observed = one.observe(NAME).unwrap();
    assert!(!observed.next().await.unwrap().has_gap);
    for _ in 0..2 {
        let mut candidacy = one.campaign(NAME, options()).unwrap();
        drop(leadership(&mut candidacy).await);
        candidacy.resign().await;
    }
    // One after the other, and what lies between.
    let elected = observed.next().await.unwrap();
    let gone = observed.next().await.unwrap();
    assert!(elected.leader.is_some() && gone.leader.is_none() && !gone.has_gap);
    let mut late = one.observe(NAME).unwrap();
    late.next().await.unwrap();
    let mut candidacy = one.campaign(NAME, options()).unwrap();
    let held = leadership(&mut candidacy).await;
    let last = kv.put("other", "x").await.unwrap();
    kv.compact(last).await.unwrap();
    let seen = late.next().await.unwrap();
    assert!(seen.has_gap && seen.leader.unwrap().token == held.token());
}

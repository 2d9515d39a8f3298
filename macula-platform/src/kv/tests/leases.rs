//! Leases, and what hangs on them, while leaders go and clocks differ.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::world::{Skewed, World, soon};
use crate::kv::command::Refusal;
use crate::kv::{Error, Held, Kv, Watch};
use crate::raft;
use crate::raft::tests::harness::node;

const TTL: Duration = Duration::from_secs(2);

fn base() -> raft::Config {
    raft::Config::default()
}

#[tokio::test(start_paused = true)]
async fn what_hangs_on_a_lease_goes_when_it_is_not_kept_alive() {
    let mut world = World::of(3, base()).await;
    let kv = world.client();
    let began = raft::timer::now();
    let held = kv.grant(TTL).await.unwrap();
    assert!(held.until >= began + TTL && held.until < began + TTL + Duration::from_millis(50));
    kv.put_on("a", "x", Some(held.lease)).await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(TTL / 2).await;
        kv.keep_alive(held.lease).await.unwrap();
    }
    let last = raft::timer::now();
    let mut watch = kv.watch("a", None).await.unwrap();
    assert_eq!(watch.next().await.unwrap().item, None);
    let after = raft::timer::now() - last;
    assert!(after >= TTL && after < TTL * 5 / 4, "{after:?}");
    let gone = Error::Refused(Refusal::NoLease(held.lease));
    assert_eq!(kv.keep_alive(held.lease).await.unwrap_err(), gone);
    // One that is let go is gone at once.
    let other = kv.grant(TTL).await.unwrap();
    kv.put_on("b", "x", Some(other.lease)).await.unwrap();
    assert_eq!(kv.revoke(other.lease).await.unwrap(), 1);
    assert_eq!(kv.get("b").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn keeping_alive_is_no_entry_of_the_log_and_many_share_a_round() {
    let mut world = World::of(3, base()).await;
    let kv = world.client();
    let mut leases = Vec::new();
    for _ in 0..50 {
        leases.push(kv.grant(TTL).await.unwrap().lease);
    }
    let leader = world.leader().await;
    let member = Arc::clone(&world.group.members[&leader]);
    let (applied, rounds) = (*member.applied().borrow(), member.read_rounds());
    let mut alive = tokio::task::JoinSet::new();
    for lease in leases {
        let kv = kv.clone();
        alive.spawn(async move { kv.keep_alive(lease).await.unwrap() });
    }
    while let Some(held) = alive.join_next().await {
        assert_eq!(held.unwrap().ttl, TTL);
    }
    assert_eq!(*member.applied().borrow(), applied);
    assert!(member.read_rounds() - rounds <= 2);
}

/// What a holder has been told: under which key, since which revision, and until when it holds.
#[derive(Debug, Clone, Copy)]
struct Told {
    key: &'static str,
    put: u64,
    held: Held,
}

/// Holds leases in turn, each with a key, and notes until when it holds which.
async fn hold(kv: Kv, key: &'static str, seen: Arc<Mutex<Vec<Told>>>) {
    loop {
        let Ok(held) = kv.grant(TTL).await else { continue };
        let Ok(put) = kv.put_on(key, "x", Some(held.lease)).await else { continue };
        seen.lock().push(Told { key, put, held });
        // It is kept alive now and then, and forgotten at last.
        for round in 0_u32..4 {
            tokio::time::sleep(TTL / 3 + Duration::from_millis(90) * round).await;
            match kv.keep_alive(held.lease).await {
                Ok(held) => seen.lock().push(Told { key, put, held }),
                Err(_) => break,
            }
        }
        tokio::time::sleep(TTL * 2).await;
    }
}

/// Sees keys go, and says when one has gone that its holder still held. Gives how many have gone, once
/// it is stopped.
async fn judge(
    mut watch: Watch,
    seen: Arc<Mutex<Vec<Told>>>,
    gone: Arc<Mutex<Result<usize, String>>>,
) {
    loop {
        let Ok(event) = watch.next().await else { continue };
        if event.item.is_some() {
            continue;
        }
        let now = raft::timer::now();
        let seen = seen.lock();
        let last =
            seen.iter().rev().find(|told| event.key == told.key && told.put < event.revision);
        let mut gone = gone.lock();
        match (last, &mut *gone) {
            (Some(Told { held, .. }), found) if now < held.until => {
                *found = Err(format!("lease {} has {:?} left", held.lease, held.until - now));
            }
            (_, Ok(count)) => *count += 1,
            (_, Err(_)) => {}
        }
    }
}

/// Kills, cuts off and changes leaders, with clocks of these rates, and looks whether a lease is gone
/// before its holder's time. Gives how many leases have ended.
async fn ended(rates: [u32; 3]) -> Result<usize, String> {
    let mut world = World::empty(base());
    for (number, rate) in (1..=3).zip(rates) {
        world.group.timers.insert(number, Skewed::new(rate));
    }
    let mut world = world.grown(3).await;
    let (seen, gone) = (Arc::<Mutex<Vec<Told>>>::default(), Arc::new(Mutex::new(Ok(0))));
    let mut holders = tokio::task::JoinSet::new();
    for key in ["h/1", "h/2", "h/3", "h/4"] {
        holders.spawn(hold(world.client(), key, Arc::clone(&seen)));
    }
    let watch = world.client().watch("h/", None).await.unwrap();
    holders.spawn(judge(watch, seen, Arc::clone(&gone)));
    for round in 0_u32..12 {
        // Sometimes nobody disturbs it for longer than a lease lasts.
        tokio::time::sleep(Duration::from_millis(1_700 + 4_000 * u64::from(round % 2))).await;
        let leader = world.leader().await;
        match round % 3 {
            0 => {
                world.kill(leader).await;
                tokio::time::sleep(Duration::from_millis(900)).await;
                world.start(leader).await.unwrap();
            }
            1 => {
                world.part(leader);
                tokio::time::sleep(Duration::from_millis(1_300)).await;
                world.mend();
            }
            _ => {
                let other = (1..=3).find(|number| *number != leader).unwrap();
                drop(world.client().operator().transfer(node(other)).await);
            }
        }
    }
    holders.shutdown().await;
    Arc::into_inner(gone).unwrap().into_inner()
}

#[tokio::test(start_paused = true)]
async fn no_lease_ends_before_its_holders_time_whoever_leads_and_however_clocks_differ() {
    for rates in [[1_000, 1_000, 1_000], [1_090, 1_000, 1_090], [1_095, 1_095, 1_095]] {
        let ended = ended(rates).await.unwrap();
        assert!(ended > 5, "{rates:?}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_by_more_end_leases_before_their_time() {
    let mut found = false;
    for rate in [2_000, 3_000, 4_000] {
        found |= ended([rate; 3]).await.is_err();
    }
    assert!(found);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leads_no_more_keeps_nothing_alive() {
    let mut world = World::of(3, base()).await;
    let kv = world.client();
    let held = kv.grant(Duration::from_secs(30)).await.unwrap();
    let old = world.leader().await;
    world.part(old);
    let service = world.services[&old].clone();
    let ask = crate::kv::wire::Ask::KeepAlive(held.lease);
    let reply = service.answer(node(old), ask).await;
    assert!(matches!(reply, crate::kv::wire::Reply::Declined(_)), "{reply:?}");
    // The client asks another one.
    kv.keep_alive(held.lease).await.unwrap();
    world.mend();
    soon(|| world.group.members[&old].leader() != Some(world.group.members[&old].id())).await;
}

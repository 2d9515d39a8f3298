//! A member in a tree, with its files in a folder.

use std::sync::Arc;

use bytes::Bytes;
use macula_core::supervision::{Handle, Root, Supervisor, TreeOptions};

use super::super::actor::{Group, Standing, Told, worker};
use super::super::media::{Folder, StoreError};
use super::super::member::{Config, Member, Parts};
use super::super::timer::Ticking;
use super::harness::{Files, From, Lane, Wires};
use super::{Sum, node, open};

/// A bound for the worst machine.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

async fn started(files: &Files) -> (Root, Group<Sum>, Handle<Told>) {
    let parts = Parts {
        medium: Arc::new(Folder(files.0.clone())),
        node: node(),
        new_life: 1,
        call: Arc::new(From(Arc::<Wires>::default(), node(), Lane::Raft)),
        seed: 1,
        config: Config::default(),
        timer: Arc::new(Ticking),
    };
    let (worker, group) = worker::<Sum>(parts, true).unwrap();
    let (spec, handle) = worker.split();
    let minute = std::time::Duration::from_secs(60);
    let root = Supervisor::new("root").unwrap().intensity(10, minute).child(spec);
    (root.start(TreeOptions::default()).await.unwrap(), group, handle)
}

/// Waits until there is a member that leads, other than one before.
async fn leading(group: &Group<Sum>, not: Option<&Arc<Member<Sum>>>) -> Arc<Member<Sum>> {
    let leads = async {
        loop {
            if let Some(member) = group.member()
                && not.is_none_or(|not| !Arc::ptr_eq(&member, not))
                && member.read_point().await.is_ok()
            {
                return member;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WITHIN, leads).await.expect("no member leads")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_actor_and_the_process() {
    let files = Files::new("outlives");
    let (root, group, handle) = started(&files).await;
    let mut member = leading(&group, None).await;
    let id = member.id();
    for kills in 1..=3_u64 {
        let (_, sum) = member.propose(Bytes::from_static(b"12345")).await.unwrap();
        assert_eq!(sum.as_ref(), (5 * kills).to_be_bytes());
        handle.actor_ref().unwrap().kill();
        member = leading(&group, Some(&member)).await;
        assert_eq!((member.id(), member.state().0), (id, 5 * kills));
    }
    drop(member);
    root.stop().await;
    let (root, group, _handle) = started(&files).await;
    let member = leading(&group, None).await;
    assert_eq!((member.id(), member.state().0), (id, 15));
    root.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_in_use_are_not_opened_once_more() {
    let files = Files::new("in-use");
    let folder = Folder(files.0.clone());
    let _first = open(&folder).unwrap();
    assert!(matches!(open(&folder), Err(StoreError::Io { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_files_are_damaged_serves_nothing_and_ends_nobody() {
    let files = Files::new("damaged");
    let (root, group, _handle) = started(&files).await;
    leading(&group, None).await.propose(Bytes::from_static(b"12345")).await.unwrap();
    root.stop().await;
    let path = files.0.join("log.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"12345").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (root, group, _handle) = started(&files).await;
    let standing = group.standing();
    assert!(matches!(&*standing, Standing::Damaged(_)), "{standing:?}");
    assert!(root.snapshot().await.is_healthy());
    assert_eq!(std::fs::read(&path).unwrap()[at], bytes[at]);
    root.stop().await;
}

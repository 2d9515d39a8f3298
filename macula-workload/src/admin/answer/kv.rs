//! The keys and values of the realm's group, for a client of the socket.

use std::time::Duration;

use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_platform::consensus::Consensus;
use macula_platform::kv::command::{Condition, Event, Holds, Item, LeaseId, Op, Refusal, Txn};
use macula_platform::kv::state::after_prefix;
use macula_platform::kv::{Done, Error, Kv, Level, Watch, WatchError};
use macula_platform::raft::types::MemberId;
use serde_json::{Map, Value, json};

use super::super::{Declined, Request};
use super::{no_answer, waited, with};

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        match error {
            // It is more than may ever be asked for.
            Error::Refused(
                Refusal::NoKey
                | Refusal::TooLong { .. }
                | Refusal::TooMany { .. }
                | Refusal::NoTtl { .. }
                | Refusal::Claim { .. },
            ) => Self::wrong(error),
            _ => Self::failed(error),
        }
    }
}

/// Bytes under a name of its own if they are no text.
fn text(name: &str, bytes: &[u8]) -> (String, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.into()),
        Err(_no_text) => (format!("{name}_hex"), data_encoding::HEXLOWER.encode(bytes).into()),
    }
}

fn fields(key: &[u8], item: &Item) -> Map<String, Value> {
    let fields = [
        text("key", key),
        text("value", &item.value),
        ("created".to_owned(), item.created.into()),
        ("modified".to_owned(), item.modified.into()),
        ("version".to_owned(), item.version.into()),
        ("lease".to_owned(), item.lease.into()),
    ];
    fields.into_iter().collect()
}

fn told(key: &[u8], item: &Item) -> Value {
    Value::Object(fields(key, item))
}

fn level(name: &str) -> Result<Level, Declined> {
    match name {
        "linearizable" => Ok(Level::Linearizable),
        "lease" => Ok(Level::Lease),
        "stale" => Ok(Level::Stale),
        _ => Err(Declined::Wrong("a level is linearizable, lease or stale".to_owned())),
    }
}

/// Answers a question about keys and values.
pub(super) async fn answer(kv: &Kv, request: Request) -> Result<Value, Declined> {
    let waiting = |within_ms| {
        let within = waited(within_ms)?;
        Ok::<_, Declined>(within.map_or_else(|| kv.clone(), |within| kv.within(within)))
    };
    match request {
        Request::KvGet { key, level, within_ms } => get(&waiting(within_ms)?, key, &level).await,
        Request::KvPut { key, value, expected, lease, ttl_ms, within_ms } => {
            let ttl = ttl_ms.map(Duration::from_millis);
            put(&waiting(within_ms)?, key, value, (expected, lease, ttl)).await
        }
        Request::KvDelete { key, expected, within_ms } => {
            delete(&waiting(within_ms)?, key, expected).await
        }
        Request::KvRange { prefix, from, max, level, within_ms } => {
            range(&waiting(within_ms)?, prefix, from, (max, &level)).await
        }
        _ => Err(no_answer()),
    }
}

/// What a key has.
async fn get(kv: &Kv, key: String, of: &str) -> Result<Value, Declined> {
    let found = kv.get_at(key.clone(), level(of)?).await?;
    Ok(found.map_or(Value::Null, |item| told(key.as_bytes(), &item)))
}

/// Gives a key a value, on condition that it was changed last at a revision, if that is said; 0 means
/// that it is not there. With a TTL it hangs on a lease of its own.
async fn put(
    kv: &Kv,
    key: String,
    value: String,
    (expected, lease, ttl): (Option<u64>, Option<LeaseId>, Option<Duration>),
) -> Result<Value, Declined> {
    let lease = match ttl {
        Some(ttl) => Some(kv.grant(ttl).await?.lease),
        None => lease,
    };
    let put = Op::Put { key: key.clone().into(), value: value.into(), lease };
    let otherwise = vec![Op::Get(key.clone().into())];
    let txn = Txn { conditions: conditions(key, expected), then: vec![put], otherwise };
    let done = kv.txn(txn).await;
    let is_put = done.as_ref().is_ok_and(|done| done.held);
    if let (Some(_own), Some(lease), false) = (ttl, lease, is_put) {
        // Nothing hangs on it. If it is not revoked it ends by itself.
        drop(kv.revoke(lease).await);
    }
    let done = done?;
    let told = json!({ "done": done.held, "revision": done.revision, "lease": lease });
    Ok(with(told, "modified", unexpected(&done)))
}

/// Deletes a key, on such a condition.
async fn delete(kv: &Kv, key: String, expected: Option<u64>) -> Result<Value, Declined> {
    let key = Bytes::from(key);
    let (then, otherwise) = (vec![Op::Delete(key.clone())], vec![Op::Get(key.clone())]);
    let done = kv.txn(Txn { conditions: conditions(key, expected), then, otherwise }).await?;
    let was_there = done.found.iter().any(Option::is_some);
    let told = json!({ "done": done.held, "was_there": was_there, "revision": done.revision });
    Ok(with(told, "modified", unexpected(&done)))
}

/// When a key was changed last that is not as it was expected to be; 0 if it is not there, as in a condition.
fn unexpected(done: &Done) -> Option<u64> {
    let modified = || done.found.first()?.as_ref().map(|item| item.modified);
    (!done.held).then(|| modified().unwrap_or(0))
}

fn conditions(key: impl Into<Bytes>, expected: Option<u64>) -> Vec<Condition> {
    let holds = expected.map(|revision| match revision {
        0 => Holds::Absent,
        revision => Holds::ModifiedAt(revision),
    });
    let condition = |holds| Condition { key: key.into(), holds };
    holds.map(condition).into_iter().collect()
}

/// The keys that begin with a prefix, from one on: as many as are wanted and go into a page.
async fn range(
    kv: &Kv,
    prefix: String,
    from: Option<String>,
    (max, of): (usize, &str),
) -> Result<Value, Declined> {
    let prefix = Bytes::from(prefix);
    let (to, first) = (after_prefix(&prefix), from.map_or_else(|| prefix.clone(), Bytes::from));
    if first < prefix {
        return Err(Declined::Wrong("it does not begin with the prefix".to_owned()));
    }
    let page = kv.range(first, to, max, level(of)?).await?;
    let items: Vec<Value> = page.items.iter().map(|(key, item)| told(key, item)).collect();
    Ok(json!({ "items": items, "has_more": page.has_more, "revision": page.revision }))
}

/// Watches the keys that begin with a prefix, and says from which revision on.
pub(in super::super) async fn watch(
    kv: &Kv,
    prefix: String,
    after: Option<u64>,
) -> Result<(Value, Watch), Declined> {
    let watch = kv.watch(prefix, after).await?;
    Ok((json!({ "after": watch.revision() }), watch))
}

/// The next event, as a client is told of it. While no voter answers it goes on asking.
///
/// # Errors
///
/// If events may be missed, or the keys cannot be watched.
pub(in super::super) async fn next(watch: &mut Watch) -> Result<Value, Declined> {
    loop {
        match watch.next().await {
            Ok(Event { revision, key, item }) => {
                let mut event = match &item {
                    Some(item) => fields(&key, item),
                    None => [text("key", &key)].into_iter().collect(),
                };
                event.insert("revision".to_owned(), revision.into());
                event.insert("deleted".to_owned(), item.is_none().into());
                return Ok(Value::Object(event));
            }
            Err(WatchError::NoAnswer(why)) => tracing::warn!(why, "a watch waits for a voter"),
            Err(error) => return Err(Declined::failed(error)),
        }
    }
}

pub(super) fn node_of(text: &str) -> Result<NodeId, Declined> {
    text.parse().map_err(|error| Declined::Wrong(format!("{text:?} is no node id: {error}")))
}

/// The node of a member; one that is none as it is written.
fn node(member: &MemberId) -> String {
    member.node().map_or_else(|_none| member.to_string(), |node| node.to_string())
}

/// How it stands with a member, or with the leader; and what all members say of themselves.
pub(super) async fn status(kv: &Kv, of: Option<String>) -> Result<Value, Declined> {
    let of = of.map(|of| node_of(&of)).transpose()?;
    let status = kv.operator().status(of).await?;
    let said = kv.operator().survey(&status.members).await;
    let all = |members: &std::collections::BTreeSet<MemberId>, role: &str| {
        let told = |of: &MemberId| {
            let said = said.get(of).and_then(Option::as_ref);
            json!({
                "node": node(of),
                "life": of.life(),
                "role": role,
                "leads": status.leader == Some(*of),
                "answers": said.is_some(),
                "in_touch": said.map(|said| said.is_in_touch),
                "applied": said.map(|said| said.applied),
            })
        };
        members.iter().map(told).collect::<Vec<_>>()
    };
    let voters = &status.members.voters;
    let silent = said.iter().filter(|(of, said)| said.is_none() && voters.contains(of)).count();
    // A member that is in no group yet knows of no voter.
    let has_majority =
        (!voters.is_empty()).then(|| voters.len().saturating_sub(silent) > voters.len() / 2);
    let voters = all(&status.members.voters, "voter");
    let members = [voters, all(&status.members.learners, "learner")].concat();
    let others = status.strangers.iter().map(|stranger| {
        let other = stranger.node().map_or_else(|_none| "?".to_owned(), |node| node.to_string());
        json!({ "node": other, "group": stranger.group.to_string() })
    });
    Ok(json!({
        "member": node(&status.member),
        "group": status.group.map(|group| group.to_string()),
        "leader": status.leader.as_ref().map(node),
        "term": status.term,
        "applied": status.applied,
        "revision": status.revision,
        "snapshot": status.snapshot,
        "in_touch": status.is_in_touch,
        "silent_voters": silent,
        "has_majority": has_majority,
        "changing": status.members.is_changing,
        "members": members,
        "other_groups": others.collect::<Vec<_>>(),
    }))
}

/// What an operator does to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    AddVoter(String),
    AddLearner(String),
    Remove(String),
    Replace(String, String),
    Transfer(String),
    Snapshot(Option<String>),
}

/// Does it, and says how it stands then.
pub(super) async fn operate(agreement: &Consensus, deed: Deed) -> Result<Value, Declined> {
    let Consensus { kv, node: own, .. } = agreement;
    let operator = kv.operator();
    match deed {
        Deed::AddVoter(node) => operator.add_voter(node_of(&node)?).await?,
        Deed::AddLearner(node) => operator.add_learner(node_of(&node)?).await?,
        Deed::Remove(node) => operator.remove(node_of(&node)?).await?,
        Deed::Replace(old, new) => operator.replace(node_of(&old)?, node_of(&new)?).await?,
        Deed::Transfer(node) => operator.transfer(node_of(&node)?).await?,
        Deed::Snapshot(node) => {
            let node = node.map(|node| node_of(&node)).transpose()?;
            operator.snapshot(node).await?;
            return status(kv, Some(node.unwrap_or(*own).to_string())).await;
        }
    }
    status(kv, None).await
}

/// Has this node's member get all anew from the others, and says how it stands then.
pub(super) async fn rebuild(agreement: &Consensus) -> Result<Value, Declined> {
    agreement.rebuild().await.map_err(Declined::failed)?;
    status(&agreement.kv, Some(agreement.node.to_string())).await
}

//! Replicated types, for a client of the socket.

mod shown;

use std::time::Duration;

use macula_platform::crdt::kind::Kind;
use macula_platform::crdt::limits::Refused;
use macula_platform::crdt::proto::Done;
use macula_platform::crdt::tree::number_of;
use macula_platform::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrSet,
};
use macula_platform::crdt::{Crdt, Crdts, Error, Failed, Key, Level, Subscription};
use serde_json::{Value, json};

use super::super::{About, Declined, Deed};
use super::kv::node_of;
use super::{waited, with};
use shown::value_of;

/// How long the first comparison with another member is waited for, when the node has just begun to hold a
/// bucket; and how long somebody else who holds it.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
const ANYBODY_WITHIN: Duration = Duration::from_millis(500);

/// How often it is looked for that.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long members are waited for when a bucket is let go of, unless it is said.
const RELEASED_WITHIN: Duration = Duration::from_secs(30);

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        match error {
            // It can never be asked for here.
            Error::NoBucket { .. }
            | Error::BucketTooLong { .. }
            | Error::Encode { .. }
            | Error::Failed(Failed::Refused(
                Refused::KeyEmpty
                | Refused::KeyTooLong { .. }
                | Refused::ElementTooLong { .. }
                | Refused::ValueTooLong { .. },
            )) => Self::wrong(error),
            _ => Self::failed(error),
        }
    }
}

/// How many members are to have or to say something, and how long they are waited for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Terms {
    level: Level,
    within: Option<Duration>,
}

impl Terms {
    pub(super) fn read(level: &str, within_ms: Option<u64>) -> Result<Self, Declined> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).map(Level::N);
        let level = match level {
            "local" => Some(Level::Local),
            "majority" => Some(Level::Majority),
            "all" => Some(Level::All),
            text => number(text),
        };
        let wrong = "a level is local, majority, all, or a number of members from 1";
        let level = level.ok_or_else(|| Declined::Wrong(wrong.to_owned()))?;
        Ok(Self { level, within: waited(within_ms)? })
    }

    fn of<C: Crdt, T>(self, key: Key<C, T>) -> Key<C, T> {
        let key = key.at(self.level);
        match self.within {
            Some(within) => key.within(within),
            None => key,
        }
    }
}

/// The bucket of a key.
fn bucket_of(key: &str) -> Result<&str, Error> {
    match key.split_once('/') {
        Some((bucket, _)) if !bucket.is_empty() => Ok(bucket),
        _ => Err(Error::NoBucket { key: key.into() }),
    }
}

/// Does something with a bucket, which is held for it, and let go of if there is nothing in it: a name that
/// somebody has mistyped takes no room.
async fn visiting<T>(
    crdts: &Crdts,
    bucket: &str,
    visit: impl Future<Output = Result<T, Declined>>,
) -> Result<T, Declined> {
    let is_new = !is_held(crdts, bucket);
    hold(crdts, bucket).await?;
    let done = visit.await;
    if is_new {
        let_go_unused(crdts, bucket).await;
    }
    done
}

fn is_held(crdts: &Crdts, bucket: &str) -> bool {
    crdts.buckets().iter().any(|held| **held == *bucket)
}

async fn let_go_unused(crdts: &Crdts, bucket: &str) {
    if let Err(error) = crdts.release_unused(bucket).await {
        tracing::warn!(%error, bucket, "a bucket without use is held");
    }
}

/// Holds a bucket. If that is new, what the others have is waited for.
async fn hold(crdts: &Crdts, bucket: &str) -> Result<(), Error> {
    let is_new = !is_held(crdts, bucket);
    crdts.hold(bucket).await?;
    if !is_new {
        return Ok(());
    }
    let mut waited = Duration::ZERO;
    while waited < FIRST_WITHIN {
        let stats = crdts.stats(bucket).await?;
        if stats.compared > 0 || (stats.in_touch == 0 && waited >= ANYBODY_WITHIN) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
    Ok(())
}

/// Of which types there is something under a key.
async fn kinds_of(crdts: &Crdts, key: &str) -> Result<Vec<Kind>, Error> {
    let keys = crdts.keys(bucket_of(key)?, key).await?;
    Ok(keys.into_iter().filter(|(other, _)| **other == *key).map(|(_, kind)| kind).collect())
}

/// What a key has, of each type for which it is used: more than one only after two have used it at one time.
pub(super) async fn get(crdts: &Crdts, key: &str, terms: Terms) -> Result<Value, Declined> {
    crdts.check(key)?;
    visiting(crdts, bucket_of(key)?, got(crdts, key, terms)).await
}

async fn got(crdts: &Crdts, key: &str, terms: Terms) -> Result<Value, Declined> {
    // Whatever its type, the members are asked.
    match terms.of(crdts.key::<EwFlag, ()>(key)).read(|_flag| ()).await {
        Ok(()) | Err(Error::Failed(Failed::Refused(Refused::OtherKind { .. }))) => {}
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    for kind in kinds_of(crdts, key).await? {
        let value = value_of(crdts, key, &kind).await?;
        found.push(json!({ "type": kind.as_str(), "value": value }));
    }
    Ok(json!({ "key": key, "found": found }))
}

/// The keys of a bucket, with their types; or the buckets, with how full they are.
pub(super) async fn keys(
    crdts: &Crdts,
    bucket: Option<String>,
    prefix: &str,
) -> Result<Value, Declined> {
    let Some(bucket) = bucket else {
        let mut rows = Vec::new();
        for bucket in crdts.buckets() {
            let stats = crdts.stats(&bucket).await?;
            rows.push(json!({
                "bucket": &*bucket, "keys": stats.keys, "members": stats.members,
                "in_touch": stats.in_touch,
            }));
        }
        return Ok(json!({ "buckets": rows }));
    };
    let keys = async { Ok(crdts.keys(&bucket, prefix).await?) };
    let keys = visiting(crdts, &bucket, keys).await?;
    let row = |(key, kind): (_, Kind)| {
        let key: std::sync::Arc<str> = key;
        json!({ "key": &*key, "type": kind.as_str() })
    };
    Ok(json!({ "keys": keys.into_iter().map(row).collect::<Vec<_>>() }))
}

impl Deed {
    /// The types that can do it. The first is taken if nothing says which.
    const fn kinds(&self) -> &'static [&'static str] {
        match self {
            Self::Count { .. } => &["pn-counter", "g-counter"],
            Self::Add { .. } => &["or-set", "g-set", "lww-element-set"],
            Self::Set { .. } => &["lww-register", "mv-register", "ew-flag", "dw-flag"],
            Self::Take { .. } => &["or-set", "lww-element-set"],
            Self::Remove {} => &[],
        }
    }

    /// Which of them it is: the one that was said, or what is there.
    fn kind(&self, said: Option<&str>, there: &[Kind]) -> Result<&'static str, Declined> {
        let kinds = self.kinds();
        let known = |name: &str| kinds.iter().find(|kind| **kind == name).copied();
        let (name, there) = match (said, there.first()) {
            (Some(name), _) => (name, false),
            (None, Some(kind)) => (kind.as_str(), true),
            (None, None) => (kinds.first().copied().unwrap_or_default(), false),
        };
        known(name).ok_or_else(|| match there {
            true => Declined::Failed(format!(
                "the key is of type {name}, and what was asked can be done to {}",
                kinds.join(", ")
            )),
            false => Declined::Wrong(format!("a type is here one of {}", kinds.join(", "))),
        })
    }
}

/// Changes a key, and says how many members have that, and whether there was what was to be removed.
pub(super) async fn update(
    crdts: &Crdts,
    (key, said): (&str, Option<&str>),
    deed: Deed,
    terms: Terms,
) -> Result<Value, Declined> {
    crdts.check(key)?;
    visiting(crdts, bucket_of(key)?, updated(crdts, (key, said), deed, terms)).await
}

async fn updated(
    crdts: &Crdts,
    (key, said): (&str, Option<&str>),
    deed: Deed,
    terms: Terms,
) -> Result<Value, Declined> {
    let there = kinds_of(crdts, key).await?;
    let was_there = match &deed {
        Deed::Remove {} => Some(!there.is_empty()),
        Deed::Take { value } => Some(has(crdts, key, &there, value).await?),
        Deed::Count { .. } | Deed::Add { .. } | Deed::Set { .. } => None,
    };
    if let Deed::Remove {} = deed {
        let done = terms.of(crdts.key::<EwFlag, ()>(key)).remove().await;
        return told(done, was_there);
    }
    let kind = deed.kind(said, &there)?;
    let keys = Keys { crdts, key, terms };
    let done = match deed {
        Deed::Count { by } => keys.count(kind, by).await?,
        Deed::Add { value } => keys.add(kind, &value).await,
        Deed::Set { value } => keys.set(kind, &value).await?,
        Deed::Take { value } => keys.take(kind, &value).await,
        Deed::Remove {} => return Err(Declined::wrong("it is no change of a value")),
    };
    told(done, was_there)
}

/// Lets go of a bucket.
pub(super) async fn release(crdts: &Crdts, bucket: &str, terms: Terms) -> Result<Value, Declined> {
    let was_held = crdts.buckets().iter().any(|held| **held == *bucket);
    let within = terms.within.unwrap_or(RELEASED_WITHIN);
    match crdts.release(bucket, terms.level, within).await {
        Err(Error::Failed(Failed::NotReached { members: ..=1, .. })) => {
            return Err(Declined::failed(
                "nobody else holds the bucket, and what is in it would be lost: it is held still \
                 (--level local lets go of it all the same)",
            ));
        }
        released => released?,
    }
    Ok(json!({ "bucket": bucket, "was_held": was_held }))
}

/// Gives up a member of a bucket: one that is in the mesh only if `even_if_alive`, as it would be a member
/// again at once.
pub(super) async fn retire(
    About { mesh, crdts, .. }: &About,
    bucket: &str,
    (node, even_if_alive): (&str, bool),
) -> Result<Value, Declined> {
    let id = node_of(node)?;
    let number = number_of(id);
    if crdts.buckets().iter().all(|held| **held != *bucket) {
        return Err(Declined::failed("the node does not hold the bucket"));
    }
    if !even_if_alive && mesh.membership().is_member(id) {
        return Err(Declined::failed(
            "it is in the mesh, and would be a member again: have it let go of the bucket itself \
             (macula crdt release), or say --alive",
        ));
    }
    let was_member = crdts.members(bucket).await?.contains(&number);
    crdts.retire(bucket, number).await?;
    let members = crdts.members(bucket).await?;
    if members.contains(&number) {
        return Err(Declined::wrong("no node gives itself up: it can let go of the bucket"));
    }
    Ok(json!({ "bucket": bucket, "was_member": was_member, "members": members.len() }))
}

/// What came of a change. One that has reached too few is written all the same, and says how many it was to
/// reach.
fn told(done: Result<Done, Error>, was_there: Option<bool>) -> Result<Value, Declined> {
    let told = match done {
        Ok(Done { reached, members, .. }) => json!({ "reached": reached, "members": members }),
        Err(Error::Failed(Failed::NotReached { reached, wanted, members })) => {
            json!({ "reached": reached, "members": members, "wanted": wanted })
        }
        Err(error) => return Err(error.into()),
    };
    Ok(with(told, "was_there", was_there))
}

/// Whether a set has an element.
async fn has(crdts: &Crdts, key: &str, there: &[Kind], value: &Value) -> Result<bool, Error> {
    match there.first().map(Kind::as_str) {
        Some("or-set") => crdts.or_set(key).contains(value).await,
        Some("lww-element-set") => crdts.lww_set(key).contains(value).await,
        _ => Ok(false),
    }
}

/// A key, whatever its type.
struct Keys<'a> {
    crdts: &'a Crdts,
    key: &'a str,
    terms: Terms,
}

impl Keys<'_> {
    fn of<C: Crdt>(&self) -> Key<C, Value> {
        self.terms.of(self.crdts.key(self.key))
    }

    async fn count(&self, kind: &str, by: i64) -> Result<Result<Done, Error>, Declined> {
        if kind == "pn-counter" {
            return Ok(self.terms.of(self.crdts.counter(self.key)).count(by).await);
        }
        let grown = u64::try_from(by);
        let by = grown.map_err(|_less| Declined::wrong("a g-counter does not shrink"))?;
        let key = self.of::<GCounter>();
        Ok(key.update(move |counter, write| counter.increment(by, write)).await)
    }

    async fn add(&self, kind: &str, value: &Value) -> Result<Done, Error> {
        match kind {
            "g-set" => self.of::<GSet>().add(value).await,
            "lww-element-set" => self.of::<LwwElementSet>().add(value).await,
            _ => self.of::<OrSet>().add(value).await,
        }
    }

    async fn take(&self, kind: &str, value: &Value) -> Result<Done, Error> {
        match kind {
            "lww-element-set" => self.of::<LwwElementSet>().take(value).await,
            _ => self.of::<OrSet>().take(value).await,
        }
    }

    async fn set(&self, kind: &str, value: &Value) -> Result<Result<Done, Error>, Declined> {
        match kind {
            "mv-register" => return Ok(self.of::<MvRegister>().set(value).await),
            "lww-register" => return Ok(self.of::<LwwRegister>().set(value).await),
            _ => {}
        }
        let on = match value {
            Value::Bool(on) => Some(*on),
            value => value.as_str().and_then(|text| text.parse().ok()),
        };
        let on = on.ok_or_else(|| Declined::wrong("a flag is true or false"))?;
        Ok(match (kind, on) {
            ("dw-flag", true) => self.of::<DwFlag>().update(|flag, _| Ok(flag.enable())).await,
            ("dw-flag", false) => self.of::<DwFlag>().update(DwFlag::disable).await,
            (_, true) => self.of::<EwFlag>().update(EwFlag::enable).await,
            (_, false) => self.of::<EwFlag>().update(|flag, _| Ok(flag.disable())).await,
        })
    }
}

/// What a client follows. Fields drop in order.
#[derive(Debug)]
pub(in super::super) struct Changes {
    crdts: Crdts,
    subscription: Subscription,
    _visited: Option<Visited>,
}

/// A bucket that is held for whoever watches it. When this is dropped it is let go of, if nothing came of that.
#[derive(Debug)]
struct Visited {
    crdts: Crdts,
    bucket: String,
}

impl Drop for Visited {
    fn drop(&mut self) {
        let (crdts, bucket) = (self.crdts.clone(), std::mem::take(&mut self.bucket));
        // Without a runtime the node ends, and holds nothing more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { let_go_unused(&crdts, &bucket).await }));
        }
    }
}

/// Watches the keys of a bucket that begin with a prefix, and says which.
pub(in super::super) async fn watch(
    crdts: &Crdts,
    bucket: String,
    prefix: String,
) -> Result<(Value, Changes), Declined> {
    let visited = || Visited { crdts: crdts.clone(), bucket: bucket.clone() };
    let visited = (!is_held(crdts, &bucket)).then(visited);
    hold(crdts, &bucket).await?;
    let subscription = crdts.subscribe(&bucket, &prefix).await?;
    let told = json!({ "bucket": bucket, "prefix": prefix });
    Ok((told, Changes { crdts: crdts.clone(), subscription, _visited: visited }))
}

impl Changes {
    /// The next key that has changed, with what it has by now; none if the bucket is not served any more.
    pub(in super::super) async fn next(&mut self) -> Option<Result<Value, Declined>> {
        let delivery = self.subscription.next().await?;
        let (key, kind) = (&delivery.change.key, delivery.change.delta.state.kind());
        let value = match value_of(&self.crdts, key, &kind).await {
            Ok(value) => value,
            Err(error) => return Some(Err(error.into())),
        };
        let (is_local, lost) = (delivery.is_local, delivery.lost);
        Some(Ok(json!({
            "key": &**key, "type": kind.as_str(), "value": value, "local": is_local, "lost": lost,
        })))
    }
}

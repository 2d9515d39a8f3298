//! The client: a clonable way to one node's replicated types.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::KeyDelta;
use super::contract::{Crdt, Delta};
use super::error::Error;
use super::limits::Refused;
use super::proto::{Change, Done, Event, Level, Stats};
use super::session::Session;
use super::types;
use super::vault::{Held, Lane, Vault};
use super::write::Write;

/// The replicated types of this node. Clones are cheap and the same.
///
/// A key is `bucket/rest`: keys of one bucket are replicated together, among the nodes that hold it. A
/// node holds a bucket from its first use on.
///
/// A change is read, told to subscribers and sent to other members before it is on disk: it is certain for
/// whoever made it, once that is acknowledged. A node that loses its power in between takes back from the
/// others what they have of it.
///
/// All methods are cancel safe in that states stay whole: what was asked for by a future that was
/// dropped may have been done.
#[derive(Debug, Clone)]
pub struct Crdts(pub(super) Vault);

impl Crdts {
    /// A key of any type, a user's own among them. `T` is what its elements or values are.
    pub fn key<C: Crdt, T>(&self, key: &str) -> Key<C, T> {
        let bucket = key.split_once('/').map_or("", |(bucket, _)| bucket);
        self.key_in(bucket, key)
    }

    /// A key of a bucket that is not its first segment.
    pub fn key_in<C: Crdt, T>(&self, bucket: &str, key: &str) -> Key<C, T> {
        Key {
            vault: self.0.clone(),
            bucket: bucket.into(),
            key: key.into(),
            level: Level::Local,
            within: Duration::from_millis(self.0.settings().within_ms),
            session: None,
            of: PhantomData,
        }
    }

    /// A set where an addition wins over a removal that has not seen it.
    #[must_use]
    pub fn or_set<T>(&self, key: &str) -> Key<types::OrSet, T> {
        self.key(key)
    }

    /// A set that only grows.
    #[must_use]
    pub fn g_set<T>(&self, key: &str) -> Key<types::GSet, T> {
        self.key(key)
    }

    /// A set where the latest addition or removal of an element counts.
    #[must_use]
    pub fn lww_set<T>(&self, key: &str) -> Key<types::LwwElementSet, T> {
        self.key(key)
    }

    /// A value of which the latest write counts.
    #[must_use]
    pub fn register<T>(&self, key: &str) -> Key<types::LwwRegister, T> {
        self.key(key)
    }

    /// A value that has all writes that did not see each other.
    #[must_use]
    pub fn mv_register<T>(&self, key: &str) -> Key<types::MvRegister, T> {
        self.key(key)
    }

    /// A counter that grows and shrinks.
    #[must_use]
    pub fn counter(&self, key: &str) -> Key<types::PnCounter, ()> {
        self.key(key)
    }

    /// Holds a bucket from now on, if it was not held before.
    ///
    /// # Errors
    ///
    /// [`Error::NoBucket`], [`Error::BucketsMax`], [`Error::Closed`].
    pub async fn hold(&self, bucket: &str) -> Result<(), Error> {
        self.0.hold(&bucket.into()).await.map(drop)
    }

    /// Holds a bucket no more, once so many of its members have all that is here, this node among them: at
    /// least one other, but at [`Level::Local`]. Nobody waits for this node then, what it had on
    /// disk goes, and [subscriptions](Self::subscribe) end. It is nothing if the bucket is not held.
    ///
    /// Changes that are made here meanwhile are refused. A use of the bucket afterwards holds it again.
    ///
    /// # Errors
    ///
    /// [`Failed::NotReached`](super::Failed::NotReached): it is held still, and nothing has changed.
    /// [`Failed::Leaving`](super::Failed::Leaving): somebody lets go of it already. [`Error::Closed`] if it
    /// cannot be taken from disk.
    ///
    /// # Cancel safety
    ///
    /// It goes on if the future is dropped.
    pub async fn release(&self, bucket: &str, level: Level, within: Duration) -> Result<(), Error> {
        let (vault, bucket) = (self.0.clone(), Arc::from(bucket));
        let releasing = async move { vault.release(&bucket, level, within).await };
        tokio::spawn(releasing).await.unwrap_or(Err(Error::NoAnswer))
    }

    /// Holds a bucket no more if it was held for nothing: there is nothing in it, nothing was ever written here,
    /// nobody [subscribes](Self::subscribe), and it is none of those that the node is to hold. Says whether
    /// that was so. It is for whoever looks into buckets that may not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] if it cannot be taken from disk.
    ///
    /// # Cancel safety
    ///
    /// It goes on if the future is dropped.
    pub async fn release_unused(&self, bucket: &str) -> Result<bool, Error> {
        let (vault, bucket) = (self.0.clone(), Arc::from(bucket));
        let releasing = async move { vault.release_unused(&bucket).await };
        tokio::spawn(releasing).await.unwrap_or(Err(Error::NoAnswer))
    }

    /// Whether a key can be used: it names a bucket, and neither is too long. It need not be there.
    ///
    /// # Errors
    ///
    /// [`Error::NoBucket`], [`Error::BucketTooLong`]; [`Refused::KeyTooLong`] as [`Error::Failed`].
    pub fn check(&self, key: &str) -> Result<(), Error> {
        let Some((bucket, _)) = key.split_once('/') else {
            return Err(Error::NoBucket { key: key.into() });
        };
        super::settings::check_bucket(bucket)?;
        Ok(self.0.settings().bucket.limits.check_key(key)?)
    }

    /// The buckets that are held, in order.
    #[must_use]
    pub fn buckets(&self) -> Vec<Arc<str>> {
        self.0.buckets()
    }

    /// The keys of a bucket that begin with a prefix, in order, with the names of their types.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<(Arc<str>, super::kind::Kind)>, Error> {
        let held = self.0.hold(&bucket.into()).await?;
        held.look(|replica| {
            let from = if prefix.is_empty() { Bound::Unbounded } else { Bound::Included(prefix) };
            let entries = replica.bucket().entries(from);
            let entries = entries.take_while(|(key, _)| key.starts_with(prefix));
            entries.map(|(key, entry)| (Arc::clone(key), entry.state().kind())).collect()
        })
    }

    /// Removes a key, whatever its type. What others do to it meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn remove(&self, key: &str, level: Level) -> Result<Done, Error> {
        let key: Key<types::EwFlag, ()> = self.key(key);
        key.at(level).write(Change::removal()).await
    }

    /// The members of a bucket, by their [numbers](super::tree::number_of), this node among them.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub async fn members(&self, bucket: &str) -> Result<Vec<u64>, Error> {
        self.0.hold(&bucket.into()).await?.look(super::proto::Replica::members)
    }

    /// Gives up a member that does not come back, so that nobody waits for it. If it does come back it
    /// begins anew, with what it alone had written.
    ///
    /// Give up members on one side only. If two parts of the members give each other up, and forget what each
    /// thinks that nobody needs, only one of them goes on as it is when they meet again, and the others begin
    /// anew: those go on that have forgotten more often, or as often and were more the last time.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub async fn retire(&self, bucket: &str, member: u64) -> Result<(), Error> {
        let held = self.0.hold(&bucket.into()).await?;
        self.0.tell(&held, Event::Retire(member));
        Ok(())
    }

    /// How full a bucket is, and what was done in it.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub async fn stats(&self, bucket: &str) -> Result<Stats, Error> {
        self.0.hold(&bucket.into()).await?.look(super::proto::Replica::stats)
    }

    /// Every change of a key of a bucket that begins with a prefix, from now on.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold).
    pub async fn subscribe(&self, bucket: &str, prefix: &str) -> Result<Subscription, Error> {
        let held = self.0.hold(&bucket.into()).await?;
        Ok(Subscription { lane: held.listen(), prefix: prefix.into(), lost: 0 })
    }

    /// How many frames were lost on their way out, those that nobody took among them.
    #[must_use]
    pub fn lost_frames(&self) -> u64 {
        self.0.lost()
    }
}

/// A key of one type: what it is read and changed by. Clones are the same key.
pub struct Key<C, T> {
    vault: Vault,
    bucket: Arc<str>,
    pub(super) key: Arc<str>,
    level: Level,
    within: Duration,
    session: Option<Session>,
    of: PhantomData<fn() -> (C, T)>,
}

impl<C, T> Clone for Key<C, T> {
    fn clone(&self) -> Self {
        Self {
            vault: self.vault.clone(),
            bucket: Arc::clone(&self.bucket),
            key: Arc::clone(&self.key),
            session: self.session.clone(),
            ..*self
        }
    }
}

impl<C, T> Debug for Key<C, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("bucket", &self.bucket).field("key", &self.key).finish()
    }
}

impl<C: Crdt, T> Key<C, T> {
    /// The same key, whose writes wait until so many members have them, and whose reads ask so many.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// The same key, whose writes and reads wait for so long at most.
    #[must_use]
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// The same key in a session: reads wait until all is here that was seen and done in it.
    #[must_use]
    pub fn in_session(self, session: &Session) -> Self {
        Self { session: Some(session.clone()), ..self }
    }

    /// Looks at the state, which is bottom if nothing is there. It should not take long: nothing else is
    /// done with the bucket meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error`]: too few members answered, what the session had seen is not here in time, the key is of
    /// another type, or the bucket is not served.
    pub async fn read<R>(&self, look: impl FnOnce(&C) -> R) -> Result<R, Error> {
        let held = self.held().await?;
        let before = self.session.as_ref().and_then(|session| session.token(&self.bucket));
        if let Some(token) = before.clone() {
            let within = self.within;
            let cover = |ticket| Event::Cover { ticket, token, within };
            self.vault.ask(&held, within, cover).await?;
        }
        if self.level != Level::Local {
            let (key, level, within) = (Arc::clone(&self.key), self.level, self.within);
            let read = |ticket| Event::Read { ticket, key, level, within };
            self.vault.ask(&held, within, read).await?;
        }
        let (result, token) = held.look(|replica| {
            let state = replica.bucket().read::<C>(&self.key);
            let result = state.map(|state| match state {
                Some(state) => look(state),
                None => look(&C::default()),
            });
            (result, self.session.as_ref().map(|_| replica.token()))
        })?;
        if let Some((session, token)) = self.session.as_ref().zip(token) {
            session.covered(&self.bucket, before.as_ref(), token);
        }
        Ok(result?)
    }

    /// Changes the state by a mutator of its type, which is given the state, or bottom. Several changes
    /// that belong together are made by [`Changes`](super::Changes). It should not take long.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`]: refused, and nothing changed; or written, and too few members have it yet.
    pub async fn update(
        &self,
        change: impl FnOnce(&C, &mut Write<'_>) -> Result<Delta<C>, Refused> + Send + 'static,
    ) -> Result<Done, Error> {
        self.write(Change::of(change)).await
    }

    /// Removes the key. What others do to it meanwhile stays.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub async fn remove(&self) -> Result<Done, Error> {
        self.write(Change::removal()).await
    }

    /// The bucket, which is held from now on; unless the key can be none.
    async fn held(&self) -> Result<Arc<Held>, Error> {
        self.vault.settings().bucket.limits.check_key(&self.key)?;
        self.vault.hold(&self.bucket).await
    }

    async fn write(&self, change: Change) -> Result<Done, Error> {
        let held = self.held().await?;
        let (key, level, within) = (Arc::clone(&self.key), self.level, self.within);
        let write = |ticket| Event::Write { ticket, key, change, level, within };
        let done = self.vault.ask(&held, within, write).await?;
        if let Some(session) = &self.session {
            session.saw(&self.bucket, &done.token);
        }
        Ok(done)
    }
}

/// Changes as they come. It outlives restarts of the actor, and dropping it ends it.
#[derive(Debug)]
pub struct Subscription {
    lane: Lane,
    prefix: Arc<str>,
    lost: u64,
}

/// A change, and how many of the bucket before it were lost.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The change. Its state is of the [type](super::state::State::of) of the key.
    pub change: Arc<KeyDelta>,
    /// Whether it was made by a user of this node.
    pub is_local: bool,
    /// How many changes of the bucket between the last delivery and this one were lost because the
    /// subscriber was slow. Whoever needs all of them reads the states anew.
    pub lost: u64,
}

impl Subscription {
    /// The next change; none when the bucket is not served any more.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no change and no count of lost ones is lost with it.
    pub async fn next(&mut self) -> Option<Delivery> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.lane.recv().await {
                Ok((change, is_local)) if change.key.starts_with(&*self.prefix) => {
                    let lost = std::mem::take(&mut self.lost);
                    return Some(Delivery { change, is_local, lost });
                }
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => self.lost += lost,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

//! What happens to registers.

use std::sync::Arc;

use super::BUCKET;
use super::client::{self, Register};
use crate::crdt::bucket::KeyDelta;
use crate::crdt::types::LwwRegister;
use crate::crdt::{self, Crdts, Subscription};

/// Where a change came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was made on this node.
    Local,
    /// It was made on another one.
    Remote,
}

/// A register got a new value, or has none any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// The register; none if it was removed.
    pub register: Option<Register>,
    /// Where the change came from.
    pub origin: Origin,
}

/// A change, and how many before it were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The change.
    pub change: Change,
    /// How many changes of registers between the last delivery and this one were lost because the subscriber
    /// was slow. Whoever needs all of them reads the registers anew.
    pub lost: u64,
}

/// Changes as they come. It outlives restarts of the actor, and dropping it ends the subscription.
#[derive(Debug)]
pub struct Changes {
    subscription: Subscription,
    crdts: Crdts,
    lost: u64,
    /// What came, and was not told yet.
    pending: Option<crdt::Delivery>,
}

impl Changes {
    pub(super) const fn new(subscription: Subscription, crdts: Crdts) -> Self {
        Self { subscription, crdts, lost: 0, pending: None }
    }

    /// The next change; none when the registers are not served any more. What this node has done is told as it
    /// was done. After a change of another node it is told what is read now: that may be what was told before,
    /// if the other's write has lost, and something else than it has written or removed, if others have written
    /// meanwhile.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no change and no count of lost ones is lost with it.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.pending.is_none() {
                let delivery = self.subscription.next().await?;
                self.lost += delivery.lost;
                self.pending = Some(delivery);
            }
            let (change, is_local) = match &self.pending {
                Some(pending) => (Arc::clone(&pending.change), pending.is_local),
                None => continue,
            };
            let told = self.told(&change, is_local).await;
            self.pending = None;
            if let Some(change) = told {
                return Some(Delivery { change, lost: std::mem::take(&mut self.lost) });
            }
        }
    }

    /// What is to be told of a change; nothing if somebody has used the key for something else.
    async fn told(&self, change: &KeyDelta, is_local: bool) -> Option<Change> {
        let key = client::name_of(&change.key)?;
        let done = client::register(change.delta.state.of::<LwwRegister>()?);
        if is_local {
            return Some(Change { key, register: done, origin: Origin::Local });
        }
        let register = self.now(&change.key).await.unwrap_or(done);
        Some(Change { key, register, origin: Origin::Remote })
    }

    /// What a key has now. None if that cannot be said, as when the bucket is not held any more: to look would
    /// hold it again.
    async fn now(&self, key: &str) -> Option<Option<Register>> {
        if self.crdts.buckets().iter().all(|held| **held != *BUCKET) {
            return None;
        }
        self.crdts.register::<()>(key).read(client::register).await.ok()
    }
}

//! What happens to registers.

use std::sync::Arc;

use super::BUCKET;
use super::client::{self, Register};
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

    /// The next change; none when the registers are not served any more. A value can be told again when another
    /// node's older write becomes known, and loses.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no change and no count of lost ones is lost with it.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            let delivery = match self.pending.take() {
                Some(pending) => pending,
                None => {
                    let delivery = self.subscription.next().await?;
                    self.lost += delivery.lost;
                    delivery
                }
            };
            self.pending = Some(delivery.clone());
            let full = &delivery.change.key;
            let (Some(key), Some(state)) =
                (client::name_of(full), delivery.change.delta.state.of::<LwwRegister>())
            else {
                // Somebody has used the key for something else.
                self.pending = None;
                continue;
            };
            let register = client::register(state);
            let origin = if delivery.is_local { Origin::Local } else { Origin::Remote };
            let counts = origin == Origin::Local || self.counts(full, register.as_ref()).await;
            self.pending = None;
            if !counts {
                continue;
            }
            let lost = std::mem::take(&mut self.lost);
            return Some(Delivery { change: Change { key, register, origin }, lost });
        }
    }

    /// Whether what another node has done is what is read here now, and not older than that.
    async fn counts(&self, key: &str, changed: Option<&Register>) -> bool {
        if self.crdts.buckets().iter().all(|held| **held != *BUCKET) {
            // To look would hold it again.
            return true;
        }
        let now = self.crdts.register::<()>(key).read(client::register).await;
        match (now, changed) {
            (Ok(Some(now)), Some(changed)) => now.stamp <= changed.stamp,
            (Ok(Some(_)), None) => false,
            _ => true,
        }
    }
}

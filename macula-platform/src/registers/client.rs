//! The client: a clonable way to one node's registers.

use std::sync::Arc;

use macula_core::hlc::Stamp;
use macula_core::supervision::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::actor::Message;
use super::error::Error;
use super::proto::Stats;
use super::register::{Change, Register};

/// The registers of this node. Clones are cheap and the same registers.
///
/// A call waits up to two seconds for an actor that is being restarted, and five seconds in all.
/// All methods are cancel safe in that the table stays whole; a request whose future was dropped
/// may have been carried out.
///
/// ```
/// # use macula_core::clock::TokioClock;
/// # use macula_core::replica::ReplicaId;
/// # use macula_core::supervision::{Supervisor, TreeOptions};
/// # use macula_platform::registers::{self, Vault};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vault = Vault::new(registers::Config::default(), ReplicaId { node: 1, incarnation: 1 })?;
/// let (spec, registers) = registers::worker(vault, TokioClock)?;
/// let root = Supervisor::new("root")?.child(spec).start(TreeOptions::default()).await?;
///
/// registers.put("rooms/7/topic", &"weather").await?;
/// assert_eq!(registers.get::<String>("rooms/7/topic").await?.as_deref(), Some("weather"));
///
/// // The bad day: the key has no bytes, and the table is as it was.
/// let refused = registers.put("", &1).await.unwrap_err();
/// assert_eq!(refused.to_string(), "the key is empty");
/// # root.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Registers {
    handle: Handle<Message>,
}

impl Registers {
    pub(super) const fn new(handle: Handle<Message>) -> Self {
        Self { handle }
    }

    /// The handle of the actor.
    #[must_use]
    pub const fn handle(&self) -> &Handle<Message> {
        &self.handle
    }

    /// Gives a register a value, and says under which stamp it is acknowledged.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if a limit is broken, [`Error::Call`] if there is no answer.
    pub async fn write(
        &self,
        key: impl Into<Arc<str>>,
        value: impl Into<Arc<[u8]>>,
    ) -> Result<Stamp, Error> {
        let (key, value) = (key.into(), value.into());
        Ok(self.handle.call(|port| Message::Write(key, value, port)).await??)
    }

    /// Takes a register's value away. Its key goes on to count for the limit of keys.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn remove(&self, key: impl Into<Arc<str>>) -> Result<Stamp, Error> {
        let key = key.into();
        Ok(self.handle.call(|port| Message::Remove(key, port)).await??)
    }

    /// A register with its stamp; none if it was never written, or was removed. It is what this
    /// node knows, and other nodes may know better.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the key is too long, [`Error::Call`] if there is no answer.
    pub async fn read(&self, key: impl Into<Arc<str>>) -> Result<Option<Register>, Error> {
        let key = key.into();
        Ok(self.handle.call(|port| Message::Read(key, port)).await??)
    }

    /// Writes a value as `MessagePack`, with the names of its fields.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] if it cannot be encoded, and as [`write`](Self::write).
    pub async fn put<T: Serialize + Sync + ?Sized>(
        &self,
        key: impl Into<Arc<str>>,
        value: &T,
    ) -> Result<Stamp, Error> {
        let key = key.into();
        let bytes = rmp_serde::to_vec_named(value)
            .map_err(|error| Error::Encode { key: Arc::clone(&key), why: error.to_string() })?;
        self.write(key, bytes).await
    }

    /// Reads a value that [`put`](Self::put) wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] if the bytes are not a `T`, and as [`read`](Self::read).
    pub async fn get<T: DeserializeOwned>(
        &self,
        key: impl Into<Arc<str>>,
    ) -> Result<Option<T>, Error> {
        let key = key.into();
        let register = self.read(Arc::clone(&key)).await?;
        let Some(bytes) = register.and_then(|register| register.value) else {
            return Ok(None);
        };
        rmp_serde::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Decode { key, why: error.to_string() })
    }

    /// The keys of all registers that have a value and begin with `prefix`, in order.
    ///
    /// It asks for a page at a time: a key that comes or goes meanwhile may or may not be in it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn keys(&self, prefix: impl Into<Arc<str>>) -> Result<Vec<Arc<str>>, Error> {
        let prefix = prefix.into();
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let (prefix, from) = (Arc::clone(&prefix), after.take());
            let page = self.handle.call(|port| Message::Keys(prefix, from, port)).await??;
            keys.extend(page.keys);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(keys),
            }
        }
    }

    /// Every change of a key that begins with `prefix`, from now on. Whoever wants the values too
    /// subscribes first and reads then, so that nothing falls between.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there are too many subscribers, or the prefix is too long.
    pub async fn subscribe(&self, prefix: impl Into<Arc<str>>) -> Result<Changes, Error> {
        let prefix = prefix.into();
        let lane = self.handle.call(|port| Message::Subscribe(prefix, port)).await??;
        Ok(Changes { lane, lost: 0 })
    }

    /// Every local change from now on: the lane of the replicator, of which there is one. An
    /// earlier lane ends.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if there is no answer.
    pub async fn deltas(&self) -> Result<Changes, Error> {
        let lane = self.handle.call(Message::Deltas).await??;
        Ok(Changes { lane, lost: 0 })
    }

    /// Takes a register from another replica, and says whether it won over what was here.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], of which a stamp too far in the future and a full table end with time
    /// or with room: a replicator offers the register again later.
    pub async fn merge(&self, key: impl Into<Arc<str>>, register: Register) -> Result<bool, Error> {
        let key = key.into();
        Ok(self.handle.call(|port| Message::Merge(key, register, port)).await??)
    }

    /// How full the table is.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] if there is no answer.
    pub async fn stats(&self) -> Result<Stats, Error> {
        Ok(self.handle.call(Message::Stats).await??)
    }
}

/// Changes as they come. It outlives restarts of the actor, and dropping it ends the subscription.
#[derive(Debug)]
pub struct Changes {
    lane: broadcast::Receiver<Change>,
    lost: u64,
}

/// A change, and how many before it were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The change.
    pub change: Change,
    /// How many changes between the last delivery and this one were lost because the subscriber
    /// was slow. Whoever needs all of them reads the registers anew.
    pub lost: u64,
}

impl Changes {
    /// The next change; none when the table, or this lane, has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no change and no count of lost ones is lost with it.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.lane.recv().await {
                Ok(change) => {
                    let lost = std::mem::take(&mut self.lost);
                    return Some(Delivery { change, lost });
                }
                Err(RecvError::Lagged(lost)) => self.lost = self.lost.saturating_add(lost),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

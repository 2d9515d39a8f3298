//! The client: a clonable way to one node's registers.

use std::sync::Arc;

use macula_core::hlc::Stamp;
use macula_core::supervision::Handle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BUCKET;
use super::actor::Message;
use super::changes::Changes;
use super::error::Error;
use crate::crdt::proto::Stats;
use crate::crdt::types::LwwRegister;

/// A value with the stamp of its write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Register {
    /// When it was written, and by whom.
    pub stamp: Stamp,
    /// The bytes.
    pub value: Arc<[u8]>,
}

/// The key of a register in its bucket.
pub(super) fn key_of(name: &str) -> String {
    format!("{BUCKET}/{name}")
}

/// The register that has a key in the bucket.
pub(super) fn name_of(key: &str) -> Option<Arc<str>> {
    key.strip_prefix(BUCKET)?.strip_prefix('/').map(Arc::from)
}

/// What a register has; none if it was never written, or was removed.
pub(super) fn register(state: &LwwRegister) -> Option<Register> {
    let (stamp, value) = state.stamp().zip(state.get())?;
    Some(Register { stamp, value: Arc::clone(value) })
}

/// The registers of this node. Clones are cheap and the same registers.
///
/// A call waits up to two seconds for an actor that is being restarted, and five seconds in all.
/// All methods are cancel safe in that the registers stay whole; a request whose future was dropped
/// may have been carried out.
///
/// ```
/// # use macula_platform::registers::Registers;
/// # async fn example(registers: Registers) -> Result<(), Box<dyn std::error::Error>> {
/// registers.put("rooms/7/topic", &"weather").await?;
/// assert_eq!(registers.get::<String>("rooms/7/topic").await?.as_deref(), Some("weather"));
///
/// // The bad day: the key has no bytes, and the registers are as they were.
/// let refused = registers.put("", &1).await.unwrap_err();
/// assert_eq!(refused.to_string(), "the key is empty");
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
    /// [`Error::Refused`] if a limit is broken, [`Error::Call`] if there is no answer, [`Error::Types`] if the
    /// bucket cannot be served; or if so many wait for the disk that nobody waits for this one
    /// ([`Failed::Busy`](crate::crdt::Failed::Busy)), which is done all the same.
    pub async fn write(
        &self,
        key: impl Into<Arc<str>>,
        value: impl Into<Arc<[u8]>>,
    ) -> Result<Stamp, Error> {
        let (key, value) = (key.into(), value.into());
        self.handle.call(|port| Message::Write(key, value, port)).await?
    }

    /// Takes a register's value away, as far as it is known here: a write elsewhere that has not been seen
    /// here stays. Nothing of the register is left behind.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn remove(&self, key: impl Into<Arc<str>>) -> Result<(), Error> {
        let key = key.into();
        self.handle.call(|port| Message::Remove(key, port)).await?
    }

    /// A register with its stamp; none if it was never written, or was removed. It is what this
    /// node knows, and other nodes may know better.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn read(&self, key: impl Into<Arc<str>>) -> Result<Option<Register>, Error> {
        let key = key.into();
        self.handle.call(|port| Message::Read(key, port)).await?
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
        let Some(Register { value, .. }) = register else { return Ok(None) };
        rmp_serde::from_slice(&value)
            .map(Some)
            .map_err(|error| Error::Decode { key, why: error.to_string() })
    }

    /// The keys of all registers that have a value and begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn keys(&self, prefix: impl Into<Arc<str>>) -> Result<Vec<Arc<str>>, Error> {
        let prefix = prefix.into();
        self.handle.call(|port| Message::Keys(prefix, port)).await?
    }

    /// Every change of a key that begins with `prefix`, from now on. Whoever wants the values too
    /// subscribes first and reads then, so that nothing falls between.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn subscribe(&self, prefix: impl Into<Arc<str>>) -> Result<Changes, Error> {
        let prefix = prefix.into();
        self.handle.call(|port| Message::Subscribe(prefix, port)).await?
    }

    /// How full the bucket of the registers is, and what was done in it.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.handle.call(Message::Stats).await?
    }
}

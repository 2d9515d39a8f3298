//! Values of one type.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Kv;
use super::command::{Holds, Item, Revision};
use super::error::Error;

/// The keys of a [`Kv`] whose values are of one type, as MessagePack with the names of its fields.
pub struct Typed<T> {
    kv: Kv,
    of: PhantomData<fn() -> T>,
}

impl<T> Debug for Typed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").field("kv", &self.kv).finish_non_exhaustive()
    }
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self::new(self.kv.clone())
    }
}

impl<T> Typed<T> {
    pub(super) const fn new(kv: Kv) -> Self {
        Self { kv, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Typed<T> {
    /// What a value is in an [`Item`].
    ///
    /// # Errors
    ///
    /// [`Error::Decode`].
    pub fn decode(item: &Item) -> Result<T, Error> {
        rmp_serde::from_slice(&item.value).map_err(|error| {
            let (revision, why) = (item.modified, error.to_string());
            Error::Decode { revision, why }
        })
    }

    /// The bytes of a value.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`].
    pub fn encode(value: &T) -> Result<Bytes, Error> {
        let bytes = rmp_serde::to_vec_named(value);
        bytes.map(Bytes::from).map_err(|error| Error::Encode(error.to_string()))
    }

    /// The value of a key, and its revision; none if it is not there. Linearizable.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<(T, Revision)>, Error> {
        let item = self.kv.get(key).await?;
        item.map(|item| Ok((Self::decode(&item)?, item.modified))).transpose()
    }

    /// Gives a key a value. Gives the revision of that.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn put(&self, key: impl Into<Bytes>, value: &T) -> Result<Revision, Error> {
        // Encoded before anything is awaited, so that the value need not go along.
        let value = Self::encode(value)?;
        self.kv.put(key, value).await
    }

    /// Gives a key a value if it was changed last at a revision, or, if none is given, is not there.
    /// Gives the revision of that; none if it is otherwise.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        revision: Option<Revision>,
        value: &T,
    ) -> Result<Option<Revision>, Error> {
        let value = Self::encode(value)?;
        let holds = revision.map_or(Holds::Absent, Holds::ModifiedAt);
        Ok(self.kv.compare_and_set(key, holds, value).await?.ok())
    }
}

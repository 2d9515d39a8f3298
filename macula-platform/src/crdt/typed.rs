//! Keys whose elements and values are of a type, as `MessagePack` with named fields.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::Key;
use super::contract::Crdt;
use super::error::Error;
use super::proto::Done;
use super::types::{GSet, LwwElementSet, LwwRegister, MvRegister, OrSet, PnCounter};

impl<C: Crdt, T> Key<C, T> {
    fn bytes(&self, value: &T) -> Result<Arc<[u8]>, Error>
    where
        T: Serialize,
    {
        let bytes = rmp_serde::to_vec_named(value).map(Into::into);
        bytes.map_err(|error| Error::Encode { key: Arc::clone(&self.key), why: error.to_string() })
    }

    fn typed(&self, bytes: &[u8]) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        let value = rmp_serde::from_slice(bytes);
        value.map_err(|error| Error::Decode { key: Arc::clone(&self.key), why: error.to_string() })
    }

    fn all_typed(&self, all: Vec<Arc<[u8]>>) -> Result<Vec<T>, Error>
    where
        T: DeserializeOwned,
    {
        all.iter().map(|bytes| self.typed(bytes)).collect()
    }
}

/// What sets have in common.
macro_rules! set {
    ($set:ty, { $($more:item)* }) => {
        impl<T: Serialize + DeserializeOwned> Key<$set, T> {
            /// Adds an element.
            ///
            /// # Errors
            ///
            /// [`Error`]; only after [`Failed::NotReached`](super::proto::Failed::NotReached) it is
            /// added all the same.
            pub async fn add(&self, element: &T) -> Result<Done, Error> {
                let element = self.bytes(element)?;
                self.update(move |set, write| set.add(element, write)).await
            }

            /// Whether an element is in the set.
            ///
            /// # Errors
            ///
            /// [`Error`].
            pub async fn contains(&self, element: &T) -> Result<bool, Error> {
                let element = self.bytes(element)?;
                self.read(move |set| set.contains(&element)).await
            }

            /// The elements, in the order of their bytes.
            ///
            /// # Errors
            ///
            /// [`Error`].
            pub async fn elements(&self) -> Result<Vec<T>, Error> {
                let all = self.read(|set| set.iter().cloned().collect()).await?;
                self.all_typed(all)
            }

            $($more)*
        }
    };
}

set!(OrSet, {
    /// Removes an element, as far as it is known here to be in the set.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn take(&self, element: &T) -> Result<Done, Error> {
        let element = self.bytes(element)?;
        self.update(move |set, _| Ok(set.remove(&element))).await
    }
});

set!(LwwElementSet, {
    /// Removes an element, and takes back additions elsewhere that are earlier.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn take(&self, element: &T) -> Result<Done, Error> {
        let element = self.bytes(element)?;
        self.update(move |set, write| set.remove(element, write)).await
    }
});

set!(GSet, {});

impl<T: Serialize + DeserializeOwned> Key<LwwRegister, T> {
    /// Writes a value.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn set(&self, value: &T) -> Result<Done, Error> {
        let value = self.bytes(value)?;
        self.update(move |register, write| register.set(value, write)).await
    }

    /// The value; none if it was never written or was removed.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get(&self) -> Result<Option<T>, Error> {
        let bytes = self.read(|register| register.get().cloned()).await?;
        bytes.map(|bytes| self.typed(&bytes)).transpose()
    }
}

impl<T: Serialize + DeserializeOwned> Key<MvRegister, T> {
    /// Writes a value in the place of all that are known here.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn set(&self, value: &T) -> Result<Done, Error> {
        let value = self.bytes(value)?;
        self.update(move |register, write| register.set(value, write)).await
    }

    /// The values: several if they were written by nodes that did not hear each other.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn get(&self) -> Result<Vec<T>, Error> {
        let all = self.read(|register| register.values().cloned().collect()).await?;
        self.all_typed(all)
    }
}

impl Key<PnCounter, ()> {
    /// Adds to it, or takes away if it is less than zero.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn count(&self, by: i64) -> Result<Done, Error> {
        self.update(move |counter, write| match by {
            0.. => counter.increment(by.unsigned_abs(), write),
            _ => counter.decrement(by.unsigned_abs(), write),
        })
        .await
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub async fn value(&self) -> Result<i128, Error> {
        self.read(PnCounter::value).await
    }
}

//! The table as the tiers above see it: names of the node's own realm.

use std::time::Duration;

use bytes::Bytes;
use macula_core::port::{Answer, Directory, DirectoryError, Entry, Provider};

use super::client::{Dht, Error};
use super::proto::node::{Failure, Quorum, Stored};
use super::proto::records::Condition;

/// How long a value lasts unless it is put anew. This node stores it anew until then.
const VALUE_TTL: Duration = Duration::from_secs(24 * 3_600);

/// How long an announcement lasts after its node has ended.
const ANNOUNCED_TTL: Duration = Duration::from_secs(300);

impl From<Error> for DirectoryError {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { stored } => Self::Conflict { sequence: stored },
            Error::Failed(Failure::Refused(_)) | Error::Sign(_) => Self::Refused(error.to_string()),
            Error::TooLasting { .. }
            | Error::Exhausted(_)
            | Error::TooLong(_)
            | Error::UnknownSpace { .. } => Self::Refused(error.to_string()),
            Error::Failed(_) | Error::Restarting | Error::TimedOut { .. } => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// Whether enough nodes have taken it.
fn reached(stored: &Stored) -> Result<(), DirectoryError> {
    if stored.is_reached() {
        return Ok(());
    }
    let why = stored.why_not().map_or_else(String::new, ToString::to_string);
    Err(DirectoryError::NotReached { reached: stored.kept, wanted: stored.wanted, why })
}

impl Directory for Dht {
    fn get<'a>(&'a self, name: &'a str) -> Answer<'a, Result<Option<Entry>, DirectoryError>> {
        Box::pin(async move {
            let got = self.get(self.space(), name.as_bytes(), true).await?;
            Ok(got.record.map(|record| {
                let record = record.record();
                Entry {
                    value: record.value.clone(),
                    author: record.author,
                    sequence: record.sequence,
                    agreed: got.agreed,
                    answered: got.answered,
                }
            }))
        })
    }

    fn put<'a>(
        &'a self,
        name: &'a str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Answer<'a, Result<u64, DirectoryError>> {
        Box::pin(async move {
            let condition = match expected {
                None => Condition::Any,
                Some(0) => Condition::Absent,
                Some(sequence) => Condition::Sequence(sequence),
            };
            let place = (self.space(), name.as_bytes());
            let ttl = VALUE_TTL.min(self.rules().limits.record_ttl_max);
            let put = self.put(place, value, ttl, condition, Quorum::Majority);
            let (sequence, stored) = put.await?;
            reached(&stored).map(|()| sequence)
        })
    }

    fn announce<'a>(
        &'a self,
        name: &'a str,
        metadata: Bytes,
    ) -> Answer<'a, Result<(), DirectoryError>> {
        Box::pin(async move {
            let place = (self.space(), name.as_bytes());
            let quorum = Quorum::Majority;
            let ttl = ANNOUNCED_TTL.min(self.rules().limits.provider_ttl_max);
            reached(&self.provide(place, metadata, ttl, quorum).await?)
        })
    }

    fn withdraw<'a>(&'a self, name: &'a str) -> Answer<'a, Result<(), DirectoryError>> {
        Box::pin(async move {
            let place = (self.space(), name.as_bytes());
            reached(&self.withdraw(place, Quorum::Majority).await?)
        })
    }

    fn find<'a>(
        &'a self,
        name: &'a str,
        max: usize,
    ) -> Answer<'a, Result<Vec<Provider>, DirectoryError>> {
        Box::pin(async move {
            let found = self.find(self.space(), name.as_bytes(), max).await?;
            let provider = |found: super::provider::Verified| Provider {
                node: found.provider().node(),
                metadata: found.provider().metadata.clone(),
            };
            Ok(found.providers.into_iter().map(provider).collect())
        })
    }
}

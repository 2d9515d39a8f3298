//! Who leads, as it changes.

use std::time::Duration;

use bytes::Bytes;

use super::error::Error;
use super::name;
use crate::kv::command::{Item, Revision};
use crate::kv::{Kv, Level, Watch, WatchError};

pub use super::name::Leader;

/// Some elections in which somebody leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Their names, in order, and who leads each.
    pub elections: Vec<(String, Leader)>,
    /// Whether there are more after the last one.
    pub has_more: bool,
}

/// How it stands with an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// As of which revision.
    pub revision: Revision,
    /// Who leads; none if nobody does.
    pub leader: Option<Leader>,
    /// Whether others may have led between this and what was observed before. Never for the first.
    pub has_gap: bool,
}

/// Who leads an election: first as it stands, and then each change, in order.
///
/// What is observed may be over already. Who leads for certain is only known to who leads, and only for
/// a time.
#[derive(Debug)]
pub struct Observation(Keyhole);

impl Observation {
    pub(super) const fn new(kv: Kv, key: Bytes) -> Self {
        Self(Keyhole::new(kv, key))
    }

    /// How it stands, and after that the next change, whenever that happens.
    ///
    /// # Errors
    ///
    /// [`Error::Kv`] if no voter has answered for a client's usual time. It goes on with the next call,
    /// and nothing is missed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is lost.
    pub async fn next(&mut self) -> Result<Observed, Error> {
        let Glimpse { revision, item, has_gap } = self.0.next().await?;
        Ok(Observed { revision, leader: item.as_ref().and_then(name::leader), has_gap })
    }
}

/// What a key has, and each change of that.
#[derive(Debug)]
pub(super) struct Keyhole {
    kv: Kv,
    key: Bytes,
    watch: Option<Watch>,
    /// The last that was seen; none at first.
    last: Option<Revision>,
}

#[derive(Debug)]
pub(super) struct Glimpse {
    pub(super) revision: Revision,
    pub(super) item: Option<Item>,
    pub(super) has_gap: bool,
}

impl Keyhole {
    pub(super) const fn new(kv: Kv, key: Bytes) -> Self {
        Self { kv, key, watch: None, last: None }
    }

    /// Cancel safe, as all that it waits for is.
    pub(super) async fn next(&mut self) -> Result<Glimpse, crate::kv::Error> {
        loop {
            let Some(watch) = &mut self.watch else {
                return self.look().await;
            };
            match watch.next().await {
                // The prefix has longer keys, too.
                Ok(event) if event.key != self.key => {}
                Ok(event) => {
                    self.last = Some(event.revision);
                    let (revision, item) = (event.revision, event.item);
                    return Ok(Glimpse { revision, item, has_gap: false });
                }
                Err(WatchError::NoAnswer(why)) => return Err(crate::kv::Error::NotDone(why)),
                // It has ended: it is looked at anew.
                Err(WatchError::Gap { .. } | WatchError::Refused(_)) => self.watch = None,
            }
        }
    }

    /// How it stands now, and a watch from there.
    async fn look(&mut self) -> Result<Glimpse, crate::kv::Error> {
        let to = Some(Bytes::from([self.key.as_ref(), &[0]].concat()));
        let page = self.kv.range(self.key.clone(), to, 1, Level::Linearizable).await?;
        let watch = self.kv.watch(self.key.clone(), Some(page.revision)).await?;
        let has_gap = self.last.is_some();
        (self.watch, self.last) = (Some(watch), Some(page.revision));
        let item = page.items.into_iter().next().map(|(_, item)| item);
        Ok(Glimpse { revision: page.revision, item, has_gap })
    }

    /// As [`next`](Self::next), for one who has nothing else to do than to try again.
    pub(super) async fn insist(mut self, pause: Duration) -> (Self, Glimpse) {
        loop {
            match self.next().await {
                Ok(glimpse) => return (self, glimpse),
                Err(_) => tokio::time::sleep(pause).await,
            }
        }
    }
}

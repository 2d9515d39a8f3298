//! Who waits for the disk.

use std::time::Duration;

use super::super::media::StoreError;
use super::{Bug, FILE, LogStore, WAITING_LEN_MAX};

/// What is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flushed {
    /// How many writes, in their order.
    pub(super) writes: u64,
    /// How many bytes of all that were appended, with those that the log had when it was opened.
    pub(super) len: u64,
    /// All entries before this index.
    pub(super) before: u64,
    /// A write has failed, and nothing more comes to disk.
    pub(super) has_failed: bool,
}

impl LogStore {
    /// Waits until all that was written before is on disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if it will not be.
    pub(in super::super) async fn flushed(&self) -> Result<(), StoreError> {
        let sent = self.0.tail.lock().sent;
        self.until(|flushed| flushed.writes >= sent).await
    }

    /// Waits until what this member is to acknowledge is on disk: the entries up to an index, that it has
    /// now. One that another leader has truncated since is not waited for in vain.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if they will not be.
    pub(in super::super) async fn acknowledged(
        &self,
        index: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(index) = index else { return Ok(()) };
        if index < self.0.tail.lock().flushed || self.has(Bug::AcknowledgesEarly) {
            return Ok(());
        }
        self.flushed().await
    }

    /// Waits until the entries up to an index are on disk. If they are truncated meanwhile, it waits for
    /// those that come in their place.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if they will not be.
    pub(in super::super) async fn flushed_to(&self, index: u64) -> Result<(), StoreError> {
        self.until(|flushed| flushed.before > index).await
    }

    /// Waits until what waits for the disk is not too much.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if nothing more comes to disk.
    pub(super) async fn not_too_far(&self) -> Result<(), StoreError> {
        if self.0.flushed.borrow().has_failed {
            return Err(StoreError::Failed { file: FILE });
        }
        let appended = self.0.tail.lock().appended_len;
        self.until(|flushed| appended - flushed.len < WAITING_LEN_MAX).await
    }

    async fn until(&self, is_there: impl Fn(&Flushed) -> bool) -> Result<(), StoreError> {
        let failed = StoreError::Failed { file: FILE };
        let mut flushed = self.0.flushed.subscribe();
        let now = flushed.wait_for(|now| now.has_failed || is_there(now)).await.map(|now| *now);
        match now {
            Ok(now) if is_there(&now) => Ok(()),
            Ok(_) | Err(_) => Err(failed),
        }
    }

    /// Waits until nothing more comes to disk, or nothing has come for so long though something waited:
    /// then it ends within twice that time.
    pub(in super::super) async fn failed(&self, patience: Duration) -> StoreError {
        let mut flushed = self.0.flushed.subscribe();
        loop {
            let now = *flushed.borrow_and_update();
            if now.has_failed {
                return StoreError::Failed { file: FILE };
            }
            let has_waiting = self.0.tail.lock().sent > now.writes;
            let came = tokio::time::timeout(patience, flushed.changed()).await;
            if came.is_err() && has_waiting {
                let why = format!("the disk has brought nothing about for {patience:?}");
                return StoreError::Io { file: FILE, why };
            }
        }
    }
}

//! One kind of worker in several partitions, each with a share of the keys. Elixir's
//! `PartitionSupervisor`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;
use ractor::Actor;
use tokio::sync::Mutex as AsyncMutex;

use crate::path::{ChildId, InvalidId};

use super::error::AdminError;
use super::handle::Handle;
use super::policy::Strategy;
use super::spec::{ChildSpec, Worker};
use super::supervisor::{Supervisor, SupervisorHandle};

/// The most partitions of one supervisor.
pub const PARTITIONS_MAX: usize = 65_536;

/// Why there are no such partitions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// None, or more than [`PARTITIONS_MAX`].
    #[error("the number of partitions must be from 1 to {PARTITIONS_MAX}, and is {0}")]
    Count(usize),
    /// The supervisor's id is not one.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// A partition could not be started or stopped; those before it were.
    #[error("partition {index}: {source}")]
    Partition {
        /// Which one.
        index: usize,
        /// Why.
        source: AdminError,
    },
}

type Make<A> = dyn Fn(usize) -> Worker<A> + Send + Sync;

/// A supervisor of partitions, before it is started.
///
/// Each partition is a worker with its number as id. They fail alone (`one_for_one`), and a restart
/// of the supervisor brings back as many as there were last.
pub struct PartitionSupervisor<A: Actor> {
    supervisor: Supervisor,
    count: usize,
    make: Arc<Make<A>>,
}

impl<A: Actor> std::fmt::Debug for PartitionSupervisor<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionSupervisor")
            .field("supervisor", &self.supervisor)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl<A: Actor> PartitionSupervisor<A> {
    /// A supervisor of `count` partitions, each made by `make` from its number.
    ///
    /// The id that `make` gives its worker is replaced by the number.
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if the count or the id is out of range.
    pub fn new(
        id: impl Into<String>,
        count: usize,
        make: impl Fn(usize) -> Worker<A> + Send + Sync + 'static,
    ) -> Result<Self, PartitionError> {
        check(count)?;
        let supervisor = Supervisor::new(id)?.strategy(Strategy::OneForOne).durable();
        Ok(Self { supervisor, count, make: Arc::new(make) })
    }

    /// How many restarts are allowed in `period`; one more, and the supervisor gives up.
    #[must_use]
    pub fn intensity(mut self, intensity: u32, period: std::time::Duration) -> Self {
        self.supervisor = self.supervisor.intensity(intensity, period);
        self
    }

    /// The spec for another supervisor's list, and the way to the partitions.
    #[must_use]
    pub fn split(self) -> (ChildSpec, Partitions<A>) {
        let mut supervisor = self.supervisor;
        let mut handles = Vec::with_capacity(self.count);
        for index in 0..self.count {
            let (spec, handle) = partition(&*self.make, index);
            supervisor = supervisor.child(spec);
            handles.push(handle);
        }
        let (spec, supervisor) = supervisor.split();
        let shared = Shared {
            supervisor,
            handles: RwLock::new(handles),
            resizing: AsyncMutex::new(()),
            make: self.make,
        };
        (spec, Partitions(Arc::new(shared)))
    }
}

fn partition<A: Actor>(make: &Make<A>, index: usize) -> (ChildSpec, Handle<A::Msg>) {
    // A number is an id whatever it is.
    let worker = make(index);
    match ChildId::new(index.to_string()) {
        Ok(id) => worker.id(id).split(),
        Err(_) => worker.split(),
    }
}

const fn check(count: usize) -> Result<(), PartitionError> {
    if count == 0 || count > PARTITIONS_MAX {
        return Err(PartitionError::Count(count));
    }
    Ok(())
}

struct Shared<A: Actor> {
    supervisor: SupervisorHandle,
    handles: RwLock<Vec<Handle<A::Msg>>>,
    /// Resizes are made one after the other.
    resizing: AsyncMutex<()>,
    make: Arc<Make<A>>,
}

/// The way to the partitions. Clones are the same partitions.
pub struct Partitions<A: Actor>(Arc<Shared<A>>);

impl<A: Actor> Clone for Partitions<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> std::fmt::Debug for Partitions<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitions")
            .field("supervisor", &self.0.supervisor)
            .field("len", &self.len())
            .finish()
    }
}

impl<A: Actor> Partitions<A> {
    /// How many partitions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.handles.read().len()
    }

    /// Never: there is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The partition that a key belongs to: the same for as long as the number of partitions is.
    ///
    /// # Panics
    ///
    /// Never: there is always a partition.
    #[must_use]
    pub fn route<K: Hash + ?Sized>(&self, key: &K) -> Handle<A::Msg> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let handles = self.0.handles.read();
        let index = jump(hasher.finish(), handles.len());
        #[expect(
            clippy::indexing_slicing,
            reason = "a jump lands below the length, which is not 0"
        )]
        handles[index].clone()
    }

    /// The partition of a number.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Handle<A::Msg>> {
        self.0.handles.read().get(index).cloned()
    }

    /// The supervisor of the partitions.
    #[must_use]
    pub fn supervisor(&self) -> &SupervisorHandle {
        &self.0.supervisor
    }

    /// Changes the number of partitions. About one key in `count` moves for each that is added or
    /// taken away; state that belongs to a moved key is the workers' own affair.
    ///
    /// New partitions are routed to when they run; those that go away are stopped after the last
    /// key has been routed to them.
    ///
    /// # Errors
    ///
    /// [`PartitionError`]; as many partitions as succeeded are there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, some partitions may have been added or taken away.
    pub async fn resize(&self, count: usize) -> Result<(), PartitionError> {
        check(count)?;
        let _alone = self.0.resizing.lock().await;
        while self.len() < count {
            let index = self.len();
            let (spec, handle) = partition(&*self.0.make, index);
            let mut started = self.0.supervisor.start_child(spec.clone()).await;
            if let Err(AdminError::AlreadyStarted(_) | AdminError::AlreadyPresent(_)) = &started {
                // A resize that was given up has left it behind.
                started = match self.remove(index).await {
                    Ok(()) => self.0.supervisor.start_child(spec).await,
                    Err(error) => Err(error),
                };
            }
            started.map_err(|source| PartitionError::Partition { index, source })?;
            self.0.handles.write().push(handle);
        }
        while self.len() > count {
            let popped = self.0.handles.write().pop();
            drop(popped);
            let index = self.len();
            self.remove(index)
                .await
                .map_err(|source| PartitionError::Partition { index, source })?;
        }
        Ok(())
    }

    async fn remove(&self, index: usize) -> Result<(), AdminError> {
        let id = ChildId::new(index.to_string())?;
        self.0.supervisor.terminate_child(id.clone()).await?;
        match self.0.supervisor.delete_child(id).await {
            // A temporary partition has left the list by being terminated.
            Ok(()) | Err(AdminError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Jump consistent hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm",
/// 2014): few keys move when the number of buckets changes.
fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0_u64, 0_u64);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let scale = 1_u64 << 31;
        next = (bucket + 1).saturating_mul(scale) / ((key >> 33) + 1);
    }
    usize::try_from(bucket).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::jump;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_stays_or_moves_to_the_new_bucket(key: u64, buckets in 1_usize..200) {
            let (before, after) = (jump(key, buckets), jump(key, buckets + 1));
            prop_assert!(before < buckets);
            prop_assert!(after == before || after == buckets);
        }
    }

    #[test]
    fn keys_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        for key in 0..10_000_u64 {
            counts[jump(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), 10)] += 1;
        }
        assert!(counts.iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
    }
}

//! What outlives the actor: the replicas of all buckets that a node holds, and those who wait for them.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use macula_core::clock::{Clock as _, TokioClock};
use macula_core::deadlines::Deadlines;
use macula_core::entropy::Entropy;
use macula_core::identity::NodeId;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use tokio::sync::{Notify, mpsc, oneshot};

use super::disk::Disk;
use super::error::Error;
use super::metrics;
use super::proto::{Done, Event, Failed, Input, Level, Parts, Replica, Saved};
use super::settings::{self, Settings};
use super::state::Kinds;
use crate::raft::media::{Folder, Medium};

pub(super) use held::{Held, Lane};

/// A frame on its way to another node.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) to: NodeId,
    pub(super) bucket: Arc<str>,
    pub(super) frame: Bytes,
}

/// What a node needs to hold buckets.
#[derive(Debug)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// A number that no earlier process of the node had: milliseconds since the Unix epoch.
    pub new_life: u64,
    /// What is drawn from: no two processes of a realm have the same.
    pub seed: u64,
}

/// The buckets of one node, held outside the actor that carries what they say.
///
/// An actor that is killed or panics comes back to the same vault, so what was written is still there.
/// What is asked of this node alone is done on the spot, whether the actor runs or not. Clones are the
/// same vault.
#[derive(Clone)]
pub(super) struct Vault(Arc<Shared>);

struct Shared {
    settings: Settings,
    kinds: Arc<Kinds>,
    origin: Origin,
    disk: Option<Result<Disk, String>>,
    buckets: RwLock<BTreeMap<Arc<str>, Arc<Held>>>,
    /// Held while a bucket is read from disk. It is waited for where waiting is allowed.
    loading: Mutex<()>,
    /// The buckets that are to be read from disk.
    opening: Mutex<Vec<Arc<str>>>,
    near: Mutex<BTreeMap<u64, NodeId>>,
    post: Mutex<Option<mpsc::Sender<Parcel>>>,
    alarms: Mutex<Deadlines<Arc<str>>>,
    bell: Notify,
    tickets: AtomicU64,
    lost: AtomicU64,
    /// As which life buckets are opened.
    life: AtomicU64,
    /// The buckets that are held from the start on: those that the node is to hold, and those that it has on
    /// disk.
    held_first: Vec<Arc<str>>,
    /// Of these those that were let go of.
    released: Mutex<BTreeSet<Arc<str>>>,
    seeds: Mutex<Entropy>,
}

impl Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let buckets: Vec<Arc<str>> = self.0.buckets.read().keys().cloned().collect();
        f.debug_struct("Vault").field("buckets", &buckets).finish_non_exhaustive()
    }
}

/// The number of a node in buckets: the first 8 bytes of its name.
#[must_use]
pub fn number_of(node: NodeId) -> u64 {
    let first = node.as_bytes().first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

/// The time now: monotonic, and of the calendar.
fn time() -> (Instant, Duration) {
    (TokioClock.now(), TokioClock.since_epoch())
}

impl Vault {
    /// A vault without buckets. If there is a folder its file is opened, and looked at as a whole.
    ///
    /// # Errors
    ///
    /// [`settings::Invalid`]. A file that is damaged is told when a bucket that is kept there is used.
    pub(super) fn new(
        settings: Settings,
        kinds: Kinds,
        origin: Origin,
    ) -> Result<Self, settings::Invalid> {
        let medium = settings.folder.clone().map(Folder);
        Self::on(settings, kinds, origin, medium.as_ref().map(|folder| folder as &dyn Medium))
    }

    /// A vault with another medium than a folder.
    pub(super) fn on(
        settings: Settings,
        kinds: Kinds,
        origin: Origin,
        medium: Option<&dyn Medium>,
    ) -> Result<Self, settings::Invalid> {
        settings.check()?;
        let disk = medium.map(|medium| {
            Disk::open(medium).map_err(|error| {
                tracing::error!(%error, "replicated types that are kept on disk are not served");
                error.to_string()
            })
        });
        let mut held_first: Vec<Arc<str>> =
            settings.hold.iter().map(|name| Arc::from(name.as_str())).collect();
        if let Some(Ok(disk)) = &disk {
            let kept = disk.buckets().unwrap_or_else(|error| {
                tracing::error!(%error, "the buckets that are on disk are held once they are used");
                Vec::new()
            });
            held_first.extend(kept.into_iter().filter(|name| settings.is_durable(name)));
        }
        held_first.sort();
        held_first.dedup();
        let seeds = Mutex::new(Entropy::from_seed(origin.seed));
        let life = AtomicU64::new(origin.new_life);
        Ok(Self(Arc::new(Shared {
            settings,
            kinds: Arc::new(kinds),
            origin,
            disk,
            buckets: RwLock::default(),
            loading: Mutex::default(),
            opening: Mutex::default(),
            near: Mutex::default(),
            post: Mutex::default(),
            alarms: Mutex::default(),
            bell: Notify::new(),
            tickets: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            life,
            held_first,
            released: Mutex::default(),
            seeds,
        })))
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The buckets that are held.
    pub(super) fn buckets(&self) -> Vec<Arc<str>> {
        self.0.buckets.read().keys().cloned().collect()
    }

    pub(super) fn held(&self, bucket: &str) -> Option<Arc<Held>> {
        self.0.buckets.read().get(bucket).cloned()
    }

    /// Holds a bucket from now on, with what it has on disk if it is kept there.
    pub(super) async fn hold(&self, bucket: &Arc<str>) -> Result<Arc<Held>, Error> {
        if let Some(held) = self.held(bucket) {
            return Ok(held);
        }
        settings::check_bucket(bucket)?;
        if !self.0.settings.is_durable(bucket) {
            let buckets = self.0.buckets.write();
            if let Some(held) = buckets.get(bucket) {
                return Ok(Arc::clone(held));
            }
            self.check_room(bucket, buckets.len())?;
            // As a life that nobody else writes as: it ends only with the bucket.
            let replica = self.replica(bucket, None)?;
            return Ok(self.open(buckets, bucket, replica, None));
        }
        let (vault, name) = (self.clone(), Arc::clone(bucket));
        let opened = tokio::task::spawn_blocking(move || vault.load(&name)).await;
        opened.unwrap_or(Err(Error::NoAnswer))
    }

    /// Holds a bucket with what it has on disk. The other buckets go on meanwhile.
    fn load(&self, bucket: &Arc<str>) -> Result<Arc<Held>, Error> {
        let closed = |why: String| Error::Closed { bucket: Arc::clone(bucket), why };
        let _opening = Opening::of(self, bucket);
        let _one_at_a_time = self.0.loading.lock();
        if let Some(held) = self.held(bucket) {
            return Ok(held);
        }
        self.check_room(bucket, self.0.buckets.read().len())?;
        let disk = self.0.disk.as_ref().ok_or_else(|| closed("there is no disk".to_owned()))?;
        let disk = disk.as_ref().map_err(|why| closed(why.clone()))?.clone();
        let saved = disk.load(bucket).map_err(|error| {
            tracing::error!(%error, bucket = &**bucket, "the bucket is not served");
            closed(error.to_string())
        })?;
        let replica = self.replica(bucket, Some(saved))?;
        let buckets = self.0.buckets.write();
        self.check_room(bucket, buckets.len())?;
        Ok(self.open(buckets, bucket, replica, Some(disk)))
    }

    fn check_room(&self, bucket: &Arc<str>, buckets: usize) -> Result<(), Error> {
        let buckets_max = self.0.settings.buckets_max;
        if buckets >= buckets_max {
            return Err(Error::BucketsMax { bucket: Arc::clone(bucket), buckets_max });
        }
        Ok(())
    }

    fn replica(&self, bucket: &Arc<str>, saved: Option<Saved>) -> Result<Replica, Error> {
        let parts = Parts {
            config: self.0.settings.bucket,
            kinds: Arc::clone(&self.0.kinds),
            node: number_of(self.0.origin.node),
            life: self.0.life.load(Ordering::Relaxed),
            seed: self.0.seeds.lock().next_u64(),
            saved,
        };
        let closed = |why: String| Error::Closed { bucket: Arc::clone(bucket), why };
        Replica::new(parts).map_err(|error| closed(error.to_string()))
    }

    fn open(
        &self,
        mut buckets: RwLockWriteGuard<'_, BTreeMap<Arc<str>, Arc<Held>>>,
        bucket: &Arc<str>,
        replica: Replica,
        disk: Option<Disk>,
    ) -> Arc<Held> {
        let changes_len_max = self.0.settings.changes_len_max;
        let held = Arc::new(Held::new(Arc::clone(bucket), replica, disk, changes_len_max));
        buckets.insert(Arc::clone(bucket), Arc::clone(&held));
        drop(buckets);
        self.0.released.lock().remove(bucket);
        let near = self.0.near.lock().keys().copied().collect();
        self.tell(&held, Event::Near(near));
        held
    }

    /// Whether a bucket that is not held will be in a moment: who asks is not told that it is not.
    fn is_opening(&self, bucket: &str) -> bool {
        let opening = self.0.opening.lock().iter().any(|name| **name == *bucket);
        opening || self.to_hold().iter().any(|name| **name == *bucket)
    }

    /// Holds a bucket no more, once enough others have what was written here. What it had on disk goes.
    pub(super) async fn release(
        &self,
        bucket: &Arc<str>,
        level: Level,
        within: Duration,
    ) -> Result<(), Error> {
        let Some(held) = self.held(bucket) else { return Ok(()) };
        self.ask(&held, within, |ticket| Event::Leave { ticket, level, within }).await?;
        self.gone(bucket, &held).await
    }

    /// Holds a bucket no more if nothing is in it, nothing was written here, nobody listens, and it is not
    /// one of those that are held from the start on. Says whether that was so.
    pub(super) async fn release_unused(&self, bucket: &Arc<str>) -> Result<bool, Error> {
        let Some(held) = self.held(bucket) else { return Ok(false) };
        let is_kept = self.0.settings.hold.iter().any(|name| **name == **bucket);
        if is_kept || held.is_listened_to() {
            return Ok(false);
        }
        match self.ask(&held, PATIENCE, |ticket| Event::LeaveUnused { ticket }).await {
            Ok(_left) => self.gone(bucket, &held).await.map(|()| true),
            Err(Error::Failed(Failed::Used | Failed::Leaving)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a bucket had here goes, after its replica has left.
    async fn gone(&self, bucket: &Arc<str>, held: &Held) -> Result<(), Error> {
        held.close("it is being let go of".to_owned());
        held.erase().await?;
        // It may be held again, and must not write then as the one that it was.
        let wall_ms = u64::try_from(TokioClock.since_epoch().as_millis()).unwrap_or(u64::MAX);
        let before = self.0.life.fetch_add(1, Ordering::Relaxed);
        self.0.life.fetch_max(wall_ms.max(before.saturating_add(1)), Ordering::Relaxed);
        if self.0.held_first.contains(bucket) {
            self.0.released.lock().insert(Arc::clone(bucket));
        }
        self.0.buckets.write().remove(bucket);
        metrics::forget(bucket);
        Ok(())
    }

    /// The buckets that the node is to hold without being asked to.
    pub(super) fn to_hold(&self) -> Vec<Arc<str>> {
        let released = self.0.released.lock();
        self.0.held_first.iter().filter(|name| !released.contains(*name)).cloned().collect()
    }

    /// A node takes no frames.
    pub(super) fn declined(&self, node: NodeId, bucket: &str) {
        if let Some(held) = self.held(bucket) {
            self.tell(&held, Event::Declined(number_of(node)));
        }
    }

    /// These nodes are in reach now.
    pub(super) fn set_near(&self, nodes: &BTreeSet<NodeId>) {
        let near: BTreeMap<u64, NodeId> =
            nodes.iter().map(|node| (number_of(*node), *node)).collect();
        let numbers: BTreeSet<u64> = near.keys().copied().collect();
        *self.0.near.lock() = near;
        let all: Vec<Arc<Held>> = self.0.buckets.read().values().cloned().collect();
        for held in all {
            self.tell(&held, Event::Near(numbers.clone()));
        }
    }

    /// Tells a replica that something has happened.
    pub(super) fn tell(&self, held: &Arc<Held>, event: Event) {
        let (now, wall) = time();
        held.handle(self, now, Input { wall, event }, None);
    }

    /// Takes a frame of another node. Says whether the bucket is held here, or about to be: then the frame is
    /// lost.
    pub(super) fn receive(&self, from: NodeId, bucket: &str, frame: Bytes) -> bool {
        let held = self.held(bucket);
        if let Some(held) = &held {
            self.tell(held, Event::Frame { from: number_of(from), frame });
        }
        held.is_some() || self.is_opening(bucket)
    }

    /// Asks a replica for something that has an end.
    pub(super) async fn ask(
        &self,
        held: &Arc<Held>,
        within: Duration,
        event: impl FnOnce(u64) -> Event,
    ) -> Result<Done, Error> {
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let (now, wall) = time();
        let input = Input { wall, event: event(ticket) };
        let Some(waiting) = held.handle(self, now, input, Some(ticket)) else {
            return Err(held.why_closed());
        };
        let waiting = match waiting {
            Asked::Ended(result) => return Ok(result?),
            Asked::Waits(waiting) => waiting,
        };
        let _cancel = Cancel { vault: self, held, ticket };
        // The replica says itself that it is late, unless nobody wakes it.
        match tokio::time::timeout(within + PATIENCE, waiting).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_gone)) => Err(held.why_closed()),
            Err(_late) => Err(Error::NoAnswer),
        }
    }

    /// A new life of the actor takes what is to be sent from now on.
    pub(super) fn connect(&self, post: mpsc::Sender<Parcel>) {
        *self.0.post.lock() = Some(post);
    }

    /// Puts a frame into the post. Without an actor, or if the post is full, it is lost.
    fn send(&self, to: u64, bucket: &Arc<str>, frame: Bytes) {
        let to = self.0.near.lock().get(&to).copied();
        let post = self.0.post.lock();
        let taken = to.zip(post.as_ref()).is_some_and(|(to, post)| {
            post.try_send(Parcel { to, bucket: Arc::clone(bucket), frame }).is_ok()
        });
        if !taken {
            self.lose();
        }
    }

    pub(super) fn lose(&self) {
        self.0.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// How many frames were lost before they were sent.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Has a replica woken at some time.
    fn set_alarm(&self, bucket: &Arc<str>, at: Instant) {
        let mut alarms = self.0.alarms.lock();
        let is_first = alarms.next().is_none_or(|(first, _)| at < first);
        alarms.set(Arc::clone(bucket), at);
        if is_first {
            self.0.bell.notify_one();
        }
    }

    /// When the next replica is to be woken.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.0.alarms.lock().next().map(|(at, _)| at)
    }

    /// Waits until [`next_alarm`](Self::next_alarm) is sooner than before.
    pub(super) async fn rung(&self) {
        self.0.bell.notified().await;
    }

    /// Wakes one replica that is due. Says whether there was one.
    pub(super) fn wake(&self) -> bool {
        let (now, _) = time();
        let Some(bucket) = self.0.alarms.lock().due(now) else { return false };
        if let Some(held) = self.held(&bucket) {
            held.wake(self, now);
        }
        true
    }
}

/// Says of a bucket that it is to be read from disk, until it was.
struct Opening<'a>(&'a Vault, &'a Arc<str>);

impl<'a> Opening<'a> {
    fn of(vault: &'a Vault, bucket: &'a Arc<str>) -> Self {
        vault.0.opening.lock().push(Arc::clone(bucket));
        Self(vault, bucket)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut opening = self.0.0.opening.lock();
        if let Some(place) = opening.iter().position(|name| name == self.1) {
            opening.swap_remove(place);
        }
    }
}

/// How much longer than a replica says itself its answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of asking a replica.
pub(super) enum Asked {
    Ended(Result<Done, Failed>),
    Waits(oneshot::Receiver<Result<Done, Failed>>),
}

/// Nobody waits any more once it is dropped.
struct Cancel<'a> {
    vault: &'a Vault,
    held: &'a Arc<Held>,
    ticket: u64,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        self.vault.tell(self.held, Event::Cancel(self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use macula_core::identity::Keypair;

    use super::*;
    use crate::raft::media::Memory;

    #[tokio::test]
    async fn while_a_bucket_is_read_from_disk_the_others_go_on_and_nobody_is_told_that_it_is_none()
    {
        let node = Keypair::from_seed([1; 32]).node_id();
        let origin = Origin { node, new_life: 1, seed: 1 };
        let settings = Settings {
            folder: Some("unused".into()),
            durable: vec!["kept".to_owned()],
            hold: vec!["later".to_owned()],
            ..Settings::default()
        };
        let vault =
            Vault::on(settings, Kinds::default(), origin, Some(&Memory::default())).unwrap();
        let (done, end) = oneshot::channel::<()>();
        let (begun, loading) = oneshot::channel::<()>();
        let holder = vault.clone();
        // The disk is busy until it is told to be so no more.
        let disk = std::thread::spawn(move || {
            let _loading = holder.0.loading.lock();
            begun.send(()).unwrap();
            end.blocking_recv().unwrap();
        });
        loading.await.unwrap();
        let (kept, taking) = ("kept".into(), vault.clone());
        let held = tokio::spawn(async move { taking.hold(&kept).await.map(drop) });
        while vault.0.opening.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(vault.hold(&"others".into()).now_or_never().unwrap().is_ok());
        assert_eq!(vault.buckets(), ["others".into()]);
        for (bucket, is_known) in [("others", true), ("kept", true), ("later", true), ("no", false)]
        {
            assert_eq!(vault.receive(node, bucket, Replica::stranger()), is_known, "{bucket}");
        }
        done.send(()).unwrap();
        held.await.unwrap().unwrap();
        disk.join().unwrap();
        assert_eq!(vault.buckets(), ["kept".into(), "others".into()]);
        assert!(vault.0.opening.lock().is_empty());
    }
}

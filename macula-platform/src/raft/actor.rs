//! The supervised actor that holds a member, and the place where the others find it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use macula_core::identity::NodeId;
use macula_core::path::InvalidId;
use macula_core::port::{Answer, Serve};
use macula_core::supervision::{Shutdown, Start, Worker};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::machine::Replicated;
use super::media::{StoreError, set_aside};
use super::member::{Member, Parts, StartError};
use super::types::MemberId;
use super::{log, snapshots};

/// How long a member has to bring to disk what it has.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The member of this node, in whichever life. Clones are the same.
pub struct Group<R>(Arc<Place<R>>);

struct Place<R> {
    standing: ArcSwap<Standing<R>>,
    /// As what the next life of the actor begins, if not as what its files say.
    anew: Mutex<Option<Anew>>,
}

/// What there is of a member.
pub enum Standing<R> {
    /// It is being started, or has ended.
    Away,
    /// It runs.
    Here(Arc<Member<R>>),
    /// Its files are damaged. They are left as they are, and nothing is served that might be a lie.
    Damaged(Arc<StoreError>),
}

impl<R> Clone for Group<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Debug for Group<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&**self.0.standing.load(), f)
    }
}

impl<R> Debug for Standing<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away => f.write_str("Away"),
            Self::Here(member) => f.debug_tuple("Here").field(member).finish(),
            Self::Damaged(error) => f.debug_tuple("Damaged").field(error).finish(),
        }
    }
}

impl<R> Default for Group<R> {
    fn default() -> Self {
        let standing = ArcSwap::from_pointee(Standing::Away);
        Self(Arc::new(Place { standing, anew: Mutex::default() }))
    }
}

impl<R: Replicated> Group<R> {
    /// What there is of the member now.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing<R>> {
        self.0.standing.load_full()
    }

    /// Has another member be the one of this node, or none.
    #[cfg(test)]
    pub(crate) fn put(&self, member: Option<Arc<Member<R>>>) {
        self.0.standing.store(Arc::new(member.map_or(Standing::Away, Standing::Here)));
    }

    /// The member, if it runs.
    #[must_use]
    pub fn member(&self) -> Option<Arc<Member<R>>> {
        match &**self.0.standing.load() {
            Standing::Here(member) => Some(Arc::clone(member)),
            Standing::Away | Standing::Damaged(_) => None,
        }
    }
}

impl<R: Replicated> Serve for Group<R> {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        match &**self.0.standing.load() {
            Standing::Here(member) => member.serve().serve(from, question),
            Standing::Away => Box::pin(async { Err("the member is being restarted".to_owned()) }),
            Standing::Damaged(error) => {
                let why = error.to_string();
                Box::pin(async move { Err(why) })
            }
        }
    }
}

/// The worker that holds the member of this node, and where the others find it. If it founds a group
/// it is the only member, unless its files know others.
///
/// # Errors
///
/// Never: its id is one.
pub fn worker<R: Replicated>(
    parts: Parts,
    founds: bool,
) -> Result<(Worker<Keeper<R>>, Group<R>), InvalidId> {
    let group = Group::default();
    let place = group.clone();
    let make = move |_: &_| {
        let actor = Keeper { place: place.clone(), founds };
        Ok(Start::Run(actor, parts.clone()))
    };
    Ok((Worker::with("raft", make)?.shutdown(Shutdown::Timeout(STOP_WITHIN)), group))
}

/// Holds the member.
#[derive(Debug)]
pub struct Keeper<R> {
    place: Group<R>,
    founds: bool,
}

/// What the actor is told.
#[derive(Debug)]
pub enum Told {
    /// The member has failed by itself.
    Failed(String),
    /// The files are damaged, and the others have what was in them: begin anew, as a member of which they
    /// have not heard.
    Rebuild(Anew),
}

/// A member whose files are set aside, because they are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anew {
    /// The group to which it comes back, by the member that has founded it. It founds no other.
    pub group: MemberId,
    /// The life of its new log: later than that of any log that the node had.
    pub life: u64,
}

/// One life of the actor.
#[derive(Debug)]
pub struct Life {
    _watch: JoinSet<()>,
}

impl<R: Replicated> Actor for Keeper<R> {
    type Msg = Told;
    type State = Life;
    type Arguments = Parts;

    async fn pre_start(
        &self,
        myself: ActorRef<Told>,
        mut parts: Parts,
    ) -> Result<Life, ActorProcessingErr> {
        // One that was killed could not end its member, and two of them would share the files.
        if let Standing::Here(before) = &*self.place.0.standing.swap(Arc::new(Standing::Away)) {
            before.stop().await;
        }
        let mut watch = JoinSet::new();
        let anew = *self.place.0.anew.lock();
        if let Some(Anew { life, .. }) = anew {
            let mark = format!("damaged-{life:x}");
            set_aside(&*parts.medium, &[log::FILE, snapshots::FILE], &mark)?;
            parts.new_life = life;
        }
        let member = match Member::<R>::start(parts).await {
            Ok(member) => Arc::new(member),
            Err(StartError::Store(error)) if error.is_damage() => {
                tracing::error!(%error, "the member of this node does not serve; if the others are \
                     sound, have it rebuilt: `macula raft rebuild` on this node");
                self.place.0.standing.store(Arc::new(Standing::Damaged(Arc::new(error))));
                return Ok(Life { _watch: watch });
            }
            Err(error) => return Err(error.into()),
        };
        match anew {
            Some(Anew { group, .. }) => member.belong(group).await?,
            None if self.founds => member.found().await?,
            None => {}
        }
        *self.place.0.anew.lock() = None;
        let failing = Arc::clone(&member);
        watch.spawn(async move {
            let why = failing.failed().await;
            // An actor that has ended needs no word.
            drop(myself.cast(Told::Failed(why)));
        });
        self.place.0.standing.store(Arc::new(Standing::Here(member)));
        Ok(Life { _watch: watch })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Told>,
        told: Told,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match told {
            Told::Failed(why) => Err(format!("the member has failed: {why}").into()),
            // One that is sound is left as it is, whatever was thought of it before.
            Told::Rebuild(_) if self.place.member().is_some() => Ok(()),
            Told::Rebuild(anew) => {
                *self.place.0.anew.lock() = Some(anew);
                Err("its files were damaged: it begins anew".into())
            }
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Told>,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        if let Standing::Here(member) = &*self.place.0.standing.swap(Arc::new(Standing::Away)) {
            member.stop().await;
        }
        Ok(())
    }
}

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
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::machine::Replicated;
use super::media::StoreError;
use super::member::{Member, Parts, StartError};

/// How long a member has to bring to disk what it has.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The member of this node, in whichever life. Clones are the same.
pub struct Group<R>(Arc<ArcSwap<Standing<R>>>);

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
        Debug::fmt(&**self.0.load(), f)
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
        Self(Arc::new(ArcSwap::from_pointee(Standing::Away)))
    }
}

impl<R: Replicated> Group<R> {
    /// What there is of the member now.
    #[must_use]
    pub fn standing(&self) -> Arc<Standing<R>> {
        self.0.load_full()
    }

    /// The member, if it runs.
    #[must_use]
    pub fn member(&self) -> Option<Arc<Member<R>>> {
        match &**self.0.load() {
            Standing::Here(member) => Some(Arc::clone(member)),
            Standing::Away | Standing::Damaged(_) => None,
        }
    }
}

impl<R: Replicated> Serve for Group<R> {
    fn serve(&self, from: NodeId, question: Bytes) -> Answer<'static, Result<Bytes, String>> {
        match &**self.0.load() {
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

/// The member has failed by itself.
#[derive(Debug)]
pub struct Failed(String);

/// One life of the actor.
#[derive(Debug)]
pub struct Life {
    _watch: JoinSet<()>,
}

impl<R: Replicated> Actor for Keeper<R> {
    type Msg = Failed;
    type State = Life;
    type Arguments = Parts;

    async fn pre_start(
        &self,
        myself: ActorRef<Failed>,
        parts: Parts,
    ) -> Result<Life, ActorProcessingErr> {
        // One that was killed could not end its member, and two of them would share the files.
        if let Standing::Here(before) = &*self.place.0.swap(Arc::new(Standing::Away)) {
            before.stop().await;
        }
        let mut watch = JoinSet::new();
        let member = match Member::<R>::start(parts).await {
            Ok(member) => Arc::new(member),
            Err(StartError::Store(error)) if error.is_damage() => {
                tracing::error!(%error, "the member of this node does not serve; if the others are \
                     sound, remove its files and take the node in again");
                self.place.0.store(Arc::new(Standing::Damaged(Arc::new(error))));
                return Ok(Life { _watch: watch });
            }
            Err(error) => return Err(error.into()),
        };
        if self.founds {
            member.found().await?;
        }
        let failing = Arc::clone(&member);
        watch.spawn(async move {
            let why = failing.failed().await;
            // An actor that has ended needs no word.
            drop(myself.cast(Failed(why)));
        });
        self.place.0.store(Arc::new(Standing::Here(member)));
        Ok(Life { _watch: watch })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Failed>,
        Failed(why): Failed,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        Err(format!("the member has failed: {why}").into())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Failed>,
        _life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        if let Standing::Here(member) = &*self.place.0.swap(Arc::new(Standing::Away)) {
            member.stop().await;
        }
        Ok(())
    }
}

//! A voter whose files are damaged gets all anew from the others.

use std::time::Duration;

use macula_core::clock::{Clock as _, TokioClock};

use super::Consensus;
use crate::kv::{self, Level};
use crate::raft::actor::{Anew, Standing, Told};
use crate::raft::timer;

/// How long the member may take to begin anew.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// How long it may take to get all that there is, once it is taken in.
const ALL_WITHIN: Duration = Duration::from_secs(120);

/// How soon it is looked again whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a voter was not rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The node has no member. Nothing was done.
    #[error("this node is a client, and keeps nothing")]
    Client,
    /// The member is sound, or is being started. Nothing was done.
    #[error(
        "the files of this node's member are not known to be damaged, and are left as they are"
    )]
    Sound,
    /// The others cannot give what was lost. Nothing was done.
    #[error(
        "the files are left as they are, because the others are no group without this node: {0}"
    )]
    Alone(kv::Error),
    /// The others do not say which group they are. Nothing was done.
    #[error("the files are left as they are, because the others do not say which group they are")]
    Unnamed,
    /// The member has not begun anew in time. Its files may be set aside, or not.
    #[error("the member has not begun anew; it can be asked for again")]
    Away,
    /// The member votes, and has not all yet that there is. It gets it.
    #[error("the member votes again, and has not all yet that the others have")]
    Behind,
    /// The member has begun anew, and the group has not taken it in. That can be asked for, on any node.
    #[error(
        "the member has begun anew and is not taken in yet; `macula raft replace` does that, with this node \
         as both nodes: {0}"
    )]
    Outside(kv::Error),
}

impl Consensus {
    /// Has this node's member, whose files are damaged, begin anew, and get all that there is from the
    /// others: they have to be a group without it. The files are set aside, under names that end with
    /// `.damaged-` and a number.
    ///
    /// # Errors
    ///
    /// [`RebuildError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the member may have begun anew, and not be taken in.
    pub async fn rebuild(&self) -> Result<(), RebuildError> {
        let Some(voter) = &self.voter else { return Err(RebuildError::Client) };
        if !matches!(&*voter.group.standing(), Standing::Damaged(_)) {
            return Err(RebuildError::Sound);
        }
        // Most of the voters say now that one of them leads, and this one is not among them.
        let look = self.kv.range("", None, 0, Level::Linearizable);
        look.await.map_err(RebuildError::Alone)?;
        let status = self.kv.operator().status(None).await.map_err(RebuildError::Alone)?;
        let group = status.group.ok_or(RebuildError::Unnamed)?;
        let life = u64::try_from(TokioClock.since_epoch().as_millis()).unwrap_or(u64::MAX);
        // An actor that is not there is being started, and finds the same damage.
        drop(voter.raft.cast(Told::Rebuild(Anew { group, life })));
        until(BEGIN_WITHIN, || voter.group.member().is_some()).await.ok_or(RebuildError::Away)?;
        if !status.members.voters.iter().any(|member| member.node() == Ok(self.node)) {
            return Ok(());
        }
        let replaced = self.kv.operator().replace(self.node, self.node).await;
        replaced.map_err(RebuildError::Outside)?;
        // One that is a little behind is taken in already.
        let leader = self.kv.operator().status(None).await.map_err(RebuildError::Outside)?;
        until(ALL_WITHIN, || {
            let own = voter.service.status();
            own.is_some_and(|own| own.applied >= leader.applied && own.members == leader.members)
        })
        .await
        .ok_or(RebuildError::Behind)
    }
}

/// Waits until something is so; none if it is not in time.
async fn until(within: Duration, is_so: impl Fn() -> bool) -> Option<()> {
    let end = timer::now() + within;
    while !is_so() {
        if timer::now() >= end {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Some(())
}

//! What members say to one another.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{LogId, MemberId, SnapshotMeta, Types, Vote};

/// A question to a member. One that is meant for an earlier life of the node's log is not answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) from: MemberId,
    pub(super) to: MemberId,
    /// The group of who asks, by the member that has founded it.
    #[serde(default)]
    pub(super) group: Option<MemberId>,
    pub(super) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Append entries, or hear that there is a leader.
    Append(AppendEntriesRequest<Types>),
    /// Vote; though you hear the leader with the vote that is named, if it is: it wants this one to be the
    /// next.
    Vote(VoteRequest<MemberId>, Option<Vote>),
    /// Say whether you would vote for one whose log ends so.
    WouldVote(Option<LogId>),
    /// The leader with this vote wants you to be the next. Stand.
    Stand(Vote),
    /// Keep a part of a snapshot.
    Chunk(Chunk),
}

/// A part of a snapshot. Once all are there it is installed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// Which part, of how many.
    pub(super) at: u64,
    pub(super) of: u64,
    pub(super) bytes: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Appended(AppendEntriesResponse<MemberId>),
    Voted(VoteResponse<MemberId>),
    WouldVote(bool),
    /// Whether it is one that can stand, and hears who asks as its leader.
    Stands(bool),
    /// The part that is wanted next.
    Next(u64),
    Installed(SnapshotResponse<MemberId>),
    /// The node is another member now, or none, or of another group.
    NotMe,
}

/// Bytes that are nothing a member says.
#[derive(Debug, thiserror::Error)]
#[error("what was said cannot be read: {0}")]
pub(super) struct Unreadable(String);

pub(super) fn write<T: Serialize>(said: &T) -> Result<Bytes, Unreadable> {
    let written = rmp_serde::to_vec_named(said);
    written.map(Bytes::from).map_err(|error| Unreadable(error.to_string()))
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    rmp_serde::from_slice(bytes).map_err(|error| Unreadable(error.to_string()))
}

//! What is counted about the member, each under one name.

use std::time::Duration;

use openraft::{Raft, ServerState};
use tokio::time::sleep;

use super::log::LogStore;
use super::member::ProposeError;
use super::types::Types;

/// In which term the member is.
pub(super) const TERM: &str = "macula_raft_term";
/// Whether it leads: 1, or 0.
pub(super) const LEADS: &str = "macula_raft_leads";
/// Whether it knows of a leader: 1, or 0.
pub(super) const HAS_LEADER: &str = "macula_raft_has_leader";
/// How many vote in its group.
pub(super) const VOTERS: &str = "macula_raft_voters";
/// The index of its last entry.
pub(super) const LAST: &str = "macula_raft_last_index";
/// Up to which entry all is agreed upon, as far as it knows.
pub(super) const COMMITTED: &str = "macula_raft_committed_index";
/// Up to which entry its state has all.
pub(super) const APPLIED: &str = "macula_raft_applied_index";
/// Up to which entry its last snapshot goes.
pub(super) const SNAPSHOT: &str = "macula_raft_snapshot_index";
/// What was proposed to it; label `outcome`: `agreed`, or why not.
pub(super) const PROPOSALS: &str = "macula_raft_proposals_total";
/// How often it has stood for election; label `why`: `silence`, or `transfer` if its leader wanted it.
pub(super) const ELECTIONS: &str = "macula_raft_elections_total";
/// How long it takes to bring to disk what has come together, in seconds.
pub(super) const COMMIT: &str = "macula_raft_log_commit_seconds";
/// How many writes that were.
pub(super) const TOGETHER: &str = "macula_raft_log_commit_writes";

/// How often it is looked how it stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells how it stands with a member, until it has ended.
pub(super) async fn tell(raft: Raft<Types>, log: LogStore) {
    let all = raft.metrics();
    while all.has_changed().is_ok() {
        // Cloned, so that openraft is not held up.
        let now = all.borrow().clone();
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        ::metrics::gauge!(TERM).set(real(now.current_term));
        ::metrics::gauge!(LEADS).set(flag(now.state == ServerState::Leader));
        ::metrics::gauge!(HAS_LEADER).set(flag(now.current_leader.is_some()));
        let voters = now.membership_config.membership().voter_ids().count();
        ::metrics::gauge!(VOTERS).set(real(voters as u64));
        let index =
            |name, index: Option<u64>| ::metrics::gauge!(name).set(real(index.unwrap_or(0)));
        index(LAST, now.last_log_index);
        index(COMMITTED, log.committed().map(|last| last.index));
        index(APPLIED, now.last_applied.map(|last| last.index));
        index(SNAPSHOT, now.snapshot.map(|last| last.index));
        sleep(LOOK_EVERY).await;
    }
}

/// A gauge's value.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// Counts what has become of a proposal.
pub(super) fn proposed<T>(outcome: &Result<T, ProposeError>) {
    let outcome = match outcome {
        Ok(_) => "agreed",
        Err(ProposeError::NotLeader { .. }) => "not_leader",
        Err(ProposeError::Membership(_)) => "membership",
        Err(ProposeError::Failed(_)) => "failed",
    };
    ::metrics::counter!(PROPOSALS, "outcome" => outcome).increment(1);
}

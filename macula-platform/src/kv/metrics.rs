//! What is counted about keys and values at a voter, each under one name.

use std::sync::Arc;
use std::time::Duration;

use super::checks::size;
use super::service::Service;
use super::state::State;
use super::wire::{Ask, Declined, Reply};
use crate::raft::Member;
use crate::raft::metrics::real;

/// Questions; labels `ask` and `outcome`: `answered`, or why not.
pub(super) const REQUESTS: &str = "macula_kv_requests_total";
/// How many watches wait here.
pub(super) const WATCHES: &str = "macula_kv_watches";
/// How many leases this voter counts: 0 if it does not lead.
pub(super) const LEASES: &str = "macula_kv_leases_counted";
/// Leases that have ended because nobody kept them alive.
pub(super) const EXPIRED: &str = "macula_kv_leases_expired_total";
/// How many bytes keys and values have.
pub(super) const LEN: &str = "macula_kv_len_bytes";
/// The last change.
pub(super) const REVISION: &str = "macula_kv_revision";
/// How many nodes are known that vote in another group: there should be none.
pub(super) const STRANGERS: &str = "macula_kv_strangers";

/// How often it is looked how it stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells how it stands with a voter, for as long as it is asked to.
pub(super) async fn tell(service: Service, member: Arc<Member<State>>) {
    loop {
        let (len, revision) = {
            let state = member.state();
            (state.len(), state.revision())
        };
        ::metrics::gauge!(LEN).set(real(len));
        ::metrics::gauge!(REVISION).set(real(revision));
        ::metrics::gauge!(WATCHES).set(real(service.watches()));
        ::metrics::gauge!(LEASES).set(real(size(service.0.expiry.lock().len())));
        ::metrics::gauge!(STRANGERS).set(real(size(service.0.strangers.lock().len())));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The word for a question.
pub(super) const fn word(ask: &Ask) -> &'static str {
    match ask {
        Ask::Apply(_) => "apply",
        Ask::Get { .. } => "get",
        Ask::Range { .. } => "range",
        Ask::Events { .. } => "watch",
        Ask::KeepAlive(_) => "keep_alive",
        Ask::Status => "status",
        Ask::Change(_) => "change",
        Ask::Snapshot => "snapshot",
    }
}

/// Counts what has become of a question.
pub(super) fn answered(ask: &'static str, reply: &Reply) {
    let outcome = match reply {
        Reply::Declined(declined) => match declined {
            Declined::NotLeader(_) => "not_leader",
            Declined::Busy(_) => "busy",
            Declined::TooOften { .. } => "too_often",
            Declined::Refused(_) => "refused",
            Declined::Changing => "changing",
            Declined::NoChange(_) => "no_change",
            Declined::Unknown { .. } => "unknown",
            Declined::Away(_) => "away",
        },
        _ => "answered",
    };
    ::metrics::counter!(REQUESTS, "ask" => ask, "outcome" => outcome).increment(1);
}

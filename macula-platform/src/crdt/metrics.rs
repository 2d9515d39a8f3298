//! What is counted about replicated types, each under one name. All but the last two have the label
//! `bucket`.

use std::time::Duration;

use super::proto::Stats;
use super::vault::Vault;
use crate::raft::metrics::real;

/// How many keys there are.
pub(super) const KEYS: &str = "macula_crdt_keys";
/// About how many bytes they take.
pub(super) const WEIGHT: &str = "macula_crdt_weight_bytes";
/// How many spans the context has: one for each replica if nothing is missing.
pub(super) const SPANS: &str = "macula_crdt_context_spans";
/// About how many bytes of own changes wait for acknowledgements.
pub(super) const BUFFERED: &str = "macula_crdt_buffered_bytes";
/// How many members there are.
pub(super) const MEMBERS: &str = "macula_crdt_members";
/// How many of them, this one aside, are in touch.
pub(super) const IN_TOUCH: &str = "macula_crdt_members_in_touch";
/// How many collections of departed replicas there were, as far as this member knows.
pub(super) const EPOCH: &str = "macula_crdt_collections";
/// Changes; label `outcome`: `written` here, `joined` from others, `refused` from others, or `tidied`
/// because nobody needs something any more.
pub(super) const CHANGES: &str = "macula_crdt_changes_total";
/// Comparisons of states; label `outcome`: `done`, or `given_up`.
pub(super) const COMPARISONS: &str = "macula_crdt_comparisons_total";
/// States that came by comparisons.
pub(super) const FETCHED: &str = "macula_crdt_states_fetched_total";
/// Messages that came to nothing; label `why`: `malformed`, or `disk` if that was too slow.
pub(super) const DROPPED: &str = "macula_crdt_messages_dropped_total";
/// How often this member has begun anew because the others had given it up.
pub(super) const RESYNCS: &str = "macula_crdt_resyncs_total";
/// Stamps that were too far ahead to be followed.
pub(super) const SKEWED: &str = "macula_crdt_stamps_skewed_total";
/// How often the calendar was set back.
pub(super) const SET_BACK: &str = "macula_crdt_clock_set_back_total";
/// How many buckets are held.
pub(super) const BUCKETS: &str = "macula_crdt_buckets";
/// Frames that were lost on their way out.
pub(super) const LOST: &str = "macula_crdt_frames_lost_total";

/// How often it is looked how it stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells how it stands with a node's buckets, for as long as it is asked to.
pub(super) async fn tell(vault: Vault) {
    loop {
        let buckets = vault.buckets();
        ::metrics::gauge!(BUCKETS).set(count(buckets.len()));
        ::metrics::counter!(LOST).absolute(vault.lost());
        for bucket in buckets {
            // One that is not served has nothing to tell.
            let stats = vault.held(&bucket).map(|held| held.look(super::proto::Replica::stats));
            if let Some(Ok(stats)) = stats {
                tell_of(&bucket, &stats);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Nothing is there any more of a bucket. What was counted stays.
pub(super) fn forget(bucket: &str) {
    tell_size(bucket, &Stats::default());
}

/// Tells how it stands with one of them.
fn tell_of(bucket: &str, stats: &Stats) {
    tell_size(bucket, stats);
    tell_deeds(bucket, stats);
}

fn tell_size(bucket: &str, stats: &Stats) {
    let gauges = [
        (KEYS, count(stats.keys)),
        (WEIGHT, count(stats.weight)),
        (SPANS, count(stats.spans)),
        (BUFFERED, count(stats.buffered)),
        (MEMBERS, count(stats.members)),
        (IN_TOUCH, count(stats.in_touch)),
        (EPOCH, real(stats.epoch)),
    ];
    for (name, value) in gauges {
        ::metrics::gauge!(name, "bucket" => bucket.to_owned()).set(value);
    }
}

fn tell_deeds(bucket: &str, stats: &Stats) {
    let counters = [
        (CHANGES, "outcome", "written", stats.written),
        (CHANGES, "outcome", "joined", stats.joined),
        (CHANGES, "outcome", "refused", stats.refused),
        (CHANGES, "outcome", "tidied", stats.tidied),
        (COMPARISONS, "outcome", "done", stats.compared),
        (COMPARISONS, "outcome", "given_up", stats.given_up),
        (DROPPED, "why", "malformed", stats.malformed),
        (DROPPED, "why", "disk", stats.dropped),
    ];
    for (name, label, word, value) in counters {
        ::metrics::counter!(name, "bucket" => bucket.to_owned(), label => word).absolute(value);
    }
    let counters = [
        (FETCHED, stats.fetched),
        (RESYNCS, stats.resyncs),
        (SKEWED, stats.skewed),
        (SET_BACK, stats.set_back),
    ];
    for (name, value) in counters {
        ::metrics::counter!(name, "bucket" => bucket.to_owned()).absolute(value);
    }
}

fn count(len: usize) -> f64 {
    real(u64::try_from(len).unwrap_or(u64::MAX))
}

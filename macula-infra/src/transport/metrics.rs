//! What is counted about the transport, each under one name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tls::Refusal;

/// Peers that were refused; labels `reason` and `enforced`.
pub const REFUSED: &str = "macula_transport_refused_total";
/// Connections that were made; label `side`.
pub const OPENED: &str = "macula_transport_opened_total";
/// Connections that ended; label `reason`.
pub const CLOSED: &str = "macula_transport_closed_total";
/// Attempts that were turned away before their handshake; label `outcome`.
pub const TURNED_AWAY: &str = "macula_transport_turned_away_total";

/// A counter for each kind of refusal.
#[derive(Debug)]
pub(super) struct Refusals([AtomicU64; Refusal::KINDS.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Refusals {
    pub(super) fn add(&self, refusal: &Refusal, enforced: bool) {
        let kind = refusal.kind();
        for (counter, _) in self.0.iter().zip(Refusal::KINDS).filter(|(_, known)| *known == kind) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let enforced = if enforced { "yes" } else { "no" };
        ::metrics::counter!(REFUSED, "reason" => kind, "enforced" => enforced).increment(1);
    }

    /// Those that are not zero.
    pub(super) fn all(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        Refusal::KINDS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

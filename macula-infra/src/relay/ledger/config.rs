//! How much a relay gives.

use std::time::{Duration, Instant};

use crate::bounds::{Invalid, number, span};
use crate::tokens::Rate;

/// The most KiB in a second that can be told: so many bytes are a number of 32 bits.
pub const KIB_PER_S_MAX: u32 = 4_194_303;

/// What a relay gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Whether the node relays for others.
    pub serve: bool,
    /// How many nodes have a place. 1 to 100,000.
    pub reservations_max: usize,
    /// How many of one realm. 1 to `reservations_max`.
    pub reservations_per_realm_max: usize,
    /// How long a place is kept unless it is reserved anew. 20 s to 24 h.
    pub lifetime: Duration,
    /// How many pairs of nodes send to each other. 1 to 1,000,000.
    pub circuits_max: usize,
    /// Of how many of these one node is a part. 1 to `circuits_max`.
    pub circuits_per_node_max: usize,
    /// How many of these are of one realm. 1 to `circuits_max`.
    pub circuits_per_realm_max: usize,
    /// After how long a circuit over which nothing has gone is closed. 5 s to 1 h.
    pub circuit_idle: Duration,
    /// For how long two nodes may send to each other before they have to pause for `circuit_idle`:
    /// 10 s to 30 d; none for ever.
    pub circuit_lifetime: Option<Duration>,
    /// How many KiB one node sends in a second: 1 to 4,194,303. Twice as much at once.
    pub kib_per_s: u32,
    /// How many KiB all nodes of one realm send in a second: `kib_per_s` to 4,194,303. Twice as much
    /// at once.
    pub realm_kib_per_s: u32,
}

impl Default for Config {
    /// A node that does not relay. One that does gives 1,024 nodes a place for 10 minutes, with
    /// 4,096 circuits, 256 for a node, closed after an idle minute; 4 MiB a second for each sender,
    /// and 64 MiB for a realm. One realm may have it all.
    fn default() -> Self {
        Self {
            serve: false,
            reservations_max: 1_024,
            reservations_per_realm_max: 1_024,
            lifetime: Duration::from_secs(600),
            circuits_max: 4_096,
            circuits_per_node_max: 256,
            circuits_per_realm_max: 4_096,
            circuit_idle: Duration::from_secs(60),
            circuit_lifetime: None,
            kib_per_s: 4_096,
            realm_kib_per_s: 65_536,
        }
    }
}

impl Config {
    /// Whether the values can stand, alone and together.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first that cannot.
    pub fn check(&self) -> Result<(), Invalid> {
        let s = Duration::from_secs;
        let (places, circuits) = (self.reservations_max, self.circuits_max);
        number("reservations_max", places, 1, 100_000)?;
        number("reservations_per_realm_max", self.reservations_per_realm_max, 1, places)?;
        span("lifetime", self.lifetime, s(20), s(86_400))?;
        number("circuits_max", circuits, 1, 1_000_000)?;
        number("circuits_per_node_max", self.circuits_per_node_max, 1, circuits)?;
        number("circuits_per_realm_max", self.circuits_per_realm_max, 1, circuits)?;
        span("circuit_idle", self.circuit_idle, s(5), s(3_600))?;
        if let Some(lifetime) = self.circuit_lifetime {
            span("circuit_lifetime", lifetime, s(10), s(30 * 86_400))?;
        }
        number("kib_per_s", self.kib_per_s, 1, KIB_PER_S_MAX)?;
        number("realm_kib_per_s", self.realm_kib_per_s, self.kib_per_s, KIB_PER_S_MAX)
    }

    /// Whether a circuit that was opened then has had its time.
    pub(super) fn is_over(&self, now: Instant, since: Instant) -> bool {
        let lived = now.saturating_duration_since(since);
        self.circuit_lifetime.is_some_and(|lifetime| lived >= lifetime)
    }

    /// What one node sends, in bytes.
    pub(super) const fn rate(&self) -> Rate {
        rate(self.kib_per_s)
    }

    /// What a realm sends, in bytes.
    pub(super) const fn rate_of_realm(&self) -> Rate {
        rate(self.realm_kib_per_s)
    }
}

const fn rate(kib_per_s: u32) -> Rate {
    let per_s = kib_per_s.saturating_mul(1_024);
    Rate { per_s, burst: per_s.saturating_mul(2) }
}

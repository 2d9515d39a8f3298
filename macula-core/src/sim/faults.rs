//! What goes wrong, and how often.

use std::time::Duration;

/// The faults of a run. Probabilities are from 0.0 to 1.0 and hold for each message; times are
/// virtual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// The probability that a message is lost.
    pub loss: f64,
    /// The probability that it arrives twice.
    pub duplication: f64,
    /// The probability that it does not keep to the order of its link, and takes up to
    /// `reordering_max` longer. All others of one link arrive in the order of their sending.
    pub reordering: f64,
    /// How much longer a message out of order takes at most.
    pub reordering_max: Duration,
    /// The shortest time for which a message is under way.
    pub delay_min: Duration,
    /// The longest, for one in order.
    pub delay_max: Duration,
    /// By how much calendars of nodes differ at most. Each life of a node draws its own.
    pub skew_max: Duration,
    /// The mean time between crashes; none for no crashes.
    pub crash_every: Option<Duration>,
    /// How long a crashed node is down at most.
    pub down_max: Duration,
    /// The mean time between partitions into two random halves; none for no partitions.
    pub partition_every: Option<Duration>,
    /// How long a partition lasts at most.
    pub partition_max: Duration,
    /// The probability that a machine is woken before it is due, together with a message. It has
    /// to do nothing then, and a run in which it does something ends.
    pub early_wake: f64,
}

impl Faults {
    /// A network that only takes its time: a millisecond for each message.
    pub const NONE: Self = Self {
        loss: 0.0,
        duplication: 0.0,
        reordering: 0.0,
        reordering_max: Duration::ZERO,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1),
        skew_max: Duration::ZERO,
        crash_every: None,
        down_max: Duration::ZERO,
        partition_every: None,
        partition_max: Duration::ZERO,
        early_wake: 0.0,
    };

    /// A bad day: a tenth of all messages is lost, a fifth out of order, a twentieth doubled; every
    /// two seconds a node crashes, every three the network falls apart.
    pub const STORM: Self = Self {
        loss: 0.1,
        duplication: 0.05,
        reordering: 0.2,
        reordering_max: Duration::from_millis(200),
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(50),
        skew_max: Duration::from_millis(3),
        crash_every: Some(Duration::from_secs(2)),
        down_max: Duration::from_secs(1),
        partition_every: Some(Duration::from_secs(3)),
        partition_max: Duration::from_secs(2),
        early_wake: 0.1,
    };
}

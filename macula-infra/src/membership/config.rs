//! How often members are probed, and how long they have to answer.

use std::time::Duration;

use crate::bounds::{Invalid, number, span};

/// The membership's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How often a member is probed. 50 ms to 10 min.
    pub probe_interval: Duration,
    /// The shortest time that a member has to answer, and the ends of its range: it follows the
    /// measured round trips. 10 ms to `timeout_max`.
    pub timeout_min: Duration,
    /// The longest. Up to 10 s.
    pub timeout_max: Duration,
    /// Through how many others a member is asked that does not answer. 1 to 16.
    pub relays: usize,
    /// How long a suspect has to refute at least, however many suspect it. 100 ms to
    /// `suspicion_max`.
    pub suspicion_min: Duration,
    /// How long it has if only one does. Up to 10 min.
    pub suspicion_max: Duration,
    /// How many further members have to suspect it for the shortest time to hold. 0 to 16.
    pub confirmations: usize,
    /// To how many members news is pushed at once. 1 to 16.
    pub push_fanout: usize,
    /// How often each node sends an update, in binary logarithms of the number of members: SWIM's
    /// lambda. 1 to 16.
    pub transmit_factor: u32,
    /// How often the whole view is compared with that of one other member. 1 s to 1 h.
    pub sync_interval: Duration,
    /// How often one of the departed or of the seeds is asked whether it is back. 100 ms to 1 h.
    pub reconnect_interval: Duration,
    /// How long after the first attempt to join the next follows. 10 ms to `join_backoff_max`.
    pub join_backoff_initial: Duration,
    /// The longest time between two attempts. Up to 1 h.
    pub join_backoff_max: Duration,
    /// How many members there are at most. 1 to 1,000,000.
    pub members_max: usize,
    /// How many of the departed are remembered. 1 to 1,000,000.
    pub departed_max: usize,
    /// How much one peer may say each second: messages, and further 256 bytes of them. 10 to
    /// 1,000,000.
    pub peer_rate_per_s: u32,
    /// How much it may say at once, likewise. A newcomer is told of all members at once. 100 to
    /// 10,000,000.
    pub peer_burst: u32,
    /// A bug to plant in the machine.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::proto::Bug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(500),
            timeout_min: Duration::from_millis(100),
            timeout_max: Duration::from_secs(1),
            relays: 3,
            suspicion_min: Duration::from_secs(1),
            suspicion_max: Duration::from_secs(4),
            confirmations: 3,
            push_fanout: 3,
            transmit_factor: 3,
            sync_interval: Duration::from_secs(30),
            reconnect_interval: Duration::from_secs(10),
            join_backoff_initial: Duration::from_millis(500),
            join_backoff_max: Duration::from_secs(30),
            members_max: 100_000,
            departed_max: 4_096,
            peer_rate_per_s: 2_000,
            peer_burst: 40_000,
            #[cfg(any(test, feature = "turmoil"))]
            bug: None,
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
        let ms = Duration::from_millis;
        span("probe_interval", self.probe_interval, ms(50), ms(600_000))?;
        span("timeout_min", self.timeout_min, ms(10), self.timeout_max)?;
        span("timeout_max", self.timeout_max, ms(10), ms(10_000))?;
        number("relays", self.relays, 1, 16)?;
        span("suspicion_min", self.suspicion_min, ms(100), self.suspicion_max)?;
        span("suspicion_max", self.suspicion_max, ms(100), ms(600_000))?;
        number("confirmations", self.confirmations, 0, 16)?;
        number("push_fanout", self.push_fanout, 1, 16)?;
        number("transmit_factor", self.transmit_factor, 1, 16)?;
        span("sync_interval", self.sync_interval, ms(1_000), ms(3_600_000))?;
        span("reconnect_interval", self.reconnect_interval, ms(100), ms(3_600_000))?;
        span("join_backoff_initial", self.join_backoff_initial, ms(10), self.join_backoff_max)?;
        span("join_backoff_max", self.join_backoff_max, ms(10), ms(3_600_000))?;
        number("members_max", self.members_max, 1, 1_000_000)?;
        number("departed_max", self.departed_max, 1, 1_000_000)?;
        number("peer_rate_per_s", self.peer_rate_per_s, 10, 1_000_000)?;
        number("peer_burst", self.peer_burst, 100, 10_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use std::time::Duration;

    #[test]
    fn the_defaults_can_stand() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        let config = Config { suspicion_min: Duration::from_secs(9), ..Config::default() };
        let told = config.check().unwrap_err().to_string();
        assert_eq!(told, "suspicion_min is 9s, and has to be 100ms to 4s");
    }
}

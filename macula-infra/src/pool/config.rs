//! How many connections are kept, and for how long.

use std::time::Duration;

use crate::bounds::{Invalid, number, span};

/// The pool's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How many connections are live at most, those of protected peers aside. 1 to 100,000.
    pub live_high: usize,
    /// Down to how many they are let go when there is no room. 0 to `live_high`.
    pub live_low: usize,
    /// How long a caller waits for room. Up to 1 min.
    pub room_wait: Duration,
    /// How many dials are under way at one time. 1 to 10,000.
    pub dials_max: usize,
    /// How long after one address of a peer the next is dialled too. 10 ms to 10 s.
    pub race_delay: Duration,
    /// A connection that was not used for this long is let go. 1 s to 1 d.
    pub idle_ttl: Duration,
    /// A connection that is this old is replaced, give or take a tenth. What is in flight on it then
    /// may take as long again. 10 s to 30 d.
    pub lifetime: Duration,
    /// How long a connection may take to become quiet before it is closed, if its place is needed
    /// or the node stops. 100 ms to 10 min.
    pub drain_timeout: Duration,
    /// How long a peer is left alone after the first failure. 1 ms to 1 min.
    pub backoff_initial: Duration,
    /// The longest time that it is. `backoff_initial` to 1 h.
    pub backoff_max: Duration,
    /// How far each of these times is spread to either side: 0.0 to 1.0.
    pub jitter: f64,
    /// A connection that lived this long wipes out its peer's failures. Up to 1 h.
    pub backoff_reset: Duration,
    /// Of how many peers without a connection something is remembered. 16 to 1,000,000.
    pub peers_max: usize,
    /// A bug to plant in the policy.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::proto::Bug>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            live_high: 1_024,
            live_low: 896,
            room_wait: Duration::from_secs(1),
            dials_max: 128,
            race_delay: Duration::from_millis(250),
            idle_ttl: Duration::from_secs(90),
            lifetime: Duration::from_secs(3_600),
            drain_timeout: Duration::from_secs(10),
            backoff_initial: Duration::from_millis(50),
            backoff_max: Duration::from_secs(30),
            jitter: 0.2,
            backoff_reset: Duration::from_secs(10),
            peers_max: 16_384,
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
        number("live_high", self.live_high, 1, 100_000)?;
        number("live_low", self.live_low, 0, self.live_high)?;
        span("room_wait", self.room_wait, ms(0), ms(60_000))?;
        number("dials_max", self.dials_max, 1, 10_000)?;
        span("race_delay", self.race_delay, ms(10), ms(10_000))?;
        span("idle_ttl", self.idle_ttl, ms(1_000), ms(86_400_000))?;
        span("lifetime", self.lifetime, ms(10_000), ms(30 * 86_400_000))?;
        span("drain_timeout", self.drain_timeout, ms(100), ms(600_000))?;
        span("backoff_initial", self.backoff_initial, ms(1), ms(60_000))?;
        span("backoff_max", self.backoff_max, self.backoff_initial, ms(3_600_000))?;
        span("backoff_reset", self.backoff_reset, ms(0), ms(3_600_000))?;
        number("peers_max", self.peers_max, 16, 1_000_000)?;
        number("jitter", self.jitter, 0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_defaults_can_stand() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_low_mark_above_the_high_one_is_refused() {
        let config = Config { live_high: 10, live_low: 11, ..Config::default() };
        let told = config.check().unwrap_err().to_string();
        assert_eq!(told, "live_low is 11, and has to be 0 to 10");
    }
}

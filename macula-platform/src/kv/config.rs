//! How much voters take on, and how long clients wait.

use serde::{Deserialize, Serialize};

/// The limits of the key-value service and of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many requests a voter works on at one time. At least 1.
    pub requests_max: usize,
    /// How many watches wait at a voter at one time. At least 1.
    pub watches_max: usize,
    /// How many bytes of commands and answers a voter has in its hands at one time, in KiB. At least
    /// 8,192: the longest of them need half of it.
    pub in_flight_kib_max: usize,
    /// How often in a second one node may ask a voter. At least 1.
    pub asks_per_s_max: u32,
    /// How long a client waits for an answer in all, in milliseconds. 100 to 600,000.
    pub within_ms: u64,
    /// How long it waits for one voter, in milliseconds. 50 to `within_ms`.
    pub attempt_ms: u64,
    /// How long a watch waits at a voter before it asks again, in milliseconds. 100 to 60,000.
    pub watch_wait_ms: u64,
    /// How many events a watch has in its hands at most. 1 to 1,000.
    pub watch_events_max: usize,
    /// How many sessions a client has at most, of which each has up to 64 commands in flight. 1 to 64.
    pub sessions_max: usize,
}

impl Default for Config {
    /// 4,096 requests, 4,096 watches, 64 MiB, 20,000 questions of a node in a second; 10 seconds, 2
    /// seconds, 10 seconds; 256 events; 16 sessions.
    fn default() -> Self {
        Self {
            requests_max: 4_096,
            watches_max: 4_096,
            in_flight_kib_max: 65_536,
            asks_per_s_max: 20_000,
            within_ms: 10_000,
            attempt_ms: 2_000,
            watch_wait_ms: 10_000,
            watch_events_max: 256,
            sessions_max: 16,
        }
    }
}

impl Config {
    /// Whether anything works under these limits.
    ///
    /// # Errors
    ///
    /// The first [`InvalidConfig`] found.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let permits = number(tokio::sync::Semaphore::MAX_PERMITS).min(u32::MAX.into());
        let limits = [
            ("requests_max", number(self.requests_max), 1, permits),
            ("watches_max", number(self.watches_max), 1, permits),
            ("in_flight_kib_max", number(self.in_flight_kib_max), 8_192, permits),
            ("asks_per_s_max", self.asks_per_s_max.into(), 1, u32::MAX.into()),
            ("within_ms", self.within_ms, 100, 600_000),
            ("attempt_ms", self.attempt_ms, 50, self.within_ms),
            ("watch_wait_ms", self.watch_wait_ms, 100, 60_000),
            ("watch_events_max", number(self.watch_events_max), 1, 1_000),
            ("sessions_max", number(self.sessions_max), 1, 64),
        ];
        let wrong = limits.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        match wrong {
            Some((limit, value, min, max)) => Err(InvalidConfig { limit, value, min, max }),
            None => Ok(()),
        }
    }
}

/// A limit under which nothing works. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{limit}` must be from {min} to {max}, and is {value}")]
pub struct InvalidConfig {
    /// The limit's name.
    pub limit: &'static str,
    /// What it is.
    pub value: u64,
    /// The least that it may be.
    pub min: u64,
    /// The most.
    pub max: u64,
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_defaults_are_legal_and_what_is_not_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let error = Config { attempt_ms: 20_000, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "`attempt_ms` must be from 50 to 10000, and is 20000");
    }
}

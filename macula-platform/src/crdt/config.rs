//! How a bucket is replicated, and how much of all is allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::{InvalidLimit, Limits};

/// The shortest frame that replicas can be told to keep to, in bytes.
pub const FRAME_LEN_MIN: usize = 512;

/// How a bucket is replicated. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is taken from those who write.
    pub limits: Limits,
    /// The most bytes that are sent at one time: [`FRAME_LEN_MIN`] at least. What is longer goes in
    /// parts.
    pub frame_len_max: usize,
    /// The most bytes of all parts of one message. It has to hold the largest state of a key and the
    /// context of a bucket. As long as a frame at least.
    pub message_len_max: usize,
    /// About how many bytes of own changes are kept for members that have not acknowledged them. One
    /// that falls behind compares its state instead. At least 1.
    pub buffer_len_max: usize,
    /// How many members a bucket may have. At least 1.
    pub members_max: usize,
    /// Of how many retired members it is remembered what they had told. At least 1.
    pub retired_max: usize,
    /// How many writes and reads may wait for other members at one time. At least 1.
    pub waits_max: usize,
    /// How long a change waits for its acknowledgement before it is sent again; each time twice as
    /// long. At least 1.
    pub push_retry_ms: u64,
    /// How often a change is sent again before its receiver counts as silent. At least 1.
    pub push_tries_max: u32,
    /// How soon a silent member is greeted again at first; each time twice as long. At least 1.
    pub greet_ms: u64,
    /// How long that becomes at most. At least 1.
    pub greet_ms_max: u64,
    /// How long after the last comparison of states the next one is made, with a member drawn by lot.
    /// At least 1.
    pub sync_ms: u64,
    /// How long a step of a comparison waits for its answer before it is asked again. At least 1.
    pub step_ms: u64,
    /// How often it is asked again before the comparison is given up. At least 1.
    pub step_tries_max: u32,
    /// How many comparisons that others begin are held at one time. At least 1.
    pub sessions_max: usize,
    /// How often it is looked what is not needed any more. At least 1.
    pub collect_ms: u64,
    /// How long a member is out of reach before it counts as retired, as long as most are in reach: what it
    /// alone had is missed then, and it begins anew when it returns. 0 for never.
    pub retire_ms: u64,
    /// How far stamps may be ahead of the own calendar to be followed.
    pub skew_ms_max: u64,
}

impl Default for Config {
    /// Frames of 64 KiB, messages of 64 MiB, a buffer of 4 MiB, 1,024 members and as many retired
    /// ones, 10,000 waits; changes again after 0.2 s and five times, greetings after 1 s and up to
    /// 30 s, comparisons after 10 s and their steps after 0.5 s and six times, four at one time;
    /// collections after 30 s; members retired after a week; a minute of skew.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            frame_len_max: 64 << 10,
            message_len_max: 64 << 20,
            buffer_len_max: 4 << 20,
            members_max: 1024,
            retired_max: 1024,
            waits_max: 10_000,
            push_retry_ms: 200,
            push_tries_max: 5,
            greet_ms: 1_000,
            greet_ms_max: 30_000,
            sync_ms: 10_000,
            step_ms: 500,
            step_tries_max: 6,
            sessions_max: 4,
            collect_ms: 30_000,
            retire_ms: 7 * 24 * 3_600_000,
            skew_ms_max: 60_000,
        }
    }
}

impl Config {
    /// Whether a bucket can be replicated so.
    ///
    /// # Errors
    ///
    /// The first [`Invalid`] found.
    pub fn check(&self) -> Result<(), Invalid> {
        self.limits.check()?;
        let wide = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let least = [
            ("frame_len_max", self.frame_len_max, FRAME_LEN_MIN),
            ("message_len_max", self.message_len_max, self.frame_len_max),
            ("buffer_len_max", self.buffer_len_max, 1),
            ("members_max", self.members_max, 1),
            ("retired_max", self.retired_max, 1),
            ("waits_max", self.waits_max, 1),
            ("push_retry_ms", wide(self.push_retry_ms), 1),
            ("push_tries_max", wide(self.push_tries_max.into()), 1),
            ("greet_ms", wide(self.greet_ms), 1),
            ("greet_ms_max", wide(self.greet_ms_max), 1),
            ("sync_ms", wide(self.sync_ms), 1),
            ("step_ms", wide(self.step_ms), 1),
            ("step_tries_max", wide(self.step_tries_max.into()), 1),
            ("sessions_max", self.sessions_max, 1),
            ("collect_ms", wide(self.collect_ms), 1),
        ];
        match least.into_iter().find(|&(_, value, min)| value < min) {
            Some((key, value, min)) => Err(Invalid::TooSmall { key, value, min }),
            None => Ok(()),
        }
    }

    pub(super) const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }
}

/// A bucket cannot be replicated so. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A limit of what is taken makes no sense.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
    /// A number is too small.
    #[error("`{key}` must be at least {min}, and is {value}")]
    TooSmall {
        /// Its name.
        key: &'static str,
        /// What it is.
        value: usize,
        /// What it has to be at least.
        min: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::crdt::limits::Limits;

    #[test]
    fn the_defaults_are_legal_and_what_is_not_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let error = Config { frame_len_max: 1, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "`frame_len_max` must be at least 512, and is 1");
        let error = Config { message_len_max: 600, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "`message_len_max` must be at least 65536, and is 600");
        let limits = Limits { keys_max: 0, ..Limits::default() };
        assert!(Config { limits, ..Config::default() }.check().is_err());
    }
}

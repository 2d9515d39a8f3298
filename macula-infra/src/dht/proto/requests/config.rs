//! The settings of questions and answers.

use std::time::Duration;

use crate::bounds::{Invalid, number, span};
use crate::dht::wire::{BODY_LEN_MAX, OPS_MAX};

/// How many bytes a request has at most beside its operations.
const ENVELOPE_LEN_MAX: usize = 32;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How many requests to one peer are under way at one time. 1 to 64.
    pub window: usize,
    /// How many operations one request has. 1 to [`OPS_MAX`].
    pub batch_max: usize,
    /// How many bytes the operations of one request have: 1 KiB to [`BODY_LEN_MAX`], less 32.
    pub request_len_max: usize,
    /// How many operations wait for one peer. 1 to 65,536.
    pub queue_len_max: usize,
    /// How many operations are under way, to all peers. 1 to 1,000,000.
    pub ops_max: usize,
    /// How many bytes they have. 1 MiB to 1 GiB.
    pub bytes_max: usize,
    /// Of how many peers the round trip is remembered. 1 to 1,000,000.
    pub peers_max: usize,
    /// How long a request to a peer that has not answered yet may take. `timeout_min` to
    /// `timeout_max`.
    pub timeout_initial: Duration,
    /// How long any may take at least. 1 ms to `timeout_max`.
    pub timeout_min: Duration,
    /// How long any may take at most. Up to 1 min.
    pub timeout_max: Duration,
    /// After how long an operation is slow while no peer has answered yet. Up to 1 min.
    pub slow_initial: Duration,
    /// After how long any is slow at least. Up to 1 min.
    pub slow_min: Duration,
    /// How often an operation is sent. 1 to 16.
    pub attempts_max: u32,
    /// How many operations may be sent anew for each thousand that are submitted. 0 to 1,000.
    pub retry_per_mille: u32,
    /// How many may be sent anew at once, after a quiet time. 0 to 10,000.
    pub retry_burst: u32,
    /// How long an answer may still come, after the last deadline in its request, without being
    /// held against the peer. Up to 10 min.
    pub late_for: Duration,
    /// How many requests are remembered for that. 0 to 1,000,000.
    pub late_max: usize,
    /// Holds back all operations for this long, as older systems did: for comparisons only.
    pub fixed_delay: Option<Duration>,
}

impl Default for Config {
    /// Two requests of up to 64 operations to a peer; 256 waiting for one, 16,384 operations and
    /// 32 MiB in all; timeouts of 200 ms to 5 s, 1 s at first; three attempts, one retry for ten
    /// operations.
    fn default() -> Self {
        Self {
            window: 2,
            batch_max: OPS_MAX,
            request_len_max: BODY_LEN_MAX / 2,
            queue_len_max: 256,
            ops_max: 16_384,
            bytes_max: 32 << 20,
            peers_max: 4096,
            timeout_initial: Duration::from_secs(1),
            timeout_min: Duration::from_millis(200),
            timeout_max: Duration::from_secs(5),
            slow_initial: Duration::from_millis(500),
            slow_min: Duration::from_millis(10),
            attempts_max: 3,
            retry_per_mille: 100,
            retry_burst: 10,
            late_for: Duration::from_secs(30),
            late_max: 16_384,
            fixed_delay: None,
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
        let (ms, minute) = (Duration::from_millis, Duration::from_secs(60));
        let (min, max) = (self.timeout_min, self.timeout_max);
        number("requests.window", self.window, 1, 64)?;
        number("requests.batch_max", self.batch_max, 1, OPS_MAX)?;
        let len_max = BODY_LEN_MAX - ENVELOPE_LEN_MAX;
        number("requests.request_len_max", self.request_len_max, 1 << 10, len_max)?;
        number("requests.queue_len_max", self.queue_len_max, 1, 65_536)?;
        number("requests.ops_max", self.ops_max, 1, 1_000_000)?;
        number("requests.bytes_max", self.bytes_max, 1 << 20, 1 << 30)?;
        number("requests.peers_max", self.peers_max, 1, 1_000_000)?;
        span("requests.timeout_max", max, ms(1), minute)?;
        span("requests.timeout_min", min, ms(1), max)?;
        span("requests.timeout_initial", self.timeout_initial, min, max)?;
        span("requests.slow_initial", self.slow_initial, ms(0), minute)?;
        span("requests.slow_min", self.slow_min, ms(0), minute)?;
        number("requests.attempts_max", self.attempts_max, 1, 16)?;
        number("requests.retry_per_mille", self.retry_per_mille, 0, 1_000)?;
        number("requests.retry_burst", self.retry_burst, 0, 10_000)?;
        span("requests.late_for", self.late_for, ms(0), minute * 10)?;
        number("requests.late_max", self.late_max, 0, 1_000_000)
    }

    /// It, with what cannot be brought within its bounds.
    pub(super) fn bounded(self) -> Self {
        Self {
            window: self.window.max(1),
            batch_max: self.batch_max.clamp(1, OPS_MAX),
            request_len_max: self.request_len_max.min(BODY_LEN_MAX - ENVELOPE_LEN_MAX),
            attempts_max: self.attempts_max.max(1),
            timeout_max: self.timeout_max.max(self.timeout_min),
            ..self
        }
    }
}

//! The settings of questions and answers.

use std::time::Duration;

use crate::dht::wire::{BODY_LEN_MAX, OPS_MAX};

/// How many bytes a request has at most beside its operations.
const ENVELOPE_LEN_MAX: usize = 32;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How many requests to one peer are under way at one time: at least 1.
    pub window: usize,
    /// How many operations one request has: 1 to [`OPS_MAX`].
    pub batch_max: usize,
    /// How many bytes the operations of one request have: up to [`BODY_LEN_MAX`].
    pub request_len_max: usize,
    /// How many operations wait for one peer.
    pub queue_len_max: usize,
    /// How many operations are under way, to all peers.
    pub ops_max: usize,
    /// How many bytes they have.
    pub bytes_max: usize,
    /// Of how many peers the round trip is remembered.
    pub peers_max: usize,
    /// How long a request to a peer that has not answered yet may take.
    pub timeout_initial: Duration,
    /// How long any may take at least.
    pub timeout_min: Duration,
    /// How long any may take at most.
    pub timeout_max: Duration,
    /// After how long an operation is slow while no peer has answered yet.
    pub slow_initial: Duration,
    /// After how long any is slow at least.
    pub slow_min: Duration,
    /// How often an operation is sent: at least 1.
    pub attempts_max: u32,
    /// How many operations may be sent anew for each thousand that are submitted.
    pub retry_per_mille: u32,
    /// How many may be sent anew at once, after a quiet time.
    pub retry_burst: u32,
    /// How long an answer may still come, after the last deadline in its request, without being
    /// held against the peer.
    pub late_for: Duration,
    /// How many requests are remembered for that.
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

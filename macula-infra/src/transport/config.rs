//! How a node's endpoint behaves on the network.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use macula_core::wire::Limits;

use crate::bounds::{Invalid, number, span};

/// How the sender reacts to loss and delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Congestion {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// BBR, version 2.
    Bbr,
}

/// Limits that hold before a handshake is paid for, for all sockets of an endpoint together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// How many connections an endpoint has in all.
    pub connections_max: usize,
    /// How many of them may come from one IP address.
    pub connections_per_address_max: usize,
    /// From how many unfinished handshakes on a peer must first prove its address with a retry
    /// token (RFC 9000, section 8.1).
    pub handshakes_retry: usize,
    /// How many handshakes may be unfinished in all; more are turned away.
    pub handshakes_max: usize,
    /// How many attempts one IP address has in a second. With more it must prove its address; with
    /// more proved ones than that, too, it is not answered.
    pub attempts_per_address_per_s: u32,
}

impl Default for Admission {
    /// 10,000 connections, 1,024 from one address; retry tokens from 256 unfinished handshakes on,
    /// at most 2,048 of them; 256 attempts a second from one address.
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 1_024,
            handshakes_retry: 256,
            handshakes_max: 2_048,
            attempts_per_address_per_s: 256,
        }
    }
}

/// The configuration of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to accept connections: IPv4, IPv6 or both; port 0 takes a free one. With none the node
    /// only dials.
    pub listen: Vec<SocketAddr>,
    /// The longest handshake, hello included. 100 ms to 60 s.
    pub handshake_timeout: Duration,
    /// A connection that hears nothing for this long is lost. 500 ms to 1 h.
    pub idle_timeout: Duration,
    /// How often a silent connection is probed; shorter than `idle_timeout`.
    pub keep_alive: Duration,
    /// The largest IP packet, in bytes: 1,228 to 9,216. Paths are probed up to it.
    pub mtu_max: u16,
    /// How much a peer may send ahead on one connection, in bytes: 64 KiB to 1 GiB. If it is
    /// `streams_max` times `stream_window`, no stream can hold up another.
    pub connection_window: u32,
    /// How much a peer may send ahead on one stream, in bytes: 64 KiB to 1 GiB.
    pub stream_window: u32,
    /// How much one stream keeps until it is acknowledged, in bytes: 64 KiB to 64 MiB.
    pub send_buffer: u32,
    /// How many streams a peer may have open: 8 to 10,000. Lanes take up to six, the others carry
    /// long bodies, each of which is read into memory.
    pub streams_max: u32,
    /// How the sender reacts to loss.
    pub congestion: Congestion,
    /// What is admitted.
    pub admission: Admission,
    /// The longest frame on a lane, in bytes of its body: 1 KiB to 1 MiB. Longer bodies travel on
    /// streams of their own.
    pub frame_len_max: usize,
    /// The longest body at all, in bytes: up to 1 GiB.
    pub body_len_max: usize,
    /// How many bytes of frames wait on one lane before senders are refused: 64 KiB to 64 MiB.
    pub lane_len_max: usize,
    /// Each frame has a write of its own, though others are ready: for benches that show what
    /// sharing gains. No key of a file has it.
    pub writes_apart: bool,
}

impl Default for Config {
    /// Listens on a free port of the loopback interface; 10 s to be lost, 5 s for a handshake.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)],
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            mtu_max: 1_500,
            connection_window: 32 * 1024 * 1024,
            stream_window: 2 * 1024 * 1024,
            send_buffer: 512 * 1024,
            streams_max: 16,
            congestion: Congestion::Cubic,
            admission: Admission::default(),
            frame_len_max: 64 * 1024,
            body_len_max: 64 * 1024 * 1024,
            lane_len_max: 1024 * 1024,
            writes_apart: false,
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
        span("handshake_timeout", self.handshake_timeout, ms(100), ms(60_000))?;
        span("idle_timeout", self.idle_timeout, ms(500), ms(3_600_000))?;
        let shorter = self.idle_timeout.saturating_sub(ms(1));
        span("keep_alive", self.keep_alive, ms(100), shorter)?;
        number("mtu_max", self.mtu_max, 1_228, 9_216)?;
        number("connection_window", self.connection_window, 64 << 10, 1 << 30)?;
        number("stream_window", self.stream_window, 64 << 10, 1 << 30)?;
        number("send_buffer", self.send_buffer, 64 << 10, 64 << 20)?;
        number("streams_max", self.streams_max, 8, 10_000)?;
        number("frame_len_max", self.frame_len_max, 1 << 10, 1 << 20)?;
        number("body_len_max", self.body_len_max, self.frame_len_max, 1 << 30)?;
        number("lane_len_max", self.lane_len_max, 64 << 10, 64 << 20)
    }

    /// The caps of the decoders.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::for_body(self.frame_len_max)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::transport::lane::{BULKS_MAX, Lane};
    use std::time::Duration;

    #[test]
    fn the_defaults_can_stand() {
        Config::default().check().unwrap();
    }

    #[test]
    fn no_stream_can_hold_up_another() {
        let Config { connection_window, stream_window, streams_max, .. } = Config::default();
        assert!(connection_window >= streams_max * stream_window);
        let streams = BULKS_MAX + Lane::ALL.len();
        assert!(usize::try_from(streams_max).unwrap() > streams);
    }

    #[test]
    fn a_probe_that_comes_after_the_end_is_refused() {
        let config = Config { keep_alive: Duration::from_secs(10), ..Config::default() };
        insta::assert_snapshot!(
            config.check().unwrap_err(),
            @"keep_alive is 10s, and has to be 100ms to 9s 999ms"
        );
    }
}

//! The trace of a run: one number for everything that happened, and its last lines for people.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// FNV-1a with 64 bits (Fowler, Noll and Vo). All numbers go in as 64 or 128 bits in little-endian
/// order, so that a trace has one hash on every machine.
#[derive(Debug, Clone, Copy)]
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn write_i16(&mut self, number: i16) {
        self.write_i64(number.into());
    }

    fn write_i32(&mut self, number: i32) {
        self.write_i64(number.into());
    }

    fn write_i64(&mut self, number: i64) {
        self.write(&number.to_le_bytes());
    }

    fn write_i128(&mut self, number: i128) {
        self.write(&number.to_le_bytes());
    }

    fn write_isize(&mut self, number: isize) {
        self.write_i64(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// What happened so far.
#[derive(Debug)]
pub struct Trace {
    hash: Fnv,
    events: u64,
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Default for Trace {
    fn default() -> Self {
        let hash = Fnv(0xcbf2_9ce4_8422_2325);
        Self { hash, events: 0, lines: VecDeque::new(), lines_max: 0 }
    }
}

impl Trace {
    /// Keeps the last events as text.
    pub fn keep_lines(&mut self, lines_max: usize) {
        self.lines_max = lines_max;
    }

    /// The last events as text, if they are kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// One number for all events, in their order.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Notes an event.
    pub fn event(&mut self, at: Duration, what: &'static str, details: impl Hash + Debug) {
        self.events += 1;
        at.hash(&mut self.hash);
        what.hash(&mut self.hash);
        details.hash(&mut self.hash);
        if self.lines_max > 0 {
            if self.lines.len() >= self.lines_max {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{at:?} {what} {details:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;
    use std::time::Duration;

    #[test]
    fn a_trace_tells_order_time_and_details_apart() {
        let hash = |events: &[(u64, &'static str, u32)]| {
            let mut trace = Trace::default();
            for &(at, what, details) in events {
                trace.event(Duration::from_millis(at), what, details);
            }
            trace.hash()
        };
        let base = hash(&[(1, "a", 1), (2, "b", 2)]);
        assert_eq!(base, hash(&[(1, "a", 1), (2, "b", 2)]));
        assert_ne!(base, hash(&[(2, "b", 2), (1, "a", 1)]));
        assert_ne!(base, hash(&[(1, "a", 1), (3, "b", 2)]));
        assert_ne!(base, hash(&[(1, "a", 1), (2, "b", 3)]));
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let mut trace = Trace::default();
        trace.keep_lines(2);
        for n in 0..5 {
            trace.event(Duration::from_millis(n), "n", n);
        }
        assert_eq!(trace.lines().collect::<Vec<_>>(), ["3ms n 3", "4ms n 4"]);
        assert_eq!(trace.events(), 5);
    }
}

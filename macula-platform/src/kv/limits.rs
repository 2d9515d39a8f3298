//! How much is kept, and asked for at one time.

/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = 4 << 10;

/// The longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 1 << 20;

/// How many operations, and how many conditions, one transaction has at most.
pub const OPS_MAX: usize = 128;

/// How many bytes one transaction has at most.
pub const TXN_LEN_MAX: usize = 2 << 20;

/// Keys that begin with this are claims: each is put with a lease, keeps it, and goes only with it.
/// Whoever has made one counts on that, as who leads an election does.
pub const CLAIMS: &str = "macula/election/";

/// How many bytes keys and values have in all.
pub const ALL_LEN_MAX: u64 = 1 << 30;

/// How many events are kept for watches at most.
pub const EVENTS_MAX: usize = 100_000;

/// How many bytes they have at most.
pub const EVENTS_LEN_MAX: u64 = 64 << 20;

/// How many leases there are at most.
pub const LEASES_MAX: usize = 100_000;

/// How many keys hang on one lease at most.
pub const LEASE_KEYS_MAX: usize = 1_000;

/// How many bytes what a transaction finds has at most: the keys and values that its operations are
/// about, as they are before it.
pub const FOUND_LEN_MAX: usize = 4 << 20;

/// A lease lasts so long at least and at most, in milliseconds.
pub const LEASE_TTL_MS: std::ops::RangeInclusive<u64> = 500..=86_400_000;

/// How many events are looked at for one page of events.
pub const EVENTS_SCAN_MAX: usize = 10_000;

/// How many clients are remembered. The one that has not been heard of for longest is forgotten.
pub const SESSIONS_MAX: usize = 10_000;

/// How many bytes the answers have that are remembered, of all clients.
pub const ANSWERS_LEN_MAX: u64 = 64 << 20;

/// How many answers of one client are remembered that it has not said it has.
pub const ANSWERS_MAX: usize = 128;

/// How many keys one page of a range has at most.
pub const PAGE_MAX: usize = 1_000;

/// How many bytes one page has at most, unless its first entry alone has more.
pub const PAGE_LEN_MAX: usize = 1 << 20;

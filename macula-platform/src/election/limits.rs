//! How many there may be, and what elections are called by.

use crate::kv::limits::CLAIMS;

/// The longest name of an election, in bytes.
pub const NAME_LEN_MAX: usize = 256;

/// What the keys of all elections begin with.
pub const PREFIX: &str = CLAIMS;

/// How many candidacies a node has at most.
pub const CANDIDACIES_MAX: usize = 1_024;

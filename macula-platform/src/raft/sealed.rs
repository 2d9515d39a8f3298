//! Rows that know whether they are whole.
//!
//! A row is a version, the first 16 bytes of a BLAKE3 hash over its key and its body, and its body.
//! So a row with another bit, and one that stands under another key, are told from one that was
//! written.

use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;
const SUM_LEN: usize = 16;

/// How many bytes a row has beside its body.
pub(crate) const OVERHEAD: usize = 1 + SUM_LEN;

/// A row that was not written as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// It has other bytes than were written, or stands where another was.
    #[error("{what} is damaged: its checksum is wrong")]
    Checksum {
        /// Which row.
        what: String,
    },
    /// A later program has written it.
    #[error("{what} has version {version}, and this program knows {VERSION}")]
    Version {
        /// Which row.
        what: String,
        /// What it says.
        version: u8,
    },
    /// Its bytes are as written and mean nothing.
    #[error("{what} cannot be read: {why}")]
    Meaning {
        /// Which row.
        what: String,
        /// Why not.
        why: String,
    },
    /// A row is not there that has to be.
    #[error("{what} is missing")]
    Missing {
        /// Which row.
        what: String,
    },
}

fn sum(key: &[u8], body: &[u8]) -> [u8; SUM_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(key);
    hasher.update(body);
    let mut sum = [0; SUM_LEN];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Bytes as a row.
pub(crate) fn seal_bytes(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + SUM_LEN + body.len());
    row.push(VERSION);
    row.extend_from_slice(&sum(key, body));
    row.extend_from_slice(body);
    row
}

/// The bytes of a row. `what` names it in errors.
pub(crate) fn open_bytes<'a>(what: &str, key: &[u8], row: &'a [u8]) -> Result<&'a [u8], Damage> {
    let damaged = || Damage::Checksum { what: what.to_owned() };
    let (version, rest) = row.split_first().ok_or_else(damaged)?;
    let (said, body) = rest.split_at_checked(SUM_LEN).ok_or_else(damaged)?;
    if said != sum(key, body) {
        return Err(damaged());
    }
    if *version != VERSION {
        return Err(Damage::Version { what: what.to_owned(), version: *version });
    }
    Ok(body)
}

/// A value as a row.
///
/// # Errors
///
/// [`Damage::Meaning`] if it cannot be written.
pub(crate) fn seal<T: Serialize>(what: &str, key: &[u8], value: &T) -> Result<Vec<u8>, Damage> {
    let body = rmp_serde::to_vec_named(value);
    let body = body.map_err(|error| meaning(what, &error))?;
    Ok(seal_bytes(key, &body))
}

/// The value of a row.
pub(crate) fn open<T: DeserializeOwned>(what: &str, key: &[u8], row: &[u8]) -> Result<T, Damage> {
    let body = open_bytes(what, key, row)?;
    rmp_serde::from_slice(body).map_err(|error| meaning(what, &error))
}

fn meaning(what: &str, why: &impl std::fmt::Display) -> Damage {
    Damage::Meaning { what: what.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Damage, open, open_bytes, seal, seal_bytes};

    #[test]
    fn any_bit_that_is_turned_over_is_seen() {
        let row = seal_bytes(b"key", b"some body");
        assert_eq!(open_bytes("row", b"key", &row).unwrap(), b"some body");
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open_bytes("row", b"key", &flipped).is_err(), "bit {bit}");
        }
        for len in 0..row.len() {
            assert!(open_bytes("row", b"key", &row[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_row_stands_under_its_own_key_only() {
        let row = seal("row", b"1", &7_u64).unwrap();
        assert_eq!(open::<u64>("row", b"1", &row), Ok(7));
        let moved = open::<u64>("entry 2", b"2", &row).unwrap_err();
        assert_eq!(moved.to_string(), "entry 2 is damaged: its checksum is wrong");
        assert!(matches!(open::<String>("row", b"1", &row), Err(Damage::Meaning { .. })));
    }
}

//! What can be said of a command without a state: whether it is too much. Clients, voters and the state
//! itself all say the same.

use bytes::Bytes;

use super::command::{Command, LeaseId, Op, Refusal, Txn};
use super::limits::{CLAIMS, KEY_LEN_MAX, LEASE_TTL_MS, OPS_MAX, TXN_LEN_MAX, VALUE_LEN_MAX};

/// How many bytes something has.
pub(super) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

pub(super) fn within(what: &str, len: usize, max: usize) -> Result<(), Refusal> {
    if len <= max {
        return Ok(());
    }
    Err(Refusal::TooLong { what: what.to_owned(), len: size(len), max: size(max) })
}

pub(super) fn few(what: &str, len: usize, max: usize) -> Result<(), Refusal> {
    if len <= max {
        return Ok(());
    }
    Err(Refusal::TooMany { what: what.to_owned(), len: size(len), max: size(max) })
}

/// What keys begin with, or one of the ends of a range; it may be nothing.
pub(super) fn prefix(prefix: &Bytes) -> Result<(), Refusal> {
    within("key", prefix.len(), KEY_LEN_MAX)
}

pub(super) fn key(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    prefix(key)
}

/// Whether a key may be put with this lease, or be deleted, where it hangs on another one now.
pub(super) fn claim(op: &Op, hangs_on: Option<LeaseId>) -> Result<(), Refusal> {
    let may = match op {
        Op::Get(_) => true,
        Op::Put { lease, .. } => lease.is_some() && hangs_on.is_none_or(|on| *lease == Some(on)),
        Op::Delete(_) => false,
    };
    if may || !op.key().starts_with(CLAIMS.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::Claim { key: String::from_utf8_lossy(op.key()).into_owned() })
}

pub(super) fn ttl(ttl_ms: u64) -> Result<(), Refusal> {
    if LEASE_TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    let (min, max) = (*LEASE_TTL_MS.start(), *LEASE_TTL_MS.end());
    Err(Refusal::NoTtl { ttl_ms, min, max })
}

pub(super) fn txn(txn: &Txn) -> Result<(), Refusal> {
    let Txn { conditions, then, otherwise } = txn;
    few("conditions", conditions.len(), OPS_MAX)?;
    few("operations", then.len() + otherwise.len(), OPS_MAX)?;
    let mut len = 0;
    for condition in conditions {
        key(&condition.key)?;
        len += condition.key.len();
        if let super::command::Holds::Is(value) = &condition.holds {
            within("value", value.len(), VALUE_LEN_MAX)?;
            len += value.len();
        }
    }
    for op in then.iter().chain(otherwise) {
        key(op.key())?;
        claim(op, None)?;
        len += op.key().len();
        if let Op::Put { value, .. } = op {
            within("value", value.len(), VALUE_LEN_MAX)?;
            len += value.len();
        }
    }
    within("transaction", len, TXN_LEN_MAX)
}

pub(super) fn command(command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Txn(all) => txn(all),
        Command::Grant { ttl_ms } => ttl(*ttl_ms),
        Command::Open | Command::Revoke { .. } | Command::Compact { .. } => Ok(()),
    }
}

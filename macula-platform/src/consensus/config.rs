//! What a node does for agreement.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kv;
use crate::raft::{self, elector};

/// What a node is in the group of its realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A node that has no seeds founds a group, of which it is the only voter at first. One that has
    /// seeds is a client.
    #[default]
    Auto,
    /// A node that can vote, and founds a group, whatever seeds it has, unless its files know one. There
    /// is one in a realm: each founds a group of its own.
    Founder,
    /// A node that can vote. If it has no seeds it founds a group, unless its files know one. If it has,
    /// it waits until it is taken in by command.
    Voter,
    /// A node that keeps nothing, and asks the voters.
    Client,
}

/// What a node does for agreement. All members of a group have the same spans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What it is in the group.
    pub role: Role,
    /// The folder of its files. Without one a voter keeps all in memory, and is another member each time
    /// that its process is started.
    pub folder: Option<PathBuf>,
    /// How often a leader says that it is there, in milliseconds. 10 to 5,000.
    pub heartbeat_ms: u64,
    /// How long a leader that was heard is believed to be there, in milliseconds. At least three
    /// heartbeats, and 50 to 60,000.
    pub lease_ms: u64,
    /// By how much the voters' waits for an election are apart, in milliseconds. 10 to 10,000.
    pub election_band_ms: u64,
    /// How long the others have to say whether they would vote, in milliseconds. 10 to 10,000.
    pub ask_within_ms: u64,
    /// After how many entries a snapshot is made. At least 10.
    pub snapshot_entries: u64,
    /// Or after how many KiB of entries. At least 64.
    pub snapshot_kib: u64,
    /// How many entries that are in a snapshot are kept for those who are a little behind.
    pub kept_entries: u64,
    /// The limits of the key-value service and its clients.
    pub kv: kv::Config,
}

impl Default for Config {
    /// `auto`, in memory; 100 ms, 500 ms, 100 ms, 200 ms; a snapshot each 10,000 entries or 64 MiB, of
    /// which 1,000 are kept.
    fn default() -> Self {
        Self {
            role: Role::Auto,
            folder: None,
            heartbeat_ms: 100,
            lease_ms: 500,
            election_band_ms: 100,
            ask_within_ms: 200,
            snapshot_entries: 10_000,
            snapshot_kib: 65_536,
            kept_entries: 1_000,
            kv: kv::Config::default(),
        }
    }
}

/// Why a configuration makes no sense. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// A number is out of its range.
    #[error("`{field}` must be from {min} to {max}, and is {value}")]
    Range {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least that it may be.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A lease would end between two heartbeats.
    #[error(
        "the lease is {lease_ms} ms, and must be at least 3 times the heartbeat, which is {heartbeat_ms} ms"
    )]
    Lease {
        /// The lease.
        lease_ms: u64,
        /// The heartbeat.
        heartbeat_ms: u64,
    },
    /// A client has no files.
    #[error("`folder` is set, and a client keeps nothing")]
    Folder,
    /// A limit of the key-value service.
    #[error("kv: {0}")]
    Kv(#[from] kv::InvalidConfig),
}

impl InvalidConfig {
    /// The key that is wrong, or one of those that contradict one another.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Range { field, .. } => field,
            Self::Lease { .. } => "lease",
            Self::Folder => "folder",
            Self::Kv(_) => "kv",
        }
    }
}

impl Config {
    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// The first [`InvalidConfig`] found.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let ranges = [
            ("heartbeat_ms", self.heartbeat_ms, 10, 5_000),
            ("lease_ms", self.lease_ms, 50, 60_000),
            ("election_band_ms", self.election_band_ms, 10, 10_000),
            ("ask_within_ms", self.ask_within_ms, 10, 10_000),
            ("snapshot_entries", self.snapshot_entries, 10, 1 << 32),
            ("snapshot_kib", self.snapshot_kib, 64, 1 << 32),
            ("kept_entries", self.kept_entries, 0, 1 << 32),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(InvalidConfig::Range { field, value, min, max });
            }
        }
        let (lease_ms, heartbeat_ms) = (self.lease_ms, self.heartbeat_ms);
        if lease_ms < 3 * heartbeat_ms {
            return Err(InvalidConfig::Lease { lease_ms, heartbeat_ms });
        }
        if self.role == Role::Client && self.folder.is_some() {
            return Err(InvalidConfig::Folder);
        }
        Ok(self.kv.check()?)
    }

    /// Whether the node votes, or can.
    #[must_use]
    pub const fn is_voter(&self, has_seeds: bool) -> bool {
        match self.role {
            Role::Auto => !has_seeds,
            Role::Founder | Role::Voter => true,
            Role::Client => false,
        }
    }

    /// Whether a node that votes founds a group.
    #[must_use]
    pub const fn founds(&self, has_seeds: bool) -> bool {
        match self.role {
            Role::Founder => true,
            Role::Auto | Role::Voter => !has_seeds,
            Role::Client => false,
        }
    }

    pub(super) fn member(&self) -> raft::Config {
        let ms = Duration::from_millis;
        raft::Config {
            elections: elector::Config {
                lease: ms(self.lease_ms),
                band: ms(self.election_band_ms),
                ask_within: ms(self.ask_within_ms),
                heartbeat: ms(self.heartbeat_ms),
            },
            snapshot_entries: self.snapshot_entries,
            snapshot_len: self.snapshot_kib.saturating_mul(1024),
            kept_entries: self.kept_entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Role};

    #[test]
    fn the_defaults_are_legal_and_what_is_not_is_told_with_its_reason() {
        assert_eq!(Config::default().check(), Ok(()));
        let told = |config: Config| config.check().unwrap_err().to_string();
        let base = Config::default;
        let folder = Some("x".into());
        let wrong = [
            Config { heartbeat_ms: 0, ..base() },
            Config { lease_ms: 200, ..base() },
            Config { role: Role::Client, folder, ..base() },
            Config { kv: crate::kv::Config { watches_max: 0, ..Default::default() }, ..base() },
        ];
        insta::assert_snapshot!(wrong.map(told).join("\n"));
    }

    #[test]
    fn only_known_words_are_read() {
        let read = |text: &str| serde_json::from_str::<Config>(text);
        assert_eq!(read(r#"{"role": "voter"}"#).unwrap().role, Role::Voter);
        assert!(read(r#"{"roll": "voter"}"#).is_err());
        assert!(read(r#"{"role": "leader"}"#).is_err());
        assert!(read(r#"{"kv": {"watches": 1}}"#).is_err());
    }

    #[test]
    fn a_node_without_seeds_votes_unless_it_is_a_client() {
        let votes = |role, has_seeds| Config { role, ..Config::default() }.is_voter(has_seeds);
        assert!(votes(Role::Auto, false) && !votes(Role::Auto, true));
        assert!(votes(Role::Voter, false) && votes(Role::Voter, true));
        assert!(votes(Role::Founder, false) && votes(Role::Founder, true));
        let founds = |role, has_seeds| Config { role, ..Config::default() }.founds(has_seeds);
        for role in [Role::Auto, Role::Voter] {
            assert!(founds(role, false) && !founds(role, true));
        }
        assert!(founds(Role::Founder, true) && !founds(Role::Client, false));
        assert!(!votes(Role::Client, false) && !votes(Role::Client, true));
    }
}

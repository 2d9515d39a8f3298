//! The limits of a table.

use serde::{Deserialize, Serialize};

/// How large a table of registers may become, and how far a subscriber may fall behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The longest key and the longest prefix, in bytes. At least 1.
    pub key_len_max: usize,
    /// The longest value, in bytes.
    pub value_len_max: usize,
    /// How many keys the table holds, those of removed registers among them. At least 1.
    pub keys_max: usize,
    /// How many subscribers there may be at one time.
    pub subscribers_max: usize,
    /// How many changes wait for one subscriber before it loses the oldest and is told so. At
    /// least 1.
    pub changes_len_max: usize,
    /// How many keys one answer lists. At least 1.
    pub page_len_max: usize,
}

impl Default for Config {
    /// 512 bytes for a key, 64 KiB for a value, 100,000 keys, 1,024 subscribers, 256 waiting
    /// changes, 1,024 keys in an answer.
    fn default() -> Self {
        Self {
            key_len_max: 512,
            value_len_max: 64 * 1024,
            keys_max: 100_000,
            subscribers_max: 1024,
            changes_len_max: 256,
            page_len_max: 1024,
        }
    }
}

impl Config {
    /// Whether a table under these limits can hold anything.
    ///
    /// # Errors
    ///
    /// The first [`InvalidConfig`] found.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let limits = [
            ("key_len_max", self.key_len_max),
            ("keys_max", self.keys_max),
            ("changes_len_max", self.changes_len_max),
            ("page_len_max", self.page_len_max),
        ];
        match limits.iter().find(|(_, value)| *value == 0) {
            Some((limit, _)) => Err(InvalidConfig { limit }),
            None => Ok(()),
        }
    }
}

/// A limit under which nothing works. Nothing was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{limit}` must be at least 1, and is 0")]
pub struct InvalidConfig {
    /// The limit's name.
    pub limit: &'static str,
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn the_defaults_are_legal_and_a_zero_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let error = Config { keys_max: 0, ..Config::default() }.check().unwrap_err();
        assert_eq!(error.to_string(), "`keys_max` must be at least 1, and is 0");
    }
}

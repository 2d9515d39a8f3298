//! What a node does for replicated types.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::{self, Config};
use super::error::Error;

/// The longest name of a bucket, in bytes.
pub const BUCKET_LEN_MAX: usize = 256;

/// What a node does for replicated types: the section `[crdt]` of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder of what is kept on disk. Without one nothing is.
    pub folder: Option<PathBuf>,
    /// The buckets that are kept on disk; `*` for all. A node that starts again holds what it has there. All
    /// others are in memory: a node that starts again takes them from the others, once it uses them, or at once
    /// if it is to [hold](Self::hold) them. What no node holds is gone.
    pub durable: Vec<String>,
    /// The buckets that the node holds from its start on, beside those that it has on disk. It holds others from
    /// when it first uses them.
    pub hold: Vec<String>,
    /// How many buckets the node may hold. At least 1.
    pub buckets_max: usize,
    /// How many changes wait for one that is subscribed to them before it loses the oldest. At least 1.
    pub changes_len_max: usize,
    /// How long a write or read waits for its level, unless it says otherwise, in milliseconds. At
    /// least 1.
    pub within_ms: u64,
    /// How each bucket is replicated.
    pub bucket: Config,
}

impl Default for Settings {
    /// All in memory; 256 buckets, 1,024 changes, 5 s.
    fn default() -> Self {
        Self {
            folder: None,
            durable: Vec::new(),
            hold: Vec::new(),
            buckets_max: 256,
            changes_len_max: 1024,
            within_ms: 5_000,
            bucket: Config::default(),
        }
    }
}

impl Settings {
    /// Whether a node can do so.
    ///
    /// # Errors
    ///
    /// The first [`Invalid`] found.
    pub fn check(&self) -> Result<(), Invalid> {
        self.bucket.check()?;
        let least = [
            ("buckets_max", self.buckets_max),
            ("changes_len_max", self.changes_len_max),
            ("within_ms", usize::try_from(self.within_ms).unwrap_or(usize::MAX)),
        ];
        if let Some((key, _)) = least.iter().find(|(_, value)| *value == 0) {
            return Err(Invalid::Zero { key });
        }
        if let Some(bucket) = self.hold.iter().find(|bucket| !is_bucket(bucket)) {
            return Err(Invalid::Bucket { bucket: bucket.clone() });
        }
        if self.folder.is_none() && !self.durable.is_empty() {
            return Err(Invalid::NoFolder);
        }
        Ok(())
    }

    /// Whether a bucket is kept on disk.
    #[must_use]
    pub fn is_durable(&self, bucket: &str) -> bool {
        self.durable.iter().any(|name| name == "*" || name == bucket)
    }
}

/// Whether a bucket can be called so; says why not.
///
/// # Errors
///
/// [`Error::NoBucket`], [`Error::BucketTooLong`].
pub(super) fn check_bucket(name: &str) -> Result<(), Error> {
    match name.len() {
        0 => Err(Error::NoBucket { key: name.into() }),
        1..=BUCKET_LEN_MAX => Ok(()),
        len => Err(Error::BucketTooLong { len, len_max: BUCKET_LEN_MAX }),
    }
}

/// Whether a bucket can have this name.
const fn is_bucket(name: &str) -> bool {
    !name.is_empty() && name.len() <= BUCKET_LEN_MAX
}

/// A node cannot do so. Nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// How buckets are replicated makes no sense.
    #[error("bucket: {0}")]
    Bucketwise(#[from] config::Invalid),
    /// A number has to be something.
    #[error("`{key}` must be at least 1, and is 0")]
    Zero {
        /// Its name.
        key: &'static str,
    },
    /// A bucket has no name, or one that is too long.
    #[error("no bucket can be called {bucket:?}: a name has 1 to {BUCKET_LEN_MAX} bytes")]
    Bucket {
        /// The name.
        bucket: String,
    },
    /// Something is to be kept on disk, and nothing says where.
    #[error("`durable` names buckets, and no `folder` says where to keep them")]
    NoFolder,
}

impl Invalid {
    /// The key of the configuration that it is about.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Bucketwise(config::Invalid::TooSmall { .. }) => "bucket",
            Self::Bucketwise(config::Invalid::Limit(_)) => "limits",
            Self::Zero { key } => key,
            Self::Bucket { .. } => "hold",
            Self::NoFolder => "durable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Invalid, Settings};

    #[test]
    fn the_defaults_are_legal_and_what_is_not_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let wrong = Settings { durable: vec!["carts".to_owned()], ..Settings::default() };
        assert_eq!(wrong.check(), Err(Invalid::NoFolder));
        let wrong = Settings { hold: vec![String::new()], ..Settings::default() };
        assert!(matches!(wrong.check(), Err(Invalid::Bucket { .. })));
        let wrong = Settings { buckets_max: 0, ..Settings::default() };
        assert_eq!(wrong.check(), Err(Invalid::Zero { key: "buckets_max" }));
        let durable = Settings { durable: vec!["*".to_owned()], ..Settings::default() };
        assert!(durable.is_durable("any") && !Settings::default().is_durable("any"));
    }
}

//! The settings of all parts of the table.

use std::time::Duration;

use super::super::{cache, limits, lookup, providers, published, records, requests, table};
use crate::bounds::{Invalid, number, span};

/// How many nodes may be asked to agree at most.
const AGREE_MAX: usize = 20;

/// The settings of the parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The routing table.
    pub table: table::Config,
    /// Lookups.
    pub lookup: lookup::Config,
    /// Requests to others.
    pub requests: requests::Config,
    /// The records that are kept for others.
    pub records: records::Config,
    /// The providers that are kept for others.
    pub providers: providers::Config,
    /// What this node publishes.
    pub published: published::Config,
    /// What others may ask.
    pub limits: limits::Config,
    /// Answers that are remembered.
    pub cache: cache::Config,
    /// How many nodes have to agree on a value before a search for it ends early. With 1, whoever
    /// is asked first and has an old value ends it. 1 to 20, and to the lookup's k.
    pub agree: usize,
    /// How long a command may take if nothing else is said. 100 ms to 25 s: a put looks first what
    /// is there, and who asks by the admin socket waits for a minute.
    pub query_timeout: Duration,
    /// A bug to plant in the table.
    #[cfg(any(test, feature = "turmoil"))]
    pub bug: Option<super::Bug>,
}

impl Default for Config {
    /// The defaults of the parts, but that lookups are [guarded](lookup::Config::guarded). Three nodes
    /// agree; 10 s for a command.
    fn default() -> Self {
        Self {
            table: table::Config::default(),
            lookup: lookup::Config::guarded(),
            requests: requests::Config::default(),
            records: records::Config::default(),
            providers: providers::Config::default(),
            published: published::Config::default(),
            limits: limits::Config::default(),
            cache: cache::Config::default(),
            agree: 3,
            query_timeout: Duration::from_secs(10),
            #[cfg(any(test, feature = "turmoil"))]
            bug: None,
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
        self.table.check()?;
        self.lookup.check()?;
        self.requests.check()?;
        self.records.check()?;
        self.providers.check()?;
        self.published.check()?;
        self.limits.check()?;
        self.cache.check()?;
        number("agree", self.agree, 1, AGREE_MAX.min(self.lookup.k))?;
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(25));
        span("query_timeout", self.query_timeout, shortest, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::dht::rules::Limits;
    use std::time::Duration;

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_can_stand() {
        Config::default().check().unwrap();
        Limits::default().check().unwrap();
    }

    #[test]
    fn what_cannot_stand_is_told_with_its_range() {
        let all = [
            told(|config| config.table.k = 0),
            told(|config| config.table.limits.table_max = 0),
            told(|config| config.lookup.alpha = 17),
            told(|config| config.requests.timeout_initial = Duration::from_secs(9)),
            told(|config| config.requests.timeout_min = Duration::from_secs(6)),
            told(|config| config.records.author_count_max = 20_000),
            told(|config| config.providers.bytes_max = 0),
            told(|config| config.published.provider_part = f64::NAN),
            told(|config| config.limits.ignored_for = Duration::from_secs(86_401)),
            told(|config| config.cache.ttl = Duration::from_secs(3_601)),
            told(|config| config.lookup.k = 2),
            told(|config| config.query_timeout = Duration::ZERO),
        ];
        insta::assert_snapshot!(all.join("\n"));
        let limits = Limits { record_ttl_max: Duration::from_secs(1), ..Limits::default() };
        let told = limits.check().unwrap_err().to_string();
        assert_eq!(told, "record_ttl_max is 1s, and has to be 1m to 30days");
    }
}

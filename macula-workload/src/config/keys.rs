//! Every key that is legal, where it is legal, and what its value means.

mod access;
mod consensus;
mod crdt;
mod dht;
mod membership;
mod mesh;
mod pool;
mod pubsub;
mod relay;
mod tls;
mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use macula_core::path::{ChildId, Path};
use macula_core::supervision::{AutoShutdown, Backoff, Override, Restart, Shutdown, Strategy};

use super::error::{Error, Fault, Place, Problem};
use super::item::{Item, Key, Read, read_table};
use super::{Config, Node, Spot};

pub(super) use access::ACCESS;
#[cfg(test)]
pub(super) use access::RULE;
pub(super) use consensus::{CONSENSUS, KV};
pub(super) use crdt::{BUCKET, CRDT, TAKEN};
pub(super) use dht::{CACHE, DHT, LIMITS, PROVIDERS, PUBLISHED, RECORDS, REQUESTS, TABLE};
pub(super) use membership::MEMBERSHIP;
pub(super) use mesh::{ADMIN, MESH};
pub(super) use pool::POOL;
pub(super) use pubsub::PUBSUB;
pub(super) use relay::RELAY;
pub(super) use tls::TLS;
pub(super) use transport::{ADMISSION, TRANSPORT};

/// The most restarts that one period may allow: a supervisor remembers the time of each.
const INTENSITY_MAX: u64 = 10_000;

/// How the root is written; its path is empty.
const ROOT: &str = "root";

/// The tables of a configuration.
pub(super) static TOP: &[Key<Config>] = &[
    Key { name: "node", read: |config, item| item.table(&mut config.node, NODE).map(drop) },
    Key {
        name: "transport",
        read: |config, item| {
            said(config, item, |config| item.table(&mut config.transport, TRANSPORT))
        },
    },
    Key { name: "tls", read: |config, item| item.table(&mut config.tls, TLS).map(drop) },
    Key {
        name: "pool",
        read: |config, item| said(config, item, |config| item.table(&mut config.pool, POOL)),
    },
    Key { name: "peers", read: |config, item| tls::peers(&mut config.peers, item) },
    Key {
        name: "mesh",
        read: |config, item| said(config, item, |config| item.table(&mut config.mesh, MESH)),
    },
    Key {
        name: "membership",
        read: |config, item| {
            said(config, item, |config| item.table(&mut config.membership, MEMBERSHIP))
        },
    },
    Key { name: "dht", read: |config, item| said(config, item, |config| item.table(config, DHT)) },
    Key {
        name: "access",
        read: |config, item| said(config, item, |config| item.table(&mut config.access, ACCESS)),
    },
    Key {
        name: "relay",
        read: |config, item| said(config, item, |config| item.table(&mut config.relay, RELAY)),
    },
    Key {
        name: "pubsub",
        read: |config, item| said(config, item, |config| item.table(&mut config.pubsub, PUBSUB)),
    },
    Key {
        name: "consensus",
        read: |config, item| said(config, item, |config| item.table(config, CONSENSUS)),
    },
    Key {
        name: "crdt",
        read: |config, item| said(config, item, |config| item.table(config, CRDT)),
    },
    Key { name: "admin", read: |config, item| item.table(&mut config.admin, ADMIN).map(drop) },
    Key { name: "supervision", read: |config, item| supervision(&mut config.supervision, item) },
];

/// The keys of `[node]`.
pub(super) static NODE: &[Key<Node>] = &[
    Key {
        name: "name",
        read: |node, item| {
            let text = item.string("a text in quotes")?;
            ChildId::new(text).map_err(|invalid| item.fault(Problem::Name(invalid)))?;
            text.clone_into(&mut node.name);
            Ok(())
        },
    },
    Key { name: "shutdown", read: |node, item| put(&mut node.shutdown, item.duration()) },
];

/// The keys that every child has.
pub(super) const CHILD: &[&str] = &["restart", "shutdown", "significant", "backoff", "liveness"];

/// The keys that supervisors have besides.
pub(super) const FLAGS: &[&str] = &["strategy", "intensity", "period", "auto_shutdown"];

/// The keys of `[supervision."a/path"]`.
pub(super) static SECTION: &[Key<Section>] = &[
    Key { name: "strategy", read: |s, item| say(&mut s.said.strategy, item.word(STRATEGIES)) },
    Key {
        name: "intensity",
        read: |s, item| {
            let number = item.integer(0, INTENSITY_MAX)?;
            s.said.intensity = u32::try_from(number).ok();
            Ok(())
        },
    },
    Key { name: "period", read: |s, item| say(&mut s.said.period, item.duration()) },
    Key {
        name: "auto_shutdown",
        read: |s, item| say(&mut s.said.auto_shutdown, item.word(AUTO_SHUTDOWNS)),
    },
    Key { name: "restart", read: |s, item| say(&mut s.said.restart, item.word(RESTARTS)) },
    Key {
        name: "shutdown",
        read: |s, item| {
            let expected = "a duration such as \"5s\", or \"brutal\", or \"infinity\"";
            let words = [("brutal", Shutdown::Brutal), ("infinity", Shutdown::Infinity)];
            say(&mut s.said.shutdown, item.duration_or(&words, expected, Shutdown::Timeout))
        },
    },
    Key { name: "significant", read: |s, item| say(&mut s.said.significant, item.boolean()) },
    Key { name: "backoff", read: backoff },
    Key {
        name: "liveness",
        read: |s, item| {
            let expected = "a duration such as \"3s\", or \"none\"";
            say(&mut s.said.liveness, item.duration_or(&[("none", None)], expected, Some))
        },
    },
];

/// The keys of `backoff = { }`.
pub(super) static BACKOFF: &[Key<PartialBackoff>] = &[
    Key { name: "initial", read: |b, item| say(&mut b.initial, item.duration()) },
    Key { name: "max", read: |b, item| say(&mut b.max, item.duration()) },
    Key { name: "jitter", read: |b, item| say(&mut b.jitter, item.number()) },
    Key { name: "reset_after", read: |b, item| say(&mut b.reset_after, item.duration()) },
];

const STRATEGIES: &[(&str, Strategy)] = &[
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
];

const AUTO_SHUTDOWNS: &[(&str, AutoShutdown)] = &[
    ("never", AutoShutdown::Never),
    ("any_significant", AutoShutdown::AnySignificant),
    ("all_significant", AutoShutdown::AllSignificant),
];

const RESTARTS: &[(&str, Restart)] = &[
    ("permanent", Restart::Permanent),
    ("transient", Restart::Transient),
    ("temporary", Restart::Temporary),
];

/// What is said of one path, and where each part of it is said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Section {
    /// Where the path itself stands.
    pub(super) place: Place,
    said: Override,
    backoff: Option<PartialBackoff>,
    /// Where each key stands, those of the back-off among them: no two have one name.
    pub(super) keys: BTreeMap<&'static str, Place>,
}

/// What is said of a back-off.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct PartialBackoff {
    /// Whether it is switched off before anything else is said.
    none: bool,
    initial: Option<Duration>,
    max: Option<Duration>,
    jitter: Option<f64>,
    reset_after: Option<Duration>,
}

impl Section {
    const fn at(place: Place) -> Self {
        let said = Override {
            restart: None,
            shutdown: None,
            significant: None,
            backoff: None,
            liveness: None,
            strategy: None,
            intensity: None,
            period: None,
            auto_shutdown: None,
        };
        Self { place, said, backoff: None, keys: BTreeMap::new() }
    }

    /// Forgets where it stands.
    pub(super) fn forget_places(&mut self) {
        self.place = Place::WholeFile("".into());
        self.keys.clear();
    }

    /// What is said, where what is not said of the back-off is as the code has it.
    pub(super) fn over(&self, code: Backoff) -> Override {
        let backoff = self.backoff.map(|said| {
            let base = if said.none { Backoff::NONE } else { code };
            Backoff {
                initial: said.initial.unwrap_or(base.initial),
                max: said.max.unwrap_or(base.max),
                jitter: said.jitter.unwrap_or(base.jitter),
                reset_after: said.reset_after.unwrap_or(base.reset_after),
            }
        });
        Override { backoff, ..self.said }
    }
}

fn supervision(sections: &mut BTreeMap<Path, Section>, item: &Item<'_>) -> Result<(), Error> {
    let mut faults = Error::none();
    for (key, value) in item.as_table("a table of paths")? {
        faults.absorb(section(sections, &Item { text: item.text, key, value }));
    }
    faults.or(())
}

fn section(sections: &mut BTreeMap<Path, Section>, item: &Item<'_>) -> Result<(), Error> {
    let path = match item.name() {
        ROOT => Path::root(),
        // The empty text would be the root's path; it is written out here.
        "" => parse(item, "/")?,
        text => parse(item, text)?,
    };
    let table = item.as_table("a table of what is said of the path")?;
    let mut faults = Error::none();
    for (key, value) in table {
        let unknown = !SECTION.iter().any(|legal| legal.name == key.get_ref());
        if unknown && value.get_ref().is_table() {
            let place = item.text.place(key.span().start);
            let path = format!("{}/{}", item.name(), key.get_ref());
            let key = key.get_ref().to_string();
            faults.push(Fault { place, problem: Problem::PathInParts { key, path } });
        }
    }
    faults.or(())?;
    let section = sections.entry(path).or_insert_with(|| Section::at(item.key_place()));
    let read = read_table(item.text, table, section, SECTION)?;
    section.keys.extend(read);
    Ok(())
}

fn parse(item: &Item<'_>, text: &str) -> Result<Path, Error> {
    Path::parse(text).map_err(|source| {
        let problem = Problem::NotPath { path: item.name().to_owned(), source };
        Fault { place: item.key_place(), problem }.into()
    })
}

fn backoff(section: &mut Section, item: &Item<'_>) -> Result<(), Error> {
    if item.value.get_ref().is_table() {
        let read = item.table(section.backoff.get_or_insert_default(), BACKOFF)?;
        section.keys.extend(read);
        return Ok(());
    }
    let expected = "a table such as { initial = \"100ms\", max = \"10s\" }, or \"none\"";
    if item.string(expected)? != "none" {
        return Err(item.wrong(expected));
    }
    section.backoff = Some(PartialBackoff { none: true, ..PartialBackoff::default() });
    BACKOFF.iter().for_each(|key| drop(section.keys.remove(key.name)));
    Ok(())
}

/// Where something of the node is.
fn spot(item: &Item<'_>) -> Result<Spot, Error> {
    Ok(match item.string("a path in quotes, \"auto\", or \"none\"")? {
        "auto" => Spot::Auto,
        _ => item.file_or_none()?.map_or(Spot::None, Spot::At),
    })
}

fn put<T>(target: &mut T, value: Result<T, Error>) -> Result<(), Error> {
    *target = value?;
    Ok(())
}

fn say<T>(target: &mut Option<T>, value: Result<T, Error>) -> Result<(), Error> {
    *target = Some(value?);
    Ok(())
}

/// Reads a table, and remembers where it and its keys stand, for what holds only together.
fn said(
    config: &mut Config,
    item: &Item<'_>,
    read: impl FnOnce(&mut Config) -> Result<Read, Error>,
) -> Result<(), Error> {
    said_at(config, item.name(), item, read)
}

/// Likewise for a table that stands in another; `path` leads to it.
fn said_at(
    config: &mut Config,
    path: &str,
    item: &Item<'_>,
    read: impl FnOnce(&mut Config) -> Result<Read, Error>,
) -> Result<(), Error> {
    config.places.insert(path.to_owned(), item.key_place());
    for (key, place) in read(config)? {
        config.places.insert(format!("{path}.{key}"), place);
    }
    Ok(())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn span(target: &mut Duration, item: &Item<'_>, min: Duration, max: Duration) -> Result<(), Error> {
    put(target, item.duration_in(min, max))
}

fn limit<T: TryFrom<u64>>(
    target: &mut T,
    item: &Item<'_>,
    min: u64,
    max: u64,
) -> Result<(), Error> {
    let number = item.integer(min, max)?;
    // Every bound fits, also where a usize has 32 bits.
    if let Ok(number) = T::try_from(number) {
        *target = number;
    }
    Ok(())
}

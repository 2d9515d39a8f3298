//! The three layers: a file, the environment, and assignments from the command line.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::error::{Error, Fault, Place, Problem};
use super::item::{Key, read_table};
use super::keys::{
    ADMIN, ADMISSION, BUCKET, CACHE, CONSENSUS, CRDT, DHT, KV, LIMITS, MEMBERSHIP, MESH, NODE,
    POOL, PROVIDERS, PUBLISHED, PUBSUB, RECORDS, RELAY, REQUESTS, TABLE, TAKEN, TLS, TOP,
    TRANSPORT,
};
use super::near::nearest;
use super::text::{Origin, Text};

/// The largest file that is read, in bytes.
pub const FILE_LEN_MAX: u64 = 1024 * 1024;

/// What the names of our variables begin with.
const PREFIX: &str = "MACULA_";

/// The variable that holds assignments, as `--set` does.
const SET: &str = "MACULA_SET";

/// Variables of ours that are no configuration: the filter of the log, and the seed of a demo.
const OTHERS: &[&str] = &["MACULA_HOME", "MACULA_LOG", "MACULA_SEED"];

/// Reads a file and gives its text to `apply`.
pub(super) fn file(config: &mut Config, path: &std::path::Path) -> Result<(), Error> {
    let name: Arc<str> = path.display().to_string().into();
    let whole = |problem| Fault { place: Place::WholeFile(Arc::clone(&name)), problem };
    let bytes = read(path).map_err(|error| whole(Problem::Unreadable { error }))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_LEN_MAX {
        return Err(whole(Problem::TooLarge { max: FILE_LEN_MAX }).into());
    }
    let body = match std::str::from_utf8(&bytes) {
        Ok(body) => body,
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let good = String::from_utf8_lossy(good);
            let text = Text::new(Origin::File(name), &good);
            return Err(Fault { place: text.place(good.len()), problem: Problem::NotUtf8 }.into());
        }
    };
    apply(config, &Text::new(Origin::File(name), body))
}

fn read(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Takes what a text says over what is there.
pub(super) fn apply(config: &mut Config, text: &Text<'_>) -> Result<(), Error> {
    let table = text.parse()?;
    read_table(text, table.get_ref(), config, TOP).map(drop).map_err(|mut faults| {
        faults.sort();
        faults
    })
}

/// Takes our variables, by name, and the assignments in [`SET`] after all others.
pub(super) fn environment(
    config: &mut Config,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    let ours =
        |(name, _): &(String, String)| name.starts_with(PREFIX) && !OTHERS.contains(&name.as_str());
    let mut ours: Vec<(String, String)> = variables.into_iter().filter(ours).collect();
    ours.sort_by(|a, b| (a.0 == SET, &a.0).cmp(&(b.0 == SET, &b.0)));
    let mut faults = Error::none();
    for (name, value) in ours {
        let result =
            if name == SET { sets(config, &value) } else { variable(config, &name, &value) };
        faults.absorb(result);
    }
    faults.or(())
}

fn variable(config: &mut Config, name: &str, value: &str) -> Result<(), Error> {
    let place = Place::Environment(name.into());
    let legal = variables();
    match legal.iter().find(|(legal, _)| legal == name) {
        Some((_, key)) => assign(config, key, value, place),
        None => {
            let near = nearest(name, legal.iter().map(|(legal, _)| legal.as_str()));
            // A path has signs that the name of a variable cannot have.
            let path = name.starts_with("MACULA_SUPERVISION").then_some(SET);
            let near = near.or(path).map(str::to_owned);
            let fixed = [SET].iter().chain(OTHERS).map(|&other| other.to_owned());
            let legal = legal.iter().map(|(legal, _)| legal.clone()).chain(fixed).collect();
            Err(Fault { place, problem: Problem::UnknownVariable { legal, near } }.into())
        }
    }
}

/// The variables that stand for one key each, and the keys.
fn variables() -> Vec<(String, String)> {
    let keys = below("node", NODE)
        .chain(below("transport", TRANSPORT))
        .chain(below("transport.admission", ADMISSION))
        .chain(below("tls", TLS))
        .chain(below("pool", POOL))
        .chain(below("mesh", MESH))
        .chain(below("membership", MEMBERSHIP))
        .chain(below("dht", DHT))
        .chain(below("dht.table", TABLE))
        .chain(below("dht.requests", REQUESTS))
        .chain(below("dht.records", RECORDS))
        .chain(below("dht.providers", PROVIDERS))
        .chain(below("dht.published", PUBLISHED))
        .chain(below("dht.limits", LIMITS))
        .chain(below("dht.cache", CACHE))
        .chain(below("pubsub", PUBSUB))
        .chain(below("relay", RELAY))
        .chain(below("consensus", CONSENSUS))
        .chain(below("consensus.kv", KV))
        .chain(below("crdt", CRDT))
        .chain(below("crdt.bucket", BUCKET))
        .chain(below("crdt.limits", TAKEN))
        .chain(below("admin", ADMIN));
    let keys: Vec<String> = keys.collect();
    let inner =
        |key: &str, other: &str| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    // A table stands for no one value.
    let is_table = |key: &str| keys.iter().any(|other| inner(key, other));
    let name = |key: &str| format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
    let values = keys.iter().filter(|key| !is_table(key));
    values.map(|key| (name(key), key.clone())).collect()
}

fn below<T>(table: &str, keys: &[Key<T>]) -> impl Iterator<Item = String> {
    keys.iter().map(move |key| format!("{table}.{}", key.name))
}

fn sets(config: &mut Config, value: &str) -> Result<(), Error> {
    let mut faults = Error::none();
    for part in split_unquoted(value, ';') {
        if !part.trim().is_empty() {
            faults.absorb(set(config, part.trim(), |key| Place::Set(key.into())));
        }
    }
    faults.or(())
}

/// Takes one assignment from the command line.
pub(super) fn flag(config: &mut Config, text: &str) -> Result<(), Error> {
    set(config, text.trim(), |key| Place::Flag(key.into()))
}

fn set(config: &mut Config, text: &str, place: impl Fn(&str) -> Place) -> Result<(), Error> {
    let key = split_unquoted(text, '=').first().copied().unwrap_or_default();
    let value = text.get(key.len() + 1..);
    let key = key.trim();
    // A key is one that TOML takes for one in a line of its own.
    let alone = format!("{key} = 0");
    let table = DeTable::parse(&alone).ok().filter(|_| !key.contains(['\n', '\r']));
    match value {
        Some(value) if table.is_some_and(|table| !table.get_ref().is_empty()) => {
            assign(config, key, value, place(key))
        }
        _ => Err(Fault { place: place(text), problem: Problem::NotAssignment }.into()),
    }
}

/// Takes `value` for `key`. A value that is no TOML, and does not begin like it, is a text.
fn assign(config: &mut Config, key: &str, value: &str, place: Place) -> Result<(), Error> {
    let value = value.trim();
    // An address of IPv6 begins like an array.
    let addresses = value.split(',').all(|part| part.trim().parse::<SocketAddr>().is_ok());
    let toml = value.starts_with(['"', '\'', '[', '{']) || DeValue::parse(value).is_ok();
    let toml = toml && !addresses;
    let body = if toml {
        format!("{key} = {value}")
    } else {
        format!("{key} = {}", toml::Value::String(value.to_owned()))
    };
    apply(config, &Text::new(Origin::Assignment(place), &body))
}

/// The parts of a text between separators that stand outside quotes.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut quote, mut escaped) = (None, false);
    let split = |c: char| {
        let after_escape = std::mem::take(&mut escaped);
        match quote {
            Some('"') if c == '\\' => escaped = !after_escape,
            Some(open) if c == open && !after_escape => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None => return c == separator,
        }
        false
    };
    text.split(split).collect()
}

#[cfg(test)]
mod tests {
    use super::split_unquoted;

    #[test]
    fn separators_in_quotes_do_not_separate() {
        assert_eq!(split_unquoted("a=1;b=2", ';'), ["a=1", "b=2"]);
        assert_eq!(split_unquoted(r#"a="x;\";y";b='\';c"#, ';'), [r#"a="x;\";y""#, r"b='\'", "c"]);
        assert_eq!(split_unquoted("", ';'), [""]);
    }
}

//! `macula crdt`: state that every node may write and that converges, through a node that runs.

use std::time::Duration;

use anyhow::anyhow;
use macula_workload::admin::{Deed, Request};
use serde_json::Value;

use super::Failure;
use super::ask::{Whom, ask, fields, list, millis, table, tell, within};
use super::follow::{Told, follow};

/// How many members have to have or to say something, and how long they are waited for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Terms {
    /// How many members have to be reached: local, majority, all, or a number.
    #[arg(long, default_value = "local", value_parser = level)]
    level: String,
    /// How long they are waited for, 50s at most. Without it, as long as the node is configured to.
    #[arg(long, value_name = "DURATION", value_parser = within)]
    within: Option<Duration>,
}

/// A value or element.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Said {
    /// The value, as text.
    #[arg(value_name = "VALUE")]
    value: String,
    /// The value is JSON, and no text.
    #[arg(long)]
    parse: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum CrdtCommand {
    /// Print what a key has. Fails if it is not there.
    ///
    /// A key is `bucket/rest`. A node that is asked for a bucket that it did not hold holds it from then on, if there
    /// is something in it. A flag that is false, and a set without elements, are as if they were not there.
    Get {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        whom: Whom,
    },
    /// Print the keys of a bucket with their types; without a bucket, those that the node holds.
    Keys {
        /// The bucket.
        #[arg(value_name = "BUCKET", value_parser = bucket)]
        bucket: Option<String>,
        /// Only keys that begin so. The bucket's name is a part of a key.
        #[arg(long, default_value = "", requires = "bucket")]
        prefix: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Print the keys of a bucket that change, with what they have by then.
    ///
    /// It goes on until it is ended, or there are as many changes as --count says.
    Watch {
        /// The bucket.
        #[arg(value_name = "BUCKET", value_parser = bucket)]
        bucket: String,
        /// Only keys that begin so.
        #[arg(long, default_value = "")]
        prefix: String,
        /// End after so many changes.
        #[arg(long, value_name = "CHANGES", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Count, forwards or backwards.
    Inc {
        /// The key of the counter.
        #[arg(value_name = "KEY")]
        key: String,
        /// How much.
        #[arg(value_name = "BY", default_value_t = 1, allow_negative_numbers = true,
              value_parser = whole)]
        by: i64,
        /// The type, if there is nothing yet.
        #[arg(long = "type", value_name = "TYPE", value_parser = ["pn-counter", "g-counter"])]
        kind: Option<String>,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        whom: Whom,
    },
    /// Add an element to a set.
    Add {
        /// The key of the set.
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        said: Said,
        /// The type, if there is nothing yet.
        #[arg(long = "type", value_name = "TYPE",
              value_parser = ["or-set", "g-set", "lww-element-set"])]
        kind: Option<String>,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        whom: Whom,
    },
    /// Give a register or a flag a value.
    Set {
        /// The key of the register.
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        said: Said,
        /// The type, if there is nothing yet.
        #[arg(long = "type", value_name = "TYPE",
              value_parser = ["lww-register", "mv-register", "ew-flag", "dw-flag"])]
        kind: Option<String>,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        whom: Whom,
    },
    /// Remove an element from a set, or a key. Fails if it was not there.
    Remove {
        /// The key.
        #[arg(value_name = "KEY")]
        key: String,
        /// The element, as text. Without it, the whole key.
        #[arg(value_name = "VALUE")]
        value: Option<String>,
        /// The element is JSON, and no text.
        #[arg(long, requires = "value")]
        parse: bool,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        whom: Whom,
    },
    /// Have the node let go of a bucket, once enough members have all that it has. Fails if the node does
    /// not hold it.
    Release {
        /// The bucket.
        #[arg(value_name = "BUCKET", value_parser = bucket)]
        bucket: String,
        /// How many members are to have it, the node among them: majority, all, a number, or local if it
        /// does not matter. At least one other has to, but at local.
        #[arg(long, default_value = "majority", value_parser = level)]
        level: String,
        /// How long they are waited for, 50s at most; 30s if it is not said.
        #[arg(long, value_name = "DURATION", value_parser = within)]
        within: Option<Duration>,
        #[command(flatten)]
        whom: Whom,
    },
    /// Give up a member of a bucket that does not come back, so that nobody waits for it. Fails if it is no
    /// member. If it does come back it begins anew, with what it alone had written.
    Retire {
        /// The bucket.
        #[arg(value_name = "BUCKET", value_parser = bucket)]
        bucket: String,
        /// The member.
        #[arg(value_name = "NODE_ID")]
        node: String,
        /// Also if it is in the mesh, and so would be a member again.
        #[arg(long)]
        alive: bool,
        #[command(flatten)]
        whom: Whom,
    },
}

fn whole(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_no_number| {
        format!("a counter counts whole numbers, from {} to {}", i64::MIN, i64::MAX)
    })
}

fn level(text: &str) -> Result<String, String> {
    let is_word = ["local", "majority", "all"].contains(&text);
    if is_word || text.parse::<u32>().is_ok_and(|number| number > 0) {
        return Ok(text.to_owned());
    }
    Err("it is local, majority, all, or a number of members from 1".to_owned())
}

impl Terms {
    fn within_ms(&self) -> Option<u64> {
        self.within.map(millis)
    }
}

/// A value as it was said.
fn value(text: &str, parse: bool) -> Result<Value, Failure> {
    if !parse {
        return Ok(text.into());
    }
    let value = serde_json::from_str(text);
    value.map_err(|error| Failure::Usage(anyhow!("{text:?} is no JSON: {error}")))
}

/// The name of a bucket. A key, which is easily written instead, is none: keys are `bucket/rest`.
fn bucket(name: &str) -> Result<String, String> {
    match name.split_once('/') {
        Some((bucket, _)) => {
            Err(format!("a bucket has no \"/\" in its name: {bucket:?} is meant, or a key"))
        }
        None => Ok(name.to_owned()),
    }
}

impl Said {
    fn value(&self) -> Result<Value, Failure> {
        value(&self.value, self.parse)
    }
}

pub(super) fn run(command: &CrdtCommand) -> Result<(), Failure> {
    match command {
        CrdtCommand::Get { key, terms, whom } => get(key, terms, whom),
        CrdtCommand::Keys { bucket, prefix, whom } => {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            let found = ask(whom, &Request::CrdtKeys { bucket, prefix })?;
            tell(whom, &found, || match found.get("buckets") {
                Some(_) => {
                    table(&["bucket", "keys", "members", "in_touch"], list(&found, "buckets"))
                }
                None => table(&["key", "type"], list(&found, "keys")),
            })
        }
        CrdtCommand::Watch { bucket, prefix, count, whom } => {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            let asked = Request::CrdtWatch { bucket, prefix };
            follow(whom, &asked, *count, |change| Told::Counts(line(change)))
        }
        CrdtCommand::Inc { key, by, kind, terms, whom } => {
            update((key, kind.as_ref()), Deed::Count { by: *by }, terms, whom)
        }
        CrdtCommand::Add { key, said, kind, terms, whom } => {
            update((key, kind.as_ref()), Deed::Add { value: said.value()? }, terms, whom)
        }
        CrdtCommand::Set { key, said, kind, terms, whom } => {
            update((key, kind.as_ref()), Deed::Set { value: said.value()? }, terms, whom)
        }
        CrdtCommand::Remove { key, value: element, parse, terms, whom } => {
            let deed = match element {
                Some(text) => Deed::Take { value: value(text, *parse)? },
                None => Deed::Remove {},
            };
            update((key, None), deed, terms, whom)
        }
        CrdtCommand::Release { bucket, level, within, whom } => {
            let (bucket, level) = (bucket.clone(), level.clone());
            let asked = Request::CrdtRelease { bucket, level, within_ms: within.map(millis) };
            expect(&asked, "was_held", "the node does not hold the bucket", whom)
        }
        CrdtCommand::Retire { bucket, node, alive, whom } => {
            let (bucket, node, even_if_alive) = (bucket.clone(), node.clone(), *alive);
            let asked = Request::CrdtRetire { bucket, node, even_if_alive };
            expect(&asked, "was_member", "it is no member of the bucket", whom)
        }
    }
}

/// Asks for something, and fails if it was not so before.
fn expect(asked: &Request, was: &str, otherwise: &'static str, whom: &Whom) -> Result<(), Failure> {
    let told = ask(whom, asked)?;
    tell(whom, &told, || fields(&told))?;
    there_was(&told, was, otherwise)
}

/// Fails if something was not so before.
fn there_was(told: &Value, was: &str, otherwise: &'static str) -> Result<(), Failure> {
    match told.get(was).and_then(Value::as_bool) {
        Some(false) => Err(Failure::Ran(anyhow!(otherwise))),
        _ => Ok(()),
    }
}

fn get(key: &str, terms: &Terms, whom: &Whom) -> Result<(), Failure> {
    let (level, within_ms) = (terms.level.clone(), terms.within_ms());
    let found = ask(whom, &Request::CrdtGet { key: key.to_owned(), level, within_ms })?;
    if list(&found, "found").is_empty() {
        return Err(Failure::Ran(anyhow!("there is no key {key:?}")));
    }
    tell(whom, &found, || {
        let lines = list(&found, "found").iter().map(|one| text(one.get("value")));
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// A value as people read it: an element a line.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(all)) => {
            all.iter().map(|one| text(Some(one))).collect::<Vec<_>>().join("\n")
        }
        Some(other) => other.to_string(),
    }
}

fn update(
    (key, kind): (&str, Option<&String>),
    deed: Deed,
    terms: &Terms,
    whom: &Whom,
) -> Result<(), Failure> {
    let (level, within_ms) = (terms.level.clone(), terms.within_ms());
    let (key, kind) = (key.to_owned(), kind.cloned());
    let asked = Request::CrdtUpdate { key, kind, deed, level, within_ms };
    let told = ask(whom, &asked)?;
    tell(whom, &told, || fields(&told))?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64);
    if let (Some(wanted), Some(reached), Some(members)) =
        (number("wanted"), number("reached"), number("members"))
    {
        return Err(Failure::Ran(anyhow!(
            "{reached} of {members} members were reached in time, and {wanted} were wanted; it is \
             written here and goes on to the others, so do not do it again"
        )));
    }
    there_was(&told, "was_there", "there was nothing to remove")
}

fn line(change: &Value) -> String {
    let word = |name: &str| change.get(name).and_then(Value::as_str).unwrap_or_default();
    let lost = change.get("lost").and_then(Value::as_u64).unwrap_or(0);
    let lost = if lost > 0 { format!(" (after {lost} that were lost)") } else { String::new() };
    let value = match change.get("value") {
        None | Some(Value::Null) => "-".to_owned(),
        Some(value) => value.to_string(),
    };
    format!("{} {} {value}{lost}", word("key"), word("type"))
}

#[cfg(test)]
mod tests {
    use super::{level, line, text, within};
    use serde_json::json;

    #[test]
    fn lines_say_what_a_key_has() {
        let told = json!({ "key": "a/b", "type": "or-set", "value": ["x"], "lost": 0 });
        assert_eq!(line(&told), "a/b or-set [\"x\"]");
        let told = json!({ "key": "a/b", "type": "or-set", "value": null, "lost": 2 });
        assert_eq!(line(&told), "a/b or-set - (after 2 that were lost)");
        assert_eq!(text(Some(&json!(["x", 7]))), "x\n7");
    }

    #[test]
    fn levels_and_waits_have_bounds() {
        assert!(level("2").is_ok() && level("all").is_ok());
        assert!(level("0").is_err() && level("most").is_err());
        assert!(within("50s").is_ok() && within("51s").is_err() && within("0s").is_err());
    }
}

//! A key with its value, and the readers of values: each says what it expects.

mod mesh;

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Error, Fault, Place, Problem};
use super::near::nearest;
use super::text::Text;

pub(super) use mesh::{node_id, pin, seed};

/// The longest span of time: a year. Timers are not made for more.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(31_557_600);

const DURATION: &str = "a duration such as \"250ms\", \"5s\" or \"1m 30s\"";

/// A key that is legal somewhere, and what its value does to the target.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    pub(super) read: fn(&mut T, &Item<'_>) -> Result<(), Error>,
}

/// A key with its value.
pub(super) struct Item<'a> {
    pub(super) text: &'a Text<'a>,
    pub(super) key: &'a Spanned<DeString<'a>>,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

/// What was read of a table, and where.
pub(super) type Read = Vec<(&'static str, Place)>;

/// Reads the keys of a table into a target. All that is wrong is told, not only the first.
pub(super) fn read_table<T>(
    text: &Text<'_>,
    table: &DeTable<'_>,
    target: &mut T,
    keys: &[Key<T>],
) -> Result<Read, Error> {
    let (mut read, mut faults) = (Vec::new(), Error::none());
    for (key, value) in table {
        let item = Item { text, key, value };
        match keys.iter().find(|legal| legal.name == item.name()) {
            Some(legal) => {
                read.push((legal.name, item.key_place()));
                faults.absorb((legal.read)(target, &item));
            }
            None => {
                faults.push(item.unknown(keys.iter().map(|legal| legal.name)));
            }
        }
    }
    faults.or(read)
}

impl Item<'_> {
    pub(super) fn name(&self) -> &str {
        self.key.get_ref()
    }

    pub(super) fn key_place(&self) -> Place {
        self.text.place(self.key.span().start)
    }

    pub(super) fn fault(&self, problem: Problem) -> Error {
        Fault { place: self.text.place(self.value.span().start), problem }.into()
    }

    fn unknown(&self, legal: impl Iterator<Item = &'static str> + Clone) -> Fault {
        let near = nearest(self.name(), legal.clone()).map(str::to_owned);
        let legal = legal.map(str::to_owned).collect();
        let problem = Problem::UnknownKey { key: self.name().to_owned(), legal, near };
        Fault { place: self.key_place(), problem }
    }

    /// A table with keys of its own.
    pub(super) fn table<T>(&self, target: &mut T, keys: &[Key<T>]) -> Result<Read, Error> {
        read_table(self.text, self.as_table("a table")?, target, keys)
    }

    /// An array of tables that have these keys, at most so many.
    pub(super) fn tables<T: Default>(&self, max: usize, keys: &[Key<T>]) -> Result<Vec<T>, Error> {
        let expected = "an array of tables";
        let DeValue::Array(elements) = self.value.get_ref() else {
            return Err(self.wrong(expected));
        };
        if elements.len() > max {
            let (key, found) = (self.name().to_owned(), elements.len());
            return Err(self.fault(Problem::TooMany { key, max, found }));
        }
        let (mut tables, mut faults) = (Vec::new(), Error::none());
        for value in elements {
            let element = Item { text: self.text, key: self.key, value };
            let mut table = T::default();
            faults.absorb(element.table(&mut table, keys));
            tables.push(table);
        }
        faults.or(tables)
    }

    pub(super) fn as_table(&self, expected: &'static str) -> Result<&DeTable<'_>, Error> {
        self.value.get_ref().as_table().ok_or_else(|| self.wrong(expected))
    }

    pub(super) fn boolean(&self) -> Result<bool, Error> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// A text. An assignment may leave out its quotes, even where TOML would read a number.
    pub(super) fn string(&self, expected: &'static str) -> Result<&str, Error> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
                if self.text.is_assignment() =>
            {
                Ok(self.text.slice(self.value.span()))
            }
            _ => Err(self.wrong(expected)),
        }
    }

    /// A whole number in a range, both of whose ends belong to it.
    pub(super) fn integer(&self, min: u64, max: u64) -> Result<u64, Error> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.wrong("a whole number"));
        };
        let read = u64::from_str_radix(number.as_str(), number.radix()).ok();
        read.filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            let found = self.text.slice(self.value.span()).to_owned();
            self.fault(Problem::OutOfRange { key: self.name().to_owned(), min, max, found })
        })
    }

    /// Any number. What range it must have, its reader knows.
    pub(super) fn number(&self) -> Result<f64, Error> {
        let text = match self.value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return Err(self.wrong("a number")),
        };
        text.parse().map_err(|_invalid| self.wrong("a number"))
    }

    pub(super) fn duration(&self) -> Result<Duration, Error> {
        self.span_of_time(self.string(DURATION)?, DURATION)
    }

    /// A span of time, or one of a few words.
    pub(super) fn duration_or<T: Copy>(
        &self,
        words: &[(&str, T)],
        expected: &'static str,
        of: impl Fn(Duration) -> T,
    ) -> Result<T, Error> {
        let text = self.string(expected)?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(*meaning),
            None => self.span_of_time(text, expected).map(of),
        }
    }

    fn span_of_time(&self, text: &str, expected: &'static str) -> Result<Duration, Error> {
        let key = self.name().to_owned();
        match humantime::parse_duration(text) {
            Ok(found) if found > DURATION_MAX => {
                Err(self.fault(Problem::TooLong { key, max: DURATION_MAX, found }))
            }
            Ok(found) => Ok(found),
            Err(_invalid) => {
                Err(self.fault(Problem::NotDuration { key, expected, found: text.to_owned() }))
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Error> {
        self.one_of(self.string("a word in quotes")?, words)
    }

    /// A text that is one of a few words.
    pub(super) fn one_of<T: Copy>(&self, found: &str, words: &[(&str, T)]) -> Result<T, Error> {
        let meaning = words.iter().find(|(word, _)| *word == found);
        meaning.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let legal = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let near = nearest(found, words.iter().map(|(word, _)| *word)).map(str::to_owned);
            let (key, found) = (self.name().to_owned(), found.to_owned());
            self.fault(Problem::NotOneOf { key, legal, found, near })
        })
    }

    pub(super) fn wrong(&self, expected: &'static str) -> Error {
        let raw = self.text.slice(self.value.span());
        let found = match self.value.get_ref() {
            DeValue::String(text) => format!("the text \"{}\"", super::error::shown(text)),
            DeValue::Integer(_) => format!("the whole number {raw}"),
            DeValue::Float(_) => format!("the number {raw}"),
            DeValue::Boolean(value) => format!("{value}"),
            DeValue::Datetime(_) => format!("the date {raw}"),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.fault(Problem::WrongType { key: self.name().to_owned(), expected, found })
    }
}

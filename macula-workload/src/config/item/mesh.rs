//! Readers of what only a mesh has: addresses, node ids, pins, files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use macula_core::identity::{InvalidNodeId, NodeId, SpkiPin};
use macula_infra::bootstrap::Seed;
use toml::de::DeValue;

use super::{DURATION, Error, Fault, Item, Problem};

const LIST: &str = "an array of texts in quotes";

impl Item<'_> {
    /// An array of texts, each read by `read`. An assignment may write it as one text with commas.
    pub(in crate::config) fn each<C: FromIterator<T>, T>(
        &self,
        read: impl Fn(&Item<'_>, &str) -> Result<T, Error>,
    ) -> Result<C, Error> {
        let mut faults = Error::none();
        let mut values = Vec::new();
        match self.value.get_ref() {
            DeValue::Array(elements) => {
                for value in elements {
                    let element = Item { text: self.text, key: self.key, value };
                    let one =
                        element.string("a text in quotes").and_then(|text| read(&element, text));
                    values.extend(faults.absorb(one));
                }
            }
            DeValue::String(_) if self.text.is_assignment() => {
                let parts = self.string(LIST)?.split(',').map(str::trim);
                for part in parts.filter(|part| !part.is_empty()) {
                    values.extend(faults.absorb(read(self, part)));
                }
            }
            _ => return Err(self.wrong(LIST)),
        }
        faults.or(values.into_iter().collect())
    }

    /// An array of addresses.
    pub(in crate::config) fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        self.each(|item, text| item.address(text))
    }

    /// An array of addresses at which somebody can be dialled.
    pub(in crate::config) fn places(&self) -> Result<Vec<SocketAddr>, Error> {
        self.each(|item, text| {
            let address = item.address(text)?;
            if address.port() != 0 && !address.ip().is_unspecified() {
                return Ok(address);
            }
            let (key, found) = (item.name().to_owned(), text.to_owned());
            Err(item.fault(Problem::NotDiallable { key, found }))
        })
    }

    /// One address, or "none".
    pub(in crate::config) fn address_or_none(&self) -> Result<Option<SocketAddr>, Error> {
        match self.string("an address in quotes, or \"none\"")? {
            "none" => Ok(None),
            text => self.address(text).map(Some),
        }
    }

    fn address(&self, text: &str) -> Result<SocketAddr, Error> {
        text.parse().map_err(|_invalid| {
            let (key, found) = (self.name().to_owned(), text.to_owned());
            self.fault(Problem::NotAddress { key, found })
        })
    }

    /// The key itself, as a node id.
    pub(in crate::config) fn key_node_id(&self) -> Result<NodeId, Error> {
        let place = self.key_place();
        node_id_of(self.name()).map_err(|problem| Fault { place, problem }.into())
    }

    /// A file or a folder, or "none". A relative one in a file is meant from the file's folder.
    pub(in crate::config) fn file_or_none(&self) -> Result<Option<PathBuf>, Error> {
        let expected = "a path in quotes, or \"none\"";
        match self.string(expected)? {
            "none" => Ok(None),
            "" => Err(self.wrong(expected)),
            text => Ok(Some(self.text.folder().unwrap_or_else(|| Path::new("")).join(text))),
        }
    }

    /// A span of time in a range, both of whose ends belong to it.
    pub(in crate::config) fn duration_in(
        &self,
        min: Duration,
        max: Duration,
    ) -> Result<Duration, Error> {
        let found = self.span_of_time(self.string(DURATION)?, DURATION)?;
        if (min..=max).contains(&found) {
            return Ok(found);
        }
        let key = self.name().to_owned();
        Err(self.fault(Problem::SpanOutOfRange { key, min, max, found }))
    }

    /// Any number in a range, both of whose ends belong to it.
    pub(in crate::config) fn number_in(&self, min: f64, max: f64) -> Result<f64, Error> {
        let found = self.number()?;
        if (min..=max).contains(&found) {
            return Ok(found);
        }
        let key = self.name().to_owned();
        Err(self.fault(Problem::NumberOutOfRange { key, min, max, found }))
    }
}

/// Reads a node id that stands in an array.
pub(in crate::config) fn node_id(item: &Item<'_>, text: &str) -> Result<NodeId, Error> {
    node_id_of(text).map_err(|problem| item.fault(problem))
}

fn node_id_of(text: &str) -> Result<NodeId, Problem> {
    text.parse()
        .map_err(|source: InvalidNodeId| Problem::NotNodeId { found: text.to_owned(), source })
}

/// Reads a seed that stands in an array.
pub(in crate::config) fn seed(item: &Item<'_>, text: &str) -> Result<Seed, Error> {
    text.parse().map_err(|source| item.fault(Problem::NotSeed { source }))
}

/// Reads a pin that stands in an array.
pub(in crate::config) fn pin(item: &Item<'_>, text: &str) -> Result<SpkiPin, Error> {
    text.parse().map_err(|_invalid| item.fault(Problem::NotPin { found: text.to_owned() }))
}

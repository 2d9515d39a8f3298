//! A text in TOML, and where each of its bytes stands for the reader.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::error::{Error, Fault, Place, Problem};

/// What the parser says of a text whose quotes do not close in its line.
const UNCLOSED: &[&str] =
    &["invalid basic string, expected `\"`", "invalid literal string, expected `'`"];

/// Where a text comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A file, in which a place is a line and a column.
    File(Arc<str>),
    /// One assignment from elsewhere, which is one place. Its values may lack quotes.
    Assignment(Place),
}

/// A text whose parts know their places.
#[derive(Debug)]
pub(super) struct Text<'a> {
    origin: Origin,
    body: &'a str,
    /// Where each line begins, the first aside.
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(origin: Origin, body: &'a str) -> Self {
        let lines = body.match_indices('\n').map(|(index, _)| index + 1).collect();
        Self { origin, body, lines }
    }

    /// Where a byte stands.
    pub(super) fn place(&self, byte: usize) -> Place {
        let name = match &self.origin {
            Origin::Assignment(place) => return place.clone(),
            Origin::File(name) => Arc::clone(name),
        };
        let line = self.lines.partition_point(|start| *start <= byte);
        let start = line.checked_sub(1).and_then(|before| self.lines.get(before)).copied();
        let before = self.body.get(start.unwrap_or(0)..byte).unwrap_or_default();
        Place::File { name, line: line + 1, column: before.chars().count() + 1 }
    }

    /// What stands at a span.
    pub(super) fn slice(&self, span: Range<usize>) -> &'a str {
        self.body.get(span).unwrap_or_default()
    }

    /// Whether a text value may stand without quotes, as a shell leaves it.
    pub(super) const fn is_assignment(&self) -> bool {
        matches!(self.origin, Origin::Assignment(_))
    }

    /// The folder of the file, if it is one: what relative paths in it are meant from.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(name) => Path::new(&**name).parent(),
            Origin::Assignment(_) => None,
        }
    }

    /// Reads the TOML, or says of each place why it is none.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, Error> {
        let (table, errors) = DeTable::parse_recoverable(self.body);
        let mut faults = Error::none();
        let mut last = None;
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            // What follows the first fault of a line is mostly its consequence.
            let line = self.lines.partition_point(|start| *start <= span.start);
            if last.replace(line) != Some(line) {
                let place = self.place(span.start);
                faults.push(Fault { place, problem: self.syntax(error.message(), span) });
            }
        }
        faults.or(table)
    }

    fn syntax(&self, message: &str, span: Range<usize>) -> Problem {
        let word = self.slice(span);
        let is_word = word.starts_with(char::is_alphanumeric);
        if message == "duplicate key" {
            Problem::Duplicate(word.to_owned())
        } else if UNCLOSED.contains(&message) {
            Problem::Syntax("the quote at the end of the text is missing".to_owned())
        } else if message.starts_with("string values must be quoted") && word.is_empty() {
            Problem::Syntax("a value is missing after `=`".to_owned())
        } else if is_word && (message.contains("must be quoted") || message.contains("float")) {
            Problem::Unquoted(word.to_owned())
        } else {
            Problem::Syntax(message.trim_end_matches(", expected nothing").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Origin, Text};

    #[test]
    fn lines_and_columns_count_from_one_and_columns_count_characters() {
        let text = Text::new(Origin::File("f".into()), "ab\n\u{fc}c\n");
        let at = |byte| text.place(byte).to_string();
        assert_eq!([at(0), at(1), at(2)], ["f:1:1", "f:1:2", "f:1:3"]);
        assert_eq!([at(3), at(5), at(6), at(7)], ["f:2:1", "f:2:2", "f:2:3", "f:3:1"]);
    }
}

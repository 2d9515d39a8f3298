//! Examples of Macula. Each is a program of its own beside this file, and the tests run them all.

use std::io::Write as _;

/// Says something on standard output. Nobody need listen.
pub fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

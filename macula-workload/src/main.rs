//! The `macula` command.

fn main() {}

//! The kernel of Macula.

pub mod clock;
pub mod entropy;
pub mod hlc;
pub mod machine;
pub mod path;
pub mod replica;
pub mod shell;
pub mod supervision;

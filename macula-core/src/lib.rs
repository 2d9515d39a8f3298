//! The kernel of Macula.

pub mod clock;
pub mod entropy;
pub mod machine;
pub mod path;
pub mod shell;
pub mod supervision;

//! The kernel of Macula: what every tier stands on.
//!
//! Protocols are pure [machines](machine): they are told what happened and what time it is, and say
//! what they want done. A [shell] drives one as an actor; a [simulator](sim) drives thousands in virtual
//! time. [`supervision`] starts, watches and restarts actors. Time comes from a [clock] or, where
//! nodes must agree on an order, from a [hybrid logical clock](hlc); chance comes from seeded
//! [entropy].

pub mod clock;
pub mod deadlines;
pub mod entropy;
pub mod hlc;
pub mod identity;
pub mod machine;
pub mod path;
pub mod port;
pub mod replica;
pub mod shell;
pub mod sim;
pub mod supervision;
pub mod topic;
pub mod wire;

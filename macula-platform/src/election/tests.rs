//! Elections, from one machine to worlds of nodes.

mod clients;
mod machine;
pub(crate) mod pause;
pub(crate) mod world;
mod worlds;

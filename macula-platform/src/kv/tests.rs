//! The state against a model, and clients of whole groups in virtual time.

mod changing;
mod clients;
mod histories;
mod leases;
mod linear;
mod states;
mod watches;
pub(crate) mod world;

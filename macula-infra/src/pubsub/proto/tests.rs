//! Brokers on a faulty network, against what their subscribers see.

mod broadcast;
mod directed;
mod faults;
mod found;
mod groups;
mod large;
mod thousand;
mod world;

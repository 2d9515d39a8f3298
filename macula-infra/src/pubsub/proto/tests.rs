//! Brokers on a faulty network, against what their subscribers see.

mod broadcast;
mod directed;
mod faults;
mod thousand;
mod world;

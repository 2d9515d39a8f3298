//! Simulation, scenarios and tidiness checks of Macula.

pub mod seeds;
pub mod sim;

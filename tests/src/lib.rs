//! Simulation, scenarios and tidiness checks of Macula.

pub mod fuzz;
pub mod seeds;
pub mod sim;
pub mod world;

//! Simulation, scenarios and tidiness checks of Macula.

pub mod fuzz;
pub mod seeds;
pub mod world;

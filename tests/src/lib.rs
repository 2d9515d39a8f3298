//! Simulation of Macula.

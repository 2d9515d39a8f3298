//! The plan against a naive model.

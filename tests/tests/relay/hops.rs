//! Calls through gateways.

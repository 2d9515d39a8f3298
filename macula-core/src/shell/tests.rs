//! The shell in virtual time.

//! The infrastructure tier.

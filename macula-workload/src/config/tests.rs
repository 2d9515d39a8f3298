//! What good and bad configurations give.

//! What is decided about calls, without calling: whom to ask, when again, when twice, when nobody.

pub(crate) mod balance;
pub(crate) mod breaker;
mod bug;
pub(crate) mod chooser;
pub(crate) mod course;
pub(crate) mod flow;
pub(crate) mod gate;
pub(crate) mod latency;

#[cfg(test)]
mod tests;

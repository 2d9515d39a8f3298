//! What is counted about calls of procedures, each under one name.

/// Calls that this node made; label `outcome`.
pub(super) const CALLS: &str = "macula_rpc_calls_total";
/// Streams that this node opened; label `outcome`: `opened`, or why not.
pub(super) const STREAMS: &str = "macula_rpc_streams_total";
/// Providers that were asked for them beyond the first; label `why`.
pub(super) const MORE: &str = "macula_rpc_more_asked_total";

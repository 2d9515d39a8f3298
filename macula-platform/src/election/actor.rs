//! The supervised actor that looks after a node's candidacies.

use macula_core::path::InvalidId;
use macula_core::supervision::Worker;

use super::client::Elections;
use crate::minder::{self, Minder};

/// The worker, with the id `election`. When one of its lives ends, all candidates of this node have been
/// deposed, and the next life has them campaign anew. What a life held ends by itself.
///
/// # Errors
///
/// Never: its id is one.
pub fn worker(elections: Elections) -> Result<Worker<Minder>, InvalidId> {
    minder::worker("election", "what looked after a candidacy has failed", move || {
        let elections = elections.clone();
        async move { elections.look_after().await }
    })
}

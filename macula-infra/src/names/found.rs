//! What was found lately: which nodes serve a name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use macula_core::identity::NodeId;
use macula_core::port::Provider;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// How long what was found is believed.
const TTL: Duration = Duration::from_secs(30);

/// How long before that, at most, it is looked for again while somebody asks for it.
const RENEW_BEFORE: Duration = Duration::from_secs(10);

/// How long one that looks again has for it, before another may.
const RENEW_WITHIN: Duration = Duration::from_secs(5);

/// How long it is believed that nobody serves a name.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// How many names are remembered.
const NAMES_MAX: usize = 4_096;

/// The nodes that serve a name, and until when that is believed.
#[derive(Debug, Clone)]
struct Nodes {
    nodes: Vec<Provider>,
    until: Instant,
    /// When it is to be looked for again.
    renew_at: Instant,
}

impl Nodes {
    fn new(now: Instant, nodes: Vec<Provider>) -> Self {
        let until = now + if nodes.is_empty() { NEGATIVE_TTL } else { TTL };
        // What is not believed for long is not kept.
        let renew_at = if nodes.is_empty() { until } else { until - RENEW_BEFORE };
        Self { nodes, until, renew_at }
    }
}

/// What is, or will be, known of one name. Whoever asks for it while it is being looked for waits
/// for the same search.
type Search = Arc<OnceCell<Nodes>>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found(Mutex<BTreeMap<Arc<str>, Search>>);

impl Found {
    /// The nodes that serve a name: as they were found lately, or as `find` finds them now. A search
    /// that fails is remembered by nobody.
    pub(super) async fn get<E, F: Future<Output = Result<Vec<Provider>, E>>>(
        &self,
        now: Instant,
        name: &str,
        find: impl FnOnce() -> F,
    ) -> Result<Vec<Provider>, E> {
        let search = self.search(now, name);
        let found = search.get_or_try_init(|| async { Ok(Nodes::new(now, find().await?)) });
        Ok(found.await?.nodes.clone())
    }

    /// Whether a name is to be looked for again now, by whoever asks this, so that nobody has to wait
    /// for it later.
    pub(super) fn is_due(&self, now: Instant, name: &str) -> bool {
        let mut names = self.0.lock();
        let Some(search) = names.get_mut(name) else { return false };
        let is_due = |found: &&Nodes| found.renew_at <= now && now < found.until;
        let Some(mut found) = search.get().filter(is_due).cloned() else { return false };
        found.renew_at = now + RENEW_WITHIN;
        *search = Arc::new(OnceCell::new_with(Some(found)));
        true
    }

    /// These nodes serve a name that was due, as was found now.
    pub(super) fn renewed(&self, now: Instant, name: &str, nodes: Vec<Provider>) {
        let mut names = self.0.lock();
        // What was forgotten meanwhile is looked for by whoever asks for it.
        if let Some(search) = names.get_mut(name).filter(|search| search.initialized()) {
            *search = Arc::new(OnceCell::new_with(Some(Nodes::new(now, nodes))));
        }
    }

    fn search(&self, now: Instant, name: &str) -> Search {
        let mut names = self.0.lock();
        let is_good = |search: &Search| search.get().is_none_or(|found| found.until > now);
        if let Some(search) = names.get(name).filter(|search| is_good(search)) {
            return Arc::clone(search);
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, search| is_good(search));
        }
        if names.len() >= NAMES_MAX {
            // What ends first goes; whoever still looks for something keeps the search.
            let first =
                names.iter().min_by_key(|(_, search)| search.get().map(|found| found.until));
            let first = first.map(|(name, _)| Arc::clone(name));
            first.and_then(|name| names.remove(&name));
        }
        let search = Search::default();
        names.insert(name.into(), Arc::clone(&search));
        search
    }

    /// A node does not serve a name.
    pub(super) fn forget(&self, name: &str, node: NodeId) {
        let mut names = self.0.lock();
        let Some(search) = names.get_mut(name) else { return };
        if without(search, node) {
            names.remove(name);
        }
    }

    /// A node serves nothing any more.
    pub(super) fn gone(&self, node: NodeId) {
        self.0.lock().retain(|_, search| !without(search, node));
    }
}

/// Takes a node out of what was found; says whether nothing is left then.
fn without(search: &mut Search, node: NodeId) -> bool {
    let is_in = |found: &&Nodes| found.nodes.iter().any(|provider| provider.node == node);
    let Some(found) = search.get().filter(is_in) else { return false };
    let mut found = found.clone();
    found.nodes.retain(|provider| provider.node != node);
    let is_empty = found.nodes.is_empty();
    *search = Arc::new(OnceCell::new_with(Some(found)));
    is_empty
}

#[cfg(test)]
mod tests;

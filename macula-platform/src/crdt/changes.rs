//! Several changes of one state at once.

use super::context::Context;
use super::contract::{Crdt, Delta};
use super::limits::Refused;

/// Changes of one state that become one delta: all of them, or if one is refused none.
///
/// ```
/// use macula_platform::crdt::Changes;
/// use macula_platform::crdt::bucket::Bucket;
/// use macula_platform::crdt::types::OrSet;
/// # use macula_core::replica::ReplicaId;
/// # use std::time::Duration;
/// # let now = Duration::from_secs(1_700_000_000);
///
/// let mut bucket = Bucket::new(ReplicaId { node: 1, incarnation: 1 }, Default::default())?;
/// bucket.update("team", now, |team: &OrSet, write| team.add(*b"ada", write))?;
/// // Ben takes the place of ada: nobody ever sees both, or none.
/// bucket.update("team", now, |team: &OrSet, write| {
///     let mut changes = Changes::of(team);
///     changes.make(|team| Ok(team.remove(b"ada")))?;
///     changes.make(|team| team.add(*b"ben", write))?;
///     Ok(changes.finish())
/// })?;
/// let team = bucket.read::<OrSet>("team")?.ok_or("no team")?;
/// assert!(team.contains(b"ben") && team.len() == 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Changes<'a, C> {
    before: &'a C,
    /// The state after all changes so far, if there was more than one.
    after: Option<C>,
    delta: Option<Delta<C>>,
}

impl<'a, C: Crdt> Changes<'a, C> {
    /// No changes yet.
    #[must_use]
    pub const fn of(before: &'a C) -> Self {
        Self { before, after: None, delta: None }
    }

    /// Makes one more change, of the state after all before it. The second one clones the state.
    ///
    /// # Errors
    ///
    /// What `change` says. The changes before it are as they were.
    pub fn make(
        &mut self,
        change: impl FnOnce(&C) -> Result<Delta<C>, Refused>,
    ) -> Result<(), Refused> {
        let Some(delta) = &mut self.delta else {
            self.delta = Some(change(self.before)?);
            return Ok(());
        };
        let after = self.after.get_or_insert_with(|| {
            let mut after = self.before.clone();
            apply(&mut after, delta);
            after
        });
        let more = change(after)?;
        apply(after, &more);
        delta.join(&more);
        Ok(())
    }

    /// The delta of all changes. It is empty if there were none.
    #[must_use]
    pub fn finish(self) -> Delta<C> {
        self.delta.unwrap_or_default()
    }
}

/// Joins a delta that has just been made: its own dots are new to every context, so that none need be
/// asked.
fn apply<C: Crdt>(state: &mut C, delta: &Delta<C>) {
    state.join(&Context::default(), &delta.state, &delta.context);
}

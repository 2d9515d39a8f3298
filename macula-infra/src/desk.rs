//! A desk: where inputs for an actor are left, whichever life of it takes them.
//!
//! Sessions of connections and clients outlive the actors that they work for. They hold the desk;
//! each life of the actor puts its inbox there when it begins, and takes it away when it ends.

use std::fmt::Debug;
use std::sync::Arc;

use macula_core::shell::Inbox;
use parking_lot::Mutex;

/// A desk. Clones are the same.
pub(crate) struct Desk<I>(Arc<Mutex<Option<Inbox<I>>>>);

impl<I> Clone for Desk<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I> Default for Desk<I> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<I> Debug for Desk<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Desk").field(&self.0.lock().is_some()).finish()
    }
}

impl<I> Desk<I> {
    /// A life begins, and takes what is left here from now on. It holds for as long as what is
    /// given back is kept.
    pub(crate) fn begin(&self, inbox: &Inbox<I>) -> Seat<I> {
        *self.0.lock() = Some(inbox.clone());
        Seat(self.clone())
    }

    /// Leaves an input, and says whether somebody takes it: nobody does between two lives, or while
    /// the inbox is full.
    pub(crate) fn offer(&self, input: I) -> bool {
        self.leave(input).is_ok()
    }

    /// Leaves an input, or says why nobody takes it.
    pub(crate) fn leave(&self, input: I) -> Result<(), Untaken> {
        let inbox = self.0.lock();
        let inbox = inbox.as_ref().ok_or(Untaken::Nobody)?;
        inbox.try_push(input).map_err(|_full| Untaken::Full)
    }

    /// Leaves an input that is not to be lost to a full inbox: of those there are few.
    pub(crate) fn tell(&self, input: I) {
        let inbox = self.0.lock().clone();
        if let Some(inbox) = inbox {
            inbox.push(input);
        }
    }
}

/// Why an input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// One life has ended, and the next has not begun.
    Nobody,
    /// As many inputs wait as may.
    Full,
}

/// The place of one life at a desk.
pub(crate) struct Seat<I>(Desk<I>);

impl<I> Debug for Seat<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

impl<I> Drop for Seat<I> {
    fn drop(&mut self) {
        // A supervisor ends one life before it begins the next.
        *self.0.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{Desk, Untaken};
    use macula_core::shell::Inbox;

    #[test]
    fn whichever_life_there_is_takes_what_is_left() {
        let desk = Desk::default();
        let (first, second) = (Inbox::new(2), Inbox::new(2));
        assert_eq!(desk.leave(1), Err(Untaken::Nobody));
        desk.tell(2);
        let seat = desk.begin(&first);
        assert!(desk.offer(3) && desk.clone().offer(4));
        assert_eq!((first.len(), second.len()), (2, 0));
        drop(seat);
        assert!(!desk.offer(5), "between two lives nobody is there");
        let _seat = desk.begin(&second);
        assert!(desk.offer(6));
        assert_eq!((first.len(), second.len()), (2, 1));
    }

    #[test]
    fn a_full_inbox_takes_what_must_not_be_lost_and_nothing_else() {
        let (desk, inbox) = (Desk::default(), Inbox::new(1));
        let _seat = desk.begin(&inbox);
        assert!(desk.offer(1) && !desk.offer(2));
        assert_eq!(desk.leave(2), Err(Untaken::Full));
        desk.tell(3);
        assert_eq!(inbox.len(), 2);
    }
}

//! How much is in flight on a link, and whether it takes more.

use std::sync::atomic::{AtomicU64, Ordering};

/// Set once no new work is taken.
const LEAVING: u64 = 1 << 63;

/// Set while it is looked at whether no new work is to be taken. None is taken meanwhile.
const RETIRING: u64 = 1 << 62;

/// How many have taken a link up, and whether more may.
#[derive(Debug, Default)]
pub(super) struct Work(AtomicU64);

impl Work {
    /// Takes it up, if more may.
    pub(super) fn take_up(&self) -> bool {
        self.0.fetch_add(1, Ordering::AcqRel) & (LEAVING | RETIRING) == 0
    }

    /// Lets go of it, as often as it was taken up, also in vain. Whether it is quiet by that.
    pub(super) fn let_go(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == LEAVING + 1
    }

    /// Takes no new work. Whether it did before.
    pub(super) fn leave(&self) -> bool {
        self.0.fetch_or(LEAVING, Ordering::AcqRel) & LEAVING != 0
    }

    /// Takes no new work, if nothing is in flight and `unused` says that nothing was lately. Whether
    /// that is so; not if somebody else has meanwhile seen to it that no new work is taken.
    pub(super) fn retire(&self, unused: impl FnOnce() -> bool) -> bool {
        let idle = self.0.compare_exchange(0, RETIRING, Ordering::AcqRel, Ordering::Acquire);
        if idle.is_err() {
            return false;
        }
        let kept = if unused() { LEAVING } else { 0 };
        let next = |state: u64| Some((state & !RETIRING) | kept);
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        kept != 0 && before.is_ok_and(|state| state & LEAVING == 0)
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.0.load(Ordering::Acquire) & !(LEAVING | RETIRING)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::Acquire) & LEAVING != 0
    }

    /// Whether it takes no new work and none is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.load(Ordering::Acquire) == LEAVING
    }
}

#[cfg(test)]
mod tests {
    use super::Work;

    #[test]
    fn work_is_counted_until_it_is_quiet() {
        let work = Work::default();
        assert!(work.take_up() && work.take_up());
        assert!(!work.retire(|| true), "something is in flight");
        assert!(!work.leave());
        assert!(work.leave(), "it leaves once");
        assert!(!work.take_up());
        assert!(!work.let_go(), "in vain");
        assert!(!work.let_go());
        assert_eq!(work.in_flight(), 1);
        assert!(work.let_go());
        assert!(work.is_quiet());
    }

    #[test]
    fn what_was_used_lately_stays_and_what_was_not_leaves() {
        let work = Work::default();
        assert!(!work.retire(|| false));
        assert!(work.take_up());
        work.let_go();
        assert!(work.retire(|| true));
        assert!(work.is_quiet() && !work.take_up());
    }

    #[test]
    fn a_goodbye_while_it_is_looked_at_is_not_forgotten() {
        for unused in [true, false] {
            let work = Work::default();
            let retired = work.retire(|| {
                assert!(!work.take_up(), "no new work meanwhile");
                work.let_go();
                assert!(!work.leave(), "the peer says goodbye, and is heard");
                unused
            });
            assert!(!retired, "who says goodbye for this node is another");
            assert!(work.is_leaving() && work.is_quiet());
        }
    }
}

//! A budget of retries: every operation pays a part of one in.
//!
//! So what is in trouble is asked only a little more than it would be without, however many fail.

/// What one retry costs, in thousandths.
const RETRY: u32 = 1000;

/// The budget, in thousandths of a retry.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    most: u32,
    deposit: u32,
}

impl Budget {
    /// A full one, of `burst` retries.
    pub(crate) const fn new(per_mille: u32, burst: u32) -> Self {
        let most = burst.saturating_mul(RETRY);
        Self { left: most, most, deposit: per_mille }
    }

    pub(crate) fn deposit(&mut self) {
        self.left = self.left.saturating_add(self.deposit).min(self.most);
    }

    /// Whether there is one left.
    pub(crate) const fn has_one(&self) -> bool {
        self.has(1)
    }

    /// Whether there are so many left.
    pub(crate) const fn has(&self, count: u32) -> bool {
        self.left >= count.saturating_mul(RETRY)
    }

    /// Takes one, and says whether there was one left.
    pub(crate) const fn withdraw(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(RETRY) else { return false };
        self.left = left;
        true
    }
}

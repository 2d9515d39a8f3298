//! What two sets of numbers differ in, at a cost in proportion to the difference.
//!
//! One side gives *symbols*, as many as are asked for: each has the sum of some of its numbers. The
//! other takes away from them the same sums of its own; what both have is gone then. A symbol in which
//! one number is left gives it away, it is taken out of all others where it is, and so on until
//! nothing is left. The number at hand is in the first symbol for certain, and in the one of index `i`
//! with a probability of `1 / (1 + i / 2)`, so that about 1.4 symbols for each number that differs are
//! enough, whatever that number is, and nobody has to guess it.
//!
//! As in Yang, Gilad and Alizadeh, *Practical Rateless Set Reconciliation* (SIGCOMM 2024).

use std::ops::Range;

/// The sum of some numbers, by which what is left of it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::crdt) struct Symbol {
    /// All of them, by exclusive or.
    pub(in crate::crdt) sum: u64,
    /// The checks of all of them, by exclusive or.
    pub(in crate::crdt) check: u32,
    /// How many there are, less those that were taken away.
    pub(in crate::crdt) count: i64,
}

impl Symbol {
    const fn add(&mut self, number: u64, times: i64) {
        self.sum ^= number;
        self.check ^= check(number);
        self.count = self.count.wrapping_add(times);
    }

    /// The one number that it has, and whether it was added (1) or taken away (-1).
    const fn alone(&self) -> Option<(u64, i64)> {
        let is_one = self.count == 1 || self.count == -1;
        if is_one && check(self.sum) == self.check { Some((self.sum, self.count)) } else { None }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Mixes the bits of a number.
const fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const fn check(number: u64) -> u32 {
    let [.., a, b, c, d] = mix(number ^ 0xa5a5_a5a5_a5a5_a5a5).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A number on its walk over the symbols that it is in.
#[derive(Debug, Clone, Copy)]
struct Walker {
    number: u64,
    bits: u64,
    /// The next symbol that it is in.
    next: u64,
}

impl Walker {
    const fn new(number: u64) -> Self {
        Self { number, bits: number, next: 0 }
    }

    /// Goes on to the next symbol. The probability that the next one after `i` lies beyond `j` is
    /// `(i + 1) (i + 2) / ((j + 1) (j + 2))`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index is far below 2^52, and one beyond it is the last there is"
    )]
    fn step(&mut self) {
        self.bits = mix(self.bits);
        let chance = ((self.bits >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        let at = self.next as f64;
        let beyond = ((at + 1.0) * (at + 2.0) / chance + 0.25).sqrt() - 1.5;
        self.next = (beyond.ceil() as u64).max(self.next.saturating_add(1));
    }
}

/// Gives the symbols of a set.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Sketch {
    walkers: Vec<Walker>,
    made: Vec<Symbol>,
}

impl Sketch {
    pub(in crate::crdt) fn of(numbers: impl Iterator<Item = u64>) -> Self {
        Self { walkers: numbers.map(Walker::new).collect(), made: Vec::new() }
    }

    /// The symbols of some indices.
    pub(in crate::crdt) fn symbols(&mut self, range: Range<usize>) -> &[Symbol] {
        if range.end > self.made.len() {
            self.made.resize(range.end, Symbol::default());
            let end = u64::try_from(range.end).unwrap_or(u64::MAX);
            for walker in &mut self.walkers {
                while walker.next < end {
                    let at = usize::try_from(walker.next).unwrap_or(usize::MAX);
                    if let Some(symbol) = self.made.get_mut(at) {
                        symbol.add(walker.number, 1);
                    }
                    walker.step();
                }
            }
        }
        self.made.get(range).unwrap_or_default()
    }
}

/// Finds what differs from the other side's symbols.
#[derive(Debug, Default)]
pub(in crate::crdt) struct Peeler {
    ours: Sketch,
    left: Vec<Symbol>,
    /// What was found, on its walk beyond the symbols that there are.
    found: Vec<(Walker, i64)>,
    /// How many symbols are not empty.
    full: usize,
}

impl Peeler {
    pub(in crate::crdt) fn new(ours: Sketch) -> Self {
        Self { ours, ..Self::default() }
    }

    /// How many symbols it was given.
    pub(in crate::crdt) const fn len(&self) -> usize {
        self.left.len()
    }

    /// Whether all that differs was found.
    pub(in crate::crdt) const fn is_done(&self) -> bool {
        self.full == 0 && !self.left.is_empty()
    }

    /// The numbers that only they have, and those that only we have.
    pub(in crate::crdt) fn found(&self) -> (Vec<u64>, Vec<u64>) {
        let (theirs, ours): (Vec<_>, Vec<_>) = self.found.iter().partition(|(_, sign)| *sign > 0);
        let numbers =
            |of: Vec<&(Walker, i64)>| of.iter().map(|(walker, _)| walker.number).collect();
        (numbers(theirs.iter().collect()), numbers(ours.iter().collect()))
    }

    /// Takes the symbols that follow those that it was given.
    pub(in crate::crdt) fn take(&mut self, theirs: &[Symbol]) {
        let from = self.left.len();
        let range = from..from + theirs.len();
        let ours = self.ours.symbols(range);
        self.left.extend(theirs.iter().zip(ours).map(|(theirs, ours)| Symbol {
            sum: theirs.sum ^ ours.sum,
            check: theirs.check ^ ours.check,
            count: theirs.count.wrapping_sub(ours.count),
        }));
        let end = u64::try_from(self.left.len()).unwrap_or(u64::MAX);
        for (walker, sign) in &mut self.found {
            take_out(&mut self.left, walker, *sign, end, |_| {});
        }
        self.full = self.left.iter().filter(|symbol| !symbol.is_empty()).count();
        let mut ready: Vec<usize> = (0..self.left.len()).collect();
        while let Some(at) = ready.pop() {
            let Some((number, sign)) = self.left.get(at).and_then(Symbol::alone) else { continue };
            // More than there can be are none: something is wrong with the symbols.
            if self.found.len() > self.left.len() {
                return;
            }
            let mut walker = Walker::new(number);
            let full = &mut self.full;
            take_out(&mut self.left, &mut walker, sign, end, |(place, was_empty, is_empty)| {
                match (was_empty, is_empty) {
                    (false, true) => *full -= 1,
                    (true, false) => *full += 1,
                    (true, true) | (false, false) => {}
                }
                if !is_empty {
                    ready.push(place);
                }
            });
            self.found.push((walker, sign));
        }
    }
}

/// Takes a number out of all symbols that it is in from where it is, up to an end.
fn take_out(
    left: &mut [Symbol],
    walker: &mut Walker,
    sign: i64,
    end: u64,
    mut each: impl FnMut((usize, bool, bool)),
) {
    while walker.next < end {
        let at = usize::try_from(walker.next).unwrap_or(usize::MAX);
        if let Some(symbol) = left.get_mut(at) {
            let was_empty = symbol.is_empty();
            symbol.add(walker.number, -sign);
            each((at, was_empty, symbol.is_empty()));
        }
        walker.step();
    }
}

#[cfg(test)]
mod tests {
    use super::{Peeler, Sketch, Symbol};
    use macula_core::entropy::Entropy;
    use std::collections::BTreeSet;

    /// Gives symbols until all is found, and says how many it took.
    fn reconcile(theirs: &BTreeSet<u64>, ours: &BTreeSet<u64>, step: usize) -> (Peeler, usize) {
        let mut sketch = Sketch::of(theirs.iter().copied());
        let mut peeler = Peeler::new(Sketch::of(ours.iter().copied()));
        while !peeler.is_done() {
            let from = peeler.len();
            let symbols = sketch.symbols(from..from + step).to_vec();
            peeler.take(&symbols);
            assert!(peeler.len() < 10 * (theirs.len() + ours.len() + 100), "it does not end");
        }
        let len = peeler.len();
        (peeler, len)
    }

    fn sets(seed: u64, both: usize, theirs: usize, ours: usize) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let mut dice = Entropy::from_seed(seed);
        let mut draw = |len| (0..len).map(|_| dice.next_u64()).collect::<BTreeSet<u64>>();
        let both = draw(both);
        (&draw(theirs) | &both, &draw(ours) | &both)
    }

    #[test]
    fn what_differs_is_found_whatever_it_is() {
        for seed in 0..200 {
            let mut dice = Entropy::from_seed(seed);
            let mut size = |max| usize::try_from(dice.below(max)).unwrap();
            let (both, a, b) = (size(500), size(60), size(60));
            let (theirs, ours) = sets(seed, both, a, b);
            let (peeler, _) = reconcile(&theirs, &ours, 1 + size(20));
            let (only_theirs, only_ours) = peeler.found();
            assert_eq!(only_theirs.into_iter().collect::<BTreeSet<_>>(), &theirs - &ours);
            assert_eq!(only_ours.into_iter().collect::<BTreeSet<_>>(), &ours - &theirs);
        }
    }

    #[test]
    fn it_takes_about_one_and_a_half_symbols_for_each_difference() {
        let (theirs, ours) = sets(1, 20_000, 1_000, 1_000);
        let (_, symbols) = reconcile(&theirs, &ours, 10);
        assert!((2_000..3_200).contains(&symbols), "{symbols}");
        let (same, _) = sets(2, 1_000, 0, 0);
        assert_eq!(reconcile(&same, &same, 1).1, 1);
    }

    #[test]
    fn symbols_that_are_nonsense_do_not_end_it() {
        let mut peeler = Peeler::new(Sketch::of(0..100));
        let mut dice = Entropy::from_seed(3);
        let mut nonsense = || Symbol { sum: dice.next_u64(), check: 7, count: 1 };
        let symbols: Vec<Symbol> = (0..500).map(|_| nonsense()).collect();
        peeler.take(&symbols);
        assert!(!peeler.is_done());
    }
}

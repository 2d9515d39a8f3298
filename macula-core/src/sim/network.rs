//! The network between machines: who reaches whom, and when a message arrives.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::entropy::Entropy;

use super::Address;
use super::faults::Faults;

/// Links, partition and dice.
#[derive(Debug)]
pub(super) struct Network {
    entropy: Entropy,
    /// The side of each node while the network is apart; those without one are on side 0.
    sides: BTreeMap<Address, usize>,
    /// When the last message in order arrives, for each link.
    links: BTreeMap<(Address, Address), Duration>,
}

impl Network {
    pub(super) const fn new(entropy: Entropy) -> Self {
        Self { entropy, sides: BTreeMap::new(), links: BTreeMap::new() }
    }

    pub(super) fn sever(&mut self, groups: &[&[Address]]) {
        let numbered = groups.iter().enumerate();
        self.sides = numbered
            .flat_map(|(side, group)| group.iter().map(move |&address| (address, side + 1)))
            .collect();
    }

    /// Falls into two random sides.
    pub(super) fn sever_at_random(&mut self, addresses: impl Iterator<Item = Address>) {
        let entropy = &mut self.entropy;
        self.sides = addresses.map(|address| (address, usize::from(entropy.chance(0.5)))).collect();
    }

    pub(super) fn mend(&mut self) {
        self.sides.clear();
    }

    pub(super) fn connects(&self, from: Address, to: Address) -> bool {
        self.sides.get(&from).unwrap_or(&0) == self.sides.get(&to).unwrap_or(&0)
    }

    /// When a message that is sent now arrives: never, once or twice.
    pub(super) fn arrivals(
        &mut self,
        now: Duration,
        link: (Address, Address),
        faults: &Faults,
    ) -> Vec<Duration> {
        if !self.connects(link.0, link.1) || self.entropy.chance(faults.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.entropy.chance(faults.duplication));
        (0..copies).map(|_| self.arrival(now, link, faults)).collect()
    }

    fn arrival(&mut self, now: Duration, link: (Address, Address), faults: &Faults) -> Duration {
        let spread = faults.delay_max.saturating_sub(faults.delay_min);
        let at = now + faults.delay_min + up_to(&mut self.entropy, spread);
        if self.entropy.chance(faults.reordering) {
            return at + up_to(&mut self.entropy, faults.reordering_max);
        }
        let last = self.links.entry(link).or_default();
        *last = at.max(*last);
        *last
    }
}

/// A time from zero to `max`, in whole microseconds.
pub(super) fn up_to(entropy: &mut Entropy, max: Duration) -> Duration {
    let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(entropy.below(micros.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::Network;
    use crate::entropy::Entropy;
    use crate::sim::{Address, Faults};
    use std::time::Duration;

    const LINK: (Address, Address) = (Address(0), Address(1));

    #[test]
    fn a_link_keeps_its_order_unless_told_otherwise() {
        let faults = Faults { delay_max: Duration::from_millis(50), ..Faults::NONE };
        let arrivals = |faults: Faults| {
            let mut network = Network::new(Entropy::from_seed(1));
            let sent = (0..100).map(Duration::from_millis);
            sent.flat_map(|now| network.arrivals(now, LINK, &faults)).collect::<Vec<_>>()
        };
        assert!(arrivals(faults).is_sorted());
        let reordering = Faults { reordering: 0.5, ..faults };
        assert!(!arrivals(reordering).is_sorted());
        assert!(arrivals(Faults { loss: 0.5, ..faults }).len() < 80);
        assert!(arrivals(Faults { duplication: 0.5, ..faults }).len() > 120);
    }

    #[test]
    fn sides_do_not_reach_each_other() {
        let mut network = Network::new(Entropy::from_seed(1));
        network.sever(&[&[Address(0)], &[Address(1), Address(2)]]);
        assert!(network.arrivals(Duration::ZERO, LINK, &Faults::NONE).is_empty());
        assert!(network.connects(Address(1), Address(2)));
        network.mend();
        assert_eq!(network.arrivals(Duration::ZERO, LINK, &Faults::NONE).len(), 1);
    }
}

//! The table itself: registers under keys, the clock that stamps them, and their limits.
//!
//! Every operation looks at all limits before it changes anything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use macula_core::hlc::{Hlc, Stamp};
use macula_core::replica::ReplicaId;

use super::config::Config;
use super::error::Refused;
use super::register::Register;

/// Some keys of a listing, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The keys of registers that have a value.
    pub keys: Vec<Arc<str>>,
    /// Where the listing goes on: after this key; none if this was all.
    pub next: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    config: Config,
    replica: ReplicaId,
    clock: Hlc,
    registers: BTreeMap<Arc<str>, Register>,
    removed: usize,
}

impl Table {
    pub(super) fn new(config: Config, replica: ReplicaId) -> Self {
        let (clock, registers) = (Hlc::default(), BTreeMap::new());
        Self { config, replica, clock, registers, removed: 0 }
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) const fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Goes on as another replica; what was derived from the registers is derived anew.
    pub(super) fn begin_life(&mut self) {
        self.replica = self.replica.next_life();
        self.removed = self.registers.values().filter(|at| at.value.is_none()).count();
    }

    /// How many keys there are, and how many of them are of removed registers.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.registers.len(), self.removed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Register)> {
        self.registers.iter()
    }

    pub(super) fn get(&self, key: &str) -> Option<&Register> {
        self.registers.get(key)
    }

    /// Stamps a new value; none removes the register.
    pub(super) fn write(
        &mut self,
        wall: Duration,
        key: &Arc<str>,
        value: Option<Arc<[u8]>>,
    ) -> Result<Register, Refused> {
        self.admit(key, value.as_deref())?;
        let stamp = Stamp { at: self.clock.tick(wall), replica: self.replica };
        let register = Register { stamp, value };
        self.put(key, register.clone());
        Ok(register)
    }

    /// Takes a register from elsewhere, if it wins; says whether it did.
    pub(super) fn merge(
        &mut self,
        wall: Duration,
        key: &Arc<str>,
        register: Register,
    ) -> Result<bool, Refused> {
        self.admit(key, register.value.as_deref())?;
        if self.registers.get(key).is_some_and(|own| *own >= register) {
            return Ok(false);
        }
        self.clock.observe(register.stamp.at, wall)?;
        self.put(key, register);
        Ok(true)
    }

    pub(super) fn page(&self, prefix: &str, after: Option<&str>) -> Result<Page, Refused> {
        self.check_key_len(prefix)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page::default();
        // Removed registers are passed over, and count, so that the work has a bound too.
        let below = self.registers.range::<str, _>((from, Bound::Unbounded));
        let below = below.take_while(|(key, _)| key.starts_with(prefix));
        for (passed, (key, register)) in below.enumerate() {
            if passed == self.config.page_len_max {
                return Ok(page);
            }
            page.next = Some(Arc::clone(key));
            if register.value.is_some() {
                page.keys.push(Arc::clone(key));
            }
        }
        page.next = None;
        Ok(page)
    }

    pub(super) const fn check_key_len(&self, key: &str) -> Result<(), Refused> {
        let (len, len_max) = (key.len(), self.config.key_len_max);
        if len > len_max {
            return Err(Refused::KeyTooLong { len, len_max });
        }
        Ok(())
    }

    fn admit(&self, key: &str, value: Option<&[u8]>) -> Result<(), Refused> {
        if key.is_empty() {
            return Err(Refused::KeyEmpty);
        }
        self.check_key_len(key)?;
        let (len, len_max) = (value.map_or(0, <[u8]>::len), self.config.value_len_max);
        if len > len_max {
            return Err(Refused::ValueTooLong { len, len_max });
        }
        let (keys, keys_max) = (self.registers.len(), self.config.keys_max);
        if keys >= keys_max && !self.registers.contains_key(key) {
            return Err(Refused::TableFull { keys, keys_max });
        }
        Ok(())
    }

    fn put(&mut self, key: &Arc<str>, register: Register) {
        let gone = register.value.is_none();
        let was_gone = match self.registers.entry(Arc::clone(key)) {
            Entry::Occupied(mut own) => own.insert(register).value.is_none(),
            Entry::Vacant(free) => {
                free.insert(register);
                false
            }
        };
        self.removed = self.removed.saturating_sub(usize::from(was_gone)) + usize::from(gone);
    }
}

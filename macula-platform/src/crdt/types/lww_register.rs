//! The last-writer-wins register.

use std::sync::Arc;

use macula_core::hlc::{Stamp, Timestamp};

use crate::crdt::codec::{DecodeError, Reader, put_number};
use crate::crdt::contract::{Crdt, Delta, Tidy};
use crate::crdt::dot::Dot;
use crate::crdt::limits::Refused;
use crate::crdt::store::{DotFun, Payload};
use crate::crdt::write::Write;

/// A value with the time of its write.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamped<V> {
    /// When it was written.
    pub at: Timestamp,
    /// What was.
    pub value: V,
}

impl<V: Payload> Payload for Stamped<V> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.at.wall_ms);
        put_number(out, u64::from(self.at.counter));
        self.value.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wall_ms = from.number()?;
        let offset = from.offset();
        let Ok(counter) = u32::try_from(from.number()?) else {
            return Err(DecodeError::Form { offset, what: "no counter of a stamp" });
        };
        Ok(Self { at: Timestamp { wall_ms, counter }, value: V::decode(from)? })
    }

    fn weight(&self) -> usize {
        self.value.weight()
    }
}

impl<V: Payload> DotFun<Stamped<V>> {
    /// The write with the greatest stamp: of equal ones that of the greatest replica, and of its the
    /// last.
    pub(super) fn winner(&self) -> Option<(Dot, &Stamped<V>)> {
        self.iter().max_by_key(|(dot, stamped)| (stamped.at, *dot))
    }

    /// The latest stamp.
    pub(super) fn latest(&self) -> Option<Timestamp> {
        self.iter().map(|(_, stamped)| stamped.at).max()
    }

    /// A delta that takes out the losers that every member has seen.
    pub(super) fn without_losers(&self, tidy: &Tidy<'_>) -> Option<Delta<Self>> {
        let (winner, _) = self.winner()?;
        let losers = self.iter().map(|(dot, _)| dot).filter(|&dot| dot != winner);
        let delta = Delta {
            state: Self::default(),
            context: losers.filter(|&dot| tidy.stable.contains(dot)).collect(),
        };
        (!delta.is_empty()).then_some(delta)
    }
}

/// A value that each write replaces. Of writes that did not see each other the latest one is read, by
/// the clocks of those who wrote; of equally late ones that of the greater replica.
///
/// A write replaces what it has seen, whatever the clocks say. The others are kept until a write has
/// seen them or every member has, for they may be all that is left when the latest is removed by
/// someone who knew of no other.
///
/// As in Shapiro, Preguiça, Baquero and Zawirski, *A comprehensive study of Convergent and Commutative
/// Replicated Data Types* (INRIA RR-7506, 2011), section 3.2.1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LwwRegister(DotFun<Stamped<Arc<[u8]>>>);

impl LwwRegister {
    /// The value; none if it was never written or was cleared.
    #[must_use]
    pub fn get(&self) -> Option<&Arc<[u8]>> {
        self.0.winner().map(|(_, stamped)| &stamped.value)
    }

    /// When the value was written, and by whom.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.0.winner().map(|(dot, stamped)| Stamp { at: stamped.at, replica: dot.replica })
    }

    /// A delta that writes a value.
    ///
    /// # Errors
    ///
    /// [`Refused::ValueTooLong`], [`Refused::DotsSpent`].
    pub fn set(
        &self,
        value: impl Into<Arc<[u8]>>,
        write: &mut Write<'_>,
    ) -> Result<Delta<Self>, Refused> {
        let value = value.into();
        write.limits().check_value(&value)?;
        let at = write.stamp();
        Ok(self.0.put(Stamped { at, value }, write, |_| true)?.map(Self))
    }

    /// A delta that takes the value away, as far as it is known here. A write that has not been seen
    /// here stays, whatever its stamp.
    #[must_use]
    pub fn clear(&self) -> Delta<Self> {
        self.reset()
    }
}

crdt_type!(LwwRegister, DotFun<Stamped<Arc<[u8]>>>, "lww-register", {
    fn latest(&self) -> Option<Timestamp> {
        self.0.latest()
    }

    fn tidy(&self, tidy: &Tidy<'_>, _write: &mut Write<'_>) -> Option<Delta<Self>> {
        Some(self.0.without_losers(tidy)?.map(Self))
    }
});

//! One last-writer-wins register, and what happens to it.

use std::sync::Arc;

use macula_core::hlc::Stamp;

/// A value with the stamp of its write.
///
/// [`merge`](Self::merge) takes the greater of two by stamp, so it is commutative, associative and
/// idempotent. No two writes have one stamp; if a faulty peer makes two, the greater bytes win, so
/// that even then all replicas agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register {
    /// When it was written, and by whom. It comes first, for it decides the order.
    pub stamp: Stamp,
    /// The bytes; none for a register that was removed, whose stamp must stay to win over older
    /// writes that are still on their way.
    pub value: Option<Arc<[u8]>>,
}

impl Register {
    /// The winner of the two.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Where a change came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was written here.
    Local,
    /// It was merged from another replica.
    Remote,
}

/// A register got a new value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// The register as it is now.
    pub register: Register,
    /// Where the change came from.
    pub origin: Origin,
}

#[cfg(test)]
mod tests {
    use super::Register;
    use macula_core::hlc::{Stamp, Timestamp};
    use macula_core::replica::ReplicaId;
    use proptest::prelude::*;

    fn register() -> impl Strategy<Value = Register> {
        let value = prop::option::of(prop::collection::vec(0..3_u8, 0..2));
        (0..3_u64, 0..2_u32, 0..3_u64, 0..2_u64, value).prop_map(
            |(wall_ms, counter, node, incarnation, value)| Register {
                stamp: Stamp {
                    at: Timestamp { wall_ms, counter },
                    replica: ReplicaId { node, incarnation },
                },
                value: value.map(Into::into),
            },
        )
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_and_idempotent(
            a in register(), b in register(), c in register(),
        ) {
            prop_assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(
                a.clone().merge(b.clone()).merge(c.clone()),
                a.clone().merge(b.merge(c))
            );
            prop_assert_eq!(a.clone().merge(a.clone()), a);
        }

        #[test]
        fn merge_never_goes_back(a in register(), b in register()) {
            let merged = a.clone().merge(b.clone());
            prop_assert!(merged.stamp >= a.stamp && merged.stamp >= b.stamp);
            prop_assert!(merged == a || merged == b);
        }
    }
}

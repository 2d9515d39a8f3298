//! The kinds that a node can read.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::State;
use crate::crdt::codec::{DecodeError, Decoder};
use crate::crdt::contract::Crdt;
use crate::crdt::kind::Kind;
use crate::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, PnCounter,
};

/// The kinds that a node can read: all of [`types`](crate::crdt::types), maps to them, and those of
/// the user.
///
/// ```
/// use macula_platform::crdt::Crdt;
/// use macula_platform::crdt::state::Kinds;
/// use macula_platform::crdt::types::{OrMap, OrSet};
///
/// type Rooms = OrMap<OrMap<OrSet>>;
/// let kinds = Kinds::default().with::<Rooms>();
/// assert_eq!(Rooms::kind().to_string(), "or-map(or-map(or-set))");
/// assert!(kinds.knows(&Rooms::kind()));
/// ```
#[derive(Clone)]
pub struct Kinds(BTreeMap<Kind, Read>);

type Read = fn(&mut Decoder<'_>) -> Result<State, DecodeError>;

impl Default for Kinds {
    fn default() -> Self {
        Self(BTreeMap::new())
            .and_map::<LwwRegister>()
            .and_map::<MvRegister>()
            .and_map::<GCounter>()
            .and_map::<PnCounter>()
            .and_map::<GSet>()
            .and_map::<OrSet>()
            .and_map::<LwwElementSet>()
            .and_map::<EwFlag>()
            .and_map::<DwFlag>()
    }
}

impl Kinds {
    /// These, and that of another type. A kind that is there already is read as that type from now
    /// on.
    #[must_use]
    pub fn with<C: Crdt>(mut self) -> Self {
        self.0.insert(C::kind(), State::read::<C>);
        self
    }

    /// These, and those of a type and of maps to it.
    fn and_map<C: Crdt>(self) -> Self {
        self.with::<C>().with::<OrMap<C>>()
    }

    /// Whether a kind is among them.
    #[must_use]
    pub fn knows(&self, kind: &Kind) -> bool {
        self.0.contains_key(kind)
    }

    /// Reads a state of a kind. One of a kind that is not among these can be joined with others of
    /// its kind, kept and written again, and not read.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the bytes are no state of that kind.
    pub fn decode(&self, kind: &Kind, from: &mut Decoder<'_>) -> Result<State, DecodeError> {
        match self.0.get(kind) {
            Some(read) => read(from),
            None => State::read_foreign(kind, from),
        }
    }
}

impl Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

//! The types that there are.

/// Makes a [`Crdt`](crate::crdt::Crdt) of a type that wraps another: `crdt_type!(Type, Store, "kind")`
/// for a `struct Type(Store)`. What it does not share with its store may follow in braces.
///
/// The store is another type, such as a [`Pair`](crate::crdt::types::Pair) or an
/// [`OrMap`](crate::crdt::types::OrMap), or a [`DotFun`](crate::crdt::store::DotFun).
///
/// ```
/// use macula_platform::crdt::limits::Refused;
/// use macula_platform::crdt::types::{LwwRegister, OrSet, Pair};
/// use macula_platform::crdt::write::Write;
/// use macula_platform::crdt::contract::Delta;
/// use macula_platform::crdt::Crdt;
/// use macula_platform::crdt_type;
///
/// /// What a shop's customer wants, and where it is to go.
/// #[derive(Debug, Clone, PartialEq, Default)]
/// struct Cart(Pair<OrSet, LwwRegister>);
/// crdt_type!(Cart, Pair<OrSet, LwwRegister>, "shop.cart/1");
///
/// impl Cart {
///     fn put(&self, item: &str, write: &mut Write<'_>) -> Result<Delta<Self>, Refused> {
///         let items = |items: &OrSet, write: &mut Write<'_>| items.add(item.as_bytes(), write);
///         Ok(self.0.update_first(write, items)?.map(Self))
///     }
/// }
/// assert_eq!(Cart::kind().as_str(), "shop.cart/1");
/// # use macula_platform::crdt::{bucket::Bucket, state::Kinds};
/// # use macula_core::replica::ReplicaId;
/// # let now = std::time::Duration::from_secs(1_700_000_000);
/// # let kinds = std::sync::Arc::new(Kinds::default().with::<Cart>());
/// # let mut bucket = Bucket::new(ReplicaId { node: 1, incarnation: 1 }, Default::default())?.with_kinds(kinds);
/// bucket.update("carts/7", now, |cart: &Cart, write| cart.put("tea", write))?;
/// let cart = bucket.read::<Cart>("carts/7")?.ok_or("no cart")?;
/// assert!(cart.0.first().contains(b"tea"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! crdt_type {
    ($type:ty, $store:ty, $kind:literal $(, { $($more:item)* })?) => {
        impl $crate::crdt::Crdt for $type {
            fn kind() -> $crate::crdt::kind::Kind {
                const { $crate::crdt::kind::Kind::new($kind) }
            }

            fn join(
                &mut self,
                ours: &$crate::crdt::context::Context,
                theirs: &Self,
                context: &$crate::crdt::context::Context,
            ) -> bool {
                self.0.join(ours, &theirs.0, context)
            }

            fn visit(&self, each: &mut dyn FnMut($crate::crdt::dot::Dot)) {
                self.0.visit(each);
            }

            fn is_bottom(&self) -> bool {
                self.0.is_bottom()
            }

            fn weight(&self) -> usize {
                self.0.weight()
            }

            fn encode(&self, out: &mut $crate::crdt::codec::Encoder) {
                self.0.encode(out);
            }

            fn decode(
                from: &mut $crate::crdt::codec::Decoder<'_>,
            ) -> Result<Self, $crate::crdt::codec::DecodeError> {
                Ok(Self(<$store>::decode(from)?))
            }

            fn piece(
                &self,
                from: &[std::sync::Arc<[u8]>],
                weight_max: usize,
            ) -> $crate::crdt::contract::Piece<Self> {
                self.0.piece(from, weight_max).map(Self)
            }

            $($($more)*)?
        }
    };
}

mod counter;
mod dw_flag;
mod ew_flag;
mod g_set;
mod lww_element_set;
mod lww_register;
mod mv_register;
mod or_map;
mod or_set;
mod pair;

pub use counter::{GCounter, PnCounter};
pub use dw_flag::DwFlag;
pub use ew_flag::EwFlag;
pub use g_set::GSet;
pub use lww_element_set::LwwElementSet;
pub use lww_register::{LwwRegister, Stamped};
pub use mv_register::MvRegister;
pub use or_map::OrMap;
pub use or_set::OrSet;
pub use pair::Pair;

#[cfg(test)]
mod tests;

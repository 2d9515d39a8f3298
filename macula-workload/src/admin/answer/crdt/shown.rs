//! What replicated types have, as JSON.

use std::io::Cursor;

use data_encoding::HEXLOWER;
use macula_platform::crdt::kind::Kind;
use macula_platform::crdt::limits::Refused;
use macula_platform::crdt::types::{
    DwFlag, EwFlag, GCounter, GSet, LwwElementSet, LwwRegister, MvRegister, OrMap, OrSet, PnCounter,
};
use macula_platform::crdt::{Crdt, Crdts, Error, Failed};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// What it says to those who read JSON.
trait Shown: Crdt {
    fn shown(&self) -> Value;
}

/// A value or element: as what `MessagePack` says it is, or else as text, or else in hexadecimal.
fn told(bytes: &[u8]) -> Value {
    let mut cursor = Cursor::new(bytes);
    let value = Value::deserialize(&mut rmp_serde::Deserializer::new(&mut cursor));
    let is_all = usize::try_from(cursor.position()).is_ok_and(|end| end == bytes.len());
    match (value, std::str::from_utf8(bytes)) {
        (Ok(value), _) if is_all => value,
        (_, Ok(text)) => text.into(),
        (_, Err(_no_text)) => json!({ "hex": HEXLOWER.encode(bytes) }),
    }
}

fn list<'a>(all: impl Iterator<Item = &'a std::sync::Arc<[u8]>>) -> Value {
    all.map(|bytes| told(bytes)).collect()
}

/// A number, or its digits if it is too large for readers of JSON.
fn number(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_large| value.to_string().into(), Value::from)
}

impl Shown for LwwRegister {
    fn shown(&self) -> Value {
        self.get().map_or(Value::Null, |bytes| told(bytes))
    }
}

impl Shown for MvRegister {
    fn shown(&self) -> Value {
        list(self.values())
    }
}

impl Shown for GCounter {
    fn shown(&self) -> Value {
        let value = self.value();
        i128::try_from(value).map_or_else(|_large| value.to_string().into(), number)
    }
}

impl Shown for PnCounter {
    fn shown(&self) -> Value {
        number(self.value())
    }
}

impl Shown for GSet {
    fn shown(&self) -> Value {
        list(self.iter())
    }
}

impl Shown for OrSet {
    fn shown(&self) -> Value {
        list(self.iter())
    }
}

impl Shown for LwwElementSet {
    fn shown(&self) -> Value {
        list(self.iter())
    }
}

impl Shown for EwFlag {
    fn shown(&self) -> Value {
        self.is_enabled().into()
    }
}

impl Shown for DwFlag {
    fn shown(&self) -> Value {
        self.is_enabled().into()
    }
}

impl<V: Shown> Shown for OrMap<V> {
    fn shown(&self) -> Value {
        let entry = |(key, value): (&std::sync::Arc<[u8]>, &V)| {
            let name = match told(key) {
                Value::String(name) => name,
                other => other.to_string(),
            };
            (name, value.shown())
        };
        Value::Object(self.iter().map(entry).collect::<Map<_, _>>())
    }
}

async fn read<C: Shown>(crdts: &Crdts, key: &str) -> Result<Option<Value>, Error> {
    let shown = |state: &C| (!state.is_bottom()).then(|| state.shown());
    match crdts.key::<C, ()>(key).read(shown).await {
        // It has become something else since.
        Err(Error::Failed(Failed::Refused(Refused::OtherKind { .. }))) => Ok(None),
        read => read,
    }
}

/// What a key of a type has here. Nothing if that is gone, or the type is none of those that everybody knows.
pub(super) async fn value_of(
    crdts: &Crdts,
    key: &str,
    kind: &Kind,
) -> Result<Option<Value>, Error> {
    macro_rules! read_as {
        ($($kind:ty),*) => {
            match kind {
                $(
                    kind if *kind == <$kind>::kind() => read::<$kind>(crdts, key).await,
                    kind if *kind == OrMap::<$kind>::kind() => read::<OrMap<$kind>>(crdts, key).await,
                )*
                _ => Ok(None),
            }
        };
    }
    read_as!(
        LwwRegister,
        MvRegister,
        GCounter,
        PnCounter,
        GSet,
        OrSet,
        LwwElementSet,
        EwFlag,
        DwFlag
    )
}

#[cfg(test)]
mod tests {
    use super::told;
    use serde_json::json;

    #[test]
    fn what_was_written_by_anybody_can_be_told() {
        let packed = |value: serde_json::Value| rmp_serde::to_vec_named(&value).unwrap();
        for value in [json!("ada"), json!(7), json!({ "name": "ada", "age": [1, null] })] {
            assert_eq!(told(&packed(value.clone())), value);
        }
        assert_eq!(told(b"raw text"), json!("raw text"));
        assert_eq!(told(&[0xff, 0xfe, 0xc1]), json!({ "hex": "fffec1" }));
    }
}

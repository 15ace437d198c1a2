//! A table whose allowed keys depend on its other entries: on its `kind`, or on its links. First all entries are
//! read. Then each part takes its own keys. An error names the place of the key at fault.

use std::fmt::{self, Display};

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

use super::OnlyTable;
use crate::secret::Secret;

/// Settings with names.
pub(crate) trait Named {
    fn names() -> Vec<&'static str>;
}

/// The names of the fields of a type with serde's own `derive(Deserialize)`.
pub(crate) fn names_in<T>(deserialize: impl FnOnce(Probe) -> Result<T, Names>) -> Vec<&'static str> {
    deserialize(Probe).map_or_else(|Names(names)| names.to_vec(), |_| Vec::new())
}

/// The entries of a table, unchanged.
#[derive(Default)]
pub(crate) struct Entries(Map<String, Value>);

impl Entries {
    /// The value of `kind`.
    pub(crate) fn take_kind(&mut self) -> Result<String, String> {
        match self.0.remove("kind") {
            Some(Value::String(kind)) => Ok(kind),
            Some(_) => Err("`kind`: expected a string".to_owned()),
            None => Err("missing field `kind`".to_owned()),
        }
    }

    /// Takes the entries with these names.
    #[cfg(feature = "http")]
    pub(crate) fn take(&mut self, names: &[&str]) -> Self {
        let (taken, left) =
            std::mem::take(&mut self.0).into_iter().partition(|(key, _)| names.contains(&&**key));
        self.0 = left;
        Self(taken)
    }

    /// Refuses keys with other names. `of` continues "unknown field `x`".
    pub(crate) fn check(&self, names: &[&'static str], of: &str) -> Result<(), String> {
        match self.0.keys().find(|key| !names.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let names = names.join("`, `");
                // A number may be a secret in the wrong place.
                if !key.starts_with(|first: char| first.is_alphabetic() || first == '_') {
                    return Err(format!("unknown field, which has no name{of}, expected one of `{names}`"));
                }
                Err(format!("unknown field `{}`{of}, expected one of `{names}`", key.escape_debug()))
            }
        }
    }

    /// The settings of one kind.
    pub(crate) fn read_kind<T: Named + DeserializeOwned>(self, kind: &str) -> Result<T, String> {
        self.check(&T::names(), &format!(" for kind `{kind}`"))?;
        self.read()
    }

    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, String> {
        let entries = InTurn { left: self.0.into_iter(), value: None };
        T::deserialize(MapAccessDeserializer::new(entries)).map_err(|error| error.to_string())
    }
}

/// The error for a kind that is not one of these.
pub(crate) fn unknown_kind(kind: &str, kinds: &[&str]) -> String {
    format!("`kind`: unknown variant `{}`, expected one of `{}`", kind.escape_debug(), kinds.join("`, `"))
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of settings by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entries, A::Error> {
                entries(map).map(Entries)
            }
        }

        OnlyTable(deserializer).deserialize_map(All)
    }
}

/// Refuses a key that occurs twice, because formats differ in which value counts.
fn entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<Map<String, Value>, A::Error> {
    let mut entries = Map::new();
    // A key that is no text may be a secret in the wrong place. A secret is never quoted.
    while let Some(key) = map.next_key::<Secret>()? {
        let key = key.expose().to_owned();
        if entries.contains_key(&key) {
            return Err(A::Error::custom(format_args!("duplicate field `{}`", key.escape_debug())));
        }
        let Strict(value) = map.next_value()?;
        entries.insert(key, value);
    }
    Ok(entries)
}

/// A value in whose tables no key occurs twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a setting")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            // A longer number may be a secret, and serde's own error would quote it.
            fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
                Ok(value.to_string().into())
            }

            fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
                Ok(value.to_string().into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(text.into())
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Strict(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(values.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                entries(map).map(Value::Object)
            }
        }

        deserializer.deserialize_any(Any).map(Self)
    }
}

/// Gives one entry after the other. An error of a value names its key.
struct InTurn {
    left: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for InTurn {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().ok_or_else(|| Error::custom("a value without its key"))?;
        seed.deserialize(value).map_err(|error| Error::custom(within(&key, &error)))
    }
}

/// The text of an error of the value at `key`, with its path: "`subject.path`: what".
fn within(key: &str, error: &impl Display) -> String {
    let (key, text) = (key.escape_debug(), error.to_string());
    let way = text.strip_prefix('`').and_then(|rest| rest.split_once("`: "));
    match way.filter(|(way, _)| !way.contains(['`', ' '])) {
        Some((way, what)) => format!("`{key}.{way}`: {what}"),
        None => format!("`{key}`: {text}"),
    }
}

/// Reads no value: it only gets the names of the fields.
pub(crate) struct Probe;

/// The names that it got.
#[derive(Debug)]
pub(crate) struct Names(&'static [&'static str]);

impl<'de> Deserializer<'de> for Probe {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(names))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl serde::de::Error for Names {
    fn custom<T: Display>(_: T) -> Self {
        Self(&[])
    }
}

impl Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names")
    }
}

impl std::error::Error for Names {}

#[cfg(test)]
mod tests {
    use super::super::SecretPlace;
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused_in_each_table() {
        let read =
            |text: &str| serde_json::from_str::<Entries>(text).map(|Entries(entries)| Value::Object(entries));
        let text = r#"{"a":[1,-2,1.5,true,null,{"b":"c"}],"d":{"b":{}}}"#;
        assert_eq!(read(text).unwrap().to_string(), text);
        for twice in [r#"{"a":1,"a":2}"#, r#"{"d":{"a":1,"a":2}}"#, r#"{"d":[{"a":1,"b":2,"a":3}]}"#] {
            assert!(read(twice).unwrap_err().to_string().contains("duplicate field `a`"));
        }
    }

    #[test]
    fn a_key_or_a_value_that_is_a_long_number_is_not_quoted() {
        use serde::de::value::{Error, MapDeserializer};
        const LONG: u128 = 47_114_711_471_147_114_711_471_147;
        let low = -47_114_711_471_147_114_711_471_147_i128;
        let long: Result<Entries, Error> =
            Entries::deserialize(MapDeserializer::new([("client_secret", LONG)].into_iter()));
        assert_eq!(long.unwrap().0["client_secret"], LONG.to_string());
        let low_one: Result<Entries, Error> =
            Entries::deserialize(MapDeserializer::new([("client_secret", low)].into_iter()));
        assert_eq!(low_one.unwrap().0["client_secret"], low.to_string());
        let key: Result<Entries, Error> =
            Entries::deserialize(MapDeserializer::new([(4711_u64, "x")].into_iter()));
        assert_eq!(key.unwrap().0["4711"], "x");
        let key: Result<Entries, Error> =
            Entries::deserialize(MapDeserializer::new([(47.11, "x")].into_iter()));
        assert!(!key.map(|_| ()).unwrap_err().to_string().contains("47.11"));
        let key: Result<SecretPlace, Error> =
            SecretPlace::deserialize(MapDeserializer::new([(4711_u64, "x")].into_iter()));
        let error = key.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("an unknown key") && !error.contains("4711"), "{error}");
    }

    #[test]
    fn the_way_to_a_key_has_one_name_for_each_table() {
        assert_eq!(within("path", &"is wrong"), "`path`: is wrong");
        assert_eq!(within("subject", &"`path`: is wrong"), "`subject.path`: is wrong");
        assert_eq!(
            within("authorization", &"`subject.path`: is wrong"),
            "`authorization.subject.path`: is wrong"
        );
        assert_eq!(within("dpop", &"`dpop` is no key"), "`dpop`: `dpop` is no key");
        assert_eq!(within("a\nb", &"is wrong"), "`a\\nb`: is wrong");
    }
}

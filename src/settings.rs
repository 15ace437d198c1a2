//! Settings from files: only from a table, each setting by its name.

pub(crate) mod table;

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::secret::place::SecretPlace;
#[cfg(feature = "http")]
use crate::secret::place::cut_secret;

/// Declares a type whose settings can be read from a file.
///
/// The attributes of the fields are serde's. `#![serde(default)]` at the beginning makes each setting optional.
/// Serde's own `derive(Deserialize)` would also read a list, by position: `["2m", "10s"]`. Such a list is not
/// readable, and a new setting changes its meaning. Therefore the file form has its own type, which is read by
/// [`OnlyTable`].
macro_rules! settings {
    (
        $(#![serde($($container:tt)*)])?
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$attribute:meta])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($field: $type,)*
        }

        const _: () = {
            type Settings = $name;

            #[derive(serde::Deserialize)]
            #[serde(remote = "Settings", deny_unknown_fields, bound = "")]
            $(#[serde($($container)*)])?
            struct InFile {
                $($(#[$attribute])* $field: $type,)*
            }

            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    InFile::deserialize($crate::settings::OnlyTable(deserializer))
                }
            }

            impl $crate::settings::table::Named for $name {
                fn names() -> Vec<&'static str> {
                    $crate::settings::table::names_in(|probe| InFile::deserialize(probe))
                }
            }
        };
    };
}
pub(crate) use settings;

/// Reads a struct only from a table.
#[derive(Debug)]
pub(crate) struct OnlyTable<D>(pub(crate) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyTable<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        // Not `deserialize_struct`: with it the format itself would refuse a string, and quote it.
        self.0.deserialize_any(Table(visitor))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Passes a table to the visitor. A value in the table's place may be a secret, so the error does not quote it.
struct Table<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Table<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of settings by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<V::Value, E> {
        Err(refused("true or false"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<V::Value, E> {
        Err(refused("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<V::Value, E> {
        Err(refused("a number"))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<V::Value, E> {
        Err(refused("a number"))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<V::Value, E> {
        Err(refused("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<V::Value, E> {
        Err(refused("a number"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<V::Value, E> {
        Err(refused("a string"))
    }
}

/// A table of secrets. Each is a value, or `{ file = ".." }`, or `{ env = ".." }`, which is read with the settings. A
/// wrong value in the table's place, or in it, is not quoted.
pub(crate) fn secret_table<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, crate::secret::Secret>, D::Error> {
    let table: std::collections::BTreeMap<String, SecretPlace> =
        Deserialize::deserialize(OnlyTable(deserializer))?;
    let read = |(name, place): (String, SecretPlace)| {
        let name_shown = name.escape_debug();
        let secret = match place {
            // As it is written, with its line break.
            SecretPlace::Value(secret) => secret,
            place => {
                place.secret(&name).map_err(|what| D::Error::custom(format_args!("`{name_shown}` {what}")))?
            }
        };
        Ok((name, secret))
    };
    table.into_iter().map(read).collect()
}

/// The same, for values that are sent in a body: a line break at the end of a value is cut off with a WARN.
#[cfg(feature = "http")]
pub(crate) fn secret_table_cut<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, crate::secret::Secret>, D::Error> {
    let table = secret_table(deserializer)?;
    let cut = |(name, secret): (String, crate::secret::Secret)| {
        let secret = cut_secret(&name, secret.expose());
        (name, secret)
    };
    Ok(table.into_iter().map(cut).collect())
}

/// A list of secrets. A wrong value in its place, or in it, is not quoted.
pub(crate) fn secret_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<crate::secret::Secret>, D::Error> {
    deserializer.deserialize_any(List)
}

struct List;

impl List {
    fn refused<T, E: Error>() -> Result<T, E> {
        Err(E::custom("invalid type, expected a list of strings"))
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Vec<crate::secret::Secret>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut secrets = Vec::new();
        while let Some(secret) = list.next_element()? {
            secrets.push(secret);
        }
        Ok(secrets)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Self::refused()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Self::refused()
    }
}

/// A text. An environment variable of digits arrives as a number. A wrong value in its place is not quoted.
#[cfg(feature = "oauth2")]
pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    crate::secret::Secret::deserialize(deserializer).map(|text| text.expose().to_owned())
}

/// The same for a setting that may be missing.
#[cfg(feature = "oauth2")]
pub(crate) fn some_text_or_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<crate::secret::Secret>::deserialize(deserializer)?;
    Ok(text.map(|text| text.expose().to_owned()))
}

/// A list of strings, or a single string. A wrong value in its place is not quoted.
#[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
pub(crate) fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    match OneOrMore::deserialize(deserializer) {
        Ok(OneOrMore::One(one)) => Ok(vec![one]),
        Ok(OneOrMore::More(more)) => Ok(more),
        Err(_) => Err(Error::custom("expected a string, or a list of strings")),
    }
}

/// The same, where a number counts as its digits.
#[cfg(feature = "oauth2")]
pub(crate) fn texts_or_numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts: Vec<crate::secret::Secret> = one_or_more(deserializer)?;
    Ok(texts.iter().map(|text| text.expose().to_owned()).collect())
}

fn refused<E: Error>(found: &str) -> E {
    E::custom(format_args!("found {found}, expected a table of settings by name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    settings! {
        #[derive(Debug, PartialEq)]
        struct Two {
            one: String,
            #[serde(default)]
            two: u8,
        }
    }

    settings! {
        #![serde(default)]
        #[derive(Debug, Default, PartialEq)]
        struct AllOptional {
            nested: Option<Two>,
        }
    }

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_read_from_a_table_by_name() {
        assert_eq!(read(json!({ "two": 2, "one": "a" })), Ok(Two { one: "a".into(), two: 2 }));
        assert_eq!(read(json!({})), Ok(AllOptional { nested: None }));
        let nested = Some(Two { one: "a".into(), two: 0 });
        assert_eq!(read(json!({ "nested": { "one": "a" } })), Ok(AllOptional { nested }));
        let error = read::<Two>(json!({ "one": "a", "three": 3 })).unwrap_err();
        assert_eq!(error, "unknown field `three`, expected `one` or `two`");
        assert_eq!(read::<Two>(json!({})).unwrap_err(), "missing field `one`");
    }

    #[test]
    fn settings_are_not_read_from_a_list_or_a_value_and_the_value_is_not_quoted() {
        for wrong in
            [json!(["s3cret", 2]), json!("s3cret"), json!(4711), json!(-4711), json!(47.11), json!(true)]
        {
            for error in [read::<Two>(wrong.clone()).unwrap_err(), read::<AllOptional>(wrong).unwrap_err()] {
                assert!(error.contains("expected a table of settings by name"), "{error}");
                assert!(!error.contains("s3cret") && !error.contains("47"), "{error}");
            }
        }
        let error = read::<AllOptional>(json!({ "nested": ["s3cret", 2] })).unwrap_err();
        assert_eq!(error, "invalid type: sequence, expected a table of settings by name");
    }
}

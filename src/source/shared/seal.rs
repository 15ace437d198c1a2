//! Sealed tokens in the store: a reader of the store cannot read a token, and a writer to it cannot forge one.

use std::fmt;
use std::marker::PhantomData;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::secret::place::SecretPlace;
use crate::settings::settings;
use crate::store::{SharedKey, hex};

/// The purpose of a value. A value that was sealed for one purpose opens for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    Token,
    Lease,
    Pause,
    /// The mark of the credential with this name.
    Mark(&'a str),
    /// A refresh token, for a vault.
    #[cfg(all(feature = "oauth2", feature = "redis"))]
    Vault,
}

impl Purpose<'_> {
    fn letter(self) -> u8 {
        match self {
            Self::Token => b't',
            Self::Lease => b'l',
            Self::Pause => b'p',
            Self::Mark(_) => b'm',
            #[cfg(all(feature = "oauth2", feature = "redis"))]
            Self::Vault => b'v',
        }
    }
}

/// The first byte of a value gives the form of the rest.
const IN_CLEAR: u8 = 0;
const SEALED: u8 = 1;
const NONCE: usize = 24;
const KEY: usize = 32;

/// A key that seals tokens in the store: 32 random bytes, and an id. A value contains the id of the key that it
/// needs. `openssl rand -hex 32` makes a key. A key that is not random (one repeated byte, for example) works, but a
/// reader of the store can guess it. Therefore the build of its source or vault writes a WARN with the key's id.
///
/// From a file of settings: `{ "id": "2026-11", "key": "<64 hex digits>" }`. In place of the digits there may be
/// `{ "file": "path" }` or `{ "env": "NAME" }`, which is read with the settings. Wiped when dropped; `Debug` hides
/// the bytes.
#[derive(Clone)]
pub struct SealKey {
    id: String,
    bytes: Zeroizing<[u8; KEY]>,
}

impl SealKey {
    /// `id`: 1 to 64 visible characters, unique among the keys that are in use. It is stored in clear.
    ///
    /// # Errors
    /// An invalid id.
    pub fn new(id: impl Into<String>, bytes: [u8; KEY]) -> Result<Self, BuildError> {
        let (id, bytes) = (id.into(), Zeroizing::new(bytes));
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BuildError::new("keys", "need an id of 1 to 64 visible characters each"));
        }
        Ok(Self { id, bytes })
    }

    /// From 64 hex digits, as `openssl rand -hex 32` prints them.
    ///
    /// # Errors
    /// Anything except 64 hex digits; an invalid id.
    pub fn from_hex(id: impl Into<String>, hex: &str) -> Result<Self, BuildError> {
        let mut bytes = Zeroizing::new([0; KEY]);
        let digit = |at: usize| char::from(*hex.as_bytes().get(at)?).to_digit(16);
        let wrong = || BuildError::new("keys", "must be 64 hex digits each");
        if hex.len() != 2 * KEY {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let value = digit(2 * at).zip(digit(2 * at + 1)).map(|(high, low)| high * 16 + low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or_else(wrong)?;
        }
        Self::new(id, *bytes)
    }
}

impl SealKey {
    /// A sub-key for one purpose. It is as long as a block of the hash, so that HMAC uses it unchanged.
    fn derive(&self, purpose: &[u8]) -> Result<Zeroizing<[u8; 64]>, BuildError> {
        let mut key = Zeroizing::new([0; 64]);
        // HKDF can give up to 255 times as much.
        let derived = Hkdf::<Sha256>::new(None, &*self.bytes).expand(purpose, &mut *key);
        derived.map_err(|_| {
            BuildError::new("keys", "are keys from which no sub-key for names can be derived")
        })?;
        Ok(key)
    }

    /// Whether the key is one repeated byte, an ascending sequence as in this crate's documentation, or a short
    /// pattern. No random generator makes such a key. It still seals, because a test may use it: a build writes a WARN.
    fn is_weak(&self) -> bool {
        /// 32 random bytes have fewer different values less often than once in 10^30 keys.
        const DIFFERENT: usize = 8;
        let mut seen = [false; 256];
        self.bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        let step = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
        let mut steps = self.bytes.windows(2).map(step);
        let first = steps.next();
        seen.iter().filter(|seen| **seen).count() < DIFFERENT || steps.all(|step| Some(step) == first)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).field("bytes", &"[redacted]").finish()
    }
}

settings! {
    /// A key in a file of settings.
    struct Written {
        id: String,
        key: SecretPlace,
    }
}

impl<'de> Deserialize<'de> for SealKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Unquoted::<Self>::expecting("a table of settings by name"))
    }
}

/// The keys of a settings file.
pub(crate) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SealKey>, D::Error> {
    deserializer.deserialize_any(Unquoted::<Vec<SealKey>>::expecting("a list of keys"))
}

/// Serde's own errors quote a value of the wrong type. A key must not be quoted.
struct Unquoted<T> {
    expected: &'static str,
    one: PhantomData<T>,
}

impl<T> Unquoted<T> {
    fn expecting(expected: &'static str) -> Self {
        Self { expected, one: PhantomData }
    }

    fn wrong<E: de::Error>(&self) -> E {
        E::custom(format_args!("invalid type, expected {}", self.expected))
    }
}

/// The answer to any value that is neither a table nor a list.
macro_rules! unquoted {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(self.wrong())
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(self.wrong())
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(self.wrong())
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(self.wrong())
        }
    };
}

impl<'de> Visitor<'de> for Unquoted<SealKey> {
    type Value = SealKey;
    unquoted!();

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SealKey, A::Error> {
        let written = Written::deserialize(MapAccessDeserializer::new(map))?;
        let hex = written.key.read("key").map_err(de::Error::custom)?;
        SealKey::from_hex(written.id, hex.expose()).map_err(de::Error::custom)
    }
}

impl<'de> Visitor<'de> for Unquoted<Vec<SealKey>> {
    type Value = Vec<SealKey>;
    unquoted!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<SealKey>, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element()? {
            keys.push(key);
        }
        Ok(keys)
    }
}

/// The keys that open values. The first one seals. Or the user's choice that tokens are in clear.
pub(crate) struct KeyRing {
    keys: Vec<SealKey>,
    /// The key for the names of credentials.
    marks: Option<Zeroizing<[u8; 64]>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The value cannot be opened: it was sealed with another key or for another place, or it was changed.
#[derive(Debug)]
pub(crate) struct Unopened;

impl KeyRing {
    pub(crate) fn new(keys: Vec<SealKey>, in_clear: bool) -> Result<Self, BuildError> {
        if keys.is_empty() != in_clear {
            let message = if in_clear {
                "have no effect with `in_clear`: choose one of them"
            } else {
                "are missing: give one, or say `in_clear` if tokens may be readable in the store"
            };
            return Err(BuildError::new("keys", message));
        }
        let twice = |(at, key): (usize, &SealKey)| keys[..at].iter().any(|other| other.id == key.id);
        if keys.iter().enumerate().any(twice) {
            return Err(BuildError::new("keys", "have the same id twice"));
        }
        for key in keys.iter().filter(|key| key.is_weak()) {
            let id = &key.id;
            log::warn!(target: "tokenflight", "the seal key {id:?} can be guessed, because it is not random; make a new key with `openssl rand -hex 32`");
        }
        let mut ring = Self { keys, marks: None };
        if let Some(oldest) = ring.oldest() {
            ring.marks = Some(oldest.derive(b"tokenflight marks 1")?);
        }
        Ok(ring)
    }

    /// The name in the store for these parts, keyed by a sub-key of the oldest key.
    pub(crate) fn place<'a>(
        &self,
        name: &str,
        parts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<SharedKey, BuildError> {
        let Some(key) = self.oldest() else {
            return SharedKey::new(name, parts);
        };
        let names = key.derive(b"tokenflight names 1")?;
        SharedKey::keyed(&names, name, parts)
    }

    /// A name for a credential, from which the credential cannot be found without the key. Without a key, everybody
    /// could test whether a credential has this name. Therefore the name is then so short that such a test reveals
    /// nothing.
    pub(crate) fn mark(&self, credential: impl FnOnce(&mut dyn FnMut(&[u8]))) -> String {
        let nothing = Zeroizing::new([0; 64]);
        let (key, shown) = self.marks.as_ref().map_or((&nothing, 1), |key| (key, 16));
        let mut hash = <Hmac<Sha256> as hmac::KeyInit>::new(&(**key).into());
        credential(&mut |part| {
            // Each part has its length in front, so that two different credentials never give the same bytes.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        });
        hex(&hash.finalize().into_bytes()[..shown])
    }

    /// The key whose id sorts first. It stays the same if the keys are only put in another order.
    fn oldest(&self) -> Option<&SealKey> {
        self.keys.iter().min_by(|one, other| one.id.cmp(&other.id))
    }

    /// `None`: no randomness is available.
    pub(crate) fn seal(&self, place: &SharedKey, purpose: Purpose<'_>, text: &[u8]) -> Option<Vec<u8>> {
        let Some(key) = self.keys.first() else {
            return Some([&[IN_CLEAR, purpose.letter()], text].concat());
        };
        let mut nonce = [0; NONCE];
        // 192 bits of randomness: two processes never use the same nonce, for any number of values.
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: text, aad: &bound_to(&key.id, place, purpose) };
        let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload).ok()?;
        let id_length = u8::try_from(key.id.len()).ok()?;
        Some([&[SEALED, id_length], key.id.as_bytes(), &nonce, &sealed].concat())
    }

    /// A ring with keys opens no value in clear. Otherwise a writer to the store could forge a token.
    pub(crate) fn open(
        &self,
        place: &SharedKey,
        purpose: Purpose<'_>,
        value: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        match value.split_first().ok_or(Unopened)? {
            (&IN_CLEAR, rest) if self.keys.is_empty() => {
                let text = rest.strip_prefix(&[purpose.letter()]).ok_or(Unopened)?;
                Ok(Zeroizing::new(text.to_vec()))
            }
            (&SEALED, rest) => {
                let (id_length, rest) = rest.split_first().ok_or(Unopened)?;
                let (id, rest) = rest.split_at_checked((*id_length).into()).ok_or(Unopened)?;
                let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(Unopened)?;
                let key = self.keys.iter().find(|key| key.id.as_bytes() == id).ok_or(Unopened)?;
                let payload = Payload { msg: sealed, aad: &bound_to(&key.id, place, purpose) };
                let opened = cipher(key).decrypt(&XNonce::from(*nonce), payload);
                opened.map(Zeroizing::new).map_err(|_| Unopened)
            }
            _ => Err(Unopened),
        }
    }
}

fn cipher(key: &SealKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*key.bytes).into())
}

/// The context to which a value is sealed. Therefore a value cannot be used in another place, or under another
/// key's id. A zero byte separates the pieces: no piece contains one.
fn bound_to(id: &str, place: &SharedKey, purpose: Purpose<'_>) -> Vec<u8> {
    let whose = if let Purpose::Mark(name) = purpose { name } else { "" };
    let letter = [purpose.letter()];
    let pieces = [b"tokenflight 2", id.as_bytes(), place.as_str().as_bytes(), &letter, whose.as_bytes()];
    pieces.join(&0)
}

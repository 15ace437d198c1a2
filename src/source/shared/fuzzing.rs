//! The properties that must hold for any contents of the store: see [`crate::fuzzing`].
#![allow(clippy::missing_panics_doc)]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::envelope::Envelope;
use super::record::Record;
use super::seal::{KeyRing, Purpose, SealKey};
use crate::store::SharedKey;
use crate::token::{Token, TokenType};

/// The keys of the processes: two keys. The first one seals.
static RING: LazyLock<KeyRing> = LazyLock::new(|| ring(vec![key("2026-11", 7), key("2026-10", 11)]));
/// The same ids with other keys: the keys of an attacker who has read the ids in the store.
static STRANGER: LazyLock<KeyRing> = LazyLock::new(|| ring(vec![key("2026-11", 13), key("2026-10", 17)]));
static IN_CLEAR: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::new(Vec::new(), true).expect("sound"));
static PLACES: LazyLock<[SharedKey; 2]> = LazyLock::new(|| ["orders", "invoices"].map(place));

const PURPOSES: [Purpose<'static>; 6] = [
    Purpose::Token,
    Purpose::Lease,
    Purpose::Pause,
    Purpose::Mark("one"),
    Purpose::Mark("other"),
    Purpose::Vault,
];

/// The form, the id and its length, the nonce, and the tag.
const OVERHEAD: usize = 2 + "2026-11".len() + 24 + 16;

/// A purpose, a position and a kind of change, and a text. The text is sealed. It opens unchanged, and only for
/// this purpose and this place. If one bit is changed or the end is cut off, no ring opens it. The unsealed bytes
/// are opened by no ring either.
pub fn sealed(data: &[u8]) {
    for purpose in PURPOSES {
        assert!(RING.open(&PLACES[0], purpose, data).is_err(), "nobody has sealed it");
        assert_eq!(RING.open(&PLACES[0], purpose, &[&[0], data].concat()).ok(), None, "in clear");
    }
    assert_clear(data);
    let Some(([purpose, at, bit], text)) = data.split_first_chunk::<3>() else { return };
    let purpose = PURPOSES[usize::from(*purpose) % PURPOSES.len()];
    let value = RING.seal(&PLACES[0], purpose, text).expect("there is randomness");
    assert_eq!(value.len(), text.len() + OVERHEAD);
    assert!(STRANGER.open(&PLACES[0], purpose, &value).is_err(), "another key");
    assert!(IN_CLEAR.open(&PLACES[0], purpose, &value).is_err(), "no key");
    for (place, other) in PLACES.iter().flat_map(|place| PURPOSES.map(|other| (place, other))) {
        let opened = RING.open(place, other, &value).ok();
        if *place == PLACES[0] && other == purpose {
            assert_eq!(opened.as_ref().map(|opened| opened.as_slice()), Some(text));
        } else {
            assert!(opened.is_none(), "{other:?} instead of {purpose:?}");
        }
    }
    let at = usize::from(*at) * value.len() / 256;
    let mut changed = value.clone();
    changed[at] ^= 1 << (bit % 8);
    let after_it = [&value[..], &[*bit]].concat();
    for forged in [&changed[..], &value[..at], &value[at + 1..], &after_it] {
        assert!(RING.open(&PLACES[0], purpose, forged).is_err(), "at {at}");
    }
}

/// A ring without keys opens a value in clear for its purpose, unchanged, and nothing else.
fn assert_clear(data: &[u8]) {
    for purpose in PURPOSES {
        let opened = IN_CLEAR.open(&PLACES[0], purpose, data).ok();
        let expected = is_clear_for(purpose, data).then(|| &data[2..]);
        assert_eq!(opened.as_ref().map(|text| text.as_slice()), expected, "{purpose:?}");
    }
}

/// An envelope, or none. The same bytes are also used as the pieces of a token, and must come out unchanged.
pub fn envelope(data: &[u8]) {
    if let Some(envelope) = Envelope::unpack(data) {
        let packed = envelope.pack();
        assert!(packed.len() <= data.len() + 6, "a short form of a token's type is written out");
        assert_same(&Envelope::unpack(&packed).expect("its own form"), &envelope);
        for cut in [1, packed.len() / 2, packed.len() - 1] {
            // The rest may consist of whole pieces, but never of more than there were.
            let rest = Envelope::unpack(&packed[..cut]).map(|rest| rest.token.scopes().len());
            assert!(rest.is_none_or(|scopes| scopes < envelope.token.scopes().len()));
        }
    }
    let Some((numbers, text)) = data.split_first_chunk::<32>() else { return };
    let text = String::from_utf8_lossy(text);
    let mut pieces = text.split('\n');
    let (kind, secret) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
    let token = Token::new(secret).with_type(TokenType::parse(kind)).with_scopes(pieces);
    let [fence, fetched, end, life] = numbers_of(numbers);
    let time = Duration::from_millis;
    let end = UNIX_EPOCH.checked_add(time(end)).unwrap_or(SystemTime::UNIX_EPOCH);
    let envelope =
        Envelope { token, fence, fetched: time(fetched), end, life: time(life), requirement: !fence };
    assert_same(&Envelope::unpack(&envelope.pack()).expect("its own form"), &envelope);
}

fn assert_same(one: &Envelope, other: &Envelope) {
    assert!(one.token.is_same(&other.token));
    assert_eq!(one.token.secret(), other.token.secret());
    assert_eq!(one.token.token_type(), other.token.token_type());
    assert_eq!(one.token.scopes(), other.token.scopes());
    let numbers = |envelope: &Envelope| {
        (envelope.fence, envelope.fetched, envelope.end, envelope.life, envelope.requirement)
    };
    assert_eq!(numbers(one), numbers(other));
}

fn numbers_of(bytes: &[u8; 32]) -> [u64; 4] {
    let mut numbers = bytes.chunks_exact(8).map(|number| number.try_into().map_or(0, u64::from_be_bytes));
    [(); 4].map(|()| numbers.next().unwrap_or_default())
}

/// A purpose, and the sealed bytes in the place of a record. They are a record if they have a record's length, and
/// sealing it again gives the same record. In clear the bytes are a record for no holder of a key.
pub fn record(data: &[u8]) {
    const LENGTH: usize = 20;
    let place = &PLACES[0];
    for purpose in PURPOSES {
        assert_eq!(Record::open(&RING, place, purpose, data), None, "nobody has sealed it");
        let in_clear = Record::open(&IN_CLEAR, place, purpose, data);
        assert_eq!(in_clear.is_some(), data.len() == LENGTH + 2 && is_clear_for(purpose, data));
    }
    let Some((purpose, text)) = data.split_first() else { return };
    let purpose = PURPOSES[usize::from(*purpose) % PURPOSES.len()];
    let value = RING.seal(place, purpose, text).expect("there is randomness");
    let record = Record::open(&RING, place, purpose, &value);
    assert_eq!(record.is_some(), text.len() == LENGTH);
    let Some(record) = record else { return };
    let again = record.seal(&RING, place, purpose).expect("there is randomness");
    assert_eq!(RING.open(place, purpose, &again).expect("its own").as_slice(), text, "the same bytes");
    assert!(again.len() <= crate::store::LONGEST_RECORD);
    for other in PURPOSES.into_iter().filter(|other| *other != purpose) {
        assert_eq!(Record::open(&RING, place, other, &again), None, "{other:?} instead of {purpose:?}");
    }
    assert_eq!(Record::open(&RING, &PLACES[1], purpose, &again), None, "another place");
}

fn is_clear_for(purpose: Purpose<'_>, data: &[u8]) -> bool {
    let head = IN_CLEAR.seal(&PLACES[0], purpose, b"").expect("no randomness is needed");
    data.starts_with(&head)
}

fn ring(keys: Vec<SealKey>) -> KeyRing {
    KeyRing::new(keys, false).expect("sound keys")
}

fn key(id: &str, factor: usize) -> SealKey {
    // Its bytes are as diverse as those of a random key.
    let bytes = std::array::from_fn(|at| ((at * at + at) * factor + 5).to_le_bytes()[0]);
    SealKey::new(id, bytes).expect("a sound id")
}

fn place(name: &str) -> SharedKey {
    SharedKey::new(name, [("issuer", "https://auth.example")]).expect("a sound name")
}

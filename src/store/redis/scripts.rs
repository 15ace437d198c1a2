//! The scripts, and the parsing of their answers. Each script is documented line by line in its own file.

use std::time::Duration;

use ::redis::{FromRedisValue, ParsingError, Script, Value};

use crate::store::{Free, Held, LONGEST_RECORD, LONGEST_VALUE, Look, StoreError, Stored};

pub(super) struct Scripts {
    pub(super) look_or_lease: Script,
    pub(super) renew: Script,
    pub(super) commit: Script,
    pub(super) fail: Script,
    pub(super) slots: Script,
    #[cfg(feature = "oauth2")]
    pub(super) vault: Script,
    #[cfg(feature = "oauth2")]
    pub(super) lock: Script,
}

/// A script, after the common beginning of all scripts.
macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("mend.lua"), "\n", include_str!($file)))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            look_or_lease: script!("look_or_lease.lua"),
            renew: script!("renew.lua"),
            commit: script!("commit.lua"),
            fail: script!("fail.lua"),
            slots: Script::new(include_str!("slots.lua")),
            #[cfg(feature = "oauth2")]
            vault: Script::new(include_str!("vault.lua")),
            #[cfg(feature = "oauth2")]
            lock: Script::new(include_str!("lock.lua")),
        }
    }
}

/// Parses the answer to a look.
pub(crate) fn read_look(answer: Vec<Value>) -> Result<Look, StoreError> {
    let mut fields = answer.into_iter();
    let mut next = || fields.next().ok_or_else(|| StoreError::new("an invalid answer"));
    let kind: String = read(next()?)?;
    Ok(match kind.as_str() {
        "found" => Look::Found(Stored {
            id: text(next()?)?,
            fence: read(next()?)?,
            value: bytes(next()?, LONGEST_VALUE)?,
            left: millis(next()?)?,
        }),
        "paused" => Look::Paused(held(next()?, next()?, next()?)?),
        "taken" => Look::Taken(held(next()?, next()?, next()?)?),
        "leased" => Look::Leased,
        "free" => Look::Free(Free { clock: millis(next()?)?, fence: read(next()?)? }),
        "mended" => Look::Mended(read(next()?)?),
        _ => return Err(StoreError::new("an invalid answer")),
    })
}

/// The contents of a vault.
#[cfg(feature = "oauth2")]
pub(super) fn read_kept(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    /// The number of bytes that sealing adds to a record.
    const SEAL: usize = 1024;
    if value == Value::Nil {
        return Ok(None);
    }
    bytes(value, crate::vault::LONGEST_RECORD + SEAL).map(Some)
}

/// Parses the answer to a swap of a vault.
#[cfg(feature = "oauth2")]
pub(super) fn read_swap(answer: Vec<Value>) -> Result<Result<(), Option<Vec<u8>>>, StoreError> {
    let mut fields = answer.into_iter();
    let done = fields.next().ok_or_else(|| StoreError::new("an invalid answer"))?;
    if read::<u8>(done)? == 1 {
        return Ok(Ok(()));
    }
    // Redis omits a false at a list's end.
    fields.next().map_or(Ok(None), read_kept).map(Err)
}

fn held(value: Value, left: Value, clock: Value) -> Result<Held, StoreError> {
    // A longer value was not written by a process. Then opening it fails, and the value is deleted.
    let value = bytes(value, 2 * LONGEST_RECORD)?;
    Ok(Held { value, left: millis(left)?, clock: millis(clock)? })
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    // Unreadable text is not quoted, because it may be the token.
    T::from_redis_value(value).map_err(|_: ParsingError| StoreError::new("an answer of the wrong type"))
}

/// An id, at most as long as a process writes it.
fn text(value: Value) -> Result<String, StoreError> {
    let id = bytes(value, 64)?;
    String::from_utf8(id).map_err(|_| StoreError::new("an id that is no text"))
}

fn bytes(value: Value, most: usize) -> Result<Vec<u8>, StoreError> {
    let bytes: Vec<u8> = read(value)?;
    if bytes.len() > most {
        return Err(StoreError::new(format!("a value of more than {most} bytes")));
    }
    Ok(bytes)
}

fn millis(value: Value) -> Result<Duration, StoreError> {
    read(value).map(Duration::from_millis)
}

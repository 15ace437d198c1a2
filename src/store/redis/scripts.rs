//! The scripts, and how their answers are read. Each is documented line by line in its own file.

use std::time::Duration;

use ::redis::{FromRedisValue, ParsingError, Script, Value};

use crate::store::{Lease, Look, Pause, StoreError, Stored};

pub(super) struct Scripts {
    pub(super) look_or_lease: Script,
    pub(super) renew: Script,
    pub(super) commit: Script,
    pub(super) fail: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            look_or_lease: Script::new(include_str!("look_or_lease.lua")),
            renew: Script::new(include_str!("renew.lua")),
            commit: Script::new(include_str!("commit.lua")),
            fail: Script::new(include_str!("fail.lua")),
        }
    }
}

/// `owner` asked.
pub(super) fn read_look(answer: Vec<Value>, owner: &str) -> Result<Look, StoreError> {
    let nonsense = || StoreError::new("an answer that makes no sense");
    let mut fields = answer.into_iter();
    let mut next = || fields.next().ok_or_else(nonsense);
    let look = match read::<String>(next()?)?.as_str() {
        "found" => {
            let (id, value, left) = (read(next()?)?, read(next()?)?, millis(next()?)?);
            Look::Found(Stored { id, value, left })
        }
        "paused" => {
            let terminal = read::<String>(next()?)? == "t";
            Look::Paused(Pause { terminal, left: millis(next()?)? })
        }
        "taken" => Look::Taken(millis(next()?)?),
        "leased" => Look::Leased(Lease { owner: owner.to_owned(), fence: read(next()?)? }),
        _ => return Err(nonsense()),
    };
    Ok(look)
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    // What was not understood is not quoted: it may be the token.
    T::from_redis_value(value).map_err(|_: ParsingError| StoreError::new("an answer of the wrong type"))
}

fn millis(value: Value) -> Result<Duration, StoreError> {
    read(value).map(Duration::from_millis)
}

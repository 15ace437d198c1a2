//! A record as bytes: two lines of JSON. The first line has the version, and the hash of the second line.
//!
//! ```text
//! {"tokenflight_vault":1,"sha256":"<64 hex digits>"}
//! {"login":"…","generation":7,…}
//! ```
//!
//! Any other spelling of the first line is refused. Therefore every changed byte is found: in the second line by
//! the hash; in the first line by its form, or because the hash differs.

use std::fmt;
use std::io;
use std::ops::Deref;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Access, LONGEST_REASON, Record, State, millis, moment, sound};
use crate::redactor::printable;
use crate::secret::Secret;
use crate::token::TokenType;
use crate::vault::{LONGEST_RECORD, VaultError};

const VERSION: &[u8] = b"{\"tokenflight_vault\":";
const HASH: &[u8] = b"1,\"sha256\":\"";
const END: &[u8] = b"\"}\n";
const DIGITS: usize = 64;
const NAME: usize = 32;

/// A record as bytes, wiped when dropped. `Debug` hides them.
pub struct RecordBytes(Zeroizing<Vec<u8>>);

impl Deref for RecordBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RecordBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RecordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordBytes({} bytes)", self.0.len())
    }
}

impl Record {
    /// The stored form: JSON, with a version and a hash. It contains the tokens in clear.
    ///
    /// # Errors
    /// The result would be longer than [`LONGEST_RECORD`](crate::vault::LONGEST_RECORD).
    pub fn to_bytes(&self) -> Result<RecordBytes, VaultError> {
        let written = Written::from(self);
        let failed = |_| VaultError::damaged("the record cannot be written as JSON");
        // The length is measured first: a buffer that grows leaves its old memory behind unwiped.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &written).map_err(failed)?;
        let head = VERSION.len() + HASH.len() + DIGITS + END.len();
        let room = head + length.0 + 1;
        if room > LONGEST_RECORD {
            return Err(VaultError::damaged(format_args!(
                "a record of {room} bytes is not kept ({LONGEST_RECORD} is the most)"
            )));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        bytes.resize(head, 0);
        serde_json::to_writer(&mut *bytes, &written).map_err(failed)?;
        bytes.push(b'\n');
        let hash = hash_of(&bytes[head..]);
        let line = [VERSION, HASH, hash.as_bytes(), END].concat();
        bytes[..head].copy_from_slice(&line);
        Ok(RecordBytes(bytes))
    }

    /// Reads the bytes that [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// An unknown version; missing, changed or additional bytes; any other contents. No error quotes the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, VaultError> {
        if bytes.is_empty() {
            return Err(VaultError::damaged("it is empty"));
        }
        let foreign = || VaultError::damaged("it is no record of a vault, or its first line is damaged");
        let rest = bytes.strip_prefix(VERSION).ok_or_else(foreign)?;
        let Some(rest) = rest.strip_prefix(HASH) else {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let version = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse::<u32>().ok());
            return Err(match version.filter(|version| *version != 1) {
                Some(version) => VaultError::damaged(format_args!(
                    "it is a record of version {version}, and this program reads version 1 only"
                )),
                None => foreign(),
            });
        };
        let (hash, rest) = rest.split_at_checked(DIGITS).ok_or_else(foreign)?;
        let body = rest.strip_prefix(END).ok_or_else(foreign)?;
        if hash_of(body).as_bytes() != hash {
            return Err(VaultError::damaged(
                "the record is damaged: it was cut or changed after it was written (its hash differs)",
            ));
        }
        Self::from_json(body)
    }

    /// Only the second line.
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, VaultError> {
        let read: Read = serde_json::from_slice(body).map_err(|error| {
            // The parser's text may quote a field.
            VaultError::damaged(format_args!("the record is not understood, at column {}", error.column()))
        })?;
        read.into_record()
            .ok_or_else(|| VaultError::damaged("the record is not understood: a field is wrong"))
    }
}

fn hash_of(body: &[u8]) -> String {
    use fmt::Write;
    digest(&SHA256, body).as_ref().iter().fold(String::with_capacity(DIGITS), |mut text, byte| {
        // Writing into a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Counts the bytes that are written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Written<'a> {
    login: &'a str,
    generation: u64,
    write: &'a str,
    issuer: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbprint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<&'a str>,
    state: StateOf<&'a str>,
    refresh_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<AccessOf<&'a str, &'a [String]>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    login: String,
    generation: u64,
    write: String,
    issuer: String,
    client_id: String,
    thumbprint: Option<String>,
    private_key: Option<Secret>,
    state: StateOf<String>,
    refresh_token: Secret,
    access: Option<AccessOf<Secret, Vec<String>, String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StateOf<T> {
    Idle,
    Spending { since: u64, tries: u32 },
    Dead { reason: T, at: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessOf<S, L, T = S> {
    token: S,
    #[serde(rename = "type")]
    token_type: T,
    scopes: L,
    sent: u64,
    ends: u64,
}

impl<'a> From<&'a Record> for Written<'a> {
    fn from(record: &'a Record) -> Self {
        let state = match &record.state {
            State::Idle => StateOf::Idle,
            State::Spending { since, tries } => StateOf::Spending { since: millis(*since), tries: *tries },
            State::Dead { reason, at } => StateOf::Dead { reason: reason.as_str(), at: millis(*at) },
        };
        let access = record.access.as_ref().map(|access| AccessOf {
            token: access.secret(),
            token_type: access.token_type.as_str(),
            scopes: access.scopes.as_slice(),
            sent: millis(access.sent),
            ends: millis(access.ends),
        });
        Self {
            login: &record.login,
            generation: record.generation,
            write: &record.write,
            issuer: &record.issuer,
            client_id: &record.client_id,
            thumbprint: record.thumbprint.as_deref(),
            private_key: record.private_key(),
            state,
            refresh_token: record.refresh_token(),
            access,
        }
    }
}

impl Read {
    /// `None`: no record has such a field.
    fn into_record(self) -> Option<Record> {
        let is_name = |name: &str| {
            name.len() == NAME && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_name(&self.login) || !is_name(&self.write) || self.generation == 0 {
            return None;
        }
        let state = match self.state {
            StateOf::Idle => State::Idle,
            StateOf::Spending { since, tries } if tries > 0 => {
                State::Spending { since: moment(since)?, tries }
            }
            StateOf::Spending { .. } => return None,
            StateOf::Dead { reason, at } => {
                // A reason that was cut ends with three dots.
                let reason = printable(&reason, LONGEST_REASON + 3);
                State::Dead { reason, at: moment(at)? }
            }
        };
        let access = match self.access {
            Some(access) => Some(Access {
                secret: access.token,
                token_type: TokenType::parse(&access.token_type),
                scopes: access.scopes,
                sent: moment(access.sent)?,
                ends: moment(access.ends)?,
            }),
            None => None,
        };
        Some(Record {
            login: self.login,
            generation: self.generation,
            write: self.write,
            refresh_token: sound(self.refresh_token).ok()?,
            state,
            issuer: self.issuer,
            client_id: self.client_id,
            thumbprint: self.thumbprint,
            private_key: self.private_key,
            access,
        })
    }
}

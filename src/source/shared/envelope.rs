//! A token as bytes, for the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::duration::millis;
use crate::source::Challenge;
use crate::token::{Token, TokenType};

const VERSION: u8 = 3;
/// Version, fence, time of the fetch, end, life and requirement.
const HEAD: usize = 1 + 5 * 8;

/// A number for the requirement of an API with which a token was requested. Zero: there was none.
pub(super) fn requirement(challenge: Option<&Challenge>) -> u64 {
    let Some(challenge) = challenge else { return 0 };
    let hash = Sha256::digest(challenge.claims().as_bytes());
    hash.first_chunk::<8>().map_or(1, |bytes| u64::from_be_bytes(*bytes).max(1))
}

/// A token with its times. The store is not trusted with the times.
pub(super) struct Envelope {
    pub(super) token: Token,
    /// The fence of the lease under which it was fetched.
    pub(super) fence: u64,
    /// When it was requested, by the store's clock since 1970.
    pub(super) fetched: Duration,
    /// When it ends, by the wall clock of the process that fetched it.
    pub(super) end: SystemTime,
    /// Its whole lifetime.
    pub(super) life: Duration,
    /// The [`requirement`] with which it was requested.
    pub(super) requirement: u64,
}

impl Envelope {
    /// Version and fence, the times in milliseconds, then each piece after its length. The secret is last.
    pub(super) fn pack(&self) -> Zeroizing<Vec<u8>> {
        let token = &self.token;
        let pieces = || {
            let scopes = token.scopes().iter().map(String::as_str);
            std::iter::once(token.token_type().as_str()).chain(scopes).chain([token.secret()])
        };
        // The full capacity from the beginning: a vector that grows leaves copies of the secret behind.
        let room = HEAD + pieces().map(|piece| 4 + piece.len()).sum::<usize>();
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        bytes.push(VERSION);
        let end = self.end.duration_since(UNIX_EPOCH).unwrap_or_default();
        for number in [self.fence, millis(self.fetched), millis(end), millis(self.life), self.requirement] {
            bytes.extend(number.to_be_bytes());
        }
        for piece in pieces() {
            bytes.extend(u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(piece.as_bytes());
        }
        bytes
    }

    /// `None`: the bytes have another version, or are damaged.
    pub(super) fn unpack(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        let mut rest = rest;
        let mut number = || {
            let (number, more) = rest.split_first_chunk::<8>()?;
            rest = more;
            Some(u64::from_be_bytes(*number))
        };
        let (fence, fetched, end, life, requirement) =
            (number()?, number()?, number()?, number()?, number()?);
        let mut pieces = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let (piece, more) = more.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
            pieces.push(std::str::from_utf8(piece).ok()?);
            rest = more;
        }
        let [kind, scopes @ .., secret] = pieces.as_slice() else { return None };
        let token = Token::new(*secret).with_type(TokenType::parse(kind)).with_scopes(scopes.iter().copied());
        let time = Duration::from_millis;
        let end = UNIX_EPOCH.checked_add(time(end))?;
        let whole = rest.is_empty();
        whole.then(|| Self { token, fence, fetched: time(fetched), end, life: time(life), requirement })
    }
}

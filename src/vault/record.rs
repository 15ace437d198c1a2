//! A record in a vault: a refresh token, its state, and the access token that came with it.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::VaultError;
use crate::duration;
use crate::redactor::Redactor;
use crate::secret::Secret;
use crate::token::{Token, TokenType};

mod written;

pub use written::RecordBytes;

/// One generation of one login, and its state.
///
/// A record is a value. Each method makes the next record to be written, in the order that the [module](super)
/// describes. Each record has its own random name. Therefore two records are equal only if they come from the same
/// write. Two writes of the same contents by two processes differ.
///
/// ```
/// use std::time::SystemTime;
/// use tokenflight::vault::{Record, State};
///
/// let first = Record::first("r3fresh", "https://auth.example", "orders")?;
/// assert_eq!((first.generation(), first.state()), (1, &State::Idle));
///
/// let spending = first.spending(SystemTime::now())?; // to be written before the refresh token is sent
/// let next = spending.next(Some("n3xt"), None)?; // to be written before the new tokens are used
/// assert_eq!((next.generation(), next.refresh_token()), (2, "n3xt"));
/// assert_eq!(next.login(), first.login());
/// assert!(!format!("{next:?}").contains("n3xt"));
/// # Ok::<(), tokenflight::vault::VaultError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    login: String,
    generation: u64,
    /// A random name for the write of this record.
    write: String,
    refresh_token: Secret,
    state: State,
    issuer: String,
    client_id: String,
    thumbprint: Option<String>,
    private_key: Option<Secret>,
    access: Option<Access>,
}

/// The state of a refresh token. Times are cut to milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The refresh token has not been sent.
    Idle,
    /// The refresh token may have been sent.
    Spending {
        /// When the first try was recorded.
        since: SystemTime,
        /// How many tries were recorded: 1, unless it was tried again.
        tries: u32,
    },
    /// The server has refused it.
    Dead {
        /// One printable line.
        reason: String,
        /// The time of the refusal.
        at: SystemTime,
    },
}

impl Record {
    /// The first generation of a new login: idle, with a random name of the login.
    ///
    /// # Errors
    /// An empty refresh token; or the system has no random bytes.
    pub fn first(
        refresh_token: impl Into<String>,
        issuer: impl Into<String>,
        client_id: impl Into<String>,
    ) -> Result<Self, VaultError> {
        Ok(Self {
            login: random_name()?,
            generation: 1,
            write: random_name()?,
            refresh_token: sound(Secret::new(refresh_token))?,
            state: State::Idle,
            issuer: issuer.into(),
            client_id: client_id.into(),
            thumbprint: None,
            private_key: None,
            access: None,
        })
    }

    /// The thumbprint of the `DPoP` key with which the tokens were requested (RFC 9449 section 5). Default: none.
    pub fn with_thumbprint(mut self, thumbprint: impl Into<String>) -> Self {
        self.thumbprint = Some(thumbprint.into());
        self
    }

    /// The private key itself, in PEM, if the program has generated it and no file contains it. Default: none.
    ///
    /// A public client's refresh token cannot be used without its key. Therefore a restarted program needs both.
    pub fn with_private_key(mut self, pem: impl Into<String>) -> Self {
        self.private_key = Some(Secret::new(pem));
        self
    }

    /// Sets both: the key with which the record's tokens were requested.
    pub(crate) fn bound_to(mut self, thumbprint: Option<&str>, private_key: Option<&str>) -> Self {
        self.thumbprint = thumbprint.map(Into::into);
        self.private_key = private_key.map(Secret::new);
        self
    }

    /// The access token that came with the refresh token. Default: none.
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = Some(access);
        self
    }

    /// The refresh token is about to be sent. The record of a further try keeps the time of the first try, because
    /// a server's grace period begins then.
    ///
    /// # Errors
    /// The record is dead; it has the last possible generation, so that no answer could be kept; or the system has
    /// no random bytes.
    pub fn spending(&self, now: SystemTime) -> Result<Self, VaultError> {
        let state = match &self.state {
            State::Idle => State::Spending { since: whole_millis(now), tries: 1 },
            State::Spending { since, tries } => {
                State::Spending { since: *since, tries: tries.saturating_add(1) }
            }
            State::Dead { .. } => {
                return Err(VaultError::unavailable("the refresh token was refused: log in again"));
            }
        };
        self.next_generation()?;
        self.in_state(state)
    }

    /// It is about to be sent for the `tries`-th time. It was sent for the first time at `since`.
    pub(crate) fn spending_since(&self, since: SystemTime, tries: u32) -> Result<Self, VaultError> {
        self.next_generation()?;
        self.in_state(State::Spending { since: whole_millis(since), tries })
    }

    /// The random name for the write of this record.
    pub(crate) fn write(&self) -> &str {
        &self.write
    }

    /// The refresh token was provably not used. For a dead record: an operator has found out that the server
    /// refused it for another reason, such as a wrong client id.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn idle(&self) -> Result<Self, VaultError> {
        self.in_state(State::Idle)
    }

    /// The server has answered with new tokens: the next generation, idle. If the answer has no refresh token, the
    /// old one is kept (RFC 6749 section 6).
    ///
    /// # Errors
    /// An empty refresh token; the last possible generation; or the system has no random bytes.
    pub fn next(&self, refresh_token: Option<&str>, access: Option<Access>) -> Result<Self, VaultError> {
        let refresh_token = match refresh_token {
            Some(new) => sound(Secret::new(new))?,
            None => self.refresh_token.clone(),
        };
        let generation = self.next_generation()?;
        Ok(Self { generation, refresh_token, access, ..self.in_state(State::Idle)? })
    }

    /// The server has refused the refresh token. It stays in the record. The reason is cut to one printable line.
    /// It is left out if it contains a token of this record.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn dead(&self, reason: &str, now: SystemTime) -> Result<Self, VaultError> {
        let mut redactor = Redactor::default();
        let access = self.access.as_ref().map(Access::secret);
        for secret in access.into_iter().chain([self.refresh_token()]) {
            redactor.hide(Zeroizing::new(secret.to_owned()));
        }
        let reason = redactor.quoted(reason, LONGEST_REASON).unwrap_or_else(|| "[redacted]".to_owned());
        self.in_state(State::Dead { reason, at: whole_millis(now) })
    }

    fn next_generation(&self) -> Result<u64, VaultError> {
        let last = || VaultError::damaged("no generation can follow the one in the record: log in again");
        self.generation.checked_add(1).ok_or_else(last)
    }

    fn in_state(&self, state: State) -> Result<Self, VaultError> {
        Ok(Self { state, write: random_name()?, ..self.clone() })
    }

    /// The random name of the login. A new login has a new name, and begins with generation 1 again.
    pub fn login(&self) -> &str {
        &self.login
    }

    /// How many refresh tokens this login has had. An answer that kept the refresh token counts too.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The refresh token itself. The caller must protect it.
    pub fn refresh_token(&self) -> &str {
        self.refresh_token.expose()
    }

    /// The state of the refresh token.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The authorization server that issued the refresh token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The client to which it was issued.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The thumbprint of the `DPoP` key with which the tokens were requested. A public client's refresh token is
    /// bound to it (RFC 9449 section 5). The access token is bound to it in any case.
    pub fn thumbprint(&self) -> Option<&str> {
        self.thumbprint.as_deref()
    }

    /// The key that was passed to [`with_private_key`](Self::with_private_key). The caller must protect it.
    pub fn private_key(&self) -> Option<&str> {
        self.private_key.as_ref().map(Secret::expose)
    }

    /// The access token that came with the refresh token.
    pub fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }
}

/// An access token in a vault. With it, the next start of the program needs no rotation.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    secret: Secret,
    token_type: TokenType,
    scopes: Vec<String>,
    sent: SystemTime,
    ends: SystemTime,
}

impl Access {
    /// A bearer token. `sent`: when the request for it was sent. `ends`: its end, by the same wall clock. Both are cut to
    /// milliseconds.
    pub fn new(secret: impl Into<String>, sent: SystemTime, ends: SystemTime) -> Self {
        let (secret, token_type) = (Secret::new(secret), TokenType::Bearer);
        Self { secret, token_type, scopes: Vec::new(), sent: whole_millis(sent), ends: whole_millis(ends) }
    }

    /// Its type. Default: `Bearer`.
    pub fn with_type(mut self, token_type: TokenType) -> Self {
        // In the same form as after reading.
        self.token_type = match token_type {
            TokenType::Other(name) => TokenType::parse(&name),
            known => known,
        };
        self
    }

    /// The scopes that were granted. Default: none.
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// The access token itself. The caller must protect it.
    pub fn secret(&self) -> &str {
        self.secret.expose()
    }

    /// Its type.
    pub fn token_type(&self) -> &TokenType {
        &self.token_type
    }

    /// The scopes that were granted. Empty if the server did not state them.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// When the request for it was sent.
    pub fn sent(&self) -> SystemTime {
        self.sent
    }

    /// When it ends.
    pub fn ends(&self) -> SystemTime {
        self.ends
    }

    /// The token, with the rest of its life. `None`: it has ended, or the wall clock has been set back to a time
    /// before its request. Then the rest of its life is unknown.
    pub fn token(&self, now: SystemTime) -> Option<Token> {
        now.duration_since(self.sent).ok()?;
        let left = self.ends.duration_since(now).ok().filter(|left| !left.is_zero())?;
        let token = Token::new(self.secret()).with_type(self.token_type.clone());
        Some(token.with_scopes(self.scopes.iter().map(String::as_str)).with_lifetime(left))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The type may contain any text of a server.
        f.debug_struct("Access")
            .field("scopes", &self.scopes)
            .field("sent", &self.sent)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// In bytes, without the mark that it was cut.
const LONGEST_REASON: usize = 200;

fn sound(refresh_token: Secret) -> Result<Secret, VaultError> {
    if refresh_token.expose().is_empty() {
        return Err(VaultError::damaged("an empty refresh token is not kept"));
    }
    Ok(refresh_token)
}

/// 128 random bits in hex.
pub(super) fn random_name() -> Result<String, VaultError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| VaultError::unavailable("the system has no random bytes"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The last moment of a date with a four-digit year.
const LAST_MILLI: u64 = 253_402_300_799_999;

/// The written form of a moment: milliseconds since 1970.
fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    duration::millis(since).min(LAST_MILLI)
}

/// `None`: the moment is after [`LAST_MILLI`].
fn moment(millis: u64) -> Option<SystemTime> {
    let since = Duration::from_millis(millis);
    SystemTime::UNIX_EPOCH.checked_add(since).filter(|_| millis <= LAST_MILLI)
}

/// Cuts a time to milliseconds, so that writing and reading do not change it.
fn whole_millis(at: SystemTime) -> SystemTime {
    moment(millis(at)).unwrap_or(SystemTime::UNIX_EPOCH)
}

//! One exchange of a refresh token: it performs the machine's effects.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::bound::with_key;
use super::request::Request;
use super::{Exchange, Inner, NeedsLogin, Outcome, State};
use crate::clock::Timestamp;
use crate::error::SourceError;
use crate::oauth::dpop::DpopKey;
use crate::oauth::rotation::{self, Change, Effect, Event, Failure, Key, Rotation, Stored, View};
use crate::secret::Secret;
use crate::source::FetchContext;
use crate::token::Token;
use crate::vault::{self, Access, Record, RefreshTokenStore, Swap, VaultError};

/// How long to wait for the vault's lock.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// An access token in the vault with a shorter remaining life is not used.
const SHORTEST_LIFE: Duration = Duration::from_secs(5);
/// The lifetime of an access token if the server does not state it.
const MISSING_LIFETIME: Duration = Duration::from_secs(300);
/// The number of its own last writes that a process remembers.
const KNOWN_WRITES: usize = 8;

/// The state of one exchange.
pub(super) struct Run<'a, V> {
    pub(super) inner: &'a Inner<V>,
    pub(super) cx: &'a FetchContext,
    pub(super) course: &'a watch::Sender<Exchange>,
    state: &'a mut State,
    /// The record in the vault, as far as it is known.
    pub(super) stored: Option<vault::Stored>,
    /// The server's answer: the next refresh token, if it is a new one, and the access token, if it can be used.
    pub(super) refresh_token: Option<Secret>,
    pub(super) token: Option<Token>,
    /// The key with which the refresh token was sent.
    pub(super) key: Option<DpopKey>,
    pub(super) request: Option<Request<'a>>,
    /// The record of the last write that failed: the same write may be repeated.
    pending: Option<(Change, Record)>,
    pub(super) sent: Timestamp,
    pub(super) failure: Option<SourceError>,
}

impl<V: RefreshTokenStore> Inner<V> {
    pub(super) async fn exchange(&self, cx: &FetchContext, course: &watch::Sender<Exchange>) -> Outcome {
        let lock = self.vault.lock(LONGEST_WAIT).await;
        let _lock = lock.map_err(|error| SourceError::transient(error).within("the vault's lock"))?;
        // No other fetch is in here: a fetch that finds an exchange under way waits for it.
        let mut state = self.state.lock().await;
        let now = cx.clock().now();
        let run = Run {
            inner: self,
            cx,
            course,
            state: &mut state,
            stored: None,
            refresh_token: None,
            token: None,
            key: None,
            request: None,
            pending: None,
            sent: now,
            failure: None,
        };
        run.run().await
    }
}

impl<V: RefreshTokenStore> Run<'_, V> {
    async fn run(mut self) -> Outcome {
        self.inner.save(self.state).await?;
        let (mut rotation, mut effect) = Rotation::begin(self.inner.rules, self.state.memory);
        loop {
            let event = match effect {
                Effect::Load => self.load().await,
                Effect::Connect => self.open_connection().await,
                Effect::Write(change) => self.write(change).await,
                Effect::Send => Event::Answered(self.send().await),
                Effect::Wait(time) => {
                    tokio::time::sleep(time).await;
                    Event::Waited
                }
                Effect::Done(outcome) => return self.end(outcome),
            };
            effect = rotation.on(event, self.cx.clock().now());
            self.state.memory = rotation.memory();
        }
    }

    async fn load(&mut self) -> Event {
        match self.loaded().await {
            Ok(stored) => {
                self.stored = stored;
                let seen = Event::Loaded(self.view());
                self.checked(seen)
            }
            Err(error) => {
                let what = match self.failure.take() {
                    Some(earlier) => format!("{earlier}; then the vault"),
                    None => "nothing was sent: the vault".to_owned(),
                };
                self.failure = Some(vault_failed(error, &what));
                Event::NotLoaded
            }
        }
    }

    /// The record in the vault may belong to another client.
    fn checked(&mut self, seen: Event) -> Event {
        let unusable = self.stored.as_ref().and_then(|stored| {
            let record = stored.record();
            let other_key = || self.inner.key(record, &mut self.state.found).err();
            self.inner.foreign(record).or_else(other_key)
        });
        match unusable {
            Some(unusable) => {
                (self.stored, self.failure) = (None, Some(SourceError::terminal(unusable)));
                Event::NotLoaded
            }
            None => seen,
        }
    }

    /// With the first refresh token, if the vault is empty.
    async fn loaded(&mut self) -> Result<Option<vault::Stored>, VaultError> {
        let inner = self.inner;
        let there = inner.vault.load().await?;
        self.state.has_login |= there.is_some();
        let Some(first) = inner.first.as_ref().filter(|_| !self.state.has_login) else { return Ok(there) };
        let record = inner.first(first.expose())?;
        match inner.vault.swap(None, &record).await? {
            Swap::Done(stamp) => {
                self.state.has_login = true;
                Ok(Some(vault::Stored::new(record, stamp)))
            }
            Swap::Moved(there) => Ok(there),
        }
    }

    /// The key that the record's refresh token is sent with.
    pub(super) fn key(&mut self) -> Result<Option<DpopKey>, String> {
        let Some(stored) = &self.stored else { return Ok(None) };
        self.inner.key(stored.record(), &mut self.state.found)
    }

    fn view(&mut self) -> Option<View> {
        let has_news = self.has_news();
        let record = self.stored.as_ref()?.record();
        let state = match record.state() {
            vault::State::Idle => Stored::Idle,
            vault::State::Spending { since, tries } => {
                let is_own = self.state.writes.iter().any(|write| write == record.write());
                Stored::Spending { since: *since, tries: *tries, by: u64::from(!is_own) }
            }
            vault::State::Dead { .. } => Stored::Dead,
        };
        Some(View { key: key(record), state, has_news })
    }

    fn has_news(&mut self) -> bool {
        self.news().is_some()
    }

    /// The access token in the vault, if it does not end soon, and is not the one to be replaced.
    fn news(&mut self) -> Option<Token> {
        let key = self.key().ok()?;
        let record = self.stored.as_ref()?.record();
        let token = record.access()?.token(self.cx.clock().now().wall)?;
        let token = with_key(token, record, key.as_ref())?;
        let is_old = self.cx.previous.as_ref().is_some_and(|previous| previous.is_same(&token));
        let lasts = token.remaining().is_some_and(|left| left > SHORTEST_LIFE);
        (!is_old && lasts).then_some(token)
    }

    async fn open_connection(&mut self) -> Event {
        match self.connect().await {
            Ok(()) => Event::Connected,
            Err(error) => {
                self.failure = Some(error);
                Event::NotConnected
            }
        }
    }

    async fn write(&mut self, change: Change) -> Event {
        if !matches!(change, Change::Spending { .. }) {
            // A refresh token that waits at the gate is not sent any more.
            self.request = None;
        }
        match self.swap(change).await {
            Ok(true) => Event::Written,
            Ok(false) => {
                let seen = Event::Moved(self.view());
                self.checked(seen)
            }
            Err(error) => {
                let error = vault_failed(error, "the vault");
                self.failure.get_or_insert(error);
                Event::NotWritten
            }
        }
    }

    /// Whether the record is written. If not, another process has written.
    async fn swap(&mut self, change: Change) -> Result<bool, VaultError> {
        let record = match self.pending.take() {
            Some((pending, record)) if pending == change => record,
            _ => self.changed(change)?,
        };
        self.state.writes.insert(0, record.write().to_owned());
        self.state.writes.truncate(KNOWN_WRITES);
        let stamp = self.stored.as_ref().map(vault::Stored::stamp);
        match self.inner.vault.swap(stamp, &record).await {
            Ok(Swap::Done(stamp)) => {
                self.stored = Some(vault::Stored::new(record, stamp));
                Ok(true)
            }
            Ok(Swap::Moved(there)) => {
                if change == Change::Next {
                    // The new record is the same, whatever is there now.
                    self.pending = Some((change, record));
                }
                self.stored = there;
                Ok(false)
            }
            Err(error) => {
                self.pending = Some((change, record));
                Err(error)
            }
        }
    }

    fn changed(&self, change: Change) -> Result<Record, VaultError> {
        let now = self.cx.clock().now().wall;
        let record = self.stored.as_ref().map(vault::Stored::record);
        let record = record.ok_or_else(|| VaultError::unavailable("there is no record to change"))?;
        match change {
            Change::Spending { since, tries } | Change::NotRepeated { since, tries } => {
                record.spending_since(since, tries)
            }
            Change::Idle => record.idle(),
            Change::Next => {
                let access = self.token.as_ref().map(|token| self.access(token));
                let refresh_token = self.refresh_token.as_ref().map(Secret::expose);
                let next =
                    |access| Ok(self.inner.bound(record.next(refresh_token, access)?, self.key.as_ref()));
                let whole: Record = next(access)?;
                // An access token may be too long for a vault. The refresh token is kept in any case.
                if whole.to_bytes().is_ok() { Ok(whole) } else { next(None) }
            }
            Change::Dead => {
                let reason = self.failure.as_ref().map_or_else(
                    || "it may have been spent by a request whose answer was lost".to_owned(),
                    ToString::to_string,
                );
                record.dead(&reason, now)
            }
        }
    }

    fn access(&self, token: &Token) -> Access {
        let lifetime = token.remaining().unwrap_or(MISSING_LIFETIME);
        let sent = self.sent.wall;
        let ends = sent.checked_add(lifetime).unwrap_or(sent);
        let access = Access::new(token.secret(), sent, ends).with_type(token.token_type().clone());
        access.with_scopes(token.scopes().iter().cloned())
    }

    fn end(mut self, outcome: rotation::Outcome) -> Outcome {
        if !matches!(outcome, rotation::Outcome::Failed(_)) {
            self.state.observer.is_logged_in();
        }
        match outcome {
            rotation::Outcome::Adopted => self
                .news()
                .ok_or_else(|| SourceError::transient("the access token in the vault has ended meanwhile")),
            rotation::Outcome::Published => self.published(),
            rotation::Outcome::Unsaved => {
                // First the record is kept. Then the log is told. Therefore nothing that the log does loses it.
                self.state.unsaved = self.pending.take().map(|(_, record)| record);
                let failure = self.failure.as_ref().map(ToString::to_string).unwrap_or_default();
                self.state.observer.not_saved(&failure);
                self.published()
            }
            // The access token in the vault is still usable.
            rotation::Outcome::Failed(failure) if failure != Failure::NeedsLogin && self.has_news() => {
                self.end(rotation::Outcome::Adopted)
            }
            rotation::Outcome::Failed(failure) => Err(self.failed(failure)),
        }
    }

    fn published(mut self) -> Outcome {
        let failure = self.failure.take();
        let no_answer = || failure.unwrap_or_else(|| SourceError::transient("there was no answer"));
        let token = self.token.take().ok_or_else(no_answer)?;
        if token.remaining().is_none() {
            return Ok(token);
        }
        // A later fetch may get this token. Its life counts from this request, not from that fetch.
        let clock = Arc::clone(self.cx.clock());
        Ok(token.stamped(self.sent, &clock, MISSING_LIFETIME, Duration::MAX))
    }

    fn failed(self, failure: Failure) -> SourceError {
        let record = self.stored.as_ref().map(vault::Stored::record);
        let cause = self.failure;
        match failure {
            Failure::Vault | Failure::Unspent => {
                cause.unwrap_or_else(|| SourceError::transient("nothing was sent: the vault cannot be used"))
            }
            Failure::SlowVault => SourceError::transient(
                "a write to the vault took 5 s or longer, and the refresh token was not sent after it",
            ),
            Failure::Ambiguous => {
                let what = "it is not known whether the server has spent the refresh token";
                let error = match cause {
                    Some(cause) => cause.into_ambiguous().within(what),
                    None => SourceError::ambiguous(what),
                };
                if self.inner.rules.may_repeat() { error.repeatable() } else { error }
            }
            Failure::NeedsLogin => {
                let (reason, at) = match record.map(Record::state) {
                    Some(vault::State::Dead { reason, at }) => (reason.clone(), Some(*at)),
                    Some(_) => (cause.map(|cause| cause.to_string()).unwrap_or_default(), None),
                    None => ("there is no refresh token in the vault".to_owned(), None),
                };
                let needs = NeedsLogin { generation: record.map(Record::generation), reason, at };
                self.state.observer.needs_login(&needs);
                SourceError::terminal(needs)
            }
        }
    }
}

/// A login is identified by its name. A part of the name is enough.
fn key(record: &Record) -> Key {
    let login = record.login().bytes().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(byte));
    Key { login, generation: record.generation() }
}

pub(super) fn vault_failed(error: VaultError, what: &str) -> SourceError {
    SourceError::transient(error).within(what)
}

//! The events and effects of the machine, and the user's rules for it.

use std::time::{Duration, SystemTime};

/// The user's statements about the server, and about crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// How long after its use the server accepts a refresh token again.
    pub(crate) grace: Duration,
    pub(crate) after_crash: AfterCrash,
}

impl Rules {
    /// Whether a refresh token that may have been used is ever sent again.
    pub(crate) fn may_repeat(self) -> bool {
        !self.grace.is_zero() || self.after_crash == AfterCrash::TryOnce
    }
}

/// The treatment of a refresh token outside its grace period, if it is not known whether the server has used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AfterCrash {
    /// It is not sent again: the user must log in. A server that receives a used token revokes the whole family,
    /// and may raise an alarm.
    #[default]
    NeedsLogin,
    /// It is sent once more. If the server had used it, the login is lost in any case, and the server may raise an alarm.
    TryOnce,
}

/// One refresh token: its login, and its number. A new login may begin with any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) login: u64,
    pub(crate) generation: u64,
}

/// The record in the vault, as far as the machine needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) key: Key,
    pub(crate) state: Stored,
    /// Whether there is an access token that the caller does not have yet, and that does not end soon.
    pub(crate) has_news: bool,
}

/// The state of the refresh token in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stored {
    Idle,
    /// It may have been sent, `tries` times, for the first time at `since`, the last time by the process with this
    /// number.
    Spending {
        since: SystemTime,
        tries: u32,
        by: u64,
    },
    Dead,
}

/// The result of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Loaded(Option<View>),
    /// The vault has no usable record. Nothing was written.
    NotLoaded,
    /// The request waits for its body: the refresh token is not sent yet.
    Connected,
    /// The request cannot be built, or there is no connection.
    NotConnected,
    Written,
    /// Another process has written since the load, and nothing was changed. This is the present record.
    Moved(Option<View>),
    /// The vault cannot be written. It is not known whether the record was written.
    NotWritten,
    Answered(Answer),
    Waited,
}

/// The result of a request, for the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// A token, perhaps with a new refresh token.
    Token,
    /// Provably not used: not sent, or refused for another reason (429, 503, a code other than `invalid_grant`).
    Unspent,
    /// The server no longer accepts it.
    InvalidGrant,
    /// It was sent, and no answer came that gives its result.
    Ambiguous,
    /// The server accepted it, and the answer broke off: the new token is lost, unless the server repeats its answer.
    BrokenOff,
    /// The server accepted it, and the whole answer cannot be read: the new token is lost.
    Unreadable,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Load,
    /// Build the request, and open its connection.
    Connect,
    Write(Change),
    Send,
    Wait(Duration),
    Done(Outcome),
}

/// A change of the record in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// This process is about to send it, for the `tries`-th time. It was sent for the first time at `since`.
    Spending { since: SystemTime, tries: u32 },
    /// It was not sent again after all. Before, it was sent `tries` times, for the first time at `since`.
    NotRepeated { since: SystemTime, tries: u32 },
    /// It was not sent after all.
    Idle,
    /// The answer's tokens, of the next generation.
    Next,
    /// It will not be sent again.
    Dead,
}

/// The end of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// With the access token in the vault, which another process or an earlier one has fetched.
    Adopted,
    /// With the access token of the answer, whose refresh token is in the vault.
    Published,
    /// The same, but the vault could not be written: the refresh token is only in memory.
    Unsaved,
    Failed(Failure),
}

/// The reason why a fetch gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// The vault could not be read or written. Nothing was sent.
    Vault,
    /// The write before the request took too long. The refresh token was not sent after it.
    SlowVault,
    /// The server refused, or could not be reached. The refresh token is still usable.
    Unspent,
    /// It is not known whether the server has used the refresh token.
    Ambiguous,
    /// There is no refresh token that may be sent. A user must log in.
    NeedsLogin,
}

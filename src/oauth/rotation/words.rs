//! What the machine is told and says, and the rules that a user gives it.

use std::time::{Duration, SystemTime};

/// What a user says of the server, and of crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// For how long after its use the server accepts a refresh token again.
    pub(crate) grace: Duration,
    pub(crate) after_crash: AfterCrash,
}

impl Rules {
    /// Whether a refresh token that may have been spent is ever sent again.
    pub(crate) fn may_repeat(self) -> bool {
        !self.grace.is_zero() || self.after_crash == AfterCrash::TryOnce
    }
}

/// What is done with a refresh token outside its grace, if it is not known whether the server has spent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AfterCrash {
    /// It is not sent again: the user has to log in. A server that sees a spent token revokes the whole family, and may
    /// raise an alarm.
    #[default]
    NeedsLogin,
    /// It is sent once more. If the server had spent it, the login is lost in any case, and the server may raise an alarm.
    TryOnce,
}

/// One refresh token: the login that it belongs to, and its number. A new login may begin with any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) login: u64,
    pub(crate) generation: u64,
}

/// What stands in the vault, as far as the machine has to know it.
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
    /// It may have been sent, `tries` times, for the first time at `since`; the last time by the process of this number.
    Spending {
        since: SystemTime,
        tries: u32,
        by: u64,
    },
    Dead,
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Loaded(Option<View>),
    /// There is nothing to go on with. Nothing was written.
    NotLoaded,
    Written,
    /// Somebody else has written since the load; nothing was changed. This stands there now.
    Moved(Option<View>),
    /// The vault cannot be written. Whether it was is not known.
    NotWritten,
    Answered(Answer),
    Waited,
}

/// What became of a request, as far as the refresh token is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// A token; perhaps a new refresh token with it.
    Token,
    /// Provably not spent: not sent, or refused for another reason (429, 503, a code other than `invalid_grant`).
    Unspent,
    /// The server does not accept it any more.
    InvalidGrant,
    /// It was sent, and no answer came that says more.
    Ambiguous,
    /// The server accepted it, and the answer cannot be read: the new token is lost.
    Unreadable,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Load,
    Write(Change),
    Send,
    Wait(Duration),
    Done(Outcome),
}

/// A change of what stands in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// It is about to be sent by this process, for the `tries`-th time; for the first time at `since`.
    Spending { since: SystemTime, tries: u32 },
    /// It was not sent after all.
    Idle,
    /// The answer's tokens, of the next generation.
    Next,
    /// It will not be sent again.
    Dead,
}

/// How a fetch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// With the access token in the vault, which another process or an earlier one has fetched.
    Adopted,
    /// With the access token of the answer, whose refresh token is in the vault.
    Published,
    /// The same, but the vault could not be written: the refresh token is in memory alone.
    Unsaved,
    Failed(Failure),
}

/// Why a fetch brings no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// The vault could not be read or written. Nothing was sent.
    Vault,
    /// The server said no, or could not be reached. The refresh token is as good as before.
    Unspent,
    /// It is not known whether the server has spent the refresh token.
    Ambiguous,
    /// There is no refresh token that may be sent. Somebody has to log in.
    NeedsLogin,
}

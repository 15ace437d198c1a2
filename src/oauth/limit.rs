//! How long a new token may last, because of the token that was exchanged for it.

use std::time::{Duration, SystemTime};

use crate::jwt::Claims;
use crate::token::Token;

/// The end of the token that was sent, as its issuer states it: the `exp` of a JWT, or the lifetime that came with the
/// token, whichever is earlier. By default there is none.
#[derive(Default)]
pub(crate) struct Limit {
    exp: Option<SystemTime>,
    left: Option<Duration>,
}

impl Limit {
    /// The limit of a token that is about to be sent.
    pub(crate) fn of(token: &Token) -> Self {
        let exp = Claims::of(token.secret()).and_then(|claims| claims.moment("exp"));
        Self { exp, left: token.stated_remaining() }
    }

    /// The longest life of the new token. `sent` is the time of the request by the clock of the server that has got
    /// the token. An end before that time is ignored: the server has decided by its own clock.
    pub(super) fn since(&self, sent: SystemTime) -> Option<Duration> {
        let by_claim = self.exp.and_then(|exp| exp.duration_since(sent).ok());
        let left = by_claim.into_iter().chain(self.left);
        left.filter(|left| !left.is_zero()).min()
    }
}

//! The requirement of an API on the next token.

use std::fmt;
use std::sync::Arc;

/// The requirement on the next token of an API that answered 401, beside being another token.
///
/// A source gets it from [`FetchContext::challenge`](crate::FetchContext::challenge). The OAuth sources send its
/// claims as the parameter `claims` (`OpenID` Connect Core section 5.5; continuous access evaluation at Entra).
///
/// `Debug` hides the claims, because they may name a person.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Challenge(Arc<str>);

impl Challenge {
    /// Requires these claims: a JSON object, decoded from the challenge's base64.
    pub fn new(claims: impl Into<Arc<str>>) -> Self {
        Self(claims.into())
    }

    /// The claims, as JSON text.
    pub fn claims(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge")
    }
}

//! The meaning of the end of a call: for the auth server, for a client, or for one key.

use super::gate::Ending;
use crate::error::{BuildError, SourceError};
#[cfg(feature = "oauth2")]
use crate::oauth::OAuthError;
use crate::token::Token;

/// A refusal concerns its key, unless it names the client. If there is no answer that concerns a key, the auth
/// server has a problem.
pub(super) fn ending(result: &Result<Token, SourceError>) -> Ending {
    let Err(error) = result else { return Ending::Served };
    // The fault is in the program, and the auth server was not called.
    if error.is_panic() || error.cause::<BuildError>().is_some() {
        return Ending::Abandoned;
    }
    let retry_after = error.retry_after();
    #[cfg(feature = "oauth2")]
    if let Some(said) = error.cause::<OAuthError>() {
        return match (said.status.as_u16(), said.code.as_str()) {
            (429, _) => Ending::TooMany { error: error.clone(), retry_after },
            (_, "invalid_client") => Ending::ClientRefused(error.clone()),
            (500.., _) => Ending::EndpointFailed { error: error.clone(), retry_after },
            _ if error.is_terminal() => Ending::KeyOnly,
            _ => Ending::EndpointFailed { error: error.clone(), retry_after },
        };
    }
    if error.is_terminal() {
        return Ending::KeyOnly;
    }
    Ending::EndpointFailed { error: error.clone(), retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_key_that_cannot_work_say_nothing_of_the_auth_server() {
        let unbuilt = SourceError::terminal(BuildError::new("scope", "is empty"));
        assert!(matches!(ending(&Err(unbuilt)), Ending::Abandoned));
        assert!(matches!(ending(&Err(SourceError::terminal("access_denied"))), Ending::KeyOnly));
        assert!(matches!(ending(&Err(SourceError::transient("down"))), Ending::EndpointFailed { .. }));
        assert!(matches!(ending(&Ok(Token::new("a"))), Ending::Served));
    }
}

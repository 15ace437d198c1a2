//! The meaning of the end of a call: for the auth server, for a client, or for one key.

use super::gate::Ending;
use crate::error::{BuildError, SourceError};
#[cfg(feature = "oauth2")]
use crate::oauth::OAuthError;
use crate::token::Token;

/// An answer below 500 concerns its key, unless it names the client or says that the server has a problem. If there
/// is no answer, and another attempt may help, the auth server has a problem.
///
/// A code inside a 408, a 429 or a 5xx is ignored, because a proxy may have written it.
pub(super) fn ending(result: &Result<Token, SourceError>) -> Ending {
    let Err(error) = result else { return Ending::Served };
    // The fault is in the program, and the auth server was not called.
    if error.is_panic() || error.cause::<BuildError>().is_some() {
        return Ending::Abandoned;
    }
    let retry_after = error.retry_after();
    let (status, code) = said(error);
    match (status, code) {
        (Some(429), _) => Ending::TooMany { error: error.clone(), retry_after },
        (Some(408 | 500..), _) => Ending::EndpointFailed { error: error.clone(), retry_after },
        #[cfg(feature = "oauth2")]
        (_, "invalid_client") => Ending::ClientRefused(error.clone()),
        (_, "server_error" | "temporarily_unavailable") => {
            Ending::EndpointFailed { error: error.clone(), retry_after }
        }
        (Some(_), _) => Ending::KeyOnly,
        (None, _) if error.is_terminal() => Ending::KeyOnly,
        (None, _) => Ending::EndpointFailed { error: error.clone(), retry_after },
    }
}

/// The status of the answer that became this error, and the answer's code. A closure can give both in an
/// `OAuthError`.
#[cfg(feature = "oauth2")]
fn said(error: &SourceError) -> (Option<u16>, &str) {
    let said = error.cause::<OAuthError>();
    let status = error.status().or(said.map(|said| said.status.as_u16()));
    (status, said.map_or("", |said| said.code.as_str()))
}

#[cfg(all(feature = "http", not(feature = "oauth2")))]
fn said(error: &SourceError) -> (Option<u16>, &str) {
    (error.status(), "")
}

#[cfg(not(feature = "http"))]
fn said(_error: &SourceError) -> (Option<u16>, &str) {
    (None, "")
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

    /// The name of the ending of a call that failed with this error.
    #[cfg(feature = "http")]
    fn name(error: SourceError) -> &'static str {
        match ending(&Err(error)) {
            Ending::Served => "served",
            Ending::KeyOnly => "key",
            Ending::EndpointFailed { .. } => "failed",
            Ending::TooMany { .. } => "too many",
            Ending::ClientRefused(_) => "client",
            Ending::Abandoned => "abandoned",
        }
    }

    #[cfg(feature = "http")]
    #[test]
    fn an_answer_below_500_concerns_its_key_whatever_its_body_is() {
        for (status, expected) in [
            (200, "key"),
            (400, "key"),
            (401, "key"),
            (403, "key"),
            (408, "failed"),
            (425, "key"),
            (429, "too many"),
            (500, "failed"),
            (503, "failed"),
        ] {
            let status = http::StatusCode::from_u16(status).unwrap();
            let transient = SourceError::transient("an HTML page").answered(status);
            let terminal = SourceError::terminal("an HTML page").answered(status);
            // Another source, or a user's own, may have put its own words around the error.
            let within = SourceError::transient(std::io::Error::other(transient.clone()));
            for error in [transient.clone().within("a link"), within, transient, terminal] {
                assert_eq!(name(error), expected, "{status}");
            }
        }
    }

    #[cfg(feature = "oauth2")]
    #[test]
    fn a_code_inside_a_429_or_a_5xx_is_not_believed() {
        for (status, code, expected) in [
            (401, "invalid_client", "client"),
            (200, "invalid_client", "client"),
            (408, "invalid_client", "failed"),
            (429, "invalid_client", "too many"),
            (500, "invalid_client", "failed"),
            (503, "invalid_client", "failed"),
            (400, "invalid_grant", "key"),
            (400, "use_dpop_nonce", "key"),
            (503, "invalid_grant", "failed"),
            (400, "temporarily_unavailable", "failed"),
            (200, "server_error", "failed"),
        ] {
            let status = http::StatusCode::from_u16(status).unwrap();
            let said = || OAuthError::new(status, code);
            for error in [
                SourceError::transient(said()),
                SourceError::terminal(said()),
                SourceError::transient(said()).answered(status),
            ] {
                assert_eq!(name(error), expected, "{status} {code}");
            }
        }
    }
}

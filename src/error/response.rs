//! The response of an actix-web handler that has no token (feature `actix-web`).

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};

use super::{Kind, TokenError};

/// A handler may return the error as it is: `let token = tokens.get().await?;`.
///
/// | error | answer |
/// |---|---|
/// | [`is_rejected`](TokenError::is_rejected): the configuration is wrong, and another request does not help | 502 |
/// | everything else | 503, with `Retry-After` if it is known how long the source is not called |
///
/// The body is one sentence without the cause, because an error's text may name internal addresses. The text is for
/// the log.
impl ResponseError for TokenError {
    fn status_code(&self) -> StatusCode {
        match self.inner.kind {
            Kind::Rejected => StatusCode::BAD_GATEWAY,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut answer = HttpResponse::build(status);
        if let Some(left) = self.retry_after().filter(|_| status == StatusCode::SERVICE_UNAVAILABLE) {
            // Rounded up: a client that comes back a moment too early would get the same error.
            let seconds = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
            answer.insert_header((RETRY_AFTER, seconds.max(1).to_string()));
        }
        answer.body("no credentials for an upstream service\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::SourceError;

    #[test]
    fn an_answer_says_when_to_come_back_and_nothing_of_the_inside() {
        let down = SourceError::transient("https://auth.internal/token: connection refused");
        let down = TokenError::flight_failed(down, 3, Duration::from_millis(1_200));
        let far = SourceError::transient("down");
        let far = TokenError::flight_failed(far, 1, Duration::MAX);
        let refused = TokenError::flight_failed(SourceError::terminal("invalid_client"), 1, Duration::ZERO);
        for (error, status, retry_after) in [
            (down, 503, Some("2")),
            (far, 503, Some("18446744073709551615")),
            (refused, 502, None),
            (TokenError::stopped(), 503, None),
            (TokenError::overloaded(1), 503, None),
            (TokenError::wait_timed_out(), 503, None),
        ] {
            let answer = error.error_response();
            assert_eq!((answer.status(), error.status_code().as_u16()), (error.status_code(), status));
            let told = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            assert_eq!(told, retry_after, "{error}");
            let body = format!("{:?}", answer.body());
            assert!(!body.contains("internal") && !body.contains("invalid_client"), "{body}");
        }
    }
}

//! The request that uses a refresh token: the steps before it is sent, the sending, and the meaning of its answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::spend::Run;
use super::{Exchange, Inner};
use crate::error::{Reach, SourceError};
use crate::oauth::rotation::Answer;
use crate::oauth::{NextRefreshToken, OAuthError, Once, TokenResponse, claims};
use crate::panics::ContainedFor;
use crate::source::FetchContext;
use crate::transport::{Form, Gate, gate};
use crate::vault::RefreshTokenStore;

const GRANT: &str = "refresh_token";
/// How long the exchange waits for an answer, in the background.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(110);

/// A request whose connection is open, and whose refresh token waits at the gate.
pub(super) struct Request<'a> {
    gate: Gate,
    answer: ContainedFor<'a, Spent>,
}

type Spent = (NextRefreshToken, Result<TokenResponse, SourceError>);

impl<'a, V: RefreshTokenStore> Run<'a, V> {
    /// All steps before the refresh token is sent: the server's document, the proofs, the connection. A failure
    /// here happens before *spending* is written.
    pub(super) async fn connect(&mut self) -> Result<(), SourceError> {
        self.request = None;
        self.key = self.key().map_err(SourceError::terminal)?;
        let Some(stored) = &self.stored else { return Err(SourceError::transient("the vault is empty")) };
        let mut form = Form::default();
        form.secret("refresh_token", stored.record().refresh_token());
        form.extend(&self.inner.common);
        claims::ask(&mut form, self.cx.challenge());
        let (inner, cx, key): (&'a Inner<V>, &'a FetchContext, _) = (self.inner, self.cx, self.key.clone());
        let (mut gate, held) = gate();
        let mut answer: ContainedFor<'a, Spent> = ContainedFor::new(Box::pin(async move {
            let (client, expected) = (&inner.client, &inner.expected);
            client
                .spend(GRANT, &form, expected, key.as_ref(), cx, Once { limit: LONGEST_EXCHANGE, held })
                .await
        }));
        let failed = poll_fn(|task| match Pin::new(&mut answer).poll(task) {
            Poll::Ready(spent) => Poll::Ready(Some(spent.unwrap_or_else(panicked).1)),
            Poll::Pending => gate.poll_connected(task).map(|()| None),
        });
        match failed.await {
            None => {
                self.request = Some(Request { gate, answer });
                Ok(())
            }
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => {
                Err(SourceError::transient("the server answered before the refresh token was sent"))
            }
        }
    }

    pub(super) async fn send(&mut self) -> Answer {
        let Some(Request { gate, answer }) = self.request.take() else { return Answer::Unspent };
        self.sent = self.cx.clock().now();
        self.course.send_replace(Exchange::Sent);
        gate.open();
        let (next, outcome) = answer.await.unwrap_or_else(panicked);
        let is_known = !matches!(next, NextRefreshToken::Unknown);
        self.refresh_token = match next {
            NextRefreshToken::New(refresh_token) => Some(refresh_token),
            NextRefreshToken::Kept | NextRefreshToken::Unknown => None,
        };
        match outcome {
            Ok(response) => {
                self.token = Some(response.token);
                Answer::Token
            }
            Err(error) => {
                self.token = None;
                // The access token is unusable. The next refresh token is known, so the login goes on.
                let goes_on = is_known && error.reach() == Reach::Used;
                let answer = if goes_on { Answer::Token } else { judged(&error) };
                self.failure = Some(error);
                answer
            }
        }
    }
}

/// Foreign code panicked, such as a logger. It is not known how far the request came.
fn panicked() -> Spent {
    (
        NextRefreshToken::Unknown,
        Err(SourceError::transient("the request of the refresh token panicked").that(Reach::Lost)),
    )
}

/// RFC 9700 section 4.14: the meaning of an error for the refresh token.
fn judged(error: &SourceError) -> Answer {
    match error.reach() {
        Reach::Unused => Answer::Unspent,
        Reach::Lost => Answer::Ambiguous,
        Reach::UsedAndLost => Answer::BrokenOff,
        Reach::Used => Answer::Unreadable,
        Reach::Refused => match error.cause::<OAuthError>() {
            Some(error) if error.code == "invalid_grant" => Answer::InvalidGrant,
            _ => Answer::Unspent,
        },
    }
}

//! Sources on which other sources depend: the links of a chain.

use std::future::Future;
#[cfg(feature = "http")]
use std::sync::Arc;

use super::FetchContext;
#[cfg(feature = "http")]
use super::Reason;
use crate::error::SourceError;
use crate::token::Token;

impl FetchContext {
    /// The context for another source on which this one depends: the same clock and the same deadline, but its own
    /// flight. If a token was rejected, this says nothing about the tokens with which it was made.
    #[cfg(feature = "http")]
    pub(crate) fn for_link(&self) -> Self {
        let (clock, deadline) = (Arc::clone(&self.clock), self.deadline);
        let reason = match self.reason {
            Reason::Rejected | Reason::Forced => Reason::Expired,
            reason => reason,
        };
        Self { clock, deadline, attempt: self.attempt, given: self.given.clone(), ..Self::new(reason) }
    }

    /// The token of a link, or an error after 9/10 of the time that is left for the attempt. Then there is time for an
    /// error that names the link. The error begins with `whose`.
    pub(crate) async fn in_time(
        &self,
        whose: &str,
        token: impl Future<Output = Result<Token, SourceError>>,
    ) -> Result<Token, SourceError> {
        let Some(left) = self.time_left() else { return token.await };
        let limit = left.saturating_sub(left / 10);
        match tokio::time::timeout(limit, token).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SourceError::transient(format!("{whose} had no token within {limit:.1?}"))),
        }
    }
}

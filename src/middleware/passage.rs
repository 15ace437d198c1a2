//! The life of one request: its token, the steps taken for it, and the reaction to its answer. Every adaptor uses
//! this. The adaptor itself only builds and sends requests.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use super::replay::{Answer, Decision, Judgement, SoFar, Why, decide, pause};
use super::target::Target;
use super::{BearerAuth, meters};
use crate::challenge::StepUp;
use crate::error::TokenError;
use crate::evidence::{Evidence, Origin};
use crate::flight::Rejection;
use crate::source::Challenge;
use crate::token::{PresentError, ProofNonce, Token};

/// A token's age counts from its request, and its settling counts from its arrival. The call to the auth server
/// lies between the two. This is the maximum time that is allowed for the call.
const CALL: Duration = Duration::from_millis(1_500);

/// The next step.
pub(super) enum Next {
    /// The caller gets the answer.
    Pass,
    /// Drop the answer, [prepare](Passage::prepare) the request and send it again.
    Again,
    /// The caller gets this error instead of the answer.
    StepUp(StepUp),
}

#[derive(Debug)]
pub(super) struct Passage<T = Uri> {
    auth: BearerAuth,
    origin: Arc<Origin>,
    target: T,
    token: Token,
    /// Of the proof that was sent last.
    nonce: ProofNonce,
    /// The moment in which the request was sent last.
    sent: u64,
    so_far: SoFar,
}

impl<T: Target + Clone> Passage<T> {
    /// Gets a token for this request. `None`: the request gets no token. Its origin is not allowed, or the caller
    /// has set `Authorization` or another `Host`.
    ///
    /// # Errors
    /// There is no token. The request must not be sent.
    pub(super) async fn begin(
        auth: &BearerAuth,
        target: &T,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, TokenError> {
        if headers.contains_key(http::header::AUTHORIZATION) {
            return Ok(None);
        }
        let Some(origin) = auth.0.origins.find(target, headers) else { return Ok(None) };
        let token = auth.0.tokens.get().await?;
        let (auth, origin, target) = (auth.clone(), Arc::clone(origin), target.clone());
        let (nonce, so_far) = (ProofNonce::default(), SoFar::default());
        Ok(Some(Self { auth, origin, target, token, nonce, sent: 0, so_far }))
    }

    /// Puts the token on the request, which must be sent at once.
    ///
    /// # Errors
    /// The token cannot be put on the request. The request must not be sent.
    pub(super) fn prepare(&mut self, method: &Method, headers: &mut HeaderMap) -> Result<(), PresentError> {
        self.sent = self.evidence().moment();
        self.nonce = self.token.apply_noting(method, &self.uri(), headers)?;
        Ok(())
    }

    /// Only a proof of possession uses it. A path is completed by its origin.
    fn uri(&self) -> Cow<'_, Uri> {
        if !self.token.is_bound() {
            return Cow::Owned(Uri::default());
        }
        let uri = self.target.uri();
        if uri.authority().is_some() {
            return uri;
        }
        // `OPTIONS *` is about the whole server (RFC 9112, section 3.3).
        let path = if uri.path() == "*" { "/" } else { uri.path() };
        Cow::Owned(Uri::try_from(format!("{}{path}", self.origin.name)).unwrap_or_default())
    }

    #[cfg(feature = "http")]
    pub(super) fn target(&self) -> &T {
        &self.target
    }

    #[cfg(any(feature = "http", feature = "awc"))]
    pub(super) fn is_bound(&self) -> bool {
        self.token.is_bound()
    }

    /// Records the statement of the answer, and performs its consequences: a report, a wait. `may_repeat`: the body
    /// can be sent again, and the caller allows it.
    pub(super) async fn answered(&mut self, answer: &Answer<'_>, may_repeat: bool) -> Next {
        let learned = self.token.learn_after(&self.uri(), answer.headers, &self.nonce);
        let judgement = Judgement::of(answer, self.token.token_type().as_str());
        if judgement == Judgement::Nothing {
            return Next::Pass;
        }
        if judgement == Judgement::Accepted {
            self.evidence().accepted(&self.origin, &self.token, self.sent);
            return Next::Pass;
        }
        self.not_accepted(judgement, may_repeat, learned).await
    }

    /// Whether the request may be sent again after this answer, if its body can be.
    #[cfg(feature = "tower")]
    pub(super) fn may_repeat_after(&self, answer: &Answer<'_>) -> bool {
        match Judgement::of(answer, self.token.token_type().as_str()) {
            Judgement::Rejected(_) | Judgement::Claims(_) => !self.so_far.was_replayed,
            Judgement::WantsNonce => !self.so_far.was_proved,
            Judgement::Accepted | Judgement::Nothing | Judgement::StepUp(_) => false,
        }
    }

    /// Called when a message has arrived.
    #[cfg(feature = "tower")]
    pub(super) fn was_accepted(&self) {
        self.evidence().accepted(&self.origin, &self.token, self.sent);
    }

    /// Called when a stream has ended with a rejection after its messages. It is then too late to send the request
    /// again. A request that was sent again has cost its one refresh.
    #[cfg(feature = "tower")]
    pub(super) fn was_rejected_late(&self) {
        let confirmed = self.evidence().rejected(&self.origin, &self.token, self.sent);
        if !self.so_far.was_replayed {
            self.report(Why::Unauthenticated, confirmed, None);
        }
    }

    async fn not_accepted(&mut self, judgement: Judgement, may_repeat: bool, learned: bool) -> Next {
        self.so_far.may_repeat = may_repeat && !self.auth.1;
        let evidence = self.evidence();
        let is_noisy = evidence.is_noisy(&self.origin);
        let is_rejection = matches!(judgement, Judgement::Rejected(_));
        let confirmed = is_rejection && evidence.rejected(&self.origin, &self.token, self.sent);
        match decide(judgement, self.so_far, is_noisy, learned) {
            Decision::Pass => Next::Pass,
            Decision::StepUp(step_up) => Next::StepUp(step_up),
            Decision::PassButReport(why) => {
                self.report(why, confirmed, None);
                Next::Pass
            }
            Decision::SameTokenAgain => {
                self.so_far.was_repeated = true;
                self.repeat("noisy").await
            }
            Decision::NewProof => {
                self.so_far.was_proved = true;
                self.repeat("nonce").await
            }
            Decision::Claims { claims, replay: false } => {
                self.report(Why::Claims, false, Some(claims));
                Next::Pass
            }
            Decision::Claims { claims, replay: true } => self.replay(Why::Claims, false, Some(claims)).await,
            Decision::ReportAndReplay(why) => self.replay(why, confirmed, None).await,
        }
    }

    /// Reports the token without waiting for the outcome.
    fn report(&self, why: Why, confirmed: bool, claims: Option<String>) {
        self.note_report(why, confirmed);
        self.auth.0.tokens.report(&self.token, rejection(confirmed, claims));
    }

    /// Reports the token, and waits for the token of the second sending.
    async fn replay(&mut self, why: Why, confirmed: bool, claims: Option<String>) -> Next {
        self.note_report(why, confirmed);
        let was_young = self.token.age() < self.settle(&self.token).saturating_add(CALL);
        let next = match self.auth.0.tokens.rejected(&self.token, rejection(confirmed, claims)).await {
            Ok(next) => next,
            Err(error) => {
                log::debug!(
                    "{}: the 401 of {} is passed on: {error}",
                    self.evidence().shown,
                    self.origin.name
                );
                return Next::Pass;
            }
        };
        let is_same = next.is_same(&self.token);
        let (age, settle) = (next.age(), self.settle(&next));
        // An API knows a secret that has settled, also if the source has just given it again.
        let must_settle = is_same && (was_young || confirmed);
        let pause = pause(must_settle, age, settle);
        self.token = next;
        let may_settle_yet = confirmed && is_same && age < settle.saturating_add(CALL);
        if !pause.is_zero() || may_settle_yet {
            tokio::time::sleep(pause).await;
            match self.settled().await {
                Ok(current) => self.token = current,
                Err(_) => return Next::Pass,
            }
        }
        self.so_far.was_replayed = true;
        self.again(why.as_str())
    }

    /// The token for the second sending, after it has settled. It may have been replaced or discarded meanwhile. If
    /// it was revoked, no earlier report could replace it, so it is reported again.
    async fn settled(&self) -> Result<Token, TokenError> {
        let tokens = &self.auth.0.tokens;
        let mut current = tokens.get().await?;
        for more in [Duration::ZERO, CALL / 3, CALL * 2 / 3] {
            if !current.is_same(&self.token) || !self.evidence().is_confirmed(&current) {
                break;
            }
            tokio::time::sleep(more).await;
            let age = current.age();
            current = tokens.rejected(&current, rejection(true, None)).await?;
            if current.age() < age {
                // Another token, or the source has no other.
                break;
            }
        }
        Ok(current)
    }

    /// Sends the request again with the same token. A token that was discarded meanwhile is not sent again.
    async fn repeat(&mut self, why: &'static str) -> Next {
        let tokens = &self.auth.0.tokens;
        if tokens.is_discarded(&self.token) {
            let Ok(token) = tokens.get().await else { return Next::Pass };
            self.token = token;
        }
        self.again(why)
    }

    fn again(&self, why: &'static str) -> Next {
        log::debug!("{}: a request to {} is sent again: {why}", self.evidence().shown, self.origin.name);
        meters::replayed(&self.evidence().name, &self.origin.name, why);
        Next::Again
    }

    fn note_report(&self, why: Why, confirmed: bool) {
        let confirmed = if confirmed { ", confirmed by other requests" } else { "" };
        let (evidence, origin) = (self.evidence(), &self.origin.name);
        let shown = &evidence.shown;
        log::debug!("{shown}: {origin} rejected the token: {}{confirmed}", why.as_str());
        meters::reported(&evidence.name, origin, why.as_str());
    }

    fn settle(&self, token: &Token) -> Duration {
        self.evidence().settle.settle_for(token.whole_life())
    }

    fn evidence(&self) -> &Evidence {
        self.auth.0.tokens.evidence()
    }
}

fn rejection(is_confirmed: bool, claims: Option<String>) -> Rejection {
    Rejection { is_confirmed, challenge: claims.map(Challenge::new), ..Rejection::default() }
}

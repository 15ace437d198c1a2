//! The rules for an answer: its meaning for the request and for the token. Without I/O and without a clock.
//!
//! `tests/scenarios/replay.json` has the rules as a table. The tests apply it to this file and to every adaptor.
//!
//! The method does not matter: a 401 says that the request was not applied (RFC 9110 section 15.5.2). Therefore any
//! request may be sent again, once.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::challenge::{StepUp, Verdict};

/// The parts of an answer that matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) grpc: Grpc,
    /// The answer comes from another URL than the requested one. Then no new token can help.
    pub(super) is_redirected: bool,
}

/// The status in a gRPC answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tower"), allow(dead_code))]
pub(super) enum Grpc {
    /// It is not gRPC.
    No,
    /// Neither a message nor the end has arrived.
    Open,
    /// The status came before any message.
    Status(Code),
    /// A message has arrived, so the token was accepted.
    Message,
}

/// The statuses of gRPC that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tower"), allow(dead_code))]
pub(super) enum Code {
    Ok,
    /// 16.
    Unauthenticated,
    Other,
}

impl Code {
    /// The value of `grpc-status`.
    #[cfg(any(test, feature = "tower"))]
    pub(super) fn parse(value: &[u8]) -> Self {
        match value {
            b"0" => Self::Ok,
            b"16" => Self::Unauthenticated,
            _ => Self::Other,
        }
    }
}

/// The statement of an answer about the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It was accepted.
    Accepted,
    /// Nothing.
    Nothing,
    Rejected(Why),
    WantsNonce,
    StepUp(StepUp),
    Claims(String),
}

/// The form of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    InvalidToken,
    /// A 401 without an error code.
    Unsaid,
    /// gRPC status 16.
    Unauthenticated,
    Claims,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidToken => "invalid_token",
            Self::Unsaid => "unsaid",
            Self::Unauthenticated => "unauthenticated",
            Self::Claims => "insufficient_claims",
        }
    }
}

impl Judgement {
    /// The judgement on an answer to a token of this scheme.
    pub(super) fn of(answer: &Answer<'_>, scheme: &str) -> Self {
        if answer.is_redirected {
            return Self::Nothing;
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            return match Verdict::of(answer.headers, scheme) {
                Verdict::InvalidToken => Self::Rejected(Why::InvalidToken),
                Verdict::Unsaid => Self::Rejected(Why::Unsaid),
                Verdict::WantsNonce => Self::WantsNonce,
                Verdict::StepUp(step_up) => Self::StepUp(step_up),
                Verdict::Claims(claims) => Self::Claims(claims),
                Verdict::NotOurs => Self::Nothing,
            };
        }
        match answer.grpc {
            Grpc::Status(Code::Unauthenticated) => Self::Rejected(Why::Unauthenticated),
            Grpc::Open | Grpc::Status(Code::Other) => Self::Nothing,
            _ if answer.status.is_success() => Self::Accepted,
            _ => Self::Nothing,
        }
    }
}

/// The steps already taken for this request, and the possible ones.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a step that is taken once
pub(super) struct SoFar {
    /// The body can be sent again, and the caller allows it.
    pub(super) may_repeat: bool,
    /// The token was reported, and the request was sent again with the resulting token.
    pub(super) was_replayed: bool,
    /// The request was sent again with the same token, to a noisy origin.
    pub(super) was_repeated: bool,
    /// The request was sent again with a new proof.
    pub(super) was_proved: bool,
}

/// The decision about an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The caller gets the answer.
    Pass,
    /// The caller gets the answer, and the token is reported.
    PassButReport(Why),
    /// The token is reported. The request is sent again with the resulting token.
    ReportAndReplay(Why),
    /// The request is sent again with the same token, which is not reported.
    SameTokenAgain,
    /// The request is sent again with a new proof of the same token.
    NewProof,
    /// A token with these claims is requested. The request is sent again with it, or the caller gets the answer.
    Claims { claims: String, replay: bool },
    /// The caller gets the requirement of the API.
    StepUp(StepUp),
}

/// `noisy`: the origin has accepted a token after rejecting it. `learned`: the next proof has a nonce that this
/// proof did not have.
pub(super) fn decide(judgement: Judgement, so_far: SoFar, noisy: bool, learned: bool) -> Decision {
    match judgement {
        Judgement::StepUp(step_up) => Decision::StepUp(step_up),
        Judgement::WantsNonce if learned && so_far.may_repeat && !so_far.was_proved => Decision::NewProof,
        Judgement::Accepted | Judgement::Nothing | Judgement::WantsNonce => Decision::Pass,
        // Once: the caller gets the answer to a second sending, and it costs no further refresh.
        Judgement::Rejected(_) | Judgement::Claims(_) if so_far.was_replayed => Decision::Pass,
        Judgement::Claims(claims) => Decision::Claims { claims, replay: so_far.may_repeat },
        Judgement::Rejected(why) if !so_far.may_repeat => Decision::PassButReport(why),
        Judgement::Rejected(Why::Unsaid) if noisy && !so_far.was_repeated => Decision::SameTokenAgain,
        Judgement::Rejected(why) => Decision::ReportAndReplay(why),
    }
}

/// The longest wait for a token to settle, for any setting.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long to wait before a request is sent again. `must_settle`: the report has returned the same token, and an API
/// may not know this token yet, as long as it is younger than `settle`.
pub(super) fn pause(must_settle: bool, age: Duration, settle: Duration) -> Duration {
    if must_settle { settle.saturating_sub(age).min(LONGEST_WAIT) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests;

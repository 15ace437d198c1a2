//! What an answer means for the request and for the token: the rules, without I/O and without a clock.
//!
//! `tests/scenarios/replay.json` has them as a table, which is played through this file and through every adaptor.
//!
//! The method does not count: a 401 says that the request was not applied (RFC 9110 section 15.5.2), so any may be sent
//! again, once.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::challenge::{StepUp, Verdict};

/// What has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    pub(super) grpc: Grpc,
    /// It comes from another URL than the one that was asked: what stands there is not for this token to mend.
    pub(super) is_redirected: bool,
}

impl Answer<'_> {
    /// Whether it may be worth sending the request again.
    #[cfg(feature = "tower")]
    pub(super) fn may_be_rejection(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED || self.grpc == Grpc::Status(Code::Unauthenticated)
    }
}

/// What a gRPC answer says with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tower"), allow(dead_code))]
pub(super) enum Grpc {
    /// It is no gRPC.
    No,
    /// Neither a message nor the end has come.
    Open,
    /// Its status, before any message has come.
    Status(Code),
    /// A message has come, so the token was accepted.
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

/// What an answer says of the token.
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

/// How a rejection was said.
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
    /// Of an answer to a token of this scheme.
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

/// What has been done for this request so far, and what can be.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a step that is taken once
pub(super) struct SoFar {
    /// The body can be sent again, and the caller lets us.
    pub(super) may_repeat: bool,
    /// The token was reported, and the request sent again with what that gave.
    pub(super) was_replayed: bool,
    /// It was sent again with the same token, to a noisy origin.
    pub(super) was_repeated: bool,
    /// It was sent again with a new proof.
    pub(super) was_proved: bool,
}

/// What to do with the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is the caller's.
    Pass,
    /// It is the caller's; and the token is reported.
    PassButReport(Why),
    /// The token is reported; the request is sent again with what that gives.
    ReportAndReplay(Why),
    /// The request is sent again with the same token, which is not reported.
    SameTokenAgain,
    /// The request is sent again with a new proof of the same token.
    NewProof,
    /// A token with these claims is asked for; the request is sent again with it, or the answer is the caller's.
    Claims { claims: String, replay: bool },
    /// The caller is told what the API wants.
    StepUp(StepUp),
}

/// `noisy`: the origin has accepted what it had rejected. `learned`: the next proof has a nonce that this one had not.
pub(super) fn decide(judgement: Judgement, so_far: SoFar, noisy: bool, learned: bool) -> Decision {
    match judgement {
        Judgement::StepUp(step_up) => Decision::StepUp(step_up),
        Judgement::WantsNonce if learned && so_far.may_repeat && !so_far.was_proved => Decision::NewProof,
        Judgement::Accepted | Judgement::Nothing | Judgement::WantsNonce => Decision::Pass,
        // Once: what comes after a replay is the caller's, and costs no further refresh.
        Judgement::Rejected(_) | Judgement::Claims(_) if so_far.was_replayed => Decision::Pass,
        Judgement::Claims(claims) => Decision::Claims { claims, replay: so_far.may_repeat },
        Judgement::Rejected(why) if !so_far.may_repeat => Decision::PassButReport(why),
        Judgement::Rejected(Why::Unsaid) if noisy && !so_far.was_repeated => Decision::SameTokenAgain,
        Judgement::Rejected(why) => Decision::ReportAndReplay(why),
    }
}

/// No wait for a token to settle is longer, whatever the setting.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long to wait before a request is sent again. `same`: the report has given the same token. One that is younger
/// than `settle` may be unknown to the API still.
pub(super) fn pause(same: bool, age: Duration, settle: Duration) -> Duration {
    if same { settle.saturating_sub(age).min(LONGEST_WAIT) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests;

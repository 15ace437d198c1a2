//! HTTP clients with a token. A middleware puts the token on a request. After a rejection it requests the next
//! token and sends the request again, once.
//!
//! A [`BearerAuth`] holds a [`TokenHandle`](crate::TokenHandle) and the origins that may get its tokens. One
//! `BearerAuth` serves every client: reqwest (`middleware::reqwest`), reqwest-middleware, tower with hyper and
//! tonic (`middleware::tower`), awc (`middleware::awc`).
//!
//! # Which requests get the token
//!
//! - A request to an allowed origin gets the token. If there is no token, the request is **not sent**, and the
//!   [`TokenError`] gives the reason.
//! - A request to any other origin is sent unchanged, without a token, and its answer is not examined. The same is
//!   true for a request on which the caller has set `Authorization`, for a `Host` that names no allowed origin, and
//!   for a URL with a user.
//!
//! # What an answer means
//!
//! | answer | action |
//! |---|---|
//! | 401 with `invalid_token`, gRPC status 16 | the token is [reported](crate::TokenHandle::replace), and the request is sent again, once |
//! | 401 without an error code | the same; but if this API has lately accepted a token after rejecting it, first once with the same token |
//! | one of these to a token that the API may not know yet | the request is sent again with the token before it, or with the same token when it has settled (after 30 s at the latest) |
//! | 401 with `use_dpop_nonce` | sent again with a new proof, once |
//! | 401 with `claims` (Microsoft Entra: `insufficient_claims`, or `invalid_token` after a revocation) | a token with these claims is requested, and the request is sent again, once |
//! | 401 with `insufficient_user_authentication` (RFC 9470) | the error [`StepUp`] |
//! | any other answer; with reqwest and awc, a 401 after a redirect | the caller gets the answer |
//!
//! Any method is sent again, because a 401 says that the request was not applied (RFC 9110 section 15.5.2). A body
//! is sent again only if that needs no copy of a large body. Otherwise the caller gets the 401, and the token is
//! still reported. [`NoReplay`] turns the second sending off for a request, [`BearerAuth::without_replay`] for
//! many.
//!
//! Successes count too. `docs/reports.md` in the repository says how they prevent that one broken API costs
//! refreshes, and how a real revocation is followed at once.

mod meters;
mod origins;
mod passage;
mod replay;
mod settings;
mod target;
mod tokens;

#[cfg(feature = "awc")]
pub mod awc;
#[cfg(feature = "http")]
pub mod reqwest;
#[cfg(feature = "tower")]
pub mod tower;

use std::fmt;
use std::sync::Arc;

pub use crate::challenge::StepUp;
use crate::error::TokenError;
use crate::token::PresentError;

use origins::Origins;
pub use settings::{BearerAuthBuilder, BearerAuthSettings};
pub use tokens::Tokens;

/// Puts an actor's token on requests to the allowed origins, and sends a request again after a 401.
///
/// ```
/// use tokenflight::middleware::BearerAuth;
/// # use tokenflight::{Token, TokenActor, source_fn};
///
/// # actix_rt::System::new().block_on(async {
/// # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
/// let api = BearerAuth::builder(&tokens).allow("https://api.example.com").build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// A clone costs one reference count.
#[derive(Clone)]
pub struct BearerAuth(Arc<Inner>, bool);

struct Inner {
    tokens: Tokens,
    origins: Origins,
    #[cfg_attr(not(feature = "tower"), allow(dead_code))]
    kept_body: usize,
}

impl BearerAuth {
    /// Begins with the tokens of a [`TokenHandle`](crate::TokenHandle), or of a `registry::KeyHandle`. The builder
    /// has the allowed origins. [`BearerAuthSettings`] reads them from a file.
    pub fn builder(tokens: impl Into<Tokens>) -> BearerAuthBuilder {
        BearerAuthSettings::default().builder(tokens)
    }

    fn new(tokens: Tokens, origins: Origins, kept_body: usize) -> Self {
        Self(Arc::new(Inner { tokens, origins, kept_body }), false)
    }

    /// The same, but no request is sent again. A rejection is still reported.
    pub fn without_replay(&self) -> Self {
        Self(Arc::clone(&self.0), true)
    }

    /// The tokens that it carries.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }
}

impl fmt::Debug for BearerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerAuth")
            .field("origins", &self.0.origins)
            .field("replays", &!self.1)
            .finish_non_exhaustive()
    }
}

/// An extension of a request: the request is not sent again after a 401. The token is still reported.
///
/// For `http::Request` (tower) and for reqwest-middleware (`with_extension`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoReplay;

/// The reason why a request has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError<E> {
    /// There is no token. The request was not sent.
    Token(TokenError),
    /// The token cannot be put on a request. It was not sent.
    Present(PresentError),
    /// The API requires a new authentication of the user.
    StepUp(StepUp),
    /// The client followed a redirect with a token that is bound to a key (`DPoP`). A proof is valid for one URL.
    /// Therefore turn the client's redirects off.
    Redirected,
    /// The client's own error.
    Client(E),
}

impl<E: fmt::Display> fmt::Display for SendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => write!(f, "no token for the request: {error}"),
            Self::Present(error) => write!(f, "the token cannot be sent: {error}"),
            Self::StepUp(step_up) => step_up.fmt(f),
            Self::Redirected => f.write_str(
                "the client followed a redirect with a token that is bound to a key: turn its redirects off",
            ),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for SendError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The text is the client's own, so its source follows.
            Self::Client(error) => error.source(),
            _ => None,
        }
    }
}

impl<E> From<TokenError> for SendError<E> {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl<E> From<PresentError> for SendError<E> {
    fn from(error: PresentError) -> Self {
        Self::Present(error)
    }
}

/// The response of an actix-web handler: as for [`TokenError`], otherwise 502.
#[cfg(feature = "actix-web")]
impl<E: fmt::Debug + fmt::Display> actix_web::ResponseError for SendError<E> {
    fn status_code(&self) -> actix_web::http::StatusCode {
        match self {
            Self::Token(error) => error.status_code(),
            _ => actix_web::http::StatusCode::BAD_GATEWAY,
        }
    }

    fn error_response(&self) -> actix_web::HttpResponse {
        match self {
            Self::Token(error) => error.error_response(),
            _ => actix_web::HttpResponse::BadGateway().body("a request to an upstream service failed\n"),
        }
    }
}

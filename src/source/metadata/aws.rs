//! AWS: a JWT for the identity of an instance, a container or a pod.

mod builder;
mod environment;
mod keys;
pub(crate) mod sign;
mod sts;
pub(crate) mod xml;

use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::jwt::Claims;
use crate::source::{FetchContext, Reason, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::{Answer, Form, Transport, moment};
use keys::{Keys, Origin, RENEWED};
use sts::{Refused, Sts};
use xml::element;

pub use builder::AwsWebIdentityBuilder;

/// The shortest life of a token that the service gives.
const SHORTEST: Duration = Duration::from_secs(60);
/// The keys must last this much longer than a token. Otherwise they are renewed.
const SPARE: Duration = Duration::from_secs(60);
/// A token that would last as long as its keys is requested with a lifetime that is shorter by this: two clocks
/// differ, and a request takes time.
const CUT: Duration = Duration::from_secs(30);

/// JWTs for the identity that a program has from AWS. An API outside of AWS accepts them by `OpenID` Connect, or an
/// authorization server exchanges them. See [`Metadata::aws_web_identity`](super::Metadata::aws_web_identity).
///
/// AWS' keys sign requests, and are not tokens. The source fetches the keys of the instance, the container or the
/// role. With these keys it signs a request for a token to the token service of the region (`GetWebIdentityToken`).
/// Keys are replaced from 5 min before their end. A token cannot outlive its signing keys. Therefore keys that end
/// earlier than a token of the requested lifetime are replaced too. If there are no keys that last longer, or the
/// origin of the keys does not answer, a token with a shorter lifetime is requested, of 60 s at least. The account must have outbound identity federation turned on, and the role
/// needs the permission `sts:GetWebIdentityToken`.
///
/// # The origin of the keys
///
/// The first of these that is set. A setting has priority over the environment:
///
/// | where the program runs | setting | environment |
/// |---|---|---|
/// | EKS, with a role for its service account | `role_arn`, `web_identity_token_file` | `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE` |
/// | ECS, EKS Pod Identity | `container_url`, `container_token_file` | `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, `_FULL_URI`, `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, `_TOKEN` |
/// | EC2 | `imds_url` | none: the instance's metadata service, version 2 |
///
/// # Errors of a fetch
/// Transient: the network, 404 (the instance has no role yet), 408, 425, 429, 5xx, `Throttling`, a token of
/// Kubernetes that the service refuses (`InvalidIdentityToken`, `ExpiredTokenException`; its file is read again), keys that have
/// expired or end before the token would, a request that was signed with a clock that differs from the service's by
/// 30 s or more, and an answer that cannot be read. The next request is then signed with new keys, or with the
/// service's clock. Terminal: any other refusal (`AccessDenied`: the role lacks the permission;
/// `OutboundWebIdentityFederationDisabled`: the account must turn it on), and a redirect.
pub struct AwsWebIdentity {
    wanted: Wanted,
    origin: Origin,
    /// A setting names the identity of these tokens.
    is_named: bool,
    transport: Transport,
    sts_url: Option<String>,
    /// Held during a whole fetch.
    state: Mutex<State>,
    /// The region, if it was known from the beginning.
    known: Option<String>,
}

struct State {
    sts: Option<Sts>,
    keys: Option<Keys>,
}

/// The parameters of the requested token.
struct Wanted {
    audience: Vec<String>,
    lifetime: Duration,
    algorithm: String,
}

impl AwsWebIdentity {
    fn new(
        wanted: Wanted,
        origin: Origin,
        is_named: bool,
        transport: Transport,
        sts_url: Option<String>,
        sts: Option<Sts>,
    ) -> Self {
        let known = sts.as_ref().map(|sts| sts.shown().to_owned());
        let state = Mutex::new(State { sts, keys: None });
        Self { wanted, origin, is_named, transport, sts_url, state, known }
    }

    fn form(&self, lifetime: Duration) -> Form {
        let mut form = Form::default();
        form.plain("Action", "GetWebIdentityToken");
        form.plain("Version", sts::VERSION);
        for (at, audience) in self.wanted.audience.iter().enumerate() {
            form.plain(&format!("Audience.member.{}", at + 1), audience);
        }
        form.plain("DurationSeconds", &lifetime.as_secs().to_string());
        form.plain("SigningAlgorithm", &self.wanted.algorithm);
        form
    }

    async fn token(&self, state: &mut State, cx: &FetchContext) -> Result<Token, SourceError> {
        if state.sts.is_none() {
            let region = self.origin.region(cx).await?;
            let sts = Sts::new(self.transport.clone(), self.sts_url.as_deref(), &region);
            state.sts = Some(sts.map_err(SourceError::terminal)?);
        }
        self.renew_keys(state, cx).await?;
        let (Some(sts), Some(keys)) = (&state.sts, &state.keys) else {
            return Err(SourceError::transient("there are no keys"));
        };
        let longest = keys.left(sts.wall(cx)).saturating_sub(CUT);
        let lifetime = self.wanted.lifetime.min(longest).max(SHORTEST);
        match sts.ask_signed(&self.form(lifetime), keys, cx).await {
            Ok(answer) => read(answer),
            Err(Refused::Keys(error)) => {
                state.keys = None;
                Err(error)
            }
            Err(Refused::Other(error)) => Err(error),
        }
    }

    /// Fetches new keys if the present ones end soon, or before a token would.
    async fn renew_keys(&self, state: &mut State, cx: &FetchContext) -> Result<(), SourceError> {
        let left = match (&state.sts, &state.keys) {
            // A token that was rejected may represent a role that the machine no longer has.
            (Some(sts), Some(keys)) if cx.reason != Reason::Rejected => keys.left(sts.wall(cx)),
            _ => Duration::ZERO,
        };
        if left > RENEWED.max(self.wanted.lifetime + SPARE) {
            return Ok(());
        }
        match self.origin.keys(state.sts.as_ref(), cx).await {
            Ok(keys) => state.keys = Some(keys),
            // The present keys sign for a token with a shorter lifetime.
            Err(_) if left > SHORTEST + CUT => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The token, and its end by the clock of the service.
fn read(mut answer: Answer) -> Result<Token, SourceError> {
    let text = Zeroizing::new(answer.text()?.to_owned());
    let Some(secret) = element(&text, "WebIdentityToken").filter(|secret| !secret.is_empty()) else {
        return Err(answer.nonsense("without a `WebIdentityToken`"));
    };
    answer.hide(&secret);
    let said = element(&text, "Expiration").and_then(|end| moment(&end.into_owned().into()));
    let end = said.or_else(|| Claims::of(&secret)?.moment("exp"));
    let token = Token::new(secret);
    Ok(match end {
        Some(end) if answer.date().is_some() => {
            token.with_lifetime(end.duration_since(answer.server_time()).unwrap_or_default())
        }
        Some(end) => token.with_expires_at(end),
        None => token,
    })
}

/// Whether all characters are allowed in the name of a host.
fn is_region(text: &str) -> bool {
    let is_name = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    (1..=32).contains(&text.len())
        && text.chars().all(is_name)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl TokenSource for AwsWebIdentity {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let mut state = self.state.lock().await;
        self.token(&mut state, &cx).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("metadata", "aws_web_identity");
        for audience in &self.wanted.audience {
            part("audience", audience);
        }
        part("algorithm", &self.wanted.algorithm);
        part("lifetime", &format!("{} s", self.wanted.lifetime.as_secs()));
        match &self.origin {
            Origin::Role { arn, .. } if self.is_named => part("role_arn", arn),
            _ => part(UNNAMED, "whose identity this machine has"),
        }
        match &self.known {
            Some(url) => part("sts", url),
            None => part("sts", "of the instance's region"),
        }
    }
}

impl fmt::Debug for AwsWebIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsWebIdentity")
            .field("audience", &self.wanted.audience)
            .field("keys", &self.origin.name())
            .field("sts", &self.known)
            .finish_non_exhaustive()
    }
}

//! Google's metadata server.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::{Server, shape};
use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::jwt::Claims;
use crate::settings::settings;
use crate::source::json_endpoint::answer::{Ends, Shape};
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::{Answer, Pointer, Request};

/// The address is the same for all machines. The name `metadata.google.internal` would need a name server first.
const BASE: &str = "http://169.254.169.254";
/// Sent with each request, and required in each answer.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: &str = "Google";
/// The server gives the same token until 4 to 5 minutes before its end. An earlier refresh would get the old token.
const EARLIEST: Duration = Duration::from_secs(225);

/// Tokens of Google's metadata server, for the service account of the machine. See [`Metadata::gcp`](super::Metadata::gcp).
///
/// The header `Metadata-Flavor: Google` is sent, and must be in the answer. Therefore a token from another server
/// at that address, such as a proxy, is refused. A token is refreshed 225 s before its end at the earliest, because
/// the server gives the same token until then.
///
/// # Errors of a fetch
/// Transient: the network, 404 (the machine has no service account yet), 408, 425, 429, 5xx, an answer without the header,
/// and one without a token. Terminal: any other refusal, and a redirect.
pub struct GcpMetadata {
    server: Server,
    shape: Shape,
    /// Whether it is an identity token: then the answer is the token itself.
    is_identity: bool,
    is_named: bool,
}

settings! {
    #![serde(default)]
    /// The settings of [`GcpMetadata`], from code or by serde from a file. Durations are written like `"3s"`.
    ///
    /// `Debug` hides the URL.
    #[derive(Clone, Default)]
    #[must_use = "it does nothing until it is built"]
    pub struct GcpMetadataBuilder {
        account: Option<String>,
        scope: Option<String>,
        audience: Option<String>,
        base_url: Option<String>,
        #[serde(deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
    }
}

impl GcpMetadataBuilder {
    /// Selects a service account of the machine by its email address. Default: `default`, the first one.
    pub fn account(mut self, email: impl Into<String>) -> Self {
        self.account = Some(email.into());
        self
    }

    /// The requested scopes, with spaces or commas between them. Default: those of the machine.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Requests an identity token (a JWT) for this audience, as Cloud Run and many others require. Default: an
    /// access token.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Scheme, host and port of the server. Default: `http://169.254.169.254`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The time limit of one request. Default 3 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<GcpMetadata, BuildError> {
        let account = self.account.as_deref().unwrap_or("default");
        let is_email = |char: char| char.is_ascii_alphanumeric() || "@.-_+:".contains(char);
        // A name of dots alone would be folded away as a part of the path.
        let is_dots = account.trim_matches('.').is_empty();
        if is_dots || !account.chars().all(is_email) {
            let message =
                "is no email address of a service account; leave it out for the machine's first one";
            return Err(BuildError::new("account", message));
        }
        let scopes = self.scope.as_deref().map(|scope| {
            let scopes = scope.split([' ', ',']).filter(|scope| !scope.is_empty());
            scopes.collect::<Vec<_>>().join(",")
        });
        let (what, query) = match (&self.audience, &scopes) {
            (Some(_), Some(_)) => {
                return Err(BuildError::new("scope", "excludes `audience`: an identity token has no scopes"));
            }
            (Some(audience), None) if audience.trim().is_empty() => {
                return Err(BuildError::new("audience", "is empty: leave it out for an access token"));
            }
            (Some(audience), None) => ("identity", vec![("audience", audience.as_str()), ("format", "full")]),
            (None, Some(scopes)) if scopes.is_empty() => {
                return Err(BuildError::new("scope", "is empty: leave it out for the machine's own scopes"));
            }
            (None, scopes) => ("token", scopes.iter().map(|scopes| ("scopes", scopes.as_str())).collect()),
        };
        let path = format!("/computeMetadata/v1/instance/service-accounts/{account}/{what}");
        let server = Server::new(self.base_url.as_deref().unwrap_or(BASE), &path, &query, self.timeout)?;
        let ends = Ends::Lifetime(Pointer::parse("lifetime_pointer", "/expires_in")?);
        Ok(GcpMetadata {
            server,
            shape: shape(ends, &[StatusCode::NOT_FOUND])?,
            is_identity: self.audience.is_some(),
            is_named: self.account.is_some(),
        })
    }
}

impl GcpMetadata {
    fn read(&self, answer: Answer) -> Result<Token, SourceError> {
        if answer.header(&FLAVOR).map(str::trim) != Some(GOOGLE) {
            let what =
                "without the header `Metadata-Flavor: Google`: that server is not Google's metadata server";
            return Err(answer.nonsense(what));
        }
        let token = if self.is_identity && answer.is_success() {
            identity_token(&answer)?
        } else {
            self.shape.read(answer)?
        };
        let life = token.whole_life();
        Ok(if life.is_zero() { token } else { token.with_refresh_ahead((life / 5).min(EARLIEST)) })
    }
}

/// The answer is the JWT itself.
fn identity_token(answer: &Answer) -> Result<Token, SourceError> {
    let text = answer.text()?;
    let claims = Claims::of(text).ok_or_else(|| answer.nonsense("with something that is no JWT"))?;
    let token = Token::new(text);
    Ok(match claims.moment("exp") {
        // Compared with the clock of the server, if the server gives its time.
        Some(end) => token.with_lifetime(end.duration_since(answer.server_time()).unwrap_or_default()),
        None => token,
    })
}

impl TokenSource for GcpMetadata {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        // An identity token comes as text, and only an access token in JSON.
        let more = |request: &mut Request| {
            if self.is_identity {
                request.accept("*/*");
            }
        };
        self.read(self.server.ask(("metadata-flavor", GOOGLE), more, cx.time_left()).await?)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("metadata", "gcp");
        self.server.identify(part);
        if !self.is_named {
            part(UNNAMED, "whose identity this machine has (`account` names it)");
        }
    }
}

impl fmt::Debug for GcpMetadataBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpMetadataBuilder")
            .field("account", &self.account)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for GcpMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpMetadata").field("url", &self.server.endpoint.shown()).finish_non_exhaustive()
    }
}

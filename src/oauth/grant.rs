//! A grant as a source: the settings common to all grants, and one request per fetch.

use std::fmt;
use std::future::Future;
#[cfg(feature = "registry")]
use std::sync::Arc;
#[cfg(feature = "registry")]
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::error::{BuildError, SourceError};
#[cfg(feature = "registry")]
use crate::secret::origin::LastSecret;
use crate::secret::place::cut_secret;
use crate::source::{BoxSource, FetchContext, TokenSource};
use crate::token::{Token, TokenType};
use crate::transport::Form;
#[cfg(feature = "registry")]
use crate::transport::ServerClock;

use super::builder::ClientBuilder;
use super::claims;
use super::client::Client;
use super::client_auth::ClientAuth;
use super::limit::Limit;
use super::params::{Expected, GrantSettings, client_and_grant};
use super::response::TokenResponse;

/// The part that one grant adds to the request, and its requirements on the answer.
pub(crate) trait Grant: Send + Sync + 'static {
    /// `grant_type`.
    const TYPE: &'static str;

    /// Its parameters, which users may not set by `extra`.
    const PARAMETERS: &'static [&'static str];

    /// Whether one of them contains a time, by the server's clock.
    const IS_DATED: bool = false;

    /// Refuses a client that cannot use the grant.
    fn check(&self, _client: &Client) -> Result<(), BuildError> {
        Ok(())
    }

    /// Adds its parameters, made anew for each request. Returns the limit of the new token's life.
    fn parameters(
        &self,
        form: &mut Form,
        cx: &FetchContext,
    ) -> impl Future<Output = Result<Limit, SourceError>> + Send;

    /// Refuses an answer that is not allowed for the grant. The error continues "the answer …".
    fn check_response(&self, _response: &TokenResponse) -> Result<(), String> {
        Ok(())
    }

    /// The sources on which it depends.
    fn links(&self) -> Vec<&BoxSource> {
        Vec::new()
    }

    /// Names the parts that decide which token comes, beside the common settings.
    fn identify(&self, part: &mut dyn FnMut(&str, &str));
}

/// The settings of a grant: the common ones, and those of `G`.
///
/// `C` is the client, or the settings of a client that only this grant uses.
#[derive(Clone)]
#[must_use = "it does nothing until it is built"]
pub struct GrantBuilder<G, C = Client> {
    client: C,
    settings: GrantSettings,
    pub(crate) grant: G,
}

impl<G> GrantBuilder<G> {
    pub(crate) fn new(client: &Client, grant: G) -> Self {
        Self { client: client.clone(), settings: GrantSettings::default(), grant }
    }
}

impl<G, C> GrantBuilder<G, C> {
    #[cfg(feature = "registry")]
    pub(super) fn of_parts(client: C, settings: GrantSettings, grant: G) -> Self {
        Self { client, settings, grant }
    }

    #[cfg(feature = "registry")]
    pub(super) fn parts(&self) -> (&C, &GrantSettings, &G) {
        (&self.client, &self.settings, &self.grant)
    }

    /// With these settings in place of the present ones.
    pub(crate) fn with_settings(self, settings: GrantSettings) -> Self {
        Self { settings, ..self }
    }

    /// For a grant that needs more than one request.
    pub(crate) fn into_parts(self) -> (C, GrantSettings, G) {
        (self.client, self.settings, self.grant)
    }

    /// The requested scopes, with spaces between them (RFC 6749 section 3.3). Their order has no meaning. Default:
    /// none, so that the server chooses.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.settings.scope = Some(scope.into());
        self
    }

    /// Refuses a token without one of the requested scopes. Default: a WARN.
    pub fn require_scopes(mut self, required: bool) -> Self {
        self.settings.require_scopes = required;
        self
    }

    /// Adds a recipient of the token, at servers that support `audience` (RFC 8693 section 2.1). Default: none.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.settings.audience.push(audience.into());
        self
    }

    /// Adds a resource for which the token is: an absolute URI without a fragment (RFC 8707), or another text for
    /// older servers. Default: none.
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.settings.resource.push(uri.into());
        self
    }

    /// Adds a server-specific parameter. Its value is treated as a secret, and a line break at its end is cut off with a
    /// WARN. A second value for the same name replaces the first. `scope` is refused, and so are the names of other
    /// settings that are used: a server may want an `audience` or a `resource` that the setting of this name does not
    /// accept. In a file a value may also be
    /// `{ file = "path" }` or `{ env = "NAME" }`, which is read with the settings. Default: none.
    pub fn extra(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), Zeroizing::new(value.into()));
        let value = cut_secret(&name, &value);
        self.settings.extra.insert(name, value);
        self
    }

    /// The type of the tokens, for any type in the server's answer. Default: the server's type, if this crate knows it.
    pub fn token_type(mut self, kind: TokenType) -> Self {
        self.settings.token_type = Some(kind);
        self
    }
}

/// Forwards to setters of the client.
macro_rules! client_settings {
    ($($name:ident: $type:ty, $default:literal;)*) => {
        impl<G> GrantBuilder<G, ClientBuilder> {
            $(
                #[doc = concat!("See [`ClientBuilder::", stringify!($name), "`]. Default: ", $default, ".")]
                pub fn $name(self, value: $type) -> Self {
                    self.client(|client| client.$name(value))
                }
            )*
        }
    };
}

client_settings! {
    auth_method: ClientAuth, "HTTP Basic";
    timeout: Duration, "9 s";
    connect_timeout: Duration, "5 s";
    max_body: usize, "65,536 bytes";
}

impl<G> GrantBuilder<G, ClientBuilder> {
    pub(crate) fn with(client: ClientBuilder, grant: G) -> Self {
        Self { client, settings: GrantSettings::default(), grant }
    }

    /// Changes any setting of the client.
    ///
    /// ```
    /// use tokenflight::source::ClientCredentials;
    ///
    /// let source = ClientCredentials::builder("https://auth.example.com/token", "my-app", "s3cret")
    ///     .client(|client| client.client_id_in_body(true).proxy("http://proxy.example.com:3128"))
    ///     .build()?;
    /// # let _ = source;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// ```
    pub fn client(mut self, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        self.client = change(self.client);
        self
    }

    /// Allows a URL with `http`, in clear. See [`ClientBuilder::allow_http`]. Default: allowed only for this
    /// machine itself.
    pub fn allow_http(self) -> Self {
        self.client(ClientBuilder::allow_http)
    }

    /// Changes the HTTP client. See [`ClientBuilder::http`]. Default: the one that all sources share.
    pub fn http(
        self,
        configure: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.client(|client| client.http(configure))
    }
}

/// A value from which a client can be made.
pub(crate) trait IntoClient {
    fn into_client(self) -> Result<Client, BuildError>;

    /// The client's id, and its server.
    #[cfg(feature = "registry")]
    fn names(&self) -> (String, String);
}

impl IntoClient for Client {
    fn into_client(self) -> Result<Client, BuildError> {
        Ok(self)
    }

    #[cfg(feature = "registry")]
    fn names(&self) -> (String, String) {
        (self.id().to_owned(), self.server_url().to_owned())
    }
}

impl IntoClient for ClientBuilder {
    fn into_client(self) -> Result<Client, BuildError> {
        self.build()
    }

    #[cfg(feature = "registry")]
    fn names(&self) -> (String, String) {
        self.id_and_server()
    }
}

#[allow(private_bounds)] // The grants are this crate's own.
impl<G: Grant, C: IntoClient> GrantBuilder<G, C> {
    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<GrantSource<G>, BuildError> {
        let Self { client, settings, grant } = self;
        let client = client.into_client()?;
        grant.check(&client)?;
        let (common, expected) = settings.checked(G::PARAMETERS, client.dpop_key().is_some())?;
        Ok(GrantSource { client, settings, common, expected, grant })
    }
}

/// From one table with the settings of the client and of the grant.
impl<'de, G: Default> Deserialize<'de> for GrantBuilder<G, ClientBuilder> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (client, settings) = client_and_grant(deserializer)?;
        Ok(Self { client, settings, grant: G::default() })
    }
}

impl<G, C: fmt::Debug> fmt::Debug for GrantBuilder<G, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantBuilder")
            .field("client", &self.client)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A source of tokens for one client and one grant.
///
/// # Errors of a fetch
/// Terminal errors, which only a change of settings can correct: a 4xx with any of the codes of RFC 6749 section
/// 5.2 (`invalid_client`, `invalid_scope`, …), the same in a 200, an unknown `token_type`, and any redirect.
/// Transient errors: the network, 408, 425, 429, 5xx, the codes `temporarily_unavailable`, `server_error` and
/// `slow_down`, a refusal with `Retry-After` and without a code of the standard, and a success without a token. A refusal is also
/// transient if the secret, key or clock has changed since. [`cause::<OAuthError>()`](SourceError::cause) has the
/// code. The server's explanation is quoted on one printable line, unless it contains anything that was sent or
/// received, in any encoding. A body is never quoted.
pub struct GrantSource<G> {
    client: Client,
    settings: GrantSettings,
    /// The common parameters.
    common: Form,
    expected: Expected,
    grant: G,
}

#[allow(private_bounds)] // The grants are this crate's own.
impl<G: Grant> TokenSource for GrantSource<G> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let mut form = Form::default();
        let limit = self.grant.parameters(&mut form, &self.client.dated(&cx)).await?;
        form.extend(&self.common);
        claims::ask(&mut form, cx.challenge());
        let sent = cx.clock().now().wall;
        let response = self.client.ask(G::TYPE, &form, &self.expected, G::IS_DATED, &cx).await?;
        // The answer has told the server's clock.
        match self.grant.check_response(&response) {
            Ok(()) => Ok(match limit.since(self.client.server_time(sent)) {
                Some(limit) => response.token.with_lifetime_up_to(limit),
                None => response.token,
            }),
            Err(what) => Err(SourceError::terminal(format!("the answer of {} {what}", self.client.shown()))),
        }
    }

    /// The sources on which it depends.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        BoxSource::finish_all(self.grant.links().into_iter().chain(self.client.link()))
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("grant_type", G::TYPE);
        self.client.identify(part);
        self.settings.identify(part);
        self.grant.identify(part);
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.client.credential(part);
        for link in self.grant.links() {
            link.credential(part);
        }
    }

    fn rebind(&self, token: Token) -> Token {
        self.client.rebind(token)
    }
}

#[cfg(feature = "registry")]
impl<G> GrantSource<G> {
    pub(super) fn with_known(
        self,
        clock: ServerClock,
        secret: &LastSecret,
        was_timed: Arc<AtomicBool>,
    ) -> Self {
        Self { client: self.client.with_known(clock, secret, was_timed), ..self }
    }
}

#[cfg(any(test, fuzzing))]
#[allow(private_bounds)]
impl<G: Grant> GrantSource<G> {
    /// Parses an answer.
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
    ) -> Result<Token, SourceError> {
        self.client.parse_response(response, &self.expected).await.map(|response| response.token)
    }
}

impl<G> fmt::Debug for GrantSource<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantSource")
            .field("client", &self.client)
            .field("scopes", &self.expected.scopes)
            .finish_non_exhaustive()
    }
}

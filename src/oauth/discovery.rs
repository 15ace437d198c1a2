//! The address of the authorization server's endpoint, and the server's offers (RFC 8414, `OpenID` Connect
//! Discovery 1.0).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

use crate::clock::Timestamp;
use crate::error::{BuildError, SourceError};
use crate::source::FetchContext;
use crate::transport::{Answer, Document, Endpoint, Request, Transport};

use super::client_auth::ClientAuth;

/// How long a document is used before it is requested again.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// When the next try is made if the server had no document.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a request waits for a new document while the old one is available.
const PATIENCE: Duration = Duration::from_secs(2);

/// The known facts about the server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) token_endpoint: Endpoint,
    pub(super) issuer: Option<String>,
    offers: Offers,
}

/// The features that the server lists. `None` if it does not list them.
#[derive(Clone, Default)]
struct Offers {
    grants: Option<Vec<String>>,
    /// The grants that are missing in `grants`, and of which a WARN has told.
    told: Arc<Mutex<BTreeSet<String>>>,
    auth_methods: Option<Vec<String>>,
    signing_algorithms: Option<Vec<String>>,
    proof_algorithms: Option<Vec<String>>,
}

impl Server {
    /// A server of which only the endpoint is known.
    pub(super) fn at(token_endpoint: Endpoint) -> Self {
        Self { token_endpoint, issuer: None, offers: Offers::default() }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_at_https_or_loopback(&self) -> bool {
        self.token_endpoint.check_plaintext(false).is_ok()
    }

    /// Refuses features that the server does not support, before anything is sent to it.
    ///
    /// A grant is not refused. Some servers support more grants than their documents list: Okta's custom
    /// authorization servers do not list `client_credentials`, and Keycloak does not list the token exchange.
    pub(super) fn check(
        &self,
        grant: &str,
        auth: ClientAuth,
        algorithm: Option<&str>,
        proof_algorithm: Option<&str>,
    ) -> Result<(), SourceError> {
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let lacks = |offered: &Option<Vec<String>>, wanted: &str| {
            offered.as_ref().filter(|offered| !offered.iter().any(|one| one == wanted)).cloned()
        };
        if let Some(offered) = lacks(&self.offers.grants, grant)
            && self.offers.is_new(grant)
        {
            log::warn!(
                "{issuer} does not list the grant {grant:?}, but {offered:?} (`grant_types_supported`); it is used"
            );
        }
        if let Some(method) = auth.registered_name()
            && let Some(offered) = lacks(&self.offers.auth_methods, method)
        {
            return Err(SourceError::terminal(format!(
                "{issuer} does not offer the client authentication {method:?}, but {offered:?} \
                 (`token_endpoint_auth_methods_supported`); set `auth_method` to one of these"
            )));
        }
        if let Some(algorithm) = algorithm
            && let Some(offered) = lacks(&self.offers.signing_algorithms, algorithm)
        {
            return Err(SourceError::terminal(format!(
                "{issuer} does not offer the algorithm {algorithm:?}, but {offered:?} \
                 (`token_endpoint_auth_signing_alg_values_supported`); set `algorithm`, or use another key"
            )));
        }
        if let Some(algorithm) = proof_algorithm
            && let Some(offered) = lacks(&self.offers.proof_algorithms, algorithm)
        {
            return Err(SourceError::terminal(format!(
                "{issuer} does not offer the algorithm {algorithm:?} for DPoP, but {offered:?} \
                 (`dpop_signing_alg_values_supported`); use another key for `dpop`"
            )));
        }
        Ok(())
    }

    /// How a client with a secret proves its identity if the user does not say. RFC 8414 section 2: if the server
    /// lists nothing, the method is Basic.
    pub(super) fn auth_with_secret(&self) -> ClientAuth {
        let Some(offered) = &self.offers.auth_methods else { return ClientAuth::Basic };
        let has = |auth: &ClientAuth| offered.iter().any(|one| Some(one.as_str()) == auth.registered_name());
        let choices = [ClientAuth::Basic, ClientAuth::Body, ClientAuth::ClientSecretJwt];
        choices.into_iter().find(has).unwrap_or_default()
    }
}

impl Offers {
    /// Whether nobody was told yet that this grant is missing.
    fn is_new(&self, grant: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(grant.to_owned())
    }

    /// An equal list of grants says nothing new.
    fn with_told_of(&mut self, old: &Self) {
        if self.grants == old.grants {
            self.told = Arc::clone(&old.told);
        }
    }
}

/// An issuer, and its document if it is known.
pub(crate) struct Discovery {
    issuer: Endpoint,
    /// As the user wrote it. The document must contain the same text, byte by byte (RFC 8414 section 3.3).
    text: String,
    allow_http: bool,
    uses_tls_alias: bool,
    /// Held while the document is requested: one request at once, and all others wait for it.
    known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    server: Option<Server>,
    next: Option<Duration>,
}

/// What the places without a document have answered.
#[derive(Default)]
struct Failures {
    /// The place may have a document later. Therefore another attempt may help.
    down: Option<SourceError>,
    /// A web page, which is not a document. Some servers answer every path with it.
    page: Option<SourceError>,
    /// A redirect, for example to a page for logins.
    moved: Option<SourceError>,
    missing: Option<SourceError>,
}

impl Failures {
    fn worst(self) -> SourceError {
        let Self { down, page, moved, missing } = self;
        let worst = down.or(page).or(moved).or(missing);
        worst.unwrap_or_else(|| SourceError::terminal("there is no document"))
    }
}

/// A refusal with the server's own explanation, and with this advice.
fn refused(answer: &Answer, transient: bool, advice: &str) -> SourceError {
    answer.refusal(transient, &(answer.said(answer.json().ok().as_ref(), None) + advice))
}

impl Discovery {
    /// `uses_tls_alias`: the client presents a certificate. Some servers have another address for this (RFC 8705
    /// section 5).
    pub(crate) fn new(issuer: &str, allow_http: bool, uses_tls_alias: bool) -> Result<Self, BuildError> {
        let endpoint = Endpoint::parse("issuer", issuer)?;
        endpoint.check_plaintext(allow_http)?;
        if endpoint.url().query().is_some() {
            return Err(BuildError::new(
                "issuer",
                "has a query (?...), and no issuer has one (RFC 8414 section 2)",
            ));
        }
        let text = issuer.to_owned();
        Ok(Self { issuer: endpoint, text, allow_http, uses_tls_alias, known: tokio::sync::Mutex::default() })
    }

    pub(super) fn issuer(&self) -> &Endpoint {
        &self.issuer
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The server, from the known document or from a new one.
    pub(super) async fn server(
        &self,
        transport: &Transport,
        cx: &FetchContext,
    ) -> Result<Server, SourceError> {
        let mut known = self.known.lock().await;
        let Timestamp { boot, .. } = cx.clock().now();
        let is_due = known.next.is_none_or(|next| next <= boot);
        let Some(server) = known.server.clone() else {
            let server = self.ask(transport, cx, cx.time_left()).await?;
            *known = Known { server: Some(server.clone()), next: Some(boot.saturating_add(FRESH)) };
            return Ok(server);
        };
        if !is_due {
            return Ok(server);
        }
        let time = cx.time_left().map_or(PATIENCE, |left| left.min(PATIENCE));
        match self.ask(transport, cx, Some(time)).await {
            Ok(mut new) => {
                new.offers.with_told_of(&server.offers);
                *known = Known { server: Some(new.clone()), next: Some(boot.saturating_add(FRESH)) };
                Ok(new)
            }
            Err(error) => {
                log::warn!("{error}; the earlier document stays in use");
                known.next = Some(boot.saturating_add(PAUSE));
                Ok(server)
            }
        }
    }

    /// Tries each place in which a server may keep its document, for at most `limit` together.
    async fn ask(
        &self,
        transport: &Transport,
        cx: &FetchContext,
        limit: Option<Duration>,
    ) -> Result<Server, SourceError> {
        let named =
            |error: SourceError| error.within(&format!("discovery of the issuer {}", self.issuer.shown()));
        let begun = cx.clock().now().boot;
        let mut failures = Failures::default();
        for place in self.places().map_err(|error| SourceError::terminal(error.to_string()))? {
            let spent = cx.clock().now().boot.saturating_sub(begun);
            let left = limit.map(|limit| limit.saturating_sub(spent));
            let answer = match transport.exchange(&place, Request::new(Method::GET), left).await {
                Ok(answer) => answer,
                Err(error) if error.is_terminal() => {
                    failures.moved.get_or_insert(error);
                    continue;
                }
                // The server cannot be reached, in any of the places.
                Err(error) => return Err(named(error)),
            };
            let is_asked_to_wait = answer.retry_after().is_some();
            match answer.status() {
                StatusCode::OK => match answer.json() {
                    Ok(document) if document.is_table() => {
                        let wrong = |what| named(failures.down.unwrap_or(SourceError::terminal(what)));
                        return self.read(&document).map_err(wrong);
                    }
                    Ok(_) => {
                        failures.page.get_or_insert(answer.nonsense("with JSON that is no table"));
                    }
                    Err(error) => {
                        failures.page.get_or_insert(error);
                    }
                },
                // The whole server asks for a pause.
                StatusCode::TOO_MANY_REQUESTS => return Err(named(refused(&answer, true, ""))),
                StatusCode::SERVICE_UNAVAILABLE if is_asked_to_wait => {
                    return Err(named(refused(&answer, true, "")));
                }
                _ if answer.may_pass() || is_asked_to_wait => {
                    failures.down.get_or_insert(refused(&answer, true, ""));
                }
                _ => {
                    let what = "; if this is the address of the token endpoint itself, say so by `token_url`";
                    failures.missing = Some(refused(&answer, false, what));
                }
            }
        }
        Err(named(failures.worst()))
    }

    /// `OpenID` appends the well-known part; RFC 8414 section 3.1 inserts it before the path.
    fn places(&self) -> Result<Vec<Endpoint>, BuildError> {
        let url = self.issuer.url();
        let path = url.path().trim_end_matches('/');
        let paths = [
            format!("{path}/.well-known/openid-configuration"),
            format!("/.well-known/oauth-authorization-server{path}"),
        ];
        let place = |path: String| {
            let mut url = url.clone();
            url.set_path(&path);
            Endpoint::parse("issuer", url.as_str())
        };
        paths.into_iter().map(place).collect()
    }

    fn read(&self, document: &Document) -> Result<Server, String> {
        match document.text("/issuer") {
            Some(issuer) if issuer == self.text => {}
            Some(issuer) => {
                return Err(format!(
                    "the document is of the issuer {:?}, which is not {:?} to the letter (RFC 8414 section 3.3); \
                     write `issuer` as the server does",
                    crate::transport::printable(issuer, 200),
                    self.text
                ));
            }
            None => return Err("the document names no `issuer`".to_owned()),
        }
        let alias = document.text("/mtls_endpoint_aliases/token_endpoint").filter(|_| self.uses_tls_alias);
        let url = alias.or_else(|| document.text("/token_endpoint"));
        let url = url.ok_or("the document names no `token_endpoint`")?;
        let token_endpoint = Endpoint::parse("token_endpoint", url)
            .and_then(|endpoint| endpoint.check_plaintext(self.allow_http).map(|()| endpoint))
            .map_err(|error| format!("the document's {error}"))?;
        let list = |place| {
            let items = document.get(place)?.as_array()?.iter();
            let items: Vec<String> = items.filter_map(|item| item.as_str().map(Into::into)).collect();
            // A server that lists nothing supports something nevertheless.
            Some(items).filter(|items| !items.is_empty())
        };
        let offers = Offers {
            grants: list("/grant_types_supported"),
            told: Arc::default(),
            auth_methods: list("/token_endpoint_auth_methods_supported"),
            signing_algorithms: list("/token_endpoint_auth_signing_alg_values_supported"),
            proof_algorithms: list("/dpop_signing_alg_values_supported"),
        };
        Ok(Server { token_endpoint, issuer: Some(self.text.clone()), offers })
    }

    /// The same, if the document is already available.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn read_bytes(&self, bytes: &[u8]) -> Result<Server, String> {
        let document = Document::parse(bytes).map_err(|error| error.to_string())?;
        self.read(&document)
    }
}

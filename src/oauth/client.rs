//! One client at one authorization server: the part that all its sources share.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "registry")]
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use http::Method;

use crate::clock::{Clock, Moved, SystemClock};
use crate::error::{Reach, SourceError};
#[cfg(feature = "registry")]
use crate::secret::origin::LastSecret;
use crate::source::{BoxSource, FetchContext, UNNAMED, UNSHARED};
use crate::token::Token;
use crate::transport::{Answer, Form, Held, Request, ServerClock, Transport};

use super::builder::ClientBuilder;
use super::client_auth::{ClientAuth, ClientIdentity, Sent};
use super::discovery::{Discovery, Server};
use super::dpop::{ClientProofs, DpopKey};
use super::error::OAuthError;
use super::jws::sha256;
use super::params::Expected;
use super::response::{self, NextRefreshToken, TokenResponse};

/// One client at one authorization server: its identity, its connections, and its knowledge about the server.
///
/// All sources of one client share it. A clone is the same client. See the [module](super) for an example, and
/// [`ClientBuilder`] for the settings.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    identity: ClientIdentity,
    server: ServerOrigin,
    transport: Transport,
    /// The proofs of possession, if its tokens are to be bound to a key.
    proofs: Option<ClientProofs>,
    server_clock: ServerClock,
}

/// The way to send a one-time credential.
pub(crate) struct Once {
    /// The time limit for the answer.
    pub(crate) limit: Duration,
    /// The body is sent when its gate is opened.
    pub(crate) held: Held,
}

/// What was known when a request was sent.
struct Before {
    /// The server's clock.
    offset: i64,
    /// The proof of the client.
    sent: Sent,
    /// Whether the request contains a time, besides the proof of the client.
    is_dated: bool,
}

/// How the server was named.
pub(super) enum ServerOrigin {
    Fixed(Box<Server>),
    Discovered(Box<Discovery>),
}

/// How far a clock may be off, in seconds, until an assertion or a proof that was refused is made anew. Some servers
/// accept none from the future. A `Date` has whole seconds, and its answer has been under way: less cannot be known.
const TOLERANCE: u64 = 4;
/// The reason why its tokens are useless to other processes.
const GENERATED: &str = "are bound to a key (`dpop`) that this process has generated: other processes could not use them; \
                         give all processes one key from a file (`DpopKey::from_pem_file`)";

impl Client {
    /// Begins with the parts that every client has: the authorization server, and the client's id there.
    ///
    /// `url` is the token endpoint if the last part of its path has `token` in it
    /// (`https://auth.example.com/oauth/token`). Any other URL is the *issuer* (`https://auth.example.com`), and
    /// the endpoint is found by discovery. If this guess is wrong, see [`with_token_url`](Self::with_token_url) and
    /// [`with_issuer`](Self::with_issuer).
    pub fn builder(url: impl Into<String>, client_id: impl Into<String>) -> ClientBuilder {
        let url = url.into();
        let path = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let (rest, last) = path.rsplit_once('/').unwrap_or_default();
        // `https:/` is the part before a host without a path.
        if last.to_ascii_lowercase().contains("token") && !rest.ends_with(":/") {
            Self::with_token_url(url, client_id)
        } else {
            Self::with_issuer(url, client_id)
        }
    }

    /// The same, if the URL is that of the token endpoint (RFC 6749 section 3.2).
    pub fn with_token_url(token_url: impl Into<String>, client_id: impl Into<String>) -> ClientBuilder {
        ClientBuilder::at(Some(token_url.into()), None, client_id.into())
    }

    /// The same, if the URL is the issuer. It must be exactly equal to the issuer in the server's own document (RFC
    /// 8414 section 3.3).
    pub fn with_issuer(issuer: impl Into<String>, client_id: impl Into<String>) -> ClientBuilder {
        ClientBuilder::at(None, Some(issuer.into()), client_id.into())
    }

    pub(super) fn new(
        identity: ClientIdentity,
        server: ServerOrigin,
        transport: Transport,
        proofs: Option<ClientProofs>,
    ) -> Self {
        Self(Arc::new(Inner { identity, server, transport, proofs, server_clock: ServerClock::default() }))
    }

    /// A client that was built just now begins with the known facts about its server's clock, its secret, and whether
    /// its proof contains a time. A client with clones knows them already.
    #[cfg(feature = "registry")]
    pub(super) fn with_known(
        mut self,
        clock: ServerClock,
        secret: &LastSecret,
        was_timed: Arc<AtomicBool>,
    ) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.server_clock = clock;
            inner.identity.remember_in(secret, was_timed);
        }
        self
    }

    /// The key to which its tokens are bound.
    pub(crate) fn dpop_key(&self) -> Option<&DpopKey> {
        self.0.proofs.as_ref().map(ClientProofs::key)
    }

    /// A token of this client that was stored without its key.
    pub(crate) fn rebind(&self, token: Token) -> Token {
        match self.dpop_key() {
            Some(key) if token.is_bound() && !token.has_key() => key.bind(token),
            _ => token,
        }
    }

    /// Whether it has a proof of its identity. A public client has none.
    pub(crate) fn is_confidential(&self) -> bool {
        self.0.identity.auth(None) != ClientAuth::None
    }

    /// The same context by the server's clock, as far as it is known: for values that the server will compare with
    /// its clock.
    pub(crate) fn dated(&self, cx: &FetchContext) -> FetchContext {
        match self.0.server_clock.offset() {
            0 => cx.clone(),
            offset => cx.clone().with_clock(Arc::new(Moved::new(Arc::clone(cx.clock()), offset))),
        }
    }

    /// The time by the server's clock, as far as it is known, when our clock shows this.
    pub(super) fn server_time(&self, ours: SystemTime) -> SystemTime {
        self.0.server_clock.wall(ours)
    }

    /// Sends a grant. `parameters` are all parameters except the client's own. `is_dated` says that they contain a
    /// time.
    pub(crate) async fn ask(
        &self,
        grant: &str,
        parameters: &Form,
        expected: &Expected,
        is_dated: bool,
        cx: &FetchContext,
    ) -> Result<TokenResponse, SourceError> {
        let offset = self.0.server_clock.offset();
        let key = self.dpop_key();
        let (answer, sent) = self.send(&self.0.transport, grant, parameters, cx, key, None).await?;
        match response::read(answer, expected, key) {
            Err(error) => {
                let before = Before { offset, sent, is_dated: is_dated || key.is_some() };
                Err(self.judged(error, &before).await)
            }
            outcome => outcome,
        }
    }

    /// Another attempt may help if the server's clock is known better now, or if the proof has been replaced since.
    async fn judged(&self, error: SourceError, before: &Before) -> SourceError {
        const TIMED: &[&str] = &[
            "invalid_client",
            "unauthorized_client",
            "invalid_grant",
            // RFC 8693 section 2.2.2: a subject's token that is not valid.
            "invalid_request",
            "invalid_dpop_proof",
        ];
        let Inner { identity, server_clock, .. } = &*self.0;
        let is_refused = error.cause::<OAuthError>().is_none_or(|error| TIMED.contains(&error.code.as_str()));
        if !error.is_terminal() || !is_refused {
            return error;
        }
        let is_timed = before.is_dated || identity.is_timed(&before.sent);
        let was_late = is_timed && server_clock.is_far_from(before.offset, TOLERANCE);
        if was_late || identity.has_changed(&before.sent).await { error.into_transient() } else { error }
    }

    /// The same for a one-time credential. The caller's own time does not limit the wait for the answer. The next
    /// refresh token is returned even if the access token beside it is unusable. `key` is the key to which the
    /// credential is bound.
    pub(crate) async fn spend(
        &self,
        grant: &str,
        parameters: &Form,
        expected: &Expected,
        key: Option<&DpopKey>,
        cx: &FetchContext,
        once: Once,
    ) -> (NextRefreshToken, Result<TokenResponse, SourceError>) {
        let transport = self.0.transport.patient(once.limit);
        let offset = self.0.server_clock.offset();
        let (answer, sent) = match self.send(&transport, grant, parameters, cx, key, Some(once.held)).await {
            Ok(answered) => answered,
            Err(error) => return (NextRefreshToken::Unknown, Err(error)),
        };
        match response::read_all(answer, expected, key) {
            // The refusal of the credential itself is final.
            (next, Err(error)) if error.reach() == Reach::Refused && !is_invalid_grant(&error) => {
                let before = Before { offset, sent, is_dated: key.is_some() };
                (next, Err(self.judged(error, &before).await))
            }
            outcome => outcome,
        }
    }

    /// One request. It is repeated once if the server requires a proof with a nonce that it gives (RFC 9449 section
    /// 8): such an answer says that the request was not processed.
    async fn send(
        &self,
        transport: &Transport,
        grant: &str,
        parameters: &Form,
        cx: &FetchContext,
        key: Option<&DpopKey>,
        mut held: Option<Held>,
    ) -> Result<(Answer, Sent), SourceError> {
        // The answer to a one-time credential is awaited until its end.
        let is_limited = held.is_none();
        let server = self.server(cx).await?;
        let auth = self.0.identity.auth(Some(&server));
        let proof_algorithm = key.map(|key| key.algorithm().as_str());
        server.check(grant, auth, self.0.identity.algorithm(auth), proof_algorithm)?;
        let mut is_repeated = false;
        loop {
            let dated = self.dated(cx);
            let now = dated.clock().now().wall;
            let (mut request, sent) = self.request(grant, parameters, &server, &dated, held.take()).await?;
            let proofs = self.0.proofs.as_ref().zip(key);
            let proof = proofs
                .map(|(proofs, key)| proofs.prove(key, &mut request, &server.token_endpoint, now))
                .transpose()?;
            let time_left = cx.time_left().filter(|_| is_limited);
            let answer = transport.exchange(&server.token_endpoint, request, time_left).await?;
            self.0.server_clock.learn(&answer, cx.clock().now().wall);
            let wants_other =
                proofs.zip(proof).is_some_and(|((proofs, _), proof)| proofs.learn(&answer, &proof));
            if is_repeated || !wants_other {
                return Ok((answer, sent));
            }
            is_repeated = true;
        }
    }

    /// A request with a proof of the identity that is made for this request. `cx` has the server's clock.
    async fn request(
        &self,
        grant: &str,
        parameters: &Form,
        server: &Server,
        cx: &FetchContext,
        held: Option<Held>,
    ) -> Result<(Request, Sent), SourceError> {
        let mut request = Request::new(Method::POST);
        let mut form = Form::default();
        form.plain("grant_type", grant);
        let sent = self.0.identity.prove(&mut request, &mut form, server, cx).await?;
        form.extend(parameters);
        let request = match held {
            Some(held) => request.with_held_form(&form, held),
            None => request.with_form(&form),
        };
        Ok((request, sent))
    }

    async fn server(&self, cx: &FetchContext) -> Result<Server, SourceError> {
        match &self.0.server {
            ServerOrigin::Fixed(server) => Ok((**server).clone()),
            ServerOrigin::Discovered(discovery) => discovery.server(&self.0.transport, cx).await,
        }
    }

    /// Names the client and its server, for [`TokenSource::identify`](crate::TokenSource::identify).
    pub(crate) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        match &self.0.server {
            ServerOrigin::Fixed(server) => part("token_url", server.token_endpoint.url().as_str()),
            ServerOrigin::Discovered(discovery) => part("issuer", discovery.text()),
        }
        part("client_id", &self.0.identity.id);
        if let Some(key) = self.dpop_key() {
            match key.generated() {
                Some(_) => part(UNSHARED, GENERATED),
                None => part("dpop_key", key.thumbprint()),
            }
        }
        if self.0.transport.is_configured() {
            part(UNNAMED, "`http`");
        }
    }

    /// Names its credential, for [`TokenSource::credential`](crate::TokenSource::credential).
    pub(crate) fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        self.0.identity.credential(self.server_time(SystemClock.now().wall), part);
        if let Some(key) = self.dpop_key() {
            part(key.thumbprint().as_bytes());
        }
    }

    /// The source whose token is the client's proof.
    pub(crate) fn link(&self) -> Option<&BoxSource> {
        self.0.identity.link()
    }

    /// Its id at the server.
    pub(crate) fn id(&self) -> &str {
        &self.0.identity.id
    }

    /// The URL of its server, which may contain a secret.
    #[cfg(feature = "registry")]
    pub(super) fn server_url(&self) -> &str {
        match &self.0.server {
            ServerOrigin::Fixed(server) => server.token_endpoint.url().as_str(),
            ServerOrigin::Discovered(discovery) => discovery.text(),
        }
    }

    /// Names its server in the record of a login. A query may be secret, so only its digest is in the name.
    pub(crate) fn name_of_server(&self) -> String {
        let query = match &self.0.server {
            ServerOrigin::Fixed(server) => server.token_endpoint.url().query(),
            // No issuer has a query.
            ServerOrigin::Discovered(_) => None,
        };
        match query {
            Some(query) => format!("{}?sha256={}", self.shown(), sha256(query.as_bytes())),
            None => self.shown().to_owned(),
        }
    }

    /// The address, without its secret parts.
    pub(crate) fn shown(&self) -> &str {
        match &self.0.server {
            ServerOrigin::Fixed(server) => server.token_endpoint.shown(),
            ServerOrigin::Discovered(discovery) => discovery.issuer().shown(),
        }
    }

    /// Parses an answer that did not come from a socket. Only for a client with a token URL.
    #[cfg(any(test, fuzzing))]
    pub(crate) async fn parse_response(
        &self,
        response: http::Response<Vec<u8>>,
        expected: &Expected,
    ) -> Result<TokenResponse, SourceError> {
        let ServerOrigin::Fixed(server) = &self.0.server else {
            return Err(SourceError::terminal("the token endpoint is not known"));
        };
        let cx = FetchContext::new(crate::source::Reason::First);
        let (mut request, mut form) = (Request::new(Method::POST), Form::default());
        self.0.identity.prove(&mut request, &mut form, server, &cx).await?;
        let redactor = request.with_form(&form).redactor;
        let answer = self.0.transport.parse_response(&server.token_endpoint, &redactor, response).await?;
        response::read(answer, expected, None)
    }
}

/// Whether the server no longer accepts the credential.
fn is_invalid_grant(error: &SourceError) -> bool {
    error.cause::<OAuthError>().is_some_and(|error| error.code == "invalid_grant")
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = match &self.0.server {
            ServerOrigin::Fixed(_) => "token_url",
            ServerOrigin::Discovered(_) => "issuer",
        };
        f.debug_struct("Client")
            .field(server, &self.shown())
            .field("client_id", &self.0.identity.id)
            .field("auth_method", &self.0.identity.auth(None))
            .finish_non_exhaustive()
    }
}

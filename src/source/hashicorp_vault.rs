//! Tokens of a Vault server: login, renewal, and a new login.

mod builder;
mod lease;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::secret::origin::SecretSource;
use crate::secret::{Secret, header_of};
use crate::source::{BoxSource, FetchContext, Reason, TokenSource, UNNAMED};
use crate::token::Token;
use crate::transport::{Answer, Document, Endpoint, Request, Transport};

pub use builder::VaultBuilder;
use lease::Lease;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's agents may refuse a request without this header, which no browser can be made to send.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Tokens of a Vault server (or of `OpenBao`), by the `AppRole` or the Kubernetes login.
///
/// ```
/// use tokenflight::source::Vault;
///
/// let by_role = Vault::approle("https://vault.example.com:8200", "5f1c-role-id").secret_id("s3cret").build()?;
/// let in_a_pod = Vault::kubernetes("https://vault.example.com:8200", "orders").build()?;
/// assert!(!format!("{by_role:?}").contains("s3cret"));
/// # let _ = in_a_pod;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// From a file, with the names of the setters. Unknown keys are refused. `role_id` selects `AppRole`, `role`
/// selects Kubernetes:
///
/// ```
/// use tokenflight::source::VaultBuilder;
///
/// let settings = r#"{
///     "url": "https://vault.example.com:8200",
///     "role": "orders",
///     "mount": "kubernetes-eu",
///     "namespace": "team-a"
/// }"#;
/// let source = serde_json::from_str::<VaultBuilder>(settings)?.build()?;
/// # let _ = source;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The token is renewed from 2/3 of its lease on (`renew-self`), and its secret stays the same. There is a new
/// login in these cases: Vault refuses the renewal; the lease cannot be renewed or has ended; the renewed lease is
/// at most half of the first (the token's longest life is near); or after [`replace`](crate::TokenHandle::replace),
/// [`discard`](crate::TokenHandle::discard) or [`refresh`](crate::TokenHandle::refresh). If the login after `replace`
/// or `refresh` fails, the next fetch tries it again, and renews the token if Vault refuses the login.
///
/// Vault accepts the token as a bearer token. Vault answers 403, not 401, to an unknown token, and to a token that
/// lacks a right. Therefore no [middleware](crate::middleware) treats this as a rejection. Call
/// [`replace`](crate::TokenHandle::replace) if you know that the token was rejected.
///
/// # Errors of a fetch
/// Transient: the network, 408, 412, 425, 429, 5xx (a sealed Vault answers 503), and an answer without a token. Terminal: any other
/// refusal of a login, and a redirect. A refused renewal is followed by a login.
pub struct Vault {
    transport: Transport,
    login_at: Endpoint,
    renew_at: Endpoint,
    namespace: Option<HeaderValue>,
    login: Login,
    lease: Mutex<Option<Lease>>,
}

/// How the next token is got.
enum Way {
    LogIn,
    Renew(Lease),
    /// The token was reported, or a new one was wanted, and the login has failed. If Vault refuses the login again, the
    /// token is renewed.
    LogInOrRenew(Lease),
}

/// The contents of a login request.
enum Login {
    AppRole {
        role_id: String,
        secret_id: Option<SecretSource>,
    },
    /// A JWT of the pod, or of any other issuer that Vault trusts.
    Jwt {
        role: String,
        jwt: BoxSource,
    },
}

impl Vault {
    /// The login of a machine by its role's id (`role_id`). `url` is scheme, host and port of Vault.
    pub fn approle(url: impl Into<String>, role_id: impl Into<String>) -> VaultBuilder {
        VaultBuilder::new(url.into(), Some(role_id.into()), None)
    }

    /// The login of a pod by the token of its service account. `role` is the pod's role in Vault.
    pub fn kubernetes(url: impl Into<String>, role: impl Into<String>) -> VaultBuilder {
        VaultBuilder::new(url.into(), None, Some(role.into()))
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        request: Request,
        cx: &FetchContext,
    ) -> Result<Lease, SourceError> {
        let mut request = request;
        request.headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            request.headers.insert(NAMESPACE, namespace.clone());
        }
        let answer = self.transport.exchange(endpoint, request, cx.time_left()).await?;
        Lease::read(answer, cx.clock().now().boot)
    }

    async fn log_in(&self, cx: &FetchContext) -> Result<Lease, SourceError> {
        let (request, sent) = self.login.request(cx).await?;
        match self.ask(&self.login_at, request, cx).await {
            Err(error) if error.is_terminal() && self.login.has_changed(sent.as_ref()).await => {
                Err(error.into_transient())
            }
            outcome => outcome,
        }
    }

    async fn renew(&self, lease: &Lease, cx: &FetchContext) -> Result<Lease, SourceError> {
        let mut request = with_json(Request::new(Method::POST), json!({}))?;
        request.redactor.hide(Zeroizing::new(lease.secret.expose().to_owned()));
        let token = header_of(lease.secret.expose()).map_err(SourceError::terminal)?;
        request.headers.insert(TOKEN, token);
        self.ask(&self.renew_at, request, cx).await.map(|renewed| lease.renewed(renewed))
    }

    /// A lease may be renewed only if it is the lease of the token which is to be replaced: that token may come from
    /// another process, and the token in this process's memory may have been discarded there.
    fn way(&self, cx: &FetchContext) -> Way {
        let is_its = |lease: &Lease| {
            cx.previous.as_ref().is_none_or(|previous| previous.secret() == lease.secret.expose())
        };
        let mut held = self.lease();
        held.take_if(|lease| cx.is_discarded() || !is_its(lease));
        let Some(lease) = held.as_mut() else { return Way::LogIn };
        if matches!(cx.reason, Reason::Rejected | Reason::Forced) {
            // The lease is kept until the login has succeeded: the token may be in use to its end.
            lease.is_doubted = true;
            return Way::LogIn;
        }
        let is_over = !lease.is_renewable || lease.until <= cx.clock().now().boot;
        match lease.is_doubted {
            _ if is_over => Way::LogIn,
            true => Way::LogInOrRenew(lease.clone()),
            false => Way::Renew(lease.clone()),
        }
    }

    async fn next(&self, cx: &FetchContext) -> Result<Lease, SourceError> {
        match self.way(cx) {
            Way::LogIn => self.log_in(cx).await,
            Way::Renew(lease) => self.renew_or_log_in(&lease, cx).await,
            Way::LogInOrRenew(lease) => self.log_in_or_renew(&lease, cx).await,
        }
    }

    async fn log_in_or_renew(&self, lease: &Lease, cx: &FetchContext) -> Result<Lease, SourceError> {
        let refused = match self.log_in(cx).await {
            Err(error) if error.is_terminal() => error,
            outcome => return outcome,
        };
        match self.renew(lease, cx).await {
            Err(error) if !error.is_terminal() => Err(error),
            Ok(renewed) if !renewed.has_ended() => {
                log::warn!(
                    "Vault refused a login ({refused}); its token, which was to be replaced, is renewed"
                );
                Ok(renewed)
            }
            _ => Err(refused),
        }
    }

    async fn renew_or_log_in(&self, lease: &Lease, cx: &FetchContext) -> Result<Lease, SourceError> {
        match self.renew(lease, cx).await {
            Ok(renewed) if renewed.has_ended() => self.log_in(cx).await,
            Ok(renewed) if !renewed.is_near_its_end() => Ok(renewed),
            // If the login fails, the rest of the token's life is used.
            Ok(renewed) => Ok(self.log_in(cx).await.unwrap_or_else(|error| {
                log::warn!(
                    "a token of Vault is near the end of its longest life, and the login failed: {error}"
                );
                renewed
            })),
            Err(error) if error.is_terminal() => {
                log::info!("Vault refused to renew a token ({error}); logging in again");
                self.log_in(cx).await
            }
            Err(error) => Err(error),
        }
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    /// The request, and the secret in it, if that secret may change.
    async fn request(&self, cx: &FetchContext) -> Result<(Request, Option<Secret>), SourceError> {
        let mut request = Request::new(Method::POST);
        let (body, sent) = match self {
            Self::AppRole { role_id, secret_id: None } => (json!({ "role_id": role_id }), None),
            Self::AppRole { role_id, secret_id: Some(secret_id) } => {
                let secret = secret_id.read("secret_id").await?;
                request.redactor.hide(Zeroizing::new(secret.expose().to_owned()));
                (json!({ "role_id": role_id, "secret_id": secret.expose() }), Some(secret))
            }
            Self::Jwt { role, jwt } => {
                let token = jwt.token_for("the JWT of Vault's login", cx).await?;
                request.redactor.hide(Zeroizing::new(token.secret().to_owned()));
                (json!({ "role": role, "jwt": token.secret() }), None)
            }
        };
        Ok((with_json(request, body)?, sent))
    }

    /// Whether the secret has changed since it was sent.
    async fn has_changed(&self, sent: Option<&Secret>) -> bool {
        match (self, sent) {
            (Self::AppRole { secret_id: Some(secret @ SecretSource::File(_)), .. }, Some(sent)) => {
                secret.read("secret_id").await.is_ok_and(|now| now != *sent)
            }
            _ => false,
        }
    }
}

/// The body is wiped after the sending.
fn with_json(request: Request, body: Value) -> Result<Request, SourceError> {
    let bytes = Document::new(body).to_bytes().map_err(SourceError::terminal)?;
    Ok(request.with_body("application/json", bytes))
}

impl TokenSource for Vault {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let lease = self.next(&cx).await?;
        let token = Token::new(lease.secret.expose());
        let token = match lease.lasts {
            Duration::ZERO => token,
            lasts => token.with_lifetime(lasts).with_refresh_ahead(lasts / 3),
        };
        *self.lease() = Some(lease);
        Ok(token)
    }

    /// The source of the JWT.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        BoxSource::finish_all(match &self.login {
            Login::AppRole { .. } => None,
            Login::Jwt { jwt, .. } => Some(jwt),
        })
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("url", self.login_at.url().as_str());
        let namespace =
            self.namespace.as_ref().map(|namespace| String::from_utf8_lossy(namespace.as_bytes()));
        part("namespace", &namespace.unwrap_or_default());
        match &self.login {
            Login::AppRole { role_id, .. } => part("role_id", role_id),
            Login::Jwt { role, jwt } => {
                part("role", role);
                jwt.identify_as("jwt", part);
            }
        }
        if self.transport.is_configured() {
            part(UNNAMED, "`http`");
        }
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        match &self.login {
            Login::AppRole { role_id, secret_id } => {
                part(role_id.as_bytes());
                if let Some(secret) = secret_id {
                    secret.identify(part);
                }
            }
            Login::Jwt { jwt, .. } => jwt.credential(part),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("url", &self.login_at.shown()).finish_non_exhaustive()
    }
}

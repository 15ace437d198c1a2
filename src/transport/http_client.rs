//! The HTTP clients. This crate builds them, so that no setting can remove the protection of the credentials.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{ClientBuilder, Proxy, Url};
#[cfg(feature = "oauth2")]
use zeroize::Zeroizing;

use crate::error::{BuildError, SourceError};
use crate::host::Host;
use crate::panics::contain;
use crate::secret::Secret;
#[cfg(feature = "oauth2")]
use crate::secret::files::FromFiles;

use super::default_headers::DefaultHeaders;
use super::endpoint::Endpoint;
use super::failure;
use super::identity::Identity;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A user's change to the builder of the HTTP client.
pub(crate) type Configure = Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>;

/// The user's settings of the HTTP client. `None` is the default.
#[derive(Clone, Default)]
pub(crate) struct HttpSettings {
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) proxy: Option<Secret>,
    pub(crate) configure: Option<Configure>,
}

impl HttpSettings {
    fn is_default(&self) -> bool {
        self.connect_timeout.is_none() && self.proxy.is_none() && self.configure.is_none()
    }
}

/// An HTTP client. All clones are the same client.
#[derive(Clone)]
pub(crate) enum HttpClient {
    Fixed(Arc<Clients>),
    /// With a certificate in files. A new certificate needs a new client.
    #[cfg(feature = "oauth2")]
    Files(Arc<FromFiles<Clients>>),
}

/// Two clients, each built at its first use: one connects directly, the other may use a proxy.
pub(crate) struct Clients {
    settings: HttpSettings,
    identity: Option<Identity>,
    direct: OnceLock<Result<Built, String>>,
    proxied: OnceLock<Result<Built, String>>,
}

/// A client, and the headers that it adds by itself.
#[derive(Clone)]
pub(super) struct Built {
    pub(super) client: reqwest::Client,
    pub(super) headers: DefaultHeaders,
}

impl HttpClient {
    /// All sources of a process share one client, unless their settings require another.
    pub(crate) fn new(settings: HttpSettings) -> Result<Self, BuildError> {
        static SHARED: OnceLock<Arc<Clients>> = OnceLock::new();
        settings.check()?;
        if settings.is_default() {
            return Ok(Self::Fixed(Arc::clone(
                SHARED.get_or_init(|| Arc::new(Clients::new(settings, None))),
            )));
        }
        Ok(Self::Fixed(Arc::new(Clients::new(settings, None))))
    }

    /// A client that presents a certificate (RFC 8705). `pem` is the certificate, its chain, and the private key.
    #[cfg(feature = "oauth2")]
    pub(crate) fn with_certificate(settings: HttpSettings, pem: &[u8]) -> Result<Self, BuildError> {
        settings.check()?;
        let clients = with_identity("certificate", settings, &[Zeroizing::new(pem.to_vec())])?;
        Ok(Self::Fixed(Arc::new(clients)))
    }

    /// The same with files that may change.
    #[cfg(feature = "oauth2")]
    pub(crate) fn with_certificate_files(
        settings: HttpSettings,
        paths: Vec<(&'static str, std::path::PathBuf)>,
    ) -> Result<Self, BuildError> {
        settings.check()?;
        let field = paths.first().map_or("certificate", |(field, _)| *field);
        let make = move |parts: &[Zeroizing<Vec<u8>>]| with_identity(field, settings.clone(), parts);
        FromFiles::new(paths, make).map(Self::Files)
    }

    /// Builds the client for this address, if it has not been built.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), BuildError> {
        let clients = match self {
            Self::Fixed(clients) => Arc::clone(clients),
            #[cfg(feature = "oauth2")]
            Self::Files(files) => files.last(),
        };
        clients.client(endpoint.url()).map(|_| ()).map_err(|what| BuildError::new("http", what))
    }

    // Only the read of files is awaited.
    #[cfg_attr(not(feature = "oauth2"), allow(clippy::unused_async))]
    pub(super) async fn client(&self, url: &Url) -> Result<Built, SourceError> {
        let clients = match self {
            Self::Fixed(clients) => Arc::clone(clients),
            #[cfg(feature = "oauth2")]
            Self::Files(files) => files.read().await,
        };
        clients.client(url).map_err(|what| SourceError::terminal(format!("`http` {what}")))
    }

    /// Whether a closure of the user's adds something to a request.
    pub(crate) fn is_configured(&self) -> bool {
        match self {
            Self::Fixed(clients) => clients.settings.configure.is_some(),
            #[cfg(feature = "oauth2")]
            Self::Files(files) => files.last().settings.configure.is_some(),
        }
    }
}

impl HttpSettings {
    fn check(&self) -> Result<(), BuildError> {
        super::refuse_zero("connect_timeout", self.connect_timeout.unwrap_or(CONNECT_TIMEOUT))?;
        check_provider()?;
        match &self.proxy {
            // No error quotes the address, because it may contain a password.
            Some(url) if !is_proxy(url.expose()) => {
                Err(BuildError::new("proxy", "is not a URL like \"http://proxy.example.com:3128\""))
            }
            _ => Ok(()),
        }
    }
}

/// Reqwest itself treats an address with an unknown scheme as the name of a host: `ftp://proxy` as the host `ftp`.
fn is_proxy(text: &str) -> bool {
    let has_scheme = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    Url::parse(text).is_ok_and(|url| has_scheme(&url) && url.has_host()) && Proxy::all(text).is_ok()
}

const NO_PROVIDER: &str = "needs a provider of cryptography for rustls, and the program has chosen none: call \
                           `install_default()` of one when it starts, such as \
                           `rustls::crypto::ring::default_provider().install_default()`, or turn on tokenflight's \
                           feature `rustls`";

/// If reqwest has no provider of cryptography of its own and the process has chosen none, reqwest panics.
fn check_provider() -> Result<(), BuildError> {
    #[cfg(all(feature = "rustls-no-provider", not(any(feature = "rustls", feature = "native-tls"))))]
    let is_missing = rustls::crypto::CryptoProvider::get_default().is_none();
    #[cfg(not(all(feature = "rustls-no-provider", not(any(feature = "rustls", feature = "native-tls")))))]
    let is_missing = false;
    if is_missing {
        return Err(BuildError::new("http", NO_PROVIDER));
    }
    Ok(())
}

#[cfg(feature = "oauth2")]
fn with_identity(
    field: &'static str,
    settings: HttpSettings,
    parts: &[Zeroizing<Vec<u8>>],
) -> Result<Clients, BuildError> {
    let refused = |what| BuildError::new(field, what);
    let mut pem = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum()));
    for part in parts {
        pem.extend_from_slice(part);
        pem.push(b'\n');
    }
    let clients = Clients::new(settings, Some(Identity::parse(&pem).map_err(refused)?));
    // Only the client itself checks whether certificate and key belong together.
    clients.get(Route::Direct).map_err(refused)?;
    Ok(clients)
}

/// The route of a request.
#[derive(Clone, Copy)]
enum Route {
    Direct,
    Proxied,
}

impl Clients {
    fn new(settings: HttpSettings, identity: Option<Identity>) -> Self {
        Self { settings, identity, direct: OnceLock::new(), proxied: OnceLock::new() }
    }

    /// A request in clear, or to this machine or its metadata server, uses no proxy.
    fn client(&self, url: &Url) -> Result<Built, String> {
        let host = Host::parse(url.host_str().unwrap_or_default());
        let is_public = !host.is_loopback() && !host.is_link_local();
        let may_be_proxied = is_public && url.scheme() == "https";
        self.get(if may_be_proxied { Route::Proxied } else { Route::Direct })
    }

    fn get(&self, route: Route) -> Result<Built, String> {
        let place = match route {
            Route::Direct => &self.direct,
            Route::Proxied => &self.proxied,
        };
        place.get_or_init(|| self.build(route)).clone()
    }

    fn build(&self, route: Route) -> Result<Built, String> {
        let settings = &self.settings;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tokenflight/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
        if let Some(configure) = &settings.configure {
            builder = configure(builder);
        }
        if let (Route::Proxied, Some(proxy)) = (route, &settings.proxy) {
            let proxy = Proxy::all(proxy.expose());
            builder = builder.proxy(proxy.map_err(|_| "has a `proxy` that is not a URL".to_owned())?);
        }
        if let Some(identity) = &self.identity {
            builder = identity.add_to(builder);
        }
        // These come after the user's settings, so that no user setting overrides them.
        builder = builder.redirect(reqwest::redirect::Policy::none()).referer(false);
        // Token requests are rare: a kept connection would be dead at its next use. On a kept connection a failure before the
        // sending of a one-time credential could not be told from one after it.
        builder = builder.pool_max_idle_per_host(0);
        if matches!(route, Route::Direct) {
            builder = builder.no_proxy();
        }
        // It panics if the user's closure chooses rustls, and there is no provider of cryptography.
        let client = contain(|| builder.build()).ok_or_else(|| format!("cannot be built: {NO_PROVIDER}"))?;
        let client = client.map_err(|error| format!("cannot be built ({})", failure::root_cause(&error)))?;
        let headers = match &settings.configure {
            Some(_) => DefaultHeaders::of(&client),
            None => DefaultHeaders::none(),
        };
        Ok(Built { client, headers })
    }
}

/// Without the clients: their own `Debug` shows the headers that they add to each request.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

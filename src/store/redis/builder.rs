//! The settings of the store in Redis, and the checks before any connection.

use std::error::Error as StdError;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::redis::RedisError;

use super::address::Address;
use super::credentials::{Login, Origin, Provider, RedisCredentials};
use super::link::Link;
use super::route::Route;
use super::scripts::Scripts;
use super::{Inner, RedisStore};
use crate::duration;
use crate::error::BuildError;
use crate::secret::Secret;
use crate::secret::place::SecretPlace;
use crate::settings::settings;

settings! {
    /// The settings of a [`RedisStore`], from code or by serde from a file, with the names that the setters have.
    /// In a file `url` may also be `{ file = "path" }` or `{ env = "NAME" }`, because it may contain a password. Both are
    /// read when the store is built.
    ///
    /// ```
    /// use tokenflight::store::RedisStoreBuilder;
    ///
    /// let settings = r#"{ "url": "redis+cluster://:s3cret@one:7000,two:7000", "timeout": "500ms", "allow_plaintext": true }"#;
    /// let builder: RedisStoreBuilder = serde_json::from_str(settings)?;
    /// assert!(!format!("{builder:?}").contains("s3cret"));
    /// let store = builder.build()?;
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone, Debug)]
    #[must_use = "it does nothing until it is built"]
    pub struct RedisStoreBuilder {
        url: SecretPlace,
        #[serde(default = "default::prefix")]
        prefix: String,
        #[serde(default = "default::timeout", deserialize_with = "duration::duration")]
        timeout: Duration,
        #[cfg_attr(any(feature = "rustls", feature = "rustls-no-provider"), serde(default))]
        #[cfg_attr(not(any(feature = "rustls", feature = "rustls-no-provider")), serde(skip))]
        ca: Option<String>,
        #[serde(default)]
        allow_plaintext: bool,
        #[serde(default)]
        password_file: Option<PathBuf>,
        #[serde(skip)]
        credentials: Option<Provider>,
    }
}

mod default {
    use super::Duration;

    pub(super) fn prefix() -> String {
        "tokenflight".into()
    }

    pub(super) fn timeout() -> Duration {
        Duration::from_millis(900)
    }
}

impl RedisStore {
    /// Begins with a URL. Use `rediss` instead of `redis` for TLS:
    ///
    /// - one server: `redis://user:password@host:6379/0`, or `redis+unix:///path`;
    /// - a cluster, by some of its nodes: `redis+cluster://user:password@host:7000,host:7001`;
    /// - the master that sentinels watch: `redis+sentinel://user:password@host:26379,host:26379/mymaster/0`, and
    ///   after it `?sentinel_username=…&sentinel_password=…` if the sentinels have their own login.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: SecretPlace::Value(Secret::new(url)),
            prefix: default::prefix(),
            timeout: default::timeout(),
            ca: None,
            allow_plaintext: false,
            password_file: None,
            credentials: None,
        }
    }
}

impl RedisStoreBuilder {
    /// The prefix of all keys and channels. Default: `tokenflight`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The time limit of an operation. If there is no answer after half of it, the connection is closed, because a
    /// load balancer may have dropped it. Then the operation is tried once more on a new connection, in the other
    /// half. Keep this just below the source's `store_timeout`. Default 900 ms.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// The trusted certificates for `rediss://`, in PEM, instead of the system's. Default: the system's.
    #[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        // PEM is ASCII. Other bytes are only between the certificates.
        self.ca = Some(String::from_utf8_lossy(&pem.into()).into_owned());
        self
    }

    /// The login of the servers, which is requested for each new connection: a password that rotates, or a token in
    /// its place. If Redis refuses the login (WRONGPASS), or a working connection loses it (NOAUTH), the provider
    /// is called again, and the operation is tried once more on a new connection. The provider's time counts
    /// against [`timeout`](Self::timeout). The login of sentinels is always the one in the URL. Default: the
    /// password in the URL.
    ///
    /// ```
    /// use std::io;
    /// use tokenflight::store::{RedisCredentials, RedisStore};
    ///
    /// async fn password_of_today() -> io::Result<RedisCredentials> {
    ///     Ok(RedisCredentials::new("from your vault").username("orders"))
    /// }
    ///
    /// let store = RedisStore::builder("redis://localhost").credentials(password_of_today).build()?;
    /// # let _ = store;
    /// # Ok::<(), tokenflight::BuildError>(())
    /// ```
    pub fn credentials<F, E>(mut self, provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<RedisCredentials, E>> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.credentials = Some(Provider::new(provider));
        self
    }

    /// A file with the password of the servers. It is read for each new connection, like
    /// [`credentials`](Self::credentials). A line break at its end is not part of the password. The username is the
    /// one in the URL. Default: none.
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_file = Some(path.into());
        self
    }

    /// Allows a password in clear to a host that is not this machine: `redis://` with a password. Every host on the
    /// route can read the password. Default: `build` refuses such a URL.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Checks the settings. It does not connect yet.
    ///
    /// # Errors
    /// An invalid URL, or one of a kind that needs a missing feature; a password that would cross the network in
    /// clear; more than one of a password in the URL, [`credentials`](Self::credentials) and
    /// [`password_file`](Self::password_file); [`ca`](Self::ca) without TLS; TLS without a provider of cryptography
    /// that the program has chosen for rustls; a prefix with `{` or `}`.
    pub fn build(self) -> Result<RedisStore, BuildError> {
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(BuildError::new("prefix", "must not be empty, nor have `{` or `}` in it"));
        }
        if self.timeout.is_zero() {
            return Err(BuildError::new("timeout", "must be longer than zero"));
        }
        let url = self.url.read("url")?;
        let address = Address::parse(url.expose()).map_err(|wrong| BuildError::new("url", wrong))?;
        if self.ca.is_some() && !address.is_tls() {
            return Err(BuildError::new("ca", "has no effect without TLS: begin the URL with `rediss`"));
        }
        let login = Login::new(self.origin(&address)?, &address);
        if address.tells_password(login.is_asked()) && !self.allow_plaintext {
            let message = "would send the password in clear over the network: begin it with `rediss`, or say \
                           `allow_plaintext`";
            return Err(BuildError::new("url", message));
        }
        #[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
        if address.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            let message = "needs TLS, and the program has not chosen who does the cryptography: call \
                           `rustls::crypto::aws_lc_rs::default_provider().install_default()` when it starts";
            return Err(BuildError::new("url", message));
        }
        let wrong =
            |error: RedisError| BuildError::new("url", format!("cannot be used: {}", error.category()));
        let ca = self.ca.map(String::into_bytes);
        let route = Route::new(address, login, ca, self.allow_plaintext).map_err(wrong)?;
        let link = Link::new(route, self.timeout);
        Ok(RedisStore(Arc::new(Inner { link, scripts: Scripts::new(), prefix: self.prefix })))
    }

    fn origin(&self, address: &Address) -> Result<Origin, BuildError> {
        let both = |field, other: &str| {
            Err(BuildError::new(field, format!("and {other} contradict each other: take one of them away")))
        };
        match (&self.credentials, &self.password_file) {
            (Some(_), Some(_)) => both("password_file", "`credentials`"),
            (Some(_), None) if address.has_password() => both("credentials", "the password in the URL"),
            (None, Some(_)) if address.has_password() => both("password_file", "the password in the URL"),
            (Some(provider), None) => Ok(Origin::Provider(provider.clone())),
            (None, Some(path)) => Ok(Origin::File(path.clone())),
            (None, None) => Ok(Origin::Url),
        }
    }
}

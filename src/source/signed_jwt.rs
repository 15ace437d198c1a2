//! A JWT that this process signs, as a source (RFC 7519).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::oauth::{Algorithm, Claims, Header, KeyOrigin, KeySource, PrivateKey, SigningKey};
use crate::secret::path::shown;
use crate::settings::{OnlyTable, settings, some_text_or_number, text_or_number};
use crate::source::{FetchContext, TokenSource};
use crate::token::Token;

const LIFETIME: Duration = Duration::from_secs(300);

/// JWTs that this process signs, each with its own `jti`: the assertion of a service account (RFC 7523 section 3),
/// or the login of a GitHub App.
///
/// ```
/// use std::time::Duration;
/// use tokenflight::oauth::PrivateKey;
/// use tokenflight::source::SignedJwt;
/// use tokenflight::{FetchContext, Reason, TokenSource};
///
/// # actix_rt::System::new().block_on(async {
/// # let pem = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/oauth/jws/tests/keys/p256.pem"));
/// let source = SignedJwt::builder(PrivateKey::from_pem(pem)?, "12345", "https://api.github.com")
///     .backdate(Duration::from_secs(60))
///     .lifetime(Duration::from_secs(540))
///     .build()?;
/// let token = source.fetch(FetchContext::new(Reason::First)).await?;
/// assert_eq!(token.secret().split('.').count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct SignedJwt(Arc<Inner>);

struct Inner {
    key: KeySource,
    issuer: String,
    audience: String,
    subject: String,
    lifetime: Duration,
    backdate: Duration,
    claims: Map<String, Value>,
}

settings! {
    /// The settings of [`SignedJwt`], from code or by serde from a file. In a file `issuer`, `audience`, and
    /// `private_key` or `private_key_file` are required. `private_key` is the text in PEM, `{ file = "path" }` or
    /// `{ env = "NAME" }`. `claims` is a table (setter `claim`). Durations are written like `"5m"`.
    ///
    /// ```
    /// use tokenflight::source::SourceSettings;
    ///
    /// let settings = r#"{
    ///     "kind": "jwt_bearer", "token_url": "https://oauth2.example.com/token", "client_id": "orders", "auth_method": "none",
    ///     "assertion": {
    ///         "kind": "signed_jwt", "private_key": { "env": "ACCOUNT_KEY" },
    ///         "issuer": "orders@project.example.com", "audience": "https://oauth2.example.com/token",
    ///         "claims": { "scope": "orders.read" }
    ///     }
    /// }"#;
    /// let error = serde_json::from_str::<SourceSettings>(settings)?.build().unwrap_err();
    /// assert!(error.to_string().contains("ACCOUNT_KEY"), "the variable is not set here: {error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct SignedJwtBuilder {
        #[serde(default)]
        private_key: Option<KeyOrigin>,
        #[serde(default)]
        private_key_file: Option<PathBuf>,
        #[serde(default, deserialize_with = "some_text_or_number")]
        key_id: Option<String>,
        #[serde(default)]
        algorithm: Option<Algorithm>,
        #[serde(default)]
        key_certificate_file: Option<PathBuf>,
        #[serde(deserialize_with = "text_or_number")]
        issuer: String,
        #[serde(deserialize_with = "text_or_number")]
        audience: String,
        #[serde(default, deserialize_with = "some_text_or_number")]
        subject: Option<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        lifetime: Option<Duration>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        backdate: Option<Duration>,
        #[serde(default, deserialize_with = "claims")]
        claims: Map<String, Value>,
    }
}

/// A table. A wrong value in its place is not quoted.
fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Deserialize::deserialize(OnlyTable(deserializer))
}

impl SignedJwt {
    /// Begins with the key, the issuer (`iss`) and the audience (`aud`).
    pub fn builder(
        key: PrivateKey,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> SignedJwtBuilder {
        let private_key = Some(KeyOrigin::Key(key));
        SignedJwtBuilder { private_key, ..SignedJwtBuilder::new(issuer.into(), audience.into()) }
    }

    /// The same with a key in a PEM file, which is read again for each JWT. While it cannot be read, the last key
    /// stays in use.
    pub fn with_key_file(
        path: impl Into<PathBuf>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> SignedJwtBuilder {
        let private_key_file = Some(path.into());
        SignedJwtBuilder { private_key_file, ..SignedJwtBuilder::new(issuer.into(), audience.into()) }
    }
}

impl SignedJwtBuilder {
    fn new(issuer: String, audience: String) -> Self {
        Self {
            private_key: None,
            private_key_file: None,
            key_id: None,
            algorithm: None,
            key_certificate_file: None,
            issuer,
            audience,
            subject: None,
            lifetime: None,
            backdate: None,
            claims: Map::new(),
        }
    }

    /// The key in this PEM file, in place of the present key: see [`with_key_file`](SignedJwt::with_key_file).
    pub fn private_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        (self.private_key, self.private_key_file) = (None, Some(path.into()));
        self
    }

    /// The `kid` of the key. Default: the one from [`PrivateKey::with_kid`], if there is one.
    pub fn key_id(mut self, kid: impl Into<String>) -> Self {
        self.key_id = Some(kid.into());
        self
    }

    /// The algorithm of the key. Default: the key's own.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// The certificate of the key, in PEM, from which `x5t#S256` is made (RFC 7515 section 4.1.8). Default: none, or the
    /// one from [`PrivateKey::with_certificate`].
    pub fn key_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_certificate_file = Some(path.into());
        self
    }

    /// The subject of the JWT: `sub`. Default: the issuer.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The lifetime of a JWT, from its `iat`. Default 5 min; at most 24 h.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// How far `iat` is in the past, for servers whose clock is slow. Default: zero.
    pub fn backdate(mut self, time: Duration) -> Self {
        self.backdate = Some(time);
        self
    }

    /// Adds a claim, such as `scope`. Claims that have a setting are refused. Default: none.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Checks the settings, and reads the key's file.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<SignedJwt, BuildError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let Self { private_key, private_key_file, key_id, algorithm, issuer, audience, subject, .. } = self;
        for (field, text) in [("issuer", &issuer), ("audience", &audience)] {
            if text.is_empty() {
                return Err(BuildError::new(field, "is empty"));
            }
        }
        let lifetime = self.lifetime.unwrap_or(LIFETIME);
        let backdate = self.backdate.unwrap_or_default();
        // A JWT counts whole seconds.
        if lifetime < backdate.saturating_add(Duration::from_secs(1)) || lifetime > DAY {
            return Err(BuildError::new(
                "lifetime",
                "has to be longer than `backdate` by a second or more, and at most 24 hours",
            ));
        }
        let claims = self.claims;
        if let Some(name) =
            ["iss", "sub", "aud", "iat", "exp", "jti"].iter().find(|name| claims.contains_key(**name))
        {
            return Err(BuildError::new(
                "claim",
                format!("cannot set `{name}`: it is set for each JWT, or by a setting"),
            ));
        }
        let finish = move |key: PrivateKey| {
            let key = match &key_id {
                Some(kid) => key.with_kid(kid.clone()),
                None => key,
            };
            algorithm.map_or(Ok(key.clone()), |algorithm| key.with_algorithm(algorithm))
        };
        let key = KeySource::open(private_key, private_key_file, self.key_certificate_file, finish)?;
        let key =
            key.ok_or_else(|| BuildError::new("private_key", "is missing: give it, or `private_key_file`"))?;
        let subject = subject.unwrap_or_else(|| issuer.clone());
        Ok(SignedJwt(Arc::new(Inner { key, issuer, audience, subject, lifetime, backdate, claims })))
    }
}

impl TokenSource for SignedJwt {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let Self(settings) = self;
        let wall = cx.clock().now().wall;
        let claims = Claims {
            issuer: &settings.issuer,
            subject: Some(&settings.subject),
            audience: &settings.audience,
            now: wall.checked_sub(settings.backdate).unwrap_or(wall),
            lifetime: settings.lifetime,
            more: &settings.claims,
        };
        let key = SigningKey::Private(settings.key.read().await);
        let jwt = key.sign(Header { typ: Some("JWT"), ..Header::default() }, &claims.to_json()?)?;
        Ok(Token::new(jwt.as_str()).with_lifetime(settings.lifetime.saturating_sub(settings.backdate)))
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let Self(settings) = self;
        part("iss", &settings.issuer);
        part("sub", &settings.subject);
        part("aud", &settings.audience);
        settings.key.identify(part);
        part("lifetime", &settings.lifetime.as_secs().to_string());
        part("backdate", &settings.backdate.as_secs().to_string());
        settings.claims.iter().for_each(|(name, value)| part(&format!("claim.{name}"), &value.to_string()));
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(self.0.key.last().thumbprint().as_bytes());
    }
}

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedJwt")
            .field("key", &self.0.key.last())
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedJwtBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedJwtBuilder")
            .field("private_key", &self.private_key)
            .field("private_key_file", &self.private_key_file.as_deref().map(shown))
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

//! A JWT that this process signs, as a source (RFC 7519).

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{BuildError, SourceError};
use crate::oauth::{Claims, Header, PrivateKey, SigningKey};
use crate::source::{FetchContext, TokenSource};
use crate::token::Token;

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
pub struct SignedJwt(SignedJwtBuilder);

/// The settings of [`SignedJwt`].
#[derive(Clone)]
#[must_use = "it does nothing until it is built"]
pub struct SignedJwtBuilder {
    key: PrivateKey,
    issuer: String,
    audience: String,
    subject: Option<String>,
    lifetime: Duration,
    backdate: Duration,
    claims: Map<String, Value>,
}

impl SignedJwt {
    /// Begins with the key, the issuer (`iss`) and the audience (`aud`).
    pub fn builder(
        key: PrivateKey,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> SignedJwtBuilder {
        let issuer = issuer.into();
        SignedJwtBuilder {
            key,
            subject: Some(issuer.clone()),
            issuer,
            audience: audience.into(),
            lifetime: Duration::from_secs(300),
            backdate: Duration::ZERO,
            claims: Map::new(),
        }
    }
}

impl SignedJwtBuilder {
    /// The subject of the JWT: `sub`. Default: the issuer.
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The lifetime of a JWT, from its `iat`. Default 5 min; at most 24 h.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How far `iat` is in the past, for servers whose clock is slow. Default: zero.
    pub fn backdate(mut self, time: Duration) -> Self {
        self.backdate = time;
        self
    }

    /// Adds a claim, such as `scope`. Claims that have a setting are refused. Default: none.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<SignedJwt, BuildError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        for (field, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if text.is_empty() {
                return Err(BuildError::new(field, "is empty"));
            }
        }
        // A JWT counts whole seconds.
        if self.lifetime < self.backdate.saturating_add(Duration::from_secs(1)) || self.lifetime > DAY {
            return Err(BuildError::new(
                "lifetime",
                "has to be longer than `backdate` by a second or more, and at most 24 hours",
            ));
        }
        match ["iss", "sub", "aud", "iat", "exp", "jti"].iter().find(|name| self.claims.contains_key(**name))
        {
            Some(name) => Err(BuildError::new(
                "claim",
                format!("cannot set `{name}`: it is set for each JWT, or by a setting"),
            )),
            None => Ok(SignedJwt(self)),
        }
    }
}

impl TokenSource for SignedJwt {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let Self(settings) = self;
        let wall = cx.clock().now().wall;
        let claims = Claims {
            issuer: &settings.issuer,
            subject: settings.subject.as_deref(),
            audience: &settings.audience,
            now: wall.checked_sub(settings.backdate).unwrap_or(wall),
            lifetime: settings.lifetime,
            more: &settings.claims,
        };
        let key = SigningKey::Private(settings.key.clone());
        let jwt = key.sign(Header { typ: Some("JWT"), ..Header::default() }, &claims.to_json()?)?;
        Ok(Token::new(jwt.as_str()).with_lifetime(settings.lifetime.saturating_sub(settings.backdate)))
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let Self(settings) = self;
        part("iss", &settings.issuer);
        part("sub", settings.subject.as_deref().unwrap_or_default());
        part("aud", &settings.audience);
        part("key", &settings.key.thumbprint());
        part("lifetime", &settings.lifetime.as_secs().to_string());
        part("backdate", &settings.backdate.as_secs().to_string());
        settings.claims.iter().for_each(|(name, value)| part(&format!("claim.{name}"), &value.to_string()));
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(self.0.key.thumbprint().as_bytes());
    }
}

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedJwt")
            .field("key", &self.0.key)
            .field("issuer", &self.0.issuer)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedJwtBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedJwtBuilder")
            .field("key", &self.key)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

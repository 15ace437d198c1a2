//! Assertions: JWTs that prove a client's identity (RFC 7523 section 3, and the draft rfc7523bis).

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::error::SourceError;

use super::jws::Algorithm;

/// The recipient of an assertion: its `aud`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Audience {
    /// The issuer, as the draft rfc7523bis requires. If the issuer is not known, because the client was built from
    /// a token URL: the token URL.
    #[default]
    Issuer,
    /// The URL of the token endpoint.
    TokenUrl,
    /// This text.
    Custom(String),
}

impl From<&str> for Audience {
    fn from(text: &str) -> Self {
        Self::Custom(text.to_owned())
    }
}

impl From<String> for Audience {
    fn from(text: String) -> Self {
        Self::Custom(text)
    }
}

/// In a settings file: `"issuer"`, `"token_url"`, or any other text.
impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.as_str() {
            "issuer" => Self::Issuer,
            "token_url" => Self::TokenUrl,
            _ => Self::Custom(text),
        })
    }
}

/// The requirements of well-known servers on an assertion.
///
/// | preset | `aud` | `alg` of an RSA key | `typ` | more |
/// |---|---|---|---|---|
/// | (none) | the issuer | `RS256` | `client-authentication+jwt` | |
/// | `Entra` | token URL | `PS256` | `JWT` | `x5t#S256` is required, and `nbf` is sent |
/// | `Okta` | token URL | `RS256` | `JWT` | |
/// | `Auth0` | the origin of the token URL, with a slash at the end | `RS256` | `JWT` | a client id of at most 64 characters |
/// | `Keycloak` | the issuer | `RS256` | `JWT` | |
/// | `Google` | token URL | `RS256` | `JWT` | |
///
/// Each assertion lasts 60 s, which all of these servers accept, and has its own `jti`: a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Preset {
    /// Microsoft Entra ID.
    Entra,
    /// Okta.
    Okta,
    /// Auth0.
    Auth0,
    /// Keycloak.
    Keycloak,
    /// Google.
    Google,
}

impl Preset {
    /// The algorithm for an RSA key.
    pub(super) fn rsa(self) -> Algorithm {
        match self {
            Self::Entra => Algorithm::Ps256,
            Self::Okta | Self::Auth0 | Self::Keycloak | Self::Google => Algorithm::Rs256,
        }
    }

    pub(super) fn needs_certificate(self) -> bool {
        self == Self::Entra
    }

    /// The longest client id, in characters.
    pub(super) fn longest_id(self) -> Option<usize> {
        (self == Self::Auth0).then_some(64)
    }
}

/// The lifetime of an assertion. All servers accept it.
const LIFETIME: Duration = Duration::from_secs(60);

/// The way in which a client's assertions are made.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) audience: Option<Audience>,
    pub(super) preset: Option<Preset>,
}

impl Rules {
    pub(super) fn typ(&self) -> &'static str {
        if self.preset.is_some() { "JWT" } else { "client-authentication+jwt" }
    }

    fn audience(&self, issuer: Option<&str>, token_url: &reqwest::Url) -> String {
        let by_url = || token_url.as_str().to_owned();
        match (&self.audience, self.preset) {
            (Some(Audience::Custom(text)), _) => text.clone(),
            (Some(Audience::Issuer), _) | (None, None | Some(Preset::Keycloak)) => {
                issuer.map_or_else(by_url, Into::into)
            }
            (Some(Audience::TokenUrl), _) | (None, Some(Preset::Entra | Preset::Okta | Preset::Google)) => {
                by_url()
            }
            (None, Some(Preset::Auth0)) => format!("{}/", token_url.origin().ascii_serialization()),
        }
    }

    /// The claims of one assertion. None of them is used twice.
    pub(super) fn claims(
        &self,
        client_id: &str,
        issuer: Option<&str>,
        token_url: &reqwest::Url,
        now: SystemTime,
    ) -> Result<Value, SourceError> {
        let audience = self.audience(issuer, token_url);
        let mut more = Map::new();
        if self.preset == Some(Preset::Entra) {
            more.insert("nbf".to_owned(), json!(unix(now)));
        }
        Claims {
            issuer: client_id,
            subject: Some(client_id),
            audience: &audience,
            now,
            lifetime: LIFETIME,
            more: &more,
        }
        .to_json()
    }
}

/// The claims of a JWT that this process signs (RFC 7519 section 4.1).
pub(crate) struct Claims<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: Option<&'a str>,
    pub(crate) audience: &'a str,
    pub(crate) now: SystemTime,
    pub(crate) lifetime: Duration,
    pub(crate) more: &'a Map<String, Value>,
}

impl Claims<'_> {
    /// With a new `jti`.
    pub(crate) fn to_json(&self) -> Result<Value, SourceError> {
        let issued = unix(self.now);
        let mut claims = self.more.clone();
        claims.insert("iss".to_owned(), json!(self.issuer));
        claims.insert("aud".to_owned(), json!(self.audience));
        claims.insert("iat".to_owned(), json!(issued));
        claims.insert("exp".to_owned(), json!(issued + self.lifetime.as_secs()));
        claims.insert("jti".to_owned(), json!(uuid()?));
        if let Some(subject) = self.subject {
            claims.insert("sub".to_owned(), json!(subject));
        }
        Ok(Value::Object(claims))
    }
}

pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// RFC 9562 section 5.4: random, except for six bits.
fn uuid() -> Result<String, SourceError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SourceError::transient("the system has no random bytes"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_what_the_server_asks_for() {
        let url = reqwest::Url::parse("https://tenant.example/oauth2/token").unwrap();
        let aud =
            |audience: Option<Audience>, preset, issuer| Rules { audience, preset }.audience(issuer, &url);
        let issuer = Some("https://tenant.example/realm");
        for (audience, preset, issuer, expected) in [
            (None, None, issuer, "https://tenant.example/realm"),
            (None, None, None, url.as_str()),
            (Some(Audience::TokenUrl), None, issuer, url.as_str()),
            (Some("x".into()), Some(Preset::Entra), issuer, "x"),
            (None, Some(Preset::Entra), issuer, url.as_str()),
            (None, Some(Preset::Okta), issuer, url.as_str()),
            (None, Some(Preset::Google), issuer, url.as_str()),
            (None, Some(Preset::Keycloak), issuer, "https://tenant.example/realm"),
            (None, Some(Preset::Auth0), issuer, "https://tenant.example/"),
        ] {
            assert_eq!(aud(audience, preset, issuer), expected, "{preset:?}");
        }
    }

    #[test]
    fn each_assertion_has_an_id_of_its_own() {
        let url = reqwest::Url::parse("https://auth.example/token").unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let claims = || Rules::default().claims("app", None, &url, now).unwrap();
        let (one, other) = (claims(), claims());
        assert_ne!(one["jti"], other["jti"]);
        let id = one["jti"].as_str().unwrap();
        assert!(id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        assert_eq!((&one["iat"], &one["exp"]), (&json!(1_000), &json!(1_060)));
        assert_eq!((&one["iss"], &one["sub"]), (&json!("app"), &json!("app")));
    }
}

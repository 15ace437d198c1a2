//! The settings of a [`BearerAuth`], from code or from a file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::origins::Origins;
use super::{BearerAuth, Tokens};
use crate::error::BuildError;
use crate::settings::{one_or_more, settings};

settings! {
    #![serde(default)]

    /// The settings of a [`BearerAuth`] in a file, with the names of the setters of [`BearerAuthBuilder`]. Unknown
    /// keys are refused.
    ///
    /// `allow` is an origin or a list of origins, and `kept_body` a number of bytes. The values are checked when
    /// the [builder](Self::builder) builds.
    ///
    /// ```
    /// use tokenflight::middleware::BearerAuthSettings;
    /// # use tokenflight::{Token, TokenActor, source_fn};
    ///
    /// # actix_rt::System::new().block_on(async {
    /// # let tokens = TokenActor::builder(source_fn(|_cx| async { Ok(Token::new("abc")) })).start()?;
    /// let file = r#"{ "allow": ["https://api.example.com", "http://10.0.0.7:8080"], "allow_http": true }"#;
    /// let settings: BearerAuthSettings = serde_json::from_str(file)?;
    /// let api = settings.builder(&tokens).build()?;
    ///
    /// assert!(serde_json::from_str::<BearerAuthSettings>(r#"{ "alow": [] }"#).is_err());
    /// # drop(api);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct BearerAuthSettings {
        #[serde(deserialize_with = "allow")]
        allow: Vec<Written>,
        #[serde(deserialize_with = "relative_to")]
        relative_to: Option<Written>,
        #[serde(deserialize_with = "allow_http")]
        allow_http: bool,
        #[serde(deserialize_with = "kept_body")]
        kept_body: Option<usize>,
    }
}

/// An origin as the user has written it. If it contains a user, it may contain a password. Therefore it is not
/// shown.
#[derive(Clone, PartialEq, Eq)]
struct Written(String);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('@') { f.write_str("[redacted]") } else { self.0.fmt(f) }
    }
}

impl BearerAuthSettings {
    /// Continues from these settings with these tokens.
    pub fn builder(self, tokens: impl Into<Tokens>) -> BearerAuthBuilder {
        BearerAuthBuilder { tokens: tokens.into(), settings: self }
    }
}

/// The settings of a [`BearerAuth`], and its tokens.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is built"]
pub struct BearerAuthBuilder {
    tokens: Tokens,
    settings: BearerAuthSettings,
}

impl BearerAuthBuilder {
    /// Allows this origin to get the token: scheme, host, and the port if it is not the scheme's own. Call this for
    /// each origin. At least one is required.
    ///
    /// A host means only this host, without its subdomains. Write a host that is not ASCII in the form in which it
    /// is sent (`xn--...`).
    pub fn allow(mut self, origin: impl Into<String>) -> Self {
        self.settings.allow.push(Written(origin.into()));
        self
    }

    /// Requests whose URI names no origin go to this one, and may get the token. Default: they get no token.
    ///
    /// A tonic `Channel` completes the URI below all layers. Therefore give the origin to which the channel is
    /// connected.
    pub fn relative_to(mut self, origin: impl Into<String>) -> Self {
        self.settings.relative_to = Some(Written(origin.into()));
        self
    }

    /// Allows the token in clear to `http` origins on other machines. Default: refused.
    pub fn allow_http(mut self) -> Self {
        self.settings.allow_http = true;
        self
    }

    /// Keeps up to this number of bytes of a request's body while they are sent, so that the body can be sent
    /// again. A longer body is sent once. For tower only: the other clients know by themselves which body can be
    /// sent again. Default: 65,536; at most 16 MiB.
    pub fn kept_body(mut self, bytes: usize) -> Self {
        self.settings.kept_body = Some(bytes);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// No origin, or an invalid one; `http` to another machine; a limit that is too large. The error names the
    /// field.
    pub fn build(self) -> Result<BearerAuth, BuildError> {
        const LONGEST: usize = 16 * 1024 * 1024;
        const DEFAULT: usize = 64 * 1024;
        let settings = self.settings;
        let kept_body = settings.kept_body.unwrap_or(DEFAULT);
        if kept_body > LONGEST {
            return Err(BuildError::new(
                "kept_body",
                "is more than 16777216 bytes (16 MiB): each request may keep so many bytes in memory",
            ));
        }
        let allowed: Vec<_> = settings.allow.iter().map(|origin| origin.0.as_str()).collect();
        let base = settings.relative_to.as_ref().map(|origin| origin.0.as_str());
        let origins = Origins::build(&allowed, base, settings.allow_http, self.tokens.evidence())?;
        Ok(BearerAuth::new(self.tokens, origins, kept_body))
    }
}

fn allow<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Written>, D::Error> {
    let read = one_or_more(deserializer).map_err(named("allow"))?;
    Ok(read.into_iter().map(Written).collect())
}

fn relative_to<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Written>, D::Error> {
    // A wrong value in the place of a string may be a secret, and is not quoted.
    let refused = |_| D::Error::custom("`relative_to`: expected a string like \"https://api.example.com\"");
    String::deserialize(deserializer).map(Written).map(Some).map_err(refused)
}

fn allow_http<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    bool::deserialize(deserializer).map_err(named("allow_http"))
}

fn kept_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    usize::deserialize(deserializer).map(Some).map_err(named("kept_body"))
}

/// Not every format gives the place of an error.
fn named<E: Error>(field: &'static str) -> impl Fn(E) -> E {
    move |error| E::custom(format_args!("`{field}`: {error}"))
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(settings: Value) -> Result<BearerAuthSettings, String> {
        serde_json::from_value(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn each_setting_is_read_by_its_name() {
        let all = json!({
            "allow": ["https://a.example", "http://b.example"], "relative_to": "https://c.example",
            "allow_http": true, "kept_body": 1024
        });
        let all = read(all).unwrap();
        assert_eq!(
            format!("{all:?}"),
            "BearerAuthSettings { allow: [\"https://a.example\", \"http://b.example\"], \
             relative_to: Some(\"https://c.example\"), allow_http: true, kept_body: Some(1024) }"
        );
        let one = read(json!({ "allow": "https://a.example" })).unwrap();
        assert_eq!(one.allow, [Written("https://a.example".into())]);
        assert_eq!(read(json!({})).unwrap(), BearerAuthSettings::default());
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_name_and_not_quoted() {
        for (settings, named) in [
            (json!({ "allow": 4711 }), "`allow`: expected a string, or a list of strings"),
            (json!({ "allow": ["https://a.example", 4711] }), "`allow`: expected a string, or a list"),
            (json!({ "relative_to": 4711 }), "`relative_to`: expected a string"),
            (json!({ "allow_http": "s3cret" }), "`allow_http`: "),
            (json!({ "kept_body": "64 KiB" }), "`kept_body`: "),
            (json!({ "kept_body": -1 }), "`kept_body`: "),
            (json!({ "alow": [] }), "unknown field `alow`, expected one of `allow`"),
            (json!(["https://a.example"]), "expected a table of settings by name"),
        ] {
            let error = read(settings.clone()).unwrap_err();
            assert!(error.contains(named), "{settings}: {error}");
            assert!(!error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn a_user_in_an_origin_is_not_shown() {
        let settings = read(
            json!({ "allow": ["https://me:s3cret@a.example"], "relative_to": "https://s3cret@a.example" }),
        );
        let shown = format!("{:?}", settings.unwrap());
        assert!(!shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");
    }
}

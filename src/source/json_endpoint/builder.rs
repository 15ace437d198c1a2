//! The settings of a JSON endpoint, from code or from a file.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::duration;
use crate::error::BuildError;
use crate::secret::place::cut_secret;
use crate::secret::{Secret, header_of};
use crate::settings::{secret_table, secret_table_cut, settings};
use crate::source::{BoxSource, TokenSource};
use crate::token::{NO_PROOF, TokenType};
use crate::transport::{Configure, Document, Endpoint, Pointer, Redactor, Transport, form, http_setters};

use super::answer::{Ends, Shape};
use super::link::{Link, Shown};
use super::{JsonEndpoint, Made, MakeValue, hide_header};

settings! {
    /// The settings of [`JsonEndpoint`], from code or by serde from a file.
    ///
    /// In a file, `url` is required and `method` is `"GET"` by default. Durations are written like `"10s"`,
    /// `header` and `form` are tables, `body_json` is anything. A value of `header` or `form` may also be
    /// `{ file = "path" }` or `{ env = "NAME" }`, which is read with the settings. `Debug` hides the URL and all values that are
    /// sent.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct JsonEndpointBuilder {
        #[serde(default, deserialize_with = "method")]
        method: Method,
        /// The URL's query may contain a key. Therefore the URL is hidden until it has been checked.
        url: Secret,
        #[serde(default, deserialize_with = "secret_table")]
        header: BTreeMap<String, Secret>,
        #[serde(skip)]
        header_fn: Vec<(String, Arc<MakeValue>)>,
        #[serde(skip)]
        links: Vec<(String, Shown, BoxSource)>,
        #[serde(default, deserialize_with = "document")]
        body_json: Option<Document>,
        #[serde(default, deserialize_with = "pairs")]
        form: Option<Vec<(String, Secret)>>,
        #[serde(default)]
        token_pointer: Option<String>,
        #[serde(default)]
        lifetime_pointer: Option<String>,
        #[serde(default)]
        expires_at_pointer: Option<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        lifetime: Option<Duration>,
        #[serde(default, deserialize_with = "token_type")]
        token_type: TokenType,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        connect_timeout: Option<Duration>,
        #[serde(default)]
        max_body: Option<usize>,
        #[serde(default)]
        allow_http: bool,
        #[serde(default)]
        proxy: Option<Secret>,
        #[serde(skip)]
        http: Option<Configure>,
        #[serde(default)]
        transient_status: Vec<u16>,
        #[serde(default)]
        error_pointer: Option<String>,
    }
}

impl JsonEndpointBuilder {
    pub(super) fn new(method: Method, url: String) -> Self {
        Self {
            method,
            url: Secret::new(url),
            header: BTreeMap::new(),
            header_fn: Vec::new(),
            links: Vec::new(),
            body_json: None,
            form: None,
            token_pointer: None,
            lifetime_pointer: None,
            expires_at_pointer: None,
            lifetime: None,
            token_type: TokenType::default(),
            timeout: None,
            connect_timeout: None,
            max_body: None,
            allow_http: false,
            proxy: None,
            http: None,
            transient_status: Vec::new(),
            error_pointer: None,
        }
    }

    /// Adds a header. Its value is always treated as a secret. A second value for the same name, in any
    /// case, replaces the first. Default: `Accept: application/json`, and the body's `Content-Type`.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.header.retain(|known, _| !known.eq_ignore_ascii_case(&name));
        self.header.insert(name, Secret::new(value));
        self
    }

    /// Adds a header whose value is made anew for each request, such as a JWT that lasts a minute. It has priority
    /// over a [`header`](Self::header) of that name. The closure runs on the source's arbiter, so it must not
    /// block. Its error is a transient failure of the fetch, and is quoted.
    pub fn header_fn<F, E>(mut self, name: impl Into<String>, make: F) -> Self
    where
        F: Fn() -> Result<String, E> + Send + Sync + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.header_fn.push((name.into(), Arc::new(move || make().map_err(Into::into))));
        self
    }

    /// Sends the token of this source as `Authorization`, with its scheme (a chain). It has priority over a
    /// [`header`](Self::header) of that name. The [handle](crate::TokenHandle) of another actor is a source too.
    /// Then the token is fetched only when it has expired.
    pub fn authorization(mut self, source: impl TokenSource) -> Self {
        self.links.push((AUTHORIZATION.to_string(), Shown::WithScheme, BoxSource::new(source)));
        self
    }

    /// Sends the token of this source in this header, without a scheme, for example as `X-Vault-Token`.
    pub fn header_token(mut self, name: impl Into<String>, source: impl TokenSource) -> Self {
        self.links.push((name.into(), Shown::Bare, BoxSource::new(source)));
        self
    }

    /// Sends this value as JSON. Default: no body.
    pub fn body_json(mut self, body: serde_json::Value) -> Self {
        self.body_json = Some(Document::new(body));
        self
    }

    /// Sends these pairs as `application/x-www-form-urlencoded`. A line break at the end of a value is cut off with a
    /// WARN. Default: no body.
    pub fn form<N: Into<String>, V: Into<String>>(mut self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into())));
        self.form = Some(pairs.map(cut_pair).collect());
        self
    }

    /// The place of the token in the answer (RFC 6901). `""` is the answer itself. Default: `/access_token`.
    pub fn token_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.token_pointer = Some(pointer.into());
        self
    }

    /// The place of the lifetime, in seconds: a number, or a number in quotes. If the place is empty, and by
    /// default, the policy's `missing_lifetime` applies. One of the three ways to know the end.
    pub fn lifetime_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.lifetime_pointer = Some(pointer.into());
        self
    }

    /// The place of the moment of the end: RFC 3339, or Unix seconds as a number or in quotes. If the place is
    /// empty, the policy's `missing_lifetime` applies. One of the three ways to know the end.
    pub fn expires_at_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.expires_at_pointer = Some(pointer.into());
        self
    }

    /// The lifetime of each token, if the server does not state it. One of the three ways to know the end.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The scheme under which the token is sent. Default: `Bearer`. `DPoP` is refused, because this source has no key for the
    /// proof.
    pub fn token_type(mut self, kind: TokenType) -> Self {
        self.token_type = kind;
        self
    }

    /// Adds a status after which a later attempt may succeed, beside 408, 425, 429 and 5xx. Default: none.
    pub fn transient_status(mut self, status: u16) -> Self {
        self.transient_status.push(status);
        self
    }

    /// The place of the server's explanation in a refusal. Default: the usual places (`error_description`,
    /// `message`, `error.message`, `detail`, `error` and others). The text is quoted on one line, unless it
    /// contains anything that was sent, or another secret of the answer. In a success a long run of characters that is
    /// not made of words is not quoted, because it may be the token.
    pub fn error_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.error_pointer = Some(pointer.into());
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(mut self) -> Result<JsonEndpoint, BuildError> {
        let shape = self.shape()?;
        let body = self.body()?;
        let headers = self.headers()?;
        let endpoint = Endpoint::parse("url", self.url.expose())?;
        endpoint.check_plaintext(self.allow_http)?;
        let (settings, limits) = self.http_settings();
        let transport = Transport::to(&endpoint, settings, limits)?;
        let redactor = self.redactor();
        let made = self
            .header_fn
            .into_iter()
            .map(|(name, make)| Ok(Made { name: header_name("header_fn", &name)?, make }));
        let made = made.collect::<Result<_, BuildError>>()?;
        let links = self.links.into_iter();
        let links = links.map(|(name, shown, source)| {
            header_name("header_token", &name).map(|name| Link { name, shown, source })
        });
        let links = links.collect::<Result<_, BuildError>>()?;
        let method = self.method;
        Ok(JsonEndpoint { transport, endpoint, redactor, method, headers, made, links, body, shape })
    }

    fn shape(&self) -> Result<Shape, BuildError> {
        let token =
            Pointer::parse("token_pointer", self.token_pointer.as_deref().unwrap_or("/access_token"))?;
        let ends = match (&self.lifetime, &self.lifetime_pointer, &self.expires_at_pointer) {
            (None, None, None) => Ends::Unknown,
            (Some(Duration::ZERO), None, None) => {
                return Err(BuildError::new("lifetime", "is zero: every token would be expired at once"));
            }
            (Some(lifetime), None, None) => Ends::Fixed(*lifetime),
            (None, Some(pointer), None) => Ends::Lifetime(Pointer::parse("lifetime_pointer", pointer)?),
            (None, None, Some(pointer)) => Ends::At(Pointer::parse("expires_at_pointer", pointer)?),
            (lifetime, _, _) => {
                let field = if lifetime.is_some() { "lifetime" } else { "lifetime_pointer" };
                let message = "is one of several ways to know a token's end: keep only one of `lifetime`, \
                               `lifetime_pointer` and `expires_at_pointer`";
                return Err(BuildError::new(field, message));
            }
        };
        if self.token_type.is_dpop() {
            return Err(BuildError::new("token_type", NO_PROOF));
        }
        if !self.token_type.is_scheme() {
            let scheme = self.token_type.as_str();
            let message = format!("is {scheme:?}, which is not a token (RFC 9110 section 5.6.2)");
            return Err(BuildError::new("token_type", message));
        }
        let transient = self.transient_status.iter().map(|&status| {
            let known = StatusCode::from_u16(status).ok().filter(|status| !status.is_success());
            known.ok_or_else(|| {
                BuildError::new("transient_status", format!("has no status of a refusal: {status}"))
            })
        });
        let transient = transient.collect::<Result<_, _>>()?;
        let reason =
            self.error_pointer.as_deref().map(|text| Pointer::parse("error_pointer", text)).transpose()?;
        Ok(Shape { token, ends, kind: self.token_type.clone(), transient, reason })
    }

    /// The body with its media type.
    fn body(&self) -> Result<Option<(&'static str, Bytes)>, BuildError> {
        let field = match (&self.body_json, &self.form) {
            (Some(_), Some(_)) => {
                return Err(BuildError::new("form", "excludes `body_json`: a request has one body"));
            }
            (Some(_), None) => "body_json",
            (None, Some(_)) => "form",
            (None, None) => "",
        };
        if self.method == Method::HEAD {
            return Err(BuildError::new("method", "is HEAD, whose answer has no body to hold a token"));
        }
        if !field.is_empty() && self.method == Method::GET {
            return Err(BuildError::new(field, "needs a method with a body, such as POST"));
        }
        if let Some(pairs) = &self.form {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
            return Ok(Some((form::MEDIA_TYPE, form::encode(&pairs))));
        }
        let body = self.body_json.as_ref().map(Document::to_bytes).transpose();
        let body = body
            .map_err(|error| BuildError::new("body_json", format!("cannot be written as JSON ({error})")));
        Ok(body?.map(|body| ("application/json", body)))
    }

    /// Hides the texts that are sent, except those of `header_fn`.
    fn redactor(&self) -> Redactor {
        let mut redactor = Redactor::default();
        // A media type is not secret, and an error may have to name it.
        let plain = |name: &str| ["accept", "content-type"].contains(&name.to_ascii_lowercase().as_str());
        let headers = self.header.iter().filter(|(name, _)| !plain(name)).map(|(_, value)| value);
        for value in headers {
            hide_header(&mut redactor, value.expose());
        }
        for (_, value) in self.form.iter().flatten() {
            redactor.hide_with_parts(Zeroizing::new(value.expose().to_owned()));
        }
        if let Some(body) = &self.body_json {
            body.values(&mut |text| redactor.hide_with_parts(text));
        }
        redactor
    }

    fn headers(&self) -> Result<HeaderMap, BuildError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.header {
            let value = header_of(value.expose()).map_err(|_| {
                let message =
                    format!("has a value for {name:?} with a line break or control character in it");
                BuildError::new("header", message)
            })?;
            let name = header_name("header", name)?;
            if headers.contains_key(&name) {
                let message = format!("has {:?} twice, in upper and in lower case: keep one", name.as_str());
                return Err(BuildError::new("header", message));
            }
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

http_setters!(JsonEndpointBuilder);

impl fmt::Debug for JsonEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonEndpointBuilder")
            .field("method", &self.method)
            .field("header", &self.header)
            .field("header_fn", &self.header_fn.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("form", &self.form)
            .field("token_pointer", &self.token_pointer)
            .field("lifetime_pointer", &self.lifetime_pointer)
            .field("expires_at_pointer", &self.expires_at_pointer)
            .field("lifetime", &self.lifetime)
            .field("token_type", &self.token_type)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

fn header_name(field: &'static str, name: &str) -> Result<HeaderName, BuildError> {
    let known: HeaderName = name
        .parse()
        .map_err(|_| BuildError::new(field, format!("has a name that no header can have: {name:?}")))?;
    if known == ACCEPT_ENCODING {
        let message = "is \"accept-encoding\": answers are read as they are, so it is always \"identity\"";
        return Err(BuildError::new(field, message));
    }
    Ok(known)
}

/// A line break at the end of the value is cut off with a WARN.
fn cut_pair((name, value): (String, Zeroizing<String>)) -> (String, Secret) {
    let value = cut_secret(&name, &value);
    (name, value)
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let name = String::deserialize(deserializer)?.to_ascii_uppercase();
    name.parse().map_err(|_| serde::de::Error::custom(format_args!("{name:?} is no HTTP method")))
}

fn token_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TokenType, D::Error> {
    Ok(TokenType::parse(&String::deserialize(deserializer)?))
}

fn document<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Document>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Document::new).map(Some)
}

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<(String, Secret)>>, D::Error> {
    Ok(Some(secret_table_cut(deserializer)?.into_iter().collect()))
}

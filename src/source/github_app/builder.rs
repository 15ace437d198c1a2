//! The settings of a GitHub App, from code or from a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::{GithubApp, body, to_bytes};
use crate::duration;
use crate::error::BuildError;
use crate::oauth::{Algorithm, KeyOrigin, KeySource, PrivateKey};
use crate::secret::Secret;
use crate::secret::path::shown;
use crate::settings::{settings, text_or_number};
use crate::source::json_endpoint::answer::{Ends, Shape};
use crate::token::TokenType;
use crate::transport::{Configure, Endpoint, Pointer, ServerClock, Transport, http_setters};

const BASE: &str = "https://api.github.com";
/// GitHub's own limit.
const MOST_REPOSITORIES: usize = 500;

settings! {
    /// The settings of [`GithubApp`], from code or by serde from a file. In a file `app_id`, `installation_id`, and
    /// `private_key` or `private_key_file` are required. `private_key` is the text in PEM, `{ file = "path" }` or
    /// `{ env = "NAME" }`. Durations are written like `"10s"`.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct GithubAppBuilder {
        #[serde(deserialize_with = "text_or_number")]
        app_id: String,
        installation_id: u64,
        #[serde(default)]
        private_key: Option<KeyOrigin>,
        #[serde(default)]
        private_key_file: Option<PathBuf>,
        #[serde(default)]
        permissions: BTreeMap<String, String>,
        #[serde(default)]
        repositories: Vec<String>,
        #[serde(default)]
        repository_ids: Vec<u64>,
        #[serde(default)]
        base_url: Option<String>,
        #[serde(default)]
        allow_http: bool,
        #[serde(default)]
        proxy: Option<Secret>,
        #[serde(skip)]
        http: Option<Configure>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        connect_timeout: Option<Duration>,
        #[serde(default)]
        max_body: Option<usize>,
    }
}

impl GithubAppBuilder {
    pub(super) fn new(app_id: String, installation_id: u64) -> Self {
        Self {
            app_id,
            installation_id,
            private_key: None,
            private_key_file: None,
            permissions: BTreeMap::new(),
            repositories: Vec::new(),
            repository_ids: Vec::new(),
            base_url: None,
            allow_http: false,
            proxy: None,
            http: None,
            timeout: None,
            connect_timeout: None,
            max_body: None,
        }
    }

    /// The app's private key, an RSA key. This or [`private_key_file`](Self::private_key_file) is required.
    pub fn private_key(mut self, key: PrivateKey) -> Self {
        self.private_key = Some(KeyOrigin::Key(key));
        self
    }

    /// The app's private key in a PEM file, in GitHub's form. The file is read again for each request. While it
    /// cannot be read, the last key stays in use.
    pub fn private_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.private_key_file = Some(path.into());
        self
    }

    /// Requests this permission, such as `contents` with `read`. A second value for the same name replaces the
    /// first. Default: all permissions of the installation.
    pub fn permission(mut self, name: impl Into<String>, access: impl Into<String>) -> Self {
        self.permissions.insert(name.into(), access.into());
        self
    }

    /// Adds a repository for which the token is valid, by its name without the owner. Default: all repositories of
    /// the installation. At most 500.
    pub fn repository(mut self, name: impl Into<String>) -> Self {
        self.repositories.push(name.into());
        self
    }

    /// The same with the repository's id.
    pub fn repository_id(mut self, id: u64) -> Self {
        self.repository_ids.push(id);
        self
    }

    /// The address of the API. Default: `https://api.github.com`. For a GitHub Enterprise Server:
    /// `https://<host>/api/v3`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// Checks the settings, and reads the key's file.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(mut self) -> Result<GithubApp, BuildError> {
        if self.app_id.trim().is_empty() {
            return Err(BuildError::new(
                "app_id",
                "is empty: give the app's id, or its client id; both stand in the app's settings",
            ));
        }
        if self.repositories.len() + self.repository_ids.len() > MOST_REPOSITORIES {
            let message =
                "has more than 500 entries, which is GitHub's limit: leave it out for all repositories";
            return Err(BuildError::new("repositories", message));
        }
        let endpoint = self.endpoint()?;
        let body = self.body().map(to_bytes).transpose();
        let body = body.map_err(|error| {
            BuildError::new("permissions", format!("cannot be written as JSON ({error})"))
        })?;
        let (settings, limits) = self.http_settings();
        let transport = Transport::to(&endpoint, settings, limits)?;
        let key = self.key()?;
        let shape = Shape {
            token: Pointer::parse("token_pointer", "/token")?,
            ends: Ends::At(Pointer::parse("expires_at_pointer", "/expires_at")?),
            kind: TokenType::Bearer,
            transient: Vec::new(),
            reason: None,
        };
        let server_clock = ServerClock::default();
        Ok(GithubApp {
            transport,
            endpoint,
            shape,
            app_id: self.app_id.trim().to_owned(),
            key,
            body,
            server_clock,
        })
    }

    fn endpoint(&self) -> Result<Endpoint, BuildError> {
        let base = self.base_url.as_deref().unwrap_or(BASE);
        let path = format!("/app/installations/{}/access_tokens", self.installation_id);
        let endpoint = Endpoint::below("base_url", base, "scheme, host, port and path", &path)?;
        endpoint.check_plaintext(self.allow_http)?;
        Ok(endpoint)
    }

    /// Sorted, because the order has no meaning.
    fn body(&mut self) -> Option<serde_json::Value> {
        let mut parts = Vec::new();
        if !self.permissions.is_empty() {
            parts.push(("permissions", json!(self.permissions)));
        }
        if !self.repositories.is_empty() {
            self.repositories.sort();
            parts.push(("repositories", json!(self.repositories)));
        }
        if !self.repository_ids.is_empty() {
            self.repository_ids.sort_unstable();
            parts.push(("repository_ids", json!(self.repository_ids)));
        }
        body(parts)
    }

    fn key(&mut self) -> Result<KeySource, BuildError> {
        let key = KeySource::open(self.private_key.take(), self.private_key_file.take(), None, check)?;
        key.ok_or_else(|| {
            BuildError::new(
                "private_key",
                "is missing: give it, or `private_key_file`; the app's settings at GitHub make one",
            )
        })
    }
}

/// GitHub accepts no other signature.
fn check(key: PrivateKey) -> Result<PrivateKey, BuildError> {
    match key.algorithm() {
        Algorithm::Rs256 => Ok(key),
        other => {
            let message = format!(
                "signs by {}: GitHub accepts only RS256, with the RSA key from the app's settings",
                other.as_str()
            );
            Err(BuildError::new("private_key", message))
        }
    }
}

http_setters!(GithubAppBuilder);

impl fmt::Debug for GithubAppBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GithubAppBuilder")
            .field("app_id", &self.app_id)
            .field("installation_id", &self.installation_id)
            .field("private_key", &self.private_key)
            .field("private_key_file", &self.private_key_file.as_deref().map(shown))
            .field("permissions", &self.permissions)
            .field("repositories", &self.repositories)
            .field("repository_ids", &self.repository_ids)
            .finish_non_exhaustive()
    }
}

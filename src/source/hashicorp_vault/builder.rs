//! The settings of Vault, from code or from a file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use http::HeaderValue;

use super::{Login, Vault};
use crate::duration;
use crate::error::BuildError;
use crate::secret::Secret;
use crate::secret::origin::SecretOrigin;
use crate::secret::path::shown;
use crate::secret::place::SecretPlace;
use crate::settings::{settings, some_text_or_number};
use crate::source::{BoxSource, FileToken, TokenSource};
use crate::transport::{Configure, Endpoint, Transport, http_setters};

const JWT_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

settings! {
    /// The settings of [`Vault`], from code or by serde from a file. In a file `url` is required, and one of
    /// `role_id` (`AppRole`) and `role` (Kubernetes). `secret_id` is a value, `{ file = "path" }`, or
    /// `{ env = "NAME" }`. Durations are written like `"10s"`.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct VaultBuilder {
        url: String,
        #[serde(default, deserialize_with = "some_text_or_number")]
        role_id: Option<String>,
        #[serde(default)]
        secret_id: Option<SecretOrigin>,
        #[serde(default, deserialize_with = "some_text_or_number")]
        role: Option<String>,
        #[serde(default)]
        jwt_file: Option<PathBuf>,
        #[serde(skip)]
        jwt: Option<BoxSource>,
        #[serde(default)]
        mount: Option<String>,
        #[serde(default)]
        namespace: Option<String>,
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

impl VaultBuilder {
    pub(super) fn new(url: String, role_id: Option<String>, role: Option<String>) -> Self {
        Self {
            url,
            role_id,
            secret_id: None,
            role,
            jwt_file: None,
            jwt: None,
            mount: None,
            namespace: None,
            allow_http: false,
            proxy: None,
            http: None,
            timeout: None,
            connect_timeout: None,
            max_body: None,
        }
    }

    /// For `AppRole`: the secret id. Default: none, for roles with `bind_secret_id=false`.
    pub fn secret_id(mut self, secret: impl Into<String>) -> Self {
        self.secret_id = Some(SecretOrigin::Place(SecretPlace::Value(Secret::new(secret))));
        self
    }

    /// The secret id in a file, without the line break at its end. The file is read again for each login. While it
    /// cannot be read, the last secret id stays in use.
    pub fn secret_id_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.secret_id = Some(SecretOrigin::Place(SecretPlace::File(path.into())));
        self
    }

    /// The secret id in an environment variable, which is read when the source is built.
    pub fn secret_id_env(mut self, name: impl Into<String>) -> Self {
        self.secret_id = Some(SecretOrigin::Place(SecretPlace::Env(name.into())));
        self
    }

    /// For Kubernetes: the file with the token of the service account. The file is read for each login. Default:
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub fn jwt_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.jwt_file = Some(path.into());
        self
    }

    /// The JWT of the login is the token of this source, in place of a file (a chain). With [`mount`](Self::mount)
    /// this works for Vault's JWT login too. A [handle](crate::TokenHandle) is a source too, and keeps the JWT
    /// between two logins.
    pub fn jwt(mut self, source: impl TokenSource) -> Self {
        self.jwt = Some(BoxSource::new(source));
        self
    }

    /// The mount path of the login. Default: `approle` or `kubernetes`.
    pub fn mount(mut self, path: impl Into<String>) -> Self {
        self.mount = Some(path.into());
        self
    }

    /// The namespace of Vault Enterprise or HCP. Default: none.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Checks the settings, and reads a file of the secret id.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(mut self) -> Result<Vault, BuildError> {
        let (login, usual_mount) = self.login()?;
        let mount = self.mount.as_deref().unwrap_or(usual_mount).trim_matches('/');
        if mount.is_empty()
            || mount.contains(['?', '#'])
            || mount.split('/').any(|part| part.trim_matches('.').is_empty())
        {
            return Err(BuildError::new("mount", "is no path like \"approle\" or \"team/approle\""));
        }
        let login_at = self.endpoint(&format!("auth/{mount}/login"))?;
        let renew_at = self.endpoint("auth/token/renew-self")?;
        let namespace = self.namespace.as_deref().map(|namespace| {
            let refused = || {
                BuildError::new("namespace", "has a character in it that no header can carry, or is empty")
            };
            HeaderValue::from_str(namespace).ok().filter(|value| !value.is_empty()).ok_or_else(refused)
        });
        let namespace = namespace.transpose()?;
        let (settings, limits) = self.http_settings();
        let transport = Transport::to(&login_at, settings, limits)?;
        Ok(Vault { transport, login_at, renew_at, namespace, login, lease: Mutex::default() })
    }

    fn endpoint(&self, path: &str) -> Result<Endpoint, BuildError> {
        let endpoint = Endpoint::below("url", &self.url, "scheme, host and port", &format!("/v1/{path}"))?;
        endpoint.check_plaintext(self.allow_http)?;
        Ok(endpoint)
    }

    /// The login with its usual mount path.
    fn login(&mut self) -> Result<(Login, &'static str), BuildError> {
        match (self.role_id.take(), self.role.take()) {
            (Some(_), Some(_)) => {
                Err(BuildError::new("role", "excludes `role_id`: a login is one of AppRole and Kubernetes"))
            }
            (None, None) => {
                Err(BuildError::new("role", "is missing: give it (Kubernetes), or `role_id` (AppRole)"))
            }
            (Some(role_id), None) => {
                for (field, is_given) in [("jwt_file", self.jwt_file.is_some()), ("jwt", self.jwt.is_some())]
                {
                    if is_given {
                        return Err(BuildError::new(
                            field,
                            "is for the Kubernetes login: `role_id` stands for AppRole",
                        ));
                    }
                }
                let role_id = named("role_id", role_id)?;
                let secret_id = self.secret_id.take().map(|secret| secret.open("secret_id")).transpose()?;
                Ok((Login::AppRole { role_id, secret_id }, "approle"))
            }
            (None, Some(role)) => {
                if self.secret_id.is_some() {
                    return Err(BuildError::new(
                        "secret_id",
                        "is for AppRole: `role` stands for the Kubernetes login",
                    ));
                }
                Ok((Login::Jwt { role: named("role", role)?, jwt: self.jwt_source()? }, "kubernetes"))
            }
        }
    }

    fn jwt_source(&mut self) -> Result<BoxSource, BuildError> {
        match (self.jwt.take(), self.jwt_file.take()) {
            (Some(_), Some(_)) => Err(BuildError::new("jwt_file", "excludes `jwt`: a login has one JWT")),
            (Some(jwt), None) => Ok(jwt),
            (None, path) => {
                let path = path.unwrap_or_else(|| JWT_FILE.into());
                let file = FileToken::builder(path).build();
                let file = file
                    .map_err(|_| BuildError::new("jwt_file", "is empty: name the file that holds the JWT"))?;
                Ok(BoxSource::new(file))
            }
        }
    }
}

fn named(field: &'static str, text: String) -> Result<String, BuildError> {
    if text.trim().is_empty() {
        return Err(BuildError::new(field, "is empty"));
    }
    Ok(text)
}

http_setters!(VaultBuilder);

impl fmt::Debug for VaultBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultBuilder")
            .field("role_id", &self.role_id)
            .field("secret_id", &self.secret_id)
            .field("role", &self.role)
            .field("jwt_file", &self.jwt_file.as_deref().map(shown))
            .field("mount", &self.mount)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

//! The settings of AWS' web identity tokens.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::environment::{Stated, path};
use super::keys::{Bearer, Origin, container_endpoint, is_name};
use super::sts::Sts;
use super::{AwsWebIdentity, SHORTEST, is_region};
use crate::duration;
use crate::error::BuildError;
use crate::secret::Secret;
use crate::secret::files::FromFiles;
use crate::settings::{settings, texts_or_numbers};
use crate::source::metadata::{Server, TIMEOUT};
use crate::transport::{HttpClient, HttpSettings, Limits, Transport};

/// The lifetimes that the service allows.
const LIFETIMES: std::ops::RangeInclusive<Duration> = SHORTEST..=Duration::from_secs(3600);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";

settings! {
    /// The settings of [`AwsWebIdentity`], from code or by serde from a file. In a file `audience` is required, a
    /// string or a list, and durations are written like `"15m"`.
    ///
    /// `Debug` hides the URLs.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct AwsWebIdentityBuilder {
        #[serde(deserialize_with = "texts_or_numbers")]
        audience: Vec<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        lifetime: Option<Duration>,
        #[serde(default)]
        algorithm: Option<String>,
        #[serde(default)]
        region: Option<String>,
        #[serde(default)]
        role_arn: Option<String>,
        #[serde(default)]
        web_identity_token_file: Option<PathBuf>,
        #[serde(default)]
        role_session_name: Option<String>,
        #[serde(default)]
        container_url: Option<String>,
        #[serde(default)]
        container_token_file: Option<PathBuf>,
        #[serde(default)]
        imds_url: Option<String>,
        #[serde(default)]
        sts_url: Option<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
    }
}

impl AwsWebIdentityBuilder {
    pub(in crate::source::metadata) fn new(audience: String) -> Self {
        Self {
            audience: vec![audience],
            lifetime: None,
            algorithm: None,
            region: None,
            role_arn: None,
            web_identity_token_file: None,
            role_session_name: None,
            container_url: None,
            container_token_file: None,
            imds_url: None,
            sts_url: None,
            timeout: None,
        }
    }

    /// Adds an API for which the tokens are valid. At most 10 in total, of 1,000 characters each.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// The lifetime of a token: from 1 min to 1 h, in whole seconds. Default 5 min. A token cannot outlive its
    /// signing keys. Therefore a token's lifetime is shorter if there are no keys that last longer.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = Some(time);
        self
    }

    /// The algorithm of the token's signature: `RS256` or `ES384`. Default `RS256`.
    pub fn algorithm(mut self, name: impl Into<String>) -> Self {
        self.algorithm = Some(name.into());
        self
    }

    /// The region whose service is called. Default: `AWS_REGION`, then `AWS_DEFAULT_REGION`, then the region of the
    /// instance. (The service's global address does not issue these tokens.)
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The role for the token in this file (IAM roles for service accounts, EKS). Default: `AWS_ROLE_ARN` and
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, if both are set.
    pub fn role(mut self, arn: impl Into<String>, token_file: impl Into<PathBuf>) -> Self {
        self.role_arn = Some(arn.into());
        self.web_identity_token_file = Some(token_file.into());
        self
    }

    /// The name of the role's session in AWS' logs. Default: `AWS_ROLE_SESSION_NAME`, or `tokenflight`.
    pub fn role_session_name(mut self, name: impl Into<String>) -> Self {
        self.role_session_name = Some(name.into());
        self
    }

    /// The agent with a container's keys: https, this machine, or one of the addresses of ECS and EKS. Default:
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, then `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn container_url(mut self, url: impl Into<String>) -> Self {
        self.container_url = Some(url.into());
        self
    }

    /// The file whose text that agent requires as `Authorization`. It is read again for each request. Default:
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, then the value of `AWS_CONTAINER_AUTHORIZATION_TOKEN`, if the
    /// agent comes from the environment.
    pub fn container_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.container_token_file = Some(path.into());
        self
    }

    /// Uses the keys of the instance, for any environment: scheme, host and port of its metadata service. Default,
    /// if nothing else is set: `http://169.254.169.254`.
    pub fn imds_url(mut self, url: impl Into<String>) -> Self {
        self.imds_url = Some(url.into());
        self
    }

    /// Scheme, host and port of the token service, for an endpoint of your own network, or for a partition of AWS
    /// that this crate does not know. Default: the service of the region, in the domain of its partition. For an
    /// unknown partition: `amazonaws.com`.
    pub fn sts_url(mut self, url: impl Into<String>) -> Self {
        self.sts_url = Some(url.into());
        self
    }

    /// The time limit of one request. Default 3 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Checks the settings, reads the environment if a setting is missing, and reads a role's token file.
    ///
    /// # Errors
    /// A setting that cannot work, or two that exclude each other. The error names the setting.
    pub fn build(mut self) -> Result<AwsWebIdentity, BuildError> {
        let audience = self.checked_audience()?;
        let lifetime = self.lifetime.unwrap_or(DEFAULT_LIFETIME);
        if !LIFETIMES.contains(&lifetime) {
            return Err(BuildError::new("lifetime", "is not between 1 min and 1 h, which is what AWS gives"));
        }
        let algorithm = self.algorithm.take().unwrap_or_else(|| "RS256".to_owned());
        if !matches!(&*algorithm, "RS256" | "ES384") {
            return Err(BuildError::new("algorithm", "is neither \"RS256\" nor \"ES384\""));
        }
        let limits = Limits { timeout: Some(self.timeout.unwrap_or(TIMEOUT)), max_body: None };
        let transport = Transport::new(HttpClient::new(HttpSettings::default())?, limits)?;
        let is_named = self.role_arn.is_some();
        let origin = self.origin(&transport)?;
        let region = Stated::find("region", self.region.take(), &["AWS_REGION", "AWS_DEFAULT_REGION"])?;
        let sts = match region {
            Some(region) if is_region(&region.text) => {
                Some(Sts::new(transport.clone(), self.sts_url.as_deref(), &region.text)?)
            }
            Some(region) => {
                let error = BuildError::new("region", "is no name of a region, such as \"eu-central-1\"");
                return Err(region.refused(error));
            }
            None if matches!(origin, Origin::Instance { .. }) => {
                // The address is checked now. The name is resolved later.
                Sts::new(transport.clone(), self.sts_url.as_deref(), "us-east-1")?;
                None
            }
            None => {
                return Err(BuildError::new("region", "is missing: name it, or set AWS_REGION"));
            }
        };
        Ok(AwsWebIdentity::new(
            super::Wanted { audience, lifetime, algorithm },
            origin,
            is_named,
            transport,
            self.sts_url,
            sts,
        ))
    }

    fn checked_audience(&mut self) -> Result<Vec<String>, BuildError> {
        let refused = |what| Err(BuildError::new("audience", what));
        let mut audience = std::mem::take(&mut self.audience);
        audience.sort();
        audience.dedup();
        match audience.len() {
            0 => return refused("is missing: name the API that the tokens are for"),
            1..=10 => {}
            _ => return refused("has more than 10 names, which is what AWS takes"),
        }
        if audience.iter().any(|name| name.trim().is_empty()) {
            return refused("is empty: name the API that the tokens are for");
        }
        if audience.iter().any(|name| name.chars().count() > 1_000) {
            return refused("has more than 1,000 characters, which is what AWS takes");
        }
        Ok(audience)
    }

    /// The settings have priority over the environment. If they are set, the environment does not matter.
    fn origin(&mut self, transport: &Transport) -> Result<Origin, BuildError> {
        let chosen = [
            ("role_arn", self.role_arn.is_some() || self.web_identity_token_file.is_some()),
            ("container_url", self.container_url.is_some()),
            ("imds_url", self.imds_url.is_some()),
        ];
        let mut chosen = chosen.into_iter().filter_map(|(name, is_set)| is_set.then_some(name));
        let (first, second) = (chosen.next(), chosen.next());
        if let Some(second) = second {
            let message = "is another place for the keys beside one that is set: keep only one of `role_arn`, \
                           `container_url` and `imds_url`";
            return Err(BuildError::new(second, message));
        }
        let is_from_environment = first.is_none();
        let (mut arn, mut container) =
            (self.role_arn.take().map(Stated::set), self.container_url.take().map(Stated::set));
        if is_from_environment {
            self.web_identity_token_file = path("AWS_WEB_IDENTITY_TOKEN_FILE");
            if self.web_identity_token_file.is_some() {
                arn = Stated::variable("role_arn", "AWS_ROLE_ARN")?;
            }
            if arn.is_none() {
                self.web_identity_token_file = None;
                container = container_in_environment()?;
            }
        }
        if arn.is_some() || self.web_identity_token_file.is_some() {
            if self.container_token_file.is_some() {
                let message = "has no effect beside a role: leave it out, or name a `container_url`";
                return Err(BuildError::new("container_token_file", message));
            }
            return self.role_origin(arn);
        }
        if self.role_session_name.is_some() {
            let message = "has no effect without a role: leave it out, or name a `role_arn`";
            return Err(BuildError::new("role_session_name", message));
        }
        match container {
            Some(url) => self.container_origin(&url, transport, is_from_environment),
            None if self.container_token_file.is_some() => {
                Err(BuildError::new("container_token_file", "needs a `container_url` beside it"))
            }
            None => {
                let base = self.imds_url.take().unwrap_or_else(|| INSTANCE.to_owned());
                Server::at("imds_url", &base, "/", &[], self.timeout)?;
                Ok(Origin::Instance { base, timeout: self.timeout })
            }
        }
    }

    fn role_origin(&mut self, arn: Option<Stated>) -> Result<Origin, BuildError> {
        const FIELD: &str = "web_identity_token_file";
        let (Some(arn), Some(path)) = (arn, self.web_identity_token_file.take()) else {
            let message = "and `web_identity_token_file` belong together: one of them is missing";
            return Err(BuildError::new("role_arn", message));
        };
        let has_space = arn.text.contains(|char: char| char.is_whitespace() || char.is_control());
        if !arn.text.starts_with("arn:") || has_space {
            let message = "is no ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)";
            return Err(arn.refused(BuildError::new("role_arn", message)));
        }
        let name = self.role_session_name.take();
        let name = Stated::find("role_session_name", name, &["AWS_ROLE_SESSION_NAME"])?;
        let name = name.unwrap_or_else(|| Stated::set("tokenflight".to_owned()));
        if !(2..=64).contains(&name.text.len()) || !is_name(&name.text) {
            let message = "is not 2 to 64 letters, digits and `+=,.@_-`, which is what AWS takes";
            return Err(name.refused(BuildError::new("role_session_name", message)));
        }
        let shown = crate::secret::path::shown(&path);
        let refused =
            move |what: &str| BuildError::new(FIELD, format!("cannot be used: the file {shown} {what}"));
        let file = FromFiles::new(vec![(FIELD, path)], move |parts| {
            let text = std::str::from_utf8(parts.first().map(|part| part.as_slice()).unwrap_or_default());
            match text.map(str::trim) {
                Ok("") => Err(refused("is empty")),
                Ok(text) => Ok(Secret::new(text)),
                Err(_) => Err(refused("holds text that is not UTF-8")),
            }
        })?;
        Ok(Origin::Role { arn: arn.text, session_name: name.text, file })
    }

    fn container_origin(
        &mut self,
        url: &Stated,
        transport: &Transport,
        is_from_environment: bool,
    ) -> Result<Origin, BuildError> {
        let endpoint = container_endpoint(&url.text).map_err(|error| url.refused(error))?;
        transport.check(&endpoint)?;
        let mut token = self.container_token_file.take().map(Bearer::File);
        if token.is_none() && is_from_environment {
            token = path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(Bearer::File);
        }
        if token.is_none() && is_from_environment {
            let name = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
            let text = Stated::variable("container_token_file", name)?;
            token = text.map(|stated| Bearer::of_variable(name, &stated.text)).transpose()?;
        }
        Ok(Origin::Container { transport: transport.clone(), endpoint, token })
    }
}

fn container_in_environment() -> Result<Option<Stated>, BuildError> {
    let relative = Stated::variable("container_url", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?;
    match relative {
        Some(path) => Ok(Some(Stated { text: format!("{CONTAINER}{}", path.text), ..path })),
        None => Stated::variable("container_url", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    }
}

impl fmt::Debug for AwsWebIdentityBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsWebIdentityBuilder")
            .field("audience", &self.audience)
            .field("lifetime", &self.lifetime)
            .field("region", &self.region)
            .field("role_arn", &self.role_arn)
            .field("role_session_name", &self.role_session_name)
            .finish_non_exhaustive()
    }
}

//! The keys that sign a request to AWS, and the places where a machine or a container finds them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use super::sts::Sts;
use super::xml::element;
use crate::error::{BuildError, SourceError};
use crate::secret::files::FromFiles;
use crate::secret::{Secret, header_of};
use crate::source::FetchContext;
use crate::source::metadata::Server;
use crate::transport::{Answer, Document, Endpoint, Form, Request, Transport, moment};

const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";
const REGION: &str = "/latest/meta-data/placement/region";
/// In seconds: the maximum that the service allows.
const SESSION: &str = "21600";
/// The services give new keys at least this long before the old ones end.
pub(super) const RENEWED: Duration = Duration::from_secs(5 * 60);

/// Keys that last for some hours.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// Sent with each request.
    pub(super) session: Option<Secret>,
    ends: Option<SystemTime>,
}

impl Keys {
    /// How long the keys are valid from now on, by this wall clock.
    pub(super) fn left(&self, wall: SystemTime) -> Duration {
        self.ends.map_or(Duration::MAX, |end| end.duration_since(wall).unwrap_or_default())
    }

    /// Reads `AccessKeyId`, `SecretAccessKey`, `Token` and `Expiration`.
    fn of(mut answer: Answer) -> Result<Self, SourceError> {
        let document = answer.json();
        for place in ["/SecretAccessKey", "/Token"] {
            if let Some(secret) = document.as_ref().ok().and_then(|document| document.text(place)) {
                answer.hide(secret);
            }
        }
        if !answer.is_success() {
            return Err(refused(&answer, document.ok().as_ref()));
        }
        let document = document?;
        // If it has no keys, the instance's service answers 200 with another code.
        match document.text("/Code") {
            None | Some("Success") => {}
            Some(code) => {
                let code = answer.quoted(code, 80).unwrap_or_default();
                return Err(answer.nonsense(format_args!("with the code {code:?} instead of keys")));
            }
        }
        let ends = document.get("/Expiration").and_then(moment);
        match (document.text("/AccessKeyId"), document.text("/SecretAccessKey")) {
            (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => Ok(Self {
                id: id.to_owned(),
                secret: Secret::new(secret),
                session: document.text("/Token").map(Secret::new),
                ends,
            }),
            _ => Err(answer.nonsense("without `AccessKeyId` and `SecretAccessKey`")),
        }
    }
}

/// A role may be attached to a machine after its start, so a 404 is transient.
fn refused(answer: &Answer, document: Option<&Document>) -> SourceError {
    let may_pass = answer.may_pass() || answer.status() == 404 || answer.retry_after().is_some();
    answer.refusal_of(may_pass, document, None)
}

/// The origin of the keys.
pub(super) enum Origin {
    /// The instance's metadata service, version 2.
    Instance { base: String, timeout: Option<Duration> },
    /// The agent of ECS or EKS, with the file of its authorization token.
    Container { transport: Transport, endpoint: Endpoint, token: Option<Bearer> },
    /// A role for a token of Kubernetes (`AssumeRoleWithWebIdentity`).
    Role { arn: String, session_name: String, file: Arc<FromFiles<Secret>> },
}

/// Whether all characters are allowed in the name of a role or of a session.
pub(super) fn is_name(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_alphanumeric() || "+=,.@_-".contains(char))
}

/// The `Authorization` that the container's agent requires.
pub(super) enum Bearer {
    File(PathBuf),
    Value(Secret),
}

impl Bearer {
    async fn value(&self) -> Result<Secret, SourceError> {
        let path = match self {
            Self::Value(secret) => return Ok(secret.clone()),
            Self::File(path) => path.clone(),
        };
        let shown = crate::secret::path::shown(&path);
        let read =
            tokio::task::spawn_blocking(move || crate::secret::path::read_regular(&path, 64 * 1024)).await;
        let failed = |what: &dyn fmt::Display| {
            SourceError::transient(format!("the token file {shown} cannot be read: {what}"))
        };
        let bytes = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| failed(&"it is not UTF-8"))?;
        Self::read(text).map_err(|what| failed(&what))
    }

    /// Without the line break at the end. A line break in the text would forge a header.
    fn read(text: &str) -> Result<Secret, &'static str> {
        match text.trim_end_matches(['\n', '\r']) {
            "" => Err("it is empty"),
            text if text.contains(|char: char| char.is_control()) => Err("it has a control character in it"),
            text if !text.is_ascii() => Err("it has a character that is not ASCII"),
            text => Ok(Secret::new(text)),
        }
    }

    /// The text of an environment variable.
    pub(super) fn of_variable(name: &str, text: &str) -> Result<Self, BuildError> {
        let secret = Self::read(text).map_err(|what| {
            let message = format!("is missing, and the environment variable {name} cannot be used: {what}");
            BuildError::new("container_token_file", message)
        });
        secret.map(Self::Value)
    }
}

impl Origin {
    pub(super) async fn keys(&self, sts: Option<&Sts>, cx: &FetchContext) -> Result<Keys, SourceError> {
        match self {
            Self::Instance { base, timeout } => {
                let instance = Instance::new(base, *timeout, cx).await?;
                let roles = instance.get(CREDENTIALS, cx).await?;
                if !roles.is_success() {
                    return Err(refused(&roles, None));
                }
                let role = roles.text()?.lines().next().unwrap_or_default().trim().to_owned();
                if role.is_empty() || !is_name(&role) {
                    return Err(roles.nonsense("without the name of a role"));
                }
                Keys::of(instance.get(&format!("{CREDENTIALS}{role}"), cx).await?)
            }
            Self::Container { transport, endpoint, token } => {
                let mut request = Request::new(Method::GET);
                if let Some(token) = token {
                    let secret = token.value().await?;
                    request.redactor.hide(Zeroizing::new(secret.expose().to_owned()));
                    request.headers.insert(AUTHORIZATION, sensitive(secret.expose())?);
                }
                Keys::of(transport.exchange(endpoint, request, cx.time_left()).await?)
            }
            Self::Role { arn, session_name, file } => {
                let sts = sts.ok_or_else(|| SourceError::terminal("the region is not known"))?;
                let token = (*file.read().await).clone();
                let mut form = Form::default();
                form.plain("Action", "AssumeRoleWithWebIdentity");
                form.plain("Version", super::sts::VERSION);
                form.plain("RoleArn", arn);
                form.plain("RoleSessionName", session_name);
                form.secret("WebIdentityToken", token.expose());
                let answer = sts.ask(super::sts::request(&form), cx).await?;
                assumed(answer)
            }
        }
    }

    /// The region of the machine, if the machine knows it.
    pub(super) async fn region(&self, cx: &FetchContext) -> Result<String, SourceError> {
        let Self::Instance { base, timeout } = self else {
            return Err(SourceError::terminal("the region is not known: set `region`"));
        };
        let answer = Instance::new(base, *timeout, cx).await?.get(REGION, cx).await?;
        if !answer.is_success() {
            return Err(refused(&answer, None));
        }
        let region = answer.text()?.to_owned();
        if !super::is_region(&region) {
            return Err(answer.nonsense("with something that is no region"));
        }
        Ok(region)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Instance { .. } => "instance",
            Self::Container { .. } => "container",
            Self::Role { .. } => "role",
        }
    }
}

fn assumed(mut answer: Answer) -> Result<Keys, SourceError> {
    let text = Zeroizing::new(answer.text()?.to_owned());
    let secrets = ["SecretAccessKey", "SessionToken"].map(|name| element(&text, name));
    for secret in secrets.iter().flatten() {
        answer.hide(secret);
    }
    let ends = element(&text, "Expiration").and_then(|text| moment(&text.into_owned().into()));
    match (element(&text, "AccessKeyId"), secrets) {
        (Some(id), [Some(secret), Some(session)]) if ends.is_some() => Ok(Keys {
            id: id.into_owned(),
            secret: Secret::new(secret),
            session: Some(Secret::new(session)),
            ends,
        }),
        _ => Err(answer.nonsense("without keys and their end")),
    }
}

/// A session with the instance's metadata service.
struct Instance<'a> {
    base: &'a str,
    timeout: Option<Duration>,
    session: Zeroizing<String>,
}

impl<'a> Instance<'a> {
    async fn new(base: &'a str, timeout: Option<Duration>, cx: &FetchContext) -> Result<Self, SourceError> {
        let mut request = Request::new(Method::PUT);
        request.accept("*/*");
        let lifetime = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
        request.headers.insert(lifetime, HeaderValue::from_static(SESSION));
        let answer = exchange(base, "/latest/api/token", timeout, request, cx).await?;
        if !answer.is_success() {
            return Err(refused(&answer, None));
        }
        let session = Zeroizing::new(answer.text()?.to_owned());
        Ok(Self { base, timeout, session })
    }

    async fn get(&self, path: &str, cx: &FetchContext) -> Result<Answer, SourceError> {
        let mut request = Request::new(Method::GET);
        request.accept("*/*");
        request.redactor.hide(self.session.clone());
        let name = HeaderName::from_static("x-aws-ec2-metadata-token");
        request.headers.insert(name, sensitive(&self.session)?);
        exchange(self.base, path, self.timeout, request, cx).await
    }
}

async fn exchange(
    base: &str,
    path: &str,
    timeout: Option<Duration>,
    request: Request,
    cx: &FetchContext,
) -> Result<Answer, SourceError> {
    // The base was checked when the source was built.
    let server = Server::at("imds_url", base, path, &[], timeout).map_err(SourceError::terminal)?;
    server.transport.exchange(&server.endpoint, request, cx.time_left()).await
}

/// Credentials of AWS are ASCII.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, SourceError> {
    let value = header_of(text).ok().filter(|_| text.is_ascii());
    value.ok_or_else(|| SourceError::transient("a credential has something in it that no header can hold"))
}

/// An address from which keys may be fetched: https, this machine, or the agents of ECS and EKS.
pub(super) fn container_endpoint(url: &str) -> Result<Endpoint, BuildError> {
    let endpoint = Endpoint::parse("container_url", url)?;
    let is_agent =
        matches!(endpoint.url().host_str(), Some("169.254.170.2" | "169.254.170.23" | "[fd00:ec2::23]"));
    if is_agent || endpoint.check_plaintext(false).is_ok() {
        return Ok(endpoint);
    }
    Err(BuildError::new(
        "container_url",
        "is http, and neither on this machine nor the agent of ECS or EKS (169.254.170.2, 169.254.170.23, fd00:ec2::23): the \
         keys would go in clear",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_variable_is_cut_or_refused_when_the_source_is_built() {
        let read = |text: &str| Bearer::of_variable("NAME", text);
        for text in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let Ok(Bearer::Value(secret)) = read(text) else { panic!("{text:?}") };
            assert_eq!(secret.expose(), "s3cret");
        }
        for text in ["\n", "s3\ncret", "s3\0cret", "s3cr\u{e9}t"] {
            let error = read(text).map(drop).unwrap_err();
            assert_eq!(error.field(), "container_token_file");
            let text = error.to_string();
            assert!(text.contains("NAME") && !text.contains("cret"), "{text}");
        }
    }
}

//! The agent of Azure Arc: the answer to its challenge is in a file that only some users may read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::{Server, one_resource, shape};
use crate::challenge::challenges;
use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::redactor::printable;
use crate::secret::header;
use crate::secret::path::{read_regular, shown};
use crate::settings::settings;
use crate::source::json_endpoint::answer::{Ends, Shape};
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::{Token, stray};
use crate::transport::{Answer, Pointer};

const BASE: &str = "http://127.0.0.1:40342";
const PATH: &str = "/metadata/identity/oauth2/token";
const API_VERSION: &str = "2020-06-01";
/// In bytes. The agent never writes a longer key.
const LONGEST_KEY: u64 = 4096;

/// Tokens of the agent of Azure Arc, for the identity of a machine outside of Azure. See
/// [`Metadata::azure_arc`](super::Metadata::azure_arc).
///
/// The agent answers 401 and names a file that only root and the group `himds` may read. The file's contents are
/// sent with a second request. A program in the agent's place could name any file, and would get its contents.
/// Therefore the file must be a `.key` directly in the agent's own folder, also after symbolic links have been
/// followed, and may have 4096 bytes at most.
///
/// # Errors of a fetch
/// Terminal: a challenge that names another file, or none; a refusal other than those below; a redirect. Transient:
/// the network (the agent does not run), a key file that cannot be read, 404, 408, 410, 425, 429, 5xx, a 401 to the
/// second request, and an answer without a token.
pub struct AzureArc {
    server: Server,
    shape: Shape,
    folder: PathBuf,
}

settings! {
    /// The settings of [`AzureArc`], from code or by serde from a file. In a file `resource` is required, and
    /// durations are written like `"3s"`.
    ///
    /// `Debug` hides the URL.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct AzureArcBuilder {
        resource: String,
        #[serde(default)]
        folder: Option<PathBuf>,
        #[serde(default)]
        base_url: Option<String>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
    }
}

impl AzureArcBuilder {
    pub(super) fn new(resource: String) -> Self {
        Self { resource, folder: None, base_url: None, timeout: None }
    }

    /// The agent's own folder, which contains its key files. Default: `/var/opt/azcmagent/tokens`; on Windows
    /// `%ProgramData%\AzureConnectedMachineAgent\Tokens`.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// Scheme, host and port of the agent, on this machine. Default: `http://127.0.0.1:40342`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The time limit of one request. Default 3 s.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<AzureArc, BuildError> {
        let query = [("api-version", API_VERSION), ("resource", one_resource(&self.resource)?)];
        let server = Server::new(self.base_url.as_deref().unwrap_or(BASE), PATH, &query, self.timeout)?;
        // A key file of this machine must not leave this machine.
        server.endpoint.check_plaintext(false).map_err(|_| {
            BuildError::new(
                "base_url",
                "is not on this machine: the agent runs here, and its key file stays here",
            )
        })?;
        let folder = self.folder.unwrap_or_else(default_folder);
        if !folder.is_absolute() {
            return Err(BuildError::new("folder", "is no absolute path"));
        }
        let ends = Ends::At(Pointer::parse("expires_at_pointer", "/expires_on")?);
        let shape = shape(ends, &[StatusCode::NOT_FOUND, StatusCode::GONE])?;
        Ok(AzureArc { server, shape, folder })
    }
}

fn default_folder() -> PathBuf {
    if cfg!(windows) {
        let data = std::env::var_os("ProgramData").unwrap_or_else(|| r"C:\ProgramData".into());
        return PathBuf::from(data).join("AzureConnectedMachineAgent").join("Tokens");
    }
    PathBuf::from("/var/opt/azcmagent/tokens")
}

const HEADER: (&str, &str) = ("metadata", "true");

impl AzureArc {
    /// The file in the challenge.
    fn key_file(&self, answer: &Answer) -> Result<PathBuf, SourceError> {
        let challenges = challenges(answer.headers());
        let realm = challenges.iter().filter(|challenge| challenge.scheme == "basic");
        let Some(realm) = realm.into_iter().find_map(|challenge| challenge.param("realm")) else {
            let what = answer.sentence("without a challenge `Basic realm=<key file>`");
            return Err(SourceError::terminal(what));
        };
        let path = Path::new(realm);
        let is_key = path.extension().is_some_and(|extension| extension == "key");
        if is_key && path.parent() == Some(&self.folder) {
            return Ok(path.to_owned());
        }
        Err(self.outside(realm))
    }

    fn outside(&self, path: &str) -> SourceError {
        SourceError::terminal(format!(
            "the agent's challenge names the file {:?}, which is not read: a key file is a `.key` directly in {}",
            printable(path, 120),
            self.folder.display()
        ))
    }

    /// The contents of the file, read in another thread.
    async fn key(&self, path: PathBuf) -> Result<Zeroizing<String>, SourceError> {
        let (shown, folder) = (shown(&path), self.folder.clone());
        let read = tokio::task::spawn_blocking(move || read_key(&path, &folder)).await;
        let failed = |what: &dyn fmt::Display| {
            SourceError::transient(format!(
                "the agent's key file {shown} cannot be read: {what}; the program has to run as root, or in the group `himds`"
            ))
        };
        match read.map_err(|error| failed(&error))? {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(self.outside(&shown)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// `None`: symbolic links lead out of the folder.
fn read_key(path: &Path, folder: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let real = path.canonicalize()?;
    if real.parent() != Some(&folder.canonicalize()?) {
        return Ok(None);
    }
    let bytes = read_regular(&real, LONGEST_KEY + 1)?;
    let key = bytes.trim_ascii();
    let refused = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    match stray(key) {
        _ if key.is_empty() => Err(refused("it is empty".to_owned())),
        Some(what) => Err(refused(format!("it has {what}"))),
        None => Ok(Some(Zeroizing::new(String::from_utf8_lossy(key).into_owned()))),
    }
}

impl TokenSource for AzureArc {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let challenge = self.server.ask(HEADER, |_| {}, cx.time_left()).await?;
        if challenge.is_success() {
            let what = "without a challenge: that server is not the agent of Azure Arc";
            return Err(SourceError::terminal(challenge.sentence(what)));
        }
        if challenge.status() != StatusCode::UNAUTHORIZED {
            return self.shape.read(challenge);
        }
        let key = self.key(self.key_file(&challenge)?).await?;
        let value = header(Zeroizing::new(format!("Basic {}", *key))).map_err(SourceError::terminal)?;
        let answer = self.server.ask(
            HEADER,
            |request| {
                request.redactor.hide(key);
                request.headers.insert(AUTHORIZATION, value);
            },
            cx.time_left(),
        );
        let answer = answer.await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(
                answer.nonsense("to the contents of its own key file, which may have changed meanwhile")
            );
        }
        self.shape.read(answer)
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("metadata", "azure_arc");
        self.server.identify(part);
        part(UNNAMED, "whose identity this machine has");
    }
}

impl fmt::Debug for AzureArcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureArcBuilder")
            .field("resource", &self.resource)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AzureArc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureArc")
            .field("url", &self.server.endpoint.shown())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

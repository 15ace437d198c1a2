//! A token that another program writes into a file: a projected service account token of Kubernetes, the agent of a vault.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::duration;
use crate::error::{BuildError, SourceError};
use crate::jwt::Claims;
use crate::secret::Secret;
use crate::secret::path::{read_regular, shown};
use crate::settings::settings;
use crate::source::{FetchContext, Reason, TokenSource, UNNAMED};
use crate::token::{NO_PROOF, Token, TokenType, stray};

/// Kubernetes itself requests a new projected token after 80 % of the old token's life, and its own clients read
/// the file once a minute.
const REREAD: Duration = Duration::from_secs(50);
/// In bytes. No header that servers accept is longer.
const LONGEST: u64 = 64 * 1024;

/// Tokens from a file that another program keeps up to date: a projected service account token of Kubernetes (at
/// `/var/run/secrets/kubernetes.io/serviceaccount/token` by default there), or the file of an agent.
///
/// The file is read again every 50 s, for any end in the token, and after a 401. If a token was revoked, requests
/// with it fail until another token is in the file. White space around the token is cut off. The file may be a
/// symbolic link that is replaced, as in Kubernetes. Reading does not block the arbiter.
///
/// ```
/// use tokenflight::source::FileToken;
/// use tokenflight::{FetchContext, Reason, TokenSource};
///
/// # actix_rt::System::new().block_on(async {
/// let path = std::env::temp_dir().join(format!("tokenflight-doc-{}", std::process::id()));
/// std::fs::write(&path, "s3cret\n")?;
/// let source = FileToken::builder(&path).build()?;
/// let token = source.fetch(FetchContext::new(Reason::First)).await?;
/// assert_eq!(token.secret(), "s3cret");
///
/// std::fs::remove_file(&path)?; // the last token stays in use
/// let token = source.fetch(FetchContext::new(Reason::Expired)).await?;
/// assert_eq!(token.secret(), "s3cret");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// If the token is a JWT, its `exp` is an upper limit: the token is not given out after it (by this machine's
/// clock). The signature is not verified. The `exp` never delays the next read of the file.
///
/// # Errors of a fetch
/// Each is transient, names the file, and shows nothing of its contents. The file cannot be read, or not within nine tenths
/// of the attempt's time, is not a regular file, has 64 KiB or more, is empty, contains a byte that no header can carry (the byte and its position are
/// named), or holds a JWT that has ended. If an older token has not ended, it stays in use instead, and a WARN
/// gives the reason. After an API has rejected the token, the failure is an error.
#[derive(Clone)]
pub struct FileToken(Arc<Inner>);

struct Inner {
    path: PathBuf,
    reread: Duration,
    kind: TokenType,
    /// One read at a time. If a read hangs (a network file system), it holds one thread, not one for each attempt.
    reading: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: Option<Contents>,
    /// The last failure that was logged, so that each is logged once.
    logged: Option<String>,
}

/// The contents of a file.
#[derive(Clone)]
struct Contents {
    secret: Secret,
    /// The end in a JWT.
    end: Option<SystemTime>,
}

settings! {
    /// The settings of [`FileToken`], from code or by serde from a file. In a file `path` is required, and a
    /// duration is written like `"50s"`.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct FileTokenBuilder {
        path: PathBuf,
        #[serde(default, deserialize_with = "duration::some_duration")]
        reread: Option<Duration>,
        #[serde(default)]
        token_type: Option<String>,
    }
}

impl FileToken {
    /// Begins with the path of the file. The file need not exist yet.
    pub fn builder(path: impl Into<PathBuf>) -> FileTokenBuilder {
        FileTokenBuilder { path: path.into(), reread: None, token_type: None }
    }

    /// Reads the file in another thread.
    async fn read(&self) -> Result<Contents, String> {
        let failed = |what: &dyn fmt::Display| format!("the token file {} {what}", shown(&self.0.path));
        let permit = Arc::clone(&self.0.reading).acquire_owned().await;
        let path = self.0.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _held = permit;
            read_regular(&path, LONGEST)
        });
        let read = read.await.map_err(|error| failed(&error))?;
        let bytes = read.map_err(|error| failed(&format_args!("cannot be read: {error}")))?;
        Contents::parse(&bytes).map_err(|what| failed(&what))
    }

    /// A read may hang. Then it ends before the attempt does, so that the older token can be used.
    async fn read_in_time(&self, cx: &FetchContext) -> Result<Contents, String> {
        let Some(left) = cx.time_left() else { return self.read().await };
        // The text is the same each time, so that it is logged once.
        tokio::time::timeout(left / 10 * 9, self.read()).await.unwrap_or_else(|_| {
            Err(format!("the token file {} was not read within the time of the attempt", shown(&self.0.path)))
        })
    }

    /// The contents in use. `Err` if there are none.
    async fn contents(&self, cx: &FetchContext) -> Result<Contents, SourceError> {
        let now = cx.clock().now().wall;
        let read = self.read_in_time(cx).await.and_then(|contents| match contents.left(now) {
            Some(Duration::ZERO) => {
                Err(format!("the token file {} holds a JWT that has ended (`exp`)", shown(&self.0.path)))
            }
            _ => Ok(contents),
        });
        let mut kept = self.kept();
        let what = match read {
            Ok(contents) => {
                *kept = Kept { last: Some(contents.clone()), logged: None };
                return Ok(contents);
            }
            Err(what) => what,
        };
        let is_wanted = cx.reason != Reason::Rejected && !cx.is_discarded();
        let last = kept.last.clone().filter(|last| is_wanted && last.left(now) != Some(Duration::ZERO));
        let Some(last) = last else { return Err(SourceError::transient(what)) };
        if kept.logged.as_ref() != Some(&what) {
            log::warn!("{what}; the earlier token stays in use");
            kept.logged = Some(what);
        }
        Ok(last)
    }

    fn token(&self, contents: &Contents, now: SystemTime) -> Token {
        let lifetime = contents.left(now).unwrap_or(self.0.reread).min(self.0.reread);
        Token::new(contents.secret.expose())
            .with_type(self.0.kind.clone())
            .with_lifetime(lifetime)
            .with_assumed_end()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let secret = bytes.trim_ascii();
        if secret.is_empty() {
            return Err("is empty".to_owned());
        }
        if let Some(what) = stray(secret) {
            return Err(format!("holds a token that has {what}"));
        }
        // All bytes are visible ASCII.
        let secret = Zeroizing::new(String::from_utf8_lossy(secret).into_owned());
        let end = Claims::of(&secret).and_then(|claims| claims.moment("exp"));
        Ok(Self { secret: Secret::new(secret.as_str()), end })
    }

    /// The rest of the token's life, if the token states its end.
    fn left(&self, now: SystemTime) -> Option<Duration> {
        self.end.map(|end| end.duration_since(now).unwrap_or_default())
    }
}

impl TokenSource for FileToken {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let contents = self.contents(&cx).await?;
        Ok(self.token(&contents, cx.clock().now().wall))
    }

    /// The file may contain another token by now.
    async fn look(&self, cx: FetchContext) -> Option<Token> {
        let token = self.token(&self.contents(&cx).await.ok()?, cx.clock().now().wall);
        let is_new = cx.previous.is_none_or(|previous| !previous.is_same(&token));
        is_new.then_some(token)
    }

    fn can_look(&self) -> bool {
        true
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let path = shown(&self.0.path);
        part("file", &path);
        part("token_type", self.0.kind.as_str());
        part(UNNAMED, &format!("whose token the file {path} holds"));
    }
}

impl FileTokenBuilder {
    /// How long a token is used before the file is read again. Default 50 s, from 1 s to 24 h. A JWT that ends
    /// earlier is used only until its end.
    pub fn reread(mut self, time: Duration) -> Self {
        self.reread = Some(time);
        self
    }

    /// The scheme under which the token is sent. Default: `Bearer`. `DPoP` is refused, because this source has no key for the
    /// proof.
    pub fn token_type(mut self, kind: &TokenType) -> Self {
        self.token_type = Some(kind.as_str().to_owned());
        self
    }

    /// Checks the settings. It does not read the file.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(self) -> Result<FileToken, BuildError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        if self.path == Path::new("") {
            return Err(BuildError::new("path", "is empty: name the file that holds the token"));
        }
        let reread = self.reread.unwrap_or(REREAD);
        if !(Duration::from_secs(1)..=DAY).contains(&reread) {
            return Err(BuildError::new(
                "reread",
                "has to be from 1 second to 24 hours; the default is 50 s",
            ));
        }
        let kind = TokenType::parse(self.token_type.as_deref().unwrap_or("Bearer"));
        if kind.is_dpop() {
            return Err(BuildError::new("token_type", NO_PROOF));
        }
        if !kind.is_scheme() {
            let message = format!("is {:?}, which is not a token (RFC 9110 section 5.6.2)", kind.as_str());
            return Err(BuildError::new("token_type", message));
        }
        let reading = Arc::new(Semaphore::new(1));
        let inner = Inner { path: self.path, reread, kind, reading, kept: Mutex::default() };
        Ok(FileToken(Arc::new(inner)))
    }
}

impl fmt::Debug for FileTokenBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTokenBuilder")
            .field("path", &shown(&self.path))
            .field("reread", &self.reread)
            .field("token_type", &self.token_type)
            .finish()
    }
}

impl fmt::Debug for FileToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileToken")
            .field("path", &shown(&self.0.path))
            .field("reread", &self.0.reread)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn while_a_read_hangs_the_earlier_token_stays_in_use() {
        let path = std::env::temp_dir().join(format!("tokenflight-hanging-{}", std::process::id()));
        std::fs::write(&path, "s3cret").unwrap();
        let source = FileToken::builder(&path).build().unwrap();
        source.fetch(FetchContext::new(Reason::First)).await.unwrap();
        std::fs::remove_file(&path).unwrap();

        let hanging = Arc::clone(&source.0.reading).acquire_owned().await.unwrap();
        let deadline = SystemClock.now().boot + Duration::from_secs(10);
        let cx = |reason| FetchContext::new(reason).with_deadline(deadline);
        assert_eq!(source.fetch(cx(Reason::Expired)).await.unwrap().secret(), "s3cret");
        let error = source.fetch(cx(Reason::Rejected)).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("was not read within"), "{error}");
        drop(hanging);
    }
}

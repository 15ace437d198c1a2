//! The login of the servers: from the URL, from a provider, or from a file. Its secrets are kept out of errors.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::{ConnectionInfo, RedisResult};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::address::Address;
use crate::panics::Contained;
use crate::redactor::Redactor;
use crate::secret::Secret;
use crate::secret::place::cut;

/// The login for Redis from a provider: see
/// [`RedisStoreBuilder::credentials`](super::RedisStoreBuilder::credentials).
///
/// ```
/// use tokenflight::store::RedisCredentials;
///
/// let credentials = RedisCredentials::new("s3cret").username("orders");
/// assert!(!format!("{credentials:?}").contains("s3cret"));
/// ```
#[derive(Clone, Debug)]
pub struct RedisCredentials {
    username: Option<String>,
    password: Secret,
}

impl RedisCredentials {
    /// A password. A line break at its end is cut off with a WARN. The username is the one in the URL, or Redis's
    /// `default`.
    pub fn new(password: impl Into<String>) -> Self {
        Self { username: None, password: Secret::new(password) }
    }

    /// The username, if the URL has none, or another one. Default: the one in the URL.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<RedisCredentials, BoxError>> + Send>>;

/// The user's closure. A clone is the same closure.
#[derive(Clone)]
pub(super) struct Provider(Arc<dyn Fn() -> Answer + Send + Sync>);

impl Provider {
    pub(super) fn new<F, E>(provider: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<RedisCredentials, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(Arc::new(move || {
            let answer = provider();
            Box::pin(async move { answer.await.map_err(Into::into) })
        }))
    }

    /// `None` if it panicked. The call itself is foreign code too: it runs when this future is polled.
    async fn ask(&self) -> Option<Result<RedisCredentials, BoxError>> {
        let provider = Arc::clone(&self.0);
        Contained::new(Box::pin(async move { provider().await })).await
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[a provider]")
    }
}

/// The origin of the servers' password.
pub(super) enum Origin {
    Url,
    Provider(Provider),
    File(PathBuf),
}

/// The login of the servers, and all secrets of the store's logins that an error may contain.
pub(super) struct Login {
    from: Origin,
    /// The secrets in the URL: of the servers and of the sentinels.
    fixed: Redactor,
    /// The latest logins of the provider. A connection may still use an older login than the newest.
    asked: Mutex<VecDeque<(Option<String>, Secret)>>,
}

impl Login {
    pub(super) fn new(from: Origin, address: &Address) -> Self {
        let mut fixed = Redactor::default();
        for settings in address.named().map(ConnectionInfo::redis_settings) {
            if let Some(password) = settings.password() {
                hide(&mut fixed, settings.username(), password);
            }
        }
        Self { from, fixed, asked: Mutex::default() }
    }

    /// Whether a new connection may have another login than the last one.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self.from, Origin::Url)
    }

    /// The login for a new connection.
    pub(super) async fn ask(&self) -> RedisResult<Option<RedisCredentials>> {
        let credentials = match &self.from {
            Origin::Url => return Ok(None),
            Origin::Provider(provider) => {
                let answer = provider.ask().await;
                let answer =
                    answer.ok_or_else(|| refused("the provider of credentials panicked".to_owned()))?;
                answer
                    .map_err(|error| refused(format!("the provider of credentials failed: {error}")))?
                    .without_line_break()
            }
            Origin::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                let read = read.map_err(io::Error::other).and_then(|read| read);
                read.map_err(|error| refused(format!("the password file cannot be used: {error}")))?
            }
        };
        self.remember(&credentials);
        Ok(Some(credentials))
    }

    fn remember(&self, credentials: &RedisCredentials) {
        const KEPT: usize = 3;
        let mut asked = self.asked();
        if asked.iter().any(|(_, known)| known.expose() == credentials.password.expose()) {
            return;
        }
        asked.push_front((credentials.username.clone(), credentials.password.clone()));
        asked.truncate(KEPT);
    }

    /// One printable line of a text that Redis, or a proxy, wrote. Both may repeat the request. `None`: the text contains
    /// a secret in a form that cannot be cut out.
    pub(super) fn clean(&self, text: &str) -> Option<String> {
        const LIMIT: usize = 200;
        /// The limit of the text that is read, so that a long text costs little. The text after it would not be
        /// shown.
        const READ: usize = 16_384;
        // After an unknown command Redis quotes its arguments.
        let text = text.split_once(", with args beginning with").map_or(text, |(before, _)| before);
        let end = text.char_indices().nth(READ).map_or(text.len(), |(end, _)| end);
        let mut redactor = self.fixed.clone();
        for (username, password) in self.asked().iter() {
            hide(&mut redactor, username.as_deref(), password.expose());
        }
        // First each usual form is replaced. Then the rest is searched for the secret in any encoding.
        redactor.quoted(&redactor.clean(&text[..end], READ), LIMIT)
    }

    fn asked(&self) -> MutexGuard<'_, VecDeque<(Option<String>, Secret)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisCredentials {
    /// A line break at the end of the password is cut off with a WARN.
    fn without_line_break(self) -> Self {
        let password = Secret::new(cut("credentials", self.password.expose()));
        Self { password, ..self }
    }

    /// The server with this login.
    pub(super) fn signed(&self, server: &ConnectionInfo) -> ConnectionInfo {
        let mut settings = server.redis_settings().clone().set_password(self.password.expose());
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        server.clone().set_redis_settings(settings)
    }
}

/// An error after which a second try does not help.
pub(super) fn refused(text: String) -> ::redis::RedisError {
    io::Error::new(io::ErrorKind::PermissionDenied, text).into()
}

/// The password in a file, without the line break at its end.
fn read(path: &Path) -> io::Result<RedisCredentials> {
    const LIMIT: u64 = 65_536;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it holds text that is not UTF-8"))?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(wrong("it is empty"));
    }
    if bytes.len() as u64 == LIMIT {
        return Err(wrong("it is too long"));
    }
    Ok(RedisCredentials::new(password))
}

/// Hides the login in each form in which Redis or a proxy may repeat it.
fn hide(redactor: &mut Redactor, username: Option<&str>, password: &str) {
    let pair = Zeroizing::new(format!("{}:{password}", username.unwrap_or_default()));
    for text in [password, &pair] {
        redactor.hide(Zeroizing::new(STANDARD_NO_PAD.encode(text)));
        redactor.hide(Zeroizing::new(URL_SAFE_NO_PAD.encode(text)));
    }
    for kept in ["", "!$&'()*+,;="] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            let escaped = escaped(password, kept, digits);
            redactor.hide(Zeroizing::new(escaped.replace("%20", "+")));
            redactor.hide(escaped);
        }
    }
    // In the form of `Debug` and JSON.
    redactor.hide(Zeroizing::new(password.escape_debug().to_string()));
    redactor.hide(Zeroizing::new(password.to_owned()));
}

/// Percent-encoded, except the characters that a URL never encodes and those in `kept`.
fn escaped(text: &str, kept: &str, digits: &[u8; 16]) -> Zeroizing<String> {
    let digit = |value: u8| char::from(digits[usize::from(value & 15)]);
    let mut escaped = Zeroizing::new(String::with_capacity(text.len() * 3));
    for byte in text.bytes() {
        let char = char::from(byte);
        if char.is_ascii_alphanumeric() || "-._~".contains(char) || kept.contains(char) {
            escaped.push(char);
        } else {
            escaped.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hidden_in_every_form() {
        const PASSWORD: &str = "p&w d/\u{e9}\"1";
        let address = Address::parse("redis://user@localhost").unwrap();
        let login = Login::new(Origin::Url, &address);
        login.remember(&RedisCredentials::new(PASSWORD).username("user"));
        let forms = [
            PASSWORD,
            "p%26w%20d%2F%C3%A9%221",
            "p%26w%20d%2f%c3%a9%221",
            "p&w%20d%2F%C3%A9%221",
            "p%26w+d%2F%C3%A9%221",
            "p&w d/\u{e9}\\\"1",
            "cCZ3IGQvw6kiMQ==",
            "dXNlcjpwJncgZC/DqSIx",
            "dXNlcjpwJncgZC_DqSIx",
        ];
        for form in forms {
            let clean = login.clean(&format!("ERR who is {form}?")).unwrap();
            assert!(clean.starts_with("ERR who is [redacted]"), "{form}: {clean}");
        }
    }

    #[test]
    fn what_an_unknown_command_was_sent_is_not_repeated() {
        let login = Login::new(Origin::Url, &Address::parse("redis://user:pw@localhost").unwrap());
        let said = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `user`, `p";
        assert_eq!(login.clean(said).unwrap(), "ERR unknown command `HELLO`");
        assert_eq!(login.clean(&"x\r\n".repeat(100_000)).unwrap().len(), 203);
    }

    #[test]
    fn secrets_of_the_login_do_not_show() {
        let credentials = RedisCredentials::new("s3cret").username("user");
        assert_eq!(
            format!("{credentials:?}"),
            r#"RedisCredentials { username: Some("user"), password: [redacted] }"#
        );
        let provider = Provider::new(move || std::future::ready(Ok::<_, io::Error>(credentials.clone())));
        assert_eq!(format!("{provider:?}"), "[a provider]");
    }
}

//! A helper program that writes a token: the exec credential protocol of Kubernetes' clients, or plain JSON.

mod answer;
mod builder;
mod process;

use std::fmt;
use std::time::Duration;

use crate::error::SourceError;
use crate::redactor::Redactor;
use crate::source::{FetchContext, TokenSource, UNNAMED};
use crate::token::Token;

pub use answer::ExecFormat;
pub use builder::ExecCredentialBuilder;
use process::Program;

/// Tokens that a helper program writes to its standard output.
///
/// By default the program uses the [exec credential protocol][k8s] of Kubernetes' clients, version `v1`: it gets
/// `KUBERNETES_EXEC_INFO` in its environment and writes an object of the same `apiVersion` with `status.token`, and
/// optionally `status.expirationTimestamp`. With [`ExecFormat::Plain`] it writes a table with `access_token` or
/// `token`.
///
/// ```
/// use tokenflight::source::{ExecCredential, ExecFormat};
/// use tokenflight::{FetchContext, Reason, TokenSource};
///
/// # #[cfg(unix)]
/// # actix_rt::System::new().block_on(async {
/// let source = ExecCredential::builder("sh")
///     .args(["-c", r#"printf '{"access_token":"%s","expires_in":600}' "$ORDERS_TOKEN""#])
///     .env("ORDERS_TOKEN", "s3cret")
///     .format(ExecFormat::Plain)
///     .build()?;
/// let token = source.fetch(FetchContext::new(Reason::First)).await?;
/// assert_eq!(token.secret(), "s3cret");
/// assert!(!format!("{source:?}").contains("s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// A token without an end lasts until an API rejects it, or for the policy's `max_lifetime` (30 days).
///
/// The program is started directly, without a shell, and with an empty standard input. It has its own process
/// group. The group is killed when the time is up, when the program writes too much, and when the flight is given
/// up. (Systems other than Unix have no such group: there only the program is killed.) Every user of the machine
/// can read arguments. Therefore pass secrets by [`env`](ExecCredentialBuilder::env).
///
/// # Errors of a fetch
/// Terminal: the program cannot be started; it writes another `apiVersion` or `kind`, or a client certificate in
/// place of a token. Transient: it ends with an error, takes longer than `timeout`, writes more than 64 KiB, or
/// writes no JSON with a token. Its standard error is quoted on one line of at most 300 bytes, unless it contains
/// an argument, a value of its environment that may be a secret, or the token.
///
/// [k8s]: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
pub struct ExecCredential {
    program: Program,
    format: ExecFormat,
    /// The version that the program must answer with, in the protocol of Kubernetes.
    api_version: String,
    timeout: Duration,
    /// Knows the inputs of the program.
    redactor: Redactor,
}

impl ExecCredential {
    /// Begins with the program: a path, or a name that is looked up in `PATH`.
    pub fn builder(command: impl Into<String>) -> ExecCredentialBuilder {
        ExecCredentialBuilder::new(command.into())
    }
}

impl TokenSource for ExecCredential {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let output = self.program.run(self.timeout, cx.time_left()).await?;
        let mut redactor = self.redactor.clone();
        answer::hide(&mut redactor, &output.stdout);
        if !output.is_success {
            let said = said(&redactor, &output.stderr);
            let message = format!("{} ended with {}{said}", self.program.shown(), output.status);
            return Err(SourceError::transient(message));
        }
        let read = match self.format {
            ExecFormat::Kubernetes => answer::kubernetes(&output.stdout, &self.api_version, &self.redactor),
            ExecFormat::Plain => answer::plain(&output.stdout, &self.redactor),
        };
        read.map_err(|flaw| {
            let said = said(&redactor, &output.stderr);
            flaw.into_error(&format!("{} wrote", self.program.shown()), &said)
        })
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.program.identify(part);
        part("format", self.format.as_str());
        part(UNNAMED, &format!("whose token {} writes", self.program.shown()));
    }
}

/// The program's explanation, if it contains no secret.
fn said(redactor: &Redactor, stderr: &[u8]) -> String {
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(stderr);
    match text.trim() {
        "" => String::new(),
        text => match redactor.quoted(text, SHOWN) {
            Some(line) => format!(": {line}"),
            None => {
                " (what it wrote to stderr is not shown: it contains an input of the program, or the token)"
                    .to_owned()
            }
        },
    }
}

impl fmt::Debug for ExecCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecCredential")
            .field("program", &self.program)
            .field("format", &self.format)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

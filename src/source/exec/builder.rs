//! The settings of a helper program, from code or from a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::duration;
use crate::error::BuildError;
use crate::redactor::Redactor;
use crate::secret::Secret;
use crate::settings::{secret_list, secret_table, settings};

use super::process::Program;
use super::{ExecCredential, ExecFormat};

const API_VERSION: &str = "client.authentication.k8s.io/v1";
/// The variable in which Kubernetes' clients pass their request.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";
/// Just below the policy's `attempt_timeout` of 10 s. Therefore the source's own error comes first.
const TIMEOUT: Duration = Duration::from_secs(9);

settings! {
    /// The settings of [`ExecCredential`], from code or by serde from a file.
    ///
    /// In a file, `command` is required, `args` is a list, and `env` is a table. `Debug` hides the arguments and the values
    /// of the variables.
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct ExecCredentialBuilder {
        command: String,
        #[serde(default, deserialize_with = "secret_list")]
        args: Vec<Secret>,
        #[serde(default, deserialize_with = "secret_table")]
        env: BTreeMap<String, Secret>,
        #[serde(default)]
        clear_env: bool,
        #[serde(default)]
        folder: Option<PathBuf>,
        #[serde(default)]
        format: ExecFormat,
        #[serde(default)]
        api_version: Option<String>,
        #[serde(default)]
        cluster: Option<Value>,
        #[serde(default, deserialize_with = "duration::some_duration")]
        timeout: Option<Duration>,
    }
}

impl ExecCredentialBuilder {
    pub(super) fn new(command: String) -> Self {
        Self {
            command,
            args: Vec::new(),
            env: BTreeMap::new(),
            clear_env: false,
            folder: None,
            format: ExecFormat::default(),
            api_version: None,
            cluster: None,
            timeout: None,
        }
    }

    /// Adds an argument. It is passed unchanged: there is no shell. Default: none.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(Secret::new(arg));
        self
    }

    /// Adds arguments. Default: none.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Secret::new));
        self
    }

    /// Sets a variable of the program's environment. The value is treated as a secret. Default: this process's own
    /// variables.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), Secret::new(value));
        self
    }

    /// Gives the program only the variables that were set, `PATH` and `HOME`. Default: all variables of this process.
    pub fn clear_env(mut self, clear: bool) -> Self {
        self.clear_env = clear;
        self
    }

    /// The folder in which the program runs. Default: the folder of this process.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = Some(path.into());
        self
    }

    /// The form of the program's output. Default: [`ExecFormat::Kubernetes`].
    pub fn format(mut self, format: ExecFormat) -> Self {
        self.format = format;
        self
    }

    /// The version of the protocol, for an older program: `client.authentication.k8s.io/v1beta1`. Default:
    /// `client.authentication.k8s.io/v1`. The program must answer with the same version.
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.api_version = Some(version.into());
        self
    }

    /// The program's information about the cluster (`spec.cluster`: `server`, `certificate-authority-data`,
    /// `config`). Default: none.
    pub fn cluster(mut self, cluster: Value) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// The time limit of the program. Default 9 s, just below the policy's `attempt_timeout`. The program also ends
    /// with the attempt.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Checks the settings. It does not start or look for the program.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build(mut self) -> Result<ExecCredential, BuildError> {
        if self.command.trim().is_empty() {
            return Err(BuildError::new("command", "is empty: name the program to start"));
        }
        let has_zero = |text: &str| text.contains('\0');
        if has_zero(&self.command) {
            return Err(BuildError::new("command", "has a zero byte in it, which no program's name has"));
        }
        if self.args.iter().any(|arg| has_zero(arg.expose())) {
            return Err(BuildError::new("args", "has a zero byte in it, which no argument can have"));
        }
        let is_bad = |name: &str| name.is_empty() || name.contains(['=', '\0']);
        if self.env.iter().any(|(name, value)| is_bad(name) || has_zero(value.expose())) {
            return Err(BuildError::new("env", "has a name or a value that no variable can have"));
        }
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        if timeout.is_zero() {
            return Err(BuildError::new("timeout", "must be longer than zero"));
        }
        if self.folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(BuildError::new("folder", "is empty: leave it out for the folder of this process"));
        }
        if self.format == ExecFormat::Plain {
            let unused = [("api_version", self.api_version.is_some()), ("cluster", self.cluster.is_some())];
            if let Some((field, _)) = unused.into_iter().find(|(_, is_set)| *is_set) {
                let message = "has no effect with `format = \"plain\"`: leave it out, or leave out `format`";
                return Err(BuildError::new(field, message));
            }
        }
        let redactor = self.redactor();
        let api_version = self.api_version.take().unwrap_or_else(|| API_VERSION.to_owned());
        if self.format == ExecFormat::Kubernetes {
            let info = self.info(&api_version)?;
            self.env.insert(EXEC_INFO.to_owned(), Secret::new(info));
        }
        let program = Program {
            command: self.command,
            args: self.args,
            env: self.env,
            clear_env: self.clear_env,
            folder: self.folder,
        };
        Ok(ExecCredential { program, format: self.format, api_version, timeout, redactor })
    }

    fn info(&self, api_version: &str) -> Result<String, BuildError> {
        if self.env.contains_key(EXEC_INFO) {
            let message = "sets `KUBERNETES_EXEC_INFO`, which is made from `api_version` and `cluster`";
            return Err(BuildError::new("env", message));
        }
        if !api_version.starts_with("client.authentication.k8s.io/") {
            let message = "is no version of the protocol, such as \"client.authentication.k8s.io/v1\"";
            return Err(BuildError::new("api_version", message));
        }
        let mut spec = json!({ "interactive": false });
        match &self.cluster {
            Some(cluster) if cluster.is_object() => spec["cluster"] = cluster.clone(),
            Some(_) => {
                return Err(BuildError::new("cluster", "must be a table: it is passed to the program"));
            }
            None => {}
        }
        let info = json!({ "apiVersion": api_version, "kind": "ExecCredential", "spec": spec });
        Ok(info.to_string())
    }

    /// Hides the program's inputs: the arguments except the names of options ([`secrets_in`]), the variables that were set, and
    /// those variables of this process whose names suggest a secret.
    fn redactor(&self) -> Redactor {
        const SHORTEST: usize = 8;
        let mut redactor = Redactor::default();
        let mut hide = |text: &str| redactor.hide(Zeroizing::new(text.to_owned()));
        self.args.iter().flat_map(|arg| secrets_in(arg.expose())).for_each(&mut hide);
        self.env.values().for_each(|value| hide(value.expose()));
        let is_secret = |name: &str| {
            ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"]
                .iter()
                .any(|word| name.contains(word))
        };
        for (name, value) in std::env::vars_os().filter(|_| !self.clear_env) {
            let (name, value) =
                (name.to_string_lossy(), Zeroizing::new(value.to_string_lossy().into_owned()));
            if is_secret(&name.to_ascii_uppercase()) && value.len() >= SHORTEST {
                hide(&value);
            }
        }
        redactor
    }
}

/// The parts of an argument that may be a secret: everything except the name of an option, `--name` in lower-case letters
/// or `-x`. A secret may begin with `-`.
fn secrets_in(arg: &str) -> Vec<&str> {
    let (name, value) = match arg.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (arg, None),
    };
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    let is_long = name.strip_prefix("--").is_some_and(|name| name.bytes().all(is_letter));
    let is_short = name.strip_prefix('-').is_some_and(|name| name.chars().count() <= 1);
    let mut secrets: Vec<&str> = value.into_iter().collect();
    if !is_long && !is_short {
        // `-xVALUE`, or no option.
        let after = arg.strip_prefix('-').and_then(|arg| arg.split_at_checked(1));
        secrets.extend(after.map(|(_, rest)| rest));
        secrets.push(arg.trim_start_matches('-'));
    }
    secrets
}

impl fmt::Debug for ExecCredentialBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecCredentialBuilder")
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env)
            .field("format", &self.format)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

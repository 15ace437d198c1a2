//! One run of the program: bounded in time and output, and killed with all its child processes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::redactor::printable;
use crate::secret::Secret;

/// In bytes, of the standard output. More is an error.
const LONGEST_OUTPUT: usize = 64 * 1024;
/// In bytes, of the standard error. More is read and dropped, so that the program can continue.
const LONGEST_ERROR: usize = 4 * 1024;

/// The program to start.
pub(super) struct Program {
    pub(super) command: String,
    pub(super) args: Vec<Secret>,
    pub(super) env: BTreeMap<String, Secret>,
    pub(super) clear_env: bool,
    pub(super) folder: Option<PathBuf>,
}

/// The output of the program.
pub(super) struct Output {
    pub(super) is_success: bool,
    pub(super) status: String,
    pub(super) stdout: Zeroizing<Vec<u8>>,
    pub(super) stderr: Zeroizing<Vec<u8>>,
}

impl Program {
    /// The text for messages.
    pub(super) fn shown(&self) -> String {
        format!("the program {:?}", printable(&self.command, 80))
    }

    pub(super) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("command", &self.command);
        self.args.iter().for_each(|arg| part("arg", arg.expose()));
        self.env.iter().for_each(|(name, value)| part(&format!("env.{name}"), value.expose()));
        if self.clear_env {
            part("clear_env", "true");
        }
        if let Some(folder) = &self.folder {
            part("folder", &folder.display().to_string());
        }
    }

    /// Starts the program and waits for its end, up to this limit.
    pub(super) async fn run(&self, limit: Duration) -> Result<Output, SourceError> {
        let mut running = Running(self.start()?);
        let Ok(ended) = tokio::time::timeout(limit, self.output(&mut running.0)).await else {
            let message = format!("{} took longer than {limit:?} (`timeout`), and was killed", self.shown());
            return Err(SourceError::timed_out(message));
        };
        ended
    }

    fn start(&self) -> Result<Child, SourceError> {
        let mut command = Command::new(&self.command);
        command.args(self.args.iter().map(Secret::expose));
        if self.clear_env {
            command.env_clear();
            command
                .envs(["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        command.spawn().map_err(|error| {
            let message = format!("{} cannot be started: {error}; check `command`", self.shown());
            match error.kind() {
                // No memory or no file descriptors: a later attempt may work.
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => SourceError::terminal(message),
                _ => SourceError::transient(message),
            }
        })
    }

    async fn output(&self, child: &mut Child) -> Result<Output, SourceError> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) =
            both(read(stdout, LONGEST_OUTPUT, false), read(stderr, LONGEST_ERROR, true)).await;
        let failed = |error: io::Error| {
            SourceError::transient(format!("the output of {} cannot be read: {error}", self.shown()))
        };
        let ((stdout, is_whole), (stderr, _)) = (stdout.map_err(failed)?, stderr.map_err(failed)?);
        if !is_whole {
            let message = format!("{} wrote more than {LONGEST_OUTPUT} bytes", self.shown());
            return Err(SourceError::transient(message));
        }
        let status = child.wait().await.map_err(failed)?;
        Ok(Output { is_success: status.success(), status: described(status), stdout, stderr })
    }
}

/// "exit status: 1", "signal: 9".
fn described(status: ExitStatus) -> String {
    printable(&status.to_string(), 60)
}

/// Reads both outputs. If the standard output is too long, the rest is not awaited.
async fn both(stdout: impl Future<Output = Read>, stderr: impl Future<Output = Read>) -> (Read, Read) {
    let (mut stdout, mut stderr) = (pin!(stdout), pin!(stderr));
    let (mut out, mut err) = (None, None);
    poll_fn(|task| {
        if out.is_none()
            && let Poll::Ready(read) = stdout.as_mut().poll(task)
        {
            out = Some(read);
        }
        if err.is_none()
            && let Poll::Ready(read) = stderr.as_mut().poll(task)
        {
            err = Some(read);
        }
        let is_cut = matches!(&out, Some(Ok((_, false)) | Err(_)));
        if is_cut && err.is_none() {
            err = Some(Ok((Zeroizing::default(), false)));
        }
        match (out.take(), err.take()) {
            (Some(out), Some(err)) => Poll::Ready((out, err)),
            (some_out, some_err) => {
                (out, err) = (some_out, some_err);
                Poll::Pending
            }
        }
    })
    .await
}

type Read = io::Result<(Zeroizing<Vec<u8>>, bool)>;

/// Reads up to the limit. Returns the bytes, and whether they are all. If `drained`, the rest after the limit is
/// read and dropped.
async fn read(from: Option<impl AsyncRead + Unpin>, limit: usize, drained: bool) -> Read {
    let (mut kept, mut is_whole) = (Zeroizing::new(Vec::with_capacity(limit)), true);
    let Some(mut from) = from else { return Ok((kept, true)) };
    let mut buffer = Zeroizing::new(vec![0; 4096]);
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok((kept, is_whole));
        }
        let room = (limit - kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
        is_whole &= room == count;
        if !is_whole && !drained {
            return Ok((kept, false));
        }
    }
}

/// A running program. If it is dropped before the program's end, it kills the program and its whole group.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `None` after the program's end has been awaited. Until then the number belongs to the program alone.
        let Some(id) = self.0.id() else { return };
        #[cfg(unix)]
        if let Some(group) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
            // This fails only if no process of the group is left.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        #[cfg(not(unix))]
        let _ = id;
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("command", &self.command)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

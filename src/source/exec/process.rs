//! One run of the program: bounded in time and output, and killed with all its child processes.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::redactor::printable;
use crate::secret::Secret;

/// In bytes, of the standard output. More is an error.
const LONGEST_OUTPUT: usize = 64 * 1024;
/// The longest wait for the standard error after the program's end: a process that the program has left behind may hold
/// it open.
const LATE: Duration = Duration::from_millis(100);
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

    /// Starts the program and waits for its end: up to `timeout`, and for as much of it as is `left` for the attempt.
    pub(super) async fn run(&self, timeout: Duration, left: Option<Duration>) -> Result<Output, SourceError> {
        let (limit, name) = match left.filter(|left| *left < timeout) {
            Some(left) => (left, "the time that was left for the attempt"),
            None => (timeout, "`timeout`"),
        };
        let shown = Duration::from_millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let mut running = Running(self.start()?);
        let Ok(ended) = tokio::time::timeout(limit, self.output(&mut running.0)).await else {
            let message = format!("{} took longer than {shown:?} ({name}), and was killed", self.shown());
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
            if !folder.is_dir() {
                let shown = crate::secret::path::shown(folder);
                let message =
                    format!("{} cannot be started in {shown}: it is no folder; check `folder`", self.shown());
                return Err(SourceError::terminal(message));
            }
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
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (mut stdout, mut stderr) = (buffer(LONGEST_OUTPUT), buffer(LONGEST_ERROR));
        let ended = {
            let end = async {
                let is_whole = read(out, &mut stdout, LONGEST_OUTPUT, false).await?;
                if is_whole { child.wait().await.map(Some) } else { Ok(None) }
            };
            let mut errors = pin!(read(err, &mut stderr, LONGEST_ERROR, true));
            let (ended, has_errors) = beside(end, errors.as_mut()).await;
            if !has_errors && matches!(ended, Ok(Some(_))) {
                let _ = tokio::time::timeout(LATE, errors).await;
            }
            ended
        };
        match ended {
            Ok(Some(status)) => {
                Ok(Output { is_success: status.success(), status: described(status), stdout, stderr })
            }
            Ok(None) => {
                let message = format!("{} wrote more than {LONGEST_OUTPUT} bytes", self.shown());
                Err(SourceError::transient(message))
            }
            Err(error) => {
                Err(SourceError::transient(format!("the output of {} cannot be read: {error}", self.shown())))
            }
        }
    }
}

/// "exit status: 1", "signal: 9".
fn described(status: ExitStatus) -> String {
    printable(&status.to_string(), 60)
}

/// Polls `other` until `main` has ended. Returns whether `other` has ended too.
async fn beside<T, U>(
    main: impl Future<Output = T>,
    mut other: Pin<&mut impl Future<Output = U>>,
) -> (T, bool) {
    let (mut main, mut has_ended) = (pin!(main), false);
    poll_fn(|task| {
        has_ended = has_ended || other.as_mut().poll(task).is_ready();
        main.as_mut().poll(task).map(|ended| (ended, has_ended))
    })
    .await
}

fn buffer(size: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(size))
}

/// Reads up to the limit into `kept`. Returns whether these are all bytes. If `drained`, the rest after the limit is
/// read and dropped.
async fn read(
    from: Option<impl AsyncRead + Unpin>,
    kept: &mut Zeroizing<Vec<u8>>,
    limit: usize,
    drained: bool,
) -> io::Result<bool> {
    let Some(mut from) = from else { return Ok(true) };
    let (mut buffer, mut is_whole) = (Zeroizing::new(vec![0; 4096]), true);
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(is_whole);
        }
        let room = (limit - kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
        is_whole &= room == count;
        if !is_whole && !drained {
            return Ok(false);
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

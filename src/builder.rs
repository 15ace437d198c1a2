//! Makes a running actor from settings.

use std::fmt;
use std::sync::Arc;

use actix::dev::channel;
use actix::{Actor, Addr, Context};
use actix_rt::{Arbiter, ArbiterHandle, System};

use crate::actor::TokenActor;
use crate::clock::{Clock, SystemClock};
use crate::error::BuildError;
use crate::handle::TokenHandle;
use crate::policy::RefreshPolicy;
use crate::source::{BoxSource, TokenSource};

impl TokenActor {
    /// Begins the settings of an actor that gets its tokens from `source`.
    pub fn builder(source: impl TokenSource) -> TokenActorBuilder {
        TokenActorBuilder {
            name: "token".into(),
            source: BoxSource::new(source),
            policy: RefreshPolicy::default(),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }
}

/// The settings of a [`TokenActor`], and the ways to start it.
#[must_use = "it does nothing until it is started"]
pub struct TokenActorBuilder {
    name: Arc<str>,
    source: BoxSource,
    policy: RefreshPolicy,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

impl TokenActorBuilder {
    /// When to refresh, how often to try, how long to wait. Default: [`RefreshPolicy::default`].
    pub fn policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The actor's name in the log, in metrics, and in the name of its thread. Without a NUL. Default: "token".
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The clock from which the actor reads the time. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The seed of the jitter, for a test that must be repeatable. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The actor itself, to be started in the usual way of actix: `build()?.start()` gives its `Addr`.
    ///
    /// # Errors
    /// An impossible policy; the error names the field.
    pub fn build(self) -> Result<TokenActor, BuildError> {
        self.policy.check()?;
        if self.name.contains('\0') {
            return Err(BuildError::new("name", "contains a NUL, which no thread name can contain"));
        }
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        Ok(TokenActor::new(self.name, self.source, self.policy, self.clock, seed))
    }

    /// Starts it on this thread's arbiter.
    ///
    /// # Errors
    /// An impossible policy; or no arbiter on this thread: see [`spawn_thread`](Self::spawn_thread). With feature
    /// `test-util` also: tokio's time is paused, and the clock is not.
    pub fn start(self) -> Result<TokenHandle, BuildError> {
        let arbiter = Arbiter::try_current().ok_or_else(no_arbiter)?;
        one_time(&*self.clock)?;
        self.start_on(&arbiter)
    }

    /// Starts it on another arbiter.
    ///
    /// # Errors
    /// An impossible policy, or an arbiter that has stopped.
    pub fn start_on(self, arbiter: &ArbiterHandle) -> Result<TokenHandle, BuildError> {
        let actor = self.build()?;
        if !arbiter.alive() {
            return Err(BuildError::new("arbiter", "has stopped: start the actor on a running arbiter"));
        }
        let shared = actor.shared();
        Ok(TokenHandle::new(TokenActor::start_in_arbiter(arbiter, |_| actor), shared))
    }

    /// Starts the actor on its own thread with its own actix System. The caller may be plain tokio, or have no
    /// runtime at all. The thread ends with the actor, and may outlive the runtime that started it.
    ///
    /// # Errors
    /// An impossible policy, or no thread is available.
    pub fn spawn_thread(self) -> Result<TokenHandle, BuildError> {
        let actor = self.build()?;
        let (name, shared) = (actor.name().to_owned(), actor.shared());
        Ok(TokenHandle::new(on_own_thread(&name, move || actor)?, shared))
    }
}

/// A test that pauses tokio's time and uses the machine's clock would wait for an expiry that never comes.
#[cfg_attr(not(feature = "test-util"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(crate) fn one_time(clock: &dyn Clock) -> Result<(), BuildError> {
    #[cfg(feature = "test-util")]
    if crate::still::is_mixed(clock) {
        return Err(BuildError::new("clock", crate::still::MIXED));
    }
    Ok(())
}

pub(crate) fn no_arbiter() -> BuildError {
    BuildError::new(
        "arbiter",
        "is missing: this thread runs no actix System; use start_on() or spawn_thread()",
    )
}

/// Starts an actor on its own thread with its own actix System.
pub(crate) fn on_own_thread<A: Actor<Context = Context<A>>>(
    name: &str,
    make: impl FnOnce() -> A + Send + 'static,
) -> Result<Addr<A>, BuildError> {
    /// Actix's own default. A message that finds the mailbox full waits, or is of a kind that is never limited.
    const MAILBOX_CAPACITY: usize = 16;
    let (sender, receiver) = channel::channel(MAILBOX_CAPACITY);
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let _ = ready.send(Ok(()));
            let system = System::with_tokio_rt(|| runtime);
            system.block_on(Context::with_receiver(receiver).into_future(make()));
        }
        Err(error) => drop(ready.send(Err(error))),
    };
    let failed = |error| BuildError::new("thread", format!("could not be started: {error}"));
    std::thread::Builder::new().name(format!("tokenflight:{name}")).spawn(run).map_err(failed)?;
    // The runtime needs file descriptors. If there are none, the error appears here.
    started.recv().unwrap_or_else(|gone| Err(std::io::Error::other(gone))).map_err(failed)?;
    Ok(Addr::new(sender))
}

impl fmt::Debug for TokenActorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenActorBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

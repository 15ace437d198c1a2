//! Helpers of the tests: an actor in virtual time, and actors that count their answers.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use tokenflight::testing::{Answer, ManualClock, ScriptedSource};
use tokenflight::{
    RefreshPolicy, SourceError, Subscribe, Token, TokenActor, TokenError, TokenHandle, TokenReady,
};
use tokio::sync::watch;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An actor on this arbiter, in paused time.
pub(crate) struct Rig {
    pub(crate) handle: TokenHandle,
    pub(crate) source: ScriptedSource,
    pub(crate) clock: ManualClock,
}

/// An actor without jitter, whose source takes 60 ms.
pub(crate) fn rig() -> Rig {
    rig_with(plain())
}

/// The default policy, without the dice: cooldowns and margins are exact. Pauses between attempts are
/// random whatever the jitter, so where a pause must be known the test sets `backoff` to zero. New tokens have settled
/// from the start: only tests of reports mind.
pub(crate) fn plain() -> RefreshPolicy {
    settling().settle(millis(0))
}

/// The same, and a new token settles first.
pub(crate) fn settling() -> RefreshPolicy {
    RefreshPolicy::default().jitter(0.0)
}

pub(crate) fn rig_with(policy: RefreshPolicy) -> Rig {
    tokio::time::pause();
    another(policy)
}

/// A further one, where time stands still already.
pub(crate) fn another(policy: RefreshPolicy) -> Rig {
    let source = ScriptedSource::new().taking(millis(60));
    let clock = ManualClock::new();
    let builder = TokenActor::builder(source.clone()).policy(policy).clock(clock.clone());
    Rig { handle: builder.start().expect("the policy is sound"), source, clock }
}

impl Rig {
    /// Waits for `n` callers that ask at once.
    pub(crate) async fn get_all(&self, n: usize) -> Vec<Result<Token, TokenError>> {
        futures_util::future::join_all((0..n).map(|_| self.handle.get())).await
    }
}

pub(crate) fn transient() -> Answer {
    Answer::Error(SourceError::transient("the server is down"))
}

pub(crate) fn terminal() -> Answer {
    Answer::Error(SourceError::terminal("invalid_client"))
}

pub(crate) fn token(secret: &str, lifetime: Duration) -> Answer {
    Answer::Token(Token::new(secret).with_lifetime(lifetime))
}

/// Waits until everything that can run without time passing has run. In paused time a sleep ends only when
/// nothing else can run.
pub(crate) async fn settle() {
    tokio::time::sleep(millis(1)).await;
}

/// What a collector has been told: ticket by ticket.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Answers>>, Arc<watch::Sender<u64>>);

type Answers = BTreeMap<u64, Vec<Result<Token, TokenError>>>;

impl Told {
    pub(crate) fn to(&self, ticket: u64) -> Vec<Result<Token, TokenError>> {
        self.0.lock().unwrap().get(&ticket).cloned().unwrap_or_default()
    }

    /// How many answers there were in all.
    pub(crate) fn total(&self) -> u64 {
        *self.1.borrow()
    }

    pub(crate) fn note(&self, ready: TokenReady) {
        self.0.lock().unwrap().entry(ready.ticket).or_default().push(ready.result);
        self.1.send_modify(|count| *count += 1);
    }

    /// Waits until there have been so many answers.
    pub(crate) async fn wait_for(&self, total: u64) {
        let mut count = self.1.subscribe();
        let enough = count.wait_for(|count| *count >= total);
        // In real time too, so that an answer that is lost is a failure and not a hang.
        tokio::time::timeout(secs(20), enough)
            .await
            .expect("an answer is missing")
            .expect("the sender is here");
    }

    #[track_caller]
    pub(crate) fn assert_each_once(&self, tickets: std::ops::Range<u64>) {
        let told = self.0.lock().unwrap();
        for ticket in tickets.clone() {
            assert_eq!(told.get(&ticket).map_or(0, Vec::len), 1, "answers to ticket {ticket}");
        }
        assert_eq!(told.len(), tickets.count(), "no other ticket was answered");
    }
}

/// An actor that notes each `TokenReady`.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) told: Told,
}

impl Collector {
    pub(crate) fn begin() -> (Addr<Self>, Told) {
        let told = Told::default();
        (Self { told: told.clone() }.start(), told)
    }
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Collector {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        self.told.note(ready);
    }
}

/// Stops the actor that gets it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Halt;

impl Handler<Halt> for Collector {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

pub(crate) fn subscription(to: &Addr<Collector>, ticket: u64) -> Subscribe {
    Subscribe::new(to.clone()).ticket(ticket)
}

/// The test of this name, to be run again in a process of its own; `None` in that process. (The log belongs to the
/// whole process. So do its output and its file descriptors.)
pub(crate) fn in_its_own_process(name: &str) -> Option<Command> {
    const CHILD: &str = "TOKENFLIGHT_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    // The shell sets limits, if any, and then becomes the test.
    let mut child = Command::new("sh");
    child.args(["-c", "eval \"$LIMITS\"; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env_remove("LIMITS");
    Some(child)
}

/// Runs it to its end, and returns all that it wrote.
#[track_caller]
pub(crate) fn all_that_is_written_by(child: &mut Command) -> String {
    let output = child.output().unwrap();
    let written = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{written}");
    assert!(written.contains("1 passed"), "a test of this name has run: {written}");
    written.into_owned()
}

/// The same with every crate's log at trace.
#[cfg(feature = "oauth2")]
#[track_caller]
pub(crate) fn all_that_is_logged_by(child: &mut Command) -> String {
    all_that_is_written_by(child.envs([("RUST_LOG", "trace"), ("RUST_BACKTRACE", "full")]))
}

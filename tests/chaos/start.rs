//! The ways to start an actor, and its source, which checks its own calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::{Addr, Arbiter, ArbiterHandle, Supervisor, System};
use tokenflight::source::ClientCredentials;
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token, TokenActor, TokenHandle, TokenSource};
use tokio::sync::oneshot;

use crate::World;
use crate::tally::PATIENCE;

/// What the source says when it panics on purpose.
pub(crate) const PANIC: &str = "the source panics, as it was told";

/// Where an actor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread of its own.
    Thread,
    /// On an arbiter that ends with it.
    Arbiter,
    /// On the main arbiter of a System that ends with it.
    System,
    /// Under a `Supervisor`, on an arbiter that ends with it.
    Supervised,
    /// On an arbiter on which callers live too.
    Shared,
}

/// How callers reach it: all by messages, and most by a handle too.
#[derive(Clone)]
pub(crate) struct Contact {
    pub(crate) addr: Addr<TokenActor>,
    pub(crate) handle: Option<TokenHandle>,
}

/// What an actor lives on, and what ends with it.
pub(crate) enum Ground {
    None,
    Arbiter(Arbiter),
    System(System, JoinHandle<()>),
}

impl Ground {
    /// Takes it away from under the actor.
    pub(crate) fn stop(&self) {
        match self {
            Self::None => {}
            Self::Arbiter(arbiter) => drop(arbiter.stop()),
            Self::System(system, _) => system.stop(),
        }
    }

    /// To be called where blocking is allowed.
    pub(crate) fn join(self) {
        match self {
            Self::None => {}
            Self::Arbiter(arbiter) => arbiter.join().expect("no panic reaches the arbiter"),
            Self::System(_, thread) => thread.join().expect("no panic reaches the System"),
        }
    }
}

/// Starts the actor with this number.
pub(crate) async fn start(
    world: &Arc<World>,
    number: u64,
    place: Place,
    shared: &ArbiterHandle,
) -> (Contact, Ground) {
    let mut dice = world.dice(number);
    let source = Watched::new(world, number, world.stage.server());
    let builder = TokenActor::builder(source).policy(policy(&mut dice)).name(format!("{place:?} {number}"));
    let (handle, ground) = match place {
        Place::Thread => (builder.spawn_thread().unwrap(), Ground::None),
        Place::Shared => (builder.start_on(shared).unwrap(), Ground::None),
        Place::Arbiter => {
            let arbiter = Arbiter::new();
            (builder.start_on(&arbiter.handle()).unwrap(), Ground::Arbiter(arbiter))
        }
        Place::System => {
            let (sender, receiver) = oneshot::channel();
            let thread = std::thread::spawn(move || {
                let system = System::new();
                let handle = system.block_on(async { builder.start().unwrap() });
                drop(sender.send((handle, System::current())));
                system.run().unwrap();
            });
            let (handle, system) = receiver.await.unwrap();
            (handle, Ground::System(system, thread))
        }
        Place::Supervised => {
            let arbiter = Arbiter::new();
            let actor = builder.build().unwrap();
            let addr = Supervisor::start_in_arbiter(&arbiter.handle(), |_| actor);
            return (Contact { addr, handle: None }, Ground::Arbiter(arbiter));
        }
    };
    (Contact { addr: handle.addr().clone(), handle: Some(handle) }, ground)
}

/// Short, so that a lot happens.
fn policy(dice: &mut fastrand::Rng) -> RefreshPolicy {
    let millis = |from: u64, to: u64, dice: &mut fastrand::Rng| Duration::from_millis(dice.u64(from..=to));
    let cooldown = millis(5, 30, dice);
    let policy = if dice.bool() {
        RefreshPolicy::default()
    } else {
        // Flights for reports all the time.
        RefreshPolicy::default().settle(Duration::ZERO).reports(20).report_every(millis(10, 100, dice))
    };
    policy
        .attempts(dice.u32(1..=3))
        .attempt_timeout(millis(80, 500, dice))
        .flight_timeout(millis(300, 1_500, dice))
        .backoff(millis(0, 20, dice))
        .max_backoff(Duration::from_millis(40))
        .cooldown(cooldown)
        .max_cooldown(cooldown * 4)
        .terminal_cooldown(millis(0, 80, dice))
        .max_retry_after(millis(0, 120, dice))
        .missing_lifetime(Duration::from_millis(300))
        .wait_timeout(PATIENCE)
        .max_waiters(if dice.u8(..4) == 0 { 6 } else { 65_536 })
        .background(dice.bool())
}

/// Counts its calls and what they bring; sometimes it panics.
struct Watched {
    world: Arc<World>,
    number: u64,
    endpoint: ClientCredentials,
    calls: AtomicU64,
    running: AtomicU64,
}

impl Watched {
    fn new(world: &Arc<World>, number: u64, server: SocketAddr) -> Self {
        let endpoint = ClientCredentials::builder(format!("http://{server}/{number}"), "chaos", "s3cret")
            .max_body(16 * 1024)
            .build()
            .unwrap();
        let (calls, running) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { world: Arc::clone(world), number, endpoint, calls, running }
    }
}

/// Runs until it is dropped.
struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TokenSource for Watched {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let tally = &self.world.tally;
        let at_once = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(&self.running);
        tally.calls_at_once(at_once);
        if at_once > 1 {
            tally.breach(format!("the source of actor {} was called {at_once} times at once", self.number));
        }
        tally.count("calls of a source");
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let mut dice = self.world.dice(self.number << 20 | call);
        assert!(dice.u8(..) > 2, "{PANIC}");
        let outcome = self.endpoint.fetch(cx).await;
        assert!(dice.u8(..) > 2, "{PANIC}");
        if let Ok(token) = &outcome {
            tally.source_brought(token);
        }
        outcome
    }
}

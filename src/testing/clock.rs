//! A clock that a test moves.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, Jump, Timestamp};
use crate::still;

/// A clock that follows tokio's time, paused or not. It can also be suspended and set.
///
/// Tokio's time belongs to a runtime. Make the clock inside the runtime whose time it is to follow. On another
/// thread, the clock shows the time at which its own thread read it last.
///
/// It starts at the 1st of January 2026, 100 days after the machine's start.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: ThreadId,
    start: Instant,
    state: Mutex<State>,
    jumps: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    /// Tokio's time since `start`, at the last read by the clock's own thread.
    elapsed: Duration,
    /// The boot clock when `elapsed` is zero.
    boot: Duration,
    /// The wall clock when `elapsed` is zero.
    wall: SystemTime,
    /// How often the clock was moved by hand.
    moves: u64,
}

impl ManualClock {
    /// A clock that follows the time of the runtime in which this is called.
    pub fn new() -> Self {
        let state = State {
            elapsed: Duration::ZERO,
            boot: Duration::from_secs(100 * 24 * 60 * 60),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            moves: 0,
        };
        Self(Arc::new(Inner {
            home: thread::current().id(),
            start: Instant::now(),
            state: Mutex::new(state),
            jumps: watch::Sender::new(()),
        }))
    }

    /// The machine sleeps for this time: both clocks continue, tokio's timers do not. This is no
    /// [jump](Clock::jump): the wall clock was not set. A background actor that nobody asks notices the sleep within
    /// 60 s of tokio's time.
    pub fn suspend(&self, time: Duration) {
        self.shift(|state| {
            state.boot += time;
            state.wall += time;
        });
    }

    /// Sets the wall clock forward.
    pub fn set_forward(&self, by: Duration) {
        self.shift(|state| state.wall += by);
        self.0.jumps.send_replace(());
    }

    /// Sets the wall clock back.
    pub fn set_back(&self, by: Duration) {
        self.shift(|state| state.wall -= by);
        self.0.jumps.send_replace(());
    }

    fn shift(&self, shift: impl FnOnce(&mut State)) {
        self.change(|state| {
            shift(state);
            state.moves += 1;
        });
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if thread::current().id() == self.0.home {
            state.elapsed = Instant::now().saturating_duration_since(self.0.start);
        }
        change(&mut state)
    }
}

/// Pauses tokio's time, if it is not paused yet, and returns a clock that follows it: `tokio::time::sleep` and
/// `tokio::time::advance` move both. Give the clock to each builder.
///
/// With a clock that continues by itself, such as the default one, an actor in paused time would keep its token for
/// ever. Therefore its builder refuses to start it (field `clock`). If the time of an actor's arbiter is paused
/// later, its next flight fails with the same text.
///
/// Do not use sockets in paused time. While all tasks wait for a socket, tokio moves its time to the next timeout.
/// [`ManualClock::suspend`] moves a token's time and does not change tokio's.
///
/// ```
/// use std::time::Duration;
/// use tokenflight::testing::{ScriptedSource, paused};
/// use tokenflight::TokenActor;
///
/// # actix_rt::System::new().block_on(async {
/// let clock = paused();
/// let error = TokenActor::builder(ScriptedSource::new()).start().unwrap_err(); // the machine's clock
/// assert_eq!(error.field(), "clock");
///
/// let tokens = TokenActor::builder(ScriptedSource::new()).clock(clock).start()?;
/// assert_eq!(tokens.get().await?.secret(), "token-1");
/// tokio::time::advance(Duration::from_secs(3_600)).await;
/// assert_eq!(tokens.get().await?.secret(), "token-2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Panics
/// Outside a tokio runtime, and in one with several threads: tokio cannot pause their time.
#[track_caller]
pub fn paused() -> ManualClock {
    if !still::is_tokio_paused() {
        tokio::time::pause();
    }
    ManualClock::new()
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.change(|state| Timestamp { boot: state.boot + state.elapsed, wall: state.wall + state.elapsed })
    }

    /// Like the machine's clock: by ticks of 10 ms, each of which hides changes until the next.
    fn pulse(&self) -> Option<NonZeroU64> {
        self.change(|state| {
            let ticks = u64::try_from(state.elapsed.as_millis() / 10).ok()?;
            NonZeroU64::new((state.moves << 40).wrapping_add(ticks).wrapping_add(1))
        })
    }

    fn jump(&self) -> Option<Jump> {
        let mut jumps = self.0.jumps.subscribe();
        Some(Box::pin(async move {
            // The clock may be dropped before the actor that waits for it.
            if jumps.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }))
    }
}

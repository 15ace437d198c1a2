//! Gates: each step of a process in the world waits here until the explorer lets it continue.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};

/// What a step does with what the processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Watch,
    /// A look that changes nothing, or a load.
    Read,
    /// A look that takes a lease, or takes something away.
    Take,
    Renew,
    Commit,
    Fail,
    /// The auth server's answer.
    Call,
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// It is done, and the process is told that it failed.
    AnswerLost,
    /// The auth server answers 503.
    Unavailable,
}

/// A process, and which of its steps.
pub(super) type Step = (usize, u32);

#[derive(Clone, Default)]
pub(super) struct Gates(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// Something has moved.
    moved: Notify,
}

#[derive(Default)]
struct State {
    /// Nobody waits: before the choices begin.
    open: bool,
    steps: BTreeMap<Step, Waiting>,
    numbers: BTreeMap<usize, u32>,
    crashed: Vec<usize>,
    frozen: BTreeMap<usize, Option<Waker>>,
    /// Counts everything that moves.
    moves: u64,
}

struct Waiting {
    kind: Kind,
    /// The store does not answer it.
    hangs: bool,
    go: oneshot::Sender<Verdict>,
}

impl Gates {
    pub(super) fn open(&self, open: bool) {
        self.state().open = open;
    }

    /// Waits for the explorer.
    pub(super) async fn pass(&self, who: usize, kind: Kind) -> Verdict {
        if self.state().open {
            return Verdict::Done;
        }
        let Some((step, verdict)) = self.enter(who, kind) else { return std::future::pending().await };
        // The process may give up its step.
        let _gone = Gone(self, step);
        match verdict.await {
            Ok(verdict) => verdict,
            Err(_) => std::future::pending().await,
        }
    }

    /// `None`: the process has crashed.
    fn enter(&self, who: usize, kind: Kind) -> Option<(Step, oneshot::Receiver<Verdict>)> {
        let mut state = self.state();
        if state.crashed.contains(&who) {
            return None;
        }
        let number = state.numbers.entry(who).or_default();
        *number += 1;
        let step = (who, *number);
        let (go, verdict) = oneshot::channel();
        state.steps.insert(step, Waiting { kind, hangs: false, go });
        drop(state);
        self.note_move();
        Some((step, verdict))
    }

    pub(super) fn steps(&self) -> Vec<(Step, Kind)> {
        let state = self.state();
        state
            .steps
            .iter()
            .filter(|(_, waiting)| !waiting.hangs)
            .map(|(step, waiting)| (*step, waiting.kind))
            .collect()
    }

    pub(super) fn let_go(&self, step: Step, verdict: Verdict) {
        let waiting = self.state().steps.remove(&step);
        let _ = waiting.expect("a step that waits").go.send(verdict);
        self.note_move();
    }

    pub(super) fn hang(&self, step: Step) {
        self.state().steps.get_mut(&step).expect("a step that waits").hangs = true;
    }

    pub(super) fn is_hanging(&self, who: usize) -> bool {
        self.state().steps.iter().any(|((whose, _), waiting)| *whose == who && waiting.hangs)
    }

    /// Nothing that this process still does reaches the others.
    pub(super) fn crash(&self, who: usize) {
        let mut state = self.state();
        state.crashed.push(who);
        state.steps.retain(|(whose, _), _| *whose != who);
    }

    pub(super) fn freeze(&self, who: usize) {
        self.state().frozen.insert(who, None);
    }

    pub(super) fn thaw(&self, who: usize) {
        let waker = self.state().frozen.remove(&who).flatten();
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_frozen(&self, who: usize) -> bool {
        self.state().frozen.contains_key(&who)
    }

    pub(super) fn moves(&self) -> u64 {
        self.state().moves
    }

    fn note_move(&self) {
        self.state().moves += 1;
        self.0.moved.notify_one();
    }

    /// Until something moves, or for so long.
    pub(super) async fn time_passes(&self, limit: Duration) {
        // A move that was noted before does not count.
        let _ = self.0.moved.notified().now_or_never();
        let _ = tokio::time::timeout(limit, self.0.moved.notified()).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

struct Gone<'a>(&'a Gates, Step);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.state().steps.remove(&self.1);
    }
}

/// A process: the explorer learns when it moves, and can freeze it.
pub(super) struct Process {
    pub(super) who: usize,
    pub(super) gates: Gates,
    pub(super) life: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Process {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.gates.note_move();
        if let Some(waker) = self.gates.state().frozen.get_mut(&self.who) {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.life.as_mut().poll(cx)
    }
}

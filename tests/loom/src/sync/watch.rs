//! A shim for tokio's `watch` of `()`: a version that grows, and the wakers of those who wait for the next one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Mutex, lock};

#[derive(Debug, Default)]
struct State {
    version: u64,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    state: Arc<Mutex<State>>,
    _value: T,
}

#[derive(Clone, Debug)]
pub(crate) struct Receiver<T> {
    state: Arc<Mutex<State>>,
    seen: u64,
    value: T,
}

impl Sender<()> {
    pub(crate) fn new((): ()) -> Self {
        Self { state: Arc::default(), _value: () }
    }

    pub(crate) fn subscribe(&self) -> Receiver<()> {
        Receiver { state: Arc::clone(&self.state), seen: lock(&self.state).version, value: () }
    }

    pub(crate) fn send_replace(&self, (): ()) {
        let wakers = {
            let mut state = lock(&self.state);
            state.version += 1;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Default for Sender<()> {
    fn default() -> Self {
        Self::new(())
    }
}

impl Receiver<()> {
    /// Never fails: the models keep the sender.
    pub(crate) async fn changed(&mut self) -> Result<(), Gone> {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.version == self.seen {
                state.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            self.seen = state.version;
            Poll::Ready(Ok(self.value))
        })
        .await
    }
}

#[derive(Debug)]
pub(crate) struct Gone;

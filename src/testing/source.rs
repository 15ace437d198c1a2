//! A source under the test's control.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::SourceError;
use crate::source::{FetchContext, TokenSource};
use crate::token::Token;

/// The behaviour of a [`ScriptedSource`] in one call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Returns this token.
    Token(Token),
    /// Fails with this error.
    Error(SourceError),
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
}

/// A source that gives the answers of its script, in their order. After the last one, or without a script, it gives
/// the token "token-N" for the N-th call, with a life of an hour. A clone is the same source.
#[derive(Clone, Debug, Default)]
pub struct ScriptedSource(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    script: Mutex<Script>,
    /// Calls so far.
    calls: watch::Sender<usize>,
    /// Whether calls are held back.
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    taking: Duration,
    contexts: Vec<FetchContext>,
    running: usize,
    most_running: usize,
}

impl ScriptedSource {
    /// A source that answers at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each call takes this time, in tokio's time.
    pub fn taking(self, time: Duration) -> Self {
        self.script().taking = time;
        self
    }

    /// The next unscripted call gets this answer.
    pub fn then(&self, answer: Answer) -> &Self {
        self.script().answers.push_back(answer);
        self
    }

    /// The next `times` unscripted calls get this answer.
    pub fn then_times(&self, times: usize, answer: &Answer) -> &Self {
        self.script().answers.extend(std::iter::repeat_n(answer, times).cloned());
        self
    }

    /// Holds back the running calls and all later ones, until [`release`](Self::release).
    pub fn hold(&self) {
        self.0.held.send_replace(true);
    }

    /// Lets the calls continue.
    pub fn release(&self) {
        self.0.held.send_replace(false);
    }

    /// Waits until it has been called this often.
    pub async fn called(&self, times: usize) {
        // The sender lives as long as `self`.
        let _ = self.0.calls.subscribe().wait_for(|calls| *calls >= times).await;
    }

    /// How often it has been called.
    pub fn calls(&self) -> usize {
        *self.0.calls.borrow()
    }

    /// The maximum number of calls at once.
    pub fn most_at_once(&self) -> usize {
        self.script().most_running
    }

    /// The context of each call.
    pub fn contexts(&self) -> Vec<FetchContext> {
        self.script().contexts.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call as running until it ends, is dropped, or panics.
struct Running<'a>(&'a ScriptedSource);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.script().running -= 1;
    }
}

impl TokenSource for ScriptedSource {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let (answer, taking, number) = {
            let mut script = self.script();
            script.running += 1;
            script.most_running = script.most_running.max(script.running);
            script.contexts.push(cx);
            let number = script.contexts.len();
            // Under the lock, so that the numbers arrive in their order.
            self.0.calls.send_replace(number);
            (script.answers.pop_front(), script.taking, number)
        };
        let _running = Running(self);
        if !taking.is_zero() {
            tokio::time::sleep(taking).await;
        }
        let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        match answer {
            None => Ok(Token::new(format!("token-{number}")).with_lifetime(Duration::from_secs(3600))),
            Some(Answer::Token(token)) => Ok(token),
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::Panic) => panic!("the script says so"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Reason;

    #[test]
    fn the_number_of_calls_never_goes_back() {
        const CALLS: usize = 20_000;
        let source = ScriptedSource::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..CALLS / 2 {
                        let fetched =
                            futures_executor::block_on(source.fetch(FetchContext::new(Reason::First)));
                        fetched.unwrap();
                    }
                });
            }
            let mut last = 0;
            while last < CALLS {
                let calls = source.calls();
                assert!(calls >= last, "{calls} after {last}");
                last = calls;
            }
        });
    }
}

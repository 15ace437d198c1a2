//! The source of a scenario: it gives the answers of the script and no others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokenflight::clock::Clock;
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, SourceError, Token, TokenSource};

use super::format::{Answer, ErrorKind, Fault};

#[derive(Clone)]
pub(super) struct Script {
    state: Arc<Mutex<State>>,
    clock: ManualClock,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    calls: Vec<FetchContext>,
    running: usize,
    most_running: usize,
    /// Calls for which there was no answer.
    surplus: usize,
}

impl Script {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>, clock: ManualClock) -> Self {
        let answers = answers
            .into_iter()
            .flat_map(|answer| std::iter::repeat_n(answer.clone(), answer.times))
            .collect();
        Self { state: Arc::new(Mutex::new(State { answers, ..State::default() })), clock }
    }

    pub(super) fn calls(&self) -> Vec<FetchContext> {
        self.state().calls.clone()
    }

    /// What cannot be right in any scenario.
    pub(super) fn fault(&self) -> Option<String> {
        let state = self.state();
        match &*state {
            State { surplus: 1.., .. } => Some("the source was called once more than it has answers".into()),
            State { most_running: 2.., .. } => Some("two calls to the source ran at once".into()),
            _ => None,
        }
    }

    pub(super) fn answers_left(&self) -> usize {
        self.state().answers.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Counts a call as running until it ends, is dropped, or panics.
struct Running<'a>(&'a Script);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

impl TokenSource for Script {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let answer = {
            let mut state = self.state();
            state.running += 1;
            state.most_running = state.most_running.max(state.running);
            state.calls.push(cx);
            let answer = state.answers.pop_front();
            state.surplus += usize::from(answer.is_none());
            answer
        };
        let _running = Running(self);
        let answer = answer.ok_or_else(|| SourceError::terminal("the script has ended"))?;
        if !answer.takes.0.is_zero() {
            tokio::time::sleep(answer.takes.0).await;
        }
        match (&answer.fault, &answer.error) {
            (Some(Fault::Panic), _) => panic!("the scenario says so"),
            (Some(Fault::Hang), _) => std::future::pending().await,
            (None, Some(kind)) => Err(self.error(*kind, &answer)),
            (None, None) => {
                let token = Token::new(answer.token.unwrap_or_default());
                Ok(match answer.lifetime {
                    Some(lifetime) => token.with_lifetime(lifetime.0),
                    None => token,
                })
            }
        }
    }
}

impl Script {
    fn error(&self, kind: ErrorKind, answer: &Answer) -> SourceError {
        let error = match kind {
            ErrorKind::Transient => SourceError::transient("the scenario says so"),
            ErrorKind::Terminal => SourceError::terminal("the scenario says so"),
        };
        match &answer.retry_after {
            Some(retry_after) => error.with_retry_after(retry_after.delay(self.clock.now().wall)),
            None => error,
        }
    }
}

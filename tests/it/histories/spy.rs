//! A source that follows the history, and records when it was called and how each call ended.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokenflight::{FetchContext, SourceError, Token, TokenSource};

use super::books::{Books, End};
use crate::support::*;

/// What the source does when it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A new token that lasts so many seconds; none is dead on arrival.
    Token(u64),
    /// A secret that was reported: the last one, or the one before it, and so on.
    Reported(usize),
    /// The secret that was discarded last.
    Discarded,
    /// What the actor had, with the end that it has.
    Previous,
    Transient,
    /// Transient, and not to be asked for so many seconds.
    Wait(u64),
    Terminal,
    Panic,
    Hang,
}

pub(crate) fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => (1_u64..40).prop_map(Answer::Token),
        1 => Just(Answer::Token(0)),
        3 => (0_usize..3).prop_map(Answer::Reported),
        1 => Just(Answer::Discarded),
        1 => Just(Answer::Previous),
        3 => Just(Answer::Transient),
        2 => (1_u64..10).prop_map(Answer::Wait),
        2 => Just(Answer::Terminal),
        1 => Just(Answer::Panic),
        2 => Just(Answer::Hang),
    ]
}

#[derive(Clone)]
pub(crate) struct Spy {
    script: Arc<Mutex<VecDeque<Answer>>>,
    books: Books,
}

impl Spy {
    pub(crate) fn new(books: Books) -> Self {
        Self { script: Arc::default(), books }
    }

    pub(crate) fn then(&self, answer: Answer) {
        self.script.lock().unwrap().push_back(answer);
    }
}

/// A call that runs. One that is dropped has been given up.
struct Call<'a>(&'a Books, Option<End>);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.call_ends(self.1.take().unwrap_or(End::GivenUp));
    }
}

impl TokenSource for Spy {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        let answer = self.script.lock().unwrap().pop_front().unwrap_or(Answer::Token(20));
        let sent = self.books.call_begins(&cx);
        let mut call = Call(&self.books, None);
        tokio::time::sleep(millis(60)).await;
        match answer {
            Answer::Token(life) => {
                let token = self.books.issue(sent, secs(life));
                call.1 = Some(self.books.end_with(&token));
                Ok(token)
            }
            Answer::Reported(back) => {
                let token = self.books.issue_reported(back, sent, secs(20));
                call.1 = Some(self.books.end_with(&token));
                Ok(token)
            }
            Answer::Discarded => {
                let token = self.books.issue_discarded(sent, secs(20));
                call.1 = Some(self.books.end_with(&token));
                Ok(token)
            }
            Answer::Previous => {
                let token = cx.previous.unwrap_or_else(|| self.books.issue(sent, secs(20)));
                call.1 = Some(self.books.end_with(&token));
                Ok(token)
            }
            Answer::Transient => {
                call.1 = Some(End::Failed { least: millis(0) });
                Err(SourceError::transient("down"))
            }
            Answer::Wait(pause) => {
                call.1 = Some(End::Failed { least: secs(pause) });
                Err(SourceError::transient("busy").with_retry_after(secs(pause)))
            }
            Answer::Terminal => {
                call.1 = Some(End::Refused);
                Err(SourceError::terminal("no"))
            }
            Answer::Panic => {
                call.1 = Some(End::Panicked);
                drop(call);
                resume_unwind(Box::new("the history says so")) // without the hook's noise
            }
            Answer::Hang => std::future::pending().await,
        }
    }
}

//! Runs a scenario on a real actor, and compares the observed results with the expected ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokenflight::testing::ManualClock;
use tokenflight::{
    Discard, GetToken, Invalidate, Refresh, Replace, Subscribe, Token, TokenActor, TokenHandle, TokenReady,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::format::{Action, Answer, Expect, Given, Scenario, Step, plain};
use super::outcome::{Outcome, fits, named, or_none, outcome, show, stopped};
use super::source::Script;

/// What passes in virtual time after each action, so that all that follows from it happens. The next
/// `advance` is shorter by that, so that the scenario's own time is exact.
const MOMENT: Duration = Duration::from_millis(10);

/// How callers ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Handle,
    Messages,
}

/// Who was told what, in order, since it was last looked at.
type Log = Rc<RefCell<Vec<(String, Outcome)>>>;

pub(super) struct Stage {
    way: Way,
    handle: TokenHandle,
    source: Script,
    clock: ManualClock,
    log: Log,
    /// Those who wait, with how many answers each name is owed.
    owed: BTreeMap<String, usize>,
    callers: BTreeMap<String, Vec<JoinHandle<()>>>,
    subscribers: BTreeMap<String, Addr<Subscriber>>,
    /// Where the scenario's own time stands.
    time: Instant,
    calls: usize,
    stopped: bool,
}

impl Stage {
    /// # Errors
    /// The first step that did not end as expected.
    pub(super) async fn play(scenario: &Scenario, way: Way) -> Result<(), String> {
        let mut stage = Self::set(scenario, way);
        if let Some(given) = &scenario.given {
            stage.give(given).await.map_err(|fault| format!("the given token: {fault}"))?;
        }
        for (number, step) in (1..).zip(&scenario.steps) {
            let action = step.action()?;
            let seen = match stage.perform(&action).await {
                Ok(()) => stage.compare(step).await,
                Err(fault) => Err(fault),
            };
            seen.map_err(|fault| format!("step {number} ({action}): {fault}"))?;
        }
        stage.end().await.map_err(|fault| format!("at the end: {fault}"))
    }

    fn set(scenario: &Scenario, way: Way) -> Self {
        let clock = ManualClock::new();
        let given = scenario.given.iter().map(|given| Answer {
            token: Some(given.token.clone()),
            lifetime: given.lifetime,
            times: 1,
            ..Answer::default()
        });
        let source = Script::new(given.chain(scenario.answers.iter().cloned()), clock.clone());
        let policy = scenario.policy.clone().unwrap_or_else(plain);
        let builder = TokenActor::builder(source.clone()).policy(policy).clock(clock.clone());
        Self {
            way,
            handle: builder.start().expect("the policy is sound"),
            source,
            clock,
            log: Log::default(),
            owed: BTreeMap::new(),
            callers: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            time: Instant::now(),
            calls: 0,
            stopped: false,
        }
    }

    /// The given token is the source's first answer; the calls are counted from there.
    async fn give(&mut self, given: &Given) -> Result<(), String> {
        self.handle.get().await.map_err(|error| error.to_string())?;
        self.time += given.age.0;
        tokio::time::sleep_until(self.time).await;
        self.calls = self.source.calls().len();
        Ok(())
    }

    async fn perform(&mut self, action: &Action<'_>) -> Result<(), String> {
        match *action {
            Action::Get { name, times } => self.ask(name, times, Self::get)?,
            Action::Refresh { name, times } => self.ask(name, times, Self::refresh)?,
            Action::Read { name } => self.tell(name, Ok(self.handle.current().map(named))),
            Action::Subscribe { name, ticket, timeout, times } => {
                self.subscribe(name, ticket, timeout, times);
            }
            Action::Leave { name } => self.leave(name)?,
            Action::Replace { name, token, times } => {
                self.ask(name, times, |stage| stage.replace(Token::new(token)))?;
            }
            Action::Discard { token } => self.discard(Token::new(token)),
            Action::Invalidate { token, times } => (0..times).for_each(|_| self.invalidate(token)),
            Action::Suspend(span) => self.clock.suspend(span),
            Action::SetClock(shift) if shift.is_negative() => self.clock.set_back(shift.unsigned_abs()),
            Action::SetClock(shift) => self.clock.set_forward(shift.unsigned_abs()),
            Action::Shutdown => self.shutdown(),
            Action::Nothing => {}
            Action::Advance(span) => {
                self.time += span;
                if self.time < Instant::now() {
                    return Err("so many steps need more time than that".into());
                }
                tokio::time::sleep_until(self.time).await;
            }
        }
        tokio::time::sleep(MOMENT).await;
        Ok(())
    }

    fn ask<F>(&mut self, name: &str, times: usize, asking: impl Fn(&Self) -> F) -> Result<(), String>
    where
        F: Future<Output = Outcome> + 'static,
    {
        if self.owed.contains_key(name) {
            return Err(format!("`{name}` waits already"));
        }
        self.owed.insert(name.to_owned(), times);
        let callers = (0..times).map(|_| {
            let (asking, log, name) = (asking(self), Rc::clone(&self.log), name.to_owned());
            actix_rt::spawn(async move {
                let outcome = asking.await;
                log.borrow_mut().push((name, outcome));
            })
        });
        let callers = callers.collect();
        self.callers.insert(name.to_owned(), callers);
        Ok(())
    }

    fn get(&self) -> impl Future<Output = Outcome> + use<> {
        let (handle, way) = (self.handle.clone(), self.way);
        async move {
            match way {
                Way::Handle => outcome(handle.get().await),
                Way::Messages => handle.addr().send(GetToken).await.map_or(Err(stopped()), outcome),
            }
        }
    }

    fn refresh(&self) -> impl Future<Output = Outcome> + use<> {
        let (handle, way) = (self.handle.clone(), self.way);
        async move {
            match way {
                Way::Handle => outcome(handle.refresh().await),
                Way::Messages => handle.addr().send(Refresh).await.map_or(Err(stopped()), outcome),
            }
        }
    }

    fn replace(&self, token: Token) -> impl Future<Output = Outcome> + use<> {
        let (handle, way) = (self.handle.clone(), self.way);
        async move {
            match way {
                Way::Handle => outcome(handle.replace(&token).await),
                Way::Messages => handle.addr().send(Replace(token)).await.map_or(Err(stopped()), outcome),
            }
        }
    }

    /// The same pair again is owed no second answer.
    fn subscribe(&mut self, name: &str, ticket: u64, timeout: Option<Duration>, times: usize) {
        self.owed.insert(format!("{name}/{ticket}"), 1);
        let subscriber = self
            .subscribers
            .entry(name.to_owned())
            .or_insert_with(|| Subscriber { name: name.to_owned(), log: Rc::clone(&self.log) }.start());
        for _ in 0..times {
            let subscription = Subscribe::new(subscriber.clone()).ticket(ticket);
            match timeout {
                Some(timeout) => self.handle.subscribe(subscription.timeout(timeout)),
                None => self.handle.subscribe(subscription),
            }
        }
    }

    fn leave(&mut self, name: &str) -> Result<(), String> {
        let waits = self.owed.remove(name).is_some();
        let callers = self.callers.remove(name).filter(|_| waits);
        callers.ok_or("nobody of that name waits")?.iter().for_each(JoinHandle::abort);
        Ok(())
    }

    fn invalidate(&self, token: &str) {
        let token = Token::new(token);
        match self.way {
            Way::Handle => self.handle.invalidate(&token),
            Way::Messages => self.handle.addr().do_send(Invalidate(token)),
        }
    }

    fn discard(&self, token: Token) {
        match self.way {
            Way::Handle => self.handle.discard(&token),
            Way::Messages => self.handle.addr().do_send(Discard(token)),
        }
    }

    fn shutdown(&mut self) {
        self.stopped = true;
        let handle = self.handle.clone();
        actix_rt::spawn(async move { handle.shutdown().await });
    }

    fn tell(&mut self, name: &str, outcome: Outcome) {
        self.owed.insert(name.to_owned(), 1);
        self.log.borrow_mut().push((name.to_owned(), outcome));
    }

    /// All that is seen, against all that is expected: what a step does not name must not happen.
    async fn compare(&mut self, step: &Step) -> Result<(), String> {
        let nothing = Expect::default();
        let expect = step.expect.as_ref().unwrap_or(&nothing);
        let mut faults: Vec<String> = self.source.fault().into_iter().collect();
        self.compare_answers(expect, &mut faults);
        self.compare_calls(expect, &mut faults);
        self.compare_status(expect, &mut faults).await;
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    fn compare_answers(&mut self, expect: &Expect, faults: &mut Vec<String>) {
        let gets = expect.gets.iter().map(|(name, token)| (name, Ok(token.clone())));
        let fails = expect.fails.iter().map(|(name, failure)| (name, Err(*failure)));
        let mut told: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
        for (name, outcome) in self.log.borrow_mut().drain(..) {
            told.entry(name).or_default().push(outcome);
        }
        for (name, expected) in gets.chain(fails) {
            let outcomes = told.remove(name).unwrap_or_default();
            let owed = self.owed.remove(name).unwrap_or(1);
            if let Some(other) = outcomes.iter().find(|outcome| !fits(outcome, &expected)) {
                faults.push(format!("`{name}` got {}, expected {}", show(other), show(&expected)));
            }
            match outcomes.len() {
                0 => faults.push(format!("`{name}` was told nothing, expected {}", show(&expected))),
                n if n != owed => faults.push(format!("`{name}` was told {n} times, expected {owed}")),
                _ => {}
            }
        }
        for (name, outcomes) in told {
            faults.push(format!("`{name}` got {} unexpectedly", show(&outcomes[0])));
        }
    }

    fn compare_calls(&mut self, expect: &Expect, faults: &mut Vec<String>) {
        let calls = self.source.calls();
        let new = calls.len() - self.calls;
        self.calls = calls.len();
        if new != expect.calls {
            faults.push(format!("calls to the source: {new}, expected {}", expect.calls));
        }
        let last = calls.last().filter(|_| new > 0);
        let mut differ = |what: &str, seen: Option<String>, expected: &Option<String>| {
            if expected.is_some() && seen != *expected {
                faults.push(format!(
                    "{what}: {}, expected {}",
                    or_none(seen.as_ref()),
                    or_none(expected.as_ref())
                ));
            }
        };
        differ("reason", last.map(|cx| cx.reason.as_str().to_owned()), &expect.reason);
        differ("previous", last.and_then(|cx| cx.previous.clone()).map(named), &expect.previous);
    }

    async fn compare_status(&self, expect: &Expect, faults: &mut Vec<String>) {
        let status = self.handle.status().await;
        let state = status.as_ref().map_or("Stopped".into(), |status| format!("{:?}", status.state));
        let suspect = status.as_ref().is_ok_and(|status| status.suspect);
        let waiters = status.map_or(0, |status| status.waiters);
        match expect.state {
            Some(expected) if format!("{expected:?}") != state => {
                let (state, expected) = (state.to_lowercase(), format!("{expected:?}").to_lowercase());
                faults.push(format!("state: {state}, expected {expected}"));
            }
            _ => {}
        }
        match expect.waiters {
            Some(expected) if expected != waiters => {
                faults.push(format!("waiters: {waiters}, expected {expected}"));
            }
            _ => {}
        }
        match expect.suspect {
            Some(expected) if expected != suspect => {
                faults.push(format!("suspect: {suspect}, expected {expected}"));
            }
            _ => {}
        }
    }

    /// Whoever still waits is told, once, that it is over; and the source has told all that it had to tell.
    async fn end(mut self) -> Result<(), String> {
        if !self.stopped {
            self.perform(&Action::Shutdown).await?;
        }
        let fails = self.owed.keys().map(|name| (name.clone(), stopped())).collect();
        let mut faults: Vec<String> = self.source.fault().into_iter().collect();
        self.compare_answers(&Expect { fails, ..Expect::default() }, &mut faults);
        match self.source.answers_left() {
            0 => {}
            left => faults.push(format!("{left} answers were not asked for")),
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }
}

/// An actor that notes each `TokenReady` as "name/ticket".
struct Subscriber {
    name: String,
    log: Log,
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Subscriber {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        self.log.borrow_mut().push((format!("{}/{}", self.name, ready.ticket), outcome(ready.result)));
    }
}

//! Random histories of the real actor, in virtual time: for any actions of callers, the source, the API and the
//! clocks, in any order, the promises hold.
//!
//! The expected results are in [`books`], which are independent of the machine: the callers that asked and were
//! told, the calls to the source and their ends, the tokens that are alive. `PROPTEST_CASES` widens the search.

mod books;
mod spy;

use std::env;

use actix::prelude::*;
use actix_rt::SystemRunner;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokenflight::testing::ManualClock;
use tokenflight::{
    Discard, FlightState, GetToken, Invalidate, Refresh, RefreshPolicy, Replace, Subscribe, Token,
    TokenActor, TokenHandle, TokenReady,
};

use crate::support::*;
use books::{Books, Kind, ReportRules};
use spy::{Answer, Spy};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
const SUBSCRIBERS: usize = 3;

/// What may differ between actors.
#[allow(clippy::struct_excessive_bools)] // independent of each other
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    attempts: u32,
    background: bool,
    stale: bool,
    crowded: bool,
    /// Tokens settle, and reports have a small budget.
    strict: bool,
}

impl Setting {
    fn policy(&self) -> RefreshPolicy {
        let rules = self.report_rules();
        plain()
            .settle(rules.settle)
            .reports(rules.at_once)
            .report_every(rules.every)
            .attempts(self.attempts)
            .attempt_timeout(secs(2))
            .flight_timeout(secs(8))
            .wait_timeout(books::PATIENCE)
            .max_waiters(if self.crowded { 2 } else { 100 })
            .stale_if_error(if self.stale { books::GRACE } else { millis(0) })
            .background(self.background)
    }

    fn report_rules(&self) -> ReportRules {
        if self.strict {
            // Not longer than half the life of any token that lands.
            ReportRules { settle: millis(400), at_once: 2, every: secs(60) }
        } else {
            ReportRules { settle: millis(0), at_once: 100, every: secs(1) }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Get,
    /// A caller of the handle that goes away before it is told.
    GetAndLeave,
    Ask,
    AskAndLeave,
    Refresh,
    Subscribe {
        who: usize,
        ticket: u64,
        hasty: bool,
    },
    StopSubscriber(usize),
    Read,
    /// An API rejects the token that is in use, or one that was.
    Report {
        how: How,
        which: Which,
        by_message: bool,
    },
    /// What the source answers to the call that has no answer yet.
    Source(Answer),
    Pass {
        millis: u64,
    },
    Suspend {
        secs: u64,
    },
    SetForward {
        secs: u64,
    },
    SetBack {
        secs: u64,
    },
    Shutdown,
}

/// The ways to report a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Replace,
    Invalidate,
    Discard,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Current,
    Old,
    Unknown,
}

/// The part of the reference that decides which steps make sense.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    setting: Setting,
    stopped: [bool; SUBSCRIBERS],
    down: bool,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let seldom = || prop::bool::weighted(0.2);
        (1_u32..4, seldom(), seldom(), seldom(), prop::bool::ANY)
            .prop_map(|(attempts, background, stale, crowded, strict)| Self {
                setting: Setting { attempts, background, stale, crowded, strict },
                stopped: [false; SUBSCRIBERS],
                down: false,
            })
            .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let who = 0..SUBSCRIBERS;
        let jump = prop_oneof![3 => 1_u64..20, 1 => Just(DAY.as_secs()), 1 => Just(365 * DAY.as_secs())];
        prop_oneof![
            8 => Just(Step::Get),
            3 => Just(Step::GetAndLeave),
            4 => Just(Step::Ask),
            2 => Just(Step::AskAndLeave),
            2 => Just(Step::Refresh),
            10 => (who.clone(), 0_u64..3, prop::bool::weighted(0.3))
                .prop_map(|(who, ticket, hasty)| Step::Subscribe { who, ticket, hasty }),
            1 => who.prop_map(Step::StopSubscriber),
            1 => Just(Step::Read),
            10 => report(),
            10 => spy::answers().prop_map(Step::Source),
            8 => (0_u64..200).prop_map(|millis| Step::Pass { millis }),
            6 => (200_u64..30_000).prop_map(|millis| Step::Pass { millis }),
            1 => (1_u64..60).prop_map(|secs| Step::Suspend { secs }),
            1 => jump.clone().prop_map(|secs| Step::SetForward { secs }),
            1 => jump.prop_map(|secs| Step::SetBack { secs }),
            1 => prop::bool::weighted(0.2)
                .prop_map(|end| if end { Step::Shutdown } else { Step::Pass { millis: 1 } }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::StopSubscriber(who) => state.stopped[*who] = true,
            Step::Shutdown => state.down = true,
            _ => {}
        }
        state
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        !matches!(step, Step::Subscribe { who, .. } | Step::StopSubscriber(who) if state.stopped[*who])
    }
}

fn report() -> impl Strategy<Value = Step> {
    let how = prop_oneof![4 => Just(How::Replace), 4 => Just(How::Invalidate), 1 => Just(How::Discard)];
    let which = prop_oneof![6 => Just(Which::Current), 2 => Just(Which::Old), 1 => Just(Which::Unknown)];
    (how, which, prop::bool::ANY).prop_map(|(how, which, by_message)| Step::Report { how, which, by_message })
}

/// The real actor, with those who use it.
struct Run {
    background: bool,
    system: SystemRunner,
    handle: TokenHandle,
    clock: ManualClock,
    spy: Spy,
    books: Books,
    subscribers: Vec<Addr<Subscriber>>,
}

struct Subscriber {
    who: usize,
    books: Books,
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<TokenReady> for Subscriber {
    type Result = ();

    fn handle(&mut self, ready: TokenReady, _: &mut Context<Self>) {
        self.books.told_subscriber(self.who, ready.ticket, &ready.result);
    }
}

impl Handler<Halt> for Subscriber {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl StateMachineTest for Run {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(reference: &Reference) -> Self {
        let system = System::new();
        let setting = reference.setting.clone();
        let background = setting.background;
        let (handle, clock, spy, books, subscribers) = system.block_on(async {
            tokio::time::pause();
            let clock = ManualClock::new();
            let books = Books::new(clock.clone(), setting.stale, setting.report_rules());
            let spy = Spy::new(books.clone());
            let builder =
                TokenActor::builder(spy.clone()).policy(setting.policy()).clock(clock.clone()).seed(7);
            let handle = builder.start().expect("the policy is sound");
            let subscribers =
                (0..SUBSCRIBERS).map(|who| Subscriber { who, books: books.clone() }.start()).collect();
            settle().await;
            (handle, clock, spy, books, subscribers)
        });
        Self { background, system, handle, clock, spy, books, subscribers }
    }

    fn apply(run: Self, reference: &Reference, step: Step) -> Self {
        run.system.block_on(async {
            // Whoever asks while a token can be read is told one at once. (A reader's look may start a refresh, which
            // in background mode must start by itself.)
            let readable = !run.background && run.handle.current().is_some();
            let before = run.books.told_ok();
            let asks = matches!(step, Step::Get | Step::Ask);
            run.step(step).await;
            settle().await;
            assert!(!(asks && readable) || run.books.told_ok() > before, "a usable token was not handed out");
            if reference.down {
                assert_eq!(run.books.outstanding(), 0, "somebody waits for an actor that is gone");
                assert!(run.handle.current().is_none());
            }
        });
        run
    }

    fn check_invariants(run: &Self, _: &Reference) {
        run.system.block_on(async {
            run.judge().await;
            run.books.judge_waiting();
        });
    }

    fn teardown(run: Self, _: Reference) {
        run.system.block_on(async {
            run.shutdown().await;
            settle().await;
            assert_eq!(run.books.outstanding(), 0, "the end answers everybody");
            assert!(run.handle.get().await.unwrap_err().is_stopped());
        });
        run.books.add_to_totals();
    }
}

impl Run {
    async fn step(&self, step: Step) {
        let books = &self.books;
        match step {
            Step::Get => {
                let handle = self.handle.clone();
                books.ask(Kind::Handle, async move { Some(handle.get().await) });
            }
            Step::Ask => {
                let asked = self.handle.addr().send(GetToken);
                books.ask(Kind::Message, async { asked.await.ok() });
            }
            Step::Refresh => {
                let asked = self.handle.addr().send(Refresh);
                books.ask(Kind::Forced, async { asked.await.ok() });
            }
            Step::GetAndLeave => drop(tokio::time::timeout(millis(20), self.handle.get()).await),
            Step::AskAndLeave => {
                drop(tokio::time::timeout(millis(20), self.handle.addr().send(GetToken)).await);
            }
            Step::Subscribe { who, ticket, hasty } => self.subscribe(who, ticket, hasty),
            Step::StopSubscriber(who) => {
                books.subscriber_stops(who);
                self.subscribers[who].do_send(Halt);
            }
            Step::Read => self.judge_reader(),
            Step::Report { how, which, by_message } => {
                let current = self.handle.watch().current();
                let token = match which {
                    Which::Current => current,
                    Which::Old => books.some_old(current.as_ref()),
                    Which::Unknown => Some(Token::new("unknown")),
                };
                if let Some(token) = token {
                    self.report(how, &token, by_message).await;
                }
            }
            Step::Source(answer) => self.spy.then(answer),
            Step::Pass { millis } => tokio::time::sleep(self::millis(millis)).await,
            Step::Suspend { secs } => {
                books.was_suspended();
                self.clock.suspend(self::secs(secs));
            }
            Step::SetForward { secs } => self.clock.set_forward(self::secs(secs)),
            Step::SetBack { secs } => {
                books.clock_was_set_back();
                self.clock.set_back(self::secs(secs));
            }
            Step::Shutdown => self.shutdown().await,
        }
    }

    async fn report(&self, how: How, token: &Token, by_message: bool) {
        let books = &self.books;
        let may_fly = self.report_may_fly(token).await;
        let calls = books.calls();
        match how {
            How::Replace => {
                books.reported(token);
                let (handle, token) = (self.handle.clone(), token.clone());
                books.ask(Kind::Reporter, async move {
                    if by_message {
                        handle.addr().send(Replace(token)).await.ok()
                    } else {
                        Some(handle.replace(&token).await)
                    }
                });
            }
            How::Invalidate => {
                books.invalidated(token);
                if by_message {
                    self.handle.addr().do_send(Invalidate(token.clone()));
                } else {
                    self.handle.invalidate(token);
                    // At once, and not only when the actor has heard of it.
                    let read = self.handle.current();
                    assert!(!may_fly || read.is_none_or(|read| !read.is_same(token)), "not withheld at once");
                }
            }
            How::Discard => {
                // A flight may have landed since the observer looked, and its token may be the one that goes now.
                books.judge_observer(self.handle.watch().current().as_ref());
                books.will_be_discarded(token);
                if by_message {
                    let _ = self.handle.addr().send(Discard(token.clone())).await;
                    books.discarded(token);
                } else {
                    books.discarded(token);
                    self.handle.discard(token);
                }
                self.judge_reader();
            }
        }
        settle().await;
        if may_fly && !matches!(how, How::Discard) {
            assert!(books.calls() > calls, "no flight for a report that may have one");
        }
    }

    /// Whether a report of this token has to start a flight.
    async fn report_may_fly(&self, token: &Token) -> bool {
        let current = self.handle.watch().current();
        let concerns = current.is_some_and(|it| it.is_same(token) && self.books.is_usable(&it));
        let Ok(status) = self.handle.status().await else { return false };
        if !concerns || status.state != FlightState::Idle {
            return false;
        }
        let may_fly = self.books.report_may_fly(token);
        assert!(!may_fly || status.next_report.is_none(), "{status:?}");
        may_fly
    }

    async fn judge(&self) {
        let current = self.handle.watch().current();
        self.books.judge_observer(current.as_ref());
        if self.background {
            let is_idle = self.handle.status().await.is_ok_and(|status| status.state == FlightState::Idle);
            self.books.judge_background(current.as_ref(), is_idle);
        } else {
            let read = self.handle.current();
            self.books.judge_reading(current.as_ref(), read.as_ref());
            self.judge_reader();
        }
    }

    fn judge_reader(&self) {
        if let Some(token) = self.handle.current() {
            self.books.judge_token(&token, false);
        }
    }

    async fn shutdown(&self) {
        self.books.ends();
        self.handle.shutdown().await;
    }

    fn subscribe(&self, who: usize, ticket: u64, hasty: bool) {
        self.books.subscribes(who, ticket);
        let subscription = Subscribe::new(self.subscribers[who].clone()).ticket(ticket);
        self.handle.subscribe(if hasty { subscription.timeout(secs(1)) } else { subscription });
    }
}

fn cases() -> u32 {
    env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold(sequential 10..60 => Run);
}

//! Random histories of the real actor, in virtual time: whatever callers, the source, the API and the clocks
//! do, in whatever order, the promises hold.
//!
//! What is expected is kept in [`books`], which know nothing of the machine: who asked and was told, what the
//! source was asked and when it ended, which tokens live. `PROPTEST_CASES` widens the search.

mod books;
mod spy;

use std::env;

use actix::prelude::*;
use actix_rt::SystemRunner;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokenflight::testing::ManualClock;
use tokenflight::{GetToken, Refresh, RefreshPolicy, Subscribe, Token, TokenActor, TokenHandle, TokenReady};

use crate::support::*;
use books::{Books, Kind};
use spy::{Answer, Spy};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
const SUBSCRIBERS: usize = 3;

/// What may differ between actors.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    attempts: u32,
    background: bool,
    stale: bool,
    crowded: bool,
}

impl Setting {
    fn policy(&self) -> RefreshPolicy {
        plain()
            .attempts(self.attempts)
            .attempt_timeout(secs(2))
            .flight_timeout(secs(8))
            .wait_timeout(books::PATIENCE)
            .max_waiters(if self.crowded { 2 } else { 100 })
            .stale_if_error(if self.stale { books::GRACE } else { millis(0) })
            .background(self.background)
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
    /// The API rejects the token that is in use, or one that was.
    InvalidateCurrent,
    InvalidateOld,
    InvalidateUnknown,
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
        (1_u32..4, prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(attempts, background, stale, crowded)| Self {
                setting: Setting { attempts, background, stale, crowded },
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
            4 => Just(Step::InvalidateCurrent),
            2 => Just(Step::InvalidateOld),
            1 => Just(Step::InvalidateUnknown),
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

/// The real actor, with those who use it.
struct Run {
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
        let (handle, clock, spy, books, subscribers) = system.block_on(async {
            tokio::time::pause();
            let clock = ManualClock::new();
            let books = Books::new(clock.clone(), setting.stale);
            let spy = Spy::new(books.clone());
            let builder =
                TokenActor::builder(spy.clone()).policy(setting.policy()).clock(clock.clone()).seed(7);
            let handle = builder.start().expect("the policy is sound");
            let subscribers =
                (0..SUBSCRIBERS).map(|who| Subscriber { who, books: books.clone() }.start()).collect();
            settle().await;
            (handle, clock, spy, books, subscribers)
        });
        Self { system, handle, clock, spy, books, subscribers }
    }

    fn apply(run: Self, reference: &Reference, step: Step) -> Self {
        run.system.block_on(async {
            // Whoever asks while a token can be read is told one at once.
            let readable = run.handle.current().is_some();
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
            run.judge_reader();
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
            Step::InvalidateCurrent => {
                let current = self.handle.watch().borrow().clone();
                if let Some(token) = current {
                    books.rejected(&token);
                    self.handle.invalidate(&token);
                    // At once, and not only when the actor has heard of it.
                    self.judge_reader();
                }
            }
            Step::InvalidateOld => {
                if let Some(token) = books.some_old(self.handle.watch().borrow().as_ref()) {
                    self.handle.invalidate(&token);
                }
            }
            Step::InvalidateUnknown => self.handle.invalidate(&Token::new("unknown")),
            Step::Source(answer) => self.spy.then(answer),
            Step::Pass { millis } => tokio::time::sleep(self::millis(millis)).await,
            Step::Suspend { secs } => self.clock.suspend(self::secs(secs)),
            Step::SetForward { secs } => self.clock.set_forward(self::secs(secs)),
            Step::SetBack { secs } => self.clock.set_back(self::secs(secs)),
            Step::Shutdown => self.shutdown().await,
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

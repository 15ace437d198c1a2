//! Promise 5 over time: APIs that answer 401 in some rhythm, for an hour, and sources that repeat themselves. The
//! tests count the calls to the auth server, the waits, and the refusals. Each client repeats a request once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token, TokenActor, TokenHandle, source_fn};
use tokio::time::Instant;

use crate::support::*;

/// How clients report a 401.
#[derive(Clone, Copy, Debug)]
enum Way {
    Replace,
    Invalidate,
}

const WAYS: [Way; 2] = [Way::Replace, Way::Invalidate];

/// How long a call to the auth server takes.
const TAKES: Duration = millis(200);

/// An actor with default settings, in virtual time.
struct Stage {
    handle: TokenHandle,
    begin: Instant,
    calls: Rc<Cell<u64>>,
    failed: Cell<u64>,
    served: Cell<u64>,
    longest: Cell<Duration>,
    first_served: Cell<Option<Duration>>,
}

impl Stage {
    /// `issue` makes the answer to each call, by its number from 1.
    fn new(
        policy: RefreshPolicy,
        issue: impl Fn(u64) -> Result<Token, SourceError> + Send + Sync + 'static,
    ) -> Rc<Self> {
        // A source has to be `Send`, and all of this runs on one thread.
        let (calls, told) =
            (Rc::new(Cell::new(0)), std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)));
        let counter = told.clone();
        let source = source_fn(move |_cx: FetchContext| {
            let number = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            let answer = issue(number);
            async move {
                tokio::time::sleep(TAKES).await;
                answer
            }
        });
        let builder = TokenActor::builder(source).policy(policy).clock(ManualClock::new()).seed(7);
        let stage = Rc::new(Self {
            handle: builder.start().unwrap(),
            begin: Instant::now(),
            calls,
            failed: Cell::new(0),
            served: Cell::new(0),
            longest: Cell::new(Duration::ZERO),
            first_served: Cell::new(None),
        });
        let calls = Rc::clone(&stage.calls);
        actix_rt::spawn(async move {
            loop {
                calls.set(told.load(std::sync::atomic::Ordering::Relaxed));
                tokio::time::sleep(secs(1)).await;
            }
        });
        stage
    }

    fn age(&self) -> Duration {
        self.begin.elapsed()
    }

    /// One request as a client makes it: `rejects` says whether the API answers 401 to this token.
    async fn request(&self, way: Way, mut rejects: impl FnMut(&Token) -> bool) {
        let Some(token) = self.wait_for(self.handle.get()).await else { return };
        if !rejects(&token) {
            return self.serve();
        }
        let again = match way {
            Way::Replace => self.handle.replace(&token).await.ok(),
            Way::Invalidate => {
                self.handle.invalidate(&token);
                self.wait_for(self.handle.get()).await
            }
        };
        match again {
            Some(again) if !rejects(&again) => self.serve(),
            _ => self.failed.set(self.failed.get() + 1),
        }
    }

    fn serve(&self) {
        self.served.set(self.served.get() + 1);
        if self.first_served.get().is_none() {
            self.first_served.set(Some(self.age()));
        }
    }

    async fn wait_for(
        &self,
        get: impl Future<Output = Result<Token, tokenflight::TokenError>>,
    ) -> Option<Token> {
        let asked = Instant::now();
        let token = get.await;
        self.longest.set(self.longest.get().max(asked.elapsed()));
        if token.is_err() {
            self.failed.set(self.failed.get() + 1);
        }
        token.ok()
    }

    /// Everybody whose requests are answered well, for so long.
    async fn others(&self, every: Duration, until: Duration) {
        while self.age() < until {
            self.request(Way::Replace, |_| false).await;
            tokio::time::sleep(every).await;
        }
    }

    #[track_caller]
    fn assert_calls(&self, most: u64) {
        assert!(self.calls.get() <= most, "{} calls", self.calls.get());
    }
}

#[allow(clippy::unnecessary_wraps)] // as a source answers
fn hourly(number: u64) -> Result<Token, SourceError> {
    Ok(Token::new(format!("token-{number}")).with_lifetime(HOUR))
}

fn lasting(secs: u64) -> impl Fn(u64) -> Result<Token, SourceError> + Send + Sync {
    move |number| Ok(Token::new(format!("token-{number}")).with_lifetime(Duration::from_secs(secs)))
}

/// A client whose first answer is a 401 every so often, for an hour.
async fn one_401_every(stage: &Stage, period: Duration, way: Way) {
    while stage.age() < HOUR {
        let first = Cell::new(true);
        stage.request(way, |_| first.replace(false)).await;
        tokio::time::sleep(period).await;
    }
}

#[actix::test]
async fn one_401_in_whatever_rhythm_makes_nobody_wait_and_costs_at_most_70_flights() {
    tokio::time::pause();
    for way in WAYS {
        for period in [1, 5, 10, 20, 45, 59, 61] {
            let stage = Stage::new(RefreshPolicy::default(), hourly);
            tokio::join!(one_401_every(&stage, secs(period), way), stage.others(millis(500), HOUR));
            let (longest, calls) = (stage.longest.get(), stage.calls.get());
            assert!(longest <= millis(300), "{way:?} every {period} s: {longest:?}");
            assert_eq!(stage.failed.get(), 0, "{way:?} every {period} s");
            assert!(calls <= 70, "{way:?} every {period} s: {calls} calls");
        }
    }
}

/// What a source answers to its n-th call.
type Issue = fn(u64) -> Result<Token, SourceError>;

/// Sources that give the same secret again: a metadata server, a token endpoint that caches, a file; and two that
/// alternate.
fn repeating() -> BTreeMap<&'static str, Issue> {
    let same: Issue = |_| Ok(Token::new("same").with_lifetime(HOUR));
    let day: Issue = |_| Ok(Token::new("same").with_lifetime(HOUR * 24));
    let file: Issue = |_| Ok(Token::new("same"));
    let two: Issue = |number| Ok(Token::new(if number % 2 == 0 { "b" } else { "a" }).with_lifetime(HOUR));
    BTreeMap::from([("GCP", same), ("Azure", day), ("file", file), ("a, b, a, b", two)])
}

#[actix::test]
async fn after_one_401_a_source_that_repeats_itself_serves_within_the_flight() {
    tokio::time::pause();
    for (name, issue) in repeating() {
        for way in WAYS {
            let stage = Stage::new(RefreshPolicy::default(), issue);
            stage.request(way, |_| false).await;
            tokio::time::sleep(secs(60)).await;
            let first = Cell::new(true);
            stage.request(way, |_| first.replace(false)).await;
            stage.others(millis(100), secs(70)).await;
            assert_eq!(stage.failed.get(), 0, "{name}, {way:?}");
            assert!(stage.longest.get() <= millis(300), "{name}, {way:?}: {:?}", stage.longest.get());
            let status = stage.handle.status().await.unwrap();
            assert!(status.cooldown.is_none() && !status.suspect, "{name}, {way:?}");
        }
    }
}

#[actix::test]
async fn a_401_a_second_at_a_source_that_repeats_itself_costs_at_most_80_calls_an_hour() {
    tokio::time::pause();
    for (name, issue) in repeating() {
        let stage = Stage::new(RefreshPolicy::default(), issue);
        tokio::join!(one_401_every(&stage, secs(1), Way::Replace), stage.others(millis(500), HOUR));
        let due = if name == "file" { 12 } else { 0 }; // refreshed ahead every 5 min, as nobody knows its life
        assert!(stage.calls.get() <= 80 + due, "{name}: {} calls", stage.calls.get());
        assert_eq!(stage.failed.get(), 0, "{name}");
        assert!(stage.longest.get() <= millis(300), "{name}: {:?}", stage.longest.get());
    }
}

/// An API that learns of each token so late. It rejects what it does not know yet.
fn late(stage: &Rc<Stage>, by: Duration) -> impl FnMut(&Token) -> bool + Clone + use<> {
    let seen: Rc<RefCell<BTreeMap<String, Duration>>> = Rc::default();
    let stage = Rc::clone(stage);
    move |token| {
        let now = stage.age();
        // The auth server tells it when it issues the token.
        let issued = now.saturating_sub(token.age());
        let known = *seen.borrow_mut().entry(token.secret().to_owned()).or_insert(issued);
        now < known + by
    }
}

#[actix::test]
async fn an_api_that_learns_of_tokens_late_refuses_nobody_after_a_refresh_ahead() {
    tokio::time::pause();
    for by in [3, 30] {
        let stage = Stage::new(RefreshPolicy::default(), hourly);
        let api = late(&stage, secs(by));
        stage.request(Way::Replace, |_| false).await;
        tokio::time::sleep(secs(60)).await;
        while stage.age() < HOUR + secs(1_800) {
            stage.request(Way::Replace, api.clone()).await;
            tokio::time::sleep(millis(100)).await;
        }
        assert_eq!(stage.failed.get(), 0, "late by {by} s");
        stage.assert_calls(12);
    }
}

#[actix::test]
async fn an_api_that_learns_of_tokens_late_serves_as_soon_as_it_knows_one() {
    tokio::time::pause();
    for (by, limit) in [(3, secs(6)), (30, millis(30_400))] {
        for way in WAYS {
            let stage = Stage::new(RefreshPolicy::default(), hourly);
            let api = late(&stage, secs(by));
            while stage.age() < secs(120) {
                stage.request(way, api.clone()).await;
                tokio::time::sleep(millis(100)).await;
            }
            let first = stage.first_served.get();
            println!("late by {by} s, {way:?}: first served {first:?}, {} calls", stage.calls.get());
            let allowed = if matches!(way, Way::Replace) { limit } else { secs(60) };
            assert!(first.is_some_and(|first| first <= allowed), "late by {by} s, {way:?}: {first:?}");
        }
    }
}

#[actix::test]
async fn an_api_that_rejects_everything_takes_the_token_from_no_other_api() {
    tokio::time::pause();
    for way in WAYS {
        let stage = Stage::new(RefreshPolicy::default(), hourly);
        let bad = Rc::new(Cell::new(0));
        let bad_api = async {
            while stage.age() < HOUR {
                if let Ok(token) = stage.handle.get().await {
                    match way {
                        Way::Replace => drop(stage.handle.replace(&token).await),
                        Way::Invalidate => stage.handle.invalidate(&token),
                    }
                }
                bad.set(bad.get() + 1);
                tokio::time::sleep(millis(250)).await;
            }
        };
        tokio::join!(bad_api, stage.others(millis(300), HOUR));
        stage.assert_calls(70);
        assert_eq!(stage.failed.get(), 0);
        assert!(stage.longest.get() <= millis(300), "{way:?}: {:?}", stage.longest.get());
        assert!(bad.get() > 10_000);
    }
}

#[actix::test]
async fn tokens_of_seconds_and_one_401_in_20_leave_nobody_without_a_token() {
    tokio::time::pause();
    for life in [2, 20] {
        for way in WAYS {
            let stage = Stage::new(RefreshPolicy::default(), lasting(life));
            let count = Cell::new(0_u32);
            while stage.age() < secs(600) {
                count.set(count.get() + 1);
                let first = Cell::new(count.get().is_multiple_of(20));
                stage.request(way, |_| first.replace(false)).await;
                tokio::time::sleep(millis(50)).await;
            }
            assert_eq!(stage.failed.get(), 0, "{life} s, {way:?}");
        }
    }
}

#[actix::test]
async fn while_the_auth_server_is_down_a_report_costs_the_others_a_second_at_most() {
    tokio::time::pause();
    for way in WAYS {
        for hangs in [false, true] {
            let (source, clock) = (tokenflight::testing::ScriptedSource::new(), ManualClock::new());
            let handle = TokenActor::builder(source.clone())
                .clock(clock)
                .policy(RefreshPolicy::default())
                .start()
                .unwrap();
            let token = handle.get().await.unwrap();
            tokio::time::sleep(secs(60)).await;
            for _ in 0..10_000 {
                source.then(if hangs { tokenflight::testing::Answer::Hang } else { transient() });
            }
            let begin = Instant::now();
            let report = async {
                match way {
                    Way::Replace => assert!(handle.replace(&token).await.is_err()),
                    Way::Invalidate => handle.invalidate(&token),
                }
            };
            let others = async {
                tokio::task::yield_now().await;
                let mut longest = Duration::ZERO;
                while begin.elapsed() < secs(600) {
                    let asked = Instant::now();
                    assert!(handle.get().await.unwrap().is_same(&token));
                    longest = longest.max(asked.elapsed());
                    tokio::time::sleep(millis(20)).await;
                }
                let limit = if matches!(way, Way::Replace) { Duration::ZERO } else { millis(1_010) };
                assert!(longest <= limit, "{way:?}, hangs {hangs}: {longest:?}");
            };
            tokio::join!(report, others);
        }
    }
}

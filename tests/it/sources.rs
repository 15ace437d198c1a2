//! The inputs of a source, sources behind sources, and the properties that a token keeps from actor to actor.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::clock::{Clock, SystemClock};
use tokenflight::source::BoxSource;
use tokenflight::testing::{Answer, ManualClock, ScriptedSource};
use tokenflight::{
    FetchContext, Reason, SourceError, Token, TokenActor, TokenHandle, TokenSource, source_fn,
};

use crate::support::*;

#[actix::test]
async fn a_source_can_be_called_by_hand() {
    tokio::time::pause();
    let source = ScriptedSource::new();
    let token = source.fetch(FetchContext::new(Reason::First)).await.unwrap();
    assert_eq!(token.secret(), "token-1");
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let cx = FetchContext::new(Reason::Rejected)
        .with_previous(token.clone())
        .with_attempt(3)
        .with_clock(Arc::clone(&clock))
        .with_deadline(clock.now().boot + secs(5));
    source.fetch(cx).await.unwrap();
    let [first, second] = &source.contexts()[..] else { panic!("two calls") };
    assert_eq!((first.reason, first.attempt, first.previous.is_none()), (Reason::First, 1, true));
    assert_eq!((first.deadline(), first.time_left()), (None, None));
    assert!(first.clock().now().boot.abs_diff(SystemClock.now().boot) < HOUR);
    assert_eq!((second.reason, second.attempt), (Reason::Rejected, 3));
    assert!(second.previous.as_ref().unwrap().is_same(&token));
    assert_eq!(second.time_left(), Some(secs(5)));
    tokio::time::sleep(secs(2)).await;
    // Tokio's timers ring up to a millisecond late.
    assert!(second.time_left().unwrap().abs_diff(secs(3)) <= millis(1));
    tokio::time::sleep(HOUR).await;
    assert_eq!(second.time_left(), Some(secs(0)));
}

#[actix::test]
async fn the_actor_tells_its_source_until_when_there_is_time() {
    let rig =
        rig_with(plain().attempts(2).attempt_timeout(secs(10)).flight_timeout(secs(15)).backoff(secs(0)));
    let began = rig.clock.now().boot;
    rig.source.then_times(2, &Answer::Hang);
    assert!(rig.handle.get().await.unwrap_err().is_timeout());
    let contexts = rig.source.contexts();
    let deadlines: Vec<_> = contexts.iter().map(|cx| cx.deadline().unwrap() - began).collect();
    assert_eq!(deadlines, [secs(10), secs(15)], "of the attempt, and then of the flight");
    assert_eq!(contexts[0].clock().now(), rig.clock.now(), "by the actor's clock");
    assert_eq!(contexts[0].time_left(), Some(Duration::ZERO));
}

/// Passes its context on.
struct Wrapped<S>(S);

impl<S: TokenSource> TokenSource for Wrapped<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.0.fetch(cx).await
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("wrapped", "yes");
        self.0.identify(part);
    }
}

#[actix::test]
async fn a_wrapped_source_sees_what_the_actor_said() {
    tokio::time::pause();
    let (source, clock) = (ScriptedSource::new(), ManualClock::new());
    let builder = TokenActor::builder(BoxSource::new(Wrapped(source.clone()))).policy(plain());
    let handle = builder.clock(clock.clone()).start().unwrap();
    handle.get().await.unwrap();
    handle.refresh().await.unwrap();
    let cx = source.contexts().pop().unwrap();
    assert_eq!((cx.reason, cx.previous.unwrap().secret()), (Reason::Forced, "token-1"));
    assert_eq!(source.contexts()[1].time_left(), Some(secs(10)));
}

#[actix::test]
async fn a_boxed_source_is_the_source_that_it_holds() {
    struct Named;
    impl TokenSource for Named {
        async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
            Err(SourceError::terminal("not a real one"))
        }
        fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
            part("name", "s3cret-or-not");
        }
    }
    let scripted = ScriptedSource::new();
    let sources = [BoxSource::new(Named), BoxSource::new(scripted.clone())];
    let mut parts = Vec::new();
    BoxSource::new(sources[0].clone()).identify(&mut |part, value| parts.push(format!("{part}={value}")));
    assert_eq!(parts, ["name=s3cret-or-not"]);
    assert!(sources[0].fetch(FetchContext::new(Reason::First)).await.unwrap_err().is_terminal());
    let (one, other) = (sources[1].clone(), sources[1].clone());
    one.fetch(FetchContext::new(Reason::First)).await.unwrap();
    other.fetch(FetchContext::new(Reason::First)).await.unwrap();
    assert_eq!(scripted.calls(), 2, "a clone is the same source");
    assert_eq!(format!("{sources:?}"), "[BoxSource, BoxSource]");
}

/// Its looks never end. It holds this.
struct Staring(Arc<Mutex<usize>>);

impl TokenSource for Staring {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        Ok(Token::new("abc").with_lifetime(HOUR))
    }

    async fn look(&self, cx: FetchContext) -> Option<Token> {
        assert_eq!(cx.time_left(), Some(secs(10)), "the policy's `attempt_timeout`");
        *self.0.lock().unwrap() += 1;
        std::future::pending().await
    }

    fn can_look(&self) -> bool {
        true
    }
}

#[actix::test]
async fn a_look_that_does_not_end_is_given_up() {
    tokio::time::pause();
    let looks = Arc::new(Mutex::new(0));
    let builder = TokenActor::builder(Staring(Arc::clone(&looks))).policy(plain().settle(HOUR));
    let handle = builder.clock(ManualClock::new()).start().unwrap();
    let token = handle.get().await.unwrap();
    for expected in [1, 1, 2] {
        assert!(handle.replace(&token).await.unwrap().is_same(&token), "it has not settled");
        settle().await;
        assert_eq!(*looks.lock().unwrap(), expected);
        tokio::time::sleep(secs(6)).await;
    }
    drop(handle);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(Arc::strong_count(&looks), 1, "the actor does not outlive its last handle");
}

/// The tokens of another actor.
fn tokens_of(handle: TokenHandle) -> impl TokenSource {
    source_fn(move |_cx| {
        let handle = handle.clone();
        async move { handle.get().await.map_err(SourceError::transient) }
    })
}

/// A source whose tokens last 100 s, with the clock by which they do, and the moment at which each was made.
#[derive(Clone)]
struct Mint {
    clock: ManualClock,
    made: Arc<Mutex<Vec<Duration>>>,
}

const LIFE: Duration = Duration::from_secs(100);

impl TokenSource for Mint {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        let mut made = self.made.lock().unwrap();
        made.push(self.clock.now().boot);
        Ok(Token::new(made.len().to_string()).with_lifetime(LIFE))
    }
}

impl Mint {
    /// How long a token really lasts.
    fn left(&self, token: &Token) -> Duration {
        let made = self.made.lock().unwrap()[token.secret().parse::<usize>().unwrap() - 1];
        (made + LIFE).saturating_sub(self.clock.now().boot)
    }
}

#[actix::test]
async fn a_token_of_another_actor_does_not_outlive_its_end_there() {
    tokio::time::pause();
    let [inner_clock, older] = std::array::from_fn(|_| ManualClock::new());
    older.suspend(HOUR);
    older.set_back(HOUR);
    tokio::time::sleep(secs(20)).await;
    let later = ManualClock::new();
    // The same clock; one that began later; one of a machine that has run for an hour more.
    for outer_clock in [inner_clock.clone(), later, older] {
        let mint = Mint { clock: inner_clock.clone(), made: Arc::default() };
        let inner = TokenActor::builder(mint.clone()).policy(plain()).clock(inner_clock.clone());
        let outer = TokenActor::builder(tokens_of(inner.start().unwrap())).policy(plain()).clock(outer_clock);
        let outer = outer.start().unwrap();
        for _ in 0..500 {
            tokio::time::sleep(secs(1)).await;
            let token = outer.get().await.unwrap();
            let left = mint.left(&token);
            assert!(left >= secs(10), "{} has {left:?} left", token.secret());
            assert_eq!(token.remaining(), Some(left));
            assert_eq!(token.age(), LIFE - left);
        }
        let made = mint.made.lock().unwrap().len();
        assert!((5..=8).contains(&made), "{made} tokens in 500 s");
        tokio::time::sleep(secs(3)).await;
    }
}

/// A source, its actor, and an actor whose source is the handle of the first, in paused time.
fn one_behind_another() -> (ScriptedSource, TokenHandle, TokenHandle) {
    tokio::time::pause();
    let (source, clock) = (ScriptedSource::new(), ManualClock::new());
    let start = |builder: tokenflight::TokenActorBuilder| {
        builder.policy(plain()).clock(clock.clone()).start().unwrap()
    };
    let inner = start(TokenActor::builder(source.clone()));
    let outer = start(TokenActor::builder(inner.clone()));
    (source, inner, outer)
}

/// The actor of the inner handle keeps a token that is usable by its own account.
#[actix::test]
async fn an_actor_that_is_a_source_learns_what_was_discarded_and_rejected() {
    let (source, inner, outer) = one_behind_another();
    let first = outer.get().await.unwrap();
    outer.discard(&first);
    let second = outer.get().await.unwrap();
    assert_eq!((second.secret(), source.calls()), ("token-2", 2));
    assert!(inner.current().unwrap().is_same(&second));
    let third = outer.replace(&second).await.unwrap();
    assert_eq!((third.secret(), source.calls()), ("token-3", 3));
    assert_eq!(outer.status().await.unwrap().counters.attempts, 3);
}

/// In a token's first minute one reporter gets the predecessor, for one request. It is no token for everybody.
#[actix::test]
async fn an_actor_that_is_a_source_gives_no_predecessor() {
    let (_, inner, outer) = one_behind_another();
    outer.get().await.unwrap();
    inner.refresh().await.unwrap();
    let second = outer.refresh().await.unwrap();
    tokio::time::sleep(secs(5)).await;
    let _ = outer.replace(&second).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!(second.secret(), "token-2");
    assert_eq!(outer.current().unwrap().secret(), "token-3");
}

#[actix::test]
async fn a_source_that_returns_the_previous_token_does_not_prolong_its_life() {
    tokio::time::pause();
    let source = source_fn(|cx: FetchContext| async move {
        Ok(cx.previous.unwrap_or_else(|| Token::new("only").with_lifetime(LIFE)))
    });
    let builder = TokenActor::builder(source).policy(plain().attempts(1).cooldown(secs(0)));
    let handle = builder.clock(ManualClock::new()).start().unwrap();
    let end = handle.get().await.unwrap().expires_at().unwrap();
    for _ in 0..89 {
        tokio::time::sleep(secs(1)).await;
        assert_eq!(handle.get().await.unwrap().expires_at(), Some(end));
    }
    tokio::time::sleep(secs(12)).await;
    assert!(handle.current().is_none() && handle.get().await.is_err(), "it has expired");
}

#[actix::test]
async fn a_source_may_give_the_previous_token_a_new_life() {
    tokio::time::pause();
    let source = source_fn(|cx: FetchContext| async move {
        Ok(cx.previous.unwrap_or_else(|| Token::new("only")).with_lifetime(LIFE))
    });
    let handle = TokenActor::builder(source).policy(plain()).clock(ManualClock::new()).start().unwrap();
    for _ in 0..300 {
        tokio::time::sleep(secs(1)).await;
        assert!(handle.get().await.unwrap().remaining().unwrap() >= secs(10));
    }
}

#[actix::test]
async fn a_source_s_odd_token_is_a_failed_attempt_that_says_what_is_odd() {
    tokio::time::pause();
    for (token, flaw) in [
        (Token::new(""), "the new token is empty, and no header can carry that"),
        (Token::new("s3cret\n"), "the new token has a line break at position 7 that no header can carry"),
        (
            Token::new("s3cret").with_type(tokenflight::TokenType::Other("a b".into())),
            r#"the new token has the token_type "a b", which is not a token (RFC 9110 section 5.6.2)"#,
        ),
    ] {
        let rig = another(plain().attempts(1));
        rig.source.then(Answer::Token(token.with_lifetime(HOUR)));
        let error = rig.handle.get().await.unwrap_err();
        assert_eq!(error.to_string(), format!("token refresh failed: {flaw}"));
        assert!(!format!("{error:?}").contains("s3cret"));
    }
}

#[actix::test]
async fn no_token_is_believed_for_more_than_thirty_days() {
    let day = secs(86_400);
    let rig = rig();
    rig.source.then(token("long", day * 365 * 50));
    let left = rig.handle.get().await.unwrap().remaining().unwrap();
    assert!(left <= day * 30 && left > day * 29, "{left:?}");
}

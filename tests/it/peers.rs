//! Faults that other token caches showed under attack, one test per case. (Those that need an auth server are in
//! `peers_http`.)

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::System;
use tokenflight::testing::{Answer, ScriptedSource};
use tokenflight::{
    FetchContext, SourceError, Token, TokenActor, TokenError, TokenHandle, TokenSource, source_fn,
};
use tokio::time::Instant;

use crate::support::*;

/// Elsewhere fifty callers of a source that fails cost fifty calls, one after the other. Here: one flight, as long as
/// one call takes, and the very same error for all.
#[actix::test]
async fn source_fails_50_callers() {
    let rig = rig_with(plain().attempts(1));
    rig.source.then_times(50, &transient());
    let began = Instant::now();
    let outcomes = rig.get_all(50).await;
    assert!(began.elapsed() <= millis(62), "{:?}", began.elapsed());
    assert_eq!(rig.source.calls(), 1);
    let cause = |error: &TokenError| std::ptr::from_ref(error.cause::<SourceError>().unwrap()).addr();
    let errors: Vec<TokenError> = outcomes.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|error| error.is_unavailable() && cause(error) == cause(&errors[0])));
    // And the fifty that come right after it cost none.
    assert!(rig.get_all(50).await.iter().all(Result::is_err));
    assert_eq!(rig.source.calls(), 1);
}

/// Elsewhere fifty callers of an empty cache cost fifty calls. Here: one.
#[actix::test]
async fn empty_cache_50_callers() {
    let rig = rig();
    let outcomes = rig.get_all(50).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().secret() == "token-1"));
    assert_eq!(rig.source.calls(), 1);
}

/// Elsewhere the call dies with the first caller, 23 ms into it, and a waiter starts another: two calls, 87 ms.
/// Here: one call, 60 ms.
#[actix::test]
async fn first_caller_aborted() {
    let rig = rig();
    let began = Instant::now();
    let first = actix_rt::spawn({
        let handle = rig.handle.clone();
        async move { handle.get().await }
    });
    rig.source.called(1).await;
    let (second, ()) = tokio::join!(rig.handle.get(), async {
        tokio::time::sleep_until(began + millis(23)).await;
        first.abort();
    });
    assert_eq!(second.unwrap().secret(), "token-1");
    assert!(first.await.unwrap_err().is_cancelled(), "it had not been answered when it went");
    assert!(began.elapsed() <= millis(62), "{:?}", began.elapsed());
    assert_eq!(rig.source.calls(), 1);
}

/// Elsewhere every getter panics too, or the cache is dead for ever. Here: all who wait get an error, and the next
/// request works.
#[actix::test]
async fn source_panics() {
    let rig = rig();
    rig.source.then(Answer::Panic);
    assert!(rig.get_all(50).await.into_iter().all(|outcome| outcome.unwrap_err().is_panic()));
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
}

/// Elsewhere twenty 401s for one old token, which arrive one after the other, cost twenty refreshes. Here: one.
#[actix::test]
async fn twenty_late_401s() {
    let rig = rig();
    let old = rig.handle.get().await.unwrap();
    for _ in 0..20 {
        rig.handle.invalidate(&old);
        settle().await; // the actor has heard of it
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
    }
    assert_eq!(rig.source.calls(), 1 + 1);
}

/// Elsewhere a rejection that comes while a refresh runs is lost, and what that brings is taken for a new token.
/// Here it holds: the refresh that brings the same token asks once more, and whoever reported waits for that.
#[actix::test]
async fn invalidate_while_a_refresh_runs() {
    let rig = rig_with(plain().backoff(millis(0)));
    let old = rig.handle.get().await.unwrap();
    rig.source.hold();
    rig.source.then(token(old.secret(), HOUR));
    let reject = async {
        rig.source.called(2).await;
        rig.handle.invalidate(&old);
        assert!(rig.handle.current().is_none());
        let replaced = rig.handle.replace(&old);
        let release = async {
            settle().await;
            rig.source.release();
        };
        tokio::join!(replaced, release).0
    };
    let (forced, replaced) = tokio::join!(rig.handle.refresh(), reject);
    assert_eq!((forced.unwrap().secret(), replaced.unwrap().secret()), ("token-3", "token-3"));
}

/// Elsewhere each of fifty callers starts a call that hangs. Here: one at a time, given up after its own limit, and the
/// callers are free at theirs.
#[actix::test]
async fn source_hangs_50_callers() {
    let rig = rig_with(plain().wait_timeout(secs(5)).backoff(millis(0)));
    rig.source.then_times(3, &Answer::Hang);
    let began = Instant::now();
    assert!(rig.get_all(50).await.into_iter().all(|outcome| outcome.unwrap_err().is_timeout()));
    assert!((secs(5)..millis(5_010)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(rig.source.calls(), 1);
    tokio::time::sleep(secs(60)).await;
    assert_eq!((rig.source.calls(), rig.source.most_at_once()), (3, 1));
    assert!(rig.handle.get().await.is_ok(), "recovery is noticed");
}

/// Elsewhere an expired token is served without a word while the source fails. Here: an error, unless
/// `stale_if_error` says otherwise.
#[actix::test]
async fn source_fails_after_expiry() {
    tokio::time::pause();
    for (grace, served) in [(secs(0), false), (secs(600), true)] {
        let rig = another(plain().stale_if_error(grace));
        rig.handle.get().await.unwrap();
        rig.source.then_times(3, &transient());
        tokio::time::sleep(HOUR + secs(1)).await;
        assert!(rig.handle.current().is_none());
        let outcome = rig.handle.get().await;
        assert_eq!(outcome.is_ok(), served);
        assert_eq!(outcome.is_err_and(|error| error.is_unavailable()), !served);
        assert_eq!(rig.source.calls(), 4);
    }
}

/// Elsewhere a margin longer than the token's life makes it stale past its end, or the cache call its source without a
/// pause. Here margins shrink: it is used, replaced in time, and never served too late.
#[actix::test]
async fn lifetime_of_20_s_with_a_margin_of_30_s() {
    let rig = rig_with(plain().min_validity(secs(30)).refresh_ahead(secs(30)));
    rig.source.then_times(100, &token("short", secs(20)));
    for _ in 0..600 {
        let token = rig.handle.get().await.unwrap();
        assert!(!token.remaining().unwrap().is_zero());
        tokio::time::sleep(millis(100)).await;
    }
    let calls = rig.source.calls();
    assert!((7..=8).contains(&calls), "one in eight seconds for a minute: {calls}");
}

/// Elsewhere a cache panics or hangs when the runtime that created it has ended. Here an actor that lives on a thread
/// of its own goes on, and one that has ended with its System says so.
#[test]
fn runtime_that_created_it_has_ended() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let on_a_thread = runtime.block_on(async {
        TokenActor::builder(ScriptedSource::new()).policy(plain()).spawn_thread().unwrap()
    });
    drop(runtime);
    assert_eq!(get(&on_a_thread).unwrap().secret(), "token-1");
    assert_eq!(refresh(&on_a_thread).unwrap().secret(), "token-2");

    let in_a_system = System::new().block_on(async {
        let handle = TokenActor::builder(ScriptedSource::new()).start().unwrap();
        handle.get().await.unwrap();
        handle
    });
    assert!(in_a_system.current().is_none());
    assert!(get(&in_a_system).unwrap_err().is_stopped());
    assert!(refresh(&in_a_system).unwrap_err().is_stopped());
    bounded(&in_a_system, |handle| async move { handle.shutdown().await });
}

/// Elsewhere a refresh holds a lock that every reader takes. Here readers go on though the source blocks the actor's
/// very thread: reading asks nobody and waits for nobody.
#[test]
fn hot_path_lock() {
    let (entered, entries) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let source = Blocking { entered, released: Mutex::new(released), calls: Mutex::new(0) };
    let handle = TokenActor::builder(source).policy(plain()).spawn_thread().unwrap();
    let first = get(&handle).unwrap();
    handle.addr().do_send(tokenflight::Refresh);
    within(&entries); // from here on the actor's thread stands still

    let (done, readers) = mpsc::channel();
    for _ in 0..4 {
        let (handle, done) = (handle.clone(), done.clone());
        std::thread::spawn(move || {
            for _ in 0..10_000 {
                assert_eq!(handle.current().unwrap().authorization(), "Bearer token-1");
                assert!(futures_executor::block_on(handle.get()).is_ok());
            }
            handle.invalidate(&Token::new("some old one"));
            done.send(()).unwrap();
        });
    }
    for _ in 0..4 {
        within(&readers);
    }
    // A report takes effect there and then, without the actor.
    handle.invalidate(&first);
    assert!(handle.current().is_none());
    release.send(()).unwrap();
    assert_eq!(get(&handle).unwrap().secret(), "token-2");
}

/// Blocks its thread in the second call, until it is released.
struct Blocking {
    entered: mpsc::Sender<()>,
    released: Mutex<Receiver<()>>,
    calls: Mutex<u32>,
}

impl TokenSource for Blocking {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        let number = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        if number == 2 {
            self.entered.send(()).unwrap();
            within(&self.released.lock().unwrap());
        }
        Ok(Token::new(format!("token-{number}")).with_lifetime(HOUR))
    }
}

/// Elsewhere two refreshes at once present the same refresh token, and the server, which takes that for theft, revokes
/// the whole family. Here: one use of each, and all callers adopt what the one refresh brought.
#[actix::test]
async fn concurrent_refresh_with_a_rotating_refresh_token() {
    tokio::time::pause();
    let server = Arc::new(Mutex::new(RotatingServer::default()));
    let client = Arc::new(Mutex::new("refresh-0".to_owned()));
    let source = source_fn({
        let (server, client) = (Arc::clone(&server), Arc::clone(&client));
        move |_| {
            let (server, client) = (Arc::clone(&server), Arc::clone(&client));
            async move {
                let mine = client.lock().unwrap().clone();
                tokio::time::sleep(millis(30)).await;
                let (access, next) = server.lock().unwrap().exchange(&mine)?;
                // On the way back the server's mind is made up, and the client still has the old one.
                tokio::time::sleep(millis(30)).await;
                *client.lock().unwrap() = next;
                Ok(Token::new(access).with_lifetime(HOUR))
            }
        }
    });
    let clock = tokenflight::testing::ManualClock::new();
    let handle = TokenActor::builder(source).policy(plain()).clock(clock).start().unwrap();
    for generation in 1..=5 {
        let expected = format!("access-{generation}");
        let fifty = futures_util::future::join_all((0..50).map(|number| {
            let handle = &handle;
            async move {
                // They come before, during and after each of the server's turns.
                tokio::time::sleep(millis(number)).await;
                if number % 7 == 0 { handle.refresh().await } else { handle.get().await }
            }
        }));
        for outcome in fifty.await {
            assert_eq!(outcome.unwrap().secret(), expected);
        }
        tokio::time::sleep(HOUR).await;
    }
    let server = server.lock().unwrap();
    assert_eq!((server.uses, server.revoked), (5, false));
}

/// A server that takes each refresh token once. A second use of any kills the family.
#[derive(Default)]
struct RotatingServer {
    uses: u32,
    revoked: bool,
}

impl RotatingServer {
    fn exchange(&mut self, refresh_token: &str) -> Result<(String, String), SourceError> {
        self.revoked |= refresh_token != format!("refresh-{}", self.uses);
        self.uses += 1;
        if self.revoked {
            return Err(SourceError::terminal("invalid_grant"));
        }
        Ok((format!("access-{}", self.uses), format!("refresh-{}", self.uses)))
    }
}

/// Long enough that only a hang exceeds it: so that a failure is a failure.
const HANG: Duration = Duration::from_secs(20);

/// Asks on a thread without any runtime.
#[track_caller]
fn bounded<F>(handle: &TokenHandle, ask: impl FnOnce(TokenHandle) -> F + Send + 'static) -> F::Output
where
    F: Future<Output: Send + 'static>,
{
    let (done, result) = mpsc::channel();
    let handle = handle.clone();
    std::thread::spawn(move || done.send(futures_executor::block_on(ask(handle))));
    result.recv_timeout(HANG).expect("it hangs")
}

#[track_caller]
fn get(handle: &TokenHandle) -> Result<Token, TokenError> {
    bounded(handle, |handle| async move { handle.get().await })
}

#[track_caller]
fn refresh(handle: &TokenHandle) -> Result<Token, TokenError> {
    bounded(handle, |handle| async move { handle.refresh().await })
}

/// Waits for the event.
#[track_caller]
fn within(events: &Receiver<()>) {
    events.recv_timeout(HANG).expect("it hangs");
}

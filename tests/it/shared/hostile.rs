//! A fleet with misbehaving members, and a Redis to which another program writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokenflight::clock::SystemClock;
use tokenflight::source::SharedStats;
use tokenflight::store::{MemoryStore, SharedKey, SharedStore};
use tokenflight::{FetchContext, RefreshPolicy, SourceError, Token, TokenActor, TokenSource};
use tokio::time::Instant;

use super::redis::place_of;
use super::redis::server::Redis;
use super::world::*;
use crate::support::*;

/// An auth server that takes its time, and knows one secret.
#[derive(Clone, Default)]
struct Auth(Arc<Books>);

#[derive(Default)]
struct Books {
    calls: AtomicU32,
    /// The number of the secret that it takes.
    secret: AtomicU32,
}

const AUTH_TIME: Duration = millis(100);

impl Auth {
    fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn takes(&self, secret: u32) {
        self.0.secret.store(secret, Ordering::Relaxed);
    }

    fn client(&self, secret: u32) -> Client {
        Client { auth: self.clone(), secret, life: HOUR }
    }
}

/// A source with this secret.
#[derive(Clone)]
struct Client {
    auth: Auth,
    secret: u32,
    life: Duration,
}

impl TokenSource for Client {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        let Books { calls, secret } = &*self.auth.0;
        let number = calls.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(AUTH_TIME).await;
        if secret.load(Ordering::Relaxed) != self.secret {
            return Err(SourceError::terminal("invalid_client"));
        }
        Ok(Token::new(format!("token-{number}")).with_lifetime(self.life))
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        part("client", "fleet");
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(&self.secret.to_be_bytes());
    }
}

/// A process with defaults, but for the places where the test needs something else.
fn member<W: World>(world: &W, client: Client, policy: RefreshPolicy) -> Process {
    let shared = settings(world.clock()).lease(secs(5)).store_timeout(secs(1));
    let shared = shared.build(client, world.store()).unwrap();
    let stats = shared.stats();
    let actor = TokenActor::builder(shared).policy(policy).clock(world.clock());
    Process { handle: actor.start().unwrap(), stats }
}

fn fleet_key() -> SharedKey {
    let shared = settings(SystemClock).build(Auth::default().client(0), MemoryStore::new());
    shared.unwrap().key().clone()
}

/// Where the token stands in Redis, and what else.
fn place(what: &str) -> String {
    place_of(&fleet_key(), what)
}

mod secrets {
    use super::*;

    async fn good_ones_are_served(wrong: u32) {
        for run in 0..10 {
            let redis = Redis::begin();
            let auth = Auth::default();
            let fleet: Vec<_> =
                (0..6).map(|at| member(&redis, auth.client(u32::from(at < wrong)), plain())).collect();
            // Whoever comes first: another order in each run.
            let mut order: Vec<usize> = (0..6).collect();
            order.rotate_left(run % 6);
            let asked = futures_util::future::join_all(order.iter().map(async |at| {
                let began = Instant::now();
                (*at, fleet[*at].handle.get().await, began.elapsed())
            }));
            for (at, outcome, took) in asked.await {
                let is_wrong = u32::try_from(at).unwrap() < wrong;
                if let Err(error) = &outcome {
                    assert!(is_wrong && error.is_rejected(), "run {run}: {error}");
                }
                let most = AUTH_TIME * (wrong + 1).min(4) + secs(1);
                assert!(is_wrong || took <= most, "run {run}: {took:?} for a good one");
            }
            assert!(auth.calls() <= 4, "run {run}: {} calls", auth.calls());
        }
    }

    #[actix::test]
    async fn one_wrong_secret_among_six_holds_up_nobody() {
        good_ones_are_served(1).await;
    }

    #[actix::test]
    async fn three_wrong_secrets_among_six_hold_up_nobody() {
        good_ones_are_served(3).await;
    }

    #[actix::test]
    async fn five_wrong_secrets_among_six_hold_up_nobody() {
        good_ones_are_served(5).await;
    }

    #[actix::test]
    async fn a_thousand_wrong_secrets_cost_fifteen_calls_in_five_minutes() {
        let world = Memory::begin();
        let auth = Auth::default();
        let policy = RefreshPolicy::default().background(true);
        let wrong: Vec<_> = (0..1_000).map(|_| member(&world, auth.client(1), policy.clone())).collect();
        tokio::time::sleep(secs(300)).await;
        assert!((5..=15).contains(&auth.calls()), "{} calls", auth.calls());
        // A good one among them is served at once, and then all have a token.
        let began = Instant::now();
        let good = member(&world, auth.client(0), policy);
        good.secret().await;
        assert!(began.elapsed() <= secs(2), "{:?}", began.elapsed());
        tokio::time::sleep(secs(60)).await;
        assert!(wrong.iter().all(|process| process.handle.current().is_some()), "the token is everybody's");
    }

    #[actix::test]
    async fn a_good_one_among_a_thousand_wrong_ones_is_served_within_two_seconds() {
        let world = Memory::begin();
        let auth = Auth::default();
        let wrong: Vec<_> = (0..1_000).map(|_| member(&world, auth.client(1), plain())).collect();
        let good = member(&world, auth.client(0), plain());
        let began = Instant::now();
        let (_, token) = tokio::join!(get_all(&wrong), good.handle.get());
        token.expect("a token");
        assert!(began.elapsed() <= secs(2), "{:?}", began.elapsed());
    }

    #[actix::test]
    async fn while_the_secret_is_rotated_who_has_the_right_one_is_served() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let mut fleet: Vec<_> = (0..6).map(|_| member(&redis, auth.client(0), plain())).collect();
        get_all(&fleet).await.into_iter().for_each(|token| drop(token.expect("a token")));
        auth.takes(1);
        for at in 0..6 {
            // It starts anew with the new secret, while the others still have the old one.
            fleet[at].handle.shutdown().await;
            fleet[at] = member(&redis, auth.client(1), plain());
            let refreshed =
                futures_util::future::join_all(fleet.iter().map(|one| one.handle.refresh())).await;
            for (number, outcome) in refreshed.iter().enumerate() {
                assert!(
                    number > at || outcome.is_ok(),
                    "after {at}: {number} has the right one: {outcome:?}"
                );
                fleet[number].handle.get().await.expect("a token, whatever became of the refresh");
            }
        }
    }
}

mod writers {
    use super::*;

    /// All refresh; each has to have a token within the patience and what the auth server takes.
    async fn all_refresh(fleet: &[Process], what: &str) -> Duration {
        let began = Instant::now();
        for outcome in futures_util::future::join_all(fleet.iter().map(|one| one.handle.refresh())).await {
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let took = began.elapsed();
        assert!(took <= secs(5) + AUTH_TIME + millis(500), "{what}: {took:?}");
        took
    }

    /// When nobody writes any more, it is one call a life again.
    async fn assert_sound(fleet: &[Process], auth: &Auth) {
        let calls = auth.calls();
        for life in 1..=3 {
            all_refresh(fleet, "sound again").await;
            assert_eq!(auth.calls(), calls + life, "one call a life");
        }
    }

    fn fleet(redis: &Redis, auth: &Auth) -> Vec<Process> {
        (0..6).map(|_| member(redis, auth.client(0), plain())).collect()
    }

    #[actix::test]
    async fn what_no_process_has_written_is_mended() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let fleet = fleet(&redis, &auth);
        all_refresh(&fleet, "at first").await;
        let forever = "315360000000";
        let ahead = "9000000000000000";
        let attacks: &[(&str, &[&str])] = &[
            ("pause", &["SET", "r", "PX", forever]),
            ("pause", &["SET", "t"]),
            ("lease", &["SET", "somebody:1:", "PX", forever]),
            ("lease", &["SET", "rubbish"]),
            ("lease", &["RPUSH", "a", "list"]),
            ("pause", &["RPUSH", "a", "list"]),
            ("state", &["SET", "a string"]),
            ("token", &["SET", "a string"]),
            ("marks", &["SET", "a string"]),
            ("state", &["HSET", "fence", "inf"]),
            ("state", &["HSET", "fence", "1e300"]),
            ("state", &["HSET", "fence", "nan"]),
            ("state", &["HSET", "fence", "18446744073709551615"]),
            ("state", &["HSET", "fence", "-5"]),
            ("token", &["HSET", "fence", ahead, "id", "x", "value", "y"]),
            ("token", &["HSET", "fence", "1", "id", "x", "value", "y"]),
            ("token", &["HSET", "other", "field"]),
        ];
        let mended = || sum(&fleet, SharedStats::mended) + sum(&fleet, SharedStats::unopened);
        for (key, words) in attacks {
            let what = format!("{key}: {words:?}");
            redis.cli(&["DEL", &place(key)]);
            let before = (auth.calls(), mended());
            redis.cli(&[&words[..1], &[&place(key)], &words[1..]].concat());
            let took = all_refresh(&fleet, &what).await;
            assert!(took < secs(2), "{what}: {took:?}");
            assert_eq!(auth.calls(), before.0 + 1, "{what}");
            let is_seen = !matches!((*key, words[1]), ("marks", _)) || mended() > before.1;
            assert!(is_seen, "{what}: it is counted");
        }
        let long = vec![b'x'; 200_000];
        for words in [&["SET", &place("lease")][..], &["HSET", &place("token"), "value"]] {
            let calls = auth.calls();
            redis.write(words, &long);
            all_refresh(&fleet, "too long").await;
            assert_eq!(auth.calls(), calls + 1, "{words:?}: too long");
        }
        assert!(mended() > 10, "{}", mended());
        assert_sound(&fleet, &auth).await;
        assert_eq!(sum(&fleet, SharedStats::local), 0);
    }

    #[actix::test]
    async fn a_hundred_random_writes_delay_nobody_for_long() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let fleet = fleet(&redis, &auth);
        all_refresh(&fleet, "at first").await;
        let mut dice = fastrand::Rng::with_seed(11);
        let keys = ["token", "lease", "pause", "state", "marks"].map(place);
        for _ in 0..25 {
            let refreshing = all_refresh(&fleet, "while somebody writes");
            let writing = async {
                for _ in 0..4 {
                    let key = &keys[dice.usize(..keys.len())];
                    let number = dice.u64(..).to_string();
                    let writes: [&[&str]; 6] = [
                        &["SET", key, &number, "PX", "315360000000"],
                        &["HSET", key, "fence", &number],
                        &["HSET", key, "value", &number, "id", &number],
                        &["RPUSH", key, &number],
                        &["DEL", key],
                        &["PERSIST", key],
                    ];
                    // Most of them fail by the type of what is there.
                    let write = writes[dice.usize(..writes.len())];
                    redis.cli(write);
                    tokio::time::sleep(millis(dice.u64(..40))).await;
                }
            };
            let (_, ()) = tokio::join!(refreshing, writing);
        }
        eprintln!(
            "local {} errors {}",
            sum(&fleet, SharedStats::local),
            sum(&fleet, SharedStats::store_errors)
        );
        assert_sound(&fleet, &auth).await;
    }

    #[actix::test]
    async fn a_token_that_is_deleted_after_each_commit_costs_the_patience_and_one_fetch() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let fleet: Vec<_> = (0..16).map(|_| member(&redis, auth.client(0), plain())).collect();
        let store = redis.store();
        let mut news = store.watch(&fleet_key()).await.unwrap();
        let token = place("token");
        let deleting = async {
            loop {
                news.next().await;
                redis.cli(&["DEL", &token]);
            }
        };
        let began = Instant::now();
        let waits = async {
            for outcome in get_all(&fleet).await {
                outcome.expect("a token");
            }
        };
        tokio::select! {
            () = waits => {}
            () = deleting => unreachable!("it has no end"),
        }
        let took = began.elapsed();
        assert!(took <= secs(5) + AUTH_TIME + millis(900), "{took:?}");
    }

    #[actix::test]
    async fn an_old_value_that_is_put_back_is_handed_out_by_nobody_who_has_seen_a_newer_one() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let fleet = fleet(&redis, &auth);
        let store = redis.store();
        let key = fleet_key();
        // Sealed by the fleet itself, in three lives.
        let mut old = Vec::new();
        for _ in 0..3 {
            all_refresh(&fleet, "a life").await;
            old.push(store.load(&key).await.unwrap().expect("a token"));
        }
        let revoked: Vec<String> = (1..=2).map(|number| format!("token-{number}")).collect();
        for round in 0..60 {
            let value = &old[round % 2];
            let fields = ["id", &format!("again-{round}"), "fence", &value.fence.to_string()];
            redis.cli(&[&["HSET", &place("token")], &fields[..]].concat());
            redis.write(&["HSET", &place("token"), "value"], &value.value);
            redis.cli(&["PEXPIRE", &place("token"), "3600000"]);
            for outcome in futures_util::future::join_all(fleet.iter().map(|one| one.handle.refresh())).await
            {
                let token = outcome.expect("a token");
                assert!(!revoked.contains(&token.secret().to_owned()), "round {round}: {}", token.secret());
            }
        }
        assert_sound(&fleet, &auth).await;
    }

    #[actix::test]
    async fn a_pause_or_a_lease_of_the_past_holds_nobody_up() {
        let redis = Redis::begin();
        let auth = Auth::default();
        let fleet = fleet(&redis, &auth);
        // A lease that a process has sealed, while it had it.
        let owner = member(&redis, auth.client(0), plain());
        let (asked, lease) = tokio::join!(owner.handle.get(), async {
            loop {
                let lease = redis.read(&["GET", &place("lease")]);
                if !lease.is_empty() {
                    return lease;
                }
                tokio::time::sleep(millis(5)).await;
            }
        });
        asked.unwrap();
        all_refresh(&fleet, "the token is there").await;
        for _ in 0..3 {
            redis.write(&["SET", &place("lease")], &lease);
            let took = all_refresh(&fleet, "with a lease that was put back").await;
            assert!(took < secs(2), "{took:?}");
        }
        assert_sound(&fleet, &auth).await;
    }
}

//! Promise 14: a one-time refresh token is never used twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::json;
use tokenflight::clock::{Clock, SystemClock};
use tokenflight::oauth::OAuthError;
use tokenflight::source::{AfterCrash, NeedsLogin, RefreshToken};
use tokenflight::vault::{
    FileVault, MemoryVault, Record, RefreshTokenStore, Stamp, State, Stored, Swap, VaultError, VaultLock,
};
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Question, Reply};
use super::*;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Answered,
    /// The server spends the token, and nobody hears of it.
    AnswerLost,
    /// The server spends the token, and its answer breaks off in the middle.
    AnswerCut,
    /// It never comes to the part of the server that spends.
    Unavailable,
    /// The answer comes, and cannot be read.
    Unreadable,
}

/// An authorization server that rotates, with a grace, and revokes the family of a token that comes too often.
#[derive(Default)]
pub(super) struct Family {
    pub(super) current: u32,
    previous: Option<(u32, std::time::Duration)>,
    grace: std::time::Duration,
    pub(super) is_revoked: bool,
    /// How often each refresh token has come.
    pub(super) arrived: BTreeMap<u32, u32>,
    pub(super) fates: Vec<Fate>,
    access: u32,
}

impl Family {
    pub(super) fn new(grace: std::time::Duration) -> Shared {
        Arc::new(Mutex::new(Self { current: 1, grace, ..Self::default() }))
    }

    /// Without a grace.
    pub(super) fn at(current: u32) -> Self {
        Self { current, ..Self::default() }
    }
}

pub(super) type Shared = Arc<Mutex<Family>>;

pub(super) fn family(grace: u64) -> (Shared, Loopback) {
    slow_family(grace, millis(0))
}

/// Each answer takes so long.
pub(super) fn slow_family(grace: u64, takes: std::time::Duration) -> (Shared, Loopback) {
    let family = Family::new(secs(grace));
    let shared = Arc::clone(&family);
    let server = Loopback::start(move |_, question| {
        let reply = answered(&mut lock(&shared), question);
        std::thread::sleep(takes);
        reply
    });
    (family, server)
}

pub(super) fn lock(family: &Shared) -> MutexGuard<'_, Family> {
    family.lock().unwrap()
}

pub(super) fn answered(family: &mut Family, question: &Question) -> Reply {
    let token = question.field("refresh_token").and_then(|token| token.strip_prefix("refresh-"));
    let Some(token) = token.and_then(|token| token.parse::<u32>().ok()) else {
        return Reply::json(400, json!({ "error": "invalid_request" }));
    };
    let fate = if family.fates.is_empty() { Fate::Answered } else { family.fates.remove(0) };
    if fate == Fate::Unavailable {
        return Reply::json(503, json!({ "error": "invalid_grant" }));
    }
    *family.arrived.entry(token).or_default() += 1;
    let now = SystemClock.now().boot;
    let in_grace =
        family.previous.is_some_and(|(last, used)| last == token && now.saturating_sub(used) < family.grace);
    if family.is_revoked || (token != family.current && !in_grace) {
        family.is_revoked = true;
        return Reply::json(400, json!({ "error": "invalid_grant" }));
    }
    if token == family.current {
        family.previous = Some((token, now));
        family.current += 1;
    }
    family.access += 1;
    match fate {
        Fate::AnswerLost => Reply::lost(),
        Fate::Unreadable => Reply::json(200, json!({ "odd": true })),
        Fate::AnswerCut => granted(family).cut(),
        _ => granted(family),
    }
}

fn granted(family: &Family) -> Reply {
    Reply::json(
        200,
        json!({
            "access_token": format!("access-{}", family.access), "token_type": "Bearer", "expires_in": 600,
            "refresh_token": format!("refresh-{}", family.current),
        }),
    )
}

pub(super) fn source<V: RefreshTokenStore>(
    server: &Loopback,
    vault: V,
    grace: u64,
    rule: AfterCrash,
) -> RefreshToken<V> {
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    client.refresh_token(vault).login("refresh-1").grace(secs(grace)).after_crash(rule).build().unwrap()
}

/// Fetches a token in the place of `last`.
pub(super) async fn next(source: &impl TokenSource, last: Option<&Token>) -> Result<Token, SourceError> {
    let cx = FetchContext::new(Reason::Forced);
    source
        .fetch(match last {
            Some(last) => cx.with_previous(last.clone()),
            None => cx,
        })
        .await
}

pub(super) async fn stored(vault: &impl RefreshTokenStore) -> Record {
    vault.load().await.unwrap().unwrap().record().clone()
}

/// Each refresh token came as often as it may.
#[track_caller]
pub(super) fn assert_used_once(family: &Shared, but_for: &[u32]) {
    let family = lock(family);
    assert!(!family.is_revoked);
    for (token, times) in &family.arrived {
        assert_eq!(*times, if but_for.contains(token) { 2 } else { 1 }, "refresh-{token}");
    }
}

#[actix::test]
async fn two_hundred_rotations_use_each_refresh_token_once() {
    let (family, server) = family(0);
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let mut last: Option<Token> = None;
    for rotation in 1..=200 {
        let token = next(&source, last.as_ref()).await.unwrap();
        assert_eq!(token.secret(), format!("access-{rotation}"));
        let record = stored(&vault).await;
        assert_eq!((record.generation(), record.state()), (rotation + 1, &State::Idle));
        assert_eq!(record.refresh_token(), format!("refresh-{}", rotation + 1));
        last = Some(token);
    }
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_program_that_starts_again_takes_what_the_file_has() {
    let (family, server) = family(0);
    let folder = Folder::new();
    let open = || FileVault::new(folder.path("login.json")).unwrap();
    let first = next(&source(&server, open(), 0, AfterCrash::NeedsLogin), None).await.unwrap();
    let again = next(&source(&server, open(), 0, AfterCrash::NeedsLogin), None).await.unwrap();
    assert!(first.is_same(&again) && again.remaining() > Some(secs(500)));
    let third = next(&source(&server, open(), 0, AfterCrash::NeedsLogin), Some(&again)).await.unwrap();
    assert_eq!(third.secret(), "access-2");
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn sixteen_processes_with_one_file_spend_once_and_all_adopt() {
    let (family, server) = family(0);
    let folder = Folder::new();
    let sources: Vec<_> = (0..16)
        .map(|_| {
            source(&server, FileVault::new(folder.path("login.json")).unwrap(), 0, AfterCrash::NeedsLogin)
        })
        .collect();
    let mut last: Option<Token> = None;
    for rotation in 1..=10 {
        let tokens = sources.iter().map(|source| next(source, last.as_ref()));
        let tokens = futures_util::future::join_all(tokens).await;
        for token in &tokens {
            assert_eq!(token.as_ref().unwrap().secret(), format!("access-{rotation}"));
        }
        last = tokens.into_iter().next().unwrap().ok();
    }
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_server_that_does_not_look_at_it_leaves_it_as_it_was() {
    let (family, server) = family(0);
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    lock(&family).fates = vec![Fate::Unavailable; 3];
    for _ in 0..3 {
        let error = next(&source, None).await.unwrap_err();
        assert!(!error.is_terminal(), "no code inside a 503 is believed: {error}");
        assert_eq!(stored(&vault).await.state(), &State::Idle);
    }
    next(&source, None).await.unwrap();
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn a_lost_answer_without_a_grace_needs_a_login_and_sends_nothing_more() {
    let (family, server) = family(0);
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    lock(&family).fates = vec![Fate::AnswerLost];
    let error = next(&source, None).await.unwrap_err();
    assert!(error.to_string().contains("it is not known whether the server has spent"), "{error}");
    for _ in 0..3 {
        let error = next(&source, None).await.unwrap_err();
        assert!(error.is_terminal(), "{error}");
        assert_eq!(error.cause::<NeedsLogin>().unwrap().generation, Some(1));
    }
    assert!(matches!(stored(&vault).await.state(), State::Dead { .. }));
    assert_used_once(&family, &[]);

    // A new login is all that it takes.
    lock(&family).current = 7;
    source.log_in("refresh-7").await.unwrap();
    next(&source, None).await.unwrap();
    assert_eq!(stored(&vault).await.generation(), 2);
}

#[actix::test]
async fn a_lost_answer_inside_the_grace_costs_one_repetition() {
    let (family, server) = family(30);
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 30, AfterCrash::NeedsLogin);
    lock(&family).fates = vec![Fate::AnswerLost];
    assert_eq!(next(&source, None).await.unwrap().secret(), "access-2");
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-2");
    assert_used_once(&family, &[1]);
}

#[actix::test]
async fn there_is_no_third_use() {
    let (family, server) = family(30);
    let source = source(&server, MemoryVault::new(), 30, AfterCrash::TryOnce);
    lock(&family).fates = vec![Fate::AnswerLost; 2];
    assert!(!next(&source, None).await.unwrap_err().is_terminal());
    for _ in 0..3 {
        assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    }
    assert_used_once(&family, &[1]);
}

#[actix::test]
async fn an_answer_that_cannot_be_read_has_spent_it() {
    let (family, server) = family(0);
    let source = source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin);
    lock(&family).fates = vec![Fate::Unreadable];
    assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    assert_used_once(&family, &[]);
}

#[actix::test]
async fn an_answer_that_breaks_off_is_asked_for_once_more_inside_the_grace_only() {
    for (grace, rule, is_served) in [
        (30, AfterCrash::NeedsLogin, true),
        (0, AfterCrash::NeedsLogin, false),
        (0, AfterCrash::TryOnce, false),
    ] {
        let (family, server) = family(grace);
        let vault = MemoryVault::new();
        let source = source(&server, vault.clone(), grace, rule);
        lock(&family).fates = vec![Fate::AnswerCut];
        let outcome = next(&source, None).await;
        if is_served {
            assert_eq!(outcome.unwrap().secret(), "access-2");
            assert_eq!(stored(&vault).await.refresh_token(), "refresh-2");
            assert_used_once(&family, &[1]);
        } else {
            let error = outcome.unwrap_err();
            let needs = error.cause::<NeedsLogin>().unwrap();
            assert!(needs.reason.contains("broke off"), "{needs}");
            assert!(matches!(stored(&vault).await.state(), State::Dead { .. }));
            assert_used_once(&family, &[]);
        }
    }
}

#[actix::test]
async fn two_answers_that_break_off_end_the_login_without_a_third_use() {
    let (family, server) = family(30);
    let source = source(&server, MemoryVault::new(), 30, AfterCrash::TryOnce);
    lock(&family).fates = vec![Fate::AnswerCut; 2];
    for _ in 0..3 {
        assert!(next(&source, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    }
    assert_used_once(&family, &[1]);
}

#[actix::test]
async fn what_the_server_refuses_is_dead_and_names_the_code() {
    let (family, server) = family(0);
    lock(&family).is_revoked = true;
    let vault = MemoryVault::new();
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let error = next(&source, None).await.unwrap_err();
    let needs = error.cause::<NeedsLogin>().unwrap();
    assert!(needs.reason.contains("invalid_grant") && needs.at.is_some(), "{needs}");
    assert!(error.cause::<OAuthError>().is_none(), "the reason is text: the vault keeps it");
    next(&source, None).await.unwrap_err();
    assert_eq!(lock(&family).arrived[&1], 1);
}

/// What a process leaves behind that dies while the refresh token is on its way, so long ago.
async fn left_behind(path: &Path, issuer: &str, ago: std::time::Duration) {
    let vault = FileVault::new(path).unwrap();
    let first = Record::first("refresh-1", issuer, "app").unwrap();
    let Swap::Done(stamp) = vault.swap(None, &first).await.unwrap() else { panic!("it was empty") };
    let spending = first.spending(SystemClock.now().wall - ago).unwrap();
    assert!(matches!(vault.swap(Some(&stamp), &spending).await.unwrap(), Swap::Done(_)));
}

#[actix::test]
async fn what_a_dead_process_has_left_is_decided_by_grace_and_rule() {
    for (grace, ago, rule, is_served) in [
        (30, 10, AfterCrash::NeedsLogin, true),
        (30, 26, AfterCrash::NeedsLogin, false),
        (30, 3600, AfterCrash::NeedsLogin, false),
        (30, 3600, AfterCrash::TryOnce, true),
        (0, 3, AfterCrash::NeedsLogin, false),
        (0, 3, AfterCrash::TryOnce, true),
    ] {
        let (family, server) = family(grace);
        let folder = Folder::new();
        left_behind(&folder.path("login"), &server.token_url(), secs(ago)).await;
        let vault = FileVault::new(folder.path("login")).unwrap();
        let outcome = next(&source(&server, vault, grace, rule), None).await;
        assert_eq!(outcome.is_ok(), is_served, "{grace} {ago} {rule:?}: {outcome:?}");
        assert_eq!(lock(&family).arrived.len(), usize::from(is_served), "{grace} {ago} {rule:?}");
        assert_used_once(&family, &[]);
    }
}

#[actix::test]
async fn a_refresh_token_goes_to_no_other_server_and_for_no_other_client() {
    let (family, server) = family(0);
    for (issuer, client) in [("https://auth.example.com/token", "app"), (&*server.token_url(), "another")] {
        let vault = MemoryVault::new();
        let login = Record::first("refresh-1", issuer, client).unwrap();
        assert!(matches!(vault.swap(None, &login).await.unwrap(), Swap::Done(_)));
        let source = source(&server, vault, 0, AfterCrash::TryOnce);
        let error = next(&source, None).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains(issuer), "{error}");
        assert!(lock(&family).arrived.is_empty());
        source.log_in("refresh-1").await.unwrap();
        next(&source, None).await.unwrap();
        *lock(&family) = Family { current: 1, ..Family::default() };
    }
}

/// A vault whose n-th swap fails, before or after it is done.
#[derive(Clone)]
pub(super) struct Failing {
    pub(super) vault: MemoryVault,
    pub(super) swaps: Arc<Mutex<Vec<Option<bool>>>>,
}

impl RefreshTokenStore for Failing {
    async fn lock(&self, limit: std::time::Duration) -> Result<VaultLock, VaultError> {
        self.vault.lock(limit).await
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.vault.load().await
    }

    async fn swap(&self, expected: Option<&Stamp>, record: &Record) -> Result<Swap, VaultError> {
        let fails = self.swaps.lock().unwrap().pop().flatten();
        if fails == Some(false) {
            return Err(VaultError::unavailable("the disc is full"));
        }
        let swapped = self.vault.swap(expected, record).await;
        if fails.is_some() { Err(VaultError::unavailable("the disc has gone")) } else { swapped }
    }
}

#[actix::test]
async fn a_vault_that_cannot_be_written_ends_the_flight_before_anything_is_sent() {
    for is_done in [false, true] {
        let (family, server) = family(0);
        // The last one comes first: the login, then spending, then what takes it back.
        let swaps = Arc::new(Mutex::new(vec![Some(is_done), None]));
        let vault = Failing { vault: MemoryVault::new(), swaps };
        let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
        let error = next(&source, None).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("the disc"), "{error}");
        assert!(lock(&family).arrived.is_empty());
        assert_eq!(next(&source, None).await.unwrap().secret(), "access-1");
        assert_used_once(&family, &[]);
    }
}

#[actix::test]
async fn a_new_token_that_cannot_be_saved_is_served_and_saved_before_the_next_is_spent() {
    let (family, server) = family(0);
    // The login and spending are written; the next generation is not, three times, nor when it is tried again.
    let swaps = Arc::new(Mutex::new(vec![Some(false), Some(false), Some(false), Some(false), None, None]));
    let vault = Failing { vault: MemoryVault::new(), swaps: Arc::clone(&swaps) };
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    assert_eq!(token.secret(), "access-1");
    assert!(matches!(stored(&vault).await.state(), State::Spending { .. }));
    let error = next(&source, Some(&token)).await.unwrap_err();
    assert!(error.to_string().contains("only in memory"), "{error}");
    assert_eq!(lock(&family).arrived.len(), 1);
    let token = next(&source, Some(&token)).await.unwrap();
    assert_eq!(token.secret(), "access-2");
    assert_used_once(&family, &[]);
}

/// A vault that panics in these operations: 0 is the first one.
#[derive(Clone)]
struct Explosive {
    vault: MemoryVault,
    operations: Arc<AtomicUsize>,
    panics: fn(usize) -> bool,
}

impl Explosive {
    /// The operations of a first fetch: lock, load, the login, *spending*, the next generation.
    fn at(panics: fn(usize) -> bool) -> Self {
        Self { vault: MemoryVault::new(), operations: Arc::default(), panics }
    }

    fn operate(&self) {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        assert!(!(self.panics)(number), "a vault that panics");
    }
}

/// A guard that panics when the lock ends.
struct Bomb(#[allow(dead_code)] VaultLock);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a lock that panics");
    }
}

impl RefreshTokenStore for Explosive {
    async fn lock(&self, limit: std::time::Duration) -> Result<VaultLock, VaultError> {
        self.operate();
        Ok(VaultLock::new(Bomb(self.vault.lock(limit).await?)))
    }

    async fn load(&self) -> Result<Option<Stored>, VaultError> {
        self.operate();
        self.vault.load().await
    }

    fn swap(
        &self,
        expected: Option<&Stamp>,
        record: &Record,
    ) -> impl Future<Output = Result<Swap, VaultError>> + Send {
        // Before there is a future.
        self.operate();
        self.vault.swap(expected, record)
    }
}

#[actix::test]
async fn a_vault_that_panics_loses_no_login() {
    // The next generation is written at the third try, or much later.
    let late: [fn(usize) -> bool; 3] =
        [|number| number == 4, |number| (4..6).contains(&number), |number| (4..7).contains(&number)];
    for panics in late {
        let (family, server) = family(0);
        let vault = Explosive::at(panics);
        let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
        let token = next(&source, None).await.unwrap();
        assert_eq!(token.secret(), "access-1");
        assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
        assert_used_once(&family, &[]);
        assert_eq!(stored(&vault.vault).await.refresh_token(), "refresh-3");
    }
    // Nothing was sent.
    let early: [fn(usize) -> bool; 4] =
        [|number| number == 0, |number| number == 1, |number| number == 2, |number| number == 3];
    for panics in early {
        let (family, server) = family(0);
        let source = source(&server, Explosive::at(panics), 0, AfterCrash::NeedsLogin);
        let error = next(&source, None).await.unwrap_err();
        assert!(!error.is_terminal() && error.to_string().contains("the vault panicked"), "{error}");
        assert!(lock(&family).arrived.is_empty());
        assert_eq!(next(&source, None).await.unwrap().secret(), "access-1");
        assert_used_once(&family, &[]);
    }
}

/// A recorder that panics for each gauge.
#[cfg(feature = "metrics")]
struct PanickingRecorder;

#[cfg(feature = "metrics")]
impl metrics::Recorder for PanickingRecorder {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {
        panic!("a recorder that panics");
    }

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        panic!("a recorder that panics");
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[cfg(feature = "metrics")]
#[actix::test]
async fn a_recorder_that_panics_loses_no_login() {
    let _guard = metrics::set_default_local_recorder(&PanickingRecorder);
    let (family, server) = family(0);
    // The next generation is not written by the three tries.
    let swaps = Arc::new(Mutex::new(vec![Some(false), Some(false), Some(false), None, None]));
    let vault = Failing { vault: MemoryVault::new(), swaps };
    let source = source(&server, vault.clone(), 0, AfterCrash::NeedsLogin);
    let token = next(&source, None).await.unwrap();
    assert!(source.is_unsaved().await);
    assert_eq!(next(&source, Some(&token)).await.unwrap().secret(), "access-2");
    assert_used_once(&family, &[]);
    assert_eq!(stored(&vault).await.refresh_token(), "refresh-3");
}

#[actix::test]
async fn a_slow_answer_is_waited_for_in_the_background_and_used() {
    let family = Family::new(millis(0));
    let (came, arrived) = std::sync::mpsc::channel();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (shared, gate) = (Arc::clone(&family), Mutex::new(gate));
    let server = Loopback::start(move |_, question| {
        came.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        answered(&mut lock(&shared), question)
    });
    let source = Arc::new(source(&server, MemoryVault::new(), 0, AfterCrash::NeedsLogin));
    let handle =
        TokenActor::builder(Arc::clone(&source)).policy(once().attempt_timeout(millis(300))).start().unwrap();
    assert!(handle.get().await.unwrap_err().is_ambiguous(), "the attempt's own time has ended");
    arrived.recv().unwrap();
    let waiting = tokio::spawn(async move { next(&*source, None).await });
    release.send(()).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "access-1");
    assert_used_once(&family, &[]);
}

/// The first refresh token of a login at the real server.
pub(super) async fn seeded(provider: &Provider) -> String {
    let answer = reqwest::Client::new()
        .post(provider.address("token_endpoint"))
        .basic_auth("rotating", Some("rotating-secret"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=urn:test:seed-refresh-token")
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["refresh_token"].as_str().unwrap().to_owned()
}

#[actix::test]
async fn a_real_server_that_rotates_and_detects_reuse_is_served_two_hundred_times() {
    let provider = Provider::start();
    let url = provider.address("token_endpoint");
    let seeded = seeded(&provider).await;
    let client = Client::builder(url, "rotating").secret("rotating-secret").build().unwrap();
    let folder = Folder::new();
    let vault = FileVault::new(folder.path("login")).unwrap();
    let source = client.refresh_token(vault.clone()).login(&*seeded).build().unwrap();
    let mut last: Option<Token> = None;
    for _ in 0..200 {
        let token = next(&source, last.as_ref()).await.unwrap();
        assert!(last.is_none_or(|last| !last.is_same(&token)));
        last = Some(token);
    }
    assert_eq!(stored(&vault).await.generation(), 201);
    assert_eq!(provider.stats().await["errors"], json!({}));
    // It is a real one: what was spent is refused, and the whole family with it.
    let spent = client.refresh_token(MemoryVault::new()).login(&*seeded).build().unwrap();
    assert!(next(&spent, None).await.unwrap_err().cause::<NeedsLogin>().is_some());
    assert!(next(&source, last.as_ref()).await.unwrap_err().cause::<NeedsLogin>().is_some());
}

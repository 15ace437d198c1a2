//! Sources behind sources: their ambiguous failures and their `finish` reach the sources that depend on them.

use std::sync::Mutex;

use serde_json::json;
use tokenflight::source::BoxSource;
use tokenflight::vault::MemoryVault;
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Reply};
use super::*;

/// A source whose end is noted, and whose failure may be given.
#[derive(Clone)]
struct Noted {
    name: &'static str,
    ended: Arc<Mutex<Vec<&'static str>>>,
    failure: Option<SourceError>,
    calls: Arc<AtomicUsize>,
}

impl Noted {
    fn new(name: &'static str, ended: &Arc<Mutex<Vec<&'static str>>>) -> Self {
        Self { name, ended: Arc::clone(ended), failure: None, calls: Arc::default() }
    }

    fn failing(failure: SourceError) -> Self {
        Self { failure: Some(failure), ..Self::new("failing", &Arc::default()) }
    }
}

impl TokenSource for Noted {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(Token::new(self.name).with_lifetime(secs(600))),
        }
    }

    async fn finish(&self) {
        tokio::task::yield_now().await;
        self.ended.lock().unwrap().push(self.name);
    }
}

fn server() -> Loopback {
    Loopback::start(|_, _| {
        Reply::json(
            200,
            json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 600,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token" }),
        )
    })
}

#[actix::test]
async fn a_shutdown_ends_each_link_of_a_chain() {
    let server = server();
    let ended = Arc::new(Mutex::new(Vec::new()));
    let noted = |name| Noted::new(name, &ended);
    let plain = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let asserted = Client::builder(server.token_url(), "app").assertion(noted("assertion")).build().unwrap();
    let exchange = asserted.token_exchange(noted("subject")).actor(noted("actor")).build().unwrap();
    let sources = [
        (BoxSource::new(exchange), vec!["actor", "assertion", "subject"]),
        (BoxSource::new(plain.jwt_bearer(noted("bearer")).build().unwrap()), vec!["bearer"]),
        (BoxSource::new(asserted.client_credentials().build().unwrap()), vec!["assertion"]),
        (
            BoxSource::new(asserted.refresh_token(MemoryVault::new()).login("r").build().unwrap()),
            vec!["assertion"],
        ),
    ];
    for (source, expected) in sources {
        let handle = started(source);
        handle.get().await.unwrap();
        handle.shutdown().await;
        let mut ended: Vec<_> = ended.lock().unwrap().drain(..).collect();
        ended.sort_unstable();
        assert_eq!(ended, expected);
    }
}

#[actix::test]
async fn an_ambiguous_failure_stays_one_through_a_handle_and_a_grant() {
    let server = server();
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let quick =
        || RefreshPolicy::default().attempts(3).backoff(millis(0)).cooldown(millis(0)).settle(millis(0));
    for (repeatable, calls) in [(false, 1), (true, 3)] {
        let failure = SourceError::ambiguous("lost");
        let failure = if repeatable { failure.repeatable() } else { failure };
        // Directly behind a grant.
        let inner = Noted::failing(failure.clone());
        let source = client.token_exchange(inner.clone()).build().unwrap();
        let handle = TokenActor::builder(source).policy(quick()).start().unwrap();
        let error = handle.get().await.unwrap_err();
        assert!(error.is_ambiguous() && error.kind() == "ambiguous", "{error}");
        assert_eq!(inner.calls.load(Ordering::Relaxed), calls);
        // By way of an actor of its own.
        let inner = Noted::failing(failure);
        let link = TokenActor::builder(inner.clone()).policy(quick().attempts(1)).start().unwrap();
        let direct = link.fetch(FetchContext::new(Reason::First)).await.unwrap_err();
        assert!(direct.is_ambiguous(), "{direct:?}");
        inner.calls.store(0, Ordering::Relaxed);
        let source = client.jwt_bearer(link).build().unwrap();
        let handle = TokenActor::builder(source).policy(quick()).start().unwrap();
        let error = handle.get().await.unwrap_err();
        assert!(error.is_ambiguous(), "{error}");
        assert_eq!(handle.status().await.unwrap().counters.attempts, calls as u64);
    }
}

#[cfg(feature = "shared")]
#[actix::test]
async fn an_ambiguous_failure_stays_one_through_a_shared_source_whose_end_is_that_of_the_inner_one() {
    use tokenflight::source::SharedSource;
    use tokenflight::store::MemoryStore;

    let inner = Noted::failing(SourceError::ambiguous("lost"));
    let shared = SharedSource::builder("orders")
        .in_clear()
        .part("tenant", "one")
        .build(inner.clone(), MemoryStore::new())
        .unwrap();
    let handle = TokenActor::builder(shared)
        .policy(RefreshPolicy::default().attempts(3).backoff(millis(0)))
        .start()
        .unwrap();
    let error = handle.get().await.unwrap_err();
    assert!(error.is_ambiguous(), "{error}");
    assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
    let again = handle.get().await.unwrap_err();
    assert!(again.is_ambiguous() && again.retry_after().is_some(), "the cooldown's error is the same");
    assert_eq!(inner.calls.load(Ordering::Relaxed), 1);
    handle.shutdown().await;
    assert_eq!(*inner.ended.lock().unwrap(), ["failing"]);
}

//! A registry's keys at `oidc-provider`: one client, and a separate request for each key.

use tokenflight::oauth::{ClientAuth, OAuthError};
use tokenflight::registry::{Key, TokenRegistry};
use tokenflight::source::{Group, KeyedSource, SharedSource, SharedSourceBuilder};
use tokenflight::store::MemoryStore;
use tokenflight::{BuildError, FetchContext, Reason};

use super::loopback::{Loopback, Reply};
use super::strict_server::Pair;
use super::*;
use crate::shared::world::seal_key;

fn registry<K: Key>(source: impl KeyedSource<K>) -> TokenRegistry<K> {
    TokenRegistry::builder(source).policy(once()).start().unwrap()
}

fn plain_client(provider: &Provider) -> Client {
    client(provider, "plain").secret("plain-secret").build().unwrap()
}

#[actix::test]
async fn each_key_costs_one_call_and_has_its_own_scope_and_a_bad_scope_fails_alone() {
    let provider = Provider::start();
    let source =
        plain_client(&provider).client_credentials().require_scopes(true).for_key(|tenant: &u32, request| {
            match tenant {
                // The server knows this scope, and the client may not have it.
                99 => request.scope("api:admin"),
                tenant => request.scope(format!("tenant:{tenant}")),
            }
        });
    let tokens = registry(source.unwrap());
    let keys: Vec<u32> = (0..20).chain([99]).collect();
    let asked = keys.iter().flat_map(|key| [key; 3]).map(|key| tokens.get(key));
    let outcomes = futures_util::future::join_all(asked).await;
    for (key, outcomes) in keys.iter().zip(outcomes.chunks(3)) {
        for outcome in outcomes {
            if *key == 99 {
                let error = outcome.as_ref().unwrap_err();
                assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_scope", "{error}");
                continue;
            }
            let token = outcome.as_ref().unwrap();
            assert!(token.is_same(outcomes[0].as_ref().unwrap()), "one call for key {key}");
        }
        if *key != 99 {
            let known = provider.introspect(outcomes[0].as_ref().unwrap().secret()).await;
            assert_eq!(known["scope"], format!("tenant:{key}"));
        }
    }
    let stats = provider.stats().await;
    assert_eq!(stats["token_calls"], 21);
    assert_eq!(stats["by_client"], serde_json::json!({ "plain": 21 }));
    let totals = tokens.totals().await.unwrap();
    assert_eq!((totals.closures, totals.client_closures), (0, 0), "one tenant's trouble closes nothing");
}

#[actix::test]
async fn a_key_that_cannot_be_asked_for_costs_no_call_and_names_the_setting() {
    let provider = Provider::start();
    let source = plain_client(&provider)
        .client_credentials()
        .for_key(|scope: &String, request| request.scope(scope))
        .unwrap();
    let tokens = registry(source);
    let error = tokens.get(&"a\"b".to_owned()).await.unwrap_err();
    assert!(error.is_rejected());
    assert_eq!(error.cause::<BuildError>().unwrap().field(), "scope", "{error}");
    assert!(tokens.get(&"api:read".to_owned()).await.is_ok());
    assert_eq!(provider.stats().await["token_calls"], 1);
}

#[actix::test]
async fn what_cannot_work_for_any_key_is_refused_at_once() {
    let client = Client::builder("https://auth.example.com/token", "app").public().build().unwrap();
    let error = client.client_credentials().for_key(|_: &u32, request| request).unwrap_err();
    assert_eq!(error.field(), "client_secret");
    let client = Client::builder("https://auth.example.com/token", "app").secret("hush").build().unwrap();
    let source = client.client_credentials().extra("grant_type", "x").for_key(|_: &u32, request| request);
    assert_eq!(source.unwrap_err().field(), "extra");
    let source = client.client_credentials().extra("tenant", "hush").for_key(|_: &u32, request| request);
    assert!(!format!("{:?}", source.unwrap()).contains("hush"));
}

#[actix::test]
async fn tenants_have_clients_of_their_own_and_one_with_a_wrong_secret_fails_alone() {
    let provider = Provider::start();
    let url = provider.address("token_endpoint").to_owned();
    let source = plain_client(&provider).client_credentials().scope("api:read").for_key(
        move |tenant: &&'static str, request| {
            let own = |id: &str, secret: &str| Client::with_token_url(&url, id).secret(secret);
            request.by_client(match *tenant {
                "post" => own("post", "post-secret+ %&=").auth_method(ClientAuth::Body),
                "wrong" => own("exchange", "a wrong secret"),
                other => own(other, &format!("{other}-secret")),
            })
        },
    );
    let tokens = registry(source.unwrap());
    for tenant in ["plain", "post", "rotating", "dpop-public"] {
        let outcome = tokens.get(&tenant).await;
        if tenant == "dpop-public" {
            assert!(outcome.unwrap_err().is_rejected(), "a client that may not use the grant");
            continue;
        }
        assert_eq!(provider.introspect(outcome.unwrap().secret()).await["client_id"], tenant);
    }
    let error = tokens.get(&"wrong").await.unwrap_err();
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
    assert!(!format!("{error:?}").contains("a wrong secret"));
    assert!(tokens.get(&"plain").await.is_ok());
}

/// A subject's token is exchanged for one of the key's user.
#[actix::test]
async fn each_user_s_token_is_exchanged_for_that_user() {
    let provider = Arc::new(Provider::start());
    let (users, nobody) = (Arc::clone(&provider), idp(&provider, "nobody"));
    let source = public(&provider)
        .token_exchange(nobody)
        .subject_token_type("urn:ietf:params:oauth:token-type:jwt")
        .for_key(move |user: &&'static str, request| request.subject(idp(&users, user)))
        .unwrap();
    let tokens = registry(source);
    for user in ["alice", "bob"] {
        let token = tokens.get(&user).await.unwrap();
        assert_eq!(provider.introspect(token.secret()).await["sub"], user);
    }
    assert_eq!(provider.stats().await["token_calls"], 2);
}

#[test]
fn keys_of_one_client_are_one_client_for_the_gate_and_groups_are_the_user_s() {
    let client = |id: &str| Client::with_token_url("https://auth.example.com/token", id).secret("hush");
    let base = client("app").build().unwrap();
    let one = base.client_credentials().for_key(|key: &u32, request| request.scope(key.to_string())).unwrap();
    assert!(one.client(&1).is_some());
    assert_eq!(one.client(&1), one.client(&2));
    assert_eq!(one.group(&1), None);
    let grouped = one.group_by(|key| key % 2);
    assert_eq!(grouped.group(&1), grouped.group(&3));
    assert_eq!(grouped.group(&1), Some(Group::of(1_u32)));
    let own = base.client_credentials().for_key(move |key: &u32, request| {
        request.by_client(client(if *key == 0 { "app" } else { "another" }))
    });
    let own = own.unwrap();
    assert_ne!(own.client(&0), own.client(&1));
    assert_eq!(own.client(&0), grouped.client(&1), "built or not, it is the same client");
}

/// A client that is built for one request learns the server's clock for the next.
#[actix::test]
async fn a_server_whose_clock_is_two_hours_ahead_costs_the_first_key_an_attempt_and_no_other() {
    use base64::Engine as _;
    use tokenflight::clock::{Clock as _, SystemClock};

    let there = || SystemClock.now().wall + std::time::Duration::from_secs(7_200);
    let server = Loopback::start(move |_, question| {
        let claims = question.field("client_assertion").unwrap().split('.').nth(1).unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        let iat = serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["iat"].as_u64().unwrap();
        let now = there().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let reply = if now.abs_diff(iat) <= 30 {
            let body = serde_json::json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 60 });
            Reply::json(200, body)
        } else {
            Reply::json(401, serde_json::json!({ "error": "invalid_client" }))
        };
        reply.with_header("date", httpdate::fmt_http_date(there()))
    });
    let (url, key) = (server.token_url(), Pair::p256().key());
    let base = Client::with_token_url(&url, "base").private_key(key.clone()).build().unwrap();
    let source = base.client_credentials().for_key(move |tenant: &u32, request| {
        request.by_client(Client::with_token_url(&url, tenant.to_string()).private_key(key.clone()))
    });
    let source = source.unwrap();
    let error = source.fetch(&1, FetchContext::new(Reason::First)).await.unwrap_err();
    assert!(!error.is_terminal(), "the next attempt can help: {error}");
    source.fetch(&1, FetchContext::new(Reason::First)).await.unwrap();
    source.fetch(&2, FetchContext::new(Reason::First)).await.unwrap();
}

fn fleet() -> SharedSourceBuilder {
    SharedSource::builder("tenants").key(seal_key("1", 1))
}

/// Each client that is built has an HTTP client of its own here, which shows where and how often that is done. A client that
/// reads files is built at the same place.
#[actix::test]
async fn a_client_of_one_key_s_own_is_built_once_a_call_and_off_the_arbiter() {
    let server = Loopback::start(|_, _| {
        let token = serde_json::json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 3600 });
        Reply::json(200, token)
    });
    let url = server.token_url();
    let (builds, here) = (Arc::new(std::sync::Mutex::new(Vec::new())), std::thread::current().id());
    let source = || {
        let (url, builds) = (url.clone(), Arc::clone(&builds));
        let base = Client::with_token_url(&url, "base").secret("hush").build().unwrap();
        let source = base.client_credentials().for_key(move |tenant: &u32, request| {
            let builds = Arc::clone(&builds);
            request.by_client(Client::with_token_url(&url, tenant.to_string()).secret("hush").http(
                move |http| {
                    builds.lock().unwrap().push(std::thread::current().id());
                    http
                },
            ))
        });
        source.unwrap()
    };
    // The source cannot name what an HTTP client of its own decides.
    let fleet = fleet().part("issuer", server.token_url());
    let shared = fleet.build_keyed(source(), MemoryStore::new(), u32::to_string).unwrap();
    let alone = registry(source());
    let shared = registry(shared);
    for (tokens, tenant) in [(&alone, 1), (&shared, 2)] {
        tokens.get(&tenant).await.unwrap();
        let builds = std::mem::take(&mut *builds.lock().unwrap());
        assert_eq!(builds.len(), 1, "one call, one client");
        assert_ne!(builds[0], here, "built on the arbiter");
    }
}

/// A server that knows one secret, and how often it was sent another one.
fn guarded() -> (Loopback, Arc<AtomicUsize>) {
    use base64::Engine as _;

    let refused = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&refused);
    let right = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("app:right"));
    let server = Loopback::start(move |_, question| {
        if question.header("authorization") == Some(&right) {
            let token =
                serde_json::json!({ "access_token": "abc", "token_type": "Bearer", "expires_in": 3600 });
            return Reply::json(200, token);
        }
        counter.fetch_add(1, Ordering::Relaxed);
        Reply::json(401, serde_json::json!({ "error": "invalid_client" }))
    });
    (server, refused)
}

fn first() -> FetchContext {
    FetchContext::new(Reason::First)
}

/// What a function gives is known when it was asked, and no sooner.
#[actix::test]
async fn the_wrong_secrets_of_functions_do_not_hold_up_the_right_one() {
    let ((server, refused), store) = (guarded(), MemoryStore::new());
    let member = |secret: &'static str| {
        let settings = Client::with_token_url(server.token_url(), "app");
        let client = settings.secret_fn(move || async move { Ok::<_, std::io::Error>(secret.to_owned()) });
        let source = client.build().unwrap().client_credentials().build().unwrap();
        fleet().build(source, store.clone()).unwrap()
    };
    for _ in 0..4 {
        member("wrong").fetch(first()).await.unwrap_err();
    }
    member("right").fetch(first()).await.unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 4, "each is the first call of a process");
}

#[actix::test]
async fn a_client_s_wrong_secret_of_a_function_is_known_to_the_fleet_for_the_next_call() {
    let ((server, refused), store) = (guarded(), MemoryStore::new());
    let member = |secret: &'static str| {
        let url = server.token_url();
        let base = Client::with_token_url(&url, "base").secret("hush").build().unwrap();
        let source = base.client_credentials().for_key(move |_: &u32, request| {
            let client = Client::with_token_url(&url, "app");
            request.by_client(
                client.secret_fn(move || async move { Ok::<_, std::io::Error>(secret.to_owned()) }),
            )
        });
        fleet().build_keyed(source.unwrap(), store.clone(), u32::to_string).unwrap()
    };
    let wrong = member("wrong");
    for calls in [1, 2, 3, 4, 4, 4] {
        wrong.fetch(&7, first()).await.unwrap_err();
        assert_eq!(
            refused.load(Ordering::Relaxed),
            calls,
            "the first one is of a secret that was not known before"
        );
    }
    member("right").fetch(&7, first()).await.unwrap();
}

#[cfg(feature = "dpop")]
#[test]
fn tokens_that_are_bound_to_a_generated_key_are_no_tokens_for_a_fleet_s_keys() {
    use tokenflight::oauth::DpopKey;

    let client = Client::with_token_url("https://auth.example.com/token", "app").secret("hush");
    let client = client.dpop(DpopKey::generate().unwrap()).build().unwrap();
    let source = client.client_credentials().for_key(|key: &u32, request| request.scope(key.to_string()));
    let error = fleet().build_keyed(source.unwrap(), MemoryStore::new(), u32::to_string).unwrap_err();
    assert_eq!(error.field(), "source");
    let text = error.to_string();
    assert!(text.contains("`dpop`") && text.contains("DpopKey::from_pem_file"), "{text}");
}

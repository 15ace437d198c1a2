//! Tokens that are bound to a key (RFC 9449): with a strict token endpoint, and with `oidc-provider` and an API.

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use tokenflight::oauth::{Algorithm, DpopKey, OAuthError};
use tokenflight::vault::{FileVault, MemoryVault, RefreshTokenStore, State as Spent};
use tokenflight::{FetchContext, Reason, TokenType};

use super::dpop_server::{DpopServer, State, thumbprint, verified};
use super::loopback::{Loopback, Reply};
use super::*;

const P256: &str = include_str!("../../../src/oauth/jws/tests/keys/p256.pem");
const P384: &str = include_str!("../../../src/oauth/jws/tests/keys/p384.pem");

fn key() -> DpopKey {
    DpopKey::generate().unwrap()
}

fn first() -> FetchContext {
    FetchContext::new(Reason::First)
}

async fn fetch(source: &impl TokenSource) -> Result<Token, SourceError> {
    source.fetch(first()).await
}

/// Header and claims of the proof for a request.
#[track_caller]
fn proof(token: &Token, uri: &str) -> (Value, Value) {
    let mut headers = HeaderMap::new();
    token.apply(&Method::GET, &uri.parse().unwrap(), &mut headers).unwrap();
    assert_eq!(headers["authorization"], format!("DPoP {}", token.secret()));
    verified(headers["dpop"].to_str().unwrap()).expect("a good proof")
}

#[actix::test]
async fn each_request_has_a_proof_of_its_own_and_each_nonce_costs_one_more_request() {
    for (status, auth) in [(400, "secret"), (401, "key")] {
        let server = DpopServer::start(State { nonce: Some(1), status, ..State::default() });
        let key = key();
        let client = server.client().dpop(key.clone());
        let client = match auth {
            "secret" => client.secret("s3cret"),
            _ => client.private_key(PrivateKey::from_pem(P256).unwrap()),
        };
        let source = client.build().unwrap().client_credentials().build().unwrap();
        for nonce in [1, 1, 1, 2, 2] {
            server.state().nonce = Some(nonce);
            let token = fetch(&source).await.unwrap();
            assert_eq!(token.token_type(), &TokenType::DPoP);
            assert!(token.is_bound());
            let (header, claims) = proof(&token, "https://api.example/a?b");
            assert_eq!(thumbprint(&header), key.thumbprint());
            assert_eq!(claims["htu"], "https://api.example/a");
            assert!(claims["nonce"].is_null(), "the API has not asked for one");
        }
        // Five tokens, two nonces. (The server takes each `jti` and each assertion once.)
        assert_eq!(server.state().requests, 7);
        assert_eq!(server.state().refusals.len(), 2, "{:?}", server.state().refusals);
    }
}

#[actix::test]
async fn there_is_one_repetition_and_only_for_a_nonce_that_was_not_sent() {
    let server = DpopServer::start(State { nonce: Some(1), moves_on: true, ..State::default() });
    let source = server.client().secret("s3cret").dpop(key()).build().unwrap();
    let source = source.client_credentials().build().unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.cause::<OAuthError>().unwrap().code, "use_dpop_nonce");
    assert!(!error.is_terminal(), "the next attempt has the next nonce");
    assert_eq!(server.state().requests, 2);

    // A server that wants the nonce that it gets: nothing is repeated.
    server.state().moves_on = false;
    fetch(&source).await.unwrap();
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let counting = Loopback::start(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Reply::json(400, json!({ "error": "use_dpop_nonce" })).with_header("dpop-nonce", "always".to_owned())
    });
    let client = Client::builder(counting.token_url(), "app").secret("s3cret").dpop(key()).build().unwrap();
    let source = client.client_credentials().build().unwrap();
    fetch(&source).await.unwrap_err();
    assert_eq!(counted.load(Ordering::Relaxed), 2, "the first one had no nonce");
    fetch(&source).await.unwrap_err();
    assert_eq!(counted.load(Ordering::Relaxed), 3);
}

#[actix::test]
async fn a_clock_that_differs_from_the_server_s_costs_one_attempt() {
    for nonce in [None, Some(1)] {
        for ahead in [600, -600] {
            let server = DpopServer::start(State { nonce, ahead, ..State::default() });
            let client = server.client().secret("s3cret").dpop(key()).build().unwrap();
            let source = client.client_credentials().build().unwrap();
            let error = fetch(&source).await.unwrap_err();
            assert!(!error.is_terminal(), "{error}");
            fetch(&source).await.unwrap();
            fetch(&source).await.unwrap();
        }
    }
}

#[actix::test]
async fn a_token_of_another_type_is_discarded() {
    for kind in [Some("Bearer"), None, Some("N_A")] {
        let server = DpopServer::start(State { token_type: kind, ..State::default() });
        let client = server.client().secret("s3cret").dpop(key()).build().unwrap();
        let error = fetch(&client.client_credentials().build().unwrap()).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("discarded"), "{error}");
        assert!(!error.to_string().contains("token-1"));
    }
    // And the other way round: bound, and nobody has asked for that.
    let server = Loopback::start(|_, _| {
        Reply::json(200, json!({ "access_token": "abc", "token_type": "DPoP", "expires_in": 600 }))
    });
    let client = Client::builder(server.token_url(), "app").secret("s3cret").build().unwrap();
    let error = fetch(&client.client_credentials().build().unwrap()).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("set `dpop`"), "{error}");
    for (client, kind) in [
        (client, TokenType::DPoP),
        (
            Client::builder(server.token_url(), "app").secret("s").dpop(key()).build().unwrap(),
            TokenType::Bearer,
        ),
    ] {
        let error = client.client_credentials().token_type(kind).build().unwrap_err();
        assert_eq!(error.field(), "token_type", "{error}");
    }
}

#[actix::test]
async fn the_server_s_list_of_algorithms_decides_before_anything_is_sent() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Loopback::start(move |origin, question| {
        if question.path.ends_with("openid-configuration") {
            return Reply::json(
                200,
                json!({
                    "issuer": origin, "token_endpoint": format!("{origin}/token"),
                    "dpop_signing_alg_values_supported": ["ES256"],
                }),
            );
        }
        count.fetch_add(1, Ordering::Relaxed);
        Reply::json(200, json!({ "access_token": "abc", "token_type": "dpop", "expires_in": 600 }))
    });
    for (pem, algorithm) in [(P384, Algorithm::Es384), (P256, Algorithm::Es256)] {
        let key = DpopKey::from_pem(pem).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let client = Client::with_issuer(server.origin(), "app").secret("s3cret").dpop(key).build().unwrap();
        let outcome = fetch(&client.client_credentials().build().unwrap()).await;
        if algorithm == Algorithm::Es256 {
            assert!(outcome.unwrap().is_bound());
        } else {
            let error = outcome.unwrap_err();
            assert!(error.is_terminal(), "{error}");
            assert!(error.to_string().contains("dpop_signing_alg_values_supported"), "{error}");
        }
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn nothing_of_a_key_or_a_proof_is_shown() {
    let echo = Loopback::start(|_, question| {
        let proof = question.header("dpop").unwrap_or_default();
        Reply::json(
            400,
            json!({ "error": "invalid_dpop_proof", "error_description": format!("not {proof}") }),
        )
    });
    let client = Client::builder(echo.token_url(), "app").secret("s3cret").dpop(key());
    let shown = format!("{client:?}");
    let client = client.build().unwrap();
    let source = client.client_credentials().build().unwrap();
    let error = fetch(&source).await.unwrap_err();
    let shown = format!("{shown} {client:?} {source:?} {error} {error:?}");
    assert!(error.to_string().contains("invalid_dpop_proof"), "{error}");
    // With this each proof begins.
    assert!(!shown.contains("eyJh") && !shown.contains("PRIVATE"), "{shown}");
}

#[actix::test]
async fn the_setting_stands_in_a_file() {
    let folder = Folder::new();
    let path = folder.write("dpop.pem", P256);
    let read = |dpop: Value| {
        let settings = json!({ "token_url": "https://auth.example/token", "client_id": "a", "client_secret": "s3cret", "dpop": dpop });
        serde_json::from_value::<ClientBuilder>(settings).map_err(|error| error.to_string())
    };
    read(json!("generate")).unwrap().build().unwrap();
    read(json!({ "key_file": path })).unwrap().build().unwrap();
    let error = read(json!({ "key_file": folder.path("none.pem") })).unwrap().build().unwrap_err();
    assert_eq!(error.field(), "dpop");
    assert!(read(json!(P256)).unwrap_err().contains("neither \"generate\" nor a table with `key`"));
}

#[actix::test]
async fn a_nonce_costs_no_second_use_of_a_refresh_token() {
    for (confidential, generated) in [(true, true), (false, true), (false, false)] {
        let server = DpopServer::start(State { nonce: Some(1), ..State::default() });
        let folder = Folder::new();
        let vault = FileVault::new(folder.path("login")).unwrap();
        let make = || {
            let key = if generated { key() } else { DpopKey::from_pem(P256).unwrap() };
            let client = server.client().dpop(key);
            let client = if confidential { client.secret("s3cret") } else { client.public() };
            client.build().unwrap().refresh_token(vault.clone()).login("refresh-1").build().unwrap()
        };
        let source = make();
        let one = fetch(&source).await.unwrap();
        let (used, _) = proof(&one, "https://api.example/");
        let stored = vault.load().await.unwrap().unwrap();
        assert_eq!(stored.record().thumbprint(), Some(&*thumbprint(&used)));
        assert_eq!(stored.record().private_key().is_some(), generated && !confidential);
        assert!(!format!("{stored:?}").contains("PRIVATE"));

        // The next process. Its own key is another one where it was generated.
        let next = make();
        let adopted = fetch(&next).await.unwrap();
        if confidential {
            assert!(!adopted.is_same(&one), "the access token in the vault is of no use without its key");
            assert_ne!(thumbprint(&proof(&adopted, "https://api.example/").0), thumbprint(&used));
        } else {
            assert!(adopted.is_same(&one));
            assert_eq!(thumbprint(&proof(&adopted, "https://api.example/").0), thumbprint(&used));
        }
        server.state().nonce = Some(2);
        let two = next.fetch(first().with_previous(adopted)).await.unwrap();
        if !confidential {
            assert_eq!(thumbprint(&proof(&two, "https://api.example/").0), thumbprint(&used));
        }
        let spent = server.state().spent.clone();
        let once: std::collections::HashSet<_> = spent.iter().collect();
        assert_eq!(once.len(), spent.len(), "{spent:?}");
        assert!(server.state().refusals.iter().all(|why| why.starts_with("use_dpop_nonce")));
    }
}

#[actix::test]
async fn a_refresh_token_that_is_bound_to_another_key_is_not_sent() {
    let server = DpopServer::start(State::default());
    let vault = MemoryVault::new();
    let with = |key: Option<DpopKey>| {
        let client = server.client().public();
        let client = match key {
            Some(key) => client.dpop(key),
            None => client,
        };
        client.build().unwrap().refresh_token(vault.clone()).login("refresh-1").build().unwrap()
    };
    fetch(&with(Some(DpopKey::from_pem(P256).unwrap()))).await.unwrap();
    let requests = server.state().requests;
    for other in [Some(key()), None] {
        let error = fetch(&with(other)).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("nothing was sent"), "{error}");
        assert!(error.to_string().contains("F36aq0Ox-6SM04xEHSmF1xSpF-3kn5QO1aK-xR3whAg"), "{error}");
    }
    assert_eq!(server.state().requests, requests);
    let stored = vault.load().await.unwrap().unwrap();
    assert_eq!(stored.record().state(), &Spent::Idle);
    fetch(&with(Some(DpopKey::from_pem(P256).unwrap()))).await.unwrap();
}

/// A source that wraps another one, and does not know of keys.
#[cfg(feature = "shared")]
struct Hiding<S>(S);

#[cfg(feature = "shared")]
impl<S: TokenSource> TokenSource for Hiding<S> {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.0.fetch(cx).await
    }
}

#[cfg(feature = "shared")]
#[actix::test]
async fn a_fleet_shares_tokens_by_one_key_from_a_file_and_refuses_a_generated_one() {
    use tokenflight::source::{BoxSource, SharedSource};
    use tokenflight::store::MemoryStore;

    let server = DpopServer::start(State { nonce: Some(1), ..State::default() });
    let source = |key| {
        let client = server.client().secret("s3cret").dpop(key).build().unwrap();
        client.client_credentials().build().unwrap()
    };
    let store = MemoryStore::new();
    let shared = || SharedSource::builder("orders").in_clear();
    let error = shared().part("tenant", "one").build(source(key()), store.clone()).unwrap_err();
    assert!(error.to_string().contains("DpopKey::from_pem_file"), "{error}");
    let from_file = || DpopKey::from_pem(P256).unwrap();
    let one = shared().build(source(from_file()), store.clone()).unwrap();
    let other = shared().build(BoxSource::new(Arc::new(source(from_file()))), store.clone()).unwrap();
    assert_eq!(one.key(), other.key());
    let (mine, theirs) = (fetch(&one).await.unwrap(), fetch(&other).await.unwrap());
    assert!(mine.is_same(&theirs));
    assert_eq!((server.state().tokens, other.stats().adopted()), (1, 1));
    for token in [mine, theirs] {
        assert_eq!(thumbprint(&proof(&token, "https://api.example/").0), from_file().thumbprint());
    }
    // Another key is another place in the store.
    let third = shared().build(source(DpopKey::from_pem(P384).unwrap()), store).unwrap();
    assert_ne!(third.key(), one.key());

    // A wrapper that hides the key: an error, and no token that others cannot use.
    let hidden =
        shared().part("tenant", "two").build(Hiding(source(from_file())), MemoryStore::new()).unwrap();
    let error = fetch(&hidden).await.unwrap_err();
    assert!(error.is_terminal() && error.to_string().contains("share the OAuth source itself"), "{error}");
}

/// An API at `oidc-provider` that wants proofs, and a client of it as one writes it: one repetition, if there is a new nonce.
struct Api {
    url: String,
    client: reqwest::Client,
}

impl Api {
    fn of(provider: &Provider) -> Self {
        Self { url: format!("{}/resource", provider.address("issuer")), client: reqwest::Client::new() }
    }

    async fn call(&self, token: &Token, method: &Method) -> (StatusCode, Value) {
        let uri: Uri = format!("{}?page=2", self.url).parse().unwrap();
        let mut is_repeated = false;
        loop {
            let mut headers = HeaderMap::new();
            token.apply(method, &uri, &mut headers).unwrap();
            let request = self.client.request(method.clone(), uri.to_string()).headers(headers);
            let answer = request.send().await.unwrap();
            let may_help = token.learn(&uri, answer.headers());
            let status = answer.status();
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            if is_repeated || !may_help || body["error"] != "use_dpop_nonce" {
                return (status, body);
            }
            is_repeated = true;
        }
    }

    async fn rotate(&self, grace: u32) {
        self.client.post(format!("{}/rotate?grace={grace}", self.url)).send().await.unwrap();
    }

    async fn requests(&self) -> u64 {
        let answer = self.client.get(format!("{}/stats", self.url)).send().await.unwrap();
        let stats: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        stats["requests"].as_u64().unwrap()
    }
}

#[actix::test]
async fn a_real_server_and_an_api_that_want_nonces_cost_one_more_request_for_each_nonce() {
    let provider = Provider::start();
    let api = Api::of(&provider);
    let with = |key| client(&provider, "dpop").secret("dpop-secret").dpop(key).build().unwrap();
    let (old_key, new_key) = (key(), key());
    let old = started(with(old_key.clone()).client_credentials().build().unwrap());
    let token = old.get().await.unwrap();
    assert_eq!(provider.stats().await["token_calls"], 2, "one for the nonce");
    let introspected = provider.introspect(token.secret()).await;
    assert_eq!(introspected["cnf"]["jkt"], old_key.thumbprint());
    let again = old.refresh().await.unwrap();
    assert!(!again.is_same(&token));
    assert_eq!(provider.stats().await["token_calls"], 3);

    for _ in 0..3 {
        let (status, body) = api.call(&token, &Method::GET).await;
        assert_eq!((status, &body["thumbprint"]), (StatusCode::OK, &json!(old_key.thumbprint())), "{body}");
    }
    assert_eq!(api.requests().await, 4);
    api.rotate(0).await;
    for method in [Method::POST, Method::GET] {
        assert_eq!(api.call(&again, &method).await.0, StatusCode::OK);
    }
    assert_eq!(api.requests().await, 7);
    // A nonce that comes with a success costs nothing.
    api.rotate(1).await;
    assert_eq!(api.call(&token, &Method::GET).await.0, StatusCode::OK);
    api.rotate(1).await;
    assert_eq!(api.call(&token, &Method::GET).await.0, StatusCode::OK);
    assert_eq!(api.requests().await, 9);
    // Many at the same time, when the nonce has changed: each is repeated once.
    api.rotate(0).await;
    let calls = futures_util::future::join_all((0..20).map(|_| api.call(&token, &Method::GET))).await;
    assert!(calls.iter().all(|(status, _)| *status == StatusCode::OK), "{calls:?}");
    assert!(api.requests().await <= 9 + 40);

    // Another key, while tokens of the first one are in use.
    let new = started(with(new_key.clone()).client_credentials().build().unwrap()).get().await.unwrap();
    for (token, key) in [(&token, &old_key), (&new, &new_key), (&again, &old_key)] {
        let (status, body) = api.call(token, &Method::GET).await;
        assert_eq!((status, &body["thumbprint"]), (StatusCode::OK, &json!(key.thumbprint())), "{body}");
    }
}

#[actix::test]
async fn each_grant_gets_a_bound_token_at_the_real_server() {
    let provider = Arc::new(Provider::start());
    let key = key();
    let client = client(&provider, "dpop").secret("dpop-secret").dpop(key.clone()).build().unwrap();
    let plain = client.client_credentials().build().unwrap();
    let exchanged = client.token_exchange(idp(&provider, "alice")).subject_token_type(JWT).build().unwrap();
    let asserted = client.jwt_bearer(idp(&provider, "alice")).build().unwrap();
    for token in
        [fetch(&plain).await.unwrap(), fetch(&exchanged).await.unwrap(), fetch(&asserted).await.unwrap()]
    {
        let introspected = provider.introspect(token.secret()).await;
        assert_eq!(introspected["cnf"]["jkt"], key.thumbprint());
    }
    assert_eq!(provider.stats().await["token_calls"], 4);
}

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

#[actix::test]
async fn a_public_client_s_refresh_token_lives_with_its_key_at_the_real_server() {
    let provider = Provider::start();
    let key = DpopKey::from_pem(P256).unwrap();
    let login = |jkt: String| {
        let url = provider.address("token_endpoint").to_owned();
        async move {
            let form = format!("grant_type=urn:test:seed-refresh-token&client_id=dpop-public&jkt={jkt}");
            let request = reqwest::Client::new().post(url).body(form);
            let answer =
                request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
            let seeded: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            seeded["refresh_token"].as_str().unwrap().to_owned()
        }
    };
    let with = |key: &DpopKey| client(&provider, "dpop-public").public().dpop(key.clone()).build().unwrap();
    let refresh_token = login(key.thumbprint().to_owned()).await;
    let source = with(&key).refresh_token(MemoryVault::new()).login(refresh_token).build().unwrap();
    let mut last = fetch(&source).await.unwrap();
    for _ in 0..5 {
        let next = source.fetch(first().with_previous(last.clone())).await.unwrap();
        assert!(!next.is_same(&last));
        last = next;
    }
    assert_eq!(Api::of(&provider).call(&last, &Method::GET).await.0, StatusCode::OK);
    // One for the login, one for the nonce, six tokens.
    assert_eq!(provider.stats().await["token_calls"], 8);
    assert_eq!(provider.stats().await["errors"], json!({ "use_dpop_nonce": 1 }));

    // Another key cannot spend it: so says the server, too.
    let refresh_token = login(key.thumbprint().to_owned()).await;
    let other = DpopKey::generate().unwrap();
    let source = with(&other).refresh_token(MemoryVault::new()).login(refresh_token).build().unwrap();
    assert!(fetch(&source).await.unwrap_err().to_string().contains("invalid_grant"));
}

//! Assertions with servers that are as strict as their documentation, one for each preset.

use serde_json::Value;
use tokenflight::oauth::{OAuthError, Preset};
use tokenflight::source::SignedJwt;
use tokenflight::testing::ManualClock;

use tokenflight::clock::{Clock as _, SystemClock};
use tokenflight::{FetchContext, Reason};

use super::strict_server::{ID, Pair, Rules, StrictServer};
use super::*;
use crate::servers::verified_by_jwcrypto;

/// What the draft rfc7523bis asks for.
const DRAFT: Rules = Rules {
    audience: "/realm",
    longest: 60,
    typ: "client-authentication+jwt",
    alg: "RS256",
    wants_certificate: false,
    issuer: "/realm",
    grant: "client_credentials",
    field: "client_assertion",
    ahead: 0,
};
const ENTRA: Rules =
    Rules { audience: "/token", longest: 600, typ: "JWT", alg: "PS256", wants_certificate: true, ..DRAFT };
const OKTA: Rules = Rules { audience: "/token", longest: 3600, typ: "JWT", ..DRAFT };
const AUTH0: Rules = Rules { audience: "/", longest: 300, typ: "JWT", ..DRAFT };
const KEYCLOAK: Rules = Rules { typ: "JWT", ..DRAFT };
const GOOGLE: Rules = Rules {
    audience: "/token",
    longest: 3600,
    typ: "JWT",
    grant: "urn:ietf:params:oauth:grant-type:jwt-bearer",
    field: "assertion",
    ..DRAFT
};

/// Three attempts a flight, without a pause between them.
fn thrice() -> RefreshPolicy {
    once().attempts(3).backoff(millis(0))
}

/// Fifty flights. Each third request fails, and its `jti` is used up.
async fn pass<S: TokenSource>(server: &StrictServer, make: impl Fn() -> S) {
    for flight in 1..=50 {
        let handle = TokenActor::builder(make()).policy(thrice()).start().unwrap();
        let token = handle.get().await.unwrap_or_else(|error| panic!("flight {flight}: {error}"));
        assert_eq!(token.secret(), format!("token-{flight}"));
    }
    let seen = server.seen();
    assert!(seen.refusals.is_empty(), "{:?}", seen.refusals);
    assert_eq!((seen.requests, seen.unavailable), (74, 24), "each failure cost one more request");
}

/// What a second verifier, which is not of the server's own library, reads in the last assertion.
fn last_assertion(server: &StrictServer, key: &PrivateKey) -> (Value, Value) {
    verified_by_jwcrypto(&server.seen().last, &key.public_jwk()).expect("a good signature")
}

/// A client that knows the issuer too. So a preset that names another audience shows that it does.
fn client_of(server: &StrictServer, preset: Preset) -> ClientBuilder {
    Client::builder(server.issuer(), ID).preset(preset)
}

fn source(client: &Client) -> impl TokenSource + use<> {
    client.client_credentials().build().unwrap()
}

#[actix::test]
async fn fifty_flights_pass_at_a_server_like_entra() {
    let (pair, folder) = (Pair::rsa(), Folder::new());
    let server = StrictServer::start(ENTRA, &pair);
    // Key and certificate stand in one file.
    let file = folder.write("pair.pem", &pair.pem);
    let client = client_of(&server, Preset::Entra).private_key_file(&file).key_certificate_file(&file);
    let client = client.build().unwrap();
    pass(&server, || source(&client)).await;
    let (header, claims) = last_assertion(&server, &pair.key());
    assert!(header["x5t#S256"].is_string() && claims["nbf"].is_u64(), "{header} {claims}");
}

#[actix::test]
async fn the_preset_for_entra_asks_for_the_certificate() {
    let pair = Pair::rsa();
    let server = StrictServer::start(ENTRA, &pair);
    let error = client_of(&server, Preset::Entra).private_key(pair.key()).build().unwrap_err();
    assert_eq!(error.field(), "key_certificate_file");
    let key = pair.key().with_certificate(&pair.pem).unwrap();
    let client = client_of(&server, Preset::Entra).private_key(key).build().unwrap();
    started(source(&client)).get().await.unwrap();
}

#[actix::test]
async fn fifty_flights_pass_at_a_server_like_okta() {
    let pair = Pair::rsa();
    let server = StrictServer::start(OKTA, &pair);
    let client = client_of(&server, Preset::Okta).private_key(pair.key()).build().unwrap();
    pass(&server, || source(&client)).await;
    last_assertion(&server, &pair.key());
}

#[actix::test]
async fn fifty_flights_pass_at_a_server_like_auth0() {
    let pair = Pair::rsa();
    let server = StrictServer::start(AUTH0, &pair);
    let client = client_of(&server, Preset::Auth0).private_key(pair.key()).build().unwrap();
    pass(&server, || source(&client)).await;
    last_assertion(&server, &pair.key());
}

#[actix::test]
async fn fifty_flights_pass_at_a_server_like_keycloak() {
    let pair = Pair::rsa();
    let server = StrictServer::start(KEYCLOAK, &pair);
    let client = client_of(&server, Preset::Keycloak).private_key(pair.key()).build().unwrap();
    pass(&server, || source(&client)).await;
    last_assertion(&server, &pair.key());
}

/// Keycloak takes the token URL too, for a client that does not know the issuer.
#[actix::test]
async fn without_an_issuer_the_preset_for_keycloak_names_the_token_url() {
    let pair = Pair::rsa();
    let server = StrictServer::start(Rules { audience: "/token", ..KEYCLOAK }, &pair);
    let client = Client::builder(server.token_url(), ID).preset(Preset::Keycloak).private_key(pair.key());
    let client = client.build().unwrap();
    started(source(&client)).get().await.unwrap();
}

/// Google knows a service account by the assertion of the grant.
#[actix::test]
async fn fifty_flights_pass_at_a_server_like_google() {
    let pair = Pair::rsa();
    let server = StrictServer::start(GOOGLE, &pair);
    let client = Client::builder(server.token_url(), ID).public().build().unwrap();
    let account = SignedJwt::builder(pair.key(), ID, server.token_url()).lifetime(HOUR).build().unwrap();
    pass(&server, || client.jwt_bearer(account.clone()).build().unwrap()).await;
    last_assertion(&server, &pair.key());
}

#[actix::test]
async fn fifty_flights_pass_with_the_preset_for_google() {
    let pair = Pair::rsa();
    let rules = Rules { grant: DRAFT.grant, field: DRAFT.field, ..GOOGLE };
    let server = StrictServer::start(rules, &pair);
    let client = client_of(&server, Preset::Google).private_key(pair.key()).build().unwrap();
    pass(&server, || source(&client)).await;
}

#[actix::test]
async fn fifty_flights_pass_without_a_preset() {
    for (alg, pair) in [("RS256", Pair::rsa()), ("ES256", Pair::p256())] {
        let server = StrictServer::start(Rules { alg, ..DRAFT }, &pair);
        let client = Client::builder(server.issuer(), ID).private_key(pair.key()).build().unwrap();
        pass(&server, || source(&client)).await;
        let (header, _) = last_assertion(&server, &pair.key());
        assert_eq!(header, serde_json::json!({ "alg": alg, "typ": DRAFT.typ }));
    }
}

/// The server is strict indeed: with another preset it refuses, and says why.
#[actix::test]
async fn a_server_refuses_the_assertions_that_are_made_for_another() {
    let pair = Pair::rsa();
    let key = pair.key().with_certificate(&pair.pem).unwrap();
    for (rules, preset, what) in [
        (DRAFT, Preset::Keycloak, "typ is"),
        (DRAFT, Preset::Okta, "typ is"),
        (KEYCLOAK, Preset::Auth0, "aud is"),
        (KEYCLOAK, Preset::Google, "aud is"),
        (OKTA, Preset::Entra, "the signature is not good"),
        (ENTRA, Preset::Okta, "the signature is not good"),
        (AUTH0, Preset::Okta, "aud is"),
    ] {
        let server = StrictServer::start(rules, &pair);
        let client = client_of(&server, preset).private_key(key.clone()).build().unwrap();
        let error = refused(source(&client)).await;
        assert!(error.is_rejected());
        assert_eq!(error.cause::<OAuthError>().unwrap().code, "invalid_client");
        let refusals = &server.seen().refusals;
        assert!(refusals.len() == 1 && refusals[0].starts_with(what), "{preset:?}: {refusals:?}");
    }
}

const OFF: u64 = 2 * 60 * 60;

/// The clock of this machine is right, and the server's is not; or the other way round. Nobody can tell.
#[actix::test]
async fn a_clock_that_is_two_hours_off_heals_in_one_flight() {
    let pair = Pair::p256();
    for ahead in [OFF.cast_signed(), -OFF.cast_signed()] {
        let server = StrictServer::start(Rules { alg: "ES256", ahead, ..DRAFT }, &pair);
        // The document of discovery has a `Date` too, but the token endpoint's is the one that counts.
        let client = Client::builder(server.token_url(), ID).audience(server.issuer());
        let client = client.private_key(pair.key()).build().unwrap();
        for flight in 1..=6 {
            let handle = TokenActor::builder(source(&client)).policy(thrice()).start().unwrap();
            handle.get().await.unwrap_or_else(|error| panic!("flight {flight}: {error}"));
        }
        let seen = server.seen();
        assert!(seen.refusals.len() == 1 && seen.refusals[0].starts_with("iat is"), "{:?}", seen.refusals);
    }
}

/// A clock that is a few seconds fast is as wrong for a strict server. One that is as slow is no harm.
#[actix::test]
async fn a_clock_that_is_a_few_seconds_off_heals_in_one_flight() {
    let pair = Pair::p256();
    for fast in [5, 20, 29_i64] {
        for (ahead, refusals) in [(-fast, 1), (fast, 0)] {
            let server = StrictServer::start(Rules { alg: "ES256", ahead, ..DRAFT }, &pair);
            let client = Client::builder(server.token_url(), ID).audience(server.issuer());
            let client = client.private_key(pair.key()).build().unwrap();
            for flight in 1..=3 {
                let handle = TokenActor::builder(source(&client)).policy(thrice()).start().unwrap();
                handle.get().await.unwrap_or_else(|error| panic!("{ahead} s, flight {flight}: {error}"));
            }
            assert_eq!(server.seen().refusals.len(), refusals, "{ahead} s: {:?}", server.seen().refusals);
        }
    }
}

/// The assertion of a grant is dated by the server's clock, too.
#[actix::test]
async fn a_service_account_whose_clock_is_two_hours_off_heals_in_one_flight() {
    let pair = Pair::p256();
    for ahead in [OFF.cast_signed(), -OFF.cast_signed()] {
        let server = StrictServer::start(Rules { alg: "ES256", ahead, ..GOOGLE }, &pair);
        let account = SignedJwt::builder(pair.key(), ID, server.token_url()).build().unwrap();
        let client = Client::builder(server.token_url(), ID).public().build().unwrap();
        for flight in 1..=6 {
            let source = client.jwt_bearer(account.clone()).build().unwrap();
            let handle = TokenActor::builder(source).policy(thrice()).start().unwrap();
            handle.get().await.unwrap_or_else(|error| panic!("flight {flight}: {error}"));
        }
        assert_eq!(server.seen().refusals.len(), 1, "{:?}", server.seen().refusals);
    }
}

/// A clock that shows the true time, but for two hours.
fn wrong_clock(is_ahead: bool) -> ManualClock {
    let clock = ManualClock::new();
    let (shown, now) = (clock.now().wall, SystemClock.now().wall);
    match now.duration_since(shown) {
        Ok(behind) => clock.set_forward(behind),
        Err(ahead) => clock.set_back(ahead.duration()),
    }
    if is_ahead {
        clock.set_forward(secs(OFF));
    } else {
        clock.set_back(secs(OFF));
    }
    clock
}

/// The same where the wrong clock is the actor's own.
#[actix::test]
async fn the_clock_of_an_actor_heals_too() {
    let pair = Pair::p256();
    for is_ahead in [true, false] {
        let server = StrictServer::start(Rules { alg: "ES256", ..DRAFT }, &pair);
        let client = Client::builder(server.issuer(), ID).private_key(pair.key()).build().unwrap();
        let clock = wrong_clock(is_ahead);
        let actor = TokenActor::builder(source(&client)).policy(thrice()).clock(clock.clone());
        actor.start().unwrap().get().await.unwrap();
        // By hand: the next assertion of the same client is right from the start.
        let cx = FetchContext::new(Reason::First).with_clock(Arc::new(clock));
        let refusals = server.seen().refusals.len();
        assert_eq!(refusals, 1);
        if server.seen().requests % 3 == 2 {
            source(&client).fetch(cx.clone()).await.unwrap_err();
        }
        source(&client).fetch(cx).await.unwrap();
        assert_eq!(server.seen().refusals.len(), refusals);
    }
}

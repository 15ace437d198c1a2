//! The cost of putting a token on a request: a bearer token beside `authorization()` and an insertion, and a `DPoP`
//! proof beside the bare signature of aws-lc.
//!
//! ```sh
//! cargo bench --features dpop --bench dpop
//! ```
//!
//! The token has 900 bytes. The bare signature is that of a text of a proof's length.
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss)] // it measures

#[path = "common/asked.rs"]
mod asked;
#[path = "common/side_by_side.rs"]
mod side_by_side;

use std::alloc::System as Heap;
use std::hint::black_box;
use std::time::Instant;

use asked::asked;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Uri};
use side_by_side::SideBySide;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokenflight::oauth::{Client, DpopKey};
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{FetchContext, Reason, Token, TokenSource};

#[global_allocator]
static HEAP: &StatsAlloc<Heap> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 25;
const READS: u32 = 100_000;
const SIGNATURES: u32 = 2_000;

const BY_HAND: &str = "authorization(), and an insertion";
const APPLY: &str = "apply() of a bearer token";
const BARE: &str = "ES256 of aws-lc";
const PROOF: &str = "apply() of a bound token";
const PROOF_WITH_NONCE: &str = "the same with a nonce";

fn main() {
    let (method, uri) = (Method::GET, Uri::from_static("https://api.example.com/v1/orders?page=2"));
    let bearer = Token::new("x".repeat(900));
    // With what a client sends besides, as in a request.
    let headers = || {
        let mut headers = HeaderMap::new();
        for name in ["accept", "user-agent", "content-type"] {
            headers.insert(name, HeaderValue::from_static("something"));
        }
        headers
    };
    let (mut one, mut other) = (headers(), headers());
    let apply = |headers: &mut HeaderMap| bearer.apply(&method, &uri, headers).expect("it can be presented");
    let by_hand = |headers: &mut HeaderMap| drop(headers.insert(AUTHORIZATION, bearer.authorization()));
    let figures = SideBySide::new("A bearer token of 900 bytes on a request", "ns")
        .row(BY_HAND, || nanos(READS, || by_hand(black_box(&mut one))))
        .row(APPLY, || nanos(READS, || apply(black_box(&mut other))))
        .measure(ROUNDS);
    figures.print(BY_HAND);
    println!();
    asked(
        "apply() to authorization() and an insertion",
        figures.median(APPLY) / figures.median(BY_HAND),
        1.2,
    );
    let region = Region::new(HEAP);
    for _ in 0..READS {
        apply(&mut other);
    }
    asked("allocations of an apply()", region.change().allocations as f64, 0.0);

    let (bound, with_nonce) = (bound(), bound());
    let news = HeaderMap::from_iter([(
        "dpop-nonce".parse().expect("a name"),
        "x".repeat(40).parse().expect("a nonce"),
    )]);
    assert!(with_nonce.learn(&uri, &news));
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let mut headers = HeaderMap::new();
    with_nonce.apply(&method, &uri, &mut headers).expect("it can be presented");
    let text = headers["dpop"].as_bytes().to_vec();
    let (random, mut second) = (SystemRandom::new(), HeaderMap::new());
    let prove =
        |token: &Token, headers: &mut HeaderMap| token.apply(&method, &uri, headers).expect("a proof");
    let figures = SideBySide::new(format!("A proof of {} bytes", text.len()), "ns")
        .row(BARE, || {
            nanos(SIGNATURES, || {
                let _ = black_box(pair.sign(&random, black_box(&text)));
            })
        })
        .row(PROOF, || nanos(SIGNATURES, || prove(&bound, &mut headers)))
        .row(PROOF_WITH_NONCE, || nanos(SIGNATURES, || prove(&with_nonce, &mut second)))
        .measure(ROUNDS);
    figures.print(BARE);
    println!();
    asked("a proof to the bare signature", figures.median(PROOF_WITH_NONCE) / figures.median(BARE), 1.2);
}

/// As a client gets it.
fn bound() -> Token {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let server = FakeAuthServer::start().await.expect("a port");
        let secret = "x".repeat(900);
        let answer = format!(r#"{{"access_token":"{secret}","token_type":"DPoP","expires_in":3600}}"#);
        server.then(Reply::json(200, answer));
        let key = DpopKey::generate().expect("a key");
        let client = Client::builder(server.url(), "app").secret("s3cret").dpop(key).build();
        let source = client.expect("sound settings").client_credentials().build().expect("sound settings");
        source.fetch(FetchContext::new(Reason::First)).await.expect("a token")
    })
}

fn nanos(times: u32, mut run: impl FnMut()) -> f64 {
    let begin = Instant::now();
    for _ in 0..times {
        run();
    }
    begin.elapsed().as_nanos() as f64 / f64::from(times)
}

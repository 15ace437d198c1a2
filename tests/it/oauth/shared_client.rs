//! A thousand sources of one client share the client's knowledge.

use futures_util::StreamExt as _;
use serde_json::json;
use tokenflight::{FetchContext, Reason};

use super::loopback::{Loopback, Reply};
use super::*;

const SOURCES: usize = 1_000;

#[actix::test]
async fn a_thousand_sources_share_one_client() {
    let (documents, tokens) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = Loopback::start({
        let (documents, tokens) = (Arc::clone(&documents), Arc::clone(&tokens));
        move |origin, question| {
            if question.path != "/token" {
                documents.fetch_add(1, Ordering::Relaxed);
                return Reply::json(
                    200,
                    json!({ "issuer": origin, "token_endpoint": format!("{origin}/token") }),
                );
            }
            tokens.fetch_add(1, Ordering::Relaxed);
            let scope = question.field("scope").unwrap_or_default();
            Reply::json(200, json!({ "access_token": format!("token-{scope}"), "token_type": "Bearer" }))
        }
    });
    // The HTTP client is built by this closure. A source of its own would call it again.
    let built = Arc::new(AtomicUsize::new(0));
    let client = Client::builder(server.origin(), "app").secret("s3cret").http({
        let built = Arc::clone(&built);
        move |http| {
            built.fetch_add(1, Ordering::Relaxed);
            http
        }
    });
    let client = client.build().unwrap();
    let sources: Vec<_> =
        (0..SOURCES).map(|n| client.client_credentials().scope(format!("s{n}")).build().unwrap()).collect();

    let fetches = sources.iter().map(|source| source.fetch(FetchContext::new(Reason::First)));
    let outcomes: Vec<_> = futures_util::stream::iter(fetches).buffered(50).collect().await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().secret(), format!("token-s{n}"));
    }
    assert_eq!(tokens.load(Ordering::Relaxed), SOURCES);
    assert_eq!(documents.load(Ordering::Relaxed), 1, "the document was read once");
    assert_eq!(built.load(Ordering::Relaxed), 1, "the HTTP client was built once");
}

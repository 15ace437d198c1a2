//! Many keys: each behaves like a separate token, and all of them together stay within their limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokenflight::registry::TokenRegistry;
use tokenflight::{FetchContext, SourceError, Token};

/// A source that counts its calls, and gives "<key>-<call>".
fn counting(calls: &Arc<AtomicUsize>) -> impl Fn(u32, FetchContext) -> Answering + Send + Sync + 'static {
    let calls = Arc::clone(calls);
    move |key, _cx| {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(Token::new(format!("{key}-{call}")).with_lifetime(Duration::from_secs(3_600)))
        })
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Result<Token, SourceError>> + Send>>;

#[actix::test]
async fn each_key_has_one_flight_and_a_token_of_its_own() {
    let calls = Arc::default();
    let tokens = TokenRegistry::builder(counting(&calls)).start().unwrap();
    let callers: Vec<_> = (0..300_u32)
        .map(|caller| {
            let tokens = tokens.clone();
            actix_rt::spawn(async move { (caller % 3, tokens.get(&(caller % 3)).await.unwrap()) })
        })
        .collect();
    for caller in callers {
        let (key, token) = caller.await.unwrap();
        assert!(token.secret().starts_with(&format!("{key}-")));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens.status(&1).await.unwrap().counters.landed, 1);
    assert_eq!(tokens.totals().await.unwrap().counters.landed, 3);
    tokens.shutdown().await;
    assert!(tokens.current(&1).is_none());
    assert!(tokens.get(&1).await.unwrap_err().is_stopped());
}

#[actix::test]
async fn no_more_keys_are_kept_than_there_is_room_for_and_an_evicted_key_costs_a_call() {
    let calls = Arc::default();
    let tokens = TokenRegistry::builder(counting(&calls)).max_keys(10).start().unwrap();
    for key in 0..100 {
        tokens.get(&key).await.unwrap();
        assert!(tokens.len() <= 10);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 100);
    assert!(tokens.current(&0).is_none());
    assert_eq!(tokens.get(&0).await.unwrap().secret(), "0-101");
    assert_eq!(tokens.totals().await.unwrap().evicted, 91);
}

//! The tokens of a registry's keys on requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokenflight::middleware::BearerAuth;
use tokenflight::registry::TokenRegistry;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{FetchContext, Token};

use crate::{ADAPTORS, Call, Told, plain};

#[actix::test]
async fn each_key_carries_its_own_token_and_a_401_replaces_that_one_alone() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let source = move |tenant: String, _cx: FetchContext| {
            let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Ok(Token::new(format!("{tenant}-{call}"))) }
        };
        let tokens = TokenRegistry::builder(source).policy(plain()).start().unwrap();
        let [acme, other] = ["acme", "other"].map(|tenant| {
            let handle = tokens.handle(tenant.to_owned());
            BearerAuth::builder(&handle).allow(api.url().replace("/token", "")).build().unwrap()
        });
        for status in [200, 200, 401, 200, 200] {
            api.then(Reply::json(status, "{}"));
        }
        for auth in [&acme, &other, &acme, &other] {
            assert_eq!(adaptor.send(auth, Call::get(&api.url())).await, Told::Status(200), "{adaptor:?}");
        }
        let sent: Vec<_> = api
            .asked()
            .iter()
            .map(|asked| asked.header("authorization").unwrap_or_default().to_owned())
            .collect();
        let expected =
            ["acme-1", "other-2", "acme-1", "acme-3", "other-2"].map(|token| format!("Bearer {token}"));
        assert_eq!(sent, expected, "{adaptor:?}");
    }
}

/// Three rejections of a token that was accepted confirm each other, though each request has a middleware of its own.
#[actix::test]
async fn middlewares_of_the_same_key_share_their_evidence() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let source = move |tenant: String, _cx: FetchContext| {
            let call = counted.fetch_add(1, Ordering::Relaxed) + 1;
            async move { Ok(Token::new(format!("{tenant}-{call}"))) }
        };
        let tokens = TokenRegistry::builder(source).policy(plain().reports(1)).start().unwrap();
        for status in [200, 401, 200, 401, 401, 401, 200] {
            api.then(Reply::json(status, "{}"));
        }
        for expected in [200, 200, 401, 200] {
            let handle = tokens.handle("acme".to_owned());
            let auth = BearerAuth::builder(handle).allow(api.url().replace("/token", "")).build().unwrap();
            let told = adaptor.send(&auth, Call::get(&api.url())).await;
            assert_eq!(told, Told::Status(expected), "{adaptor:?}");
        }
        let last = api.asked().pop().unwrap();
        assert_eq!(last.header("authorization"), Some("Bearer acme-3"), "{adaptor:?}");
        assert_eq!(calls.load(Ordering::Relaxed), 3, "the budget was spent after the second");
    }
}

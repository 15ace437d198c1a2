//! Which bodies are sent twice, and which are not.

use tokenflight::middleware::BearerAuth;
use tokenflight::testing::{FakeAuthServer, Reply};
use tokenflight::{Token, TokenActor, source_fn};

use crate::{ADAPTORS, Call, Payload, Told, plain};

#[actix::test]
async fn of_1000_posts_with_401s_in_between_each_is_applied_once() {
    let mut applied = Vec::new();
    for (part, adaptor) in ADAPTORS.into_iter().enumerate() {
        let api = FakeAuthServer::start().await.unwrap();
        let source = source_fn(|_cx| std::future::ready(Ok(Token::new("s3cret"))));
        let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow(api.url().replace("/token", "")).build().unwrap();
        let mut statuses = Vec::new();
        for number in 0..250 {
            if number % 3 == 0 {
                statuses.push(401);
            }
            statuses.push(200);
        }
        for status in &statuses {
            api.then(Reply::json(*status, "{}"));
        }
        for number in 0..250 {
            let order = format!("order {}", part * 250 + number);
            let told = adaptor.send(&auth, Call::post(&api.url(), Payload::Text(order))).await;
            assert_eq!(told, Told::Status(200), "{adaptor:?}");
        }
        let asked = api.asked();
        assert_eq!(asked.len(), statuses.len(), "{adaptor:?}");
        applied.extend(
            asked.into_iter().zip(statuses).filter(|(_, status)| *status == 200).map(|(asked, _)| asked.body),
        );
    }
    let expected: Vec<_> = (0..1_000).map(|number| format!("order {number}")).collect();
    assert_eq!(applied, expected);
}

//! `tests/scenarios/replay.json` through every adaptor.

use serde::Deserialize;
use tokenflight::middleware::BearerAuth;
use tokenflight::testing::{FakeAuthServer, ManualClock, Reply};
use tokenflight::{RefreshPolicy, Token, TokenActor, source_fn};

use crate::{ADAPTORS, Adaptor, Call, Payload, Told};
use crate::{HOUR, millis, plain, secs};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    no_replay: bool,
    #[serde(default)]
    noisy: bool,
    authorization: Option<String>,
    answers: Vec<Said>,
    decisions: Vec<String>,
}

#[derive(Deserialize)]
struct Said {
    status: u16,
    #[serde(default)]
    challenges: Vec<String>,
}

fn get() -> String {
    "GET".into()
}

/// Longer than it takes to answer a request.
const SETTLE: std::time::Duration = millis(250);

impl Row {
    fn call(&self, url: &str) -> Call {
        let payload = match self.body.as_str() {
            "" => Payload::Empty,
            "text" => Payload::Text("apply this".into()),
            "once" => Payload::Once(100 * 1024),
            other => panic!("{other}"),
        };
        let headers = self.authorization.iter().map(|value| ("authorization".into(), value.clone()));
        Call {
            method: self.method.clone(),
            payload,
            headers: headers.collect(),
            no_replay: self.no_replay,
            ..Call::get(url)
        }
    }

    /// What is sent, by the token in it; what the caller is told; how many reports name the token in use.
    fn expected(&self) -> (Vec<String>, Told, u64) {
        let (mut number, mut reports) = (1, 0);
        let mut sent = vec![self.authorization.clone().unwrap_or_else(|| "Bearer token-1".into())];
        let mut told = Told::Status(self.answers.last().unwrap().status);
        for decision in &self.decisions {
            match decision.as_str() {
                "pass" => {}
                "pass but report" => reports += 1,
                "report and replay" | "claims and replay" => {
                    reports += 1;
                    number += 1;
                    sent.push(format!("Bearer token-{number}"));
                }
                "same token" => sent.push(format!("Bearer token-{number}")),
                "step up" => told = Told::StepUp,
                other => panic!("{other}"),
            }
        }
        (sent, told, reports)
    }
}

async fn play(row: &Row, adaptor: Adaptor) {
    println!("{}, {adaptor:?}", row.name); // Shown where it fails.
    let api = FakeAuthServer::start().await.unwrap();
    let clock = ManualClock::new();
    let numbers = std::sync::atomic::AtomicU32::new(0);
    let source = source_fn(move |_cx| {
        let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        std::future::ready(Ok(Token::new(format!("token-{number}")).with_lifetime(HOUR)))
    });
    let policy = RefreshPolicy::default().settle(SETTLE);
    let tokens = TokenActor::builder(source).policy(policy).clock(clock.clone()).start().unwrap();
    let origin = api.url().replace("/token", "");
    let auth = BearerAuth::builder(&tokens).allow(&origin).build().unwrap();
    let url = format!("{origin}/orders?a=b");
    if row.noisy {
        // It does not know the token yet, and then it does.
        api.then(Reply::json(401, "")).then(Reply::json(200, ""));
        assert_eq!(adaptor.send(&auth, Call::get(&url)).await, Told::Status(200), "{}", row.name);
    }
    tokens.get().await.unwrap();
    // In its first minute a token has a predecessor; here it has none. And it has settled.
    clock.suspend(secs(61));
    let (before, reported) = (api.asked().len(), tokens.status().await.unwrap().counters.rejections);
    for said in &row.answers {
        let answer = Reply::json(said.status, "{}");
        let answer =
            said.challenges.iter().fold(answer, |answer, line| answer.with_header("WWW-Authenticate", line));
        api.then(answer);
    }
    let told_now = adaptor.send(&auth, row.call(&url)).await;
    let shown = format!("{}, {adaptor:?}", row.name);
    let asked = api.asked().split_off(before);
    let sent: Vec<_> = asked.iter().filter_map(|asked| asked.header("authorization")).collect();
    let (expected, told, reports) = row.expected();
    assert_eq!(told_now, told, "{shown}");
    assert_eq!(sent, expected, "{shown}");
    let now_reported = tokens.status().await.unwrap().counters.rejections;
    assert_eq!(now_reported - reported, reports, "{shown}: reports");
    for asked in &asked {
        assert!(
            asked.head.starts_with(&format!("{} /orders?a=b HTTP/1.1", row.method)),
            "{shown}: {}",
            asked.head
        );
        if row.body == "text" {
            assert_eq!(asked.body, "apply this", "{shown}");
        }
    }
}

#[actix::test]
async fn each_row_of_the_table_holds_in_every_adaptor() {
    let text = include_str!("../scenarios/replay.json");
    let rows: Vec<Row> = serde_json::from_str(text).unwrap();
    for row in &rows {
        for adaptor in ADAPTORS {
            // awc is given its bodies whole.
            if row.body == "once" && adaptor == Adaptor::Awc {
                continue;
            }
            play(row, adaptor).await;
        }
    }
}

#[actix::test]
async fn without_a_token_nothing_is_sent() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let source = source_fn(|_cx| async { Err(tokenflight::SourceError::terminal("no")) });
        let tokens = TokenActor::builder(source).start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow(api.url().replace("/token", "")).build().unwrap();
        assert_eq!(adaptor.send(&auth, Call::get(&api.url())).await, Told::Token, "{adaptor:?}");
        assert!(api.asked().is_empty(), "{adaptor:?}");
    }
}

#[actix::test]
async fn a_token_that_no_header_can_carry_is_not_sent() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let kind = tokenflight::TokenType::DPoP;
        let source = source_fn(move |_cx| std::future::ready(Ok(Token::new("abc").with_type(kind.clone()))));
        let tokens = TokenActor::builder(source).start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow(api.url().replace("/token", "")).build().unwrap();
        assert_eq!(adaptor.send(&auth, Call::get(&api.url())).await, Told::Present, "{adaptor:?}");
        assert!(api.asked().is_empty(), "{adaptor:?}");
    }
}

#[actix::test]
async fn a_failed_replacement_gives_the_caller_the_401() {
    for adaptor in ADAPTORS {
        let api = FakeAuthServer::start().await.unwrap();
        let calls = std::sync::atomic::AtomicU32::new(0);
        let source = source_fn(move |_cx| {
            let is_first = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let outcome =
                if is_first { Ok(Token::new("abc")) } else { Err(tokenflight::SourceError::terminal("no")) };
            std::future::ready(outcome)
        });
        let tokens = TokenActor::builder(source).policy(plain()).start().unwrap();
        let auth = BearerAuth::builder(&tokens).allow(api.url().replace("/token", "")).build().unwrap();
        api.then(Reply::json(401, ""));
        assert_eq!(adaptor.send(&auth, Call::get(&api.url())).await, Told::Status(401), "{adaptor:?}");
        assert_eq!(api.asked().len(), 1, "{adaptor:?}");
    }
}

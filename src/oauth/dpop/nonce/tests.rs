//! Which nonce is accepted, and when a repeated request helps.

use super::*;

fn at(seconds: u64) -> Timestamp {
    let boot = Duration::from_secs(seconds);
    Timestamp { boot, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + boot }
}

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn with_nonce(nonce: &str) -> HeaderMap {
    headers(&[("dpop-nonce", nonce.as_bytes())])
}

const ORIGIN: &str = "https://api.example";

fn nonce(resources: &Resources, origin: &str) -> Option<String> {
    resources.at(origin, |resource| resource.nonce.as_deref().map(Into::into))
}

#[test]
fn only_one_short_and_printable_nonce_is_believed() {
    let (longest, too_long) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
    for (values, believed) in [
        (&[&b"abc"[..]][..], Some("abc")),
        (&[b"!#$%&'()*+,-./:;<=>?@[]^_`{|}~"], Some("!#$%&'()*+,-./:;<=>?@[]^_`{|}~")),
        (&[longest.as_bytes()], Some(&*longest)),
        (&[b"abc", b"abc"], Some("abc")),
        (&[], None),
        (&[b""], None),
        (&[too_long.as_bytes()], None),
        (&["x".repeat(10_000).as_bytes()], None),
        (&[b"a b"], None),
        (&[b"a\"b"], None),
        (&[b"a\\b"], None),
        (&[b"a\tb"], None),
        (&[b"\xc3\xb6"], None),
        (&[b"abc", b"def"], None),
        (&[b"abc", b""], None),
    ] {
        let lines: Vec<_> = values.iter().map(|value| ("dpop-nonce", *value)).collect();
        assert_eq!(nonce_of(&headers(&lines)), believed, "{values:?}");
    }
}

#[test]
fn a_new_nonce_is_of_use_once_and_the_same_one_is_not() {
    let resources = Resources::default();
    resources.wanted(ORIGIN, at(0), false);
    assert!(resources.learn(ORIGIN, &with_nonce("one"), at(0), None));
    assert_eq!(resources.wanted(ORIGIN, at(0), false).nonce.as_deref(), Some("one"));
    assert!(!resources.learn(ORIGIN, &with_nonce("one"), at(0), None), "it was sent, and is refused");
    resources.wanted(ORIGIN, at(0), false);
    assert!(!resources.learn(ORIGIN, &HeaderMap::new(), at(0), None));
    resources.wanted(ORIGIN, at(0), false);
    assert!(
        resources.learn(ORIGIN, &with_nonce("two"), at(0), None),
        "also from an answer that is a success"
    );
    assert_eq!(nonce(&resources, ORIGIN).as_deref(), Some("two"));
    assert!(!resources.learn(ORIGIN, &with_nonce("odd\""), at(0), None));
    assert_eq!(nonce(&resources, ORIGIN).as_deref(), Some("two"), "what is not believed changes nothing");
}

#[test]
fn each_of_many_requests_at_once_may_be_repeated() {
    let resources = Resources::default();
    for _ in 0..20 {
        resources.wanted(ORIGIN, at(0), false);
    }
    for _ in 0..20 {
        assert!(resources.learn(ORIGIN, &with_nonce("one"), at(1), None));
        resources.wanted(ORIGIN, at(1), false); // repeated at once
    }
    for _ in 0..20 {
        resources.learn(ORIGIN, &HeaderMap::new(), at(2), None);
    }
    resources.wanted(ORIGIN, at(3), false);
    assert!(!resources.learn(ORIGIN, &with_nonce("one"), at(3), None), "all are answered");
    // A request whose answer is never reported does not count for ever.
    resources.wanted(ORIGIN, at(3), false);
    assert!(resources.learn(ORIGIN, &with_nonce("two"), at(3), None));
    resources.wanted(ORIGIN, at(3), false);
    resources.wanted(ORIGIN, at(3), false);
    assert!(resources.learn(ORIGIN, &with_nonce("three"), at(3), None));
    assert!(!resources.learn(ORIGIN, &with_nonce("three"), at(64), None));
}

#[test]
fn who_notes_the_nonce_of_a_proof_is_told_whether_the_answer_has_another() {
    let resources = Resources::default();
    let noted = |seconds| ProofNonce(resources.wanted(ORIGIN, at(seconds), true).nonce);
    drop(noted(0)); // given up
    let (one, other) = (noted(0), noted(0));
    for sent in [&one, &other] {
        assert!(resources.learn(ORIGIN, &with_nonce("one"), at(1), Some(sent)), "sent at the same time");
    }
    let next = noted(2);
    assert!(!resources.learn(ORIGIN, &HeaderMap::new(), at(2), Some(&next)));
    assert!(!resources.learn(ORIGIN, &with_nonce("one"), at(2), Some(&next)), "it is the one that was sent");
    assert!(resources.learn(ORIGIN, &with_nonce("two"), at(2), Some(&next)));
    assert!(resources.learn(ORIGIN, &with_nonce("two"), at(2), Some(&next)), "known, and not sent");
    // Who does not note it is counted as before.
    resources.wanted(ORIGIN, at(3), false);
    assert!(!resources.learn(ORIGIN, &with_nonce("two"), at(3), None));
}

#[test]
fn origins_have_their_own_nonces_and_the_least_used_is_forgotten() {
    let resources = Resources::default();
    let origin = |number: usize| format!("https://{number}.example");
    for number in 0..MOST_ORIGINS {
        resources.learn(&origin(number), &with_nonce(&number.to_string()), at(0), None);
    }
    assert_eq!(resources.wanted(&origin(0), at(0), false).nonce.as_deref(), Some("0"), "which is a use");
    resources.learn("https://new.example", &with_nonce("new"), at(0), None);
    assert_eq!(resources.0.lock().unwrap().len(), MOST_ORIGINS);
    assert_eq!(nonce(&resources, &origin(0)).as_deref(), Some("0"));
    assert_eq!(nonce(&resources, &origin(2)).as_deref(), Some("2"));
    assert_eq!(nonce(&resources, &origin(1)), None, "the one that was not used for the longest time");
    for number in 0..10 * MOST_ORIGINS {
        resources.wanted(&origin(number), at(0), false);
    }
    assert_eq!(resources.0.lock().unwrap().len(), MOST_ORIGINS);
}

#[test]
fn the_time_is_that_of_the_server() {
    let resources = Resources::default();
    let now = at(0);
    let date = |ahead: i64| httpdate::fmt_http_date(moved(now.wall, ahead));
    let ahead = |resources: &Resources| {
        let wanted = resources.wanted(ORIGIN, now, false).now;
        wanted
            .duration_since(now.wall)
            .map_or_else(|error| -error.duration().as_secs_f64(), |time| time.as_secs_f64())
    };
    for (lines, expected) in [
        (headers(&[("date", date(300).as_bytes())]), 300.0),
        (headers(&[]), 300.0),
        (headers(&[("date", b"yesterday")]), 300.0),
        (headers(&[("date", date(-120).as_bytes())]), -120.0),
        (headers(&[("date", date(-3_600).as_bytes()), ("age", b"3600")]), 0.0),
        (headers(&[("date", date(0).as_bytes()), ("age", b"-5")]), 0.0),
    ] {
        resources.learn(ORIGIN, &lines, now, None);
        assert!((ahead(&resources) - expected).abs() < 0.5, "{lines:?}");
    }
    let other = resources.wanted("https://other.example", now, false).now;
    assert_eq!(other, now.wall, "each origin has its own clock");
}

#[test]
fn the_authorization_server_has_one_nonce() {
    let server = ServerNonce::default();
    assert!(!server.learn(&HeaderMap::new(), None));
    assert!(server.learn(&with_nonce("one"), None));
    assert!(!server.learn(&with_nonce("one"), Some("one")));
    // Two requests at the same time: the second one was sent without the nonce from the first answer.
    assert!(server.learn(&with_nonce("one"), None));
    assert!(server.learn(&with_nonce("two"), Some("one")));
    assert!(!server.learn(&with_nonce("odd\""), Some("two")));
    assert_eq!(server.get().as_deref(), Some("two"));
}

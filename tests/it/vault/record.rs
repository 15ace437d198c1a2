//! A record as bytes, and the order of its states.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tokenflight::TokenType;
use tokenflight::vault::{Access, Record, State};

use super::world::*;
use crate::support::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,40}", "\\PC{1,20}", any::<String>().prop_map(|text| format!("x{text}"))]
}

fn moments() -> impl Strategy<Value = SystemTime> {
    (0..=253_402_300_799_999_u64, 0..1_000_000_u32).prop_map(|(millis, nanos)| {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis) + Duration::from_nanos(nanos.into())
    })
}

fn accesses() -> impl Strategy<Value = Access> {
    let kinds = prop_oneof![
        Just(TokenType::Bearer),
        Just(TokenType::DPoP),
        text().prop_map(TokenType::Other),
        Just(TokenType::Other("BEARER".into()))
    ];
    let scopes = prop::collection::vec(any::<String>(), 0..4);
    (text(), moments(), moments(), kinds, scopes).prop_map(|(secret, sent, ends, kind, scopes)| {
        Access::new(secret, sent, ends).with_type(kind).with_scopes(scopes)
    })
}

fn records() -> impl Strategy<Value = Record> {
    let first = (text(), any::<String>(), any::<String>())
        .prop_map(|(token, issuer, client)| Record::first(token, issuer, client).unwrap());
    let some = || prop::option::of(any::<String>());
    let first = (first, some(), some(), prop::option::of(accesses())).prop_map(
        |(record, thumbprint, key, access)| {
            let record = access.into_iter().fold(record, Record::with_access);
            let record = key.into_iter().fold(record, Record::with_private_key);
            thumbprint.into_iter().fold(record, Record::with_thumbprint)
        },
    );
    let steps = prop::collection::vec((0..4_u8, text(), moments(), prop::option::of(accesses())), 0..6);
    (first, steps).prop_map(|(first, steps)| {
        steps.into_iter().fold(first, |record, (step, text, at, access)| match step {
            0 => record.spending(at).unwrap_or(record),
            1 => record.idle().unwrap(),
            2 => record
                .next(Some(&text).filter(|text| text.len() % 2 == 0).map(String::as_str), access)
                .unwrap(),
            _ => record.dead(&text, at).unwrap(),
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_again(record in records()) {
        let bytes = record.to_bytes().unwrap();
        prop_assert_eq!(&Record::parse(&bytes).unwrap(), &record);
        prop_assert_eq!(&*Record::parse(&bytes).unwrap().to_bytes().unwrap(), &*bytes);
    }

    #[test]
    fn any_bytes_are_refused_in_one_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let error = Record::parse(&bytes).unwrap_err();
        prop_assert!(error.is_damaged());
        let text = error.to_string();
        prop_assert!(text.len() < 200 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", text);
    }
}

fn whole() -> Record {
    let access = Access::new("s3cret-access", now(), now() + HOUR).with_scopes(["read"]);
    login().with_access(access).spending(now()).unwrap()
}

#[track_caller]
fn assert_refused(bytes: &[u8], why: &str) {
    let error = Record::parse(bytes).unwrap_err();
    assert!(error.is_damaged() && error.to_string().contains(why), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = whole().to_bytes().unwrap();
    for end in 0..bytes.len() {
        let error = Record::parse(&bytes[..end]).unwrap_err();
        assert!(error.is_damaged() && !error.to_string().contains("s3cret"), "{end}: {error}");
    }
    assert_refused(b"", "empty");
    assert_refused(&[&bytes, &b"\n"[..]].concat(), "cut or changed");
    assert_refused(&[&bytes[..], &bytes].concat(), "cut or changed");
}

#[test]
fn every_changed_byte_is_refused() {
    let mut bytes = whole().to_bytes().unwrap().to_vec();
    for at in 0..bytes.len() {
        for flip in 1..=255 {
            bytes[at] ^= flip;
            let error = Record::parse(&bytes).expect_err("it is changed");
            assert!(error.is_damaged() && !error.to_string().contains("s3cret"), "{at}: {error}");
            bytes[at] ^= flip;
        }
    }
    assert_eq!(Record::parse(&bytes).unwrap().refresh_token(), "s3cret-r3fresh");
}

/// As a program would write it that knows the hash.
fn with_json(change: impl FnOnce(&str) -> String) -> Vec<u8> {
    let bytes = whole().to_bytes().unwrap();
    let body = std::str::from_utf8(&bytes).unwrap().lines().nth(1).unwrap();
    let body = format!("{}\n", change(body));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hash = hash.as_ref().iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    format!("{{\"tokenflight_vault\":1,\"sha256\":\"{hash}\"}}\n{body}").into_bytes()
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    Record::parse(&with_json(str::to_owned)).unwrap();
    let newer = |bytes: &[u8]| String::from_utf8_lossy(bytes).replacen("vault\":1", "vault\":27", 1);
    assert_refused(newer(&with_json(str::to_owned)).as_bytes(), "version 27");
    for (from, to) in [
        ("{\"login\"", "{\"s3cret\":1,\"login\""),
        ("\"since\"", "\"s3cret\":1,\"since\""),
        ("\"scopes\"", "\"s3cret\":1,\"scopes\""),
        ("\"spending\"", "\"s3cret\""),
        ("\"s3cret-access\"", "[\"s3cret\"]"),
        ("\"generation\":1", "\"generation\":0"),
        ("\"generation\":1", "\"generation\":-1"),
        ("\"generation\":1", "\"generation\":\"s3cret\""),
        ("\"tries\":1", "\"tries\":0"),
        ("\"since\":", "\"since\":9999999"),
        ("\"refresh_token\":\"s3cret-r3fresh\"", "\"refresh_token\":\"\""),
        ("\"login\":\"", "\"login\":\"0"),
    ] {
        assert_refused(&with_json(|body| body.replacen(from, to, 1)), "not understood");
    }
}

#[test]
fn the_states_follow_the_order_of_the_writes() {
    let first = login();
    let (begin, later) = (now(), now() + secs(60));
    let spending = first.spending(begin).unwrap();
    let State::Spending { since, tries: 1 } = *spending.state() else { panic!("{spending:?}") };
    let again = spending.spending(later).unwrap();
    assert_eq!(again.state(), &State::Spending { since, tries: 2 }, "the grace began with the first try");
    assert_eq!(again.idle().unwrap().state(), &State::Idle);

    let next = again.next(None, None).unwrap();
    assert_eq!((next.generation(), next.refresh_token()), (2, "s3cret-r3fresh"), "it keeps the old one");
    assert_eq!((next.state(), next.login()), (&State::Idle, first.login()));
    let next = next.next(Some("s3cret-2"), None).unwrap();
    assert_eq!((next.generation(), next.refresh_token()), (3, "s3cret-2"));

    let dead = next.dead("invalid_grant", later).unwrap();
    assert_eq!((dead.refresh_token(), dead.generation()), ("s3cret-2", 3), "it is kept");
    assert!(dead.spending(later).unwrap_err().to_string().contains("log in again"));
    assert!(dead.idle().unwrap().spending(later).is_ok(), "somebody knows better");
    assert!(Record::first("", "https://auth.example", "orders").is_err());
    assert!(next.next(Some(""), None).is_err());
}

#[test]
fn a_stored_access_token_lasts_to_its_end_and_no_longer() {
    let (sent, end) = (now(), now() + HOUR);
    let access = Access::new("s3cret-access", sent, end).with_type(TokenType::DPoP).with_scopes(["read"]);
    let token = access.token(sent + secs(600)).unwrap();
    assert_eq!(
        (token.secret(), token.token_type(), token.scopes()),
        ("s3cret-access", &TokenType::DPoP, &["read".to_owned()][..])
    );
    let left = token.remaining().unwrap();
    assert!(left <= secs(3_000) && left > secs(2_900), "{left:?}");
    assert!(access.token(access.ends()).is_none() && access.token(end + HOUR).is_none());
    assert!(access.token(sent - HOUR).is_none(), "the wall clock was set back");
}

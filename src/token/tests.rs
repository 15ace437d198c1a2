//! The properties of a token, and how it passes from actor to actor.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A clock that stands still.
#[derive(Debug)]
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn at(boot: u64, wall: u64) -> Timestamp {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(wall);
    Timestamp { boot: Duration::from_secs(boot), wall }
}

fn clock(now: Timestamp) -> Arc<dyn Clock> {
    Arc::new(Still(now))
}

/// A token as an actor keeps it that has requested it just now.
fn stamped(token: Token, now: Timestamp) -> Token {
    token.stamped(now, &clock(now), 300 * SECOND, LONGEST_LIFETIME)
}

#[test]
fn a_flaw_names_what_no_header_can_carry_and_shows_no_secret() {
    for (secret, flaw) in [
        ("", "is empty, and no header can carry that"),
        ("s3cret\n", "has a line break at position 7 that no header can carry"),
        ("\rs3cret", "has a line break at position 1 that no header can carry"),
        ("Bearer s3cret", "has a space at position 7 that no header can carry"),
        ("s3cret\0", "has byte 0x00 at position 7 that no header can carry"),
        ("s3cret\u{7f}", "has byte 0x7f at position 7 that no header can carry"),
        ("ä", "has byte 0xc3 at position 1 that no header can carry"),
    ] {
        let token = Token::new(secret);
        assert!(!token.is_presentable());
        assert_eq!(token.flaw().as_deref(), Some(flaw));
        assert_eq!(token.authorization(), "Bearer");
    }
    for kind in [TokenType::Bearer, TokenType::DPoP, TokenType::Other("N_A".into())] {
        let token = Token::new("abc").with_type(kind);
        assert!(token.is_presentable() && token.flaw().is_none());
    }
}

#[test]
fn a_type_that_is_no_scheme_is_a_flaw_and_fails_closed() {
    let long = "two words ".repeat(30);
    for (kind, shown) in [
        ("", r#""""#),
        ("Application Access Token", r#""Application Access Token""#),
        ("Bearer\r\nHost:", r#""Bearer\r\nHost:""#),
        ("a,b", r#""a,b""#),
        ("ä", "\"ä\""),
        ("x s3cret", "[redacted]"),
        (&long, r#""two words two words two words two words "..."#),
    ] {
        let token = Token::new("s3cret").with_type(TokenType::parse(kind));
        assert!(!token.is_presentable(), "{kind:?}");
        let flaw = format!("has the token_type {shown}, which is not a token (RFC 9110 section 5.6.2)");
        assert_eq!(token.flaw(), Some(flaw));
        assert_eq!(token.authorization(), "Bearer");
        assert_eq!(token.secret(), "s3cret");
        assert!(token.with_type(TokenType::Bearer).is_presentable());
    }
}

#[test]
fn a_token_that_is_stamped_again_keeps_its_end() {
    let first = stamped(Token::new("abc").with_lifetime(100 * SECOND), at(1_000, 5_000));
    let later = stamped(first.clone(), at(1_000, 5_000));
    let much_later = later.stamped(at(1_060, 5_060), &clock(at(1_000, 5_000)), SECOND, LONGEST_LIFETIME);
    for token in [&first, &much_later] {
        assert_eq!(token.end(), at(1_100, 5_100));
        assert_eq!(token.whole_life(), 100 * SECOND);
    }
}

#[test]
fn a_lifetime_or_an_end_that_is_said_anew_begins_a_new_life() {
    let clock = clock(at(1_050, 5_050));
    let old = Token::new("abc").with_lifetime(100 * SECOND).stamped(
        at(1_000, 5_000),
        &clock,
        SECOND,
        LONGEST_LIFETIME,
    );
    let renewed = old.clone().with_lifetime(10 * SECOND);
    assert_eq!(renewed.remaining(), Some(10 * SECOND), "as of now");
    assert_eq!(stamped(renewed, at(2_000, 6_000)).end(), at(2_010, 6_010));
    let until = old.clone().with_expires_at(at(0, 5_060).wall);
    assert_eq!(until.remaining(), Some(10 * SECOND));
    assert_eq!(stamped(until, at(2_000, 5_055)).end(), at(2_005, 5_060));
    // Neither a type nor scopes begin a new life.
    let named = old.with_type(TokenType::DPoP).with_scopes(["read"]);
    assert_eq!(stamped(named, at(1_050, 5_050)).end(), at(1_100, 5_100));
}

#[test]
fn a_life_goes_on_by_another_clock() {
    let here = clock(at(1_040, 5_040));
    let token = Token::new("abc").with_lifetime(100 * SECOND).stamped(
        at(1_000, 5_000),
        &here,
        SECOND,
        LONGEST_LIFETIME,
    );
    for (boot, end) in [(9_000_040, 9_000_100), (940, 1_000), (20, 80)] {
        let there = clock(at(boot, 5_040));
        let moved = token.clone().stamped(there.now(), &there, SECOND, LONGEST_LIFETIME);
        assert_eq!(moved.end(), at(end, 5_100), "a clock that says {boot}");
        assert_eq!(moved.remaining(), Some(60 * SECOND));
        let back = moved.stamped(here.now(), &here, SECOND, LONGEST_LIFETIME);
        assert_eq!(back.end(), token.end());
    }
    // Two readings of the same clock are a moment apart.
    let soon = clock(Timestamp { boot: Duration::from_millis(1_040_500), ..at(0, 5_040) });
    assert_eq!(token.clone().stamped(soon.now(), &soon, SECOND, LONGEST_LIFETIME).end(), token.end());
}

#[test]
fn an_age_is_counted_by_the_actor_s_clock() {
    let token = |now| Token::new("abc").stamped(at(1_000, 5_000), &clock(now), SECOND, LONGEST_LIFETIME);
    assert_eq!(token(at(1_007, 5_007)).age(), 7 * SECOND);
    assert_eq!(token(at(1_007, 0)).age(), 7 * SECOND, "whatever the wall clock says");
    assert!(Token::new("abc").age() < 60 * SECOND);
}

#[test]
fn nothing_lives_longer_than_the_longest_lifetime() {
    let year = 365 * 24 * 60 * 60 * SECOND;
    let now = at(1_000, 5_000);
    for token in [
        Token::new("abc").with_lifetime(year),
        Token::new("abc").with_lifetime(Duration::MAX),
        Token::new("abc").with_expires_at(now.wall + year),
    ] {
        assert_eq!(stamped(token.clone(), now).remaining(), Some(LONGEST_LIFETIME));
        // A stricter actor counts from the same beginning.
        let hour = 3_600 * SECOND;
        let strict = stamped(token, now).stamped(at(2_000, 6_000), &clock(now), SECOND, hour);
        assert_eq!(strict.remaining(), Some(hour));
    }
    let silent = Token::new("abc").stamped(now, &clock(now), year, LONGEST_LIFETIME);
    assert_eq!(silent.remaining(), Some(LONGEST_LIFETIME));
}

#[test]
fn tokens_are_the_same_by_their_secret() {
    let token = Token::new("abc").with_lifetime(SECOND);
    for same in [token.clone(), token.replica(), token.clone().with_type(TokenType::DPoP), Token::new("abc")]
    {
        assert!(token.is_same(&same) && same.is_same(&token));
    }
    assert!(!token.is_same(&Token::new("ab")) && !token.is_same(&Token::new("abcd")));
}

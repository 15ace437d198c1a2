//! The numbers, for every lifetime and every random number.

use proptest::prelude::*;

use super::*;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn policy() -> RefreshPolicy {
    RefreshPolicy::default()
}

#[track_caller]
fn margins_are(policy: &RefreshPolicy, lifetime: Duration, ahead: Duration, min_validity: Duration) {
    assert_eq!(policy.margins(lifetime, 0.0), Margins { ahead, min_validity });
}

#[test]
fn margins_fit_every_lifetime() {
    margins_are(&policy(), secs(600), secs(120), secs(10));
    margins_are(&policy(), secs(1_230), secs(246), secs(10));
    margins_are(&policy(), secs(21_600), secs(300), secs(10));
    margins_are(&policy(), secs(1), millis(200), millis(100));
}

#[test]
fn jitter_moves_the_refresh_later_by_at_most_half_of_its_distance_to_min_validity() {
    let ahead = |jitter: f64, dice: f64| policy().jitter(jitter).margins(secs(600), dice).ahead;
    assert_eq!(ahead(0.5, 0.0), secs(120));
    assert_eq!(ahead(0.5, 0.5), millis(92_500));
    assert_eq!(ahead(0.5, 1.0), secs(65), "halfway between 120 s and 10 s");
    assert_eq!(ahead(0.2, 1.0), secs(98));
    assert_eq!(ahead(0.0, 1.0), secs(120));
    let lifetime = secs(60);
    assert_eq!(
        policy().jitter(1.0).margins(lifetime, 1.0),
        Margins { ahead: secs(9), min_validity: secs(6) }
    );
    let close = policy().refresh_ahead(secs(20)).min_validity(secs(15));
    assert_eq!(close.margins(secs(3_600), 1.0).ahead, millis(17_500));
}

#[test]
fn a_refresh_ahead_that_would_come_too_late_is_moved_before_min_validity() {
    margins_are(&policy().min_validity(secs(600)), secs(3_600), secs(900), secs(600));
    margins_are(&policy().min_validity(secs(60)), secs(120), secs(72), secs(60));
    margins_are(&policy().min_validity(secs(30)).refresh_ahead(secs(30)), secs(20), secs(12), secs(10));
    margins_are(&policy().refresh_ahead(secs(5)), secs(3_600), secs(310), secs(10));
    margins_are(&policy().refresh_ahead(secs(0)), secs(3_600), secs(0), secs(10));
}

#[test]
fn a_source_may_say_how_early_a_new_token_can_be_had() {
    let ahead = |policy: RefreshPolicy, earliest: u64| {
        let token = crate::token::Token::new("abc").with_lifetime(secs(3_600));
        policy.margins_of(&token.with_refresh_ahead(secs(earliest)), 0.0).ahead
    };
    assert_eq!(ahead(policy(), 225), secs(225));
    assert_eq!(ahead(policy(), 1_200), secs(1_200), "later than 5 min before the end too");
    assert_eq!(ahead(policy().refresh_ahead(secs(300)), 225), secs(225));
    assert_eq!(ahead(policy().refresh_ahead(secs(60)), 225), secs(60));
    assert_eq!(ahead(policy().refresh_ahead(secs(0)), 225), secs(0));
}

#[test]
fn a_token_settles_for_a_tenth_of_its_life_and_two_seconds_at_most() {
    assert_eq!(policy().settle_for(secs(3_600)), secs(2));
    assert_eq!(policy().settle_for(secs(10)), secs(1));
    assert_eq!(policy().settle(secs(0)).settle_for(secs(3_600)), secs(0));
    assert_eq!(policy().settle(secs(20)).settle_for(secs(3_600)), secs(20));
    assert_eq!(
        policy().settle(secs(20)).settle_for(secs(10)),
        secs(5),
        "an own value is cut to half the lifetime"
    );
}

#[test]
fn backoff_is_random_below_a_doubling_limit_and_never_less_than_its_least() {
    for (attempt, limit) in [(1, 500), (2, 1_000), (3, 2_000), (4, 4_000), (5, 5_000), (60, 5_000)] {
        let limit = millis(limit);
        assert_eq!(policy().backoff_after(attempt, 1.0), limit);
        assert_eq!(policy().backoff_after(attempt, 0.5), limit / 2);
        assert_eq!(policy().backoff_after(attempt, 0.0), millis(100));
    }
    let short = policy().backoff(millis(40));
    assert_eq!((short.backoff_after(1, 0.0), short.backoff_after(1, 1.0)), (millis(40), millis(40)));
    assert_eq!(short.backoff_after(3, 0.0), millis(40));
    assert_eq!(policy().backoff(secs(0)).backoff_after(3, 1.0), secs(0));
}

#[test]
fn jitter_makes_cooldowns_shorter_and_terminal_ones_longer() {
    let cooldowns = |dice: f64| (policy().cooldown_after(3, dice), policy().terminal_pause(dice));
    assert_eq!(cooldowns(0.0), (secs(4), secs(5)));
    assert_eq!(cooldowns(0.5), (secs(3), millis(6_250)));
    assert_eq!(cooldowns(1.0), (secs(2), millis(7_500)));
    assert_eq!(policy().cooldown_after(60, 0.0), secs(10));
    assert_eq!(policy().terminal_cooldown(secs(0)).terminal_pause(1.0), secs(0));
    assert_eq!(policy().terminal_cooldown(Duration::MAX).terminal_pause(1.0), Duration::MAX);
}

/// From 10 ms to a century, short ones as often as long ones.
fn lifetime() -> impl Strategy<Value = Duration> {
    (1.0f64..12.5).prop_map(|power| Duration::from_secs_f64(10f64.powf(power) / 1e3).max(millis(10)))
}

fn margin() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(Duration::ZERO)),
        1 => Just(Some(Duration::MAX)),
        6 => (0.0f64..20.0).prop_map(|power| Some(Duration::from_secs_f64(10f64.powf(power) / 1e9))),
    ]
}

proptest! {
    #[test]
    fn callers_never_wait_while_the_source_answers_in_time(
        ahead in margin(),
        validity in margin(),
        jitter in 0.0f64..=1.0,
        dice in 0.0f64..1.0,
        lifetime in lifetime(),
    ) {
        let mut policy = policy().jitter(jitter);
        (policy.refresh_ahead, policy.min_validity) = (ahead, validity);
        let before = policy.clone().jitter(0.0).margins(lifetime, dice);
        let Margins { ahead: after, min_validity } = policy.margins(lifetime, dice);
        prop_assert_eq!(after.is_zero(), ahead == Some(Duration::ZERO), "never ahead only where that is asked");
        if !after.is_zero() {
            prop_assert!(min_validity < after && after <= lifetime);
            let distance = |ahead: Duration| ahead.saturating_sub(min_validity);
            prop_assert!(distance(after) >= distance(before.ahead) / 2);
            prop_assert!(after <= before.ahead, "jitter moves it later");
        }
        prop_assert!(min_validity <= lifetime / 2 && policy.settle_for(lifetime) <= lifetime / 2);
    }
}

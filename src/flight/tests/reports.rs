//! The effects of a report, step by step and in their order.

use super::*;
use crate::source::Challenge;

/// The last moment before.
fn just_before(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_nanos(1))
}

#[test]
fn who_reports_waits_for_the_flight_and_others_have_the_token() {
    let mut bench = holding(plain());
    assert_eq!(bench.replace(1, "a"), ["fetch 2 rejected"]);
    assert_eq!(bench.replace(2, "a"), [""; 0]);
    assert_eq!(bench.want(3), ["tell 3 a"]);
    assert!(bench.machine.is_suspect());
    assert_eq!(bench.fetched(2, "b"), ["publish b", "tell [1, 2] b"]);
    assert!(!bench.machine.is_suspect());
    assert_eq!(bench.replace(4, "a"), ["tell 4 b"], "late");
    let counters = bench.machine.counters();
    assert_eq!((counters.replaces, counters.rejections, counters.reports_honoured), (3, 2, 2));
    assert_eq!(counters.requests, 1 + 2 + 1 + 1);
}

#[test]
fn an_invalidation_withholds_the_token_until_the_attempt_ends() {
    let mut bench = holding(plain().attempts(2));
    assert_eq!(bench.report("a"), ["fetch 2 rejected", "withhold"]);
    assert_eq!(bench.want(1), [""; 0]);
    bench.pass(Duration::from_millis(300));
    let error = SourceError::transient("no");
    assert_eq!(bench.failed(2, error), ["release", "tell [1] a"]);
    assert_eq!(bench.machine.counters().withheld, Duration::from_millis(300));
    assert_eq!(bench.report("a"), ["release"], "not a second time in this flight");
    assert_eq!(bench.want(2), ["tell 2 a"]);
}

#[test]
fn an_invalidation_withholds_the_token_for_a_second_at_most() {
    let mut bench = holding(plain());
    bench.report("a");
    bench.want(1);
    assert_eq!(bench.wake(), Some(bench.now.boot + SECOND));
    assert_eq!(bench.pass(Duration::from_millis(999)), [""; 0]);
    assert_eq!(bench.pass(Duration::from_millis(1)), ["release", "tell [1] a"]);
    assert_eq!(bench.machine.counters().withheld, SECOND);
    assert_eq!(bench.machine.state(bench.now), FlightState::Fetching);
    assert_eq!(bench.fetched(2, "b"), ["publish b"]);
}

#[test]
fn a_failed_flight_leaves_the_token_and_its_error_to_the_reporter() {
    let mut bench = holding(plain());
    bench.replace(1, "a");
    let told = bench.failed(2, SourceError::terminal("no"));
    assert_eq!(told, ["tell [1] token refresh was refused: no"]);
    assert_eq!(bench.want(2), ["tell 2 a"]);
    assert_eq!(bench.replace(3, "a"), ["tell 3 a"], "in the cooldown no flight may start");
    assert_eq!(bench.report("a"), ["release"]);
    assert_eq!(bench.machine.counters().refused_by_cooldown, 2);
    assert_eq!(bench.machine.last_error().map(TokenError::is_rejected), Some(true));
}

#[test]
fn a_report_waits_for_the_token_to_settle_to_the_nanosecond() {
    let mut bench = Bench::new(plain());
    bench.machine.policy = Arc::new(plain().jitter(0.0));
    bench.want(1);
    bench.fetched(1, "a");
    bench.pass(just_before(2 * SECOND));
    assert_eq!(bench.replace(1, "a"), ["tell 1 a"]);
    assert_eq!(bench.on(Event::Refresh { waiter: Name(2) }), ["tell 2 a"]);
    assert_eq!(bench.machine.counters().refused_by_settle, 1);
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.on(Event::Refresh { waiter: Name(3) }), ["fetch 2 forced"]);
    assert_eq!(bench.replace(1, "a"), [""; 0], "it joins");
}

#[test]
fn the_budget_comes_back_one_a_minute() {
    let mut bench = holding(plain().reports(2).report_every(60 * SECOND));
    for (id, old, new) in [(2, "a", "b"), (3, "b", "c")] {
        assert_eq!(bench.report(old), [format!("fetch {id} rejected"), "withhold".into()]);
        bench.fetched(id, new);
    }
    let next = bench.machine.next_flight_for_a_report();
    assert_eq!(next, bench.now.boot + 60 * SECOND);
    assert_eq!(bench.machine.reports_from(), next);
    bench.pass(just_before(60 * SECOND));
    assert_eq!(bench.replace(1, "c"), ["tell 1 c"]);
    bench.pass(Duration::from_nanos(1));
    assert_eq!(bench.replace(1, "c"), ["fetch 4 rejected"]);
    assert_eq!(bench.machine.reports_from(), Duration::ZERO, "a report may join");
    bench.report("c");
    assert_eq!(bench.machine.reports_from(), Duration::MAX, "withheld once a flight");
}

#[test]
fn the_source_is_asked_once_more_and_then_believed() {
    let mut bench = holding(plain());
    bench.replace(1, "a");
    bench.want(2);
    assert_eq!(bench.fetched(2, "a"), ["publish a"], "with its later end");
    assert_eq!(bench.pass(Duration::ZERO), ["fetch 3 rejected"]);
    assert_eq!(bench.fetched(3, "a"), ["publish a", "tell [1] a"]);
    assert!(!bench.machine.is_suspect());
    assert_eq!(bench.machine.counters().repeated_secrets, 1);
    // From then on one attempt.
    bench.replace(1, "a");
    assert_eq!(bench.fetched(4, "a"), ["publish a", "tell [1] a"]);
}

#[test]
fn a_flight_without_a_report_takes_a_reported_secret_as_it_is() {
    let mut bench = holding(plain());
    bench.replace(1, "a");
    bench.failed(2, SourceError::terminal("no"));
    bench.pass(60 * SECOND);
    bench.on(Event::Refresh { waiter: Name(2) });
    assert_eq!(bench.fetched(3, "a"), ["publish a", "tell [2] a"]);
    assert!(bench.machine.is_suspect(), "nobody has asked about it");
}

#[test]
fn the_predecessor_helps_in_the_first_minute() {
    let mut bench = holding(plain());
    bench.on(Event::Refresh { waiter: Name(1) });
    bench.fetched(2, "b");
    bench.pass(just_before(60 * SECOND));
    assert_eq!(bench.replace(2, "b"), ["fetch 3 rejected", "tell 2 a"]);
    bench.fetched(3, "c");
    assert_eq!(
        bench.replace(2, "c"),
        ["fetch 4 rejected", "tell 2 a"],
        "a is better than b, which was reported"
    );
    bench.failed(4, SourceError::terminal("no"));
    bench.pass(60 * SECOND);
    assert_eq!(bench.replace(2, "c"), ["fetch 5 rejected"], "no API is late by more than a minute");
    bench.failed(5, SourceError::terminal("no"));
    assert_eq!(bench.replace(2, "c"), ["tell 2 a"], "where no flight may start it helps later too");
    bench.report("a");
    assert_eq!(bench.replace(2, "c"), ["tell 2 c"], "reported itself");
}

#[test]
fn a_confirmed_report_needs_no_budget_and_takes_nothing_from_it() {
    let confirmed = || Rejection { is_confirmed: true, ..Rejection::default() };
    let mut bench = holding(plain().reports(1));
    assert_eq!(bench.replace(1, "a"), ["fetch 2 rejected"]);
    bench.fetched(2, "b");
    bench.machine.reports.predecessor = None;
    assert_eq!(bench.replace(1, "b"), ["tell 1 b"], "the budget is spent");
    let spent = bench.machine.reports.budget.full_at;
    assert_eq!(bench.rejected(1, "b", confirmed()), ["fetch 3 rejected"]);
    assert_eq!(bench.fetched(3, "c"), ["publish c", "tell [1] c"]);
    assert_eq!(bench.machine.reports.budget.full_at, spent);
    bench.machine.policy = Arc::new(plain().reports(1).settle(2 * SECOND));
    assert_eq!(bench.rejected(1, "c", confirmed()), ["tell 1 c"], "one flight a settle");
    bench.pass(2 * SECOND);
    assert_eq!(bench.rejected(1, "c", confirmed()), ["fetch 4 rejected"]);
    bench.failed(4, SourceError::terminal("no"));
    assert_eq!(bench.rejected(1, "c", confirmed()), ["tell 1 c"], "a cooldown runs");
    let counters = bench.machine.counters();
    assert_eq!((counters.reports_honoured, counters.reports_confirmed), (3, 2));
}

#[test]
fn a_token_that_was_revoked_gives_its_reporters_no_predecessor_to_try() {
    let mut bench = holding(plain());
    bench.on(Event::Refresh { waiter: Name(1) });
    bench.fetched(2, "b");
    let confirmed = Rejection { is_confirmed: true, ..Rejection::default() };
    assert_eq!(bench.rejected(1, "b", confirmed), ["fetch 3 rejected"]);
    assert_eq!(bench.replace(2, "b"), ["tell 2 a"], "others may have the young token's predecessor");
    assert_eq!(bench.fetched(3, "c"), ["publish c", "tell [1] c"]);
    bench.machine.policy = Arc::new(plain().settle(2 * SECOND));
    let confirmed = Rejection { is_confirmed: true, ..Rejection::default() };
    assert_eq!(bench.replace(2, "c"), ["tell 2 a"], "it has not settled");
    assert_eq!(bench.rejected(1, "c", confirmed), ["tell 1 c"], "to be reported again when it has");
}

#[test]
fn what_an_api_asks_of_the_token_is_asked_in_each_attempt_of_the_flight() {
    let asked = || Rejection { challenge: Some(Challenge::new("{1}")), ..Rejection::default() };
    let mut bench = holding(plain().attempts(2).settle(7_200 * SECOND));
    bench.machine.policy = Arc::new(plain().attempts(2).jitter(0.0).settle(7_200 * SECOND));
    assert_eq!(bench.replace(1, "a"), ["tell 1 a"], "it settles");
    assert_eq!(bench.rejected(1, "a", asked()), ["fetch 2 rejected {1}"], "the API knows it well");
    bench.failed(2, SourceError::transient("no"));
    assert_eq!(bench.pass(SECOND), ["fetch 3 rejected {1}"]);
    bench.fetched(3, "b");
    bench.on(Event::Refresh { waiter: Name(2) });
    bench.pass(7_200 * SECOND);
    assert_eq!(bench.want(3), ["fetch 4 expired"], "the next flight asks for nothing");
    assert_eq!(bench.rejected(1, "b", asked()), [""; 0], "late");
}

/// A flight for other callers is under way, and an API asks for more.
fn asked_for_more(policy: RefreshPolicy) -> Bench {
    let asked = Rejection { challenge: Some(Challenge::new("{1}")), ..Rejection::default() };
    let mut bench = holding(policy);
    assert_eq!(bench.on(Event::Refresh { waiter: Name(1) }), ["fetch 2 forced"]);
    assert_eq!(bench.rejected(2, "a", asked), [""; 0], "it joins");
    bench
}

#[test]
fn what_an_api_asks_during_a_call_is_asked_in_another_call() {
    let mut bench = asked_for_more(plain());
    assert_eq!(bench.fetched(2, "b"), ["fetch 3 rejected {1}"]);
    assert_eq!(bench.want(3), ["tell 3 a"], "nobody else waits");
    assert_eq!(bench.fetched(3, "c"), ["publish c", "tell [1, 2] c"]);
    let mut bench = asked_for_more(plain());
    bench.failed(2, SourceError::transient("no"));
    assert_eq!(bench.pass(SECOND), ["fetch 3 rejected {1}"]);
    assert_eq!(bench.fetched(3, "b"), ["publish b", "tell [1, 2] b"], "it was asked");
}

#[test]
fn the_token_of_the_first_call_is_used_if_the_other_call_gets_none() {
    let refused = "tell [1, 2] token refresh was refused after 2 attempts: no";
    for error in [SourceError::transient("no"), SourceError::terminal("no")] {
        let mut bench = asked_for_more(plain());
        bench.fetched(2, "b");
        assert_eq!(bench.failed(3, error), ["publish b", "tell [1, 2] b"]);
        assert_eq!(bench.machine.counters().failed, 0);
    }
    let mut bench = asked_for_more(plain());
    bench.fetched(2, "b");
    assert_eq!(bench.pass(10 * SECOND), ["abort", "publish b", "tell [1, 2] b"]);
    let mut bench = asked_for_more(plain());
    bench.fetched(2, "b");
    bench.discard("b");
    assert_eq!(bench.failed(3, SourceError::terminal("no")), [refused]);
    let mut bench = asked_for_more(plain());
    bench.fetched_for(2, "b", SECOND);
    bench.pass(SECOND);
    assert_eq!(bench.failed(3, SourceError::terminal("no")), [refused]);
}

#[test]
fn without_an_attempt_or_a_usable_token_the_first_token_is_used() {
    let mut bench = asked_for_more(plain().attempts(1));
    assert_eq!(bench.fetched(2, "b"), ["publish b", "tell [1, 2] b"]);
    let mut bench = asked_for_more(plain().flight_timeout(7_200 * SECOND));
    bench.now.boot += 3_600 * SECOND;
    assert_eq!(bench.fetched(2, "b"), ["publish b", "tell [1, 2] b"]);
}

#[cfg(feature = "registry")]
#[test]
fn a_gate_that_refuses_the_other_call_leaves_the_token_of_the_first() {
    let mut bench = holding(plain());
    bench.machine.is_gated = true;
    bench.on(Event::Refresh { waiter: Name(1) });
    assert_eq!(bench.on(Event::Granted), ["fetch 2 forced"]);
    let asked = Rejection { challenge: Some(Challenge::new("{1}")), ..Rejection::default() };
    bench.rejected(2, "a", asked);
    assert_eq!(bench.fetched(2, "b"), ["ask true"]);
    let refusal = Refusal::TooLong { expected: SECOND };
    assert_eq!(bench.on(Event::Refused(refusal)), ["publish b", "tell [1, 2] b"]);
}

#[test]
fn of_tokens_rejected_from_their_birth_the_oldest_is_known_first() {
    let mut bench = Bench::new(plain());
    bench.machine.policy = Arc::new(plain().jitter(0.0));
    bench.want(1);
    for (id, old, new) in [(1, "", "a"), (2, "a", "b"), (3, "b", "c")] {
        if id > 1 {
            bench.pass(2 * SECOND);
            bench.report(old);
        }
        bench.fetched(id, new);
        assert_eq!(bench.replace(2, new), ["tell 2 a"], "its first report already says that it is too new");
    }
    assert_eq!(bench.replace(2, "c"), ["tell 2 a"]);
}

#[test]
fn a_discarded_token_is_gone_and_its_crowd_waits_again() {
    let mut bench = Bench::new(plain());
    for name in [1, 2, 3] {
        bench.want(name);
    }
    let mut out = Vec::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let life = 3_600 * SECOND;
    let token = Token::new("a").with_lifetime(life).stamped(bench.now, &clock, life, life);
    bench.machine.on(Event::Fetched { id: 1, result: Ok(token) }, bench.now, &mut out);
    assert!(bench.machine.is_telling() && !bench.machine.is_idle());
    assert_eq!(bench.machine.next_to_tell().map(|(name, _)| name), Some(Name(1)));
    assert_eq!(bench.machine.waiters(), 2);
    let mut out = Vec::new();
    bench.machine.on(Event::Want { waiter: Name(2), timeout: None }, bench.now, &mut out);
    assert!(matches!(out[..], [Effect::Duplicate(Name(2))]), "it has not been told");
    assert_eq!(bench.discard("a"), ["publish none", "fetch 2 rejected"]);
    assert_eq!(bench.fetched(2, "a"), [""; 0], "never again");
    bench.pass(Duration::ZERO);
    assert_eq!(bench.fetched(3, "b"), ["publish b", "tell [2, 3] b"]);
    assert_eq!(bench.machine.counters().discards, 1);
    assert_eq!(bench.replace(4, "b"), ["fetch 4 rejected"], "a is no predecessor");
}

#[test]
fn stale_if_error_hides_neither_a_refusal_nor_a_report() {
    for (reported, error, told) in [
        (false, SourceError::transient("no"), "tell [9] a"),
        (false, SourceError::terminal("no"), "tell [9] token refresh was refused: no"),
        (true, SourceError::transient("no"), "tell [9] token refresh failed: no"),
    ] {
        let policy = plain().attempts(1).stale_if_error(600 * SECOND).cooldown(Duration::ZERO);
        let mut bench = holding(policy);
        if reported {
            bench.report("a");
            bench.failed(2, SourceError::transient("no"));
        }
        bench.pass(3_600 * SECOND);
        let fetch = bench.want(9).pop().unwrap();
        let id = fetch.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(bench.failed(id, error), [told]);
    }
}

#[test]
fn what_is_left_of_a_cooldown_is_told_when_it_is_told() {
    let mut bench = Bench::new(plain().attempts(1));
    bench.want(1);
    bench.failed(1, SourceError::transient("no").with_retry_after(60 * SECOND));
    bench.pass(59 * SECOND);
    let mut out = Vec::new();
    bench.machine.on(Event::Want { waiter: Name(2), timeout: None }, bench.now, &mut out);
    let [Effect::Tell(_, Err(error))] = &out[..] else { panic!("{out:?}") };
    assert_eq!(error.retry_after(), Some(SECOND));
}

#[test]
fn a_reader_that_finds_nothing_is_quiet_for_a_second() {
    let mut bench = holding(plain());
    bench.pass(3_600 * SECOND);
    let mut out = Vec::new();
    bench.machine.on(Event::NearEnd, bench.now, &mut out);
    assert!(matches!(out[..], [Effect::QuietUntil(until)] if until == bench.now.boot + SECOND), "{out:?}");
}

#[test]
fn the_memory_of_reports_ends_with_the_token_and_is_bounded() {
    let mut bench = holding(plain().reports(1_000));
    let mut old = "a".to_owned();
    for number in 0..40 {
        bench.replace(1, &old);
        let id = bench.machine.fetches;
        old = format!("token-{number}");
        bench.fetched(id, &old);
    }
    assert_eq!(bench.machine.reports.reported.len(), 32);
    bench.pass(3_601 * SECOND);
    bench.want(1);
    assert_eq!(bench.machine.reports.reported.len(), 0);
    for number in 0..1_100 {
        bench.discard(&format!("discarded-{number}"));
    }
    assert_eq!(bench.machine.reports.discarded.len(), 1_024);
}

#[test]
fn the_longest_interval_between_flights_for_reports_still_limits_them() {
    let mut bench = holding(plain().report_every(Duration::MAX).reports(2));
    assert_eq!(bench.replace(1, "a"), ["fetch 2 rejected"]);
    bench.fetched(2, "b");
    bench.pass(60 * SECOND);
    assert_eq!(bench.replace(2, "b"), ["fetch 3 rejected"]);
    bench.fetched(3, "c");
    bench.pass(60 * SECOND);
    assert_eq!(bench.replace(3, "c"), ["tell 3 c"], "the budget is spent");
}

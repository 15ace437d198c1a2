//! Secrets that come again, tokens that come without a flight, and what is told instead of a discarded token.

use super::*;
use crate::source::Challenge;

const HOUR: Duration = Duration::from_secs(3_600);

fn offer(bench: &mut Bench, secret: &str) -> Vec<String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let token = Token::new(secret).stamped(bench.now, &clock, HOUR, HOUR);
    bench.on(Event::Offered(token))
}

#[test]
fn a_token_that_another_process_has_fetched_is_taken_if_its_secret_is_new_and_no_flight_is_under_way() {
    let mut bench = holding(plain());
    assert_eq!(offer(&mut bench, "a"), [""; 0], "it is in use");
    assert_eq!(offer(&mut bench, "b"), ["publish b"]);
    bench.report("b");
    assert_eq!(offer(&mut bench, "c"), [""; 0], "the flight gets its own");
    assert_eq!(bench.fetched(2, "c"), ["publish c"]);
    assert_eq!(offer(&mut bench, "b"), [""; 0], "it was reported");
    bench.on(Event::Stop);
    assert_eq!(offer(&mut bench, "d"), [""; 0]);
}

#[test]
fn a_reported_secret_that_comes_again_prolongs_the_token_in_use_only_if_it_is_that_one() {
    let mut bench = holding(plain());
    bench.report("a");
    bench.fetched(2, "b");
    bench.pass(60 * SECOND);
    bench.report("b");
    assert_eq!(bench.fetched(3, "a"), ["release"], "asked once more, and b stays in use");
    assert_eq!(bench.pass(Duration::ZERO), ["fetch 4 rejected"]);
    bench.fetched(4, "c");

    let mut bench = holding(plain());
    bench.report("a");
    let same_end = HOUR.saturating_sub(60 * SECOND);
    assert_eq!(bench.fetched_for(2, "a", same_end), ["release"]);

    let mut bench = holding(plain());
    bench.report("a");
    assert_eq!(bench.fetched_for(2, "a", same_end + SECOND), ["publish a", "release"]);
}

#[test]
fn a_reported_secret_that_came_with_a_later_end_is_remembered_until_then() {
    let mut bench = holding(plain());
    bench.report("a");
    bench.fetched_for(2, "a", 2 * HOUR);
    assert_eq!(bench.pass(Duration::ZERO), ["fetch 3 rejected"]);
    bench.fetched_for(3, "b", 3 * HOUR);
    bench.pass(HOUR + HOUR / 2);
    bench.on(Event::Refresh { waiter: Name(1) });
    assert_eq!(bench.machine.counters().repeated_secrets, 0);
    bench.fetched(4, "a");
    assert_eq!(bench.machine.counters().repeated_secrets, 1);
}

#[test]
fn nobody_is_asked_once_more_when_the_flight_has_no_time_left() {
    // The least pause. No random number makes it shorter.
    let pause = Duration::from_millis(100);
    let policy = plain().backoff(pause).attempt_timeout(30 * SECOND).flight_timeout(30 * SECOND);
    for (left, told) in [(pause * 2, vec!["publish a"]), (pause, vec!["publish a", "tell [1] a"])] {
        let mut bench = holding(policy.clone());
        bench.replace(1, "a");
        bench.pass((30 * SECOND).saturating_sub(left));
        assert_eq!(bench.fetched(2, "a"), told, "{left:?} are left");
    }

    for (passed, told) in [(29, vec!["fetch 3 rejected {1}"]), (30, vec!["publish b", "tell [1, 2] b"])] {
        let mut bench = holding(policy.clone());
        bench.replace(1, "a");
        let challenge = Some(Challenge::new("{1}"));
        bench.rejected(2, "a", Rejection { challenge, ..Rejection::default() });
        bench.now.boot += passed * SECOND;
        bench.now.wall += passed * SECOND;
        assert_eq!(bench.fetched(2, "b"), told, "after {passed} s");
    }
}

#[test]
fn an_api_that_knows_the_token_does_not_say_that_it_is_too_new() {
    let challenge = Some(Challenge::new("{1}"));
    let confirmed = Rejection { is_confirmed: true, ..Rejection::default() };
    for (knows, told, then) in [
        (Rejection::default(), "tell 3 a", "tell 4 a"),
        (confirmed, "tell 3 b", "tell 4 b"),
        (Rejection { challenge, ..Rejection::default() }, "fetch 3 rejected {1}", ""),
    ] {
        let mut bench = Bench::new(plain());
        bench.machine.policy = Arc::new(plain().jitter(0.0));
        bench.want(1);
        bench.fetched(1, "a");
        bench.replace(2, "a");
        bench.pass(2 * SECOND);
        bench.report("a");
        bench.fetched(2, "b");
        assert_eq!(bench.rejected(3, "b", knows), [told]);
        assert_eq!(bench.replace(4, "b").join(", "), then);
    }
}

#[test]
fn only_reports_that_start_a_flight_count_as_confirmed() {
    let mut bench = Bench::new(plain());
    bench.machine.policy = Arc::new(plain().jitter(0.0));
    let confirmed = || Rejection { is_confirmed: true, ..Rejection::default() };
    bench.want(1);
    bench.fetched(1, "a");
    bench.rejected(2, "a", confirmed());
    let counted = |bench: &Bench| {
        let counters = bench.machine.counters();
        (counters.reports_confirmed, counters.refused_by_settle, counters.reports_honoured)
    };
    assert_eq!(counted(&bench), (0, 1, 0));
    bench.pass(2 * SECOND);
    bench.rejected(2, "a", confirmed());
    assert_eq!(counted(&bench), (1, 1, 1));
}

#[test]
fn a_discard_of_the_token_in_use_is_a_report_about_it() {
    let mut bench = holding(plain());
    bench.discard("other");
    bench.discard("a");
    let counters = bench.machine.counters();
    assert_eq!((counters.discards, counters.rejections, counters.reports_honoured), (2, 1, 0));
}

#[test]
fn flights_are_counted_by_their_reason() {
    let mut bench = Bench::new(plain().attempts(1));
    for (id, reason) in [(1, Reason::First), (2, Reason::First)] {
        bench.want(id);
        bench.failed(id, SourceError::transient("no"));
        assert_eq!(bench.machine.counters().failed_by(reason), id);
        bench.pass(60 * SECOND);
    }
    bench.want(3);
    bench.fetched(3, "a");
    bench.on(Event::Refresh { waiter: Name(4) });
    bench.failed(4, SourceError::transient("no"));
    let counters = bench.machine.counters();
    assert_eq!((counters.failed_by(Reason::First), counters.failed_by(Reason::Forced)), (2, 1));
    assert_eq!((counters.failed_by(Reason::Rejected), counters.landed_by(Reason::First)), (0, 1));
}

/// The result of the fetch, and nobody is told yet.
fn lands(bench: &mut Bench, id: u64, secret: &str, lifetime: Duration) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let token = Token::new(secret).with_lifetime(lifetime).stamped(bench.now, &clock, lifetime, lifetime);
    quietly(bench, Event::Fetched { id, result: Ok(token) });
}

fn quietly(bench: &mut Bench, event: Event<Name>) {
    bench.machine.on(event, bench.now, &mut Vec::new());
}

/// A caller who wants a new token has not yet been told "b" when another one is in use.
fn about_to_be_told(policy: RefreshPolicy) -> Bench {
    let mut bench = holding(policy);
    quietly(&mut bench, Event::Refresh { waiter: Name(1) });
    lands(&mut bench, 2, "b", HOUR);
    quietly(&mut bench, Event::Refresh { waiter: Name(2) });
    lands(&mut bench, 3, "c", 60 * SECOND);
    bench
}

#[test]
fn who_was_about_to_be_told_a_discarded_token_is_told_the_one_in_use() {
    let mut bench = about_to_be_told(plain());
    assert_eq!(bench.discard("b"), ["tell [1, 2] c"]);
}

#[test]
fn who_wants_a_new_token_is_told_the_error_and_not_the_stale_one_instead_of_a_discarded_token() {
    let mut bench = about_to_be_told(plain().attempts(1).stale_if_error(HOUR).cooldown(60 * SECOND));
    bench.now.boot += 70 * SECOND;
    bench.now.wall += 70 * SECOND;
    quietly(&mut bench, Event::Want { waiter: Name(3), timeout: None });
    quietly(&mut bench, Event::Fetched { id: 4, result: Err(SourceError::transient("no")) });
    let told = bench.discard("b");
    assert_eq!(told, ["tell [1] token refresh failed: no, tell [2, 3] c"]);
}

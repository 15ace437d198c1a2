//! A flight that waits at the gate before each of its calls.

use super::*;

fn gated(policy: RefreshPolicy) -> Bench {
    let mut bench = Bench::new(policy);
    bench.machine.is_gated = true;
    bench
}

/// When the attempt, or the flight, ends by itself.
fn end(bench: &mut Bench) -> Option<Duration> {
    let now = bench.now;
    let mut deadlines = bench.machine.deadlines(now).into_iter();
    deadlines.find_map(|(deadline, moment)| (deadline == Deadline::Attempt).then_some(moment))
}

fn transient() -> SourceError {
    SourceError::transient("no")
}

#[test]
fn the_time_of_a_flight_begins_with_its_first_call() {
    let policy = RefreshPolicy::default().wait_timeout(100 * SECOND).backoff(SECOND).attempts(2);
    let mut bench = gated(policy);
    assert_eq!(bench.want(1), ["ask true"]);
    assert_eq!(bench.machine.state(bench.now), FlightState::Queued);
    assert_eq!(end(&mut bench), None, "it waits for as long as its callers do");
    assert_eq!(bench.pass(40 * SECOND), [""; 0]);
    assert_eq!(bench.on(Event::Granted), ["fetch 1 first"]);
    let flight_ends = bench.now.boot + 30 * SECOND;
    assert_eq!(bench.failed(1, transient()), [""; 0]);
    assert_eq!(bench.pass(SECOND), ["ask true"]);
    assert_eq!(bench.machine.state(bench.now), FlightState::Queued);
    assert_eq!(end(&mut bench), Some(flight_ends));
    assert_eq!(bench.pass(28 * SECOND), [""; 0]);
    let told = "tell [1] token refresh timed out: the flight took longer than flight_timeout (30s)";
    assert_eq!(bench.pass(SECOND), ["abort", told]);
}

#[test]
fn an_answer_of_the_gate_that_comes_too_late_does_nothing() {
    let mut bench = gated(RefreshPolicy::default());
    bench.want(1);
    assert_eq!(bench.on(Event::Granted), ["fetch 1 first"]);
    assert_eq!(bench.on(Event::Granted), [""; 0]);
    assert_eq!(bench.on(Event::Refused(Refusal::TooLong { expected: SECOND })), [""; 0]);
    assert_eq!(bench.fetched(1, "new"), ["publish new", "tell [1] new"]);
    assert_eq!(bench.on(Event::Granted), [""; 0]);
}

#[test]
fn the_first_caller_of_a_refresh_ahead_moves_it_forward_once() {
    let mut bench = gated(RefreshPolicy::default().backoff(Duration::ZERO).wait_timeout(20 * SECOND));
    bench.want(1);
    bench.on(Event::Granted);
    bench.fetched(1, "old");
    bench.pass(3_400 * SECOND);
    assert_eq!(bench.on(Event::NearEnd), ["ask false"]);
    assert_eq!(bench.on(Event::NearEnd), [""; 0]);
    bench.pass(195 * SECOND);
    assert_eq!(bench.want(2), ["hurry"], "the old token is no longer given out");
    assert_eq!(bench.want(3), [""; 0]);
    assert_eq!(bench.on(Event::Granted), ["fetch 2 ahead"]);
    assert_eq!(bench.failed(2, transient()), [""; 0]);
    assert_eq!(bench.pass(Duration::ZERO), ["ask true"], "callers wait for the second attempt too");
}

#[test]
fn a_call_whose_callers_timed_out_before_it_is_asked_for_is_not_urgent() {
    for in_pause in [true, false] {
        let policy = RefreshPolicy::default().wait_timeout(SECOND).backoff(Duration::ZERO);
        let mut bench = gated(policy);
        bench.want(1);
        bench.on(Event::Granted);
        if in_pause {
            bench.failed(1, transient().with_retry_after(3 * SECOND));
        }
        bench.pass(SECOND);
        if !in_pause {
            bench.failed(1, transient().with_retry_after(2 * SECOND));
        }
        assert_eq!(bench.pass(2 * SECOND), ["ask false"]);
        assert_eq!(bench.want(2), ["hurry"]);
    }
}

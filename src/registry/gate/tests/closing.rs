//! When the endpoint is closed, for how long, and which key probes.

use super::*;

/// Two keys have failed: closed for 1 s.
#[track_caller]
fn closed(calls: usize) -> Shell {
    let mut shell = Shell::new(calls, calls);
    shell.call(101, failed());
    shell.call(102, failed());
    assert!(shell.is_closed());
    shell
}

#[test]
fn two_different_keys_that_fail_close_the_gate_and_one_key_never_does() {
    let mut shell = Shell::new(4, 4);
    for _ in 0..100 {
        shell.call(1, failed());
    }
    assert!(shell.is_open());
    shell.call(2, failed());
    assert!(shell.is_closed());
    assert_eq!(shell.gate.status().closures, 1);
}

#[test]
fn a_success_between_two_failures_keeps_it_open() {
    for answered in [Ending::Served, Ending::KeyOnly, Ending::ClientRefused("invalid_client")] {
        let mut shell = Shell::new(4, 4);
        shell.call(1, failed());
        shell.call(3, answered);
        shell.call(2, failed());
        assert!(shell.is_open());
    }
}

#[test]
fn a_call_that_was_given_up_is_no_success() {
    let mut shell = Shell::new(4, 4);
    shell.call(1, failed());
    shell.call(3, Ending::Abandoned);
    shell.call(2, failed());
    assert!(shell.is_closed());
}

#[test]
fn a_failure_does_not_count_if_others_had_success_since_its_call_was_sent() {
    let mut shell = Shell::new(4, 4);
    shell.ask(ask(1));
    shell.ask(ask(2));
    shell.call(3, Ending::Served);
    shell.end(1, failed());
    shell.end(2, failed());
    assert!(shell.is_open());
    shell.call(1, failed());
    assert!(shell.is_open(), "the first that counts");
    shell.call(2, failed());
    assert!(shell.is_closed());
}

#[test]
fn a_key_in_its_own_trouble_counts_again_when_it_has_succeeded() {
    let mut shell = Shell::new(4, 4);
    shell.call(1, failed());
    shell.call(2, Ending::Served);
    shell.call(1, failed());
    shell.call(3, failed());
    assert!(shell.is_open(), "key 1 is in its own trouble");
    shell.call(1, Ending::KeyOnly);
    shell.call(1, failed());
    shell.call(2, failed());
    assert!(shell.is_closed());
}

#[test]
fn the_oldest_trouble_is_forgotten() {
    let mut shell = Shell::new(4, 4);
    for key in 0..=TROUBLED as u64 {
        shell.call(key, failed());
        shell.call(9_999, Ending::Served);
    }
    assert_eq!(shell.gate.endpoint.troubled.len(), TROUBLED);
    shell.call(1, failed());
    shell.call(9_999, failed());
    assert!(shell.is_open(), "key 1 is remembered");
    shell.call(0, failed());
    assert!(shell.is_closed(), "key 0 is not");
}

#[test]
fn eight_different_keys_in_trouble_are_no_trouble_of_their_own() {
    let mut shell = Shell::new(4, 4);
    for key in 0..8 {
        shell.call(key, failed());
        shell.call(100, Ending::Served);
    }
    for _ in 0..10 {
        (0..7).for_each(|key| shell.call(key, failed()));
    }
    assert!(shell.is_open(), "seven, in any rhythm");
    shell.call(100, Ending::Served);
    shell.call(7, failed());
    assert!(shell.is_open(), "a success between");
    (0..7).for_each(|key| shell.call(key, failed()));
    assert!(shell.is_closed());
}

#[test]
fn all_who_wait_are_refused_when_it_closes_and_so_is_who_asks() {
    let mut shell = Shell::new(2, 2);
    for key in 0..50 {
        shell.ask(Ask { urgent: key % 2 == 0, ..ask(key) });
    }
    shell.end(0, failed());
    shell.end(1, failed());
    let until = shell.now + secs(1);
    let refusal = Refusal::Closed { error: FAILED, until };
    assert_eq!(shell.refused.len(), 50 - 3, "one had been called when the first failed");
    assert!(shell.refused.values().all(|told| *told == refusal));
    assert_eq!(shell.ask(ask(60)), Told::Refused(refusal));
    assert_eq!(
        shell.ask(Ask { urgent: false, ..ask(61) }),
        Told::Refused(Refusal::Closed { error: FAILED, until })
    );
}

#[test]
fn those_who_are_refused_are_told_one_by_one_and_may_withdraw_before() {
    let mut gate: Gate<u64, &str> = Gate::new(GateSettings::with_calls(2), 0);
    let now = secs(1);
    let mut permits = Vec::new();
    let mut numbers = Vec::new();
    for key in 0..5 {
        match gate.ask(ask(key), now) {
            Answer::Granted(permit) => permits.push(permit),
            Answer::Waits(number) => numbers.push(number),
            Answer::Refused(_) => panic!("it is open"),
        }
    }
    for permit in permits {
        gate.ended(permit, failed(), now);
    }
    gate.withdraw(numbers[1]);
    let mut told = Vec::new();
    while let Some(decided) = gate.next_decided(now) {
        assert!(decided.how.is_err());
        told.push(decided.who);
    }
    assert_eq!(told, [2, 4]);
}

#[test]
fn after_the_pause_one_probes_and_the_others_wait_for_its_end() {
    let mut shell = closed(2);
    shell.pass(secs(1));
    assert_eq!(shell.ask(ask(1)), Told::Granted);
    for key in 2..6 {
        assert_eq!(shell.ask(ask(key)), Told::Waits);
    }
    assert_eq!(shell.flying.len(), 1);
    shell.end(1, Ending::KeyOnly);
    assert!(shell.is_open());
    assert_eq!(shell.flying.len(), 2, "and the line is served, so many at a time");
}

#[test]
fn a_probe_that_fails_closes_it_for_twice_as_long_up_to_the_longest_pause() {
    let mut shell = closed(2);
    for (probe, pause) in [1, 2, 4, 8, 10, 10].windows(2).enumerate() {
        let key = probe as u64;
        shell.pass(secs(pause[0]));
        shell.ask(ask(key));
        shell.ask(ask(50 + key));
        shell.end(key, failed());
        assert!(shell.refused.contains_key(&(50 + key)), "the line is refused");
        assert_eq!(shell.refuses(ask(99)), shell.now + secs(pause[1]));
    }
    shell.pass(secs(10));
    shell.call(7, Ending::Served);
    shell.call(8, failed());
    shell.call(9, failed());
    assert_eq!(shell.refuses(ask(99)), shell.now + secs(1), "from the first pause on again");
}

#[test]
fn retry_after_counts_if_it_is_longer_and_only_up_to_its_limit() {
    for (retry_after, pause) in [(ms(300), secs(1)), (secs(20), secs(20)), (secs(9_999), secs(60))] {
        let mut shell = Shell::new(2, 2);
        shell.call(1, failed());
        shell.call(2, Ending::EndpointFailed { error: FAILED, retry_after: Some(retry_after) });
        assert_eq!(shell.refuses(ask(3)), shell.now + pause);
    }
}

#[test]
fn jitter_makes_a_pause_shorter_by_up_to_its_share_and_never_a_retry_after() {
    let settings = GateSettings { jitter: 0.5, ..GateSettings::with_calls(2) };
    let mut pauses = Vec::new();
    for seed in 0..100 {
        let mut shell = Shell::with(settings, seed);
        shell.call(1, failed());
        shell.call(2, failed());
        pauses.push(shell.refuses(ask(3)).saturating_sub(shell.now));
        shell.pass(secs(1));
        shell.call(4, Ending::EndpointFailed { error: FAILED, retry_after: Some(secs(2)) });
        assert_eq!(shell.refuses(ask(3)).saturating_sub(shell.now), secs(2));
    }
    pauses.sort();
    assert!(pauses[0] >= ms(500) && pauses[0] < ms(550) && pauses[99] > ms(950) && pauses[99] <= secs(1));
}

#[test]
fn a_key_that_failed_a_probe_leaves_the_next_one_to_others_for_a_while() {
    let mut shell = closed(2);
    shell.pass(secs(1));
    shell.call(1, failed());
    shell.pass(secs(2));
    let later = shell.refuses(ask(1));
    assert_eq!(later, shell.now + secs(1));
    assert_eq!(shell.ask(ask(2)), Told::Granted, "anybody else has it at once");
    assert_eq!(shell.ask(ask(1)), Told::Waits, "and then it waits as all do");
    shell.end(2, Ending::Served);
    assert!(shell.is_open() && shell.flying.contains_key(&1));
}

#[test]
fn a_key_that_is_alone_probes_again_after_each_pause() {
    let mut shell = closed(2);
    shell.pass(secs(1));
    shell.call(1, failed());
    shell.pass(secs(2));
    for pause in [1, 4, 8, 10, 10] {
        assert_eq!(shell.refuses(ask(1)), shell.now + secs(pause));
        shell.pass(secs(pause));
        shell.call(1, failed());
        assert_eq!(shell.gate.status().closures, 2, "nothing new");
    }
    shell.pass(secs(10));
    shell.call(1, Ending::Served);
    assert!(shell.is_open());
}

#[test]
fn a_broken_key_does_not_hold_it_shut_for_others() {
    let mut shell = closed(2);
    shell.pass(secs(1));
    shell.call(1, failed());
    shell.pass(secs(3));
    assert_eq!(shell.ask(ask(1)), Told::Granted, "nobody else has asked for a pause");
    assert_eq!(shell.ask(ask(2)), Told::Waits);
    shell.end(1, failed());
    assert!(shell.flying.contains_key(&2), "who waited probes next: {:?}", shell.refused);
    shell.end(2, Ending::Served);
    assert!(shell.is_open());
}

#[test]
fn a_key_in_its_own_trouble_neither_probes_first_nor_closes_it() {
    let mut shell = Shell::new(2, 2);
    shell.call(1, failed());
    shell.call(2, Ending::Served);
    shell.call(3, failed());
    shell.call(4, failed());
    assert_eq!(shell.refuses(ask(1)), shell.now + secs(1));
    shell.pass(secs(1));
    assert_eq!(shell.refuses(ask(1)), shell.now + secs(1));
    shell.pass(secs(1));
    shell.call(1, failed());
    assert!(!shell.is_closed());
    shell.call(2, Ending::Served);
    assert!(shell.is_open());
}

#[test]
fn a_probe_that_is_given_up_is_free_for_the_next() {
    let mut shell = closed(2);
    shell.pass(secs(1));
    shell.ask(ask(1));
    shell.ask(ask(2));
    shell.end(1, Ending::Abandoned);
    assert!(shell.flying.contains_key(&2));
    shell.end(2, Ending::Abandoned);
    shell.call(3, Ending::Served);
    assert!(shell.is_open());
}

#[test]
fn only_the_probe_opens_it_and_late_endings_change_nothing() {
    let mut shell = Shell::new(5, 5);
    for key in 1..=4 {
        shell.ask(ask(key));
    }
    shell.end(1, failed());
    shell.end(2, failed());
    let until = shell.refuses(ask(9));
    shell.end(3, failed());
    assert_eq!(shell.refuses(ask(9)), until);
    shell.end(4, Ending::Served);
    assert_eq!(shell.refuses(ask(9)), until);
    shell.pass(secs(1));
    shell.call(9, Ending::Served);
    assert!(shell.is_open());
}

fn too_many(retry_after: Option<Duration>) -> Ending<shell::Error> {
    Ending::TooMany { error: "429", retry_after }
}

#[test]
fn a_429_halves_the_limit_and_each_success_gives_one_back() {
    let mut shell = Shell::new(16, 16);
    let mut limits = Vec::new();
    for _ in 0..6 {
        shell.call(1, too_many(None));
        limits.push(shell.gate.status().limit);
    }
    for _ in 0..20 {
        shell.call(1, Ending::Served);
        limits.push(shell.gate.status().limit);
    }
    assert_eq!(limits[..9], [8, 4, 2, 1, 1, 1, 2, 3, 4]);
    assert_eq!(limits[25], 16);
    assert!(shell.is_open(), "one key");
}

#[test]
fn a_group_has_its_part_of_the_calls_that_a_429_leaves() {
    let of_crowd = |key| Ask { group: 7, ..ask(key) };
    let mut shell = Shell::new(16, 8);
    shell.call(1, too_many(None));
    for key in 10..30 {
        shell.ask(of_crowd(key));
    }
    assert_eq!((shell.flying.len(), shell.gate.status().limit), (4, 8));
    for key in 30..34 {
        assert_eq!(shell.ask(ask(key)), Told::Granted, "the other half is for others");
    }
    assert_eq!(shell.ask(ask(34)), Told::Waits);
    for key in 10..12 {
        shell.end(key, Ending::Served);
    }
    assert_eq!((shell.flying.len(), shell.gate.status().limit), (10, 10), "key 34 began too");
    // Its calls that are under way go on. It begins no other before they are fewer.
    shell.end(30, too_many(None));
    assert_eq!((shell.flying.len(), shell.gate.status().limit), (9, 5));
    for key in (31..35).chain(12..15) {
        shell.end(key, Ending::Abandoned);
    }
    assert_eq!(shell.flying.keys().copied().collect::<Vec<_>>(), [15, 16]);
    shell.end(15, Ending::Abandoned);
    assert_eq!(shell.flying.keys().copied().collect::<Vec<_>>(), [16, 17]);
}

#[test]
fn calls_that_were_under_way_together_cut_the_limit_once() {
    let mut shell = Shell::new(16, 16);
    for key in 1..=4 {
        shell.ask(ask(key));
    }
    for key in [1, 2, 3] {
        shell.end(key, too_many(None));
        shell.call(50, Ending::Served);
    }
    assert_eq!(shell.gate.status().limit, 8 + 3);
}

#[test]
fn a_second_key_s_429_closes_it_for_what_the_server_says() {
    for (retry_after, pause) in [(None, 1), (Some(ms(10)), 1), (Some(secs(30)), 30), (Some(secs(999)), 60)] {
        let mut shell = Shell::new(4, 4);
        shell.call(1, too_many(None));
        shell.call(3, Ending::Served);
        shell.call(2, too_many(None));
        assert!(shell.is_open(), "a success between");
        shell.call(1, too_many(retry_after));
        assert_eq!(shell.refuses(ask(3)), shell.now + secs(pause));
    }
}

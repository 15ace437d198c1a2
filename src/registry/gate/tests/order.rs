//! The order of the keys: limits, lines, groups, patience.

use super::*;

fn of_group(key: u64, group: u64) -> Ask<u64> {
    Ask { group, ..ask(key) }
}

fn ahead(key: u64) -> Ask<u64> {
    Ask { urgent: false, ..ask(key) }
}

#[test]
fn no_more_calls_at_once_than_the_limit() {
    let mut shell = Shell::new(3, 3);
    let told: Vec<Told> = (0..5).map(|key| shell.ask(ask(key))).collect();
    assert_eq!(told, [Told::Granted, Told::Granted, Told::Granted, Told::Waits, Told::Waits]);
    shell.end(1, Ending::Served);
    assert_eq!(shell.began, [0, 1, 2, 3], "the oldest first");
    shell.end(0, Ending::Abandoned);
    assert_eq!(shell.began, [0, 1, 2, 3, 4], "a call that was given up frees its slot");
}

#[test]
fn a_group_at_its_share_is_passed_over() {
    let mut shell = Shell::new(4, 2);
    for key in 0..4 {
        shell.ask(of_group(key, 7));
    }
    assert_eq!(shell.began, [0, 1]);
    assert_eq!(shell.ask(of_group(10, 8)), Told::Granted, "another group is not held back");
    shell.end(0, Ending::Served);
    assert_eq!(shell.began, [0, 1, 10, 2]);
}

#[test]
fn keys_with_waiters_go_before_keys_that_refresh_ahead() {
    let mut shell = Shell::new(1, 1);
    shell.ask(ask(0));
    for key in [1, 2] {
        shell.ask(ahead(key));
    }
    shell.ask(ask(3));
    for key in [0, 3, 1, 2] {
        shell.end(key, Ending::Served);
    }
    assert_eq!(shell.began, [0, 3, 1, 2], "and the others when no urgent one waits");
}

#[test]
fn a_key_that_somebody_waits_for_now_changes_its_line_and_keeps_its_age() {
    let mut shell = Shell::new(1, 1);
    shell.ask(of_group(0, 9));
    for (key, urgent) in [(1, false), (2, false), (3, true)] {
        shell.ask(Ask { urgent, ..of_group(key, 9) });
    }
    shell.hurry(2, Duration::MAX);
    shell.hurry(2, Duration::MAX);
    assert_eq!((shell.gate.status().urgent, shell.gate.status().ahead), (2, 1));
    for key in [0, 2, 3] {
        shell.end(key, Ending::Served);
    }
    assert_eq!(shell.began, [0, 2, 3, 1]);
}

#[test]
fn groups_are_served_in_turn() {
    for per_group in [1, 9] {
        let mut shell = Shell::new(1, per_group);
        shell.ask(of_group(0, 9));
        for key in 1..=4 {
            shell.ask(of_group(key, 1));
        }
        for key in [11, 12] {
            shell.ask(of_group(key, 2));
        }
        for key in [0, 1, 11, 2, 12, 3] {
            shell.end(key, Ending::Served);
        }
        assert_eq!(shell.began, [0, 1, 11, 2, 12, 3, 4], "also where a group is below its share");
    }
}

#[test]
fn who_does_not_want_a_call_any_more_gets_none() {
    let mut shell = Shell::new(1, 1);
    for key in 0..3 {
        shell.ask(ask(key));
    }
    let number = shell.waits[&1];
    shell.withdraw(1);
    shell.gate.withdraw(number);
    assert!(shell.gate.hurry(number, secs(0), shell.now).is_none());
    shell.end(0, Ending::Served);
    assert_eq!(shell.began, [0, 2]);
}

#[test]
fn a_key_that_nobody_waits_for_any_more_goes_behind_the_others() {
    let mut shell = Shell::new(1, 1);
    for key in 0..5 {
        shell.ask(ask(key));
    }
    (1..4).for_each(|key| shell.go_behind(key));
    assert_eq!((shell.gate.status().urgent, shell.gate.status().ahead), (1, 3));
    shell.hurry(3, Duration::MAX);
    for key in [0, 4, 3, 1] {
        shell.end(key, Ending::Served);
    }
    assert_eq!(shell.began, [0, 4, 3, 1, 2]);
}

#[test]
fn nobody_overtakes_one_who_waits_for_a_decision() {
    let mut gate: Gate<u64, &str> = Gate::new(GateSettings::with_calls(1), 0);
    let now = secs(1);
    let Answer::Granted(permit) = gate.ask(ask(1), now) else { panic!("a free slot") };
    assert!(matches!(gate.ask(ask(2), now), Answer::Waits(_)));
    gate.ended(permit, Ending::Served, now);
    assert!(matches!(gate.ask(ask(3), now), Answer::Waits(_)));
    let decided = gate.next_decided(now).expect("a free slot");
    assert!(decided.who == 2 && decided.how.is_ok());
    assert!(gate.next_decided(now).is_none());
}

/// Calls take 2 s.
fn with_usual_length(calls: usize, per_group: usize) -> Shell {
    let mut shell = Shell::new(calls, per_group);
    shell.ask(ask(999));
    shell.pass(secs(2));
    shell.end(999, Ending::Served);
    assert_eq!(shell.gate.status().usual, Some(secs(2)));
    shell
}

#[test]
fn a_key_whose_waiters_would_give_up_before_its_turn_is_refused_at_once() {
    let mut shell = with_usual_length(2, 2);
    for key in 0..12 {
        shell.ask(ask(key));
    }
    let patient = |patience| Ask { patience, ..ask(100) };
    assert_eq!(
        shell.ask(patient(secs(9))),
        Told::Refused(Refusal::TooLong { expected: secs(10), patience: secs(9) })
    );
    assert_eq!(shell.ask(patient(secs(10))), Told::Waits, "ten before it, two at once, 2 s each");
    assert_eq!(shell.ask(Ask { patience: secs(0), ..ahead(101) }), Told::Waits, "nobody waits for it");
}

#[test]
fn a_key_that_somebody_waits_for_now_is_refused_if_the_line_is_longer_than_that_caller_waits() {
    let mut shell = with_usual_length(2, 2);
    for key in 0..2 {
        shell.ask(ask(key));
    }
    for key in 50..53 {
        assert_eq!(shell.ask(ahead(key)), Told::Waits);
    }
    for key in 2..12 {
        shell.ask(ask(key));
    }
    shell.hurry(50, secs(9));
    assert_eq!(shell.refused[&50], Refusal::TooLong { expected: secs(10), patience: secs(9) });
    shell.hurry(51, secs(10));
    shell.hurry(51, secs(0));
    assert_eq!((shell.refused.len(), shell.waits.len()), (1, 12), "it is in line, and is not asked again");
    assert_eq!((shell.gate.status().urgent, shell.gate.status().ahead), (11, 1));
}

#[test]
fn the_keys_of_a_group_that_came_after_a_key_do_not_count_when_it_changes_its_line() {
    let mut shell = with_usual_length(1, 1);
    shell.ask(of_group(0, 1));
    shell.ask(Ask { urgent: false, ..of_group(1, 1) });
    for key in 2..20 {
        shell.ask(of_group(key, 1));
    }
    shell.hurry(1, secs(0));
    shell.end(0, Ending::Served);
    assert_eq!(shell.began, [999, 0, 1]);
}

#[test]
fn nobody_is_refused_for_the_line_while_no_length_is_known() {
    let mut shell = Shell::new(1, 1);
    for key in 0..100 {
        assert!(!matches!(shell.ask(Ask { patience: secs(0), ..ask(key) }), Told::Refused(_)));
    }
}

#[test]
fn the_crowd_of_one_group_counts_for_its_own_keys_and_not_for_others() {
    let mut shell = with_usual_length(4, 2);
    for key in 0..102 {
        shell.ask(of_group(key, 1));
    }
    let patience = secs(50);
    let own = shell.ask(Ask { patience, ..of_group(200, 1) });
    assert_eq!(own, Told::Refused(Refusal::TooLong { expected: secs(100), patience }), "100 x 2 s / 2");
    shell.ask(of_group(300, 3));
    shell.ask(of_group(301, 4));
    let other = shell.ask(Ask { patience, ..of_group(201, 2) });
    assert_eq!(other, Told::Waits, "one call of the crowd comes before it");
}

#[test]
fn a_hundred_thousand_keys_go_through_sixteen_slots_and_each_is_called_once() {
    let mut shell = Shell::with(GateSettings::with_calls(16), 1);
    for key in 0..100_000 {
        shell.ask(Ask { urgent: key % 3 == 0, ..of_group(key, key % 1_000) });
    }
    let mut operations = 100_000;
    while let Some(key) = shell.flying.keys().next().copied() {
        shell.end(key, Ending::Served);
        operations += 1;
    }
    assert_eq!((operations, shell.began.len()), (200_000, 100_000));
    assert_eq!(shell.answers, 100_000 - 16);
    let last_urgent = shell.began.iter().rposition(|key| key % 3 == 0).unwrap();
    assert!(last_urgent < 33_334 + 16, "{last_urgent}");
    assert!(shell.gate.line.groups.is_empty() && shell.gate.line.places.is_empty());
    assert!(shell.gate.by_client.is_empty() && shell.gate.line.turns.is_empty());
}

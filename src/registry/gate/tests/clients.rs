//! `invalid_client` from two keys of the same client.

use super::*;
use crate::registry::gate::clients::CLIENTS;

const REFUSED: &str = "invalid_client";

fn of_client(key: u64, client: u64) -> Ask<u64> {
    Ask { client, ..ask(key) }
}

fn refused() -> Ending<shell::Error> {
    Ending::ClientRefused(REFUSED)
}

#[track_caller]
fn call(shell: &mut Shell, asks: Ask<u64>, how: Ending<shell::Error>) {
    assert_eq!(shell.ask(asks), Told::Granted, "key {}", asks.key);
    shell.end(asks.who, how);
}

/// Client 1 is closed for 5 s.
#[track_caller]
fn closed() -> Shell {
    let mut shell = Shell::new(4, 4);
    call(&mut shell, of_client(11, 1), refused());
    call(&mut shell, of_client(12, 1), refused());
    assert_eq!(shell.gate.status().clients_shut, 1);
    shell
}

#[test]
fn two_keys_of_a_client_that_are_refused_close_it_and_no_other() {
    let mut shell = closed();
    let until = shell.now + secs(5);
    let told = shell.ask(of_client(13, 1));
    assert_eq!(told, Told::Refused(Refusal::ClientClosed { error: REFUSED, until }));
    call(&mut shell, of_client(21, 2), Ending::Served);
    assert!(shell.is_open(), "the endpoint answers");
    assert_eq!(shell.gate.status().client_closures, 1);
}

#[test]
fn one_key_or_keys_of_different_clients_close_none() {
    let mut shell = Shell::new(4, 4);
    for key in [1, 1, 1, 2, 3] {
        call(&mut shell, ask(key), refused());
    }
    assert_eq!(shell.gate.status().clients_shut, 0);
}

#[test]
fn a_success_of_the_same_client_between_keeps_it_open() {
    for (client, is_open) in [(1, true), (2, false)] {
        let mut shell = Shell::new(4, 4);
        call(&mut shell, of_client(11, 1), refused());
        call(&mut shell, of_client(50, client), Ending::KeyOnly);
        call(&mut shell, of_client(12, 1), refused());
        assert_eq!(shell.gate.status().clients_shut == 0, is_open, "a success of client {client}");
    }
}

#[test]
fn those_of_this_client_who_wait_are_refused_and_others_go_on_waiting() {
    let mut shell = Shell::new(2, 2);
    for key in 0..20 {
        shell.ask(Ask { urgent: key % 3 != 0, ..of_client(key, key % 2) });
    }
    shell.end(0, refused());
    shell.end(2, Ending::EndpointFailed { error: FAILED, retry_after: None });
    let second = *shell.flying.keys().find(|key| **key % 2 == 0).expect("one of client 0");
    shell.end(second, refused());
    assert_eq!(shell.gate.status().clients_shut, 1);
    assert!(shell.refused.keys().all(|key| key % 2 == 0), "{:?}", shell.refused.keys());
    assert!(shell.waits.keys().all(|key| key % 2 == 1), "{:?}", shell.waits.keys());
}

#[test]
fn a_closed_client_has_one_probe_and_the_others_wait_without_holding_anybody_back() {
    let mut shell = closed();
    shell.pass(secs(5));
    assert_eq!(shell.ask(of_client(14, 1)), Told::Granted);
    for key in 15..18 {
        assert_eq!(shell.ask(of_client(key, 1)), Told::Waits);
    }
    assert_eq!(shell.ask(of_client(21, 2)), Told::Granted);
    assert_eq!(shell.flying.len(), 2);
    shell.hurry(15, Duration::MAX);
    shell.withdraw(16);
    shell.end(14, Ending::Served);
    assert_eq!(shell.began[shell.began.len() - 2..], [15, 17]);
}

#[test]
fn a_client_s_probe_that_fails_closes_it_for_twice_as_long_up_to_a_minute() {
    let mut shell = closed();
    for (probe, pause) in [5, 10, 20, 40, 60, 60].windows(2).enumerate() {
        let key = 20 + probe as u64;
        shell.pass(secs(pause[0]));
        shell.ask(of_client(key, 1));
        shell.ask(of_client(99, 1));
        shell.end(key, refused());
        let until = shell.now + secs(pause[1]);
        assert_eq!(shell.refused.remove(&99), Some(Refusal::ClientClosed { error: REFUSED, until }));
    }
    assert_eq!(shell.gate.status().client_closures, 6);
}

#[test]
fn a_key_that_failed_its_client_s_probe_leaves_the_next_one_to_others() {
    let mut shell = closed();
    shell.pass(secs(5));
    call(&mut shell, of_client(13, 1), refused());
    shell.pass(secs(10));
    assert_eq!(shell.refuses(of_client(13, 1)), shell.now + secs(5));
    call(&mut shell, of_client(14, 1), Ending::Served);
    call(&mut shell, of_client(13, 1), Ending::Served);
}

#[test]
fn a_probe_that_does_not_reach_the_server_leaves_the_client_to_the_next() {
    for says_nothing in [Ending::Abandoned, failed(), Ending::TooMany { error: "429", retry_after: None }] {
        let mut shell = closed();
        shell.pass(secs(5));
        shell.ask(of_client(13, 1));
        shell.ask(Ask { urgent: false, ..of_client(14, 1) });
        shell.ask(of_client(15, 1));
        shell.end(13, says_nothing);
        assert!(shell.flying.contains_key(&15), "an urgent one");
        shell.end(15, Ending::Served);
        assert!(shell.flying.contains_key(&14));
    }
}

#[test]
fn who_waits_for_a_probe_gets_it_when_the_one_before_is_given_up() {
    let mut shell = closed();
    for key in [51, 52, 53, 54] {
        shell.ask(Ask { group: 7, ..ask(key) });
    }
    shell.pass(secs(5));
    // All slots are taken: none of these keys is the probe yet.
    for key in [13, 14, 15] {
        shell.ask(of_client(key, 1));
    }
    shell.end(51, Ending::Served);
    assert!(shell.flying.contains_key(&13), "the probe");
    shell.end(52, Ending::Served);
    shell.end(53, Ending::Served);
    assert_eq!(shell.flying.len(), 2, "14 and 15 wait for its end");
    for key in 60..62 {
        shell.ask(ask(key));
    }
    shell.end(13, Ending::Abandoned);
    assert!(shell.flying.contains_key(&14));
    shell.ask(ask(30));
    shell.withdraw(15);
    shell.end(14, Ending::Served);
    assert!(shell.waits.is_empty());
}

#[test]
fn a_candidate_that_withdraws_leaves_the_probe_to_one_who_was_parked() {
    let mut shell = Shell::new(2, 2);
    call(&mut shell, of_client(11, 1), refused());
    call(&mut shell, of_client(12, 1), refused());
    shell.pass(secs(5));
    shell.ask(of_client(13, 1));
    shell.ask(of_client(14, 1));
    shell.ask(of_client(15, 1));
    shell.ask(ask(51));
    shell.ask(ask(52));
    // 14 and 15 are parked. The probe's slot goes to key 52, the only key in a line.
    let parked = shell.gate.waiting.values().filter(|waiting| waiting.is_parked).count();
    assert_eq!(parked, 2);
    shell.gate.ended(shell.flying.remove(&13).unwrap(), Ending::Abandoned, shell.now);
    shell.gate.withdraw(shell.waits.remove(&14).unwrap());
    let decided: Vec<u64> =
        std::iter::from_fn(|| shell.gate.next_decided(shell.now)).map(|d| d.who).collect();
    assert_eq!(decided, [52]);
    shell.gate.ended(shell.flying.remove(&51).unwrap(), Ending::Served, shell.now);
    let decided: Vec<u64> =
        std::iter::from_fn(|| shell.gate.next_decided(shell.now)).map(|d| d.who).collect();
    assert_eq!(decided, [15]);
}

#[test]
fn closed_clients_are_not_forgotten_for_open_ones() {
    let mut shell = closed();
    for client in 100..100 + 3 * CLIENTS as u64 {
        call(&mut shell, ask(client), refused());
    }
    assert_eq!(shell.gate.clients.known.len(), CLIENTS);
    assert_eq!(shell.refuses(of_client(13, 1)), shell.now + secs(5));
    for client in 10_000..10_000 + CLIENTS as u64 {
        call(&mut shell, of_client(2 * client, client), refused());
        call(&mut shell, of_client(2 * client + 1, client), refused());
    }
    assert_eq!(shell.gate.clients.known.len(), CLIENTS);
    assert_eq!(shell.ask(of_client(13, 1)), Told::Granted, "when all are closed, the oldest is");
}

#[test]
fn a_client_that_nobody_refuses_any_more_is_not_remembered() {
    let mut shell = Shell::new(4, 4);
    call(&mut shell, of_client(1, 1), refused());
    call(&mut shell, of_client(1, 1), Ending::Served);
    assert!(shell.gate.clients.known.is_empty());
}

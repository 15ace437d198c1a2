//! The promised figures, in virtual time.

use std::collections::BTreeSet;

use super::*;

/// An auth server, and keys that call it.
struct World {
    shell: Shell,
    /// The time, the order, and the key of each call's end.
    ends: BTreeSet<(Duration, u64)>,
    calls: usize,
    begun: usize,
}

/// The duration and the result of a key's call that begins at this time.
type Server = dyn Fn(u64, Duration) -> (Duration, Ending<shell::Error>);

impl World {
    fn new(seed: u64) -> Self {
        let shell = Shell::with(GateSettings::with_calls(16), seed);
        Self { shell, ends: BTreeSet::new(), calls: 0, begun: 0 }
    }

    fn ask(&mut self, asks: Ask<u64>, server: &Server) {
        if !self.shell.flying.contains_key(&asks.who) && !self.shell.waits.contains_key(&asks.who) {
            self.shell.ask(asks);
            self.start_calls(server);
        }
    }

    /// Lets all calls end that are due by then.
    fn run_until(&mut self, time: Duration, server: &Server) {
        while let Some((at, who)) = self.ends.first().copied().filter(|(at, _)| *at <= time) {
            self.ends.remove(&(at, who));
            self.shell.now = at;
            let began = self.shell.flying[&who].at;
            self.shell.end(who, server(who, began).1);
            self.start_calls(server);
        }
        self.shell.now = time;
    }

    fn start_calls(&mut self, server: &Server) {
        for who in self.shell.began.drain(..) {
            let began = self.shell.flying[&who].at;
            self.ends.insert((began + server(who, began).0, who));
            self.begun += 1;
        }
        self.calls = self.calls.max(self.shell.flying.len());
    }
}

#[test]
fn a_minute_of_outage_costs_fewer_than_fifty_calls_however_many_keys_ask() {
    for length in [ms(1), ms(50), secs(10)] {
        for seed in 0..5 {
            let server = move |_, _| (length, failed());
            let mut world = World::new(seed);
            let start = world.shell.now;
            let mut random = fastrand::Rng::with_seed(seed);
            for step in 0..6_000 {
                world.run_until(start + ms(step * 10), &server);
                for _ in 0..10 {
                    world.ask(ask(random.u64(0..10_000)), &server);
                }
            }
            println!("calls of {length:?}: {} in a minute", world.begun);
            assert!(world.begun <= 50, "{} calls of {length:?}", world.begun);
            assert!(world.begun >= 16);
        }
    }
}

const FAST: u64 = 1;
const SLOW: u64 = 2;

/// One tenant fails at once, one after ten seconds, and the others are served.
fn two_broken(who: u64, _: Duration) -> (Duration, Ending<shell::Error>) {
    match who {
        FAST => (ms(20), failed()),
        SLOW => (secs(10), failed()),
        _ => (ms(50), Ending::Served),
    }
}

#[test]
fn two_broken_tenants_among_healthy_ones_never_close_it_in_an_hour() {
    for rhythm in [1, 7, 33, 300] {
        let mut world = World::new(rhythm);
        let start = world.shell.now;
        for step in 0..360_000_u64 {
            world.run_until(start + ms(step * 10), &two_broken);
            if step % 50 == 0 {
                world.ask(ask(100 + step / 50 % 500), &two_broken);
            }
            if step % rhythm == 0 {
                world.ask(ask(FAST), &two_broken);
                world.ask(ask(SLOW), &two_broken);
            }
        }
        assert_eq!(world.shell.gate.status().closures, 0, "every {rhythm} steps");
        assert!(world.begun > 8_000);
    }
}

#[test]
fn where_the_others_call_once_a_minute_they_close_it_at_most_while_nothing_is_known() {
    for rhythm in [10, 30, 100] {
        let mut world = World::new(rhythm);
        let start = world.shell.now;
        let mut at_the_start = 0;
        for step in 0..36_000_u64 {
            world.run_until(start + ms(step * 100), &two_broken);
            if step % rhythm == 0 {
                world.ask(ask(FAST), &two_broken);
                world.ask(ask(SLOW), &two_broken);
            }
            if step % 600 == 599 {
                world.ask(ask(100 + step / 600 % 20), &two_broken);
            }
            if step == 1_800 {
                at_the_start = world.shell.gate.status().closures;
                assert!(world.shell.is_open(), "three healthy calls");
            }
        }
        assert_eq!(world.shell.gate.status().closures, at_the_start);
        assert!(at_the_start <= 4, "{at_the_start}");
    }
}

#[test]
fn a_broken_tenant_that_asks_all_the_time_does_not_hold_it_shut_after_an_outage() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let start = world.shell.now;
        let recovers = start + secs(20);
        let server = move |who, began| {
            let (length, how) = two_broken(who, began);
            if began < recovers { (ms(20), failed()) } else { (length, how) }
        };
        let mut opened = None;
        for step in 0..6_000_u64 {
            world.run_until(start + ms(step * 10), &server);
            world.ask(ask(FAST), &server);
            world.ask(ask(SLOW), &server);
            if step % 50 == 0 {
                world.ask(ask(100 + step / 50 % 10), &server);
            }
            if world.shell.now > recovers && world.shell.is_open() {
                opened = opened.or(Some(world.shell.now.saturating_sub(recovers)));
            }
        }
        let opened = opened.expect("it opens");
        // The running pause, a slow broken key's probe, and the turn of the next key.
        assert!(opened < secs(22), "{opened:?}");
        assert!(world.shell.is_open(), "and stays open");
    }
}

#[test]
fn when_the_server_comes_back_ten_thousand_keys_are_served_sixteen_at_a_time() {
    let mut world = World::new(3);
    let start = world.shell.now;
    let recovers = start + secs(30);
    let server = move |_, began| (ms(50), if began < recovers { failed() } else { Ending::Served });
    let mut served_by = None;
    let mut left: BTreeSet<u64> = (0..10_000).collect();
    for step in 0..9_000_u64 {
        world.run_until(start + ms(step * 10), &server);
        if world.shell.now < recovers {
            (0..10).for_each(|key| world.ask(ask(step * 10 % 10_000 + key), &server));
            continue;
        }
        // All refused keys ask again when the pause is over, all at once.
        left.extend(std::mem::take(&mut world.shell.refused).into_keys());
        if !world.shell.is_closed() {
            for key in std::mem::take(&mut left) {
                world.ask(ask(key), &server);
                if !world.shell.flying.contains_key(&key) && !world.shell.waits.contains_key(&key) {
                    left.insert(key);
                }
            }
        }
        if left.is_empty() && world.shell.flying.is_empty() {
            served_by = Some(world.shell.now.saturating_sub(recovers));
            break;
        }
    }
    let served_by = served_by.expect("all are served");
    println!("served after {served_by:?}, at most {} calls at once", world.calls);
    assert_eq!(world.calls, 16);
    // The last pause, and 10,000 calls of 50 ms, 16 at a time.
    assert!(served_by < secs(10 + 1 + 32), "{served_by:?}");
}

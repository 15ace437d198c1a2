//! Random histories: in any order of events the shell's laws hold, and no key waits while a slot is free for it.

use std::collections::BTreeMap;

use super::*;

struct History {
    shell: Shell,
    random: fastrand::Rng,
    keys: BTreeMap<u64, Ask<u64>>,
    asked: usize,
    told_at_once: usize,
    withdrawn: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let calls = random.usize(1..6);
        let per_group = random.usize(1..=calls);
        let settings = GateSettings { per_group, ..GateSettings::with_calls(calls) };
        let (groups, clients) = (random.u64(1..12), random.u64(1..6));
        let of_key = |key| (key, Ask { group: key % groups, client: key % clients, ..ask(key) });
        Self {
            shell: Shell::with(settings, seed),
            random,
            keys: (0..30).map(of_key).collect(),
            asked: 0,
            told_at_once: 0,
            withdrawn: 0,
        }
    }

    fn any<V: Clone>(&mut self, of: &BTreeMap<u64, V>) -> Option<u64> {
        self.random.choice(of.keys().copied().collect::<Vec<_>>())
    }

    fn ending(&mut self, trouble: u32) -> Ending<shell::Error> {
        let retry_after = self.random.bool().then(|| secs(self.random.u64(0..90)));
        if self.random.u32(0..100) >= trouble {
            return if self.random.bool() { Ending::Served } else { Ending::KeyOnly };
        }
        match self.random.u32(0..8) {
            0 => Ending::TooMany { error: "429", retry_after },
            1 | 2 => Ending::ClientRefused("invalid_client"),
            3 => Ending::Abandoned,
            4 => Ending::EndpointFailed { error: FAILED, retry_after },
            _ => failed(),
        }
    }

    fn step(&mut self, trouble: u32) {
        match self.random.u32(0..20) {
            0..=8 => self.ask(),
            9..=15 => {
                let flying = self.shell.flying.clone();
                if let Some(who) = self.any(&flying) {
                    let how = self.ending(trouble);
                    self.shell.end(who, how);
                }
            }
            16 => {
                let waits = self.shell.waits.clone();
                if let Some(who) = self.any(&waits) {
                    self.shell.withdraw(who);
                    self.withdrawn += 1;
                }
            }
            17 => {
                let waits = self.shell.waits.clone();
                if let Some(who) = self.any(&waits) {
                    let patience = ms(self.random.u64(0..50_000));
                    self.shell.hurry(who, patience);
                }
            }
            _ => self.shell.pass(ms(self.random.u64(0..3_000))),
        }
    }

    fn ask(&mut self) {
        let mut asks = self.keys[&self.random.u64(0..30)];
        if self.shell.flying.contains_key(&asks.who) || self.shell.waits.contains_key(&asks.who) {
            return;
        }
        asks.urgent = self.random.bool();
        if self.random.u32(0..10) == 0 {
            asks.patience = ms(self.random.u64(0..5_000));
        }
        let before = self.shell.answers;
        self.asked += 1;
        match self.shell.ask(asks) {
            Told::Waits => {}
            Told::Granted if self.shell.answers > before => {}
            _ => self.told_at_once += 1,
        }
    }

    /// A key that waits has a reason: no slot, its group's share, a probe of the endpoint, a probe of its client,
    /// or another key of its client that is in line to probe.
    #[track_caller]
    fn nobody_waits_without_a_reason(&self) {
        let status = self.shell.gate.status();
        if status.calls >= status.limit || (status.closed.is_some() && status.calls > 0) {
            return;
        }
        for (who, number) in &self.shell.waits {
            let of_group = |permit: &&Permit| permit.group == self.keys[who].group;
            let group_is_full = self.shell.flying.values().filter(of_group).count() >= self.shell.share();
            let has_probe =
                self.shell.gate.clients.known.get(&self.keys[who].client).is_some_and(|client| {
                    client.breaker.shut.as_ref().is_some_and(|shut| shut.probe.is_some())
                });
            let is_parked = self.shell.gate.waiting[&number.0].is_parked;
            let of_client = |waiting: &&Waiting<u64>| waiting.ask.client == self.keys[who].client;
            let mut others = self.shell.gate.waiting.values().filter(of_client);
            let has_candidate = is_parked && others.any(|waiting| !waiting.is_parked);
            assert!(
                group_is_full || has_probe || has_candidate,
                "{who} waits, parked {is_parked}: {status:?}"
            );
        }
    }
}

#[test]
fn each_number_is_answered_once_and_nobody_waits_beside_a_free_slot() {
    let (mut closures, mut client_closures, mut asked) = (0, 0, 0);
    for seed in 0..400 {
        let mut history = History::new(seed);
        let trouble = history.random.choice([0, 10, 50, 90]).unwrap();
        for _ in 0..400 {
            history.step(trouble);
            history.nobody_waits_without_a_reason();
        }
        // In the end all calls are answered.
        while let Some(who) = history.shell.flying.keys().next().copied() {
            history.shell.end(who, Ending::Served);
        }
        assert!(history.shell.waits.is_empty(), "seed {seed}: {:?}", history.shell.waits);
        assert_eq!(
            history.asked,
            history.told_at_once + history.shell.answers + history.withdrawn,
            "seed {seed}"
        );
        let status = history.shell.gate.status();
        closures += status.closures;
        client_closures += status.client_closures;
        asked += history.asked;
        assert!(history.shell.gate.by_client.is_empty() && history.shell.gate.line.groups.is_empty());
    }
    println!("{asked} asks, {closures} closures, {client_closures} of clients");
    assert!(closures > 500 && client_closures > 200, "{closures}, {client_closures}");
}

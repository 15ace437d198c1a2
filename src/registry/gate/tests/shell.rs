//! A caller of the gate that fulfils its obligations, and checks what must hold at any time.

use std::collections::BTreeMap;

use super::*;

pub(super) type Error = &'static str;

pub(super) const FAILED: Error = "503";

/// The answer to a key. `Waits` becomes one of the others later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Granted,
    Waits,
    Refused(Refusal<Error>),
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A key that is its own group and its own client. A caller waits for it for ever.
pub(super) fn ask(key: u64) -> Ask<u64> {
    Ask { who: key, key, group: key, client: key, urgent: true, patience: Duration::MAX }
}

pub(super) fn failed() -> Ending<Error> {
    Ending::EndpointFailed { error: FAILED, retry_after: None }
}

pub(super) struct Shell {
    pub(super) gate: Gate<u64, Error>,
    pub(super) now: Duration,
    pub(super) flying: BTreeMap<u64, Permit>,
    pub(super) waits: BTreeMap<u64, Number>,
    /// The order in which calls began.
    pub(super) began: Vec<u64>,
    pub(super) refused: BTreeMap<u64, Refusal<Error>>,
    settings: GateSettings,
    groups: BTreeMap<u64, usize>,
    /// Answers to waiting keys. Each key gets exactly one.
    pub(super) answers: usize,
}

impl Shell {
    /// Without jitter.
    pub(super) fn new(calls: usize, per_group: usize) -> Self {
        Self::with(GateSettings { per_group, jitter: 0.0, ..GateSettings::with_calls(calls) }, 0)
    }

    pub(super) fn with(settings: GateSettings, seed: u64) -> Self {
        Self {
            gate: Gate::new(settings, seed),
            now: secs(1_000),
            flying: BTreeMap::new(),
            waits: BTreeMap::new(),
            began: Vec::new(),
            refused: BTreeMap::new(),
            settings,
            groups: BTreeMap::new(),
            answers: 0,
        }
    }

    #[track_caller]
    pub(super) fn ask(&mut self, ask: Ask<u64>) -> Told {
        assert!(!self.flying.contains_key(&ask.who) && !self.waits.contains_key(&ask.who));
        let told = match self.gate.ask(ask, self.now) {
            Answer::Granted(permit) => {
                self.fly(ask.who, permit);
                Told::Granted
            }
            Answer::Waits(number) => {
                self.waits.insert(ask.who, number);
                Told::Waits
            }
            Answer::Refused(refusal) => Told::Refused(refusal),
        };
        self.drain();
        if told == Told::Waits && self.flying.contains_key(&ask.who) { Told::Granted } else { told }
    }

    #[track_caller]
    pub(super) fn end(&mut self, who: u64, how: Ending<Error>) {
        let permit = self.flying.remove(&who).expect("a call is under way");
        *self.groups.get_mut(&permit.group).unwrap() -= 1;
        self.gate.ended(permit, how, self.now);
        self.drain();
    }

    #[track_caller]
    pub(super) fn withdraw(&mut self, who: u64) {
        self.gate.withdraw(self.waits.remove(&who).expect("it waits"));
        self.drain();
    }

    #[track_caller]
    pub(super) fn go_behind(&mut self, who: u64) {
        self.gate.go_behind(self.waits[&who]);
        self.drain();
    }

    #[track_caller]
    pub(super) fn hurry(&mut self, who: u64, patience: Duration) {
        if let Some(refusal) = self.gate.hurry(self.waits[&who], patience, self.now) {
            self.waits.remove(&who);
            self.answers += 1;
            self.refused.insert(who, refusal);
        }
        self.drain();
    }

    /// The maximum number of calls of a group.
    pub(super) fn share(&self) -> usize {
        let GateSettings { calls, per_group, .. } = self.settings;
        (per_group * self.gate.status().limit / calls).max(1)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// A whole call of a key, which must be let through.
    #[track_caller]
    pub(super) fn call(&mut self, key: u64, how: Ending<Error>) {
        assert_eq!(self.ask(ask(key)), Told::Granted, "key {key}");
        self.end(key, how);
    }

    #[track_caller]
    pub(super) fn refuses(&mut self, asks: Ask<u64>) -> Duration {
        match self.ask(asks) {
            Told::Refused(Refusal::Closed { until, .. } | Refusal::ClientClosed { until, .. }) => until,
            other => panic!("key {} is not refused: {other:?}", asks.key),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.gate.status().closed.is_some_and(|(_, until)| self.now < until)
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate.status().closed.is_none()
    }

    #[track_caller]
    fn drain(&mut self) {
        while let Some(Decided { who, number, how }) = self.gate.next_decided(self.now) {
            assert_eq!(self.waits.remove(&who), Some(number), "an answer to nobody");
            self.answers += 1;
            match how {
                Ok(permit) => self.fly(who, permit),
                Err(refusal) => {
                    self.refused.insert(who, refusal);
                }
            }
        }
        let status = self.gate.status();
        assert_eq!(status.calls, self.flying.len(), "a permit is lost");
        assert_eq!(status.urgent + status.ahead, self.waits.len(), "a place is lost");
    }

    #[track_caller]
    fn fly(&mut self, who: u64, permit: Permit) {
        assert!(!self.is_closed(), "a call though it is closed");
        *self.groups.entry(permit.group).or_default() += 1;
        let share = self.share();
        let of_group = self.groups[&permit.group];
        assert!(of_group <= share, "more than its share for group {}", permit.group);
        assert!(self.flying.len() < self.gate.status().limit, "more calls than the limit");
        assert!(self.flying.insert(who, permit).is_none());
        self.began.push(who);
    }
}

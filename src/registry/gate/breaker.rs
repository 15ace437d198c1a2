//! The rule when failures of several keys close the thing that they share: the endpoint, or a client.
//!
//! One key's failures prove nothing about the others. Two different keys that fail with no success in between do.
//!
//! **In doubt.** A key is in doubt if it has failed a probe since the last success, or is in its own trouble. When
//! the gate is half open, all other keys may probe at once, and a key in doubt only after `others_first`. If a key
//! in doubt fails again, nothing new is known: the gate stays half open, and only `others_first` moves. Therefore a
//! broken key closes the gate once with its probe and not again. All other keys that ask are let through. A key
//! that is alone gets its probe after a pause.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::{doubled, part};

/// The maximum number of remembered keys that failed since the last success. The oldest is forgotten.
const SUSPECTS: usize = 16;

/// If this many different keys in their own trouble fail with no success in between, their failures count again.
const CROWD: usize = 8;

/// The times for which it is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) longest: Duration,
    pub(super) jitter: f64,
}

/// The state at the time when a call was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) successes: u64,
    pub(super) probe: Option<u64>,
}

/// A failure that may close it.
#[derive(Debug)]
pub(super) struct Failed<E> {
    pub(super) key: u64,
    pub(super) sent: Sent,
    pub(super) error: E,
    /// The minimum time for which it is closed.
    pub(super) least: Duration,
    pub(super) now: Duration,
    /// A random number, 0.0 to 1.0.
    pub(super) dice: f64,
}

/// Whether a key may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Free,
    /// A probe is under way. Its end decides.
    Busy,
    Shut(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Breaker<E> {
    pauses: Pauses,
    /// The maximum number of remembered keys in their own trouble.
    memory: usize,
    pub(super) successes: u64,
    /// The keys that failed since the last success, newest last.
    pub(super) suspects: VecDeque<Suspect>,
    /// The last key that got a 429 since the last success.
    pub(super) limited: Option<u64>,
    /// The keys in their own trouble, newest last.
    pub(super) troubled: VecDeque<Troubled>,
    pub(super) shut: Option<Shut<E>>,
    /// How often it was closed since it was last open.
    pub(super) streak: u32,
    pub(super) closures: u64,
    probes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Suspect {
    pub(super) key: u64,
    /// Whether it failed as a probe.
    pub(super) probed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Troubled {
    pub(super) key: u64,
    /// The number of successes at its last remembered failure.
    pub(super) failed: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Shut<E> {
    pub(super) error: E,
    /// Closed before this moment, half open from this moment on.
    pub(super) until: Duration,
    /// Before this moment, keys in doubt leave the probe to other keys.
    pub(super) others_first: Duration,
    pub(super) probe: Option<u64>,
}

impl<E: Clone> Breaker<E> {
    pub(super) fn new(pauses: Pauses, memory: usize) -> Self {
        Self {
            pauses,
            memory,
            successes: 0,
            suspects: VecDeque::new(),
            limited: None,
            troubled: VecDeque::new(),
            shut: None,
            streak: 0,
            closures: 0,
            probes: 0,
        }
    }

    pub(super) fn pass(&self, key: u64, now: Duration) -> Pass {
        match &self.shut {
            Some(shut) if now < shut.until => Pass::Shut(shut.until),
            Some(shut) if shut.probe.is_some() => Pass::Busy,
            Some(shut) if now < shut.others_first && self.is_in_doubt(key) => Pass::Shut(shut.others_first),
            _ => Pass::Free,
        }
    }

    /// Whether it is half open, and the next call is the probe.
    pub(super) fn wants_probe(&self) -> bool {
        self.shut.as_ref().is_some_and(|shut| shut.probe.is_none())
    }

    /// Whether its state is the initial one.
    pub(super) fn is_blank(&self) -> bool {
        self.shut.is_none() && self.suspects.is_empty() && self.troubled.is_empty()
    }

    /// A call begins that [`pass`](Self::pass) let through. If it is half open, this call is the probe.
    pub(super) fn begin(&mut self) -> Sent {
        let mut sent = Sent { successes: self.successes, probe: None };
        if let Some(shut) = &mut self.shut {
            self.probes += 1;
            shut.probe = Some(self.probes);
            sent.probe = shut.probe;
        }
        sent
    }

    /// A call succeeded. Returns true if that opens it.
    pub(super) fn succeeded(&mut self, key: u64, sent: Sent) -> bool {
        self.successes += 1;
        self.limited = None;
        self.troubled.retain(|troubled| troubled.key != key);
        for suspect in std::mem::take(&mut self.suspects) {
            if suspect.key != key {
                self.remember_trouble(suspect.key);
            }
        }
        let opens = self.is_probe(sent);
        if opens {
            self.shut = None;
            self.streak = 0;
        }
        opens
    }

    /// A call failed. Returns true if that closes it.
    pub(super) fn failed(&mut self, failed: Failed<E>) -> bool {
        if self.is_probe(failed.sent) {
            return self.probe_failed(failed);
        }
        // A success has ended since this call was sent. Then the failure proves nothing about the shared thing.
        if self.shut.is_some() || failed.sent.successes != self.successes {
            return false;
        }
        let is_enough = if let Some(at) = self.position_in_trouble(failed.key) {
            self.troubled[at].failed = Some(self.successes);
            let is_failing = |troubled: &&Troubled| troubled.failed == Some(self.successes);
            self.troubled.iter().filter(is_failing).count() >= CROWD
        } else {
            self.suspect(failed.key, false);
            self.suspects.len() >= 2
        };
        is_enough && self.close(failed)
    }

    /// A key got a 429. Returns true if that closes it.
    pub(super) fn told_to_slow_down(&mut self, failed: Failed<E>) -> bool {
        if self.is_probe(failed.sent) {
            return self.probe_failed(failed);
        }
        if self.shut.is_some() {
            return false;
        }
        let is_second = self.limited.is_some_and(|key| key != failed.key);
        self.limited = Some(failed.key);
        is_second && self.close(failed)
    }

    /// A call ended without a result. Returns true if it was the probe.
    pub(super) fn says_nothing(&mut self, sent: Sent) -> bool {
        let was_probe = self.is_probe(sent);
        if was_probe && let Some(shut) = &mut self.shut {
            shut.probe = None;
        }
        was_probe
    }

    fn probe_failed(&mut self, failed: Failed<E>) -> bool {
        if !self.is_in_doubt(failed.key) {
            self.suspect(failed.key, true);
            return self.close(failed);
        }
        self.streak = self.streak.saturating_add(1);
        let pause = self.pause(&failed);
        if let Some(shut) = &mut self.shut {
            shut.probe = None;
            shut.others_first = failed.now.saturating_add(pause);
            shut.error = failed.error;
        }
        false
    }

    fn close(&mut self, failed: Failed<E>) -> bool {
        self.streak = self.streak.saturating_add(1);
        self.closures += 1;
        let until = failed.now.saturating_add(self.pause(&failed));
        let others_first = until.saturating_add(self.pauses.first);
        self.shut = Some(Shut { error: failed.error, until, others_first, probe: None });
        true
    }

    fn pause(&self, failed: &Failed<E>) -> Duration {
        let pause = doubled(self.pauses.first, self.streak, self.pauses.longest);
        part(pause, 1.0 - self.pauses.jitter * failed.dice).max(failed.least)
    }

    fn is_probe(&self, sent: Sent) -> bool {
        sent.probe.is_some() && self.shut.as_ref().is_some_and(|shut| shut.probe == sent.probe)
    }

    pub(super) fn is_in_doubt(&self, key: u64) -> bool {
        let has_failed = |suspect: &Suspect| suspect.key == key && suspect.probed;
        self.suspects.iter().any(has_failed) || self.position_in_trouble(key).is_some()
    }

    fn position_in_trouble(&self, key: u64) -> Option<usize> {
        self.troubled.iter().position(|troubled| troubled.key == key)
    }

    fn suspect(&mut self, key: u64, probed: bool) {
        if let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.key == key) {
            suspect.probed |= probed;
            return;
        }
        if self.suspects.len() == SUSPECTS {
            self.suspects.pop_front();
        }
        self.suspects.push_back(Suspect { key, probed });
    }

    fn remember_trouble(&mut self, key: u64) {
        if self.position_in_trouble(key).is_some() {
            return;
        }
        if self.troubled.len() >= self.memory {
            self.troubled.pop_front();
        }
        self.troubled.push_back(Troubled { key, failed: None });
    }
}

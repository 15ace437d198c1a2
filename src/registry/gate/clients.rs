//! The breakers of clients whose credentials are refused. A client without refusals is not remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::breaker::{Breaker, Failed, Pass, Pauses, Sent};

/// The maximum number of remembered clients. A closed client is forgotten only if all are closed.
pub(super) const CLIENTS: usize = 1_024;

/// The maximum number of remembered keys in their own trouble per client.
const TROUBLED: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct Clients<E> {
    pauses: Pauses,
    pub(super) known: BTreeMap<u64, Client<E>>,
    /// Whether it is shut, its age, and the client. The first one is forgotten first.
    ages: BTreeSet<(bool, u64, u64)>,
    next_age: u64,
    pub(super) closures: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Client<E> {
    pub(super) breaker: Breaker<E>,
    age: u64,
    is_shut: bool,
}

/// The changes by a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) closes: bool,
    /// This client is no longer remembered.
    pub(super) forgotten: Option<u64>,
}

impl<E: Clone> Clients<E> {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self { pauses, known: BTreeMap::new(), ages: BTreeSet::new(), next_age: 0, closures: 0 }
    }

    pub(super) fn pass(&self, client: u64, key: u64, now: Duration) -> Pass {
        self.known.get(&client).map_or(Pass::Free, |known| known.breaker.pass(key, now))
    }

    /// The error that closed it.
    pub(super) fn error(&self, client: u64) -> Option<E> {
        let shut = self.known.get(&client)?.breaker.shut.as_ref()?;
        Some(shut.error.clone())
    }

    pub(super) fn until(&self, client: u64) -> Option<Duration> {
        Some(self.known.get(&client)?.breaker.shut.as_ref()?.until)
    }

    pub(super) fn wants_probe(&self, client: u64) -> bool {
        self.known.get(&client).is_some_and(|known| known.breaker.wants_probe())
    }

    /// How many are closed or half open.
    pub(super) fn shut(&self) -> usize {
        self.ages.range((true, 0, 0)..).count()
    }

    pub(super) fn is_any_shut(&self) -> bool {
        self.ages.last().is_some_and(|(is_shut, ..)| *is_shut)
    }

    pub(super) fn begin(&mut self, client: u64) -> Sent {
        self.known.get_mut(&client).map(|known| known.breaker.begin()).unwrap_or_default()
    }

    /// Returns true if that opens the client.
    pub(super) fn succeeded(&mut self, client: u64, key: u64, sent: Sent) -> bool {
        let opens = self.known.get_mut(&client).is_some_and(|known| known.breaker.succeeded(key, sent));
        self.settle(client);
        opens
    }

    pub(super) fn says_nothing(&mut self, client: u64, sent: Sent) -> bool {
        self.known.get_mut(&client).is_some_and(|known| known.breaker.says_nothing(sent))
    }

    pub(super) fn failed(&mut self, client: u64, failed: Failed<E>) -> Refused {
        let forgotten = self.make_room_for(client);
        let Self { pauses, known, ages, next_age, .. } = self;
        let entry = known.entry(client).or_insert_with(|| {
            let age = *next_age;
            *next_age += 1;
            ages.insert((false, age, client));
            Client { breaker: Breaker::new(*pauses, TROUBLED), age, is_shut: false }
        });
        let closes = entry.breaker.failed(failed);
        self.closures += u64::from(closes);
        self.settle(client);
        Refused { closes, forgotten }
    }

    fn make_room_for(&mut self, client: u64) -> Option<u64> {
        if self.known.len() < CLIENTS || self.known.contains_key(&client) {
            return None;
        }
        let (.., oldest) = self.ages.pop_first()?;
        self.known.remove(&oldest);
        Some(oldest)
    }

    /// Keeps the order in which clients are forgotten, and forgets a client in the initial state.
    fn settle(&mut self, client: u64) {
        let Some(entry) = self.known.get_mut(&client) else { return };
        let place = (entry.is_shut, entry.age, client);
        if entry.breaker.is_blank() {
            self.ages.remove(&place);
            self.known.remove(&client);
        } else if entry.is_shut != entry.breaker.shut.is_some() {
            self.ages.remove(&place);
            entry.is_shut = !entry.is_shut;
            self.ages.insert((entry.is_shut, entry.age, client));
        }
    }
}

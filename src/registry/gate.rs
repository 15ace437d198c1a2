//! The keys that may call the auth server now. No I/O, no clock, no timer: times are inputs, decisions are outputs.
//!
//! The obligations of the caller:
//!
//! 1. After each [`ask`](Gate::ask), [`withdraw`](Gate::withdraw), [`hurry`](Gate::hurry),
//!    [`go_behind`](Gate::go_behind) and [`ended`](Gate::ended) call [`next_decided`](Gate::next_decided) until it
//!    returns `None`, and tell each key.
//!    Time alone decides nothing, so no timer is needed.
//! 2. Return each [`Permit`] by [`ended`](Gate::ended), even if its key no longer wants it, because a decision and
//!    its withdrawal may cross. Then the call was [abandoned](Ending::Abandoned).
//! 3. A refused key may ask again at the refusal's `until`, and not before.
//!
//! `line.rs` has the order of the keys, `breaker.rs` the rule when the endpoint or a client is closed.
//! `docs/registry.md` has the rules with their reasons.

mod breaker;
mod clients;
mod line;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::error::SourceError;

use breaker::{Breaker, Pass, Pauses};
use clients::Clients;
use line::{Line, Rank};
pub(crate) use words::{
    Answer, Ask, Decided, Ending, GateSettings, GateStatus, Lent, Number, Permit, Refusal,
};

/// The maximum number of remembered keys in their own trouble.
const TROUBLED: usize = 256;

/// The gate before one auth server, for all keys. The module's text has the obligations of its caller.
#[derive(Clone, Debug)]
pub(crate) struct Gate<T, E = SourceError> {
    settings: GateSettings,
    dice: fastrand::Rng,
    endpoint: Breaker<E>,
    clients: Clients<E>,
    line: Line,
    /// All waiting keys, by number: oldest first.
    waiting: BTreeMap<u64, Waiting<T>>,
    /// The same, by client.
    by_client: BTreeSet<(u64, Rank, u64)>,
    /// How many of them have waiters.
    urgent: usize,
    condemned: VecDeque<Condemned<E>>,
    next_number: u64,
    running: usize,
    limit: usize,
    /// The slots that the fleet lends this process. `None`: only its own limit counts.
    lent: Option<Lent>,
    cuts: u64,
    usual: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting<T> {
    ask: Ask<T>,
    /// It waits for the end of its client's probe, and is in no line.
    is_parked: bool,
}

/// All keys that waited when an endpoint or a client was closed. They are told one by one, so that the lock is
/// never held for all of them.
#[derive(Clone, Debug)]
struct Condemned<E> {
    /// The keys of this client, or of all clients.
    client: Option<u64>,
    /// The keys with a smaller number.
    before: u64,
    refusal: Refusal<E>,
}

/// The options of the first key in line.
enum Way<E> {
    Free,
    WaitsForEndpoint,
    WaitsForClient,
    Refused(Refusal<E>),
}

impl<T: Copy, E: Clone> Gate<T, E> {
    pub(crate) fn new(settings: GateSettings, seed: u64) -> Self {
        let GateSettings { pause, max_pause, refusal_pause, max_refusal_pause, jitter, .. } = settings;
        let of_clients = Pauses { first: refusal_pause, longest: max_refusal_pause, jitter };
        Self {
            dice: fastrand::Rng::with_seed(seed),
            endpoint: Breaker::new(Pauses { first: pause, longest: max_pause, jitter }, TROUBLED),
            clients: Clients::new(of_clients),
            line: Line::new(settings.per_group),
            waiting: BTreeMap::new(),
            by_client: BTreeSet::new(),
            urgent: 0,
            condemned: VecDeque::new(),
            next_number: 0,
            running: 0,
            limit: settings.calls.max(1),
            lent: None,
            cuts: 0,
            usual: None,
            settings,
        }
    }

    /// A key wants to make a call.
    pub(crate) fn ask(&mut self, ask: Ask<T>, now: Duration) -> Answer<E> {
        match self.way(&ask, now) {
            Way::Refused(refusal) => return Answer::Refused(refusal),
            // The first key in line goes before.
            Way::Free
                if self.has_slot(now) && self.line.first().is_none() && self.line.has_room(ask.group) =>
            {
                return Answer::Granted(self.grant(&ask, now));
            }
            _ => {}
        }
        let expected = self.expected(ask.group, None, now);
        if ask.urgent && expected > ask.patience {
            return Answer::Refused(Refusal::TooLong { expected, patience: ask.patience });
        }
        let number = self.next_number;
        self.next_number += 1;
        self.urgent += usize::from(ask.urgent);
        self.waiting.insert(number, Waiting { ask, is_parked: false });
        self.by_client.insert((ask.client, rank(&ask), number));
        self.line.join(rank(&ask), ask.group, number);
        Answer::Waits(Number(number))
    }

    /// The key no longer wants a call. A number that was decided is ignored.
    pub(crate) fn withdraw(&mut self, number: Number) {
        self.leave(number.0);
    }

    /// A caller waits for this key's token now, and for at most `patience`. A number that was decided is ignored.
    ///
    /// A key whose caller would give up before its turn leaves the line, and its refusal is returned.
    pub(crate) fn hurry(&mut self, number: Number, patience: Duration, now: Duration) -> Option<Refusal<E>> {
        let Number(number) = number;
        let waiting = self.waiting.get(&number).filter(|waiting| !waiting.ask.urgent)?;
        let expected = self.expected(waiting.ask.group, Some(number), now);
        if expected > patience {
            self.leave(number);
            return Some(Refusal::TooLong { expected, patience });
        }
        let waiting = self.waiting.get_mut(&number)?;
        (waiting.ask.urgent, waiting.ask.patience) = (true, patience);
        self.urgent += 1;
        let waiting = *waiting;
        self.change_rank(waiting, number, Rank::Ahead, Rank::Urgent);
        None
    }

    /// No caller waits for this key's token any more. A number that was decided is ignored.
    pub(crate) fn go_behind(&mut self, number: Number) {
        let Number(number) = number;
        let Some(waiting) = self.waiting.get_mut(&number).filter(|waiting| waiting.ask.urgent) else {
            return;
        };
        waiting.ask.urgent = false;
        self.urgent -= 1;
        let waiting = *waiting;
        self.change_rank(waiting, number, Rank::Urgent, Rank::Ahead);
    }

    fn change_rank(&mut self, waiting: Waiting<T>, number: u64, from: Rank, to: Rank) {
        let Waiting { ask, is_parked } = waiting;
        self.by_client.remove(&(ask.client, from, number));
        self.by_client.insert((ask.client, to, number));
        if !is_parked {
            self.line.leave(from, ask.group, number);
            self.line.join(to, ask.group, number);
        }
        self.send_one_to_probe(ask.client);
    }

    /// A call has ended. The permit is consumed, so that it cannot be returned twice.
    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn ended(&mut self, permit: Permit, how: Ending<E>, now: Duration) {
        self.running = self.running.saturating_sub(1);
        self.line.end(permit.group);
        if !matches!(how, Ending::Abandoned) {
            self.learn(now.saturating_sub(permit.at));
        }
        match how {
            Ending::Served | Ending::KeyOnly => {
                self.endpoint_answered(&permit);
                if self.clients.succeeded(permit.client, permit.key, permit.as_client) {
                    self.unpark_all(permit.client);
                }
            }
            Ending::ClientRefused(error) => {
                self.endpoint_answered(&permit);
                self.client_refused(&permit, error, now);
            }
            Ending::EndpointFailed { error, retry_after } => {
                self.client_not_heard(&permit);
                let failed = self.failure(&permit, error, retry_after, now);
                if self.endpoint.failed(failed) {
                    self.condemn_all();
                }
            }
            Ending::TooMany { error, retry_after } => {
                self.client_not_heard(&permit);
                self.slow_down(&permit);
                let failed = self.failure(&permit, error, retry_after, now);
                if self.endpoint.told_to_slow_down(failed) {
                    self.condemn_all();
                }
            }
            Ending::Abandoned => {
                self.client_not_heard(&permit);
                self.endpoint.says_nothing(permit.to_endpoint);
            }
        }
    }

    /// The next waiting key whose call is granted or refused.
    pub(crate) fn next_decided(&mut self, now: Duration) -> Option<Decided<T, E>> {
        if let Some(refused) = self.next_condemned() {
            return Some(refused);
        }
        while self.has_slot(now) {
            let number = self.line.first()?;
            let ask = self.waiting.get(&number)?.ask;
            let how = match self.way(&ask, now) {
                Way::WaitsForEndpoint => return None,
                Way::WaitsForClient => {
                    self.park(number);
                    continue;
                }
                Way::Refused(refusal) => {
                    self.leave(number);
                    Err(refusal)
                }
                Way::Free => {
                    // The call begins before the place is removed, so that its group's turn is over.
                    let permit = self.grant(&ask, now);
                    self.leave(number);
                    Ok(permit)
                }
            };
            return Some(Decided { who: ask.who, number: Number(number), how });
        }
        None
    }

    /// Sets the number of calls at once here. `None`: the own limit. Calls under way continue.
    #[cfg(feature = "shared")]
    pub(crate) fn lend(&mut self, lent: Option<Lent>) {
        self.lent = lent;
        self.limit_groups();
    }

    /// Sets the number of slots in the fleet. None is lent yet, and no call is made before.
    #[cfg(feature = "shared")]
    pub(crate) fn join_fleet(&mut self, slots: usize) {
        self.line.expect_for_groups(self.part_of(slots));
        self.lend(Some(Lent::default()));
    }

    /// Sets the limit of calls, and with it the limit of each group.
    fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.limit_groups();
    }

    /// A group has the same part of the calls that are allowed now as of all calls.
    fn limit_groups(&mut self) {
        let reach = self.lent.map_or(usize::MAX, |lent| lent.reach);
        let part = self.part_of(reach.min(self.limit));
        self.line.limit_groups(part);
    }

    /// The maximum number of a group's calls if this many calls are allowed at once.
    fn part_of(&self, slots: usize) -> usize {
        let GateSettings { calls, per_group, .. } = self.settings;
        // No product of two `usize` is too large for a `u128`, and the part is at most `per_group`.
        let part = per_group as u128 * slots.min(calls) as u128 / calls.max(1) as u128;
        usize::try_from(part).unwrap_or(per_group)
    }

    /// How many calls are under way, and how many could be if the fleet lent all its slots.
    #[cfg(feature = "shared")]
    pub(crate) fn demand(&self) -> (usize, usize) {
        (self.running, self.line.useful.min(self.limit).max(self.running))
    }

    pub(crate) fn status(&self) -> GateStatus<E> {
        GateStatus {
            calls: self.running,
            limit: self.limit,
            urgent: self.urgent,
            ahead: self.waiting.len() - self.urgent,
            closed: self.endpoint.shut.as_ref().map(|shut| (shut.error.clone(), shut.until)),
            closures: self.endpoint.closures,
            client_closures: self.clients.closures,
            clients_shut: self.clients.shut(),
            usual: self.usual,
        }
    }

    /// The status in numbers: calls, limit, waiting keys, whether it is closed, closed clients, closures of the
    /// endpoint and of clients.
    #[cfg(feature = "metrics")]
    pub(crate) fn figures(&self) -> [u64; 7] {
        let counts = [self.running, self.limit, self.waiting.len()].map(|count| count as u64);
        let [calls, limit, waiting] = counts;
        let is_closed = u64::from(self.endpoint.shut.is_some());
        let clients_shut = self.clients.shut() as u64;
        let closures = (self.endpoint.closures, self.clients.closures);
        [calls, limit, waiting, is_closed, clients_shut, closures.0, closures.1]
    }

    /// Whether the endpoint is closed or half open, and whether a client is.
    pub(crate) fn is_shut(&self) -> (bool, bool) {
        (self.endpoint.shut.is_some(), self.clients.is_any_shut())
    }

    fn has_slot(&self, now: Duration) -> bool {
        let lent = self.lent.map_or(usize::MAX, |lent| if now < lent.until { lent.slots } else { 0 });
        self.running < self.limit && self.running < lent
    }

    fn way(&self, ask: &Ask<T>, now: Duration) -> Way<E> {
        let endpoint = self.endpoint.pass(ask.key, now);
        if let (Pass::Shut(until), Some(shut)) = (endpoint, &self.endpoint.shut) {
            return Way::Refused(Refusal::Closed { error: shut.error.clone(), until });
        }
        match self.clients.pass(ask.client, ask.key, now) {
            Pass::Shut(until) => match self.clients.error(ask.client) {
                Some(error) => Way::Refused(Refusal::ClientClosed { error, until }),
                None => Way::Free,
            },
            _ if endpoint == Pass::Busy => Way::WaitsForEndpoint,
            Pass::Busy => Way::WaitsForClient,
            Pass::Free => Way::Free,
        }
    }

    fn grant(&mut self, ask: &Ask<T>, now: Duration) -> Permit {
        self.running += 1;
        self.line.begin(ask.group, rank(ask));
        Permit {
            key: ask.key,
            group: ask.group,
            client: ask.client,
            at: now,
            cuts: self.cuts,
            to_endpoint: self.endpoint.begin(),
            as_client: self.clients.begin(ask.client),
        }
    }

    /// Takes a number out of all lines.
    fn leave(&mut self, number: u64) {
        let Some(Waiting { ask, is_parked }) = self.waiting.remove(&number) else { return };
        self.urgent -= usize::from(ask.urgent);
        self.by_client.remove(&(ask.client, rank(&ask), number));
        if !is_parked {
            self.line.leave(rank(&ask), ask.group, number);
        }
        self.send_one_to_probe(ask.client);
    }
}

fn rank<T>(ask: &Ask<T>) -> Rank {
    if ask.urgent { Rank::Urgent } else { Rank::Ahead }
}

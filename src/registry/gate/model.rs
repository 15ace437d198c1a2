//! The gate under a model checker: three keys of two clients and two groups, in every order of events.
//!
//! States are compared by the parts that decide the future, and not by ascending numbers. Therefore histories of
//! any length have finitely many states, and all of them are visited.

mod machines;

use std::hash::{Hash, Hasher};
use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::breaker::{Breaker, Sent};
use super::*;

const KEYS: usize = 3;
const CALLS: usize = 2;

/// The keys' groups and clients.
const GROUPS: [u64; KEYS] = [0, 1, 0];
const CLIENTS: [u64; KEYS] = [0, 0, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum How {
    Served,
    Failed,
    Limited,
    Refused,
    Abandoned,
}

/// How each key's calls may end, and with which lines.
#[derive(Clone, Copy, Debug)]
struct World {
    ends: [&'static [How]; KEYS],
    with_ahead: bool,
    with_withdrawals: bool,
    /// The events that must be seen.
    sights: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Ask(usize, bool),
    Withdraw(usize),
    Hurry(usize),
    End(usize, How),
    Pass,
}

#[derive(Clone, Debug)]
struct State {
    gate: Gate<usize, ()>,
    now: u64,
    flying: [Option<Permit>; KEYS],
    waits: [Option<(Number, bool)>; KEYS],
    books: Books,
    breach: Option<&'static str>,
    seen: Option<&'static str>,
}

/// The laws' own records, separate from the gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Books {
    /// A success has ended since this key's call was sent.
    is_stale: [bool; KEYS],
    /// The key failed since the last success, by a call that was sent since then, and is not in its own trouble.
    counts: [bool; KEYS],
    in_trouble: [bool; KEYS],
    limited: [bool; KEYS],
    /// Refused since the last success of its client.
    refused: [bool; KEYS],
    /// The key has failed in any way since its own last success.
    is_faulty: [bool; KEYS],
    /// How often it closed the endpoint since the last success.
    closed: [u8; KEYS],
    probe: Option<usize>,
}

/// The part of the state that decides how it continues.
#[derive(PartialEq, Eq, Hash)]
struct Outline {
    gate: GateOutline,
    books: Books,
    breach: Option<&'static str>,
    seen: Option<&'static str>,
}

#[derive(PartialEq, Eq, Hash)]
struct GateOutline {
    waits: Vec<(usize, bool, bool)>,
    flying: Vec<Option<(SentOutline, SentOutline, bool)>>,
    turns: Vec<(Rank, u64)>,
    endpoint: BreakerOutline,
    clients: Vec<(u64, BreakerOutline)>,
    limit: usize,
}

/// The same, with the permits that were given out.
fn outline_of_gate<'a, T: Copy, E: Clone>(
    gate: &Gate<T, E>,
    now: Duration,
    key_of: fn(T) -> usize,
    permits: impl Iterator<Item = Option<&'a Permit>>,
) -> GateOutline {
    let of_permit = |permit: &Permit| {
        let client = gate.clients.known.get(&permit.client);
        let as_client = client.map(|client| outline_of_sent(permit.as_client, &client.breaker));
        let to_endpoint = outline_of_sent(permit.to_endpoint, &gate.endpoint);
        (to_endpoint, as_client.unwrap_or_default(), permit.cuts == gate.cuts)
    };
    let of_waiting = |waiting: &Waiting<T>| (key_of(waiting.ask.who), waiting.ask.urgent, waiting.is_parked);
    let of_client = |(client, known): (&u64, &clients::Client<E>)| (*client, outline_of(&known.breaker, now));
    GateOutline {
        waits: gate.waiting.values().map(of_waiting).collect(),
        flying: permits.map(|permit| permit.map(of_permit)).collect(),
        turns: gate.line.turns.iter().map(|((rank, _), group)| (*rank, *group)).collect(),
        endpoint: outline_of(&gate.endpoint, now),
        clients: gate.clients.known.iter().map(of_client).collect(),
        limit: gate.limit,
    }
}

/// Whether a success came since, whether it is the probe.
type SentOutline = (bool, bool);

#[derive(PartialEq, Eq, Hash)]
struct BreakerOutline {
    suspects: Vec<(u64, bool)>,
    troubled: Vec<(u64, bool)>,
    limited: Option<u64>,
    streak: u32,
    shut: Option<(Duration, Duration, bool)>,
}

fn outline_of<E>(breaker: &Breaker<E>, now: Duration) -> BreakerOutline {
    let mut suspects: Vec<_> = breaker.suspects.iter().map(|suspect| (suspect.key, suspect.probed)).collect();
    let mut troubled: Vec<_> = breaker
        .troubled
        .iter()
        .map(|troubled| (troubled.key, troubled.failed == Some(breaker.successes)))
        .collect();
    suspects.sort_unstable();
    troubled.sort_unstable();
    let left = |time: Duration| time.saturating_sub(now);
    let shut = breaker.shut.as_ref();
    BreakerOutline {
        suspects,
        troubled,
        limited: breaker.limited,
        // A third closure lasts as long as the second.
        streak: breaker.streak.min(2),
        shut: shut.map(|shut| (left(shut.until), left(shut.others_first), shut.probe.is_some())),
    }
}

fn outline_of_sent<E>(sent: Sent, breaker: &Breaker<E>) -> SentOutline {
    let is_probe = sent.probe.is_some() && breaker.shut.as_ref().is_some_and(|shut| shut.probe == sent.probe);
    (sent.successes == breaker.successes, is_probe)
}

impl State {
    fn time(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    fn outline(&self) -> Outline {
        let permits = self.flying.iter().map(Option::as_ref);
        Outline {
            gate: outline_of_gate(&self.gate, self.time(), |key| key, permits),
            books: self.books.clone(),
            breach: self.breach,
            seen: self.seen,
        }
    }

    fn is_shut(&self) -> bool {
        self.gate.endpoint.shut.is_some()
    }

    fn is_closed(&self) -> bool {
        self.gate.endpoint.shut.as_ref().is_some_and(|shut| self.time() < shut.until)
    }

    fn is_client_closed(&self, client: u64) -> bool {
        self.gate.clients.until(client).is_some_and(|until| self.time() < until)
    }

    fn client_has_probe(&self, client: u64) -> bool {
        let shut = self.gate.clients.known.get(&client).and_then(|known| known.breaker.shut.as_ref());
        shut.is_some_and(|shut| shut.probe.is_some())
    }

    fn group_has_room(&self, key: usize) -> bool {
        (0..KEYS).all(|other| GROUPS[other] != GROUPS[key] || self.flying[other].is_none())
    }

    /// The key has a call, or is in a line.
    fn is_useful(&self, key: usize) -> bool {
        let is_in_line = |waiting: &Waiting<usize>| waiting.ask.who == key && !waiting.is_parked;
        self.flying[key].is_some() || self.gate.waiting.values().any(is_in_line)
    }

    fn breaks(&mut self, law: &'static str) {
        self.breach = self.breach.or(Some(law));
    }

    fn require(&mut self, holds: bool, law: &'static str) {
        if !holds {
            self.breaks(law);
        }
    }

    fn fly(&mut self, key: usize, permit: Permit) {
        self.require(!self.is_closed(), "nobody is let through while it is closed");
        self.require(!self.is_client_closed(CLIENTS[key]), "no key of a closed client is let through");
        self.require(self.group_has_room(key), "a group has its share and no more");
        self.require(self.flying.iter().flatten().count() < self.gate.limit, "no more calls than the limit");
        if self.is_shut() {
            self.require(self.books.probe.is_none(), "one probe at a time");
            self.books.probe = Some(key);
            if self.books.is_faulty[key] && self.books.closed[key] > 0 {
                self.seen = Some("a key that failed a probe has another one");
            }
        }
        self.books.is_stale[key] = false;
        self.flying[key] = Some(permit);
    }

    fn refused(&mut self, key: usize, refusal: &Refusal<()>, at_once: bool) {
        let time = self.time();
        match refusal {
            Refusal::Closed { until, .. } => {
                self.require(self.is_shut() && *until > time, "who is refused may come later");
                if at_once && !self.is_closed() {
                    self.require(self.books.is_faulty[key], "a key without a fault probes, or waits");
                    self.require(self.books.probe.is_none(), "who asks while somebody probes waits");
                }
            }
            Refusal::ClientClosed { until, .. } => {
                self.require(
                    self.gate.clients.until(CLIENTS[key]).is_some(),
                    "an open client refuses nobody",
                );
                self.require(*until > time, "who is refused may come later");
            }
            Refusal::TooLong { .. } => self.breaks("everybody is patient"),
        }
    }

    fn ask(&mut self, key: usize, urgent: bool) {
        let ask = Ask {
            who: key,
            key: key as u64,
            group: GROUPS[key],
            client: CLIENTS[key],
            urgent,
            patience: Duration::MAX,
        };
        let was_closed = self.is_closed() || self.is_client_closed(CLIENTS[key]);
        match self.gate.ask(ask, self.time()) {
            Answer::Granted(permit) => self.fly(key, permit),
            Answer::Waits(number) => {
                self.require(!was_closed, "who asks while it is closed is refused");
                self.waits[key] = Some((number, urgent));
            }
            Answer::Refused(refusal) => self.refused(key, &refusal, true),
        }
    }

    fn end(&mut self, key: usize, how: How) {
        let Some(permit) = self.flying[key].take() else { return };
        let was_probe = self.is_shut() && self.books.probe == Some(key);
        let was_open = !self.is_shut();
        if was_probe {
            self.books.probe = None;
        }
        self.note(key, how, was_open || was_probe);
        let client_was_open = self.gate.clients.until(CLIENTS[key]).is_none();
        let closures = (self.gate.endpoint.closures, self.gate.clients.closures);
        let ending = match how {
            How::Served => Ending::Served,
            How::Failed => Ending::EndpointFailed { error: (), retry_after: None },
            How::Limited => Ending::TooMany { error: (), retry_after: None },
            How::Refused => Ending::ClientRefused(()),
            How::Abandoned => Ending::Abandoned,
        };
        self.gate.ended(permit, ending, self.time());
        if self.gate.endpoint.closures > closures.0 {
            self.closed_by(key, was_open, was_probe);
        }
        if self.gate.clients.closures > closures.1 {
            let of_client = |other: &usize| CLIENTS[*other] == CLIENTS[key] && self.books.refused[*other];
            let evidence = (0..KEYS).filter(of_client).count();
            self.require(!client_was_open || evidence >= 2, "two keys of a client close it");
            self.seen = Some("a client is closed");
        }
        if was_probe && matches!(how, How::Served | How::Refused) {
            self.require(!self.is_shut(), "a probe that is answered opens it");
            self.seen = Some("it opens again");
        }
    }

    fn closed_by(&mut self, key: usize, was_open: bool, was_probe: bool) {
        let count = |of: &[bool; KEYS]| of.iter().filter(|of| **of).count();
        let is_evident = count(&self.books.counts) >= 2 || count(&self.books.limited) >= 2;
        self.require(!was_open || is_evident, "two different keys close it");
        self.require(was_open || was_probe, "who does not probe does not close it again");
        self.books.closed[key] += 1;
        self.require(self.books.closed[key] <= 2, "a key closes it once with its probes");
        self.seen = Some(if was_open { "it is closed" } else { "a probe closes it again" });
    }

    fn note(&mut self, key: usize, how: How, is_heard: bool) {
        let books = &mut self.books;
        match how {
            How::Abandoned => return,
            How::Failed => {
                books.counts[key] |= is_heard && !books.is_stale[key] && !books.in_trouble[key];
                books.is_faulty[key] = true;
                return;
            }
            How::Limited => {
                books.limited[key] = true;
                books.is_faulty[key] = true;
                return;
            }
            How::Served => {
                books.is_faulty[key] = false;
                for other in (0..KEYS).filter(|other| CLIENTS[*other] == CLIENTS[key]) {
                    books.refused[other] = false;
                }
            }
            How::Refused => {
                books.refused[key] = true;
            }
        }
        // Failures as a probe count for trouble too. They are in `closed`.
        for other in 0..KEYS {
            books.in_trouble[other] |= books.counts[other];
        }
        books.in_trouble[key] = false;
        (books.counts, books.limited, books.closed) = Default::default();
        books.is_stale = [true; KEYS];
    }

    fn drain(&mut self) {
        while let Some(Decided { who, number, how }) = self.gate.next_decided(self.time()) {
            let Some((waited, urgent)) = self.waits[who].take() else {
                return self.breaks("who does not wait is told nothing");
            };
            self.require(waited == number, "each number is answered once");
            match how {
                Err(refusal) => self.refused(who, &refusal, false),
                Ok(permit) => {
                    let goes_before = |other: &usize| {
                        self.waits[*other].is_some_and(|(_, urgent)| urgent)
                            && self.group_has_room(*other)
                            && !self.client_has_probe(CLIENTS[*other])
                    };
                    let is_overtaken = !urgent && (0..KEYS).any(|other| goes_before(&other));
                    self.require(!is_overtaken, "urgent ones go first");
                    self.fly(who, permit);
                }
            }
        }
        self.check_rest();
    }

    /// The conditions that hold when all decisions are made.
    fn check_rest(&mut self) {
        let calls = self.flying.iter().flatten().count();
        self.require(self.gate.running == calls, "no permit is lost");
        self.require(self.gate.waiting.len() == self.waits.iter().flatten().count(), "no place is lost");
        self.require((1..=CALLS).contains(&self.gate.limit), "the limit stays in its bounds");
        // A group may have one call.
        let mut useful: Vec<u64> =
            (0..KEYS).filter(|key| self.is_useful(*key)).map(|key| GROUPS[key]).collect();
        useful.sort_unstable();
        useful.dedup();
        self.require(self.gate.line.useful == useful.len(), "calls that could be made are counted");
        for key in (0..KEYS).filter(|key| self.waits[*key].is_some()).collect::<Vec<_>>() {
            self.require(!self.is_closed(), "nobody waits while it is closed");
            self.require(!self.is_client_closed(CLIENTS[key]), "nobody waits for a closed client");
            let endpoint_busy = self.is_shut() && self.books.probe.is_some();
            let has_reason = calls >= self.gate.limit
                || endpoint_busy
                || !self.group_has_room(key)
                || self.client_has_probe(CLIENTS[key]);
            self.require(has_reason, "nobody waits beside a free slot");
        }
        if self.gate.limit < CALLS {
            self.seen = self.seen.or(Some("the limit is cut"));
        }
        if self.gate.waiting.values().any(|waiting| waiting.is_parked) {
            self.seen = self.seen.or(Some("a key waits for its client's probe"));
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.outline() == other.outline()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.outline().hash(state);
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let settings = GateSettings {
            per_group: 1,
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(2),
            refusal_pause: Duration::from_secs(1),
            max_refusal_pause: Duration::from_secs(2),
            jitter: 0.0,
            ..GateSettings::with_calls(CALLS)
        };
        vec![State {
            gate: Gate::new(settings, 0),
            now: 0,
            flying: [const { None }; KEYS],
            waits: [None; KEYS],
            books: Books::default(),
            breach: None,
            seen: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.breach.is_some() {
            return;
        }
        for key in 0..KEYS {
            if state.flying[key].is_some() {
                actions.extend(self.ends[key].iter().map(|how| Action::End(key, *how)));
            } else if let Some((_, urgent)) = state.waits[key] {
                if self.with_withdrawals {
                    actions.push(Action::Withdraw(key));
                }
                if !urgent {
                    actions.push(Action::Hurry(key));
                }
            } else {
                actions.push(Action::Ask(key, true));
                if self.with_ahead {
                    actions.push(Action::Ask(key, false));
                }
            }
        }
        let breakers =
            state.gate.clients.known.values().map(|known| &known.breaker).chain([&state.gate.endpoint]);
        let mut shut = breakers.filter_map(|breaker| breaker.shut.as_ref());
        if shut.any(|shut| shut.others_first > state.time()) {
            actions.push(Action::Pass);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.seen = None;
        match action {
            Action::Ask(key, urgent) => state.ask(key, urgent),
            Action::Withdraw(key) => {
                let (number, _) = state.waits[key].take()?;
                state.gate.withdraw(number);
            }
            Action::Hurry(key) => {
                let (number, urgent) = state.waits[key].as_mut()?;
                *urgent = true;
                let (number, time) = (*number, state.time());
                let refused = state.gate.hurry(number, Duration::MAX, time);
                state.require(refused.is_none(), "everybody is patient");
            }
            Action::End(key, how) => state.end(key, how),
            Action::Pass => state.now += 1,
        }
        state.drain();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("no law is broken", |_, state: &State| state.breach.is_none()),
            Property::always("one failing key never closes it", |world: &World, state: &State| {
                let fails = |ends: &&&[How]| ends.contains(&How::Failed) || ends.contains(&How::Limited);
                world.ends.iter().filter(fails).count() > 1 || !state.is_shut()
            }),
        ];
        macro_rules! sight {
            ($($sight:literal)*) => { $(
                properties.push(Property::sometimes($sight, |_, state: &State| state.seen == Some($sight)));
            )* };
        }
        sight! {
            "it is closed" "it opens again" "a probe closes it again" "the limit is cut" "a client is closed"
            "a key that failed a probe has another one" "a key waits for its client's probe"
        }
        properties
    }
}

/// Small worlds, all of whose states are visited.
fn worlds() -> Vec<World> {
    const GOOD: &[How] = &[How::Served, How::Abandoned];
    const FAILS: &[How] = &[How::Served, How::Failed, How::Abandoned];
    const BROKEN: &[How] = &[How::Failed, How::Limited, How::Abandoned];
    const LIMITED: &[How] = &[How::Served, How::Limited];
    const REFUSED: &[How] = &[How::Served, How::Refused, How::Abandoned];
    const ALL: &[How] = &[How::Served, How::Failed, How::Refused];
    let closes = &[
        "it is closed",
        "it opens again",
        "a probe closes it again",
        "a key that failed a probe has another one",
    ];
    let of_client = &["a client is closed", "a key waits for its client's probe"];
    let world = World { ends: [GOOD; KEYS], with_ahead: true, with_withdrawals: true, sights: &[] };
    vec![
        world,
        World { ends: [BROKEN, GOOD, GOOD], ..world },
        World { ends: [FAILS; KEYS], sights: closes, with_ahead: false, with_withdrawals: false },
        World { ends: [FAILS, FAILS, GOOD], sights: closes, ..world },
        World {
            ends: [LIMITED; KEYS],
            sights: &["it is closed", "the limit is cut"],
            with_withdrawals: false,
            ..world
        },
        World { ends: [REFUSED, REFUSED, GOOD], sights: of_client, ..world },
        World { ends: [ALL, ALL, GOOD], sights: of_client, with_ahead: false, with_withdrawals: false },
    ]
}

#[test]
fn no_law_is_broken_in_any_state() {
    let (mut states, mut unique) = (0, 0);
    for world in worlds() {
        let checker = world.checker().spawn_bfs().join();
        println!("{:?}: {} states", world.ends, checker.unique_state_count());
        states += checker.state_count();
        unique += checker.unique_state_count();
        for property in ["no law is broken", "one failing key never closes it"] {
            if let Some(path) = checker.discovery(property) {
                let law = path.last_state().breach.unwrap_or(property);
                let way: Vec<Action> = path.into_actions();
                panic!("world {:?} breaks the law \"{law}\" by {way:?}", world.ends);
            }
        }
        for sight in world.sights {
            assert!(checker.discovery(sight).is_some(), "{world:?}: never seen: {sight}");
        }
    }
    println!("{} worlds, {unique} states, {states} transitions", worlds().len());
}

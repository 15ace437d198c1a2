//! Two real machines of two keys at one gate, in every order of events: a shard's actions for both.
//!
//! The first key's shard asks the gate. The second key belongs to another shard: the gate's decisions for it arrive
//! later, so that an answer and its withdrawal may cross. One caller waits for a key at a time. The removal of a
//! key stands for a removal, an eviction and a shutdown.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use stateright::{Checker, Model, Property};

use super::super::*;
use super::{GateOutline, outline_of_gate};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::flight::{Caller, Effect, Event, Machine, Note, Outcome, Refusal as Refused};
use crate::policy::RefreshPolicy;
use crate::queue::Waiter;
use crate::token::Token;

const KEYS: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The answers of the auth server. The absence of an answer means that it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reply {
    Token,
    Down,
    /// 429, with a `Retry-After`.
    Limited,
    Refused,
    Panic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Want(usize),
    /// A reader notices that the token is near its end.
    NearEnd(usize),
    Answer(usize, Reply),
    Remove(usize),
    /// The second key's shard gets the gate's decision.
    Deliver,
    /// A second passes, and due alarms ring.
    Second,
}

struct World {
    calls: usize,
    attempts: usize,
    /// Whether keys refresh ahead.
    with_ahead: bool,
    /// Keys that may be removed.
    goes: &'static [usize],
    replies: &'static [Reply],
    /// The events that must be seen.
    sights: &'static [&'static str],
    seen: Mutex<BTreeSet<&'static str>>,
}

/// A waiter.
#[derive(Clone, Copy, Debug)]
struct Seat(u64);

impl Waiter for Seat {}

impl Caller for Seat {
    fn decide(&mut self, _: &Outcome) {}
    fn is_gone(&self) -> bool {
        false
    }
}

/// A key in its shard.
#[derive(Clone)]
struct OneKey {
    machine: Machine<Seat>,
    generation: u32,
    call: Option<Call>,
    permit: Option<Permit>,
    asked: Option<Number>,
    waits: Option<u64>,
    /// How often the other key was let through since this one is in line with a waiter.
    overtaken: u8,
    /// Before this moment the server must not be called for this key.
    not_before: Duration,
    /// The server said so in this key's last call, and the other key's last call has failed.
    failed: bool,
}

#[derive(Clone, Copy)]
struct Call {
    id: u64,
    sent: Timestamp,
    deadline: Duration,
}

/// The gate's decision for a key.
#[derive(Clone, Debug)]
struct Decision {
    who: (usize, u32),
    number: Option<Number>,
    how: Result<Permit, Refusal>,
}

#[derive(Clone)]
struct State {
    policy: Arc<RefreshPolicy>,
    /// The lifetime of the source's tokens.
    lifetime: Duration,
    keys: [OneKey; KEYS],
    gate: Gate<(usize, u32)>,
    now: Timestamp,
    /// Decisions on their way to the second key's shard.
    mail: VecDeque<Decision>,
    seats: u64,
    breach: Option<&'static str>,
    seen: Vec<&'static str>,
    /// The key of the whole state.
    outline: Option<Arc<Outline>>,
}

static CLOCK: LazyLock<Arc<dyn Clock>> = LazyLock::new(|| Arc::new(SystemClock));

/// The policies by their number of attempts.
static POLICIES: LazyLock<[Arc<RefreshPolicy>; 2]> = LazyLock::new(|| [policy(1), policy(2)]);

fn policy(attempts: u32) -> Arc<RefreshPolicy> {
    let policy = RefreshPolicy::default().jitter(0.0).settle(Duration::ZERO).backoff(Duration::ZERO);
    let policy =
        policy.attempts(attempts).attempt_timeout(SECOND).flight_timeout(SECOND * 2).wait_timeout(SECOND * 2);
    let policy = policy.cooldown(SECOND).max_cooldown(SECOND).terminal_cooldown(SECOND);
    Arc::new(policy.refresh_ahead(SECOND).min_validity(Duration::ZERO))
}

fn machine(policy: &Arc<RefreshPolicy>) -> Machine<Seat> {
    Machine::new(Arc::clone(policy), 7).behind_a_gate()
}

impl State {
    fn new(world: &World) -> Self {
        let policy = &POLICIES[world.attempts - 1];
        let settings = GateSettings {
            per_group: 1,
            pause: SECOND,
            max_pause: SECOND,
            jitter: 0.0,
            ..GateSettings::with_calls(world.calls)
        };
        let key = OneKey {
            machine: machine(policy),
            generation: 0,
            call: None,
            permit: None,
            asked: None,
            waits: None,
            overtaken: 0,
            not_before: Duration::ZERO,
            failed: false,
        };
        Self {
            policy: Arc::clone(policy),
            lifetime: SECOND * if world.with_ahead { 2 } else { 1 },
            keys: [key.clone(), key],
            gate: Gate::new(settings, 0),
            now: Timestamp { boot: SECOND * 1_000, wall: SystemTime::UNIX_EPOCH + SECOND * 1_000_000 },
            mail: VecDeque::new(),
            seats: 0,
            breach: None,
            seen: Vec::new(),
            outline: None,
        }
    }

    fn require(&mut self, holds: bool, law: &'static str) {
        if !holds {
            self.breach = self.breach.or(Some(law));
        }
    }

    /// A shard's handling of an event.
    fn on(&mut self, key: usize, event: Event<Seat>) {
        let mut decided = VecDeque::new();
        self.step(key, event, &mut decided);
        self.hear(decided);
    }

    fn step(&mut self, key: usize, event: Event<Seat>, decided: &mut VecDeque<Decision>) {
        let mut effects = Vec::new();
        self.keys[key].machine.on(event, self.now, &mut effects);
        for effect in effects {
            self.perform(key, effect, decided);
        }
        while let Some((Seat(number), _)) = self.keys[key].machine.next_to_tell() {
            self.told(key, number);
        }
        let of_key = &mut self.keys[key];
        if let Some(resting) = of_key.machine.rest(self.now) {
            of_key.machine = resting.resume(Arc::clone(&self.policy), 7).behind_a_gate();
        }
    }

    fn perform(&mut self, key: usize, effect: Effect<Seat>, decided: &mut VecDeque<Decision>) {
        match effect {
            Effect::Fetch { id, cx } => self.fetch(key, id, cx.deadline().unwrap_or(Duration::MAX)),
            Effect::Abort => self.abort(key),
            Effect::Ask { is_urgent } => self.ask(key, is_urgent, decided),
            Effect::Hurry => {
                if let Some(number) = self.keys[key].asked {
                    let patience = self.keys[key].machine.patience(self.now);
                    if let Some(refusal) = self.gate.hurry(number, patience, self.now.boot) {
                        let who = (key, self.keys[key].generation);
                        decided.push_back(Decision { who, number: Some(number), how: Err(refusal) });
                    }
                    self.seen.push("a refresh ahead is hurried");
                }
            }
            Effect::Tell(Seat(number), _) | Effect::Duplicate(Seat(number)) => self.told(key, number),
            Effect::Note(Note::Failed { .. }) => self.keys[key].failed = true,
            Effect::Note(Note::Landed { .. }) => self.keys[key].failed = false,
            _ => {}
        }
    }

    fn fetch(&mut self, key: usize, id: u64, deadline: Duration) {
        let now = self.now;
        self.require(self.keys[key].call.is_none(), "a key has one call at once");
        self.require(self.keys[key].permit.is_some(), "no call without the gate's leave");
        self.require(self.keys[key].not_before <= now.boot, "the key's Retry-After is honoured");
        self.keys[key].call = Some(Call { id, sent: now, deadline });
        let calls = self.keys.iter().filter(|key| key.call.is_some()).count();
        self.require(calls <= self.gate.settings.calls, "no more calls than slots");
    }

    fn abort(&mut self, key: usize) {
        let now = self.now.boot;
        if let Some(call) = self.keys[key].call.take() {
            let ending = if now >= call.deadline {
                self.seen.push("a call is given up at its end");
                Ending::EndpointFailed { error: SourceError::timed_out("late".to_owned()), retry_after: None }
            } else {
                Ending::Abandoned
            };
            let permit = self.keys[key].permit.take();
            self.give_back(permit, ending);
        }
        if let Some(number) = self.keys[key].asked.take() {
            self.gate.withdraw(number);
        }
        let permit = self.keys[key].permit.take();
        self.give_back(permit, Ending::Abandoned);
    }

    fn give_back(&mut self, permit: Option<Permit>, ending: Ending) {
        if let Some(permit) = permit {
            self.gate.ended(permit, ending, self.now.boot);
        }
    }

    fn ask(&mut self, key: usize, urgent: bool, decided: &mut VecDeque<Decision>) {
        if !urgent && let Some(number) = self.keys[key].asked {
            self.seen.push("a key goes behind");
            return self.gate.go_behind(number);
        }
        let who = (key, self.keys[key].generation);
        let number = key as u64;
        let ask = Ask {
            who,
            key: number,
            group: number,
            client: number,
            urgent,
            patience: self.keys[key].machine.patience(self.now),
        };
        self.keys[key].overtaken = 0;
        let how = match self.gate.ask(ask, self.now.boot) {
            Answer::Granted(permit) => Ok(permit),
            Answer::Waits(number) => return self.keys[key].asked = Some(number),
            Answer::Refused(refusal) => Err(refusal),
        };
        self.note_grant(key, &how);
        decided.push_back(Decision { who, number: None, how });
    }

    /// Another key with a waiter was in line, and was passed over.
    fn note_grant(&mut self, key: usize, how: &Result<Permit, Refusal>) {
        let other = 1 - key;
        let is_in_line =
            self.keys[other].asked.is_some_and(|number| self.gate.waiting.contains_key(&number.0));
        if how.is_ok() && is_in_line && self.keys[other].waits.is_some() {
            self.keys[other].overtaken += 1;
            self.require(self.keys[other].overtaken <= 1, "no key starves");
        }
        if let Err(Refusal::Closed { until, .. }) = how {
            let later = *until > self.now.boot;
            self.require(later, "who is refused may come later");
            self.seen.push("a key is refused by the gate");
        }
    }

    /// Acts on the gate's decisions, until there are no more.
    fn hear(&mut self, mut decided: VecDeque<Decision>) {
        loop {
            while let Some(Decided { who, number, how }) = self.gate.next_decided(self.now.boot) {
                self.note_grant(who.0, &how);
                let decision = Decision { who, number: Some(number), how };
                if who.0 == 0 { decided.push_back(decision) } else { self.mail.push_back(decision) }
            }
            let Some(decision) = decided.pop_front() else { return };
            self.act_on(decision, &mut decided);
        }
    }

    fn act_on(&mut self, decision: Decision, decided: &mut VecDeque<Decision>) {
        let Decision { who: (key, generation), number, how } = decision;
        let of_key = &mut self.keys[key];
        let is_same = of_key.generation == generation;
        if !is_same || !of_key.machine.is_queued() || of_key.asked != number {
            self.seen.push("an answer and its withdrawal have crossed");
            return self.give_back(how.ok(), Ending::Abandoned);
        }
        of_key.asked = None;
        let event = match how {
            Ok(permit) => {
                of_key.permit = Some(permit);
                Event::Granted
            }
            Err(Refusal::Closed { error, until } | Refusal::ClientClosed { error, until }) => {
                Event::Refused(Refused::Closed { error, left: until.saturating_sub(self.now.boot) })
            }
            Err(Refusal::TooLong { expected, .. }) => Event::Refused(Refused::TooLong { expected }),
        };
        self.step(key, event, decided);
    }

    fn told(&mut self, key: usize, number: u64) {
        let waited = self.keys[key].waits.take();
        self.require(waited == Some(number), "who waits is told once");
    }

    fn answer(&mut self, key: usize, reply: Reply) {
        let Some(call) = self.keys[key].call.take() else { return };
        let down = || SourceError::transient("down");
        let limited = || down().with_retry_after(RETRY_AFTER);
        let (result, ending) = match reply {
            Reply::Token => {
                let token = Token::new("t").with_lifetime(self.lifetime);
                let token = token.stamped(call.sent, &CLOCK, self.lifetime, self.lifetime);
                (Ok(token), Ending::Served)
            }
            Reply::Down => (Err(down()), Ending::EndpointFailed { error: down(), retry_after: None }),
            Reply::Limited => {
                self.keys[key].not_before = self.now.boot + RETRY_AFTER;
                (Err(limited()), Ending::TooMany { error: limited(), retry_after: Some(RETRY_AFTER) })
            }
            Reply::Refused => (Err(SourceError::terminal("no")), Ending::KeyOnly),
            Reply::Panic => (Err(SourceError::panic("panic")), Ending::Abandoned),
        };
        let closures = self.gate.endpoint.closures;
        let permit = self.keys[key].permit.take();
        self.give_back(permit, ending);
        if self.gate.endpoint.closures > closures {
            self.seen.push("the gate closes");
            if reply == Reply::Limited {
                let until = self.gate.endpoint.shut.as_ref().map(|shut| shut.until);
                let least = self.now.boot + RETRY_AFTER;
                self.require(until >= Some(least), "a Retry-After closes the gate for so long");
            }
        }
        self.on(key, Event::Fetched { id: call.id, result });
    }

    fn remove(&mut self, key: usize) {
        self.on(key, Event::Stop);
        let of_key = &mut self.keys[key];
        of_key.machine = machine(&self.policy);
        of_key.generation += 1;
        let is_clean = of_key.permit.is_none() && of_key.asked.is_none() && of_key.call.is_none();
        self.require(is_clean, "a key that goes gives all back");
        // The server's `Retry-After` is forgotten with the key.
        self.keys[key].not_before = Duration::ZERO;
    }

    fn want(&mut self, key: usize) {
        let number = self.seats;
        self.seats += 1;
        self.keys[key].waits = Some(number);
        self.on(key, Event::Want { waiter: Seat(number), timeout: None });
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall += time;
        for key in 0..KEYS {
            let now = self.now;
            if self.keys[key].machine.next_wake(now).is_some_and(|wake| wake <= now.boot) {
                self.on(key, Event::Tick);
            }
        }
    }

    fn check(&mut self) {
        let held = self.keys.iter().filter(|key| key.permit.is_some()).count();
        let on_their_way = self.mail.iter().filter(|decision| decision.how.is_ok()).count();
        self.require(self.gate.running == held + on_their_way, "no slot is lost");
        let slots = self.gate.settings.calls;
        self.require(self.gate.running <= slots, "no more calls than slots");
        for key in 0..KEYS {
            let of_key = &self.keys[key];
            let calls = of_key.call.is_some() == of_key.permit.is_some();
            let is_known = of_key.waits.is_none() || !of_key.machine.is_idle();
            self.require(calls, "a slot is held by a call, and not by a pause");
            self.require(is_known, "nobody waits whom the machine does not know");
        }
    }

    fn is_at_rest(&self) -> bool {
        self.mail.is_empty() && self.keys.iter().all(|key| key.machine.is_idle() && key.waits.is_none())
    }

    /// Without further callers, and with this reply or none, all waiters are told and all slots are given back.
    fn comes_to_rest(&self, reply: Option<Reply>) -> bool {
        let mut state = self.clone();
        for _ in 0..64 {
            if state.breach.is_some() {
                return true; // reported when that state is visited
            }
            if state.is_at_rest() {
                return state.gate.running == 0 && state.gate.waiting.is_empty();
            }
            if let Some(decision) = state.mail.pop_front() {
                state.deliver(decision);
            } else if let Some((reply, key)) =
                reply.zip((0..KEYS).find(|key| state.keys[*key].call.is_some()))
            {
                state.answer(key, reply);
            } else {
                state.pass(SECOND);
            }
        }
        false
    }

    fn deliver(&mut self, decision: Decision) {
        let mut decided = VecDeque::new();
        self.act_on(decision, &mut decided);
        self.hear(decided);
    }

    fn outline(&self) -> Outline {
        let now = self.now;
        let keys = self.keys.each_ref().map(|key| {
            let mut out = key.machine.clone().outline(now);
            let left = |moment: Duration| moment.saturating_sub(now.boot).as_secs();
            out.extend([u64::from(key.overtaken), left(key.not_before)]);
            out.extend([key.waits.is_some(), key.asked.is_some(), key.call.is_some()].map(u64::from));
            let age = key.call.map_or(0, |call| now.boot.saturating_sub(call.sent.boot).as_secs());
            out.push(age);
            out
        });
        let of_mail = |decision: &Decision| {
            let of_key = &self.keys[decision.who.0];
            let is_meant = of_key.generation == decision.who.1 && of_key.asked == decision.number;
            let until = match &decision.how {
                Err(Refusal::Closed { until, .. } | Refusal::ClientClosed { until, .. }) => {
                    until.saturating_sub(now.boot).as_secs()
                }
                _ => 0,
            };
            (decision.who.0, is_meant, decision.how.is_ok(), until)
        };
        let permits = self.keys.iter().map(|key| key.permit.as_ref());
        let mailed = self.mail.iter().map(|decision| decision.how.as_ref().ok());
        Outline {
            keys,
            gate: outline_of_gate(&self.gate, now.boot, |who| who.0, permits.chain(mailed)),
            mail: self.mail.iter().map(of_mail).collect(),
            breach: self.breach,
        }
    }
}

/// The part of the state that decides how it continues.
#[derive(PartialEq, Eq, Hash)]
struct Outline {
    keys: [Vec<u64>; KEYS],
    gate: GateOutline,
    mail: Vec<(usize, bool, bool, u64)>,
    breach: Option<&'static str>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.outline == other.outline
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.outline.hash(state);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("breach", &self.breach).finish_non_exhaustive()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.breach.is_some() {
            return;
        }
        if state.mail.len() == 2 {
            // A bound of the model: a shard handles its messages first.
            return actions.push(Action::Deliver);
        }
        for key in 0..KEYS {
            let of_key = &state.keys[key];
            if of_key.waits.is_none() {
                actions.push(Action::Want(key));
            }
            if self.with_ahead && of_key.machine.is_idle() && of_key.machine.token().is_some() {
                actions.push(Action::NearEnd(key));
            }
            if of_key.call.is_some() {
                actions.extend(self.replies.iter().map(|reply| Action::Answer(key, *reply)));
            }
            if self.goes.contains(&key) && !of_key.machine.is_idle() {
                actions.push(Action::Remove(key));
            }
        }
        if !state.mail.is_empty() {
            actions.push(Action::Deliver);
        }
        actions.push(Action::Second);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.seen.clear();
        match action {
            Action::Want(key) => state.want(key),
            Action::NearEnd(key) => state.on(key, Event::NearEnd),
            Action::Answer(key, reply) => state.answer(key, reply),
            Action::Remove(key) => state.remove(key),
            Action::Deliver => {
                let decision = state.mail.pop_front()?;
                state.deliver(decision);
            }
            Action::Second => state.pass(SECOND),
        }
        state.check();
        self.seen.lock().unwrap().extend(state.seen.drain(..));
        state.outline = Some(Arc::new(state.outline()));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no law is broken", |_, state: &State| state.breach.is_none()),
            Property::always("all are told and all is given back", |_, state: &State| {
                [None, Some(Reply::Token)].into_iter().all(|reply| state.comes_to_rest(reply))
            }),
        ]
    }
}

fn worlds() -> [World; 3] {
    const CROSSED: &str = "an answer and its withdrawal have crossed";
    let world = |calls, attempts, replies, sights| World {
        calls,
        attempts,
        with_ahead: false,
        goes: &[],
        replies,
        sights,
        seen: Mutex::default(),
    };
    let of_life =
        &[CROSSED, "a refresh ahead is hurried", "a key goes behind", "a call is given up at its end"];
    let closes = &[CROSSED, "the gate closes", "a key is refused by the gate"];
    [
        World { with_ahead: true, goes: &[0, 1], ..world(1, 1, &[Reply::Token, Reply::Panic], of_life) },
        World { goes: &[1], ..world(1, 2, &[Reply::Token, Reply::Down], closes) },
        world(2, 2, &[Reply::Token, Reply::Limited, Reply::Refused], &["the gate closes"]),
    ]
}

#[test]
fn no_law_of_two_machines_at_one_gate_is_broken() {
    // All states take a minute or two: `MODEL=all cargo test --all-features --lib gate::model::machines`.
    let most = if std::env::var("MODEL").as_deref() == Ok("all") { usize::MAX } else { 25_000 };
    let (mut states, mut unique) = (0, 0);
    for world in worlds() {
        let sights = world.sights;
        let named = format!("{} calls at once, answers {:?}", world.calls, world.replies);
        let checker = world.checker().target_state_count(most).spawn_bfs().join();
        println!("{named}: {} states", checker.unique_state_count());
        states += checker.state_count();
        unique += checker.unique_state_count();
        for property in ["no law is broken", "all are told and all is given back"] {
            if let Some(path) = checker.discovery(property) {
                let law = path.last_state().breach.unwrap_or(property);
                let way: Vec<Action> = path.into_actions();
                panic!("{named}: breaks the law \"{law}\" by {way:?}");
            }
        }
        let seen = checker.model().seen.lock().unwrap();
        let unseen: Vec<_> = sights.iter().filter(|sight| !seen.contains(*sight)).collect();
        assert!(unseen.is_empty(), "{named}: never seen: {unseen:?}");
    }
    println!("{} worlds, {unique} states, {states} transitions", worlds().len());
}

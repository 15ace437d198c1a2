//! The machine under a model checker: two processes with one vault, its lock, and one server, in every order of events.
//!
//! The server rotates with each use, accepts the last token again inside its grace, and revokes the whole family
//! when it receives an older one. A request arrives within five seconds, or never; an answer may take any time. A
//! process may crash at any step. A write may fail before it changes anything, or after.

use std::time::{Duration, SystemTime};

use stateright::{Checker, Model, Property};

use super::*;

const PROCESSES: usize = 2;

/// The number of a token, counted from 1.
type Id = u8;

#[derive(Clone, Copy, Debug)]
struct World {
    grace: u64,
    after_crash: AfterCrash,
    /// How often each process fetches.
    fetches: [u8; PROCESSES],
    crashes: u8,
    losses: u8,
    vault_faults: u8,
    advances: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: u64,
    vault: Cell,
    server: Server,
    processes: [Process; PROCESSES],
    wire: Vec<Message>,
    crashes: u8,
    losses: u8,
    vault_faults: u8,
    advances: u8,
    breach: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cell {
    generation: u64,
    state: Stored,
    refresh: Id,
    access: Id,
    /// Changes with each write. A compare-and-set compares it.
    version: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Server {
    current: Id,
    /// The last token, and when it was used first.
    previous: Option<(Id, u64)>,
    /// How often each token has arrived, by its number.
    arrived: [u8; 8],
    last_access: Id,
    is_revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    /// The number of the process's life. Answers to an earlier life are lost.
    life: u8,
    memory: Memory,
    fetch: Option<(Rotation, Effect)>,
    fetches: u8,
    have: Id,
    /// The version that it loaded, and the refresh token in it.
    version: u16,
    loaded: Id,
    /// The tokens in the answer.
    answer: Option<(Id, Id)>,
    /// The refresh token that is only in memory.
    unsaved: Option<(u64, Id, Id)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Message {
    to: usize,
    life: u8,
    sent: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum What {
    Request(Id),
    Token(Id, Id),
    InvalidGrant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Begin(usize),
    /// Perform the machine's effect.
    Perform(usize),
    FailBefore(usize),
    FailAfter(usize),
    /// The connection cannot be opened.
    Disconnect(usize),
    /// The request cannot be sent.
    Refuse(usize),
    Arrive(usize),
    Deliver(usize),
    Lose(usize),
    /// The answer breaks off after its status.
    BreakOff(usize),
    Crash(usize),
    /// The token in memory is written at last.
    Save(usize),
    Advance(u64),
}

fn time(seconds: u64) -> Timestamp {
    let since = Duration::from_secs(1_000 + seconds);
    Timestamp { boot: since, wall: SystemTime::UNIX_EPOCH + since }
}

impl Process {
    /// A number that no other process has, nor an earlier life of this one.
    fn me(&self, number: usize) -> u64 {
        10 * number as u64 + u64::from(self.life)
    }

    fn born(number: usize, life: u8, fetches: u8) -> Self {
        let mut process = Self {
            life,
            memory: Memory::new(0),
            fetch: None,
            fetches,
            have: 1,
            version: 0,
            loaded: 1,
            answer: None,
            unsaved: None,
        };
        process.memory = Memory::new(process.me(number));
        process
    }
}

impl State {
    fn view(&self, process: usize) -> View {
        View {
            key: Key { login: 1, generation: self.vault.generation },
            state: self.vault.state,
            has_news: self.vault.access > self.processes[process].have,
        }
    }

    fn on(&mut self, process: usize, event: Event) {
        let now = time(self.now);
        let Process { fetch, memory, .. } = &mut self.processes[process];
        let Some((rotation, effect)) = fetch else { return };
        *effect = rotation.on(event, now);
        *memory = rotation.memory();
        if let Effect::Done(outcome) = *effect {
            *fetch = None;
            self.ended(process, outcome);
        }
    }

    fn ended(&mut self, number: usize, outcome: Outcome) {
        let stored = self.vault.refresh;
        let process = &mut self.processes[number];
        let answer = process.answer.take();
        match outcome {
            Outcome::Published => {
                let (refresh, access) = answer.unwrap_or_default();
                process.have = access;
                if stored != refresh {
                    self.breach = Some("published, and the refresh token is not in the vault");
                }
            }
            Outcome::Unsaved => {
                let (refresh, access) = answer.unwrap_or_default();
                process.have = access;
                process.unsaved = Some((self.vault.generation + 1, refresh, access));
            }
            Outcome::Adopted => process.have = self.vault.access,
            Outcome::Failed(failure) => {
                if answer.is_some_and(|(refresh, _)| refresh != stored) {
                    self.breach = Some("a token that was received is lost");
                }
                let is_unspent = stored == self.server.current
                    && self.server.arrived[usize::from(stored)] == 0
                    && !self.wire.iter().any(|message| message.what == What::Request(stored));
                let has_cause = !self.is_first_life() || !self.losses_are_left();
                if failure == Failure::NeedsLogin && is_unspent && !has_cause {
                    self.breach = Some("needs a login, and the refresh token is good");
                }
            }
        }
    }

    fn is_first_life(&self) -> bool {
        self.processes.iter().all(|process| process.life == 0)
    }

    /// Without a loss every process knows the result of its request.
    fn losses_are_left(&self) -> bool {
        self.losses > 0
    }

    fn write(&mut self, number: usize, change: Change) {
        self.vault.version += 1;
        self.processes[number].version = self.vault.version;
        match change {
            Change::Spending { since, tries } | Change::NotRepeated { since, tries } => {
                self.vault.state = Stored::Spending { since, tries, by: self.processes[number].me(number) };
            }
            Change::Idle => self.vault.state = Stored::Idle,
            Change::Dead => self.vault.state = Stored::Dead,
            Change::Next => {
                let (refresh, access) = self.processes[number].answer.unwrap_or_default();
                self.vault.generation += 1;
                self.vault.state = Stored::Idle;
                (self.vault.refresh, self.vault.access) = (refresh, access);
            }
        }
    }

    fn load(&mut self, number: usize) {
        let process = &mut self.processes[number];
        (process.version, process.loaded) = (self.vault.version, self.vault.refresh);
    }

    fn perform(&mut self, number: usize) {
        let Some((_, effect)) = &self.processes[number].fetch else { return };
        match *effect {
            Effect::Load => {
                self.load(number);
                self.on(number, Event::Loaded(Some(self.view(number))));
            }
            Effect::Connect => self.on(number, Event::Connected),
            Effect::Write(change) if self.processes[number].version == self.vault.version => {
                self.write(number, change);
                self.on(number, Event::Written);
            }
            Effect::Write(_) => {
                self.load(number);
                self.on(number, Event::Moved(Some(self.view(number))));
            }
            Effect::Send => {
                let (life, sent) = (self.processes[number].life, self.now);
                self.wire.push(Message {
                    to: number,
                    life,
                    sent,
                    what: What::Request(self.processes[number].loaded),
                });
                self.wire.sort();
            }
            Effect::Wait(_) => self.on(number, Event::Waited),
            Effect::Done(_) => {}
        }
    }

    /// The server's side of a request.
    fn arrive(&mut self, at: usize, world: &World) {
        let Message { to, life, sent, what: What::Request(token) } = self.wire.remove(at) else { return };
        let Server { current, previous, arrived, last_access, is_revoked } = &mut self.server;
        let count = &mut arrived[usize::from(token)];
        *count += 1;
        let in_grace = previous.is_some_and(|(last, used)| last == token && self.now - used < world.grace);
        let may_try_once = world.after_crash == AfterCrash::TryOnce && *count == 2;
        if *count > 2 {
            self.breach = Some("a third use");
        } else if *count == 2 && !in_grace && !may_try_once {
            self.breach = Some("the same refresh token twice, outside the grace");
        }
        let what = if *is_revoked {
            What::InvalidGrant
        } else if token == *current {
            *previous = Some((token, self.now));
            *current += 1;
            *last_access += 1;
            What::Token(*current, *last_access)
        } else if in_grace {
            *last_access += 1;
            What::Token(*current, *last_access)
        } else {
            *is_revoked = true;
            What::InvalidGrant
        };
        self.wire.push(Message { to, life, sent, what });
        self.wire.sort();
    }

    fn deliver(&mut self, at: usize) {
        let Message { to, life, what, .. } = self.wire.remove(at);
        if self.processes[to].life != life {
            return;
        }
        let answer = match what {
            What::Token(refresh, access) => {
                self.processes[to].answer = Some((refresh, access));
                Answer::Token
            }
            _ => Answer::InvalidGrant,
        };
        self.on(to, Event::Answered(answer));
    }

    /// The server has used the token. Inside the grace it gives the next token once more, otherwise the login is over.
    fn broken_off(&mut self, number: usize, world: &World) {
        let now = time(self.now).wall;
        let may_repeat = match self.vault.state {
            Stored::Spending { since, tries: 1, .. } => now
                .duration_since(since)
                .is_ok_and(|age| age + GRACE_MARGIN < Duration::from_secs(world.grace)),
            _ => false,
        };
        self.on(number, Event::Answered(Answer::BrokenOff));
        let next = self.processes[number].fetch.as_ref().map(|(_, effect)| *effect);
        if next != Some(if may_repeat { Effect::Connect } else { Effect::Write(Change::Dead) }) {
            self.breach =
                Some("a broken answer is not repeated inside the grace, or is repeated outside of it");
        }
    }

    /// Whether its request or the answer is on its way.
    fn has_message(&self, number: usize) -> bool {
        let life = self.processes[number].life;
        self.wire.iter().any(|message| message.to == number && message.life == life)
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            vault: Cell { generation: 1, state: Stored::Idle, refresh: 1, access: 1, version: 0 },
            server: Server { current: 1, previous: None, arrived: [0; 8], last_access: 1, is_revoked: false },
            processes: std::array::from_fn(|number| Process::born(number, 0, self.fetches[number])),
            wire: Vec::new(),
            crashes: self.crashes,
            losses: self.losses,
            vault_faults: self.vault_faults,
            advances: self.advances,
            breach: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.breach.is_some() {
            return;
        }
        let is_locked = state.processes.iter().any(|process| process.fetch.is_some());
        for (number, process) in state.processes.iter().enumerate() {
            match &process.fetch {
                None if is_locked => {}
                None => {
                    if process.unsaved.is_some() {
                        actions.push(Action::Save(number));
                    } else if process.fetches > 0 {
                        actions.push(Action::Begin(number));
                    }
                }
                Some((_, Effect::Send)) if state.has_message(number) => {}
                Some((_, effect)) => {
                    actions.push(Action::Perform(number));
                    if matches!(effect, Effect::Write(_)) && state.vault_faults > 0 {
                        actions.extend([Action::FailBefore(number), Action::FailAfter(number)]);
                    }
                    if *effect == Effect::Connect && state.losses > 0 {
                        actions.push(Action::Disconnect(number));
                    }
                    if *effect == Effect::Send && state.losses > 0 {
                        actions.push(Action::Refuse(number));
                    }
                }
            }
            if state.crashes > 0 && (process.fetch.is_some() || process.unsaved.is_some()) {
                actions.push(Action::Crash(number));
            }
        }
        for (at, message) in state.wire.iter().enumerate() {
            actions.push(match message.what {
                What::Request(_) => Action::Arrive(at),
                _ => Action::Deliver(at),
            });
            if state.losses > 0 {
                actions.push(Action::Lose(at));
                if matches!(message.what, What::Token(..)) {
                    actions.push(Action::BreakOff(at));
                }
            }
        }
        let is_on_its_way = state.wire.iter().any(|message| matches!(message.what, What::Request(_)));
        // After the write the token is sent at once.
        let is_at_it = |process: &Process| matches!(process.fetch, Some((_, Effect::Send)));
        let is_about_to_send =
            (0..PROCESSES).any(|number| is_at_it(&state.processes[number]) && !state.has_message(number));
        if state.advances > 0 && !is_on_its_way && !is_about_to_send {
            actions.extend([5, 26, 121].map(Action::Advance));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Begin(number) => {
                let process = &mut state.processes[number];
                process.fetches -= 1;
                let rules = Rules { grace: Duration::from_secs(self.grace), after_crash: self.after_crash };
                process.fetch = Some(Rotation::begin(rules, process.memory));
            }
            Action::Perform(number) => state.perform(number),
            Action::FailBefore(number) => {
                state.vault_faults -= 1;
                state.on(number, Event::NotWritten);
            }
            Action::FailAfter(number) => {
                state.vault_faults -= 1;
                let (_, Effect::Write(change)) = state.processes[number].fetch.clone()? else { return None };
                if state.processes[number].version != state.vault.version {
                    return None;
                }
                let loaded = state.processes[number].version;
                state.write(number, change);
                // The process does not know of its own write.
                state.processes[number].version = loaded;
                state.on(number, Event::NotWritten);
            }
            Action::Disconnect(number) => {
                state.losses -= 1;
                state.on(number, Event::NotConnected);
            }
            Action::Refuse(number) => {
                state.losses -= 1;
                state.on(number, Event::Answered(Answer::Unspent));
            }
            Action::Arrive(at) => state.arrive(at, self),
            Action::Deliver(at) => state.deliver(at),
            Action::Lose(at) => {
                state.losses -= 1;
                let Message { to, life, .. } = state.wire.remove(at);
                if state.processes[to].life == life {
                    state.on(to, Event::Answered(Answer::Ambiguous));
                }
            }
            Action::BreakOff(at) => {
                state.losses -= 1;
                let Message { to, life, .. } = state.wire.remove(at);
                if state.processes[to].life == life {
                    state.broken_off(to, self);
                }
            }
            Action::Crash(number) => {
                state.crashes -= 1;
                let Process { life, fetches, .. } = state.processes[number];
                state.processes[number] = Process::born(number, life + 1, fetches);
            }
            Action::Save(number) => {
                let (generation, refresh, access) = state.processes[number].unsaved.take()?;
                if state.vault.generation < generation {
                    state.vault.version += 1;
                    let version = state.vault.version;
                    state.vault = Cell { generation, state: Stored::Idle, refresh, access, version };
                }
            }
            Action::Advance(seconds) => {
                state.advances -= 1;
                state.now += seconds;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no law is broken", |_, state: &State| state.breach.is_none()),
            Property::always("the family is not revoked by us", |world: &World, state: &State| {
                world.after_crash == AfterCrash::TryOnce || !state.server.is_revoked
            }),
            Property::sometimes("a token is published", |_, state: &State| {
                state.processes.iter().any(|process| process.have > 1)
            }),
            Property::sometimes("one is adopted by the other", |_, state: &State| {
                state.processes.iter().all(|process| process.have == 2)
            }),
            Property::sometimes("a dead one is found", |world: &World, state: &State| {
                world.crashes + world.losses == 0 || state.vault.state == Stored::Dead
            }),
        ]
    }
}

/// Small worlds, all of whose states are visited.
fn worlds() -> Vec<World> {
    let least = World {
        grace: 0,
        after_crash: AfterCrash::NeedsLogin,
        fetches: [2; PROCESSES],
        crashes: 0,
        losses: 0,
        vault_faults: 0,
        advances: 2,
    };
    // The last one has a vault that fails until a new token is served without being written.
    let mut worlds =
        vec![World { advances: 0, ..least }, World { fetches: [1; PROCESSES], vault_faults: 3, ..least }];
    for grace in [0, 30] {
        for after_crash in [AfterCrash::NeedsLogin, AfterCrash::TryOnce] {
            let world = World { grace, after_crash, ..least };
            worlds.extend([
                World { crashes: 1, ..world },
                World { losses: 1, ..world },
                World { vault_faults: 1, ..world },
                World { crashes: 1, losses: 1, ..world },
                World { losses: 1, vault_faults: 1, ..world },
                World { crashes: 1, vault_faults: 1, ..world },
            ]);
        }
    }
    // One process remembers that it has not sent the token, the other one sends it and dies, and the vault fails.
    let all = World { fetches: [3, 1], crashes: 1, losses: 1, vault_faults: 1, ..least };
    let once = World { after_crash: AfterCrash::TryOnce, losses: 0, ..all };
    worlds.extend([World { grace: 30, ..all }, once]);
    worlds
}

/// One line per step: the action, and the next step of each process.
fn told(path: Vec<(State, Option<Action>)>) -> String {
    let line = |(state, action): (State, Option<Action>)| {
        let effects = state.processes.map(|process| process.fetch.map(|(_, effect)| effect));
        format!(
            "{} {:?} {:?} wire {} -> {action:?}\n",
            state.now,
            state.vault.state,
            effects,
            state.wire.len()
        )
    };
    path.into_iter().map(line).collect()
}

#[test]
fn no_law_is_broken_in_any_state() {
    let (mut states, mut unique) = (0, 0);
    for world in worlds() {
        let checker = world.checker().spawn_bfs().join();
        states += checker.state_count();
        unique += checker.unique_state_count();
        for property in ["no law is broken", "the family is not revoked by us"] {
            if let Some(path) = checker.discovery(property) {
                let breach = path.last_state().breach;
                panic!("{world:?}: {property}: {breach:?}\n{}", told(path.into_vec()));
            }
        }
        for sight in ["a token is published", "one is adopted by the other", "a dead one is found"] {
            assert!(checker.discovery(sight).is_some(), "{world:?}: never seen: {sight}");
        }
    }
    println!("{} worlds, {unique} states, {states} transitions", worlds().len());
}

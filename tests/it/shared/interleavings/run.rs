//! One run of a world, from its start to the end of all processes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::source::{SharedSource, SharedStats};
use tokenflight::testing::ManualClock;
use tokenflight::{FetchContext, Reason, SourceError, Token, TokenSource};

use super::explorer::{Choice, Explorer, Fault, What};
use super::gates::{Gates, Kind, Process, Verdict};
use super::shelf::{Act, Gated, Shelf};
use super::{GRACE, INTERVAL, LAWS, LEASE, PATIENCE, PAUSE, STORE_TIMEOUT, World};
use crate::shared::world::{key_of, settings};
use crate::support::*;

/// Nobody lives longer.
const HORIZON: Duration = secs(60);
/// Time enough for an owner who dies late, and a slow call after it.
const ATTEMPT: Duration = secs(20);
const ATTEMPTS: u32 = 4;
const BACKOFF: Duration = millis(100);

/// The auth server, as a process sees it.
struct Issuer {
    who: usize,
    gates: Gates,
    calls: Arc<Mutex<Calls>>,
    is_wrong: bool,
    takes_at_most: Duration,
}

#[derive(Default)]
struct Calls {
    /// Of each call, who made it.
    by: Vec<usize>,
    /// Who is making one.
    running: Vec<usize>,
    issued: Vec<String>,
}

struct Running<'a>(&'a Issuer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.lock().unwrap().running.retain(|who| *who != self.0.who);
    }
}

impl TokenSource for Issuer {
    async fn fetch(&self, _: FetchContext) -> Result<Token, SourceError> {
        {
            let mut calls = self.calls.lock().unwrap();
            calls.by.push(self.who);
            calls.running.push(self.who);
        }
        let _running = Running(self);
        let answer = tokio::time::timeout(self.takes_at_most, self.gates.pass(self.who, Kind::Call)).await;
        if self.is_wrong {
            return Err(SourceError::terminal("invalid_client"));
        }
        if answer == Ok(Verdict::Unavailable) {
            return Err(SourceError::transient("503"));
        }
        let mut calls = self.calls.lock().unwrap();
        let secret = format!("t{}", calls.issued.len() + 1);
        calls.issued.push(secret.clone());
        Ok(Token::new(secret).with_lifetime(HOUR))
    }

    fn credential(&self, part: &mut dyn FnMut(&[u8])) {
        part(if self.is_wrong { b"old secret" } else { b"secret" });
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Token(String),
    Failed(String),
    /// It crashed, or its caller went away.
    Gone,
}

/// What becomes of a process.
#[derive(Default)]
struct Life {
    ending: Option<Ending>,
    /// Between two attempts.
    rests: bool,
    /// How long it waited for others.
    waited: Duration,
    /// How long it waited though nobody was calling the auth server.
    idle: Duration,
}

type Source = SharedSource<Issuer, Gated>;

/// A flight, as the actor makes it: some attempts, with pauses in between.
async fn fly(source: Arc<Source>, clock: ManualClock, previous: Option<Token>, life: Arc<Mutex<Life>>) {
    let reason = if previous.is_some() { Reason::Rejected } else { Reason::First };
    let mut attempt = 1;
    let ending = loop {
        let deadline = clock.now().boot + ATTEMPT;
        let mut cx = FetchContext::new(reason)
            .with_attempt(attempt)
            .with_clock(Arc::new(clock.clone()))
            .with_deadline(deadline);
        if let Some(token) = &previous {
            cx = cx.with_previous(token.clone());
        }
        let error = match tokio::time::timeout(ATTEMPT, source.fetch(cx)).await {
            Ok(Ok(token)) => break Ending::Token(token.secret().to_owned()),
            Ok(Err(error)) => error,
            Err(_) => SourceError::transient("it took too long"),
        };
        if error.is_terminal() || attempt == ATTEMPTS {
            break Ending::Failed(error.to_string());
        }
        attempt += 1;
        life.lock().unwrap().rests = true;
        tokio::time::sleep(error.retry_after().unwrap_or_default().max(BACKOFF)).await;
        life.lock().unwrap().rests = false;
    };
    life.lock().unwrap().ending = Some(ending);
}

/// What the runs have shown: a law about something that never happens would hold too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sights {
    pub(super) adopted: u64,
    pub(super) late: u64,
    pub(super) local: u64,
    pub(super) pushes: u64,
    pub(super) polls: u64,
    pub(super) mended: u64,
    pub(super) unopened: u64,
    pub(super) two_calls: u64,
}

impl Sights {
    pub(super) fn check(&self) {
        let Self { adopted, late, local, pushes, polls, mended, unopened, two_calls } = *self;
        for (number, sight) in
            [adopted, late, local, pushes, polls, mended, unopened, two_calls].into_iter().enumerate()
        {
            assert!(sight > 0, "sight {number} was never seen: {self:?}");
        }
    }
}

struct Run<'a> {
    world: &'a World,
    clock: ManualClock,
    gates: Gates,
    shelf: Arc<Shelf>,
    calls: Arc<Mutex<Calls>>,
    sources: Vec<Arc<Source>>,
    lives: Vec<Arc<Mutex<Life>>>,
    tasks: Vec<tokio::task::AbortHandle>,
    /// The tokens that the processes had when the choices began.
    held: Vec<Option<Token>>,
    calls_before: usize,
    faults: u32,
    /// For how long these faults may make others wait though nobody calls the auth server.
    explained: Duration,
    frozen: Option<(usize, Duration)>,
}

/// Which law broke; or whether the run was a whole one.
pub(super) fn run(world: &World, explorer: &mut Explorer, sights: &mut Sights) -> Result<bool, String> {
    fastrand::seed(7);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut run = Run::begin(world).await;
        let whole = run.explore(explorer).await?;
        if whole {
            run.check_the_end()?;
        }
        run.count(sights);
        Ok(whole)
    })
}

impl<'a> Run<'a> {
    async fn begin(world: &'a World) -> Self {
        let (clock, gates) = (ManualClock::new(), Gates::default());
        let settings = || {
            settings(clock.clone())
                .lease(LEASE)
                .store_timeout(STORE_TIMEOUT)
                .wait_limit(PATIENCE)
                .part("world", "small")
        };
        let shelf = Arc::new(Shelf::new(key_of(settings()), clock.clone()));
        let calls = Arc::<Mutex<Calls>>::default();
        let source = |who| {
            let issuer = Issuer {
                who,
                gates: gates.clone(),
                calls: Arc::clone(&calls),
                is_wrong: who < world.wrong,
                takes_at_most: world.call,
            };
            let store = Gated { who, gates: gates.clone(), shelf: Arc::clone(&shelf) };
            Arc::new(settings().build(issuer, store).unwrap())
        };
        let sources: Vec<_> = (0..world.processes).map(source).collect();
        let mut run = Self {
            world,
            clock,
            gates,
            shelf,
            calls,
            lives: sources.iter().map(|_| Arc::default()).collect(),
            sources,
            tasks: Vec::new(),
            held: vec![None; world.processes],
            calls_before: 0,
            faults: 0,
            explained: INTERVAL * u32::try_from(world.wrong).unwrap(),
            frozen: None,
        };
        run.share_tokens().await;
        for who in 0..world.processes {
            let (source, life) = (Arc::clone(&run.sources[who]), Arc::clone(&run.lives[who]));
            let life = Box::pin(fly(source, run.clock.clone(), run.held[who].clone(), life));
            run.tasks.push(tokio::spawn(Process { who, gates: run.gates.clone(), life }).abort_handle());
        }
        run
    }

    /// Before the choices begin, all processes have the same token, after so many reports.
    async fn share_tokens(&mut self) {
        self.gates.open(true);
        for _ in 0..self.world.tokens_before {
            for (source, held) in self.sources.iter().zip(&mut self.held) {
                let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
                let cx = FetchContext::new(Reason::Rejected).with_clock(clock);
                let cx = if let Some(token) = held.clone() { cx.with_previous(token) } else { cx };
                *held = Some(source.fetch(cx).await.unwrap());
            }
        }
        self.gates.open(false);
        self.calls_before = self.calls.lock().unwrap().by.len();
    }

    /// Until nothing moves but time, or by a choice.
    async fn settle(&self) {
        let (mut before, mut quiet) = (self.gates.moves(), 0);
        while quiet < 2 {
            tokio::task::yield_now().await;
            quiet = if self.gates.moves() == before { quiet + 1 } else { 0 };
            before = self.gates.moves();
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().boot
    }

    fn lives_still(&self, who: usize) -> bool {
        self.lives[who].lock().unwrap().ending.is_none()
    }

    async fn explore(&mut self, explorer: &mut Explorer) -> Result<bool, String> {
        let began = self.now();
        loop {
            self.settle().await;
            let steps = self.gates.steps();
            if steps.is_empty() && !(0..self.world.processes).any(|who| self.lives_still(who)) {
                return Ok(true);
            }
            if self.now() - began > HORIZON {
                return Err(LAWS[0].into());
            }
            let choices = self.choices().await;
            let Some(choice) = explorer.choose(choices) else { return Ok(false) };
            self.perform(choice).await;
            self.check_waits()?;
        }
    }

    async fn choices(&self) -> Vec<Choice> {
        let is_frozen = |who| self.frozen.is_some_and(|(frozen, _)| frozen == who);
        let steps: Vec<_> = self.gates.steps().into_iter().filter(|((who, _), _)| !is_frozen(*who)).collect();
        let mut choices: Vec<_> =
            steps.iter().map(|(step, kind)| Choice::of(What::Step, *step, *kind)).collect();
        let slept = self.frozen.map(|(who, since)| (who, self.now() - since));
        // The store answers at once, so time passes between its answers only.
        let store_is_at_rest = steps.iter().all(|(_, kind)| *kind == Kind::Call);
        if store_is_at_rest && slept.is_none_or(|(_, slept)| slept < LEASE * 2) {
            choices.push(Choice::by_nobody(What::Time));
        }
        if let Some((who, slept)) = slept
            && slept > LEASE
        {
            choices.push(Choice { what: What::Thaw, step: (who, 0), kind: None });
        }
        // A writer who never rests makes so many steps necessary that their order is not tried as well.
        if self.shelf.restless.lock().unwrap().is_some() {
            choices.truncate(1);
        } else if self.faults < self.world.budget {
            self.push_faults(&steps, &mut choices).await;
        }
        choices
    }

    async fn push_faults(&self, steps: &[((usize, u32), Kind)], choices: &mut Vec<Choice>) {
        for fault in &self.world.faults {
            match fault {
                Fault::Write(act) if self.shelf.can(*act).await => {
                    choices.push(Choice::by_nobody(What::Fault(*fault)));
                }
                Fault::Restless(_) => choices.push(Choice::by_nobody(What::Fault(*fault))),
                fault => {
                    let concerned =
                        steps.iter().filter(|(step, kind)| self.may_happen(*fault, step.0, *kind));
                    choices
                        .extend(concerned.map(|(step, kind)| Choice::of(What::Fault(*fault), *step, *kind)));
                }
            }
        }
    }

    fn may_happen(&self, fault: Fault, who: usize, kind: Kind) -> bool {
        let is_store = kind != Kind::Call;
        match fault {
            Fault::AnswerLost => is_store,
            Fault::Hang => is_store && kind != Kind::Watch,
            Fault::Unavailable => kind == Kind::Call && who >= self.world.wrong,
            // One that has done nothing yet is one that is not there.
            Fault::Crash => kind != Kind::Watch && self.lives_still(who),
            Fault::Leave => matches!(kind, Kind::Call | Kind::Commit | Kind::Fail) && self.lives_still(who),
            Fault::Freeze => kind != Kind::Watch && self.frozen.is_none() && self.lives_still(who),
            Fault::Write(_) | Fault::Restless(_) => false,
        }
    }

    async fn perform(&mut self, choice: Choice) {
        let (who, step) = (choice.step.0, choice.step);
        if let What::Fault(fault) = choice.what {
            self.faults += 1;
            // Each makes another look necessary or two, which may have to wait for their turn.
            self.explained += self.explained_by(fault) + INTERVAL * 2;
        }
        match choice.what {
            What::Step => self.gates.let_go(step, Verdict::Done),
            What::Time => self.time_passes().await,
            What::Thaw => {
                self.frozen = None;
                let steps = self.gates.steps();
                for (step, _) in steps.into_iter().filter(|(step, _)| step.0 == who) {
                    self.gates.let_go(step, Verdict::Done);
                }
                self.gates.thaw(who);
            }
            What::Fault(Fault::AnswerLost) => self.gates.let_go(step, Verdict::AnswerLost),
            What::Fault(Fault::Unavailable) => self.gates.let_go(step, Verdict::Unavailable),
            What::Fault(Fault::Hang) => self.gates.hang(step),
            What::Fault(Fault::Crash) => {
                self.gates.crash(who);
                self.end(who);
            }
            What::Fault(Fault::Leave) => self.end(who),
            What::Fault(Fault::Freeze) => {
                self.gates.freeze(who);
                self.frozen = Some((who, self.now()));
            }
            What::Fault(Fault::Write(act)) => self.shelf.act(act).await,
            What::Fault(Fault::Restless(act)) => *self.shelf.restless.lock().unwrap() = Some(act),
        }
    }

    fn end(&self, who: usize) {
        self.tasks[who].abort();
        self.lives[who].lock().unwrap().ending = Some(Ending::Gone);
    }

    /// To the next timer; and everybody's waits are counted.
    async fn time_passes(&self) {
        let before = self.now();
        let running = self.calls.lock().unwrap().running.clone();
        let is_called = running.iter().any(|who| !self.gates.is_frozen(*who));
        let until_thaw =
            self.frozen.map_or(HORIZON, |(_, since)| (since + LEASE + GRACE).saturating_sub(before));
        // A freeze lasts two leases at most, also if nothing else happens.
        self.gates.time_passes(if until_thaw.is_zero() { LEASE } else { until_thaw }).await;
        let passed = self.now() - before;
        for (who, life) in self.lives.iter().enumerate() {
            let mut life = life.lock().unwrap();
            let works = running.contains(&who) || self.gates.is_hanging(who) || life.rests;
            if works || life.ending.is_some() || self.gates.is_frozen(who) {
                continue;
            }
            life.waited += passed;
            if !is_called {
                life.idle += passed;
            }
        }
    }

    fn explained_by(&self, fault: Fault) -> Duration {
        let lease = LEASE + GRACE * 2;
        match fault {
            // The lease of the dead.
            Fault::Crash | Fault::Freeze | Fault::AnswerLost | Fault::Write(Act::LastLease) => lease,
            Fault::Hang => STORE_TIMEOUT + lease,
            // The pause of the fleet.
            Fault::Unavailable | Fault::Leave | Fault::Write(Act::OldPause) => PAUSE + GRACE,
            // An owner whose lease is overwritten cannot commit. Who waits for this owner waits for the lease's end.
            Fault::Write(Act::RubbishLease | Act::ClearLease | Act::OldLease) if self.is_owned() => lease,
            // It is found, and passed at once.
            Fault::Write(_) => Duration::ZERO,
            Fault::Restless(_) => PATIENCE + GRACE,
        }
    }

    /// Somebody has the lease, or has had it.
    fn is_owned(&self) -> bool {
        self.gates.steps().iter().any(|(_, kind)| matches!(kind, Kind::Call | Kind::Commit | Kind::Fail))
    }

    fn check_waits(&self) -> Result<(), String> {
        let idle = self.explained;
        let waited = PATIENCE + self.world.call + INTERVAL + GRACE;
        for life in &self.lives {
            let life = life.lock().unwrap();
            if life.waited > waited {
                return Err(format!("{} ({:?})", LAWS[1], life.waited));
            }
            if life.idle > idle {
                return Err(format!("{} ({:?}, where {idle:?} is explained)", LAWS[2], life.idle));
            }
        }
        Ok(())
    }

    fn stats(&self, what: fn(&SharedStats) -> u64) -> u64 {
        self.sources.iter().map(|source| what(&source.stats())).sum()
    }

    fn check_the_end(&self) -> Result<(), String> {
        let calls = self.calls.lock().unwrap();
        for (who, life) in self.lives.iter().enumerate() {
            let ending = life.lock().unwrap().ending.clone();
            match ending {
                Some(Ending::Token(secret)) => {
                    let number = calls.issued.iter().position(|issued| *issued == secret);
                    let Some(number) = number else {
                        return Err(format!("{} ({secret})", LAWS[3]));
                    };
                    if number < self.world.tokens_before {
                        return Err(format!("{} ({secret})", LAWS[4]));
                    }
                }
                Some(Ending::Failed(error)) if who >= self.world.wrong => {
                    return Err(format!("{} ({error})", LAWS[5]));
                }
                _ => {}
            }
        }
        self.check_commits()?;
        let calls = calls.by.len() - self.calls_before;
        let polls = self.stats(SharedStats::polls);
        if self.faults == 0 {
            let most = self.world.wrong + 1;
            if calls > most {
                return Err(format!("{} ({calls} calls)", LAWS[9]));
            }
            let local = self.stats(SharedStats::local);
            if local > 0 || polls > 0 && self.world.call < LEASE {
                return Err(format!("{} ({polls} polls, {local} local)", LAWS[9]));
            }
        }
        Ok(())
    }

    fn check_commits(&self) -> Result<(), String> {
        let seen = self.shelf.seen();
        if seen.late_commits {
            return Err(LAWS[8].into());
        }
        for pair in seen.tokens.windows(2) {
            if pair[0].id == pair[1].id && pair[0].value != pair[1].value {
                return Err(LAWS[6].into());
            }
            if pair[0].id != pair[1].id && pair[0].fence >= pair[1].fence {
                return Err(LAWS[7].into());
            }
        }
        Ok(())
    }

    fn count(&self, sights: &mut Sights) {
        sights.adopted += self.stats(SharedStats::adopted);
        sights.late += self.stats(SharedStats::late);
        sights.local += self.stats(SharedStats::local);
        sights.pushes += self.stats(SharedStats::pushes);
        sights.polls += self.stats(SharedStats::polls);
        sights.mended += self.stats(SharedStats::mended);
        sights.unopened += self.stats(SharedStats::unopened);
        sights.two_calls += u64::from(self.calls.lock().unwrap().by.len() - self.calls_before > 1);
    }
}

//! The single flight: every rule of who gets which token when, in one machine without I/O.
//!
//! [`Machine::on`] takes an event and the time and says what has to be done; the actor does it. There is no
//! clock in here, no actix and no tokio, so that the rules can be read in one place and every order of events
//! can be tried.
//!
//! ```text
//!              want, token usable ──► told at once (and, near its end, a flight starts behind their back)
//!                                          ┌──────────── retry: backoff, Retry-After ◄───┐
//!   idle ──── want, no usable token ──► fetching ──── failed, may try again ─────────────┘
//!    ▲                                   │      └──── failed for good ──► cooldown ──► idle
//!    └── publish, end, tell everybody ◄──┘ token                          (the known error at once)
//! ```

mod waiters;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{SourceError, TokenError};
use crate::policy::{Margins, RefreshPolicy};
use crate::source::{FetchContext, Reason};
use crate::token::Token;

pub(crate) use waiters::{Line, Waiter, Waiters};

pub(crate) type Outcome = Result<Token, TokenError>;

/// What happens to the machine.
#[derive(Debug)]
pub(crate) enum Event<W> {
    /// Somebody needs a token; `timeout` if it is not the policy's.
    Want { waiter: W, timeout: Option<Duration> },
    /// Somebody wants a new token, whatever the old one is worth.
    Refresh { waiter: W },
    /// A reader saw that the token is near its end.
    NearEnd,
    /// The API rejected this token.
    Invalidate(Token),
    /// The fetch with this number ended. A token comes stamped.
    Fetched { id: u64, result: Result<Token, SourceError> },
    /// Time has passed; due at [`Machine::next_wake`], harmless at any other time.
    Tick,
    /// The end: everybody is told.
    Stop,
    /// The actor begins anew, and has lost the fetch that was running.
    Restart,
}

/// What has to be done, in this order.
#[derive(Debug)]
pub(crate) enum Effect<W> {
    /// Call the source, and report the end as [`Event::Fetched`] with this number.
    Fetch { id: u64, cx: FetchContext },
    /// Drop the fetch that is running.
    Abort,
    /// From now on readers find this token, or none.
    Publish(Option<(Token, Margins)>),
    /// Readers need not report [`Event::NearEnd`] before this moment.
    QuietUntil(Duration),
    /// Tell one.
    Tell(W, Outcome),
    /// Tell all of these, oldest first.
    TellAll(Line<W>, Outcome),
    /// It waits already; this second one must not be told.
    Discard(W),
    /// Worth a line in the log.
    Note(Note),
}

/// A turn in the life of a flight.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Started {
        reason: Reason,
    },
    Retrying {
        attempt: u32,
        pause: Duration,
        error: SourceError,
    },
    Landed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        lifetime: Duration,
        outage: u32,
    },
    Failed {
        reason: Reason,
        attempts: u32,
        took: Duration,
        waiters: usize,
        cooldown: Duration,
        error: TokenError,
        first: bool,
    },
    Rejected {
        streak: u32,
    },
}

/// What the machine has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests and subscriptions that the actor has seen. A handle's read of a usable token is not among
    /// them, and the handle waiters of one flight count as one.
    pub requests: u64,
    /// Flights started.
    pub flights: u64,
    /// Calls to the source.
    pub attempts: u64,
    /// Flights that brought a token.
    pub landed: u64,
    /// Flights that failed.
    pub failed: u64,
    /// Tokens that the API rejected while they were current.
    pub rejections: u64,
    /// Requests that waited for a flight that somebody else had started.
    pub coalesced: u64,
    /// Requests whose own time ran out.
    pub timeouts: u64,
    /// Requests that found the queue full.
    pub overloads: u64,
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlightState {
    /// No flight.
    Idle,
    /// A call to the source is under way.
    Fetching,
    /// An attempt failed; the next one follows.
    Pausing,
    /// The last flight failed; the source is left alone for a while.
    Cooldown,
    /// It has stopped.
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Machine<W> {
    policy: RefreshPolicy,
    dice: fastrand::Rng,
    held: Option<Held>,
    /// The last token that the API rejected.
    rejected: Option<Token>,
    /// Tokens in a row that were rejected young.
    streak: u32,
    flight: Option<Airborne>,
    /// Flights in a row that failed.
    failures: u32,
    cooldown: Option<Cooldown>,
    /// Those who want a token.
    wanting: Waiters<W>,
    /// Those who want a new one, and no other.
    forcing: Waiters<W>,
    purged: Duration,
    stopped: bool,
    fetches: u64,
    counters: Counters,
}

/// The token in hand: good, near its end, or past it. Never one that the API rejected.
#[derive(Debug)]
struct Held {
    token: Token,
    margins: Margins,
    since: Duration,
}

/// The flight under way.
#[derive(Debug)]
struct Airborne {
    reason: Reason,
    attempt: u32,
    started: Duration,
    deadline: Duration,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Fetching { id: u64, until: Duration },
    Pausing { until: Duration },
}

#[derive(Debug)]
struct Cooldown {
    until: Duration,
    error: TokenError,
}

type Out<W> = Vec<Effect<W>>;

impl<W: Waiter> Machine<W> {
    pub(crate) fn new(policy: RefreshPolicy, seed: u64) -> Self {
        Self {
            policy,
            dice: fastrand::Rng::with_seed(seed),
            held: None,
            rejected: None,
            streak: 0,
            flight: None,
            failures: 0,
            cooldown: None,
            wanting: Waiters::new(),
            forcing: Waiters::new(),
            purged: Duration::ZERO,
            stopped: false,
            fetches: 0,
            counters: Counters::default(),
        }
    }

    /// Takes an event, and appends what has to be done.
    pub(crate) fn on(&mut self, event: Event<W>, now: Timestamp, out: &mut Out<W>) {
        match event {
            Event::Want { waiter, timeout } => self.want(waiter, timeout, now, out),
            Event::Refresh { waiter } => self.refresh(waiter, now, out),
            Event::NearEnd => self.near_end(now, out),
            Event::Invalidate(token) => self.invalidate(&token, now, out),
            Event::Fetched { id, result } => self.fetched(id, result, now, out),
            Event::Tick => self.tick(now, out),
            Event::Stop => {
                self.clear(out);
                self.stopped = true;
                self.held = None;
                out.push(Effect::Publish(None));
            }
            Event::Restart => {
                self.clear(out);
                self.stopped = false;
            }
        }
    }

    /// When [`Event::Tick`] is due; `None` if nothing will happen by itself.
    pub(crate) fn next_wake(&mut self) -> Option<Duration> {
        let flight = self.flight.as_ref().map(|flight| match flight.phase {
            Phase::Fetching { until, .. } | Phase::Pausing { until } => until,
        });
        let patience = [self.wanting.next_deadline(), self.forcing.next_deadline()];
        [flight, self.own_refresh()].into_iter().chain(patience).flatten().min()
    }

    /// Whether there is nothing to wait for but a refresh of its own.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_none() && self.wanting.is_empty() && self.forcing.is_empty()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn waiters(&self) -> usize {
        self.wanting.callers() + self.forcing.callers()
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.held.as_ref().map(|held| &held.token)
    }

    pub(crate) fn state(&self, now: Timestamp) -> FlightState {
        match &self.flight {
            _ if self.stopped => FlightState::Stopped,
            Some(Airborne { phase: Phase::Fetching { .. }, .. }) => FlightState::Fetching,
            Some(_) => FlightState::Pausing,
            None if self.cooling(now).is_some() => FlightState::Cooldown,
            None => FlightState::Idle,
        }
    }
}

/// What callers do.
impl<W: Waiter> Machine<W> {
    fn want(&mut self, waiter: W, timeout: Option<Duration>, now: Timestamp, out: &mut Out<W>) {
        self.counters.requests += 1;
        if let Some(outcome) = self.known(now) {
            let near_end = outcome.is_ok();
            out.push(Effect::Tell(waiter, outcome));
            if near_end {
                self.refresh_ahead(now, out);
            }
            return;
        }
        if self.wanting.contains(&waiter) {
            return out.push(Effect::Discard(waiter));
        }
        let Some(waiter) = self.admit(waiter, now, out) else { return };
        let deadline = now.boot.saturating_add(timeout.unwrap_or(self.policy.wait_limit()));
        self.wanting.push(waiter, deadline, timeout.is_some());
        self.fly(self.reason(), now, out);
    }

    fn refresh(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) {
        self.counters.requests += 1;
        if self.stopped {
            return out.push(Effect::Tell(waiter, Err(TokenError::stopped())));
        }
        if self.flight.is_none()
            && let Some(error) = self.cooling(now)
        {
            let error = error.clone();
            return out.push(Effect::Tell(waiter, Err(error)));
        }
        let Some(waiter) = self.admit(waiter, now, out) else { return };
        let deadline = now.boot.saturating_add(self.policy.wait_limit());
        self.forcing.push(waiter, deadline, false);
        let reason = if self.usable(now).is_some() { Reason::Forced } else { self.reason() };
        self.fly(reason, now, out);
    }

    /// A reader reports once a token, so it must be told when to report again if no flight comes of it.
    fn near_end(&mut self, now: Timestamp, out: &mut Out<W>) {
        self.refresh_ahead(now, out);
        if self.flight.is_none() {
            let until = self.cooldown.as_ref().map_or(now.boot, |cooldown| cooldown.until.max(now.boot));
            out.push(Effect::QuietUntil(until));
        }
    }

    /// The token that is named is taken out of use, if it is still the one in use: a late report about a
    /// token that has been replaced says nothing about its successor.
    fn invalidate(&mut self, token: &Token, now: Timestamp, out: &mut Out<W>) {
        let Some(held) = self.held.take_if(|held| held.token.same_secret(token)) else { return };
        self.counters.rejections += 1;
        // A server that rejects every new token is met with a growing floor: the k-th that was rejected
        // young must have been out for so long before it is replaced. One that served well starts anew.
        let lived = now.boot.saturating_sub(held.since);
        let old = lived >= (held.token.whole_life() / 2).min(self.policy.floor_after(u32::MAX));
        self.streak = if old { 1 } else { self.streak.saturating_add(1) };
        let until = held.since.saturating_add(self.policy.floor_after(self.streak));
        if until > now.boot && self.cooldown.as_ref().is_none_or(|cooldown| cooldown.until < until) {
            let error = TokenError::tokens_rejected(self.streak, until.saturating_sub(now.boot));
            self.cooldown = Some(Cooldown { until, error });
        }
        if let Some(flight) = &mut self.flight {
            flight.reason = Reason::Rejected;
        }
        self.rejected = Some(held.token);
        out.push(Effect::Publish(None));
        out.push(Effect::Note(Note::Rejected { streak: self.streak }));
        self.refresh_unasked(now, out);
    }

    /// The answer, if it needs no flight: the token while it is usable; the error of the last flight while
    /// the source is left alone; and in between, where the policy allows it, the token past its end.
    fn known(&self, now: Timestamp) -> Option<Outcome> {
        if self.stopped {
            return Some(Err(TokenError::stopped()));
        }
        if let Some(held) = self.usable(now) {
            return Some(Ok(held.token.clone()));
        }
        // While a flight is under way its outcome is awaited, even if an old cooldown has not ended.
        if self.flight.is_some() {
            return None;
        }
        self.cooling(now).map(|error| self.instead_of(error, now))
    }

    fn usable(&self, now: Timestamp) -> Option<&Held> {
        self.held.as_ref().filter(|held| {
            let remaining = held.token.remaining_at(now);
            !remaining.is_zero() && remaining > held.margins.min_validity
        })
    }

    fn cooling(&self, now: Timestamp) -> Option<&TokenError> {
        self.cooldown.as_ref().filter(|cooldown| now.boot < cooldown.until).map(|cooldown| &cooldown.error)
    }

    /// `stale_if_error`: a token past its end instead of an error.
    fn instead_of(&self, error: &TokenError, now: Timestamp) -> Outcome {
        let grace = self.policy.grace();
        let stale = self.held.as_ref().filter(|held| !grace.is_zero() && held.token.overdue_at(now) <= grace);
        stale.map_or_else(|| Err(error.clone()), |held| Ok(held.token.clone()))
    }

    /// A place in the queue, unless it is full.
    fn admit(&mut self, waiter: W, now: Timestamp, out: &mut Out<W>) -> Option<W> {
        const PURGE_INTERVAL: Duration = Duration::from_secs(1);
        let limit = self.policy.waiters_limit();
        // Those who left without a word hold places too. Looking for them takes a walk through the line, so
        // that a full queue of patient waiters must not pay for it with every request.
        if self.waiters() >= limit && now.boot.saturating_sub(self.purged) >= PURGE_INTERVAL {
            self.purged = now.boot;
            self.wanting.purge();
            self.forcing.purge();
        }
        if self.waiters() < limit {
            return Some(waiter);
        }
        self.counters.overloads += 1;
        out.push(Effect::Tell(waiter, Err(TokenError::overloaded(limit))));
        None
    }

    fn reason(&self) -> Reason {
        match (&self.held, &self.rejected) {
            (Some(_), _) => Reason::Expired,
            (None, Some(_)) => Reason::Rejected,
            (None, None) => Reason::First,
        }
    }
}

/// What the flight does.
impl<W: Waiter> Machine<W> {
    /// Starts a flight, or joins the one under way.
    fn fly(&mut self, reason: Reason, now: Timestamp, out: &mut Out<W>) {
        if self.flight.is_some() {
            self.counters.coalesced += 1;
            return;
        }
        self.counters.flights += 1;
        self.flight = Some(Airborne {
            reason,
            attempt: 0,
            started: now.boot,
            deadline: now.boot.saturating_add(self.policy.flight_limit()),
            phase: Phase::Pausing { until: now.boot },
        });
        out.push(Effect::Note(Note::Started { reason }));
        self.attempt(now, out);
    }

    fn refresh_ahead(&mut self, now: Timestamp, out: &mut Out<W>) {
        let near_end = self.held.as_ref().is_some_and(|held| {
            held.token.remaining_at(now) <= held.margins.ahead.max(held.margins.min_validity)
        });
        if near_end && self.flight.is_none() && self.cooling(now).is_none() && !self.stopped {
            self.fly(Reason::Ahead, now, out);
        }
    }

    fn attempt(&mut self, now: Timestamp, out: &mut Out<W>) {
        let previous = self.token().or(self.rejected.as_ref()).cloned();
        let Some(flight) = &mut self.flight else { return };
        self.fetches += 1;
        self.counters.attempts += 1;
        flight.attempt += 1;
        let until = now.boot.saturating_add(self.policy.attempt_limit()).min(flight.deadline);
        flight.phase = Phase::Fetching { id: self.fetches, until };
        let cx = FetchContext::new(flight.reason, previous, flight.attempt);
        out.push(Effect::Fetch { id: self.fetches, cx });
    }

    fn fetched(&mut self, id: u64, result: Result<Token, SourceError>, now: Timestamp, out: &mut Out<W>) {
        // A fetch that was given up may still report: too late.
        if !matches!(&self.flight, Some(Airborne { phase: Phase::Fetching { id: current, .. }, .. }) if *current == id)
        {
            return;
        }
        match result.and_then(|token| self.accept(token, now)) {
            Ok(token) => self.land(token, now, out),
            Err(error) => self.attempt_failed(error, now, out),
        }
    }

    /// A "success" that would not help anybody is a failed attempt.
    fn accept(&self, token: Token, now: Timestamp) -> Result<Token, SourceError> {
        if !token.is_presentable() {
            return Err(SourceError::transient(
                "the new token is empty or has characters that no header can carry",
            ));
        }
        if token.remaining_at(now).is_zero() {
            return Err(SourceError::transient("the new token had expired when it arrived"));
        }
        if self.rejected.as_ref().is_some_and(|rejected| rejected.same_secret(&token)) {
            return Err(SourceError::transient(
                "the source gave out again the token that the api had rejected",
            ));
        }
        Ok(token)
    }

    /// The order is the argument: publish, end the flight, then tell. A request that comes while the waiters
    /// are being told finds the new token; one that came before is among them; nobody falls in between, and
    /// nobody who was told finds the old state.
    fn land(&mut self, token: Token, now: Timestamp, out: &mut Out<W>) {
        let lifetime = token.whole_life();
        let margins = self.policy.margins(lifetime, self.dice.f64());
        out.push(Effect::Publish(Some((token.clone(), margins))));
        self.held = Some(Held { token: token.clone(), margins, since: now.boot });
        self.cooldown = None;
        let outage = std::mem::take(&mut self.failures);
        self.counters.landed += 1;
        if let Some(flight) = self.flight.take() {
            out.push(Effect::Note(Note::Landed {
                reason: flight.reason,
                attempts: flight.attempt,
                took: now.boot.saturating_sub(flight.started),
                waiters: self.waiters(),
                lifetime,
                outage,
            }));
        }
        self.tell_all(Ok(token.clone()), Ok(token), out);
    }

    fn attempt_failed(&mut self, error: SourceError, now: Timestamp, out: &mut Out<W>) {
        let dice = self.dice.f64();
        let Some(flight) = &mut self.flight else { return };
        let wish = error.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        let pause = self.policy.backoff_after(flight.attempt, dice).max(wish);
        let until = now.boot.saturating_add(pause);
        let hopeless = error.is_terminal() || error.is_panic();
        if hopeless || flight.attempt >= self.policy.max_attempts() || until >= flight.deadline {
            return self.fail(error, now, out);
        }
        flight.phase = Phase::Pausing { until };
        out.push(Effect::Note(Note::Retrying { attempt: flight.attempt, pause, error }));
    }

    /// One failure, one error: all who wait get the same, and so does everybody who comes in the cooldown.
    fn fail(&mut self, cause: SourceError, now: Timestamp, out: &mut Out<W>) {
        let Some(flight) = self.flight.take() else { return };
        let (reason, attempts) = (flight.reason, flight.attempt);
        self.failures = self.failures.saturating_add(1);
        self.counters.failed += 1;
        let cooldown = self.cooldown_for(&cause);
        let error = TokenError::flight_failed(cause, attempts, cooldown);
        // A rejected token's floor may last longer.
        let floor = self.cooldown.take().map_or(Duration::ZERO, |old| old.until);
        let until = now.boot.saturating_add(cooldown).max(floor);
        self.cooldown = Some(Cooldown { until, error: error.clone() });
        out.push(Effect::QuietUntil(until));
        out.push(Effect::Note(Note::Failed {
            reason,
            attempts,
            took: now.boot.saturating_sub(flight.started),
            waiters: self.waiters(),
            cooldown,
            error: error.clone(),
            first: self.failures == 1,
        }));
        let wanted = match self.usable(now) {
            // Possible where the wall clock was set back meanwhile.
            Some(held) => Ok(held.token.clone()),
            None => self.instead_of(&error, now),
        };
        self.tell_all(wanted, Err(error), out);
    }

    fn cooldown_for(&mut self, cause: &SourceError) -> Duration {
        let dice = self.dice.f64();
        // A panic is a fault in the program, not an overloaded server: the next request tries again. Only a
        // source that keeps panicking is left alone like any other.
        if cause.is_panic() && self.failures == 1 {
            return Duration::ZERO;
        }
        let usual = self.policy.cooldown_after(self.failures, dice);
        let least = if cause.is_terminal() { self.policy.terminal_pause() } else { Duration::ZERO };
        let wish = cause.retry_after().map_or(Duration::ZERO, |delay| self.policy.capped(delay));
        usual.max(least).max(wish)
    }

    fn tell_all(&mut self, wanted: Outcome, forced: Outcome, out: &mut Out<W>) {
        for (waiters, outcome) in [(&mut self.wanting, wanted), (&mut self.forcing, forced)] {
            if !waiters.is_empty() {
                out.push(Effect::TellAll(waiters.take(), outcome));
            }
        }
    }

    fn clear(&mut self, out: &mut Out<W>) {
        if self.flight.take().is_some() {
            out.push(Effect::Abort);
        }
        self.tell_all(Err(TokenError::stopped()), Err(TokenError::stopped()), out);
    }
}

/// What time does.
impl<W: Waiter> Machine<W> {
    fn tick(&mut self, now: Timestamp, out: &mut Out<W>) {
        match self.flight.as_ref().map(|flight| &flight.phase) {
            Some(Phase::Fetching { until, .. }) if now.boot >= *until => {
                out.push(Effect::Abort);
                self.attempt_failed(SourceError::timeout(self.policy.attempt_limit()), now, out);
            }
            Some(Phase::Pausing { until }) if now.boot >= *until => self.attempt(now, out),
            Some(_) => {}
            None => self.refresh_unasked(now, out),
        }
        for waiters in [&mut self.wanting, &mut self.forcing] {
            while let Some(waiter) = waiters.pop_due(now.boot) {
                self.counters.timeouts += 1;
                out.push(Effect::Tell(waiter, Err(TokenError::wait_timed_out())));
            }
        }
    }

    /// When to refresh without being asked, in background mode.
    fn own_refresh(&self) -> Option<Duration> {
        /// However short the tokens live.
        const LEAST_INTERVAL: Duration = Duration::from_millis(500);
        if !self.policy.refreshes_by_itself() || self.flight.is_some() || self.stopped {
            return None;
        }
        let after_cooldown = self.cooldown.as_ref().map_or(Duration::ZERO, |cooldown| cooldown.until);
        let due = self.held.as_ref().map_or(Duration::ZERO, |held| {
            let margin = held.margins.ahead.max(held.margins.min_validity);
            held.token.end().boot.saturating_sub(margin).max(held.since.saturating_add(LEAST_INTERVAL))
        });
        Some(due.max(after_cooldown))
    }

    fn refresh_unasked(&mut self, now: Timestamp, out: &mut Out<W>) {
        if self.own_refresh().is_some_and(|due| due <= now.boot) {
            let reason = if self.usable(now).is_some() { Reason::Ahead } else { self.reason() };
            self.fly(reason, now, out);
        }
    }
}

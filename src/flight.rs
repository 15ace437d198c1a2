//! The single flight: every rule of who gets which token when, in one machine without I/O.
//!
//! [`Machine::on`] takes an event and the time and says what has to be done; the actor does it. There is no
//! clock in here, no actix and no tokio, so that the rules can be read in one place and every order of events
//! can be tried. This file has the state and what callers do to it; [`course`] has the flight itself.
//!
//! ```text
//!              want, token usable ──► told at once (and, near its end, a flight starts behind their back)
//!                                          ┌──────────── retry: backoff, Retry-After ◄───┐
//!   idle ──── want, no usable token ──► fetching ──── failed, may try again ─────────────┘
//!    ▲                                   │      └──── failed for good ──► cooldown ──► idle
//!    └── publish, end, tell everybody ◄──┘ token                          (the known error at once)
//! ```

mod course;
mod event;

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::TokenError;
use crate::policy::{Margins, RefreshPolicy};
use crate::queue::{Waiter, Waiters};
use crate::source::Reason;
use crate::token::Token;

pub use event::{Counters, FlightState};
pub(crate) use event::{Effect, Event, Note, Outcome};

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))] // the model tries each event on a copy
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
#[derive(Clone, Debug)]
struct Held {
    token: Token,
    margins: Margins,
    since: Duration,
}

/// The flight under way.
#[derive(Clone, Debug)]
struct Airborne {
    reason: Reason,
    attempt: u32,
    started: Duration,
    deadline: Duration,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Fetching { id: u64, until: Duration },
    Pausing { until: Duration },
}

#[derive(Clone, Debug)]
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
                // A reader may have reported to the flight that is gone; the next one reports anew.
                out.push(Effect::QuietUntil(now.boot));
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

    /// How long the source is still left alone.
    pub(crate) fn cooldown_left(&self, now: Timestamp) -> Option<Duration> {
        self.running_cooldown(now).map(|cooldown| cooldown.until.saturating_sub(now.boot))
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
        // Before all else: where the wall clock has been set back, the old token is good again, and the second of
        // a pair must not be answered with it while the first still waits.
        if !self.wanting.is_empty() && self.wanting.contains(&waiter) {
            return out.push(Effect::Discard(waiter));
        }
        if let Some(outcome) = self.known(now) {
            let near_end = outcome.is_ok();
            out.push(Effect::Tell(waiter, outcome));
            if near_end {
                self.refresh_ahead(now, out);
            }
            return;
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
        self.running_cooldown(now).map(|cooldown| &cooldown.error)
    }

    fn running_cooldown(&self, now: Timestamp) -> Option<&Cooldown> {
        self.cooldown.as_ref().filter(|cooldown| now.boot < cooldown.until)
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

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

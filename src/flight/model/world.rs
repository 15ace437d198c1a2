//! The machine and its surroundings: the behaviour of the actor, the callers, the source and the clocks.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::books::{Asks, Books, Due};
use super::laws::Law;
use super::rules::{Action, Name, Reply, Rules, Seat, Which};
use super::sights::Sight;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::SourceError;
use crate::flight::{Event, FlightState, Machine, Rejection};
use crate::policy::Margins;
use crate::source::Challenge;
use crate::token::Token;

/// A state of the model.
#[derive(Clone)]
pub(super) struct World {
    pub(super) machine: Machine<Seat>,
    pub(super) now: Timestamp,
    /// How often the wall clock was set forward, minus how often it was set back.
    pub(super) skew: i8,
    /// The call to the source that is under way.
    pub(super) call: Option<Call>,
    /// A call that was given up, and may still report.
    pub(super) late: Option<u64>,
    pub(super) slot: Option<Shown>,
    /// The waiters that have not been told, in the order in which they came.
    pub(super) waiting: Vec<Waiting>,
    /// The number of the next waiter.
    pub(super) seats: u64,
    /// The number of the next event that decides an outcome.
    pub(super) decisions: u64,
    pub(super) books: Books,
    pub(super) breach: Option<Law>,
    /// The key of the whole state: see [`super::key`].
    pub(super) key: Vec<i64>,
}

#[derive(Clone)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) sent: Timestamp,
}

#[derive(Clone)]
pub(super) struct Shown {
    pub(super) token: Token,
    pub(super) margins: Margins,
    pub(super) since: Duration,
    pub(super) quiet_until: Duration,
    pub(super) withheld_until: Option<Duration>,
    pub(super) suspect: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) name: Name,
    pub(super) number: u64,
    pub(super) gone: bool,
    pub(super) deadline: Duration,
    /// It wants the flight's outcome, and not just a token.
    pub(super) renewing: bool,
    /// The number of the event that decided its outcome. It has not been told.
    pub(super) decided: Option<u64>,
}

/// An event, and the machine's reaction to it so far.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(super) struct Said {
    pub(super) action: Option<Action>,
    /// The waiter that came with this event.
    pub(super) newcomer: Option<u64>,
    /// Whether the newcomer could have read a token.
    pub(super) could_read: bool,
    /// The newcomer was told at once, or was a duplicate.
    pub(super) answered: bool,
    /// The required result of a report.
    pub(super) due: Option<Due>,
    /// The token that the reporter may get at once, for any result of the report.
    pub(super) offer: Option<Token>,
    pub(super) is_young: bool,
    /// A flight was under way.
    pub(super) flew: bool,
    pub(super) may_take_away: bool,
    pub(super) published: bool,
    /// The source has given a reported secret, and is asked once more.
    pub(super) asks_again: bool,
    /// How long the source is not called, whatever the policy says.
    pub(super) pause: Duration,
    /// The waiters that were to be told the token that is discarded now.
    pub(super) withdrawn: Vec<u64>,
    pub(super) sights: Vec<Sight>,
}

static CLOCK: LazyLock<Arc<dyn Clock>> = LazyLock::new(|| Arc::new(SystemClock));

impl World {
    pub(super) fn new(rules: &Rules) -> Self {
        let now = Timestamp {
            boot: Duration::from_secs(1_000_000),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
        };
        let mut world = Self {
            machine: Machine::new(Arc::new(rules.policy()), 7),
            now,
            skew: 0,
            call: None,
            late: None,
            slot: None,
            waiting: Vec::new(),
            seats: 0,
            decisions: 0,
            books: Books::new(rules),
            breach: None,
            key: Vec::new(),
        };
        let said = world.said(Action::Tick);
        world.on(Event::Tick, said, rules);
        world.set_key(rules);
        world
    }

    /// Whether this action is possible now.
    pub(super) fn can(&self, action: Action, rules: &Rules) -> bool {
        match action {
            // One round is open at a time. The next one opens when this one has been told: a bound of the model.
            Action::Want(Name::Round) => self.waiting.iter().all(|waiting| waiting.name != Name::Round),
            Action::Leave(name) => self.find(name).is_some(),
            Action::NearEnd => self.reader_reports(),
            Action::Tell => self.machine.is_telling(),
            Action::Answer(Reply::Current | Reply::Stamped) => self.call.is_some() && self.slot.is_some(),
            Action::Answer(Reply::Reported) => self.call.is_some() && self.named(Which::Again).is_some(),
            Action::Answer(Reply::Discarded) => self.call.is_some() && !self.books.discarded.is_empty(),
            Action::Answer(_) => self.call.is_some(),
            Action::Late => self.late.is_some(),
            Action::Replace(which)
            | Action::Confirm(which)
            | Action::Demand(which)
            | Action::Invalidate(which) => {
                let few = self.books.reported.len() < rules.secrets;
                self.named(which).is_some_and(|token| few || !self.is_new_report(&token))
            }
            Action::Discard(which) => {
                self.named(which).is_some() && self.books.discarded.len() < rules.discards
            }
            Action::WallForward => self.skew < 1,
            Action::WallBack => self.skew > -1,
            _ => true,
        }
    }

    /// Performs the action as the actor would. Returns the events that were seen.
    pub(super) fn act(&mut self, action: Action, rules: &Rules) -> Vec<Sight> {
        let mut said = self.said(action);
        match action {
            Action::Want(name) => {
                let waiter = self.sit(name, false, &mut said, rules);
                let timeout = match name {
                    Name::Round => Some(Duration::MAX),
                    Name::Hasty => Some(rules.haste()),
                    _ => None,
                };
                self.on(Event::Want { waiter, timeout }, said, rules)
            }
            Action::Refresh => self.refresh(said, rules),
            Action::Leave(name) => self.leave(name),
            Action::Replace(which) => self.replace(which, Rejection::default(), said, rules),
            Action::Confirm(which) => {
                let rejection = Rejection { is_confirmed: true, ..Rejection::default() };
                self.replace(which, rejection, said, rules)
            }
            Action::Demand(which) => {
                let challenge = Some(Challenge::new("{}"));
                self.replace(which, Rejection { challenge, ..Rejection::default() }, said, rules)
            }
            Action::Invalidate(which) => self.invalidate(which, said, rules),
            Action::Discard(which) => self.discard(which, said, rules),
            Action::NearEnd => {
                self.slot.iter_mut().for_each(|shown| shown.quiet_until = Duration::MAX);
                self.on(Event::NearEnd, said, rules)
            }
            Action::Tell => {
                said.sights.push(Sight::ToldLater);
                self.tell_next(&mut said);
                self.judge_state(&mut said, rules);
                said.sights
            }
            Action::Answer(reply) => self.answer(reply, said, rules),
            Action::Offer => self.offer(said, rules),
            Action::Late => self.report_late(said, rules),
            Action::Tick => {
                let sights = self.on(Event::Tick, said, rules);
                self.judge_patience();
                sights
            }
            Action::Second => self.pass(rules.unit, rules),
            Action::Ages => self.pass(rules.ages(), rules),
            Action::WallForward => self.set_wall(1, rules),
            Action::WallBack => self.set_wall(-1, rules),
            Action::Stop => {
                said.may_take_away = true;
                (self.books.old, self.books.again) = (None, None);
                self.on(Event::Stop, said, rules)
            }
            Action::Restart => {
                self.late = self.call.take().map(|call| call.id);
                let mut sights = self.on(Event::Restart, said, rules);
                let said = self.said(Action::Tick);
                sights.extend(self.on(Event::Tick, said, rules));
                sights
            }
        }
    }

    fn said(&self, action: Action) -> Said {
        Said { action: Some(action), flew: self.books.flight.is_some(), ..Said::default() }
    }

    pub(super) fn pass(&mut self, time: Duration, rules: &Rules) -> Vec<Sight> {
        self.now.boot += time;
        self.now.wall += time;
        self.books.pass(time, self.now, rules);
        Vec::new()
    }

    pub(super) fn find(&self, name: Name) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.name == name && !waiting.gone)
    }

    pub(super) fn sit(&mut self, name: Name, renewing: bool, said: &mut Said, rules: &Rules) -> Seat {
        let patience = match name {
            Name::Round => Duration::MAX,
            Name::Hasty => rules.haste(),
            _ => rules.patience(),
        };
        let number = self.seats;
        self.seats += 1;
        let deadline = self.now.boot.saturating_add(patience);
        self.waiting.push(Waiting { name, number, gone: false, deadline, renewing, decided: None });
        said.newcomer = Some(number);
        said.could_read = !renewing && self.readable().is_some();
        Seat { name, number, gone: false, decided: false }
    }

    fn refresh(&mut self, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let waiter = self.sit(Name::Forcer, true, &mut said, rules);
        if self.usable().is_some() && self.is_settling(rules) && !self.books.cools(self.now) && !said.flew {
            said.due = Some(Due::Settling);
        }
        self.on(Event::Refresh { waiter }, said, rules)
    }

    fn leave(&mut self, name: Name) -> Vec<Sight> {
        let Some(at) = self.find(name) else { return Vec::new() };
        self.waiting[at].gone = true;
        let number = self.waiting[at].number;
        let machine = &mut self.machine;
        let told = machine.telling.iter_mut().flat_map(|telling| telling.crowd.everybody_mut());
        let mut seats = machine.wanting.everybody_mut().chain(machine.renewing.everybody_mut()).chain(told);
        if let Some(seat) = seats.find(|seat| seat.number == number) {
            seat.gone = true;
        }
        Vec::new()
    }

    /// Whether a reader would find the token near its end, or past it, and would have to report it.
    fn reader_reports(&self) -> bool {
        self.slot.as_ref().is_some_and(|shown| {
            let near = self.left(&shown.token) <= shown.margins.ahead;
            near && shown.quiet_until <= self.now.boot
                && (self.usable().is_none() || self.readable().is_some())
        })
    }

    fn answer(&mut self, reply: Reply, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let Some(call) = self.call.take() else { return Vec::new() };
        let current = self.slot.as_ref().map(|shown| shown.token.clone());
        let stamped = |token: Token| token.stamped(call.sent, &CLOCK, rules.lifetime(), rules.lifetime());
        let with_life = |secret: &str, life: Duration| stamped(Token::new(secret).with_lifetime(life));
        let again = |token: Option<Token>| {
            let token = token.ok_or_else(|| SourceError::transient("none to give out again"))?;
            Ok(with_life(token.secret(), rules.lifetime()))
        };
        let result = match reply {
            Reply::Fresh => Ok(with_life(self.unseen(), rules.lifetime())),
            Reply::Current => again(current),
            Reply::Stamped => current.map(stamped).ok_or_else(|| SourceError::transient("none")),
            Reply::Reported => again(self.named(Which::Again)),
            Reply::Discarded => again(self.books.discarded.last().cloned()),
            Reply::Dead => Ok(with_life(self.unseen(), Duration::ZERO)),
            Reply::Faceless => Ok(with_life("", rules.lifetime())),
            Reply::Transient => Err(SourceError::transient("transient")),
            Reply::Wait => Err(SourceError::transient("wait").with_retry_after(rules.requested())),
            Reply::Ambiguous => Err(SourceError::ambiguous("ambiguous")),
            Reply::Terminal => Err(SourceError::terminal("terminal")),
            Reply::Panic => Err(SourceError::panic("panic")),
        };
        // A token that has expired on arrival comes from a server that counts whole seconds.
        let has_expired = |token: &Token| token.flaw().is_none() && token.remaining_at(self.now).is_zero();
        said.pause = match &result {
            Ok(token) if has_expired(token) => Duration::from_secs(1),
            Err(_) if reply == Reply::Wait => rules.requested(),
            _ => Duration::ZERO,
        };
        let brought = result.as_ref().ok().filter(|token| self.is_good(token)).cloned();
        // If there is no usable token meanwhile, no caller has to wait for a second answer.
        let may_wait = self.usable().is_some();
        let asks_again =
            may_wait && brought.as_ref().is_some_and(|token| self.books.asks_again(token, self.now, rules));
        if let Some(token) = &brought {
            said.sights.extend(self.sight_of_repeat(token, asks_again));
            if reply == Reply::Stamped {
                said.sights.push(Sight::LifeGoesOn);
            }
        }
        let asks_for_more =
            may_wait && !asks_again && brought.is_some() && self.books.asks_for_more(self.now, rules);
        let spare = self.books.flight.as_mut().and_then(|flight| flight.spare.take());
        if asks_for_more && let Some(flight) = &mut self.books.flight {
            said.sights.push(Sight::AskedForMore);
            flight.spare.clone_from(&brought);
        }
        if asks_again && let Some(flight) = &mut self.books.flight {
            flight.spare.clone_from(&spare);
        }
        if reply == Reply::Discarded {
            said.sights.push(Sight::DiscardedAgain);
            let lasts = result.as_ref().ok().filter(|token| !self.left(token).is_zero()).cloned();
            self.books.again = lasts.or(self.books.again.take());
        }
        if asks_again && let Some(flight) = &mut self.books.flight {
            flight.asks = Asks::Enough;
        }
        said.asks_again = asks_again;
        // What the source gave before counts if it gives nothing better.
        let is_spare = spare.is_some() && brought.is_none();
        let due = brought.or(spare.filter(|spare| self.is_good(spare)));
        let due = due.filter(|_| !asks_again && !asks_for_more);
        if is_spare && due.is_some() {
            said.sights.push(Sight::Spare);
        }
        let sights = self.on(Event::Fetched { id: call.id, result }, said, rules);
        // The source's token is in use, except if the source is asked once more.
        if let Some(token) = due {
            let holds = self
                .slot
                .as_ref()
                .is_some_and(|shown| shown.token.is_same(&token) && shown.since == self.now.boot);
            self.law(Law::LastWord, holds && self.books.flight.is_none());
        }
        if asks_again {
            self.law(Law::LastWord, self.books.flight.is_some());
        }
        if asks_for_more {
            self.law(Law::Demanded, self.call.is_some());
        }
        let withheld = self.slot.as_ref().is_some_and(|shown| self.is_withheld(shown));
        self.law(Law::Withheld, !withheld);
        sights
    }

    fn sight_of_repeat(&self, token: &Token, asks_again: bool) -> Option<Sight> {
        let flight = self.books.flight.as_ref()?;
        let entry = self.books.entry(token)?;
        Some(match flight.asks {
            Asks::No => Sight::TakenAsItIs,
            _ if asks_again => Sight::AskedAgain,
            Asks::Once => Sight::NoAttemptLeft,
            Asks::Enough if flight.attempt == 1 && entry.confirmed => Sight::OneAttempt,
            Asks::Enough => Sight::LastWord,
        })
    }

    /// Another process's token is accepted if no flight is under way. It costs nothing, and ends a cooldown.
    fn offer(&mut self, mut said: Said, rules: &Rules) -> Vec<Sight> {
        let token = Token::new(self.unseen()).with_lifetime(rules.lifetime());
        let token = token.stamped(self.now, &CLOCK, rules.lifetime(), rules.lifetime());
        let is_stopped = self.machine.state(self.now) == FlightState::Stopped;
        let is_due = self.books.flight.is_none() && !is_stopped;
        if is_due {
            (self.books.failures, self.books.cooldown) = (0, None);
            self.books.end_flight(self.now);
            said.sights.push(Sight::Offered);
        }
        let sights = self.on(Event::Offered(token.clone()), said, rules);
        let is_taken = self.slot.as_ref().is_some_and(|shown| shown.token.is_same(&token));
        self.law(Law::Offered, is_taken == is_due);
        sights
    }

    fn report_late(&mut self, said: Said, rules: &Rules) -> Vec<Sight> {
        let Some(id) = self.late.take() else { return Vec::new() };
        let token = Token::new("late").with_lifetime(rules.lifetime());
        let token = token.stamped(self.now, &CLOCK, rules.lifetime(), rules.lifetime());
        let mut sights = self.on(Event::Fetched { id, result: Ok(token) }, said, rules);
        self.law(Law::Deaf, sights.is_empty());
        sights.push(Sight::Late);
        sights
    }

    fn set_wall(&mut self, way: i8, rules: &Rules) -> Vec<Sight> {
        self.skew += way;
        if way > 0 {
            self.now.wall += rules.lifetime();
        } else {
            self.now.wall = self.now.wall.checked_sub(rules.lifetime()).unwrap_or(self.now.wall);
        }
        Vec::new()
    }

    /// The first secret that is not remembered.
    fn unseen(&self) -> &'static str {
        let books = &self.books;
        let told = self.machine.telling.iter().filter_map(|telling| telling.outcome.as_ref().ok());
        let known: Vec<&Token> = books
            .reported
            .iter()
            .map(|entry| &entry.token)
            .chain(&books.discarded)
            .chain(&books.old)
            .chain(self.slot.as_ref().map(|shown| &shown.token))
            .chain(books.flight.as_ref().and_then(|flight| flight.spare.as_ref()))
            .chain(told)
            .collect();
        let is_known = |secret: &str| known.iter().any(|token| token.secret() == secret);
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
            .into_iter()
            .find(|secret| !is_known(secret))
            .unwrap_or("k")
    }
}

/// How long a token lasts, by the clock with the shorter time. It is calculated here, and not by the token's own
/// rule, which is a part of the tested code.
pub(super) fn left(token: &Token, now: Timestamp) -> Duration {
    let end = token.end();
    let by_wall = end.wall.duration_since(now.wall).unwrap_or_default();
    by_wall.min(end.boot.saturating_sub(now.boot))
}

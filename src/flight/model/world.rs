//! The machine and its surroundings: what the actor, callers, the source and the clocks would do.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use super::laws::Law;
use super::rules::{AGES, Action, HASTE, LIFETIME, Name, Reply, Rules, SECOND, Seat, WISH, Which};
use super::sights::Sight;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::error::SourceError;
use crate::flight::{Event, Machine};
use crate::policy::Margins;
use crate::token::Token;

/// A state of the model.
#[derive(Clone)]
pub(super) struct World {
    pub(super) machine: Machine<Seat>,
    pub(super) now: Timestamp,
    /// How often the wall clock was set forward more than back.
    pub(super) skew: i8,
    /// The call to the source that is out.
    pub(super) call: Option<Call>,
    /// One that was given up, and may report yet.
    pub(super) late: Option<u64>,
    pub(super) slot: Option<Shown>,
    /// The token before the current one.
    pub(super) old: Option<Token>,
    /// Who has not been told.
    pub(super) waiting: Vec<Waiting>,
    // What the laws reckon for themselves.
    pub(super) rejected: Option<Token>,
    pub(super) streak: u32,
    pub(super) failures: u32,
    pub(super) flight_not_before: Option<Duration>,
    pub(super) retry_not_before: Option<Duration>,
    pub(super) flight_until: Duration,
    pub(super) breach: Option<Law>,
    /// What the whole of it comes to: see [`super::key`].
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
}

#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) seat: Seat,
    pub(super) deadline: Duration,
}

/// What an event was, and what has been said in answer to it so far.
#[derive(Default)]
pub(super) struct Said {
    /// What the source answered.
    pub(super) reply: Option<Reply>,
    pub(super) may_take_away: bool,
    pub(super) restarts: bool,
    pub(super) published: bool,
    /// Somebody has come who wants a token: whether there was one to be read.
    pub(super) newcomer_can_read: Option<bool>,
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
            machine: Machine::new(rules.policy(), 7),
            now,
            skew: 0,
            call: None,
            late: None,
            slot: None,
            old: None,
            waiting: Vec::new(),
            rejected: None,
            streak: 0,
            failures: 0,
            flight_not_before: None,
            retry_not_before: None,
            flight_until: Duration::ZERO,
            breach: None,
            key: Vec::new(),
        };
        world.on(Event::Tick, Said::default(), rules);
        world.set_key();
        world
    }

    /// Whether this can happen now.
    pub(super) fn can(&self, action: Action) -> bool {
        match action {
            Action::Want(Name::Round) => self.find(Name::Round).is_none(),
            Action::Leave(name) => self.find(name).is_some(),
            Action::NearEnd => self.reader_reports(),
            Action::Answer(Reply::Current) => self.call.is_some() && self.slot.is_some(),
            Action::Answer(Reply::Rejected) => self.call.is_some() && self.rejected.is_some(),
            Action::Answer(_) => self.call.is_some(),
            Action::Late => self.late.is_some(),
            Action::Invalidate(Which::Current) => self.slot.is_some(),
            Action::Invalidate(Which::Old) => self.old.is_some(),
            Action::Invalidate(Which::Again) => self.rejected.is_some(),
            Action::WallForward => self.skew < 1,
            Action::WallBack => self.skew > -1,
            _ => true,
        }
    }

    /// Does it, as the actor would. Returns what was seen on the way.
    pub(super) fn act(&mut self, action: Action, rules: &Rules) -> Vec<Sight> {
        let said = Said::default();
        match action {
            Action::Want(name) => self.want(name, rules),
            Action::Refresh => {
                let seat = self.sit(Name::Forcer);
                self.on(Event::Refresh { waiter: seat }, said, rules)
            }
            Action::Leave(name) => self.leave(name),
            Action::NearEnd => {
                self.slot.iter_mut().for_each(|shown| shown.quiet_until = Duration::MAX);
                self.on(Event::NearEnd, said, rules)
            }
            Action::Answer(reply) => self.answer(reply, rules),
            Action::Late => self.report_late(rules),
            Action::Invalidate(which) => self.invalidate(which, rules),
            Action::Tick => {
                let sights = self.on(Event::Tick, said, rules);
                self.judge_patience();
                sights
            }
            Action::Second => self.pass(SECOND),
            Action::Ages => self.pass(AGES),
            Action::WallForward => self.set_wall(1),
            Action::WallBack => self.set_wall(-1),
            Action::Stop => self.on(Event::Stop, Said { may_take_away: true, ..said }, rules),
            Action::Restart => {
                self.late = self.call.take().map(|call| call.id);
                let mut sights = self.on(Event::Restart, Said { restarts: true, ..said }, rules);
                sights.extend(self.on(Event::Tick, Said::default(), rules));
                sights
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) -> Vec<Sight> {
        self.now.boot += time;
        self.now.wall += time;
        Vec::new()
    }

    pub(super) fn find(&self, name: Name) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.seat == Seat { name, gone: false })
    }

    /// Who stands in the machine's lines.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let lines = self.machine.wanting.places().chain(self.machine.forcing.places());
        lines.flatten().map(|(seat, ..)| *seat).collect()
    }

    fn want(&mut self, name: Name, rules: &Rules) -> Vec<Sight> {
        let readable = self.readable().is_some();
        let seat = self.sit(name);
        let timeout = match name {
            Name::Round => Some(Duration::MAX),
            Name::Hasty => Some(HASTE),
            _ => None,
        };
        self.on(
            Event::Want { waiter: seat, timeout },
            Said { newcomer_can_read: Some(readable), ..Said::default() },
            rules,
        )
    }

    fn sit(&mut self, name: Name) -> Seat {
        let patience = match name {
            Name::Round => Duration::MAX,
            Name::Hasty => HASTE,
            _ => Rules::PATIENCE,
        };
        let seat = Seat { name, gone: false };
        self.waiting.push(Waiting { seat, deadline: self.now.boot.saturating_add(patience) });
        seat
    }

    fn leave(&mut self, name: Name) -> Vec<Sight> {
        let here = Seat { name, gone: false };
        if let Some(at) = self.find(name) {
            self.waiting[at].seat.gone = true;
        }
        let machine = &mut self.machine;
        let mut seats = machine.wanting.everybody_mut().chain(machine.forcing.everybody_mut());
        if let Some(seat) = seats.find(|seat| **seat == here) {
            seat.gone = true;
        }
        Vec::new()
    }

    /// Whether a reader would find the token near its end, and be the one to say so.
    fn reader_reports(&self) -> bool {
        let readable = self.readable().is_some();
        self.slot.as_ref().is_some_and(|shown| {
            let near = self.left(&shown.token) <= shown.margins.ahead;
            readable && near && shown.quiet_until <= self.now.boot
        })
    }

    fn answer(&mut self, reply: Reply, rules: &Rules) -> Vec<Sight> {
        let Some(call) = self.call.take() else { return Vec::new() };
        let result = match reply {
            Reply::Fresh => Ok(stamped(Token::new(self.unseen()), LIFETIME, call.sent)),
            Reply::Current => reissued(self.slot.as_ref().map(|shown| shown.token.clone()), call.sent),
            Reply::Rejected => reissued(self.rejected.clone(), call.sent),
            Reply::Dead => Ok(stamped(Token::new(self.unseen()), Duration::ZERO, call.sent)),
            Reply::Faceless => Ok(stamped(Token::new(""), LIFETIME, call.sent)),
            Reply::Transient => Err(SourceError::transient("transient")),
            Reply::Wait => Err(SourceError::transient("wait").with_retry_after(WISH)),
            Reply::Terminal => Err(SourceError::terminal("terminal")),
            Reply::Panic => Err(SourceError::panic("panic")),
        };
        let said = Said { reply: Some(reply), ..Said::default() };
        self.on(Event::Fetched { id: call.id, result }, said, rules)
    }

    fn report_late(&mut self, rules: &Rules) -> Vec<Sight> {
        let Some(id) = self.late.take() else { return Vec::new() };
        let token = stamped(Token::new("late"), LIFETIME, self.now);
        let mut sights = self.on(Event::Fetched { id, result: Ok(token) }, Said::default(), rules);
        self.law(Law::Deaf, sights.is_empty());
        sights.push(Sight::Late);
        sights
    }

    fn invalidate(&mut self, which: Which, rules: &Rules) -> Vec<Sight> {
        let token = match which {
            Which::Current => self.slot.as_ref().map(|shown| shown.token.clone()),
            Which::Old => self.old.clone(),
            Which::Again => self.rejected.clone(),
            Which::Unknown => Some(Token::new("unknown")),
        };
        let Some(token) = token else { return Vec::new() };
        let hit = self.slot.as_ref().is_some_and(|shown| shown.token.same_secret(&token));
        if hit {
            self.reckon_rejection(rules);
        }
        self.on(Event::Invalidate(token), Said { may_take_away: hit, ..Said::default() }, rules)
    }

    /// How long a server that rejects every new token is left alone.
    fn reckon_rejection(&mut self, rules: &Rules) {
        let Some(shown) = &self.slot else { return };
        let lived = self.now.boot.saturating_sub(shown.since);
        let young = lived < (shown.token.whole_life() / 2).min(rules.max_cooldown());
        self.streak = if young { self.streak + 1 } else { 1 };
        let floor = if self.streak > 1 { rules.doubled(self.streak - 1) } else { Duration::ZERO };
        let until = shown.since + floor;
        self.rejected = Some(shown.token.clone());
        self.flight_not_before = self.flight_not_before.max(Some(until));
    }

    fn set_wall(&mut self, way: i8) -> Vec<Sight> {
        self.skew += way;
        if way > 0 {
            self.now.wall += LIFETIME;
        } else {
            self.now.wall = self.now.wall.checked_sub(LIFETIME).unwrap_or(self.now.wall);
        }
        Vec::new()
    }

    /// The first secret that nobody remembers.
    fn unseen(&self) -> String {
        let known = [self.slot.as_ref().map(|shown| &shown.token), self.rejected.as_ref(), self.old.as_ref()];
        let is_known = |secret: &str| known.iter().flatten().any(|token| token.secret() == secret);
        ["a", "b", "c", "d"].into_iter().find(|secret| !is_known(secret)).unwrap_or("e").to_owned()
    }
}

fn stamped(token: Token, lifetime: Duration, sent: Timestamp) -> Token {
    token.with_lifetime(lifetime).stamped(sent, &CLOCK, LIFETIME)
}

fn reissued(token: Option<Token>, sent: Timestamp) -> Result<Token, SourceError> {
    let token = token.ok_or_else(|| SourceError::transient("none to give out again"))?;
    Ok(stamped(Token::new(token.secret()), LIFETIME, sent))
}

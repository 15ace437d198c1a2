//! The actor: it performs what the [flight machine](crate::flight) says, and decides nothing.

mod alarm;
mod breath;
mod call;
mod delivery;
mod inbox;
#[cfg(feature = "metrics")]
mod instruments;
mod message;
mod meters;
mod report;
mod ticket;

use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};

use crate::clock::{Clock, Timestamp};
use crate::error::TokenError;
use crate::flight::{Effect, Event, Machine};
use crate::policy::RefreshPolicy;
use crate::queue::CHUNK;
use crate::round::Lobby;
use crate::slot::Slot;
use crate::source::{ErasedSource, FetchContext};
use crate::token::Token;

use alarm::{Alarm, Ringing};
use breath::breath;
use call::{Call, Calling};
use delivery::Delivery;
pub use message::{GetStatus, GetToken, Invalidate, Refresh, Shutdown, Status, Subscribe};
pub(crate) use message::{Join, NearEnd};
use meters::Meters;
use ticket::Parked;
pub(crate) use ticket::Ticket;
pub use ticket::TokenReady;

/// Keeps a token, and the queue of those who wait for one.
///
/// The first request that finds no usable token starts one call to the source; everybody else waits for it,
/// and each is told exactly once. Made by [`TokenActor::builder`]. It understands [`GetToken`],
/// [`Subscribe`], [`Invalidate`], [`Refresh`], [`GetStatus`] and [`Shutdown`].
#[derive(Debug)]
pub struct TokenActor {
    name: Arc<str>,
    source: Source,
    policy: RefreshPolicy,
    machine: Machine<Ticket>,
    shared: Shared,
    /// What the last event asked for; empty between events, kept for its room.
    effects: Vec<Effect<Ticket>>,
    /// When the running fetch was sent: its token's life counts from here.
    sent: Timestamp,
    call: Option<Call>,
    alarm: Option<Alarm>,
    /// Alarms set so far.
    alarms: u64,
    /// Deliveries under way, in the context.
    delivering: usize,
    /// Those who await the end.
    leaving: Vec<Parked<()>>,
    meters: Meters,
    /// Events since the last pause for the arbiter's other tasks.
    busy: usize,
}

/// What the actor shares with its handles: it writes the slot, they fill the lobby.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) slot: Arc<Slot>,
    pub(crate) lobby: Arc<Lobby>,
}

#[derive(Clone)]
struct Source(Arc<dyn ErasedSource>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl TokenActor {
    pub(crate) fn new(
        name: Arc<str>,
        source: Arc<dyn ErasedSource>,
        policy: RefreshPolicy,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        let lobby = Lobby::new(Arc::clone(&clock), policy.wait_limit(), policy.waiters_limit());
        let meters = Meters::new(Arc::clone(&name));
        Self {
            name,
            source: Source(source),
            machine: Machine::new(policy.clone(), seed),
            policy,
            sent: clock.now(),
            shared: Shared { slot: Arc::new(Slot::new(clock)), lobby: Arc::new(lobby) },
            effects: Vec::new(),
            call: None,
            alarm: None,
            alarms: 0,
            delivering: 0,
            leaving: Vec::new(),
            meters,
            busy: 0,
        }
    }

    pub(crate) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.slot.clock()
    }

    fn is_idle(&self) -> bool {
        self.machine.is_idle() && self.delivering == 0
    }

    fn on(&mut self, event: Event<Ticket>, ctx: &mut Context<Self>) {
        let now = self.clock().now();
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.on(event, now, &mut effects);
        for effect in effects.drain(..) {
            self.perform(effect, now, ctx);
        }
        self.effects = effects;
        self.settle();
        self.set_alarm(now, ctx);
        self.breathe(ctx);
    }

    /// Actix hands over whatever the mailbox holds in one go, be it a million messages. So now and then the
    /// actor waits for a moment, in which the arbiter's other tasks run.
    fn breathe(&mut self, ctx: &mut Context<Self>) {
        self.busy += 1;
        if self.busy >= CHUNK {
            self.busy = 0;
            ctx.wait(breath().into_actor(self));
        }
    }

    fn perform(&mut self, effect: Effect<Ticket>, now: Timestamp, ctx: &mut Context<Self>) {
        match effect {
            Effect::Fetch { id, cx } => self.fetch(id, cx, now, ctx),
            Effect::Abort => {
                if let Some(call) = self.call.take() {
                    call.give_up();
                }
            }
            Effect::Publish(token) => self.shared.slot.publish(token),
            Effect::QuietUntil(moment) => self.shared.slot.quiet_until(moment),
            Effect::Tell(ticket, outcome) => self.deliver(Delivery::to_one(ticket, outcome), ctx),
            Effect::TellAll(tickets, outcome) => self.deliver(Delivery::to_all(tickets, outcome), ctx),
            Effect::Discard(ticket) => ticket.discard(),
            Effect::Note(note) => self.meters.note(&note, self.shared.lobby.waiters()),
        }
    }

    /// Calls the source, inside the actor's context: the flight is nobody's but the actor's, and no caller's
    /// going away can end it.
    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp, ctx: &mut Context<Self>) {
        self.sent = now;
        self.call = Some(Call::new(id, Arc::clone(&self.source.0).fetch_erased(cx)));
        ctx.spawn(Calling(id).map(move |result, actor: &mut Self, ctx| {
            if let Some(result) = result {
                let result = result.map(|token| actor.stamped(token));
                actor.on(Event::Fetched { id, result }, ctx);
            }
        }));
    }

    fn stamped(&self, token: Token) -> Token {
        token.stamped(self.sent, self.clock(), self.policy.assumed_lifetime())
    }

    /// The first chunk at once, the rest with pauses in which the arbiter's other tasks run.
    fn deliver(&mut self, mut delivery: Delivery, ctx: &mut Context<Self>) {
        if !delivery.tell_chunk() {
            self.meters.lost += delivery.lost();
            return;
        }
        self.delivering += 1;
        let telling = async move {
            while delivery.tell_chunk() {
                breath().await;
            }
            delivery.lost()
        };
        ctx.spawn(telling.into_actor(self).map(|lost, actor, ctx| {
            actor.meters.lost += lost;
            actor.settle();
            actor.delivering -= 1;
            actor.leave(ctx);
        }));
    }

    /// Sets the alarm to the next thing that happens by itself. One that would ring earlier is left alone:
    /// ringing for nothing is harmless, and cheaper than setting it anew for each event.
    ///
    /// Whether it rings earlier is asked of tokio's time. That stands still while the machine sleeps, so an
    /// alarm may ring later than it was meant to, and must not be taken for one that is about to.
    fn set_alarm(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let wake =
            [self.machine.next_wake(), self.shared.lobby.next_deadline(now.boot)].into_iter().flatten().min();
        let delay = wake.map(|wake| wake.saturating_sub(now.boot));
        if let (Some(delay), Some(alarm)) = (delay, &self.alarm)
            && alarm.rings_within(delay)
        {
            return;
        }
        if let Some(alarm) = self.alarm.take() {
            alarm.give_up();
        }
        let Some(delay) = delay else { return };
        self.alarms += 1;
        self.alarm = Some(Alarm::new(self.alarms, delay));
        ctx.spawn(Ringing(self.alarms).map(|rang, actor: &mut Self, ctx| {
            if rang {
                actor.shared.lobby.expire(actor.clock().now().boot);
                actor.on(Event::Tick, ctx);
            }
        }));
    }

    /// Stops, once everybody has been told.
    fn leave(&mut self, ctx: &mut Context<Self>) {
        if self.delivering == 0 && !self.leaving.is_empty() {
            for parked in self.leaving.drain(..) {
                parked.tell(());
            }
            ctx.stop();
        }
    }

    /// Tells the meters how things stand.
    fn settle(&mut self) {
        let (machine, lobby) = (&self.machine, &self.shared.lobby);
        self.meters.settle(&machine.counters(), || machine.waiters() + lobby.waiters());
    }

    fn status(&self) -> Status {
        let now = self.clock().now();
        let token = self.machine.token();
        Status {
            state: self.machine.state(now),
            waiters: self.machine.waiters() + self.shared.lobby.waiters(),
            token_age: token.map(|token| token.age_at(now)),
            expires_in: token.map(|token| token.remaining_at(now)),
            cooldown: self.machine.cooldown_left(now),
            last_refresh: self.meters.took,
            lost: self.meters.lost,
            counters: self.machine.counters(),
        }
    }
}

impl Actor for TokenActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // In background mode the first refresh is due now.
        self.on(Event::Tick, ctx);
    }
}

/// Under a `Supervisor` the fields outlive a restart, and the futures in the context do not.
impl Supervised for TokenActor {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        (self.call, self.alarm, self.delivering) = (None, None, 0);
        self.leaving.drain(..).for_each(|parked| parked.tell(()));
        self.on(Event::Restart, ctx);
        self.on(Event::Tick, ctx);
    }
}

/// However it ends: readers find no token of an actor that is gone, and each ticket answers as it drops.
impl Drop for TokenActor {
    fn drop(&mut self) {
        self.shared.slot.publish(None);
        self.leaving.drain(..).for_each(|parked| parked.tell(()));
    }
}

/// The error of an actor that could not be asked.
pub(crate) fn gone(_: actix::MailboxError) -> TokenError {
    TokenError::stopped()
}

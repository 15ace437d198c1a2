//! The actor: it performs what the [flight machine](crate::flight) says, and decides nothing.

mod alarm;
mod delivery;
mod message;
mod report;
mod ticket;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, SpawnHandle,
    Supervised, WrapFuture,
};
use futures_util::FutureExt;

use crate::clock::{Clock, Timestamp};
use crate::error::{SourceError, TokenError};
use crate::flight::{Effect, Event, Machine, Outcome};
use crate::policy::RefreshPolicy;
use crate::round::Lobby;
use crate::slot::Slot;
use crate::source::{ErasedSource, FetchContext};
use crate::token::Token;

use delivery::Delivery;
pub use message::{GetStatus, GetToken, Invalidate, Refresh, Shutdown, Status, Subscribe};
pub(crate) use message::{Join, NearEnd};
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
    fetch: Option<SpawnHandle>,
    alarm: Option<alarm::Pending>,
    /// Deliveries under way, in the context.
    delivering: usize,
    /// Those who await the end.
    leaving: Vec<Parked<()>>,
    lost: u64,
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
        Self {
            name,
            source: Source(source),
            machine: Machine::new(policy.clone(), seed),
            policy,
            sent: clock.now(),
            shared: Shared { slot: Arc::new(Slot::new(clock)), lobby: Arc::new(lobby) },
            effects: Vec::new(),
            fetch: None,
            alarm: None,
            delivering: 0,
            leaving: Vec::new(),
            lost: 0,
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
        self.set_alarm(now, ctx);
    }

    fn perform(&mut self, effect: Effect<Ticket>, now: Timestamp, ctx: &mut Context<Self>) {
        match effect {
            Effect::Fetch { id, cx } => self.fetch(id, cx, now, ctx),
            Effect::Abort => {
                if let Some(fetch) = self.fetch.take() {
                    ctx.cancel_future(fetch);
                }
            }
            Effect::Publish(token) => self.shared.slot.publish(token),
            Effect::QuietUntil(moment) => self.shared.slot.quiet_until(moment),
            Effect::Tell(ticket, outcome) => self.deliver(Delivery::to_one(ticket, outcome), ctx),
            Effect::TellAll(tickets, outcome) => self.deliver(Delivery::to_all(tickets, outcome), ctx),
            Effect::Discard(ticket) => ticket.discard(),
            Effect::Note(note) => report::report(&self.name, &note, self.shared.lobby.waiters()),
        }
    }

    /// Calls the source, inside the actor's context: the flight is nobody's but the actor's, and no caller's
    /// going away can end it.
    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp, ctx: &mut Context<Self>) {
        self.sent = now;
        let fetching = AssertUnwindSafe(Arc::clone(&self.source.0).fetch_erased(cx)).catch_unwind();
        let reported = fetching.into_actor(self).map(move |result, actor, ctx| {
            actor.fetch = None;
            // The panic's own message is left to the panic hook: it may hold anything.
            let result =
                result.unwrap_or_else(|_| Err(SourceError::panic("its message went to the panic hook")));
            let result = result.map(|token| actor.stamped(token));
            actor.on(Event::Fetched { id, result }, ctx);
        });
        self.fetch = Some(ctx.spawn(reported));
    }

    fn stamped(&self, token: Token) -> Token {
        token.stamped(self.sent, self.clock(), self.policy.assumed_lifetime())
    }

    /// The first chunk at once, the rest with pauses in which the arbiter's other tasks run.
    fn deliver(&mut self, mut delivery: Delivery, ctx: &mut Context<Self>) {
        if !delivery.tell_chunk() {
            self.lost += delivery.lost();
            return;
        }
        self.delivering += 1;
        let telling = async move {
            while delivery.tell_chunk() {
                tokio::task::yield_now().await;
            }
            delivery.lost()
        };
        ctx.spawn(telling.into_actor(self).map(|lost, actor, ctx| {
            actor.lost += lost;
            actor.delivering -= 1;
            actor.leave(ctx);
        }));
    }

    /// Sets the alarm to the next thing that happens by itself. One that would ring earlier is left alone:
    /// ringing for nothing is harmless, and cheaper than setting it anew for each event.
    fn set_alarm(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let wake =
            [self.machine.next_wake(), self.shared.lobby.next_deadline(now.boot)].into_iter().flatten().min();
        match (wake, &self.alarm) {
            (Some(wake), Some(alarm)) if alarm.rings_by(wake, now.boot) => return,
            (_, Some(alarm)) => {
                ctx.cancel_future(alarm.handle);
                self.alarm = None;
            }
            (_, None) => {}
        }
        if let Some(wake) = wake {
            let delay = wake.saturating_sub(now.boot);
            let alarm = alarm::Alarm::after(delay).map(|rang, actor: &mut Self, ctx| {
                actor.alarm = None;
                if rang {
                    actor.shared.lobby.expire(actor.clock().now().boot);
                    actor.on(Event::Tick, ctx);
                }
            });
            self.alarm = Some(alarm::Pending::new(delay, ctx.spawn(alarm)));
        }
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

    fn status(&self) -> Status {
        let now = self.clock().now();
        let token = self.machine.token();
        Status {
            state: self.machine.state(now),
            waiters: self.machine.waiters() + self.shared.lobby.waiters(),
            token_age: token.map(|token| token.age_at(now)),
            expires_in: token.map(|token| token.remaining_at(now)),
            lost: self.lost,
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
        (self.fetch, self.alarm, self.delivering) = (None, None, 0);
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

impl Handler<GetToken> for TokenActor {
    type Result = Parked<Outcome>;

    fn handle(&mut self, _: GetToken, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, parked) = Ticket::asker();
        self.on(Event::Want { waiter: ticket, timeout: None }, ctx);
        parked
    }
}

impl Handler<Subscribe> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: Subscribe, ctx: &mut Self::Context) {
        self.on(Event::Want { waiter: msg.ticket, timeout: msg.timeout }, ctx);
    }
}

impl Handler<Join> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: Join, ctx: &mut Self::Context) {
        // Those who sit in a round have a patience each; the round itself has no end of its own.
        self.on(Event::Want { waiter: msg.0, timeout: Some(Duration::MAX) }, ctx);
    }
}

impl Handler<Refresh> for TokenActor {
    type Result = Parked<Outcome>;

    fn handle(&mut self, _: Refresh, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, parked) = Ticket::asker();
        self.on(Event::Refresh { waiter: ticket }, ctx);
        parked
    }
}

impl Handler<Invalidate> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: Invalidate, ctx: &mut Self::Context) {
        self.on(Event::Invalidate(msg.0), ctx);
    }
}

impl Handler<NearEnd> for TokenActor {
    type Result = ();

    fn handle(&mut self, _: NearEnd, ctx: &mut Self::Context) {
        self.on(Event::NearEnd, ctx);
    }
}

impl Handler<GetStatus> for TokenActor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status())
    }
}

impl Handler<Shutdown> for TokenActor {
    type Result = Parked<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let parked = Parked::new();
        self.leaving.push(parked.clone());
        self.on(Event::Stop, ctx);
        self.leave(ctx);
        parked
    }
}

/// The error of an actor that could not be asked.
pub(crate) fn gone(_: actix::MailboxError) -> TokenError {
    TokenError::stopped()
}

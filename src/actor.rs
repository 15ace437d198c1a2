//! The actor. It performs the effects of the [flight machine](crate::flight), and makes no decisions.

mod alarm;
mod breath;
mod call;
mod delivery;
mod inbox;
mod look;
mod message;
mod observe;
mod parked;
mod shell;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};

use crate::clock::{Clock, Timestamp};
use crate::error::TokenError;
use crate::flight::{Effect, Event, Machine, Note, Outcome};
use crate::lobby::Lobby;
use crate::panics::Contained;
use crate::policy::RefreshPolicy;
use crate::queue::CHUNK;
use crate::slot::{Front, Replicas, Slot};
use crate::source::{BoxSource, FetchContext};
use crate::token::Token;

use alarm::{Alarm, Ringing};
use call::{Call, Calling};
pub use message::{Discard, GetStatus, GetToken, Invalidate, Refresh, Replace, Shutdown, Status, Subscribe};
pub(crate) use message::{End, Join, NearEnd, Rejected, Reported};
use observe::Meters;
#[cfg(all(feature = "metrics", feature = "registry"))]
pub(crate) use observe::{Told, Total, Totals, total};
use parked::Parked;
#[cfg(not(feature = "registry"))]
use shell::Shell;
pub(crate) use ticket::Ticket;
pub use ticket::TokenReady;
#[cfg(not(feature = "registry"))]
use {breath::yield_turn, delivery::Delivery, look::Looks};
#[cfg(feature = "registry")]
pub(crate) use {
    breath::yield_turn,
    delivery::Delivery,
    look::Looks,
    shell::{Shell, stamped},
    ticket::Hearer,
};

/// Longer than the longest exchange of a one-time credential.
pub(crate) const LONGEST_PARTING: Duration = Duration::from_secs(120);

/// Keeps a token, and the queue of the waiters.
///
/// The first request that finds no usable token starts one call to the source. All others wait for this call, and
/// each is answered exactly once. Made by [`TokenActor::builder`]. It understands [`GetToken`], [`Subscribe`],
/// [`Replace`], [`Invalidate`], [`Discard`], [`Refresh`], [`GetStatus`] and [`Shutdown`].
#[derive(Debug)]
pub struct TokenActor {
    name: Arc<str>,
    source: BoxSource,
    policy: RefreshPolicy,
    machine: Machine<Ticket>,
    shared: Shared,
    /// The effects of the last event. Empty between events, and kept for its capacity.
    effects: Vec<Effect<Ticket>>,
    /// When the running fetch was sent. The token's life counts from this moment.
    sent: Timestamp,
    call: Option<Call>,
    alarm: Option<Alarm>,
    /// How many alarms were set so far.
    alarms: u64,
    delivery: Delivery,
    /// Callers that await the end of the actor.
    leaving: Vec<Parked<()>>,
    parting: Parting,
    meters: Meters,
    looks: Looks,
    /// Events since the last pause for the arbiter's other tasks.
    busy: usize,
}

/// How far the source has finished, at a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    No,
    /// The source finishes work that must not be interrupted.
    Ends,
    Over,
}

/// The state that the actor shares with its handles. The actor writes the slot. The handles fill the lobby.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) slot: Arc<Slot>,
    pub(crate) lobby: Arc<Lobby>,
    #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
    pub(crate) evidence: Arc<crate::evidence::Evidence>,
}

impl TokenActor {
    pub(crate) fn new(
        name: Arc<str>,
        source: BoxSource,
        policy: RefreshPolicy,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        let lobby = Lobby::new(Arc::clone(&clock), policy.wait_limit(), policy.waiters_limit());
        let meters = Meters::new(&name);
        let sent = clock.now();
        let shared = Shared {
            #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
            evidence: Arc::new(crate::evidence::Evidence::new(
                Arc::clone(&name),
                policy.settle_rule(),
                Arc::clone(&clock),
            )),
            slot: Arc::new(Slot::new(clock)),
            lobby: Arc::new(lobby),
        };
        Self {
            name,
            source,
            machine: Machine::new(Arc::new(policy.clone()), seed),
            policy,
            sent,
            shared,
            effects: Vec::new(),
            call: None,
            alarm: None,
            alarms: 0,
            delivery: Delivery::default(),
            leaving: Vec::new(),
            parting: Parting::No,
            meters,
            looks: Looks::default(),
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
        self.machine.is_idle() && self.delivery.is_idle()
    }

    /// Performs an event.
    fn on(&mut self, event: Event<Ticket>, ctx: &mut Context<Self>) {
        let now = self.clock().now();
        Own { actor: self, ctx }.on(event, now);
        self.tell(ctx);
        self.observe(now);
        self.set_alarm(now, ctx);
        self.rest(ctx);
    }

    /// Actix delivers all messages in the mailbox in one turn, even a million. Therefore the actor pauses from time
    /// to time, and the arbiter's other tasks run.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        self.busy += 1;
        if self.busy >= CHUNK {
            self.busy = 0;
            ctx.wait(yield_turn().into_actor(self));
        }
    }

    /// Calls the source, inside the actor's context. The flight belongs to the actor alone. Therefore no caller can
    /// end it by going away.
    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp, ctx: &mut Context<Self>) {
        self.sent = now;
        self.call = Some(Call::new(id, self.source.call(cx)));
        ctx.spawn(Calling(id).map(move |result, actor: &mut Self, ctx| {
            if let Some(result) = result {
                let result = result.map(|token| actor.stamped(token, actor.sent));
                actor.on(Event::Fetched { id, result }, ctx);
            }
        }));
    }

    /// The token's life counts from the moment when it was requested.
    fn stamped(&self, token: Token, sent: Timestamp) -> Token {
        shell::stamped(token, sent, self.clock(), &self.policy)
    }

    /// Tells the waiters whose outcome is known. The first chunk is told at once, the rest with pauses. In the
    /// pauses the arbiter's other tasks run, and other events arrive.
    fn tell(&mut self, ctx: &mut Context<Self>) {
        if !self.delivery.is_under_way && self.delivery.tell_chunk(&mut self.machine) {
            self.delivery.is_under_way = true;
            ctx.spawn(yield_turn().into_actor(self).map(|(), actor: &mut Self, ctx| actor.tell_on(ctx)));
        }
    }

    fn tell_on(&mut self, ctx: &mut Context<Self>) {
        self.delivery.is_under_way = false;
        // A token that was discarded meanwhile is told to no further waiter.
        if self.shared.slot.has_reports() {
            self.on(Event::Tick, ctx);
        } else {
            self.tell(ctx);
        }
        if !self.delivery.is_under_way {
            self.observe(self.clock().now());
            self.leave(ctx);
        }
    }

    /// Sets the alarm to the next event that happens by itself. An alarm that would ring earlier is kept: an early
    /// ring is harmless, and cheaper than a new alarm for each event.
    ///
    /// Tokio's time decides whether the alarm rings earlier. Tokio's time stands still while the machine sleeps, so
    /// an alarm may ring later than planned. Such an alarm must not count as one that rings soon.
    fn set_alarm(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        let wake = [self.machine.next_wake(now), self.shared.lobby.next_deadline(now.boot)]
            .into_iter()
            .flatten()
            .min();
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
        self.alarm = Some(Alarm::new(self.alarms, delay, self.clock(), self.policy.refreshes_by_itself()));
        ctx.spawn(Ringing(self.alarms).map(|rang, actor: &mut Self, ctx| {
            if rang {
                actor.shared.lobby.expire(actor.clock().now().boot);
                actor.on(Event::Tick, ctx);
            }
        }));
    }

    /// Tells all waiters, then lets the actor stop. `parked` is told when it has.
    fn end(&mut self, parked: Parked<()>, ctx: &mut Context<Self>) {
        self.leaving.push(parked);
        self.on(Event::Stop, ctx);
        self.part(ctx);
    }

    /// Lets the source finish work that must not be interrupted, and then leaves.
    fn part(&mut self, ctx: &mut Context<Self>) {
        if self.parting != Parting::No {
            return;
        }
        self.parting = Parting::Ends;
        let end = tokio::time::timeout(LONGEST_PARTING, Contained::new(self.source.finish_later()));
        ctx.spawn(end.into_actor(self).map(|ended, actor, ctx| {
            if ended.is_err() {
                actor.meters.source_does_not_end(LONGEST_PARTING);
            }
            actor.parting = Parting::Over;
            actor.leave(ctx);
        }));
    }

    /// Stops when all waiters have been told and the source has finished.
    fn leave(&mut self, ctx: &mut Context<Self>) {
        if !self.delivery.is_under_way && self.parting == Parting::Over {
            for parked in self.leaving.drain(..) {
                parked.tell(());
            }
            ctx.stop();
        }
    }

    /// Passes the present state to the meters.
    fn observe(&mut self, now: Timestamp) {
        self.meters.observe(&self.machine, &self.shared.lobby, self.delivery.lost, now);
    }

    fn status(&self) -> Status {
        let status = Status::of(&self.machine, self.clock().now());
        let lobby = &self.shared.lobby;
        Status {
            waiters: status.waiters + lobby.waiters(),
            last_refresh: self.meters.took,
            lost: self.delivery.lost,
            counters: status.counters.with_lobby(lobby.timeouts(), lobby.overloads()),
            ..status
        }
    }
}

/// The actor's one machine, while it performs an event.
struct Own<'a> {
    actor: &'a mut TokenActor,
    ctx: &'a mut Context<TokenActor>,
}

impl Shell for Own<'_> {
    type Copies = Replicas;

    fn machine(&mut self) -> &mut Machine<Ticket> {
        &mut self.actor.machine
    }

    fn slot(&self) -> &Slot {
        &self.actor.shared.slot
    }

    /// Readers read the slot itself.
    fn front(&self) -> impl Front<Replicas> {}

    fn effects(&mut self) -> &mut Vec<Effect<Ticket>> {
        &mut self.actor.effects
    }

    fn fetch(&mut self, id: u64, cx: FetchContext, now: Timestamp) {
        self.actor.fetch(id, cx, now, self.ctx);
    }

    fn abort(&mut self) {
        if let Some(call) = self.actor.call.take() {
            call.give_up();
        }
    }

    /// This machine has no gate.
    fn ask(&mut self, _: bool, _: Timestamp) {}

    fn hurry(&mut self) {}

    fn tell(&mut self, ticket: Ticket, outcome: &Outcome) {
        self.actor.delivery.tell(ticket, outcome);
    }

    fn note(&mut self, note: &Note, now: Timestamp) {
        self.actor.meters.note(note, self.actor.shared.lobby.waiters(), now);
        if note.is_refused_report() {
            self.actor.look(now, self.ctx);
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

/// Under a `Supervisor` the fields survive a restart, and the futures in the context do not.
impl Supervised for TokenActor {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        (self.call, self.alarm) = (None, None);
        self.looks.end();
        self.delivery.is_under_way = false;
        self.parting = Parting::No;
        self.leaving.drain(..).for_each(|parked| _ = parked.tell(()));
        self.on(Event::Restart, ctx);
        self.on(Event::Tick, ctx);
    }
}

/// However the actor ends: readers find no token of a stopped actor, waiters with an outcome are told, and each
/// ticket of the other waiters answers when it is dropped.
impl Drop for TokenActor {
    fn drop(&mut self) {
        self.shared.slot.close(&());
        while self.delivery.tell_chunk(&mut self.machine) {}
        self.leaving.drain(..).for_each(|parked| _ = parked.tell(()));
        self.meters.end();
    }
}

/// The error of an actor that no longer answers.
pub(crate) fn gone(_: actix::MailboxError) -> TokenError {
    TokenError::stopped()
}

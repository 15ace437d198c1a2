//! The actor's inbox: it turns each message into an event of the machine.

use std::time::Duration;

use actix::Handler;

use super::TokenActor;
use super::message::{
    Discard, End, GetStatus, GetToken, Invalidate, Join, NearEnd, Refresh, Rejected, Replace, Reported,
    Shutdown, Status, Subscribe,
};
use super::parked::Parked;
use super::ticket::Ticket;
use crate::flight::{Event, Outcome, Rejection};

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
        // Each caller in a round has its own timeout. The round itself has none.
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

impl Handler<Replace> for TokenActor {
    type Result = Parked<Outcome>;

    fn handle(&mut self, msg: Replace, ctx: &mut Self::Context) -> Self::Result {
        let (ticket, parked) = Ticket::asker();
        self.on(Event::Replace { waiter: ticket, token: msg.0, rejection: Rejection::default() }, ctx);
        parked
    }
}

impl Handler<Rejected> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: Rejected, ctx: &mut Self::Context) {
        let Rejected { token, rejection, reply, place } = msg;
        drop(place);
        self.on(Event::Replace { waiter: Ticket::of(reply), token, rejection }, ctx);
    }
}

impl Handler<Discard> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: Discard, ctx: &mut Self::Context) {
        // The slot first: then no publication can overwrite the discard. The next event takes it from the desk's
        // reports.
        self.shared.slot.discard(&msg.0, &());
        self.on(Event::Tick, ctx);
    }
}

/// The reports on the desk are handled before any event.
impl Handler<Reported> for TokenActor {
    type Result = ();

    fn handle(&mut self, _: Reported, ctx: &mut Self::Context) {
        self.on(Event::Tick, ctx);
    }
}

impl Handler<NearEnd> for TokenActor {
    type Result = ();

    fn handle(&mut self, _: NearEnd, ctx: &mut Self::Context) {
        self.on(Event::NearEnd, ctx);
    }
}

impl Handler<GetStatus> for TokenActor {
    type Result = Parked<Status>;

    fn handle(&mut self, _: GetStatus, ctx: &mut Self::Context) -> Self::Result {
        self.rest(ctx);
        let parked = Parked::new();
        parked.tell(self.status());
        parked
    }
}

impl Handler<Shutdown> for TokenActor {
    type Result = Parked<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let parked = Parked::new();
        self.end(parked.clone(), ctx);
        parked
    }
}

impl Handler<End> for TokenActor {
    type Result = ();

    fn handle(&mut self, msg: End, ctx: &mut Self::Context) {
        self.end(Parked::from(msg.0), ctx);
    }
}

//! The actor's inbox: what each message is for the machine.

use std::time::Duration;

use actix::{Handler, MessageResult};

use super::TokenActor;
use super::message::{GetStatus, GetToken, Invalidate, Join, NearEnd, Refresh, Shutdown, Subscribe};
use super::ticket::{Parked, Ticket};
use crate::flight::{Event, Outcome};

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

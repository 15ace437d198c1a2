//! Who asks for tokens: impatient, suspicious, and on every kind of thread.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Handler, Message, Request};
use tokenflight::{
    GetStatus, GetToken, Invalidate, Refresh, Subscribe, Token, TokenActor, TokenError, TokenHandle,
};

use crate::World;
use crate::stage::{NEVER, within};
use crate::start::Contact;
use crate::tally::{Outcome, PATIENCE, Way, moment, named};

struct Caller {
    world: Arc<World>,
    dice: fastrand::Rng,
    /// Tokens seen lately, to be rejected late.
    seen: Vec<Token>,
}

/// One caller, who does one thing after the other.
pub(crate) async fn call_until_over(world: Arc<World>, number: u64) {
    let dice = world.dice(2_000_000_000 + number);
    let mut caller = Caller { world, dice, seen: Vec::new() };
    while !caller.world.is_over() {
        let contact = caller.world.stage.anyone(&mut caller.dice);
        caller.act(&contact).await;
        drop(contact);
        tokio::time::sleep(Duration::from_millis(caller.dice.u64(..10))).await;
    }
}

impl Caller {
    async fn act(&mut self, contact: &Contact) {
        match (self.dice.u8(..20), &contact.handle) {
            (0..=5, Some(handle)) => self.await_it(Way::Get, async { named(handle.get().await) }).await,
            (6..=7, _) => self.await_it(Way::GetToken, answer(contact.addr.send(GetToken))).await,
            (8, Some(handle)) => {
                self.await_it(Way::HandleRefresh, async { named(handle.refresh().await) }).await;
            }
            (9, _) => self.await_it(Way::Refresh, answer(contact.addr.send(Refresh))).await,
            (10..=15, _) => self.subscribe(contact),
            (16, Some(handle)) => self.reject_and_ask_again(handle).await,
            (17, _) => self.reject_late(contact),
            (18, Some(handle)) => {
                let asked = moment();
                if let Some(token) = handle.current() {
                    self.world.tally.check_token(asked, &token, "a reader");
                    self.seen(token);
                }
            }
            _ => {
                self.world.tally.count("questions for the status");
                let _ = within(&self.world, "a status", contact.addr.send(GetStatus)).await;
            }
        }
    }

    /// A quarter of the time the caller goes away in the middle.
    async fn await_it(&mut self, way: Way, request: impl Future<Output = Outcome>) {
        let leaves = self.dice.u8(..4) == 0;
        let patience = if leaves { Duration::from_millis(self.dice.u64(..60)) } else { NEVER };
        let sent = moment();
        self.world.tally.sent(way);
        match tokio::time::timeout(patience, request).await {
            Ok(outcome) => {
                self.world.tally.answered(way, sent, &outcome);
                if let Ok(token) = outcome {
                    self.seen(token);
                }
            }
            Err(_) if leaves => self.world.tally.dropped(way),
            // It stays on the books as never answered.
            Err(_) => self.world.tally.breach(format!("{way:?} was not answered in {NEVER:?}")),
        }
    }

    fn subscribe(&mut self, contact: &Contact) {
        let subscriber = self.world.subscribers.anyone(&mut self.dice);
        let own = (self.dice.u8(..4) == 0).then(|| Duration::from_millis(self.dice.u64(1..300)));
        let subscriptions = 1 + u8::from(self.dice.u8(..5) == 0);
        let ticket = self.world.tally.ticket(subscriptions, own.unwrap_or(PATIENCE));
        subscriber.expects(&self.world, ticket);
        for _ in 0..subscriptions {
            let subscription = Subscribe::new(subscriber.addr.clone()).ticket(ticket);
            let subscription = match own {
                Some(limit) => subscription.timeout(limit),
                None => subscription,
            };
            match &contact.handle {
                Some(handle) if self.dice.bool() => handle.subscribe(subscription),
                _ => contact.addr.do_send(subscription),
            }
        }
    }

    /// The API answers 401: whoever reports that must not be given the same token again.
    async fn reject_and_ask_again(&mut self, handle: &TokenHandle) {
        let Some(token) = handle.current() else { return };
        self.world.tally.count("rejections of the current token");
        handle.invalidate(&token);
        let again = |other: &Token| other.secret() == token.secret();
        if handle.current().as_ref().is_some_and(&again) {
            self.world.tally.breach("a reader got the token that it had rejected".into());
        }
        let get = pin!(async { named(handle.get().await) });
        let sent = moment();
        self.world.tally.sent(Way::Get);
        match within(&self.world, "an answer after a rejection", get).await {
            Some(outcome) => {
                if outcome.as_ref().is_ok_and(&again) {
                    self.world.tally.breach("a caller got the token that it had rejected".into());
                }
                self.world.tally.answered(Way::Get, sent, &outcome);
            }
            None => self.world.tally.breach("Get was not answered".into()),
        }
    }

    /// A late 401, to any token of any actor.
    fn reject_late(&mut self, contact: &Contact) {
        let Some(token) = self.dice.choice(&self.seen).cloned() else { return };
        self.world.tally.count("rejections of some old token");
        match &contact.handle {
            Some(handle) if self.dice.bool() => handle.invalidate(&token),
            _ => contact.addr.do_send(Invalidate(token)),
        }
    }

    fn seen(&mut self, token: Token) {
        const MEMORY: usize = 8;
        if self.seen.len() == MEMORY {
            self.seen.remove(0);
        }
        self.seen.push(token);
    }
}

/// An actor that has gone closes its mailbox, and that is an answer too.
async fn answer<M>(request: Request<TokenActor, M>) -> Outcome
where
    M: Message<Result = Result<Token, TokenError>> + Send + Unpin + 'static,
    TokenActor: Handler<M>,
{
    request.await.map_or(Err("mailbox closed"), named)
}

//! The callers that ask for tokens: impatient, suspicious, and on every kind of thread.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{Handler, Message, Request};
use tokenflight::{
    Discard, GetStatus, GetToken, Invalidate, Refresh, Replace, Subscribe, Token, TokenActor, TokenError,
    TokenHandle,
};

use crate::World;
use crate::stage::{NEVER, within};
use crate::start::Contact;
use crate::tally::{Outcome, PATIENCE, Way, moment, named};

/// More than ten thousand, and how many of them subscribe twice.
const CROWD: u64 = 12_000;
const CROWD_AGAIN: u64 = 100;
/// To come in, and to be told, takes a crowd its time on a busy machine.
const CROWD_PATIENCE: Duration = Duration::from_secs(2);

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
        match (self.dice.u8(..24), &contact.handle) {
            (0..=5, Some(handle)) => self.await_it(Way::Get, async { named(handle.get().await) }).await,
            (6..=7, _) => {
                self.await_it(Way::GetToken, async { answer(contact.addr.send(GetToken)).await }).await
            }
            (8, Some(handle)) => {
                self.await_it(Way::HandleRefresh, async { named(handle.refresh().await) }).await;
            }
            (9, _) => self.await_it(Way::Refresh, async { answer(contact.addr.send(Refresh)).await }).await,
            (10..=15, _) => self.subscribe(contact),
            (16, Some(handle)) => self.invalidate_and_ask_again(handle).await,
            (17, _) => self.report_late(contact).await,
            (20..=21, Some(handle)) => self.replace(handle).await,
            (22, Some(handle)) if self.dice.u8(..6) == 0 => self.discard_and_ask_again(handle).await,
            (23, _) if self.world.is_time_for_a_crowd() => self.subscribe_a_crowd(contact).await,
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

    /// A quarter of the time the caller goes away in the middle. Nothing must be sent before the request is polled:
    /// what was discarded between would be counted as discarded before.
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

    /// More than are told in one go, to one who has them all. The last ones subscribe again while the first are told.
    async fn subscribe_a_crowd(&mut self, contact: &Contact) {
        let begin = moment().boot;
        self.world.tally.count("crowds of 12,000 subscriptions");
        let subscriber = self.world.subscribers.anyone(&mut self.dice);
        let first = self.world.tally.tickets_for_a_crowd(CROWD, CROWD_AGAIN, CROWD_PATIENCE);
        let subscribe = |ticket| {
            let subscription = Subscribe::new(subscriber.addr.clone()).ticket(ticket);
            contact.addr.do_send(subscription.timeout(CROWD_PATIENCE));
        };
        for ticket in first..first + CROWD {
            subscriber.expects(&self.world, ticket);
            subscribe(ticket);
        }
        for ticket in first + CROWD - CROWD_AGAIN..first + CROWD {
            subscribe(ticket);
        }
        // Behind all of them in the mailbox.
        let _ = within(&self.world, "a status behind a crowd", contact.addr.send(GetStatus)).await;
        self.world.tally.crowd_took(moment().boot.saturating_sub(begin));
    }

    /// An API answers 401, and the handler gets a token again: another one, or the same where the rules say so.
    async fn invalidate_and_ask_again(&mut self, handle: &TokenHandle) {
        let Some(token) = handle.current() else { return };
        self.world.tally.count("invalidations of the current token");
        handle.invalidate(&token);
        let get = pin!(async { named(handle.get().await) });
        let sent = moment();
        self.world.tally.sent(Way::Get);
        match within(&self.world, "an answer after a report", get).await {
            Some(outcome) => {
                self.world.tally.answered(Way::Get, sent, &outcome);
                self.count_what_came("after an invalidation", &token, &outcome);
            }
            None => self.world.tally.breach("Get was not answered".into()),
        }
    }

    /// An API answers 401, and the client wants to repeat its request.
    async fn replace(&mut self, handle: &TokenHandle) {
        let Some(token) = handle.current() else { return };
        let by_message = self.dice.bool();
        let way = if by_message { Way::Replace } else { Way::HandleReplace };
        let replace = async {
            if by_message {
                answer(handle.addr().send(Replace(token.clone()))).await
            } else {
                named(handle.replace(&token).await)
            }
        };
        let sent = moment();
        self.world.tally.sent(way);
        match within(&self.world, "a replacement", pin!(replace)).await {
            Some(outcome) => {
                self.world.tally.answered(way, sent, &outcome);
                self.count_what_came("after a replace", &token, &outcome);
            }
            None => self.world.tally.breach(format!("{way:?} was not answered")),
        }
    }

    fn count_what_came(&self, when: &str, reported: &Token, outcome: &Outcome) {
        let what = match (when, outcome) {
            ("after a replace", Ok(token)) if token.is_same(reported) => "replaced by the same token",
            ("after a replace", Ok(_)) => "replaced by another token",
            ("after a replace", Err(_)) => "not replaced",
            (_, Ok(token)) if token.is_same(reported) => "the same token after an invalidation",
            (_, Ok(_)) => "another token after an invalidation",
            (_, Err(_)) => "no token after an invalidation",
        };
        self.world.tally.count(what);
    }

    /// Somebody knows that the token is compromised: from then on nobody is given it.
    async fn discard_and_ask_again(&mut self, handle: &TokenHandle) {
        let Some(token) = handle.current() else { return };
        self.world.tally.count("discards of the current token");
        if self.dice.bool() {
            handle.discard(&token);
        } else if handle.addr().send(Discard(token.clone())).await.is_err() {
            return;
        }
        self.world.tally.discarded(&token);
        if handle.current().is_some_and(|other| other.is_same(&token)) {
            self.world.tally.breach("a reader got a token that was discarded before".into());
        }
        self.await_it(Way::Get, async { named(handle.get().await) }).await;
    }

    /// A late 401, to any token of any actor.
    async fn report_late(&mut self, contact: &Contact) {
        let Some(token) = self.dice.choice(&self.seen).cloned() else { return };
        self.world.tally.count("reports of some old token");
        match &contact.handle {
            Some(handle) if self.dice.bool() => handle.invalidate(&token),
            _ if self.dice.bool() => contact.addr.do_send(Invalidate(token)),
            _ => self.await_it(Way::Replace, async { answer(contact.addr.send(Replace(token))).await }).await,
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

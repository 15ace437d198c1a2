//! The meaning of a call's end for the endpoint and for a client, and the keys that are told.

use std::mem;
use std::time::Duration;

use super::breaker::Failed;
use super::line::{RANKS, Rank};
use super::{Condemned, Decided, Gate, Number, Permit, Refusal, rank};

/// A new length of a call counts for one eighth in the usual one.
const USUAL: u32 = 8;

/// The meaning of an end for the endpoint.
impl<T: Copy, E: Clone> Gate<T, E> {
    pub(super) fn endpoint_answered(&mut self, permit: &Permit) {
        self.endpoint.succeeded(permit.key, permit.to_endpoint);
        self.set_limit(self.settings.calls.max(1).min(self.limit.saturating_add(1)));
    }

    /// Calls that were under way together count once: they cut the limit once.
    pub(super) fn slow_down(&mut self, permit: &Permit) {
        if permit.cuts == self.cuts {
            self.cuts += 1;
            self.set_limit((self.limit / 2).max(1));
        }
    }

    pub(super) fn failure(
        &mut self,
        permit: &Permit,
        error: E,
        retry_after: Option<Duration>,
        now: Duration,
    ) -> Failed<E> {
        Failed {
            key: permit.key,
            sent: permit.to_endpoint,
            error,
            least: retry_after.unwrap_or_default().min(self.settings.max_retry_after),
            now,
            dice: self.dice.f64(),
        }
    }

    pub(super) fn condemn_all(&mut self) {
        let Some(shut) = &self.endpoint.shut else { return };
        let refusal = Refusal::Closed { error: shut.error.clone(), until: shut.until };
        self.condemned.push_back(Condemned { client: None, before: self.next_number, refusal });
    }

    pub(super) fn next_condemned(&mut self) -> Option<Decided<T, E>> {
        while let Some(Condemned { client, before, refusal }) = self.condemned.front() {
            let number = match client {
                None => self.waiting.first_key_value().map(|(number, _)| *number),
                Some(client) => self.oldest_of(*client, *before),
            };
            let Some(number) = number.filter(|number| number < before) else {
                self.condemned.pop_front();
                continue;
            };
            let refusal = refusal.clone();
            let who = self.waiting.get(&number)?.ask.who;
            self.leave(number);
            return Some(Decided { who, number: Number(number), how: Err(refusal) });
        }
        None
    }

    pub(super) fn learn(&mut self, length: Duration) {
        self.usual = Some(match self.usual {
            None => length,
            Some(usual) => usual.saturating_sub(usual / USUAL).saturating_add(length / USUAL),
        });
    }

    /// How long a key of this group would wait if it joined the line of urgent keys now: with this number, or with a
    /// new one. Zero while nothing is known.
    pub(super) fn expected(&self, group: u64, number: Option<u64>, now: Duration) -> Duration {
        let Some(usual) = self.usual else { return Duration::ZERO };
        let (all, own) = self.line.before(group, number);
        let rounds = |calls: usize, at_once: usize| {
            let at_once = u32::try_from(at_once).unwrap_or(u32::MAX).max(1);
            usual.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX)) / at_once
        };
        let scarce = self.lent.filter(|lent| lent.is_short && now < lent.until);
        let limit = scarce.map_or(self.limit, |lent| self.limit.min(lent.slots).max(1));
        rounds(all, limit).max(rounds(own, self.part_of(limit)))
    }
}

/// The meaning of an end for a client, and the keys that wait for its probe.
impl<T: Copy, E: Clone> Gate<T, E> {
    pub(super) fn client_refused(&mut self, permit: &Permit, error: E, now: Duration) {
        let mut failed = self.failure(permit, error.clone(), None, now);
        failed.sent = permit.as_client;
        let refused = self.clients.failed(permit.client, failed);
        if let Some(forgotten) = refused.forgotten {
            self.unpark_all(forgotten);
        }
        if refused.closes
            && let Some(until) = self.clients.until(permit.client)
        {
            let refusal = Refusal::ClientClosed { error, until };
            let client = Some(permit.client);
            self.condemned.push_back(Condemned { client, before: self.next_number, refusal });
        } else {
            self.send_one_to_probe(permit.client);
        }
    }

    pub(super) fn client_not_heard(&mut self, permit: &Permit) {
        if self.clients.says_nothing(permit.client, permit.as_client) {
            self.send_one_to_probe(permit.client);
        }
    }

    /// The first of a client's keys with a smaller number.
    pub(super) fn oldest_of(&self, client: u64, before: u64) -> Option<u64> {
        RANKS.into_iter().find_map(|rank| {
            let (.., number) = self.by_client.range((client, rank, 0)..(client, rank, before)).next()?;
            Some(*number)
        })
    }

    pub(super) fn park(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.is_parked = true;
            self.line.leave(rank(&waiting.ask), waiting.ask.group, number);
        }
    }

    pub(super) fn unpark(&mut self, number: u64) {
        if let Some(waiting) = self.waiting.get_mut(&number)
            && mem::take(&mut waiting.is_parked)
        {
            self.line.join(rank(&waiting.ask), waiting.ask.group, number);
        }
    }

    /// Puts the first waiting key of a client in line, if the client is half open without a probe.
    pub(super) fn send_one_to_probe(&mut self, client: u64) {
        if self.clients.wants_probe(client)
            && let Some(number) = self.oldest_of(client, self.next_number)
        {
            self.unpark(number);
        }
    }

    pub(super) fn unpark_all(&mut self, client: u64) {
        let of_client = (client, Rank::Urgent, 0)..=(client, Rank::Ahead, u64::MAX);
        let numbers: Vec<u64> = self.by_client.range(of_client).map(|(.., number)| *number).collect();
        for number in numbers {
            self.unpark(number);
        }
    }
}

//! The gate's decisions for the keys of a shard, and their effects.

use std::sync::Arc;

use super::super::common::Who;
use super::super::gate::{self, Decided, Ending, Number, Permit};
use super::entries::State;
use super::{Key, Shard};
use crate::clock::Timestamp;
use crate::flight::{Event, Refusal};
#[cfg(feature = "metrics")]
use crate::sync::Ordering;
use crate::sync::lock;

/// The gate's decision for a key. Without a number: the answer to the request itself.
pub(super) struct Decision {
    pub(super) who: Who,
    pub(super) number: Option<Number>,
    pub(super) how: Result<Permit, Refusal>,
}

impl<K: Key> Shard<K> {
    /// Returns the permit to the gate.
    pub(super) fn end_call(&mut self, permit: Option<Permit>, ending: Ending, now: Timestamp) {
        if let Some(permit) = permit {
            self.common.end_call(permit, ending, now.boot);
        }
    }

    /// Acts on the gate's decisions: for keys of this shard at once. Decisions for other keys are sent to their
    /// shards.
    pub(super) fn hear(&mut self, now: Timestamp) {
        loop {
            self.sort(now);
            let Some(Decision { who, number, how }) = self.decided.pop_front() else { return };
            let Some(mut entry) = self.entries.take_same(who.entry, who.generation) else {
                self.end_call(how.ok(), Ending::Abandoned, now);
                continue;
            };
            match &mut entry.state {
                State::Busy(busy) if busy.machine.is_queued() && busy.asked == number => {
                    busy.asked = None;
                    let event = match how {
                        Ok(permit) => {
                            busy.permit = Some(permit);
                            Event::Granted
                        }
                        Err(refusal) => Event::Refused(refusal),
                    };
                    self.step(who.entry, entry, [event], now);
                }
                // The key no longer wants this call: the answer and its withdrawal have crossed.
                _ => {
                    self.end_call(how.ok(), Ending::Abandoned, now);
                    self.entries.put(who.entry, entry);
                }
            }
        }
    }

    /// Takes the gate's new decisions, and sends each to its shard.
    fn sort(&mut self, now: Timestamp) {
        let common = Arc::clone(&self.common);
        let mut gate = lock(&common.gate);
        while let Some(decided) = gate.next_decided(now.boot) {
            if decided.who.shard == self.number {
                self.decided.push_back(Decision::of(decided, now));
            } else {
                common.send(&mut gate, decided, now.boot);
            }
        }
        #[cfg(feature = "metrics")]
        for (place, figure) in common.figures.iter().zip(gate.figures()) {
            place.store(figure, Ordering::Relaxed);
        }
        #[cfg(feature = "shared")]
        if let Some(fleet) = &common.fleet {
            fleet.note(gate.demand());
        }
    }
}

impl Decision {
    pub(super) fn of(decided: Decided<Who>, now: Timestamp) -> Self {
        let how = decided.how.map_err(|refusal| refusal.told_at(now));
        Self { who: decided.who, number: Some(decided.number), how }
    }
}

impl gate::Refusal {
    pub(super) fn told_at(self, now: Timestamp) -> Refusal {
        match self {
            Self::Closed { error, until } | Self::ClientClosed { error, until } => {
                Refusal::Closed { error, left: until.saturating_sub(now.boot) }
            }
            Self::TooLong { expected, .. } => Refusal::TooLong { expected },
        }
    }
}

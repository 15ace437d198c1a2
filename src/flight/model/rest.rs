//! What follows from a state if nobody does anything more: it comes to rest, and from there it recovers.

use std::time::Duration;

use super::rules::{AGES, Action, Name, Reply, Rules};
use super::world::World;
use crate::flight::FlightState;

/// No state may be further from rest than so many wake-ups and answers.
const STEPS: usize = 32;

impl World {
    /// Nobody asks any more, and the source hangs or fails: all are told, and nothing is left to do.
    pub(super) fn comes_to_rest(&self, rules: &Rules) -> bool {
        [None, Some(Reply::Terminal)].into_iter().all(|reply| self.rests_with(reply, rules))
    }

    fn rests_with(&self, reply: Option<Reply>, rules: &Rules) -> bool {
        let mut world = self.clone();
        for _ in 0..STEPS {
            // One that refreshes by itself never rests; that all have been told is rest enough.
            let told = world.waiting.is_empty();
            if told && (rules.background || world.machine.next_wake().is_none()) {
                return rules.background || world.call.is_none();
            }
            if !world.go_on(reply, rules) {
                return world.breach.is_some();
            }
        }
        world.breach.is_some()
    }

    /// The source is sound again: whoever asks after the cooldown gets a token.
    pub(super) fn recovers(&self, rules: &Rules) -> bool {
        if self.machine.state(self.now) == FlightState::Stopped {
            return true;
        }
        let mut world = self.clone();
        // Those who wait are told before, so that the queue has room.
        for _ in 0..STEPS {
            if world.machine.is_idle() {
                break;
            }
            if !world.go_on(Some(Reply::Fresh), rules) {
                return world.breach.is_some();
            }
        }
        world.pass(AGES);
        world.act(Action::Tick, rules);
        world.act(Action::Want(Name::Asker), rules);
        for _ in 0..STEPS {
            if world.find(Name::Asker).is_none() {
                return world.breach.is_some() || world.readable().is_some();
            }
            if !world.go_on(Some(Reply::Fresh), rules) {
                return world.breach.is_some();
            }
        }
        world.breach.is_some()
    }

    /// The source answers, or else the alarm rings. Returns whether either could be. (A law that breaks on
    /// the way is reported where the way is gone for itself.)
    fn go_on(&mut self, reply: Option<Reply>, rules: &Rules) -> bool {
        if let (Some(reply), true) = (reply, self.call.is_some()) {
            self.act(Action::Answer(reply), rules);
            return true;
        }
        let Some(wake) = self.machine.next_wake() else { return false };
        self.pass(wake.saturating_sub(self.now.boot).max(Duration::ZERO));
        self.act(Action::Tick, rules);
        true
    }
}

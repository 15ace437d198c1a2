//! The continuations of a state: without further callers it comes to rest, and from there it recovers.

use super::rules::{Action, Name, Reply, Rules};
use super::world::World;
use crate::flight::FlightState;

/// The maximum number of wake-ups and answers until rest, from any state.
const STEPS: usize = 32;

impl World {
    /// No caller asks any more, and the source hangs or fails. Then all are told, and nothing is left to do.
    pub(super) fn comes_to_rest(&self, rules: &Rules) -> bool {
        [None, Some(Reply::Terminal)].into_iter().all(|reply| self.rests_with(reply, rules))
    }

    fn rests_with(&self, reply: Option<Reply>, rules: &Rules) -> bool {
        let mut world = self.clone();
        for _ in 0..STEPS {
            // A machine that refreshes by itself never rests. Here it is enough that all have been told.
            let told = world.waiting.is_empty();
            if told && (rules.background || world.machine.next_wake(world.now).is_none()) {
                return rules.background || world.call.is_none();
            }
            if !world.go_on(reply, rules) {
                return world.breach.is_some();
            }
        }
        world.breach.is_some()
    }

    /// The source works again: a caller that asks after the cooldown gets a token. The same holds if the source
    /// repeats itself.
    pub(super) fn recovers(&self, rules: &Rules) -> bool {
        let repeats = [Reply::Current, Reply::Reported].map(Action::Answer);
        let may_repeat = rules.actions.iter().any(|action| repeats.contains(action));
        self.recovers_by(false, rules) && (!may_repeat || self.recovers_by(true, rules))
    }

    fn recovers_by(&self, repeating: bool, rules: &Rules) -> bool {
        if self.machine.state(self.now) == FlightState::Stopped {
            return true;
        }
        let mut world = self.clone();
        // The waiters are told before, so that the queue has room.
        for _ in 0..STEPS {
            if world.machine.is_idle() {
                break;
            }
            if !world.go_on(Some(world.sound(repeating, rules)), rules) {
                return world.breach.is_some();
            }
        }
        world.pass(rules.ages(), rules);
        world.act(Action::Tick, rules);
        world.act(Action::Want(Name::Asker), rules);
        for _ in 0..STEPS {
            if world.find(Name::Asker).is_none() {
                return world.breach.is_some() || world.readable().is_some();
            }
            if !world.go_on(Some(world.sound(repeating, rules)), rules) {
                return world.breach.is_some();
            }
        }
        world.breach.is_some()
    }

    /// The answer of a working source.
    fn sound(&self, repeating: bool, rules: &Rules) -> Reply {
        let old = [Reply::Reported, Reply::Current].into_iter().filter(|_| repeating);
        old.into_iter().find(|reply| self.can(Action::Answer(*reply), rules)).unwrap_or(Reply::Fresh)
    }

    /// The source answers, or else the alarm rings. Returns whether either was possible. (A law that breaks in this
    /// continuation is reported when the continuation itself is visited.)
    fn go_on(&mut self, reply: Option<Reply>, rules: &Rules) -> bool {
        if self.machine.is_telling() {
            self.act(Action::Tell, rules);
            return true;
        }
        if let (Some(reply), true) = (reply, self.call.is_some()) {
            self.act(Action::Answer(reply), rules);
            return true;
        }
        let Some(wake) = self.machine.next_wake(self.now) else { return false };
        self.pass(wake.saturating_sub(self.now.boot), rules);
        self.act(Action::Tick, rules);
        true
    }
}

//! The machine under a model checker: every order of events, in every reachable state.
//!
//! Stateright drives the real [`Machine`], inside a [`World`] that performs its effects as the actor does and keeps
//! its own records. Histories have no bound. Two states that differ only in the past are equal (see [`key`]).
//! Therefore there are finitely many states, and all of them are visited. `docs/model.md` has the figures, and the
//! weakenings of the machine that break each law.

mod books;
mod key;
mod laws;
#[cfg(feature = "registry")]
mod outline;
mod policies;
mod report;
mod rest;
mod rules;
mod shell;
mod sights;
mod world;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model, Property};

use laws::Law;
use rules::{Action, Rules};
use sights::{Sight, Sights};
use world::World;

#[derive(Clone)]
struct Flights {
    rules: Rules,
    sights: Arc<Sights>,
}

impl Model for Flights {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.rules)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // After a breach nothing else matters.
        if world.breach.is_none() {
            actions
                .extend(self.rules.actions.iter().copied().filter(|action| world.can(*action, &self.rules)));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.sights.add(&next.act(action, &self.rules));
        next.set_key(&self.rules);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<_> = Law::ALL.iter().map(|law| property(*law)).collect();
        properties.sort_by_key(|property| property.name);
        properties
    }
}

/// Stateright takes plain functions, so each law gets a function by its number.
fn property(law: Law) -> Property<Flights> {
    fn holds<const LAW: usize>(_: &Flights, world: &World) -> bool {
        world.breach != Some(Law::ALL[LAW])
    }
    macro_rules! by_number {
        ($($number:literal)*) => {
            match law as usize {
                $($number => holds::<$number>,)*
                _ => unreachable!("a law without a number"),
            }
        };
    }
    let condition: fn(&Flights, &World) -> bool = match law {
        Law::Rest => |model, world| world.breach.is_some() || world.comes_to_rest(&model.rules),
        Law::Recovery => |model, world| world.breach.is_some() || world.recovers(&model.rules),
        _ => {
            by_number!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36)
        }
    };
    Property::always(law.text(), condition)
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("state", &self.machine.state(self.now))
            .field("waiting", &self.waiting.len())
            .field("breach", &self.breach)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

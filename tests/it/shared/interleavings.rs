//! Every interleaving of small fleets: the protocol's own code runs again and again with other choices (docs/fleet.md).
//!
//! A choice is which process takes its next step in the store or gets an answer of the auth server, whether time
//! passes, and whether a fault occurs. An [`Explorer`] visits all choices. The laws are checked in each run
//! (`run.rs`).
//!
//! ```sh
//! cargo test --all-features --test it shared::interleavings -- --nocapture             # seconds
//! MODEL=wide cargo test --all-features --test it shared::interleavings -- --nocapture  # with more faults: minutes
//! MODEL="three want the first token" cargo test ...                                    # one of these worlds
//! ```

use std::time::Duration;

use explorer::{Explorer, Fault};
use run::{Sights, run};
use shelf::Act;

use crate::support::*;

mod explorer;
mod gates;
mod run;
mod shelf;

const LEASE: Duration = secs(3);
const STORE_TIMEOUT: Duration = secs(1);
const PATIENCE: Duration = secs(4);
/// The first pause of a fleet after a failure.
const PAUSE: Duration = millis(250);
/// Between two looks, at least.
const INTERVAL: Duration = millis(100);
/// After the end of a lease or a pause.
const GRACE: Duration = millis(10);
/// The auth server answers within half a lease, and a lease is renewed meanwhile.
const CALL: Duration = millis(1_500);

/// What holds in each run.
const LAWS: [&str; 10] = [
    "nobody waits for ever",
    "nobody waits longer than the patience and one fetch",
    "nobody waits for nobody",
    "nobody is given what the auth server has not issued",
    "nobody is given what it has reported, or what is older",
    "everybody with a good credential gets a token",
    "one token is committed under a lease",
    "the fence of committed tokens grows",
    "a token is committed under the newest lease",
    "without faults one call, one for each wrong credential, and no polls",
];

/// A small fleet, and what may go wrong.
struct World {
    name: &'static str,
    processes: usize,
    /// So many of them, the first ones, have a credential that the auth server refuses.
    wrong: usize,
    /// So many tokens all of them have had when the choices begin. They report the last one.
    tokens_before: usize,
    /// The auth server answers within this time.
    call: Duration,
    faults: Vec<Fault>,
    /// So many of these faults happen in a run, at most.
    budget: u32,
}

impl World {
    fn new(name: &'static str, processes: usize) -> Self {
        let (wrong, tokens_before, call) = (0, 0, CALL);
        Self { name, processes, wrong, tokens_before, call, faults: Vec::new(), budget: 0 }
    }

    fn after_tokens(self, tokens_before: usize) -> Self {
        Self { tokens_before, ..self }
    }

    fn with_wrong(self, wrong: usize) -> Self {
        Self { wrong, ..self }
    }

    fn with_slow_calls(self) -> Self {
        Self { call: secs(6), ..self }
    }

    fn with(self, budget: u32, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { budget, faults: faults.into_iter().collect(), ..self }
    }
}

const OF_PROCESSES: [Fault; 6] =
    [Fault::Crash, Fault::Leave, Fault::Freeze, Fault::AnswerLost, Fault::Hang, Fault::Unavailable];

fn writes() -> impl Iterator<Item = Fault> {
    Act::ALL.into_iter().map(Fault::Write)
}

fn restless() -> impl Iterator<Item = Fault> {
    Act::ALL.into_iter().map(Fault::Restless)
}

fn worlds(wide: bool) -> Vec<World> {
    let mut worlds = vec![
        World::new("two want the first token, one fault", 2).with(1, OF_PROCESSES),
        World::new("two report the same token", 2).after_tokens(1),
        World::new("a wrong credential and a right one", 2).with_wrong(1),
        World::new("calls that take longer than a lease", 2).with_slow_calls(),
        World::new("one and a writer without a key", 1).after_tokens(2).with(1, writes()),
        World::new("one and a writer who never rests", 1).after_tokens(2).with(1, restless()),
    ];
    if wide {
        worlds.extend([
            World::new("three want the first token", 3),
            World::new("two wrong credentials and a right one", 3).with_wrong(2),
            World::new("a wrong credential and a right one, one fault", 2)
                .with_wrong(1)
                .with(1, OF_PROCESSES),
            World::new("two report the same token, one fault", 2).after_tokens(1).with(1, OF_PROCESSES),
            World::new("two and a writer without a key", 2).after_tokens(2).with(1, writes()),
            World::new("two and a writer who never rests", 2).after_tokens(2).with(1, restless()),
            World::new("two want the first token, two crash or freeze", 2)
                .with(2, [Fault::Crash, Fault::Freeze]),
        ]);
    }
    worlds
}

/// Runs a world through all of its choices.
fn explore(world: &World, sights: &mut Sights) {
    let mut explorer = Explorer::default();
    loop {
        let whole = run(world, &mut explorer, sights).unwrap_or_else(|law| {
            panic!("world \"{}\" breaks the law \"{law}\" by [{}]", world.name, explorer.way())
        });
        if !explorer.next_run(whole) {
            break;
        }
    }
    println!(
        "| {} | {} | {} | {} | {} |",
        world.name, explorer.runs, explorer.cut, explorer.choice_points, explorer.longest
    );
}

#[test]
fn every_law_holds_in_every_interleaving() {
    let model = std::env::var("MODEL").ok();
    let all = worlds(model.is_some());
    let is_wanted =
        |world: &World| model.as_deref().is_none_or(|model| model == "wide" || model == world.name);
    println!("| world | runs | cut short | choice points | longest |\n|---|---|---|---|---|");
    let mut sights = Sights::default();
    for world in all.iter().filter(|world| is_wanted(world)) {
        explore(world, &mut sights);
    }
    println!("\n{sights:?}\n");
    for law in LAWS {
        println!("- {law}");
    }
    if model.as_deref().is_none_or(|model| model == "wide") {
        sights.check();
    }
}

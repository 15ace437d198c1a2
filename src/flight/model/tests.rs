//! Visits all states.

use std::collections::{HashMap, VecDeque};
use std::env;

use super::*;

/// The policies to check: the two smallest, or those in the variable `MODEL` (`all`, `wide`, or one by name).
/// `./tests/model` checks all of them, with optimisation.
fn policies() -> Vec<Rules> {
    let requested = env::var("MODEL").unwrap_or_else(|_| "quick".to_owned());
    let quick = ["lazy", "budget"];
    match requested.as_str() {
        "quick" => policies::all().into_iter().filter(|rules| quick.contains(&rules.name)).collect(),
        "all" => policies::all(),
        "wide" => policies::wide(),
        name => {
            policies::all().into_iter().chain(policies::wide()).filter(|rules| rules.name == name).collect()
        }
    }
}

fn is_whole() -> bool {
    env::var("MODEL").is_ok_and(|requested| requested == "all")
}

/// The result of visiting a policy.
struct Visited {
    states: usize,
    transitions: usize,
    sights: Arc<Sights>,
}

/// Visits every state, and fails with the shortest way to a breach of a law.
#[track_caller]
fn visit(rules: Rules) -> Visited {
    let name = rules.name;
    let sights = Arc::new(Sights::default());
    let model = Flights { rules, sights: Arc::clone(&sights) };
    // One thread, so that a breach is found by the shortest way, and each time by the same way.
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name:>14}: {:>9} states, {:>10} transitions, at most {} from the start",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    if let Some((law, path)) = checker.discoveries().into_iter().min_by_key(|(law, _)| *law) {
        panic!("policy \"{name}\" breaks the law \"{law}\" by {:?}", path.into_actions());
    }
    Visited { states: checker.unique_state_count(), transitions: checker.state_count(), sights }
}

#[test]
fn every_law_holds_in_every_state() {
    let (mut states, mut transitions) = (0, 0);
    let mut unseen: Vec<Sight> = Sight::ALL.to_vec();
    for rules in policies() {
        let visited = visit(rules);
        states += visited.states;
        transitions += visited.transitions;
        unseen.retain(|sight| visited.sights.count(*sight) == 0);
    }
    let least = match env::var("MODEL").as_deref() {
        Ok("all") => 800_000,
        Ok("quick") | Err(_) => 20_000,
        Ok(_) => 1_000,
    };
    println!("         total: {states:>9} states, {transitions:>10} transitions, all laws hold");
    assert!(states > least, "not all that can happen was tried");
    assert!(unseen.is_empty() || !is_whole(), "never happened: {unseen:?}");
}

/// Checks that merging states is sound: if two ways lead to the same key, each action must lead from both states to
/// the same key again, and so on.
#[test]
fn merged_states_behave_alike() {
    const COMPARED: u8 = 2;
    for rules in policies() {
        let model = Flights { rules, sights: Arc::default() };
        let mut known: HashMap<Vec<i64>, (World, u8)> = HashMap::new();
        let mut queue = VecDeque::from(model.init_states());
        let mut compared = 0_u64;
        while let Some(world) = queue.pop_front() {
            match known.get_mut(&world.key) {
                Some((_, COMPARED..)) => continue,
                Some((first, times)) => {
                    *times += 1;
                    compared += 1;
                    assert_alike(&model, first, &world);
                    continue;
                }
                None => known.insert(world.key.clone(), (world.clone(), 0)),
            };
            queue.extend(successors(&model, &world).into_iter().map(|(_, next)| next));
            if known.len() >= if is_whole() { 15_000 } else { 4_000 } {
                break;
            }
        }
        println!("{:>14}: {compared} pairs of merged states alike", model.rules.name);
        assert!(compared > 500);
    }
}

fn successors(model: &Flights, world: &World) -> Vec<(Action, World)> {
    let mut actions = Vec::new();
    model.actions(world, &mut actions);
    let next = |action| model.next_state(world, action).map(|next| (action, next));
    actions.into_iter().filter_map(next).collect()
}

#[track_caller]
fn assert_alike(model: &Flights, one: &World, other: &World) {
    let (ones, others) = (successors(model, one), successors(model, other));
    assert_eq!(ones.len(), others.len(), "not the same actions");
    for ((action, one), (_, other)) in ones.into_iter().zip(others) {
        assert_eq!(one.key, other.key, "{action:?} parts two states that were one");
    }
}

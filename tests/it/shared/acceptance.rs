//! The requirements on every store.

use std::time::Duration;

use tokenflight::store::{
    Ask, FENCE_AHEAD, Failure, Held, LONGEST_VALUE, Lease, Look, MOST_MARKS, SharedKey, SharedStore,
};

use super::world::*;
use crate::support::*;

on_each_store!(
    the_first_one_has_the_lease_and_the_second_hears_how_long_it_lasts,
    a_committed_value_is_found_by_everybody_until_its_end,
    a_lease_that_nobody_renews_runs_out,
    a_renewed_lease_lasts,
    a_late_owner_can_neither_renew_nor_commit_nor_fail,
    each_lease_has_a_greater_fence,
    a_pause_is_everybodys_until_a_commit,
    a_mark_concerns_those_who_carry_it,
    the_mark_that_ends_first_makes_room,
    who_looks_past_a_value_sees_what_is_behind_it,
    a_lease_that_was_lost_commits_if_nobody_has_had_one_since,
    a_fence_far_ahead_of_the_clock_is_mended,
    a_value_that_is_too_long_is_not_kept,
    a_refused_value_is_to_be_replaced,
    a_discarded_value_is_gone_for_everybody,
    news_come_to_each_who_listened_before,
    a_refused_commit_is_no_news,
    keys_do_not_meet,
    any_bytes_can_be_kept,
    an_owner_who_asks_again_has_the_same_lease,
    a_commit_that_is_asked_for_twice_is_done_once,
);

async fn look(store: &impl SharedStore) -> Look {
    store.look_or_lease(&key(), &Ask::default()).await.unwrap()
}

#[track_caller]
fn taken(look: Look) -> Held {
    let Look::Taken(held) = look else { panic!("taken, and not {look:?}") };
    held
}

#[track_caller]
fn paused(look: Look) -> Held {
    let Look::Paused(held) = look else { panic!("a pause, and not {look:?}") };
    held
}

fn pause(value: &str, time: Duration) -> Failure {
    Failure { pause: Some((value.into(), time)), mark: None }
}

fn mark(value: &str, time: Duration) -> Failure {
    Failure { pause: None, mark: Some((value.into(), time)) }
}

fn marked(name: &str) -> Ask {
    Ask { mark: name.into(), ..Ask::default() }
}

/// A refresh by a carrier of this credential is refused.
async fn refuse(store: &impl SharedStore, name: &str, time: Duration) {
    let lease = lease_by(store, &key(), marked(name), name).await;
    assert!(store.fail(&key(), &lease, &mark(name, time)).await.unwrap());
}

async fn the_first_one_has_the_lease_and_the_second_hears_how_long_it_lasts<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    lease(&one, "one").await;
    let held = taken(look(&other).await);
    assert!(held.left <= LEASE && held.left > LEASE / 2, "{held:?}");
    assert_eq!(held.value, b"one has it");
    assert!(one.load(&key()).await.unwrap().is_none(), "a lease is no value");
}

async fn a_committed_value_is_found_by_everybody_until_its_end<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let lease = lease(&one, "one").await;
    assert!(one.commit(&key(), &lease, b"value", LEASE).await.unwrap());
    let Look::Found(found) = look(&other).await else { panic!("found") };
    assert_eq!((found.id.as_str(), found.value.as_slice()), ("one", &b"value"[..]));
    assert!(found.left <= LEASE && found.left > LEASE / 2, "{:?}", found.left);
    assert!(!format!("{found:?}").contains("value"), "a value may be a token in clear");
    assert_eq!(other.load(&key()).await.unwrap().unwrap().id, "one");
    tokio::time::sleep(LEASE).await;
    assert!(other.load(&key()).await.unwrap().is_none());
    assert!(matches!(look(&other).await, Look::Free(_)), "value and lease are both gone");
}

async fn a_lease_that_nobody_renews_runs_out<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    lease(&one, "one").await;
    let left = taken(look(&other).await).left;
    tokio::time::sleep(left + millis(5)).await;
    lease(&other, "other").await;
}

async fn a_renewed_lease_lasts<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let mut lease = lease(&one, "one").await;
    for renewal in 1..=3 {
        tokio::time::sleep(LEASE / 2).await;
        lease.value = vec![renewal];
        assert!(one.renew(&key(), &lease, LEASE).await.unwrap());
    }
    let held = taken(look(&other).await);
    assert!(held.left > LEASE / 2, "counted from the renewal: {held:?}");
    assert_eq!(held.value, [3]);
}

async fn a_late_owner_can_neither_renew_nor_commit_nor_fail<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let late = lease(&one, "late").await;
    tokio::time::sleep(LEASE + millis(5)).await;
    assert!(!one.renew(&key(), &late, LEASE).await.unwrap());
    let forged = Lease { fence: late.fence + 1, ..late.clone() };
    assert!(!one.commit(&key(), &forged, b"forged", LEASE).await.unwrap(), "nobody was given that");
    let current = lease(&other, "current").await;
    assert!(!one.renew(&key(), &late, LEASE).await.unwrap());
    assert!(!one.commit(&key(), &late, b"late", LEASE).await.unwrap());
    assert!(!one.fail(&key(), &late, &pause("late", LEASE)).await.unwrap());
    assert!(other.commit(&key(), &current, b"current", LEASE).await.unwrap());
    assert!(!one.commit(&key(), &late, b"late", LEASE).await.unwrap());
    assert_eq!(one.load(&key()).await.unwrap().unwrap().value, b"current");
}

async fn a_lease_that_was_lost_commits_if_nobody_has_had_one_since<W: World>(world: W) {
    let store = world.store();
    let first = lease(&store, "first").await;
    tokio::time::sleep(LEASE + millis(5)).await;
    assert!(store.commit(&key(), &first, b"first", HOUR).await.unwrap(), "nobody has had it since");
    let lost = lease_by(&store, &key(), refusing("first"), "lost").await;
    tokio::time::sleep(LEASE + millis(5)).await;
    let next = lease_by(&store, &key(), refusing("first"), "next").await;
    assert!(store.fail(&key(), &next, &Failure::default()).await.unwrap());
    assert!(!store.commit(&key(), &lost, b"lost", HOUR).await.unwrap(), "somebody has");
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value, b"first");
}

async fn each_lease_has_a_greater_fence<W: World>(world: W) {
    let store = world.store();
    let mut last = 0;
    for owner in ["one", "two", "three"] {
        let lease = lease(&store, owner).await;
        assert!(lease.fence > last, "{} after {last}", lease.fence);
        last = lease.fence;
        assert!(store.fail(&key(), &lease, &Failure::default()).await.unwrap());
        let again = Ask { take: Some(tokenflight::store::Take { lease, time: LEASE }), ..Ask::default() };
        let look = store.look_or_lease(&key(), &again).await.unwrap();
        assert!(matches!(look, Look::Free(free) if free.fence == last), "{look:?}");
    }
}

async fn a_fence_far_ahead_of_the_clock_is_mended<W: World>(world: W) {
    let store = world.store();
    let mut ask = ask_for(&store, &key(), Ask::default(), "hasty").await;
    let take = ask.take.as_mut().unwrap();
    take.lease.fence += u64::try_from((FENCE_AHEAD * 2).as_millis()).unwrap();
    let look = store.look_or_lease(&key(), &ask).await.unwrap();
    assert!(matches!(look, Look::Free(_)), "no process gives itself such a fence: {look:?}");
    lease(&store, "next").await;
}

async fn a_pause_is_everybodys_until_a_commit<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.fail(&key(), &first, &pause("wait", LEASE)).await.unwrap());
    let held = paused(look(&other).await);
    assert_eq!(held.value, b"wait");
    assert!(held.left <= LEASE && held.left > LEASE / 2, "{held:?}");
    let past = Ask { passed: vec![b"wait".to_vec()], ..Ask::default() };
    let second = lease_by(&other, &key(), past, "other").await;
    paused(look(&one).await);
    assert!(other.commit(&key(), &second, b"value", millis(20)).await.unwrap());
    tokio::time::sleep(millis(25)).await;
    let look = look(&one).await;
    assert!(matches!(look, Look::Free(_)), "the trouble is over: {look:?}");
}

async fn a_mark_concerns_those_who_carry_it<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    refuse(&one, "old", LEASE).await;
    let held = paused(other.look_or_lease(&key(), &marked("old")).await.unwrap());
    assert_eq!(held.value, b"old");
    assert!(held.left <= LEASE && held.left > LEASE / 2, "{held:?}");
    let lease = lease_by(&other, &key(), marked("new"), "other").await;
    assert!(other.commit(&key(), &lease, b"value", HOUR).await.unwrap());
    let past = Ask { mark: "old".into(), ..refusing("other") };
    paused(one.look_or_lease(&key(), &past).await.unwrap());
    // One that is taken again ends its own mark.
    let past = Ask { passed: vec![b"old".to_vec()], ..past };
    let lease = lease_by(&one, &key(), past, "one").await;
    assert!(one.commit(&key(), &lease, b"value", HOUR).await.unwrap());
    let past = Ask { mark: "old".into(), ..refusing("one") };
    let look = one.look_or_lease(&key(), &past).await.unwrap();
    assert!(matches!(look, Look::Free(_)), "{look:?}");
}

async fn the_mark_that_ends_first_makes_room<W: World>(world: W) {
    let store = world.store();
    let names: Vec<String> = (0..=MOST_MARKS).map(|number| format!("mark-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let time = if number == 3 { HOUR } else { HOUR * 2 };
        refuse(&store, name, time).await;
    }
    for (number, name) in names.iter().enumerate() {
        let look = store.look_or_lease(&key(), &marked(name)).await.unwrap();
        assert_eq!(matches!(look, Look::Free(_)), number == 3, "{name}: {look:?}");
    }
}

async fn who_looks_past_a_value_sees_what_is_behind_it<W: World>(world: W) {
    let store = world.store();
    lease(&store, "one").await;
    let value = taken(look(&store).await).value;
    let past = Ask { passed: vec![value.clone()], ..Ask::default() };
    assert!(matches!(store.look_or_lease(&key(), &past).await.unwrap(), Look::Free(_)));
    taken(look(&store).await);
    let void = Ask { void: vec![value], ..Ask::default() };
    assert!(matches!(store.look_or_lease(&key(), &void).await.unwrap(), Look::Free(_)));
    assert!(matches!(look(&store).await, Look::Free(_)), "it is gone for everybody");
}

async fn a_value_that_is_too_long_is_not_kept<W: World>(world: W) {
    let store = world.store();
    let lease = lease(&store, "one").await;
    store.commit(&key(), &lease, &vec![0; LONGEST_VALUE + 1], HOUR).await.unwrap_err();
    assert!(store.commit(&key(), &lease, &vec![0; LONGEST_VALUE], HOUR).await.unwrap());
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value.len(), LONGEST_VALUE);
}

async fn a_refused_value_is_to_be_replaced<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.commit(&key(), &first, b"old", LEASE).await.unwrap());
    let second = lease_by(&other, &key(), refusing("one"), "two").await;
    assert_eq!(
        one.load(&key()).await.unwrap().unwrap().value,
        b"old",
        "good for others until it is replaced"
    );
    assert!(matches!(look(&one).await, Look::Found(_)));
    assert!(other.commit(&key(), &second, b"new", LEASE).await.unwrap());
    let Look::Found(found) = one.look_or_lease(&key(), &refusing("one")).await.unwrap() else {
        panic!("found")
    };
    assert_eq!(found.value, b"new", "not the refused one");
}

async fn a_discarded_value_is_gone_for_everybody<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.commit(&key(), &first, b"old", LEASE).await.unwrap());
    let other_one = Ask { discard: true, ..refusing("another") };
    assert!(matches!(one.look_or_lease(&key(), &other_one).await.unwrap(), Look::Found(_)), "only the named");
    let discarding = Ask { discard: true, ..refusing("one") };
    assert!(matches!(one.look_or_lease(&key(), &discarding).await.unwrap(), Look::Free(_)));
    assert!(matches!(look(&other).await, Look::Free(_)));
    assert!(other.load(&key()).await.unwrap().is_none());
}

async fn news_come_to_each_who_listened_before<W: World>(world: W) {
    let (owner, one, other) = (world.store(), world.store(), world.store());
    let mut news = vec![one.watch(&key()).await.unwrap(), other.watch(&key()).await.unwrap()];
    let first = lease(&owner, "one").await;
    assert!(owner.commit(&key(), &first, b"value", millis(1)).await.unwrap());
    for news in &mut news {
        tokio::time::timeout(secs(5), news.next()).await.expect("news of the token");
    }
    tokio::time::sleep(millis(5)).await;
    let second = lease(&owner, "two").await;
    assert!(owner.fail(&key(), &second, &pause("wait", LEASE)).await.unwrap());
    for news in &mut news {
        tokio::time::timeout(secs(5), news.next()).await.expect("news of the failure");
    }
}

async fn a_refused_commit_is_no_news<W: World>(world: W) {
    let (owner, one) = (world.store(), world.store());
    let mut news = one.watch(&key()).await.unwrap();
    let lease = lease(&owner, "one").await;
    let forged = Lease { owner: "nobody".into(), ..lease };
    assert!(!owner.commit(&key(), &forged, b"value", LEASE).await.unwrap());
    assert!(!owner.fail(&key(), &forged, &pause("wait", LEASE)).await.unwrap());
    tokio::time::timeout(millis(50), news.next()).await.expect_err("no news");
}

async fn keys_do_not_meet<W: World>(world: W) {
    let store = world.store();
    let of = |parts: &[(&str, &str)]| SharedKey::new("orders", parts.iter().copied()).unwrap();
    let keys = [of(&[("a", "bc")]), of(&[("ab", "c")]), of(&[("a", "b"), ("c", "")]), of(&[("a", "b")])];
    for key in &keys {
        lease_by(&store, key, Ask::default(), "one").await;
    }
    assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("a", "1")]), "in whatever order");
}

async fn any_bytes_can_be_kept<W: World>(world: W) {
    let store = world.store();
    let lease = lease(&store, "one").await;
    let value: Vec<u8> = (0..=255).cycle().take(16_384).collect();
    assert!(store.commit(&key(), &lease, &value, LEASE).await.unwrap());
    assert_eq!(store.load(&key()).await.unwrap().unwrap().value, value);
}

async fn an_owner_who_asks_again_has_the_same_lease<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let ask = ask_for(&one, &key(), Ask::default(), "one").await;
    assert!(matches!(one.look_or_lease(&key(), &ask).await.unwrap(), Look::Leased));
    tokio::time::sleep(LEASE / 2).await;
    assert!(matches!(one.look_or_lease(&key(), &ask).await.unwrap(), Look::Leased));
    let mut similar = ask;
    similar.take.as_mut().unwrap().lease.owner = "on".into();
    let held = taken(other.look_or_lease(&key(), &similar).await.unwrap());
    assert!(held.left > LEASE / 2, "counted from the second ask: {held:?}");
}

async fn a_commit_that_is_asked_for_twice_is_done_once<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.commit(&key(), &first, b"value", HOUR).await.unwrap());
    let mut news = other.watch(&key()).await.unwrap();
    assert!(one.commit(&key(), &first, b"value", HOUR).await.unwrap());
    tokio::time::timeout(millis(50), news.next()).await.expect_err("nothing has happened");
    let forged = Lease { fence: first.fence + 1, ..first };
    assert!(!one.commit(&key(), &forged, b"forged", HOUR).await.unwrap());
    assert_eq!(other.load(&key()).await.unwrap().unwrap().value, b"value");
}

//! What every store must do.

use std::time::Duration;

use tokenflight::store::{Failure, Lease, Look, Pause, SharedKey, SharedStore};

use super::world::*;
use crate::support::*;

on_each_store!(
    the_first_one_has_the_lease_and_the_second_hears_how_long_it_lasts,
    a_committed_value_is_found_by_everybody_until_its_end,
    a_lease_that_nobody_renews_runs_out,
    a_renewed_lease_lasts,
    a_late_owner_can_neither_renew_nor_commit_nor_fail,
    each_lease_has_a_greater_fence,
    a_failure_is_everybodys_pause,
    pauses_double_until_a_commit_and_never_undercut_the_servers_wish,
    a_refused_value_is_to_be_replaced,
    a_discarded_value_is_gone_for_everybody,
    news_come_to_each_who_listened_before,
    a_refused_commit_is_no_news,
    keys_do_not_meet,
    any_bytes_can_be_kept,
    an_owner_who_asks_again_has_the_same_lease,
    a_commit_that_is_asked_for_twice_is_done_once,
);

const FAILURE: Failure = Failure {
    terminal: false,
    at_least: Duration::ZERO,
    first: Duration::from_millis(100),
    limit: Duration::from_millis(300),
};

async fn look(store: &impl SharedStore) -> Look {
    store.look_or_lease(&key(), &ask("looker")).await.unwrap()
}

#[track_caller]
fn pause(look: &Look) -> Pause {
    let Look::Paused(pause) = look else { panic!("a pause, not {look:?}") };
    *pause
}

async fn the_first_one_has_the_lease_and_the_second_hears_how_long_it_lasts<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    lease(&one, "one").await;
    let Look::Taken(left) = look(&other).await else { panic!("taken") };
    assert!(left <= LEASE && left > LEASE / 2, "{left:?}");
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
    assert!(matches!(look(&other).await, Look::Leased(_)), "value and lease are both gone");
}

async fn a_lease_that_nobody_renews_runs_out<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    lease(&one, "one").await;
    let Look::Taken(left) = look(&other).await else { panic!("taken") };
    tokio::time::sleep(left + millis(5)).await;
    lease(&other, "other").await;
}

async fn a_renewed_lease_lasts<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let lease = lease(&one, "one").await;
    for _ in 0..3 {
        tokio::time::sleep(LEASE / 2).await;
        assert!(one.renew(&key(), &lease, LEASE).await.unwrap());
    }
    let Look::Taken(left) = look(&other).await else { panic!("taken") };
    assert!(left > LEASE / 2, "counted from the renewal: {left:?}");
}

async fn a_late_owner_can_neither_renew_nor_commit_nor_fail<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let late = lease(&one, "late").await;
    tokio::time::sleep(LEASE + millis(5)).await;
    let holds = |store| lease(store, "current");
    for (store, lease) in [(&one, late.clone()), (&one, Lease { fence: late.fence + 1, ..late.clone() })] {
        assert!(!store.commit(&key(), &lease, b"late", LEASE).await.unwrap(), "nobody has it");
    }
    let current = holds(&other).await;
    assert!(!one.renew(&key(), &late, LEASE).await.unwrap());
    assert!(!one.commit(&key(), &late, b"late", LEASE).await.unwrap());
    assert!(!one.fail(&key(), &late, &FAILURE).await.unwrap());
    assert!(other.commit(&key(), &current, b"current", LEASE).await.unwrap());
    assert!(!one.commit(&key(), &late, b"late", LEASE).await.unwrap());
    assert_eq!(one.load(&key()).await.unwrap().unwrap().value, b"current");
}

async fn each_lease_has_a_greater_fence<W: World>(world: W) {
    let store = world.store();
    let mut last = 0;
    for owner in ["one", "two", "three"] {
        let lease = lease(&store, owner).await;
        assert!(lease.fence > last, "{} after {last}", lease.fence);
        last = lease.fence;
        assert!(store.fail(&key(), &lease, &Failure { first: millis(0), ..FAILURE }).await.unwrap());
    }
}

async fn a_failure_is_everybodys_pause<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.fail(&key(), &first, &Failure { terminal: true, ..FAILURE }).await.unwrap());
    let pause = pause(&look(&other).await);
    assert!(pause.terminal && pause.left <= millis(100), "{pause:?}");
    tokio::time::sleep(pause.left + millis(5)).await;
    lease(&other, "other").await;
}

async fn pauses_double_until_a_commit_and_never_undercut_the_servers_wish<W: World>(world: W) {
    let store = world.store();
    for (most, at_least) in [(100, 0), (200, 0), (300, 0), (300, 0), (450, 450)] {
        let lease = lease(&store, "one").await;
        let failure = Failure { at_least: millis(at_least), ..FAILURE };
        assert!(store.fail(&key(), &lease, &failure).await.unwrap());
        let left = pause(&look(&store).await).left;
        assert!(left <= millis(most) && left > millis(most * 2 / 3), "{left:?} of {most} ms");
        tokio::time::sleep(left + millis(5)).await;
    }
    let success = lease(&store, "one").await;
    assert!(store.commit(&key(), &success, b"value", millis(20)).await.unwrap());
    tokio::time::sleep(millis(25)).await;
    let again = lease(&store, "one").await;
    assert!(store.fail(&key(), &again, &FAILURE).await.unwrap());
    assert!(pause(&look(&store).await).left <= millis(100), "the streak has ended");
}

async fn a_refused_value_is_to_be_replaced<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.commit(&key(), &first, b"old", LEASE).await.unwrap());
    let mut refusing = ask("two");
    refusing.refused = Some("one".into());
    let Look::Leased(second) = other.look_or_lease(&key(), &refusing).await.unwrap() else {
        panic!("leased")
    };
    assert_eq!(
        one.load(&key()).await.unwrap().unwrap().value,
        b"old",
        "good for others until it is replaced"
    );
    assert!(matches!(look(&one).await, Look::Found(_)));
    assert!(other.commit(&key(), &second, b"new", LEASE).await.unwrap());
    let Look::Found(found) = one.look_or_lease(&key(), &refusing).await.unwrap() else { panic!("found") };
    assert_eq!(found.value, b"new", "not the refused one");
}

async fn a_discarded_value_is_gone_for_everybody<W: World>(world: W) {
    let (one, other) = (world.store(), world.store());
    let first = lease(&one, "one").await;
    assert!(one.commit(&key(), &first, b"old", LEASE).await.unwrap());
    let mut other_one = ask("two");
    (other_one.refused, other_one.discard) = (Some("another".into()), true);
    assert!(matches!(one.look_or_lease(&key(), &other_one).await.unwrap(), Look::Found(_)), "only the named");
    let mut rejected = ask("two");
    (rejected.refused, rejected.discard) = (Some("one".into()), true);
    assert!(matches!(one.look_or_lease(&key(), &rejected).await.unwrap(), Look::Leased(_)));
    assert!(matches!(look(&other).await, Look::Taken(_)));
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
    assert!(owner.fail(&key(), &second, &FAILURE).await.unwrap());
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
    assert!(!owner.fail(&key(), &forged, &FAILURE).await.unwrap());
    tokio::time::timeout(millis(50), news.next()).await.expect_err("no news");
}

async fn keys_do_not_meet<W: World>(world: W) {
    let store = world.store();
    let of = |parts: &[(&str, &str)]| SharedKey::new("orders", parts.iter().copied()).unwrap();
    let keys = [of(&[("a", "bc")]), of(&[("ab", "c")]), of(&[("a", "b"), ("c", "")]), of(&[("a", "b")])];
    for key in &keys {
        assert!(matches!(store.look_or_lease(key, &ask("one")).await.unwrap(), Look::Leased(_)), "{key:?}");
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
    let first = lease(&one, "one").await;
    tokio::time::sleep(LEASE / 2).await;
    assert_eq!(lease(&one, "one").await, first);
    let Look::Taken(left) = other.look_or_lease(&key(), &ask("on")).await.unwrap() else { panic!("taken") };
    assert!(left > LEASE / 2, "counted from the second ask: {left:?}");
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

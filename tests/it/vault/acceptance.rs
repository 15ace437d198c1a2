//! The requirements on every vault.

use futures_util::future::join_all;
use tokenflight::TokenType;
use tokenflight::vault::{Access, LONGEST_RECORD, RefreshTokenStore, State, Stored, Swap};

use super::world::*;
use crate::support::*;

on_each_vault!(
    an_empty_vault_holds_nothing,
    a_login_is_found_by_everybody,
    everything_in_a_record_is_kept,
    a_second_first_login_is_told_what_is_there,
    a_swap_with_an_old_stamp_is_told_what_is_there_and_changes_nothing,
    a_swap_of_nothing_that_was_there_is_told_so,
    contents_that_come_back_have_another_stamp,
    of_two_who_spend_the_same_refresh_token_one_is_stopped,
    a_swap_that_is_repeated_is_done,
    a_new_login_takes_the_place_of_the_old_one,
    a_record_that_is_too_long_is_refused_and_nothing_is_lost,
    sixteen_tasks_lose_no_generation,
    nothing_that_is_shown_holds_a_token,
    one_has_the_lock_at_a_time,
    a_lock_that_is_given_back_is_free,
);

async fn one_has_the_lock_at_a_time<W: World>(world: W) {
    let (one, other) = (world.vault(), world.vault());
    let held = one.lock(secs(5)).await.unwrap();
    let error = other.lock(millis(50)).await.unwrap_err();
    assert!(error.is_busy(), "{error}");
    // It is not the lock of a swap.
    done(other.swap(None, &login()).await);
    let (taken, ()) = tokio::join!(other.lock(secs(5)), async { drop(held) });
    taken.unwrap();
}

async fn a_lock_that_is_given_back_is_free<W: World>(world: W) {
    for _ in 0..20 {
        drop(world.vault().lock(secs(5)).await.unwrap());
    }
}

async fn an_empty_vault_holds_nothing<W: World>(world: W) {
    assert_eq!(world.vault().load().await.unwrap(), None);
}

async fn a_login_is_found_by_everybody<W: World>(world: W) {
    let record = login();
    let stamp = done(world.vault().swap(None, &record).await);
    let there = world.vault().load().await.unwrap().unwrap();
    assert_eq!(there, Stored::new(record, stamp));
    assert_eq!(world.vault().load().await.unwrap().unwrap(), there, "a load changes nothing");
}

async fn everything_in_a_record_is_kept<W: World>(world: W) {
    let vault = world.vault();
    let access = Access::new("s3cret-access", now(), now() + HOUR)
        .with_type(TokenType::DPoP)
        .with_scopes(["read", "write \"all\""]);
    let first = login().with_thumbprint("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I").with_access(access);
    let spending = first.spending(now()).unwrap();
    let again = spending.spending(now()).unwrap();
    let dead = again.dead("invalid_grant: expired\nor revoked", now()).unwrap();
    let mut stamp = None;
    for record in [first.clone(), spending, again, dead, first.idle().unwrap()] {
        stamp = Some(done(vault.swap(stamp.as_ref(), &record).await));
        assert_eq!(world.vault().load().await.unwrap().unwrap().record(), &record);
    }
}

async fn a_second_first_login_is_told_what_is_there<W: World>(world: W) {
    let record = login();
    let stamp = done(world.vault().swap(None, &record).await);
    let there = moved(world.vault().swap(None, &login()).await);
    assert_eq!(there, Some(Stored::new(record, stamp)));
    assert_eq!(world.vault().load().await.unwrap(), there);
}

async fn a_swap_with_an_old_stamp_is_told_what_is_there_and_changes_nothing<W: World>(world: W) {
    let (one, other) = (world.vault(), world.vault());
    let first = login();
    let old = done(one.swap(None, &first).await);
    let next = first.next(Some("s3cret-next"), None).unwrap();
    let stamp = done(one.swap(Some(&old), &next).await);
    let there = moved(other.swap(Some(&old), &first.next(Some("s3cret-late"), None).unwrap()).await);
    assert_eq!(there, Some(Stored::new(next, stamp)));
    assert_eq!(one.load().await.unwrap(), there);
}

async fn a_swap_of_nothing_that_was_there_is_told_so<W: World>(world: W) {
    let elsewhere = Memory::begin().vault();
    let stamp = done(elsewhere.swap(None, &login()).await);
    assert_eq!(moved(world.vault().swap(Some(&stamp), &login()).await), None);
    assert_eq!(world.vault().load().await.unwrap(), None);
}

async fn contents_that_come_back_have_another_stamp<W: World>(world: W) {
    let vault = world.vault();
    let first = login();
    let old = done(vault.swap(None, &first).await);
    let spending = done(vault.swap(Some(&old), &first.spending(now()).unwrap()).await);
    let idle = done(vault.swap(Some(&spending), &first.idle().unwrap()).await);
    assert!(old != spending && spending != idle && old != idle);
    assert!(moved(vault.swap(Some(&old), &first.spending(now()).unwrap()).await).is_some());
}

async fn of_two_who_spend_the_same_refresh_token_one_is_stopped<W: World>(world: W) {
    let (one, other) = (world.vault(), world.vault());
    let stamp = done(one.swap(None, &login()).await);
    let record = other.load().await.unwrap().unwrap().record().clone();
    // In the same millisecond, so that what both write differs in nothing but in who has written it.
    let at = now();
    let (first, second) = (record.spending(at).unwrap(), record.spending(at).unwrap());
    done(one.swap(Some(&stamp), &first).await);
    let there = moved(other.swap(Some(&stamp), &second).await).unwrap();
    assert!(*there.record() == first && first != second);
    // And one who repeats the write has not won either.
    moved(other.swap(Some(&stamp), &second).await);
}

async fn a_swap_that_is_repeated_is_done<W: World>(world: W) {
    let (one, other) = (world.vault(), world.vault());
    let first = login();
    done(one.swap(None, &first).await);
    let stamp = done(one.swap(None, &first).await);
    let spending = first.spending(now()).unwrap();
    done(one.swap(Some(&stamp), &spending).await);
    let again = done(one.swap(Some(&stamp), &spending).await);
    assert_eq!(other.load().await.unwrap().unwrap().stamp(), &again);
    let next = spending.next(None, None).unwrap();
    done(other.swap(Some(&again), &next).await);
    assert_eq!(moved(one.swap(Some(&stamp), &spending).await).unwrap().record(), &next, "it is over");
}

async fn a_new_login_takes_the_place_of_the_old_one<W: World>(world: W) {
    let vault = world.vault();
    let first = login();
    let stamp = done(vault.swap(None, &first).await);
    let (new, late) = (login(), first.next(Some("s3cret-late"), None).unwrap());
    assert!(new.login() != first.login() && new.generation() == first.generation());
    done(vault.swap(Some(&stamp), &new).await);
    assert_eq!(moved(vault.swap(Some(&stamp), &late).await).unwrap().record(), &new);
}

async fn a_record_that_is_too_long_is_refused_and_nothing_is_lost<W: World>(world: W) {
    let vault = world.vault();
    let first = login();
    let stamp = done(vault.swap(None, &first).await);
    let long = first.next(Some(&"x".repeat(LONGEST_RECORD)), None).unwrap();
    assert!(vault.swap(Some(&stamp), &long).await.unwrap_err().is_damaged());
    let there = vault.load().await.unwrap().unwrap();
    assert_eq!(there.record(), &first);
    let fits = first.next(Some(&"x".repeat(LONGEST_RECORD - 1_000)), None).unwrap();
    done(vault.swap(Some(&stamp), &fits).await);
    assert_eq!(vault.load().await.unwrap().unwrap().record(), &fits);
}

async fn sixteen_tasks_lose_no_generation<W: World>(world: W) {
    done(world.vault().swap(None, &login()).await);
    let tasks = join_all((0..16).map(|_| {
        let vault = world.vault();
        async move { rotate(&vault, 20).await }
    }));
    let mut won = tasks.await.concat();
    won.sort_unstable();
    assert_eq!(won, (2..=1 + 16 * 20).collect::<Vec<_>>(), "each generation was won once");
    assert_eq!(world.vault().load().await.unwrap().unwrap().record().generation(), 1 + 16 * 20);
}

async fn nothing_that_is_shown_holds_a_token<W: World>(world: W) {
    let vault = world.vault();
    let access = Access::new("s3cret-access", now(), now() + HOUR);
    let record = login().with_access(access.clone());
    let bytes = record.to_bytes().unwrap();
    let stamp = done(vault.swap(None, &record).await);
    let there = vault.load().await.unwrap();
    let swap = vault.swap(None, &login()).await.unwrap();
    assert!(matches!(swap, Swap::Moved(_)));
    let quoting = record.dead("no s3cret-r3fresh here", now()).unwrap();
    assert_eq!(quoting.state(), &State::Dead { reason: "[redacted]".into(), at: millis_of(&quoting) });
    let shown = format!("{record:?} {bytes:?} {stamp:?} {there:?} {swap:?} {access:?} {quoting:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("https://auth.example"), "what helps is shown: {shown}");
}

fn millis_of(record: &tokenflight::vault::Record) -> std::time::SystemTime {
    let State::Dead { at, .. } = record.state() else { panic!("dead") };
    *at
}

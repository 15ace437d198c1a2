//! One auth call for many processes: actors, each with its own store, and one auth server.

use std::sync::Arc;
use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::source::{Challenge, OnOutage, SharedSourceBuilder, SharedStats};
use tokenflight::store::{Ask, Failure, Lease, Look, News, SharedKey, SharedStore, StoreError, Stored};
use tokenflight::testing::ScriptedSource;
use tokenflight::{FetchContext, Reason, SourceError, TokenSource};

use super::world::*;
use crate::support::*;

on_each_store!(
    sixty_four_actors_with_an_empty_store_cost_one_call,
    a_newcomer_takes_the_token_that_is_there,
    a_token_near_its_end_is_replaced_once_for_all,
    twenty_late_401s_in_sixteen_processes_cost_one_refresh,
    a_401_in_all_processes_at_once_costs_one_refresh,
    a_report_that_may_start_no_flight_takes_what_another_process_has_fetched,
    claims_that_an_api_requires_reach_the_source_once,
    a_discarded_token_is_not_handed_to_a_newcomer,
    an_owner_who_dies_costs_the_rest_of_the_lease,
    an_owner_who_leaves_gives_the_lease_back,
    a_lease_shorter_than_the_fetch_is_renewed,
    an_owner_who_could_not_renew_comes_late_and_takes_the_new_token,
    a_failed_refresh_is_shared,
    a_pause_is_waited_out_and_costs_no_attempt,
    the_servers_wish_is_the_whole_fleets,
    a_refusal_concerns_all_who_send_the_same,
    a_forced_refresh_renews_the_token_for_all,
    a_server_that_repeats_its_token_is_asked_once,
    a_wait_has_an_end,
    a_wait_ends_before_the_time_for_the_attempt,
    an_owner_at_work_is_waited_for_beyond_all_patience,
    news_between_the_look_and_the_wait_is_not_missed,
    two_configurations_never_share,
);

fn source() -> ScriptedSource {
    ScriptedSource::new().taking(millis(60))
}

async fn sixty_four_actors_with_an_empty_store_cost_one_call<W: World>(world: W) {
    let source = source();
    let fleet = processes(&world, &source, 64);
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(source.calls(), 1);
    assert_eq!(sum(&fleet, SharedStats::led), 1);
    assert_eq!(sum(&fleet, SharedStats::adopted), 63);
    assert_eq!(sum(&fleet, SharedStats::polls), 0, "everybody was told");
    assert_eq!(sum(&fleet, SharedStats::store_errors), 0);
}

async fn a_newcomer_takes_the_token_that_is_there<W: World>(world: W) {
    let source = source();
    let first = process(&world, &source).handle.get().await.unwrap();
    let second = process(&world, &source).handle.get().await.unwrap();
    assert_eq!(second.secret(), "token-1");
    assert_eq!(source.calls(), 1);
    let difference = first.expires_at().unwrap().duration_since(second.expires_at().unwrap());
    let difference = difference.unwrap_or_else(|error| error.duration());
    assert!(difference < secs(1), "it ends when it ends, whoever has it: {difference:?}");
}

async fn a_token_near_its_end_is_replaced_once_for_all<W: World>(world: W) {
    let source = source();
    source.then(token("short", millis(900)));
    let fleet = processes(&world, &source, 16);
    assert_all(&get_all(&fleet).await, "short");
    tokio::time::sleep(millis(880)).await;
    assert_all(&get_all(&fleet).await, "token-2");
    assert_eq!(source.calls(), 2);
}

async fn twenty_late_401s_in_sixteen_processes_cost_one_refresh<W: World>(world: W) {
    let source = source();
    let fleet = processes(&world, &source, 16);
    let old: Vec<_> = get_all(&fleet).await.into_iter().map(Result::unwrap).collect();
    for at in (0..16).cycle().take(20) {
        fleet[at].handle.invalidate(&old[at]);
        assert_eq!(fleet[at].secret().await, "token-2");
    }
    assert_eq!(source.calls(), 2);
    assert_eq!(source.contexts()[1].reason, Reason::Rejected);
}

async fn a_401_in_all_processes_at_once_costs_one_refresh<W: World>(world: W) {
    let source = source();
    let fleet = processes(&world, &source, 16);
    let old: Vec<_> = get_all(&fleet).await.into_iter().map(Result::unwrap).collect();
    fleet.iter().zip(&old).for_each(|(process, token)| process.handle.invalidate(token));
    assert_all(&get_all(&fleet).await, "token-2");
    assert_eq!(source.calls(), 2);
}

async fn a_report_that_may_start_no_flight_takes_what_another_process_has_fetched<W: World>(world: W) {
    let source = source();
    let never = plain().settle(HOUR);
    let one = process_by(&world, &source, world.store(), |settings| settings, never);
    let other = process(&world, &source);
    let old = one.handle.get().await.unwrap();
    let mut watch = one.handle.watch();
    assert_eq!(one.handle.replace(&old).await.unwrap().secret(), "token-1", "nothing else is there");
    other.secret().await;
    assert_eq!(other.handle.refresh().await.unwrap().secret(), "token-2");
    tokio::time::sleep(secs(1)).await;
    assert_eq!(one.handle.replace(&old).await.unwrap().secret(), "token-1", "at once");
    tokio::time::timeout(secs(5), watch.changed()).await.expect("it is looked for").unwrap();
    assert_eq!(one.handle.current().unwrap().secret(), "token-2");
    assert_eq!(source.calls(), 2);
}

async fn claims_that_an_api_requires_reach_the_source_once<W: World>(world: W) {
    let source = source();
    let shared = || settings(world.clock()).build(source.clone(), world.store()).unwrap();
    let (one, other, third) = (shared(), shared(), shared());
    let cx = |reason| FetchContext::new(reason).with_clock(Arc::new(world.clock()));
    let first = Box::pin(one.fetch(cx(Reason::First))).await.unwrap();
    for shared in [&other, &third] {
        assert!(Box::pin(shared.fetch(cx(Reason::First))).await.unwrap().is_same(&first));
    }
    let claims = Challenge::new(r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#);
    let required = || cx(Reason::Rejected).with_previous(first.clone()).with_challenge(claims.clone());

    // An ordinary refresh is under way, and then over.
    source.hold();
    let ordinary = cx(Reason::Forced).with_previous(first.clone());
    let ordinary = actix_rt::spawn(async move { other.fetch(ordinary).await });
    source.called(2).await;
    let waits = required();
    let with_claims = actix_rt::spawn(async move { one.fetch(waits).await });
    tokio::time::sleep(millis(50)).await;
    source.release();
    assert_eq!(ordinary.await.unwrap().unwrap().secret(), "token-2");
    assert_eq!(with_claims.await.unwrap().unwrap().secret(), "token-3");
    let asked: Vec<_> = source.contexts().iter().map(|cx| cx.challenge().cloned()).collect();
    assert_eq!(asked, [None, None, Some(claims.clone())]);

    // The others need not ask for the same again.
    assert_eq!(Box::pin(third.fetch(required())).await.unwrap().secret(), "token-3");
    let more = Challenge::new(r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#);
    let required = required().with_challenge(more.clone());
    assert_eq!(Box::pin(third.fetch(required)).await.unwrap().secret(), "token-4");
    assert_eq!(source.contexts()[3].challenge(), Some(&more));
    assert_eq!(source.calls(), 4);
}

async fn a_discarded_token_is_not_handed_to_a_newcomer<W: World>(world: W) {
    let source = source();
    let one = process(&world, &source);
    let old = one.handle.get().await.unwrap();
    source.hold();
    one.handle.discard(&old);
    let waiting = actix_rt::spawn({
        let handle = one.handle.clone();
        async move { handle.get().await }
    });
    source.called(2).await;
    let newcomer = process(&world, &source);
    let (asked, ()) = tokio::join!(newcomer.handle.get(), async {
        tokio::time::sleep(millis(50)).await;
        source.release();
    });
    assert_eq!(asked.unwrap().secret(), "token-2");
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "token-2");
    assert_eq!(source.calls(), 2);
}

async fn an_owner_who_dies_costs_the_rest_of_the_lease<W: World>(world: W) {
    let source = source();
    let _dead = owner_at_work(&world, Unrenewed(world.store()), short).await;
    let began = tokio::time::Instant::now();
    let fleet = processes(&world, &source, 8);
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(source.calls(), 1);
    assert!(began.elapsed() >= LEASE / 2, "it could have been alive: {:?}", began.elapsed());
    // The rest is for a machine that has other things to do.
    assert!(began.elapsed() < LEASE + millis(60) + secs(1), "{:?}", began.elapsed());
    let polls = sum(&fleet, SharedStats::polls);
    assert!((1..=8).contains(&polls), "one look each when the lease had ended: {polls}");
}

async fn an_owner_who_leaves_gives_the_lease_back<W: World>(world: W) {
    let source = source();
    source.hold();
    let long = |settings: SharedSourceBuilder| settings.lease(secs(30));
    let owner = process_with(&world, &source, world.store(), long);
    let asking = actix_rt::spawn({
        let handle = owner.handle.clone();
        async move { handle.get().await }
    });
    source.called(1).await;
    owner.handle.shutdown().await;
    assert!(asking.await.unwrap().unwrap_err().is_stopped());
    source.release();
    let began = tokio::time::Instant::now();
    assert_eq!(process(&world, &source).secret().await, "token-2");
    assert!(began.elapsed() < secs(5), "not the lease of 30 s: {:?}", began.elapsed());
}

async fn a_lease_shorter_than_the_fetch_is_renewed<W: World>(world: W) {
    let source = ScriptedSource::new().taking(secs(3));
    let second = |settings: SharedSourceBuilder| settings.lease(secs(1)).store_timeout(millis(500));
    let fleet: Vec<_> = (0..8).map(|_| process_with(&world, &source, world.store(), second)).collect();
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(source.calls(), 1);
    assert_eq!(sum(&fleet, SharedStats::late), 0);
    let polls = sum(&fleet, SharedStats::polls);
    assert!(polls <= 7 * 4, "one look for each lease that seemed to end: {polls}");
}

async fn an_owner_who_could_not_renew_comes_late_and_takes_the_new_token<W: World>(world: W) {
    let (slow, quick) = (source(), source());
    slow.then(token("late", HOUR)).hold();
    quick.then(token("current", HOUR));
    let late = process_with(&world, &slow, Unrenewed(world.store()), short);
    let asking = actix_rt::spawn({
        let handle = late.handle.clone();
        async move { handle.get().await }
    });
    slow.called(1).await;
    assert_eq!(process(&world, &quick).secret().await, "current", "the lease had run out");
    slow.release();
    assert_eq!(asking.await.unwrap().unwrap().secret(), "current", "the fleet has one token");
    assert_eq!((late.stats.late(), late.stats.adopted()), (1, 1));
    assert_eq!(process(&world, &quick).secret().await, "current", "the late commit was refused");
}

async fn a_failed_refresh_is_shared<W: World>(world: W) {
    let source = source();
    source.then_times(9, &transient());
    let policy = plain().attempts(1).cooldown(millis(1));
    let cooldown = |settings: SharedSourceBuilder| settings.cooldown(secs(60)).wait_limit(secs(20));
    let fleet: Vec<_> =
        (0..16).map(|_| process_by(&world, &source, world.store(), cooldown, policy.clone())).collect();
    for outcome in get_all(&fleet).await {
        let error = outcome.expect_err("nobody has a token");
        assert!(error.is_unavailable() && !error.is_rejected(), "{error}");
    }
    assert_eq!(source.calls(), 1, "one call for the fleet");
    assert_eq!(sum(&fleet, SharedStats::polls), 0, "they were told of the failure");
}

async fn a_pause_is_waited_out_and_costs_no_attempt<W: World>(world: W) {
    let source = source();
    source.then_times(2, &transient());
    let policy = plain().attempts(3).backoff(millis(1));
    let cooldown = |settings: SharedSourceBuilder| settings.cooldown(millis(250));
    let fleet: Vec<_> =
        (0..8).map(|_| process_by(&world, &source, world.store(), cooldown, policy.clone())).collect();
    assert_all(&get_all(&fleet).await, "token-3");
    assert_eq!(source.calls(), 3);
    assert_eq!(sum(&fleet, SharedStats::local), 0);
}

async fn the_servers_wish_is_the_whole_fleets<W: World>(world: W) {
    let source = source();
    let busy = SourceError::transient("busy").with_retry_after(millis(1_200));
    source.then(tokenflight::testing::Answer::Error(busy));
    let fleet = processes(&world, &source, 8);
    let began = tokio::time::Instant::now();
    assert_all(&get_all(&fleet).await, "token-2");
    assert!(began.elapsed() >= millis(1_200), "{:?}", began.elapsed());
    assert_eq!(source.calls(), 2, "one that failed, and one when the time had come");
}

async fn a_refusal_concerns_all_who_send_the_same<W: World>(world: W) {
    let source = source();
    source.then_times(9, &terminal());
    let fleet = processes(&world, &source, 8);
    for outcome in get_all(&fleet).await {
        assert!(outcome.expect_err("nobody has a token").is_rejected());
    }
    assert_eq!(source.calls(), 3, "after the third they pause");
}

async fn a_forced_refresh_renews_the_token_for_all<W: World>(world: W) {
    let source = source();
    let fleet = processes(&world, &source, 4);
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(fleet[0].handle.refresh().await.unwrap().secret(), "token-2");
    for process in &fleet[1..] {
        assert_eq!(process.handle.refresh().await.unwrap().secret(), "token-2", "somebody has just asked");
    }
    assert_eq!(source.calls(), 2);
}

async fn a_server_that_repeats_its_token_is_asked_once<W: World>(world: W) {
    let source = source();
    source.then_times(9, &token("cached", HOUR));
    let fleet = processes(&world, &source, 8);
    assert_all(&get_all(&fleet).await, "cached");
    for process in &fleet {
        assert_eq!(process.handle.refresh().await.unwrap().secret(), "cached");
    }
    assert_eq!(source.calls(), 2);
}

async fn a_wait_ends_before_the_time_for_the_attempt<W: World>(world: W) {
    let _owner = owner_at_work(&world, world.store(), |settings| settings).await;
    let (source, clock) = (source(), world.clock());
    let shared = settings(clock.clone()).build(source.clone(), world.store()).unwrap();
    let began = clock.now().boot;
    let cx =
        FetchContext::new(Reason::First).with_clock(Arc::new(clock.clone())).with_deadline(began + LEASE);
    assert_eq!(shared.fetch(cx).await.unwrap().secret(), "token-1");
    assert!(clock.now().boot >= began + LEASE / 2, "half of it for the others");
    assert_eq!((shared.stats().local(), shared.stats().store_errors()), (1, 1));
}

async fn a_wait_has_an_end<W: World>(world: W) {
    let _owner = owner_at_work(&world, world.store(), |settings| settings).await;
    let source = source();
    let brief = |settings: SharedSourceBuilder| settings.wait_limit(millis(100));
    let waiting = process_with(&world, &source, world.store(), brief);
    assert_eq!(waiting.secret().await, "token-1");
    assert_eq!((source.calls(), waiting.stats.local()), (1, 1));
    let failing = |settings: SharedSourceBuilder| brief(settings).on_outage(OnOutage::Fail);
    let failing = process_by(&world, &source, world.store(), failing, plain().attempts(1));
    assert!(failing.handle.get().await.unwrap_err().is_unavailable());
    assert_eq!(source.calls(), 1);
}

async fn an_owner_at_work_is_waited_for_beyond_all_patience<W: World>(world: W) {
    let source = ScriptedSource::new().taking(secs(4));
    let second = |settings: SharedSourceBuilder| {
        settings.lease(secs(1)).store_timeout(millis(500)).wait_limit(millis(1_200))
    };
    let fleet: Vec<_> = (0..8).map(|_| process_with(&world, &source, world.store(), second)).collect();
    assert_all(&get_all(&fleet).await, "token-1");
    assert_eq!(source.calls(), 1);
}

async fn two_configurations_never_share<W: World>(world: W) {
    let source = source();
    let other = |settings: SharedSourceBuilder| settings.part("scope", "orders.write");
    let one = process(&world, &source).secret().await;
    let two = process_with(&world, &source, world.store(), other).secret().await;
    assert_ne!(one, two);
    assert_eq!(source.calls(), 2);
}

/// A store in which the owner ends its lease while a waiter's look is on its way back.
struct Hasty<St>(St, std::sync::Mutex<Option<ScriptedSource>>);

impl<St: SharedStore> SharedStore for Hasty<St> {
    pass_on!(|this| this.0; watch load renew commit fail);

    async fn look_or_lease(&self, key: &SharedKey, ask: &Ask) -> Result<Look, StoreError> {
        let look = self.0.look_or_lease(key, ask).await?;
        let owners = self.1.lock().unwrap().take();
        if let Some(owners) = owners {
            assert!(matches!(look, Look::Taken(_)));
            owners.release();
            while self.0.load(key).await?.is_none() {
                tokio::time::sleep(millis(5)).await;
            }
        }
        Ok(look)
    }
}

async fn news_between_the_look_and_the_wait_is_not_missed<W: World>(world: W) {
    let (owners, source) = (ScriptedSource::new(), source());
    owners.hold();
    let owner = process(&world, &owners);
    let asking = owner.handle.clone();
    actix_rt::spawn(async move { asking.get().await });
    owners.called(1).await;
    let hasty = Hasty(world.store(), std::sync::Mutex::new(Some(owners)));
    let waiter = process_with(&world, &source, hasty, |settings| settings);
    let began = tokio::time::Instant::now();
    assert_eq!(waiter.secret().await, "token-1");
    assert_eq!(source.calls(), 0, "the owner's");
    assert!(began.elapsed() < secs(5), "the lease had 20 s left: {:?}", began.elapsed());
    assert_eq!((waiter.stats.pushes(), waiter.stats.polls()), (1, 0));
}

//! Promise 7: no expired token is handed out, across suspend and wall-clock jumps.

use tokenflight::clock::Clock;

use crate::support::*;

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

#[actix::test]
async fn a_token_that_expired_while_the_machine_slept_is_not_handed_out() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    rig.clock.suspend(HOUR);
    assert!(rig.handle.current().is_none());
    assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
}

#[actix::test]
async fn setting_the_wall_clock_back_does_not_prolong_a_life() {
    tokio::time::pause();
    for jump in [DAY, DAY * 365] {
        let rig = another(plain());
        rig.handle.get().await.unwrap();
        rig.clock.set_back(jump);
        assert!(rig.handle.current().is_some(), "nor shorten it");
        tokio::time::sleep(HOUR).await;
        assert!(rig.handle.current().is_none());
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
        tokio::time::sleep(secs(60)).await;
        assert_eq!(
            rig.handle.get().await.unwrap().secret(),
            "token-2",
            "the new one counts from the new time"
        );
    }
}

#[actix::test]
async fn setting_the_wall_clock_forward_ends_a_life() {
    tokio::time::pause();
    for jump in [DAY, DAY * 365] {
        let rig = another(plain());
        rig.handle.get().await.unwrap();
        rig.clock.set_forward(jump);
        assert!(rig.handle.current().is_none());
        assert_eq!(rig.handle.get().await.unwrap().secret(), "token-2");
        assert!(rig.handle.current().is_some());
    }
}

#[actix::test]
async fn in_background_mode_a_wall_clock_that_is_set_forward_means_a_refresh_at_once() {
    let rig = rig_with(plain().background(true));
    rig.source.called(1).await;
    tokio::time::sleep(secs(600)).await;
    for calls in 2..5 {
        rig.clock.set_forward(HOUR * 2);
        assert!(rig.handle.watch().current().is_some());
        tokio::time::sleep(secs(2)).await;
        assert_eq!(rig.source.calls(), calls, "nobody has asked");
        assert!(rig.handle.current().is_some());
        tokio::time::sleep(secs(600)).await;
    }
}

#[actix::test]
async fn a_sleep_that_the_wall_clock_hides_is_seen() {
    let rig = rig();
    rig.handle.get().await.unwrap();
    rig.clock.suspend(HOUR);
    rig.clock.set_back(HOUR);
    assert!(rig.handle.current().is_none());
}

#[actix::test]
async fn a_jump_during_a_fetch_costs_an_attempt_not_a_wrong_token() {
    let rig = rig_with(plain().backoff(millis(0)));
    rig.source.hold();
    let jump = async {
        rig.source.called(1).await;
        rig.clock.set_forward(DAY);
        rig.source.release();
    };
    let (outcome, ()) = tokio::join!(rig.handle.get(), jump);
    assert_eq!(outcome.unwrap().secret(), "token-2", "the first had expired on arrival");
    assert!(rig.handle.current().is_some());
}

#[actix::test]
async fn a_cooldown_ends_in_time_though_the_wall_clock_is_set_back() {
    let rig = rig_with(plain().attempts(1));
    rig.source.then(transient());
    rig.handle.get().await.unwrap_err();
    rig.clock.set_back(DAY * 365);
    tokio::time::sleep(millis(1_001)).await;
    rig.handle.get().await.unwrap();
}

#[actix::test]
async fn a_life_counts_from_when_the_request_was_sent() {
    let rig = rig_with(plain().attempts(1));
    rig.source.hold();
    rig.source.then(token("slow", secs(8)));
    let release = async {
        rig.source.called(1).await;
        tokio::time::sleep(secs(6)).await;
        rig.source.release();
    };
    let (outcome, ()) = tokio::join!(rig.handle.get(), release);
    assert_eq!(outcome.unwrap().remaining().map(|left| left.as_secs()), Some(1));
    tokio::time::sleep(secs(2)).await;
    assert!(rig.handle.current().is_none());
}

#[actix::test]
async fn a_suspend_does_not_put_off_the_deadlines_of_those_who_ask_after_it() {
    // The alarm for the next refresh is far away by the timers, which slept too.
    let rig = rig_with(plain().background(true).attempts(1).wait_timeout(secs(5)));
    rig.source.called(1).await;
    settle().await;
    for (suspend, asleep) in [(secs(600), "in part"), (HOUR * 2, "beyond the alarm")] {
        tokio::time::sleep(secs(1)).await;
        rig.source.hold();
        rig.clock.suspend(suspend);
        let began = tokio::time::Instant::now();
        assert!(rig.handle.refresh().await.unwrap_err().is_timeout());
        assert!(began.elapsed() < millis(5_100), "slept through {asleep}: {:?}", began.elapsed());
        rig.source.release();
        tokio::time::sleep(secs(20)).await;
    }
}

#[actix::test]
async fn a_reader_who_has_just_looked_sees_each_jump() {
    tokio::time::pause();
    let jumps: [fn(&Rig); 3] = [
        |rig| rig.clock.suspend(HOUR),
        |rig| rig.clock.set_forward(HOUR),
        |rig| {
            rig.clock.suspend(HOUR);
            rig.clock.set_back(HOUR);
        },
    ];
    for jump in jumps {
        let rig = another(plain());
        rig.handle.get().await.unwrap();
        assert!(rig.handle.current().is_some() && rig.handle.current().is_some());
        jump(&rig);
        assert!(rig.handle.current().is_none());
    }
}

#[actix::test]
async fn a_life_ends_to_the_millisecond_though_the_time_is_not_taken_with_each_read() {
    let rig = rig();
    tokio::time::sleep(millis(5)).await; // so that it ends in the middle of a tick
    let end = rig.handle.get().await.unwrap().expires_at().unwrap() - secs(10);
    rig.source.hold();
    tokio::time::sleep(HOUR - secs(12)).await;
    let mut refused = 0;
    for _ in 0..2_500 {
        let left = end.duration_since(rig.clock.now().wall).unwrap_or_default();
        assert_eq!(rig.handle.current().is_some(), !left.is_zero(), "{left:?} before its end");
        refused += usize::from(left.is_zero());
        tokio::time::sleep(millis(1)).await;
    }
    assert!((100..2_000).contains(&refused), "the end is among them: {refused}");
}

//! Promise 7, in every state: the wall clock is set by a day and by a year, forward and back.

use std::time::Duration;

use tokenflight::clock::Clock;
use tokenflight::{FlightState, SourceError, TokenError};

use crate::support::*;

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Empty,
    Fresh,
    NearEnd,
    Expired,
    Fetching,
    Pausing,
    Cooldown,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Forward,
    Back,
}

/// What a caller is given after the jump, and how many calls to the source that has taken in all.
fn expected(when: When, way: Way) -> (&'static str, usize) {
    match (when, way) {
        // Set back, a token is as good as before; so is one that is under way.
        (When::Empty, _) | (When::Fresh | When::Fetching, Way::Back) => ("token-1", 1),
        // Given at once, and replaced behind the caller's back.
        (When::NearEnd, Way::Back) => ("token-1", 2),
        // To a wall clock set forward what is in hand is past its end, and what is under way expires before
        // it arrives.
        (When::Fresh | When::NearEnd | When::Fetching, Way::Forward)
        // One that had expired, and two where the first call failed: the wall clock does not matter.
        | (When::Expired | When::Pausing | When::Cooldown, _) => ("token-2", 2),
    }
}

#[actix::test]
async fn a_jump_of_the_wall_clock_costs_at_most_one_call_in_every_state() {
    use When::{Cooldown, Empty, Expired, Fetching, Fresh, NearEnd, Pausing};
    tokio::time::pause();
    for when in [Empty, Fresh, NearEnd, Expired, Fetching, Pausing, Cooldown] {
        for way in [Way::Forward, Way::Back] {
            for by in [DAY, YEAR] {
                let rig = another(plain().backoff(millis(0)));
                let case = format!("{when:?}, {way:?} by {by:?}");
                jump_once(&rig, when, way, by, &case).await;
                jump_again(&rig, way, by, &case).await;
            }
        }
    }
}

/// Brings the actor into the state, sets the clock, and asks.
async fn jump_once(rig: &Rig, when: When, way: Way, by: Duration, case: &str) {
    let waiting = bring_about(rig, when).await;
    let state = rig.handle.status().await.unwrap().state;
    set(rig, way, by);
    let same = rig.handle.status().await.unwrap().state == state;
    assert!(same, "{case}: the jump itself starts and ends nothing");
    let usable = matches!(when, When::Fresh | When::NearEnd) && way == Way::Back;
    assert_eq!(rig.handle.current().is_some(), usable, "{case}: what readers find");
    rig.source.release();
    if when == When::Cooldown {
        assert!(rig.handle.get().await.unwrap_err().is_rejected(), "{case}: the cooldown goes on");
        tokio::time::sleep(secs(5)).await;
    }
    let (token, calls) = expected(when, way);
    assert_eq!(rig.handle.get().await.unwrap().secret(), token, "{case}");
    if let Some(waiting) = waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), token, "{case}: who waited before the jump");
    }
    tokio::time::sleep(millis(100)).await;
    assert_eq!(rig.source.calls(), calls, "{case}: calls");
}

/// The clock is set right again. What is in hand now was stamped in between.
async fn jump_again(rig: &Rig, way: Way, by: Duration, case: &str) {
    let token = rig.handle.get().await.unwrap();
    let calls = rig.source.calls();
    match way {
        Way::Forward => {
            set(rig, Way::Back, by);
            assert_eq!(rig.handle.get().await.unwrap().secret(), token.secret(), "{case}, and back");
        }
        // It was stamped by a clock that was behind.
        Way::Back => {
            set(rig, Way::Forward, by);
            let other = rig.handle.get().await.unwrap();
            let stamped_before = rig.clock.now().wall < token.expires_at().unwrap();
            assert_eq!(other.secret() == token.secret(), stamped_before, "{case}, and forward");
        }
    }
    assert!(rig.source.calls() <= calls + 1, "{case}, and again: calls");
    // However it was set: an hour later it is over.
    tokio::time::sleep(HOUR).await;
    assert!(rig.handle.current().is_none(), "{case}: nothing outlives its hour");
}

fn set(rig: &Rig, way: Way, by: Duration) {
    match way {
        Way::Forward => rig.clock.set_forward(by),
        Way::Back => rig.clock.set_back(by),
    }
}

type Waiting = tokio::task::JoinHandle<Result<String, TokenError>>;

/// In the states in which a flight is under way somebody waits for it.
async fn bring_about(rig: &Rig, when: When) -> Option<Waiting> {
    match when {
        When::Empty => {}
        When::Fresh => drop(rig.handle.get().await.unwrap()),
        When::NearEnd | When::Expired => {
            rig.handle.get().await.unwrap();
            tokio::time::sleep(if when == When::NearEnd { secs(3_400) } else { secs(3_700) }).await;
        }
        When::Fetching => rig.source.hold(),
        When::Pausing => {
            let error = SourceError::transient("slow down").with_retry_after(secs(7));
            rig.source.then(tokenflight::testing::Answer::Error(error));
        }
        When::Cooldown => {
            rig.source.then(terminal());
            rig.handle.get().await.unwrap_err();
        }
    }
    let flying = match when {
        When::Fetching => FlightState::Fetching,
        When::Pausing => FlightState::Pausing,
        _ => return None,
    };
    let handle = rig.handle.clone();
    let waiting = actix_rt::spawn(async move { handle.get().await.map(|token| token.secret().to_owned()) });
    tokio::time::sleep(millis(100)).await;
    assert_eq!(rig.handle.status().await.unwrap().state, flying);
    Some(waiting)
}

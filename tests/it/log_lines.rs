//! The lines for an operator with `RUST_LOG=warn`: that there is trouble, how long it lasts, and that it is over.

use std::sync::Mutex;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use tokenflight::SourceError;
use tokenflight::testing::Answer;

use crate::support::*;

/// Each line with its level, and when it was written in virtual time.
struct Lines(Mutex<Vec<(Duration, Level, String)>>, Mutex<Option<tokio::time::Instant>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()), Mutex::new(None));

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tokenflight"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let begin = self.1.lock().unwrap().expect("the test has begun");
            let line = (begin.elapsed(), record.level(), record.args().to_string());
            self.0.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

/// The lines since this was last asked.
fn lines() -> Vec<(Duration, Level, String)> {
    std::mem::take(&mut *LINES.0.lock().unwrap())
}

#[track_caller]
fn assert_line(line: &(Duration, Level, String), level: Level, parts: &[&str]) {
    assert_eq!(line.1, level, "{line:?}");
    for part in parts {
        assert!(line.2.contains(part), "{part:?} in {line:?}");
    }
}

/// Runs the scene in a process of its own, where the log is its own.
#[track_caller]
fn alone<F: Future<Output = ()>>(name: &str, scene: impl FnOnce(Rig) -> F) {
    if let Some(mut child) = in_its_own_process(&format!("log_lines::{name}")) {
        all_that_is_written_by(&mut child);
        return;
    }
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Warn);
    actix_rt::System::new().block_on(async {
        let rig = rig_with(plain().attempts(1).cooldown(secs(1)).max_cooldown(secs(10)));
        *LINES.1.lock().unwrap() = Some(tokio::time::Instant::now());
        scene(rig).await;
    });
}

/// Somebody asks each second.
async fn asked_for(rig: &Rig, time: Duration) {
    for _ in 0..time.as_secs() {
        let _ = rig.handle.get().await;
        tokio::time::sleep(secs(1)).await;
    }
}

#[test]
fn an_outage_is_told_when_it_begins_each_minute_and_when_it_ends() {
    alone("an_outage_is_told_when_it_begins_each_minute_and_when_it_ends", async |rig: Rig| {
        rig.handle.get().await.unwrap();
        assert_eq!(lines(), [], "nothing is wrong");
        rig.source.then_times(40, &transient());
        tokio::time::sleep(HOUR).await;
        asked_for(&rig, secs(310)).await;
        let told = lines();
        assert_line(&told[0], Level::Warn, &["token token", "an outage begins", "the server is down"]);
        assert_eq!(told.len(), 1 + 5, "a reminder each minute: {told:#?}");
        for (earlier, later) in told.iter().zip(&told[1..]) {
            assert_line(later, Level::Warn, &["the outage goes on for", "the server is down"]);
            let between = later.0 - earlier.0;
            assert!((secs(60)..secs(75)).contains(&between), "{between:?} between two lines");
        }
        // The auth server is there again.
        while rig.handle.get().await.is_err() {
            tokio::time::sleep(secs(11)).await;
        }
        let end = lines().pop().unwrap();
        assert_line(&end, Level::Warn, &["the outage is over after", "40 failed refreshes"]);
        asked_for(&rig, secs(300)).await;
        assert_eq!(lines(), [], "and then nothing is wrong");
    });
}

#[test]
fn a_long_cooldown_is_told_each_minute_while_somebody_asks() {
    alone("a_long_cooldown_is_told_each_minute_while_somebody_asks", async |rig: Rig| {
        rig.source.then(Answer::Error(SourceError::transient("down").with_retry_after(secs(300))));
        asked_for(&rig, secs(295)).await;
        let lines = lines();
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_line(&lines[0], Level::Warn, &["an outage begins"]);
        for (line, minute) in lines[1..].iter().zip(1..) {
            assert_line(line, Level::Warn, &["the outage goes on for ", "1 refreshes have failed: ", "down"]);
            assert_eq!(line.0.as_secs() / 60, minute, "{line:?}");
        }
    });
}

#[test]
fn a_refusal_is_an_error() {
    alone("a_refusal_is_an_error", async |rig: Rig| {
        rig.source.then(transient()).then_times(4, &terminal());
        asked_for(&rig, secs(40)).await;
        let told = lines();
        assert_line(&told[0], Level::Warn, &["an outage begins"]);
        assert_line(&told[1], Level::Error, &["the outage goes on", "invalid_client"]);
        assert_line(&told[2], Level::Warn, &["the outage is over after", "5 failed refreshes"]);
        assert_eq!(told.len(), 3, "{told:#?}");

        rig.handle.discard(&rig.handle.current().unwrap());
        rig.source.then_times(2, &terminal());
        asked_for(&rig, secs(30)).await;
        let told = lines();
        assert_line(&told[0], Level::Error, &["an outage begins", "invalid_client"]);
        assert_line(&told[1], Level::Warn, &["the outage is over after", "2 failed refreshes"]);
        assert_eq!(told.len(), 2, "{told:#?}");
    });
}

#[test]
fn a_budget_that_is_spent_is_told_each_minute_and_when_that_ends() {
    alone("a_budget_that_is_spent_is_told_each_minute_and_when_that_ends", async |rig: Rig| {
        rig.handle.get().await.unwrap();
        for _ in 0..190 {
            let token = rig.handle.get().await.unwrap();
            rig.handle.replace(&token).await.unwrap();
            tokio::time::sleep(secs(1)).await;
        }
        let told = lines();
        assert_line(
            &told[0],
            Level::Warn,
            &["more often than the budget of reports allows", "the token stays in use"],
        );
        assert_eq!(told.len(), 1 + 3, "a reminder each minute: {told:#?}");
        for line in &told[1..] {
            assert_line(line, Level::Warn, &["APIs still reject tokens more often"]);
        }
        tokio::time::sleep(secs(120)).await;
        rig.handle.refresh().await.unwrap();
        let told = lines();
        assert_line(&told[0], Level::Warn, &["no more reports beyond the budget"]);
        assert_eq!(told.len(), 1, "{told:#?}");
    });
}

#[test]
fn a_source_that_repeats_a_rejected_token_is_told_once_a_secret_and_when_that_ends() {
    alone(
        "a_source_that_repeats_a_rejected_token_is_told_once_a_secret_and_when_that_ends",
        async |rig: Rig| {
            rig.source.then_times(5, &token("same", HOUR));
            let same = rig.handle.get().await.unwrap();
            for _ in 0..4 {
                tokio::time::sleep(secs(70)).await;
                assert!(rig.handle.replace(&same).await.unwrap().is_same(&same));
            }
            let told = lines();
            assert_line(&told[0], Level::Warn, &["an API rejected the token", "the token stays in use"]);
            assert_eq!(told.len(), 1, "{told:#?}");

            tokio::time::sleep(secs(70)).await;
            assert!(!rig.handle.replace(&same).await.unwrap().is_same(&same));
            let told = lines();
            assert_line(&told[0], Level::Warn, &["its source gives another token now"]);
            assert_eq!(told.len(), 1, "{told:#?}");
        },
    );
}

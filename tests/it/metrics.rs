//! The metrics of an actor at a recorder.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokenflight::testing::{ManualClock, ScriptedSource};
use tokenflight::{FetchContext, SourceError, Token, TokenActor, TokenSource};

use crate::support::*;

/// Each metric as `name{labels}`, without the token's own label, and its value.
struct Seen(BTreeMap<String, DebugValue>);

impl Seen {
    fn by(snapshotter: &Snapshotter) -> Self {
        let rows = snapshotter.snapshot().into_vec().into_iter().map(|(key, _, _, value)| {
            let labels = key.key().labels().filter(|label| label.key() != "token");
            let labels: Vec<_> = labels.map(|label| format!("{}={}", label.key(), label.value())).collect();
            (format!("{}{{{}}}", key.key().name(), labels.join(",")), value)
        });
        Self(rows.collect())
    }

    #[track_caller]
    fn assert(&self, name: &str, expected: u32) {
        match self.0.get(name) {
            Some(DebugValue::Counter(count)) => assert_eq!(*count, u64::from(expected), "{name}"),
            Some(DebugValue::Gauge(value)) => assert_eq!(value.to_string(), expected.to_string(), "{name}"),
            Some(DebugValue::Histogram(values)) => assert_eq!(values.len(), expected as usize, "{name}"),
            None => panic!("no {name} in {:?}", self.0.keys()),
        }
    }
}

#[actix::test]
async fn a_flight_an_outage_and_a_rejection_are_seen() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let rig = rig_with(plain().attempts(1));

    assert!(rig.get_all(9).await.iter().all(Result::is_ok));
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_refreshes_total{reason=first,outcome=ok}", 1);
    seen.assert("tokenflight_refresh_duration_seconds{reason=first,outcome=ok}", 1);
    seen.assert("tokenflight_attempts_total{}", 1);
    seen.assert("tokenflight_waiters{}", 0);
    seen.assert("tokenflight_cooldown_seconds{}", 0);
    // The clock starts on the first of January 2026; the token was asked for then, and lasts an hour.
    seen.assert("tokenflight_expiry_timestamp_seconds{}", 1_767_225_600 + 3_600);

    // A report, whose flight fails. The token stays in use.
    let token = rig.handle.current().unwrap();
    rig.source.then(terminal());
    rig.handle.invalidate(&token);
    assert!(rig.get_all(5).await.iter().all(Result::is_ok));
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_rejections_total{}", 1);
    seen.assert("tokenflight_reports_total{kind=invalidate}", 1);
    seen.assert("tokenflight_reports_honoured_total{lane=budget}", 1);
    seen.assert("tokenflight_reports_honoured_total{lane=confirmed}", 0);
    let withheld = seen.0.get("tokenflight_withheld_milliseconds_total{}");
    assert!(matches!(withheld, Some(DebugValue::Counter(60..=62))), "{withheld:?}");
    seen.assert("tokenflight_suspect{}", 1);
    seen.assert("tokenflight_refreshes_total{reason=rejected,outcome=rejected}", 1);
    seen.assert("tokenflight_cooldown_seconds{}", 5);

    // In the cooldown none may start.
    rig.handle.replace(&token).await.unwrap();
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_reports_total{kind=replace}", 1);
    seen.assert("tokenflight_reports_refused_total{by=cooldown}", 1);
    seen.assert("tokenflight_reports_refused_total{by=settle}", 0);
    seen.assert("tokenflight_reports_refused_total{by=budget}", 0);
    let next_report = seen.0.get("tokenflight_next_report_timestamp_seconds{}");
    assert!(
        matches!(next_report, Some(DebugValue::Gauge(at)) if (1_767_225_605.0..1_767_225_606.0).contains(&at.0)),
        "the end of the cooldown: {next_report:?}"
    );

    rig.handle.discard(&token);
    settle().await;
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_reports_total{kind=discard}", 1);
    seen.assert("tokenflight_expiry_timestamp_seconds{}", 0);
    seen.assert("tokenflight_suspect{}", 0);
}

#[actix::test]
async fn waiters_are_counted_while_they_wait_and_those_who_share_a_flight_when_it_ends() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let rig = rig_with(plain().max_waiters(6));
    rig.source.hold();
    let (collector, told) = Collector::begin();
    for ticket in 0..7 {
        rig.handle.subscribe(subscription(&collector, ticket));
    }
    settle().await;
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_waiters{}", 6);
    seen.assert("tokenflight_overloads_total{}", 1);

    rig.source.release();
    told.wait_for(7).await;
    settle().await;
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_waiters{}", 0);
    let shared = seen.0.get("tokenflight_requests_per_refresh{}").unwrap();
    assert!(
        matches!(shared, DebugValue::Histogram(values) if values.len() == 1 && values[0].to_string() == "6")
    );
}

#[actix::test]
async fn an_answer_that_found_its_subscriber_stopped_is_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let rig = rig_with(plain());
    let (collector, _) = Collector::begin();
    rig.handle.subscribe(subscription(&collector, 1));
    collector.send(Halt).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.handle.status().await.unwrap().lost, 1);
    Seen::by(&snapshotter).assert("tokenflight_lost_answers_total{}", 1);
}

#[cfg(feature = "shared")]
mod shared_sources {
    use std::time::Duration;

    use tokenflight::source::SharedStats;
    use tokenflight::store::{Ask, Failure, Lease, Look, News, SharedKey, SharedStore, StoreError, Stored};
    use tokenflight::testing::ScriptedSource;

    use super::*;
    use crate::shared::world::*;

    type Counted = (&'static str, fn(&SharedStats) -> u64);

    const COUNTED: [Counted; 9] = [
        ("led", SharedStats::led),
        ("adopted", SharedStats::adopted),
        ("local", SharedStats::local),
        ("pushes", SharedStats::pushes),
        ("polls", SharedStats::polls),
        ("late", SharedStats::late),
        ("unopened", SharedStats::unopened),
        ("store_errors", SharedStats::store_errors),
        ("mended", SharedStats::mended),
    ];

    /// A store that does not answer.
    struct Down;

    fn down<T>() -> Result<T, StoreError> {
        Err(StoreError::new("down"))
    }

    impl SharedStore for Down {
        async fn watch(&self, _: &SharedKey) -> Result<News, StoreError> {
            down()
        }
        async fn look_or_lease(&self, _: &SharedKey, _: &Ask) -> Result<Look, StoreError> {
            down()
        }
        async fn load(&self, _: &SharedKey) -> Result<Option<Stored>, StoreError> {
            down()
        }
        async fn renew(&self, _: &SharedKey, _: &Lease, _: Duration) -> Result<bool, StoreError> {
            down()
        }
        async fn commit(&self, _: &SharedKey, _: &Lease, _: &[u8], _: Duration) -> Result<bool, StoreError> {
            down()
        }
        async fn fail(&self, _: &SharedKey, _: &Lease, _: &Failure) -> Result<bool, StoreError> {
            down()
        }
    }

    /// Each counter, as the processes count it.
    #[track_caller]
    fn assert_told(seen: &Seen, name: &str, processes: &[Process]) {
        for (what, read) in COUNTED {
            let expected = u32::try_from(sum(processes, read)).unwrap();
            seen.assert(&format!("tokenflight_shared_{what}_total{{source={name}}}"), expected);
        }
    }

    #[actix::test]
    async fn what_a_shared_source_counts_is_seen_by_its_name() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let world = Memory::begin();
        let source = ScriptedSource::new();

        // Somebody without a key has the lease.
        lease(&world.store(), "stranger").await;
        let fleet = processes(&world, &source, 2);
        assert_all(&get_all(&fleet).await, "token-1");
        let counts =
            [SharedStats::led, SharedStats::adopted, SharedStats::local].map(|read| sum(&fleet, read));
        assert_eq!(counts, [1, 1, 0]);
        assert!(sum(&fleet, SharedStats::mended) >= 1, "that lease is out of the way");
        assert_told(&Seen::by(&snapshotter), "orders", &fleet);

        let alone = [process_with(&world, &source, Down, |settings| settings)];
        assert_eq!(alone[0].secret().await, "token-2");
        assert_eq!([alone[0].stats.local(), alone[0].stats.store_errors()], [1, 1]);
        // What the recorder has shown once begins at zero again.
        assert_told(&Seen::by(&snapshotter), "orders", &alone);
    }

    #[actix::test]
    async fn the_recorder_may_be_installed_after_the_source_was_built() {
        let world = Memory::begin();
        let fleet = processes(&world, &ScriptedSource::new(), 1);
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let _guard = metrics::set_default_local_recorder(&recorder);
        fleet[0].secret().await;
        assert_told(&Seen::by(&snapshotter), "orders", &fleet);
        assert_eq!(fleet[0].stats.led(), 1);
    }
}

/// Another process has a token.
struct Elsewhere(ScriptedSource);

impl TokenSource for Elsewhere {
    async fn fetch(&self, cx: FetchContext) -> Result<Token, SourceError> {
        self.0.fetch(cx).await
    }

    async fn look(&self, _: FetchContext) -> Option<Token> {
        Some(Token::new("seen").with_lifetime(2 * HOUR))
    }

    fn can_look(&self) -> bool {
        true
    }
}

#[actix::test]
async fn an_actor_that_has_ended_leaves_no_waiter_no_token_and_no_cooldown_behind() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let rig = rig_with(plain().attempts(1).cooldown(secs(10)));
    let token = rig.handle.get().await.unwrap();
    rig.source.then(transient());
    assert!(rig.handle.replace(&token).await.is_err());
    rig.source.hold();
    rig.handle.shutdown().await;
    let seen = Seen::by(&snapshotter);
    for gauge in ["waiters", "expiry_timestamp_seconds", "cooldown_seconds", "suspect"] {
        seen.assert(&format!("tokenflight_{gauge}{{}}"), 0);
    }
}

#[actix::test]
async fn a_token_that_comes_without_a_flight_is_seen() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    tokio::time::pause();
    let (source, clock) = (ScriptedSource::new(), ManualClock::new());
    let builder = TokenActor::builder(Elsewhere(source.clone())).clock(clock);
    let handle = builder.policy(plain().attempts(1).reports(1)).start().unwrap();
    let old = handle.get().await.unwrap();
    source.then(terminal());
    assert!(handle.replace(&old).await.is_err());
    tokio::time::sleep(secs(10)).await;
    // The budget is spent. Therefore there is a look.
    assert!(handle.replace(&old).await.unwrap().is_same(&old));
    settle().await;
    assert_eq!(handle.current().unwrap().secret(), "seen");
    let seen = Seen::by(&snapshotter);
    seen.assert("tokenflight_cooldown_seconds{}", 0);
    let end = seen.0.get("tokenflight_expiry_timestamp_seconds{}");
    assert!(
        matches!(end, Some(DebugValue::Gauge(at)) if (1_767_232_810.0..1_767_232_811.0).contains(&at.0)),
        "two hours after the look: {end:?}"
    );
    seen.assert("tokenflight_suspect{}", 0);
}

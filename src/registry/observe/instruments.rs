//! The metrics of a registry (feature `metrics`). The names are part of the crate's interface. The [crate's
//! documentation](crate#metrics) lists them.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::super::status::RegistryStatus;
use crate::actor::{Told, Total, Totals, total};
use crate::duration::millis;
use crate::flight::Note;
use crate::sync::{AtomicU64, Ordering};

/// Metrics that change continuously are looked up once. Metrics of a call or a flight are looked up once per call
/// or flight.
pub(in crate::registry) struct Instruments {
    registry: Arc<str>,
    gauges: [Gauge; GAUGES.len()],
    /// The counters of each shard.
    of_shards: Totals,
    /// The counters of all shards, and the values that the recorder has already received.
    of_all: [(Counter, AtomicU64); OF_ALL.len()],
}

const GAUGES: [(&str, &str); 8] = [
    ("tokenflight_registry_keys", "Keys that are kept."),
    ("tokenflight_registry_busy_keys", "Keys that are waited for, or whose token is being fetched."),
    ("tokenflight_registry_waiters", "Callers and subscribers that wait, for all keys."),
    ("tokenflight_registry_calls", "Calls to the source that are under way."),
    ("tokenflight_registry_max_calls", "How many calls may be under way at once now."),
    ("tokenflight_registry_queued_keys", "Keys that wait for their turn to call the source."),
    (
        "tokenflight_registry_gate_closed",
        "Whether the auth server is left alone because several keys failed.",
    ),
    (
        "tokenflight_registry_closed_clients",
        "Clients that the auth server refuses, and whose keys are left alone.",
    ),
];

const OF_ALL: [Total; 7] = [
    ("tokenflight_registry_evictions_total", Some(("reason", "room")), "Evicted keys, by reason."),
    ("tokenflight_registry_evictions_total", Some(("reason", "idle")), "Evicted keys, by reason."),
    ("tokenflight_registry_too_many_keys_total", None, "Requests that found every key busy."),
    ("tokenflight_registry_overloads_total", None, "Requests that found the queue full."),
    ("tokenflight_registry_closures_total", Some(("of", "endpoint")), "Closures of an endpoint or a client."),
    ("tokenflight_registry_closures_total", Some(("of", "client")), "Closures of an endpoint or a client."),
    (
        "tokenflight_registry_gate_closed_milliseconds_total",
        None,
        "How long the auth server was left alone because several keys failed.",
    ),
];

impl Instruments {
    pub(super) fn new(registry: &Arc<str>) -> Self {
        describe();
        let owner = Label::new("registry", Arc::clone(registry));
        let of_all = |(name, label, _): Total| (total(name.to_owned(), &owner, label), AtomicU64::new(0));
        Self {
            gauges: GAUGES.map(|(name, _)| gauge!(name, "registry" => Arc::clone(registry))),
            of_shards: Totals::new(&owner, of_registry),
            of_all: OF_ALL.map(of_all),
            registry: Arc::clone(registry),
        }
    }

    pub(super) fn note(&self, label: Option<String>, note: &Note) {
        let (reason, outcome, took) = match note {
            Note::Landed { reason, took, .. } => (reason, "ok", took),
            Note::Failed { reason, took, error, .. } => (reason, error.kind(), took),
            _ => return,
        };
        let mut labels = self.labels(outcome);
        labels.push(Label::new("reason", reason.as_str()));
        histogram!("tokenflight_registry_refresh_duration_seconds", labels.clone()).record(*took);
        labels.extend(label.map(|label| Label::new("key", label)));
        counter!("tokenflight_registry_refreshes_total", labels).increment(1);
    }

    pub(super) fn call_ended(&self, label: Option<String>, outcome: &'static str, took: Duration) {
        let mut labels = self.labels(outcome);
        histogram!("tokenflight_registry_call_duration_seconds", labels.clone()).record(took);
        labels.extend(label.map(|label| Label::new("key", label)));
        counter!("tokenflight_registry_calls_total", labels).increment(1);
    }

    /// The state of the registry, as one of the shards sees it. `overloads`: callers that found all seats taken.
    pub(super) fn observe(
        &self,
        now: &RegistryStatus,
        overloads: u64,
        closed_for: Duration,
        told: &mut Told,
    ) {
        let gauges = [
            now.keys,
            now.busy_keys,
            now.waiters,
            now.calls,
            now.max_calls,
            now.queued,
            usize::from(now.closed.is_some()),
            now.closed_clients,
        ];
        for (gauge, value) in self.gauges.iter().zip(gauges) {
            #[allow(clippy::cast_precision_loss)] // there are never 2^52 keys
            gauge.set(value as f64);
        }
        self.of_shards.tell(told, &now.counters, now.lost);
        let of_all = [
            now.evicted,
            now.idled,
            now.too_many_keys,
            overloads,
            now.closures,
            now.client_closures,
            millis(closed_for),
        ];
        for ((counter, told), total) in self.of_all.iter().zip(of_all) {
            // Each increase of the maximum is reported by the one shard that has made it.
            let before = told.fetch_max(total, Ordering::Relaxed);
            if total > before {
                counter.increment(total - before);
            }
        }
    }

    fn labels(&self, outcome: &'static str) -> Vec<Label> {
        vec![Label::new("registry", Arc::clone(&self.registry)), Label::new("outcome", outcome)]
    }
}

/// The name of the same total of a registry.
fn of_registry(name: &str) -> String {
    name.replacen("tokenflight_", "tokenflight_registry_", 1)
}

fn describe() {
    for (name, what) in GAUGES {
        describe_gauge!(name, what);
    }
    Totals::describe(of_registry);
    for (name, _, what) in OF_ALL {
        describe_counter!(name, what);
    }
    describe_counter!("tokenflight_registry_calls_total", "Calls to the source that ended, by outcome.");
    describe_histogram!(
        "tokenflight_registry_call_duration_seconds",
        Unit::Seconds,
        "How long a call to the source took."
    );
    describe_counter!("tokenflight_registry_refreshes_total", "Flights that ended, by reason and outcome.");
    describe_histogram!(
        "tokenflight_registry_refresh_duration_seconds",
        Unit::Seconds,
        "How long a flight took, with its place in the line."
    );
}

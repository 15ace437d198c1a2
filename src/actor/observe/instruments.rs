//! The metrics of an actor (feature `metrics`). The names are part of the crate's interface. The [crate's
//! documentation](crate#metrics) lists them.

use std::sync::Arc;
use std::time::SystemTime;

use metrics::{
    Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::clock::Timestamp;
use crate::duration::millis;
use crate::flight::{Caller, Counters, Machine, Note};
use crate::lobby::Lobby;
use crate::source::Reason;

/// Metrics that change with every event are looked up once. Metrics of a flight are looked up once per flight.
pub(super) struct Instruments {
    token: Arc<str>,
    waiters: Gauge,
    expiry: Gauge,
    cooldown: Gauge,
    suspect: Gauge,
    next_report: Gauge,
    totals: Totals,
    told: Told,
}

impl Instruments {
    pub(super) fn new(token: &Arc<str>) -> Self {
        describe();
        Self {
            waiters: gauge!("tokenflight_waiters", "token" => Arc::clone(token)),
            expiry: gauge!("tokenflight_expiry_timestamp_seconds", "token" => Arc::clone(token)),
            cooldown: gauge!("tokenflight_cooldown_seconds", "token" => Arc::clone(token)),
            suspect: gauge!("tokenflight_suspect", "token" => Arc::clone(token)),
            next_report: gauge!("tokenflight_next_report_timestamp_seconds", "token" => Arc::clone(token)),
            totals: Totals::new(&Label::new("token", Arc::clone(token)), str::to_owned),
            told: Told::default(),
            token: Arc::clone(token),
        }
    }

    pub(super) fn note(&self, note: &Note, in_rounds: usize, now: Timestamp) {
        match note {
            Note::Landed { reason, took, waiters, expires_at, .. } => {
                self.flight_ended(*reason, "ok", *took, waiters + in_rounds);
                self.cooldown.set(0.0);
                self.expiry.set(unix(*expires_at));
            }
            Note::Received { expires_at, .. } => {
                self.cooldown.set(0.0);
                self.expiry.set(unix(*expires_at));
            }
            Note::Failed { reason, took, waiters, cooldown, error, .. } => {
                self.flight_ended(*reason, error.kind(), *took, waiters + in_rounds);
                self.cooldown.set(cooldown.as_secs_f64());
            }
            Note::Reported { next_in, .. } => {
                self.next_report.set(unix(now.wall.checked_add(*next_in).unwrap_or(now.wall)));
            }
            Note::Started { .. } | Note::Retrying { .. } | Note::AskingAgain { .. } => {}
        }
    }

    pub(super) fn observe<W: Caller>(&mut self, machine: &Machine<W>, lobby: &Lobby, lost: u64) {
        #[allow(clippy::cast_precision_loss)] // there are never 2^52 waiters
        self.waiters.set((machine.waiters() + lobby.waiters()) as f64);
        self.suspect.set(if machine.is_suspect() { 1.0 } else { 0.0 });
        if machine.token().is_none() {
            self.expiry.set(0.0);
        }
        let counters = machine.counters().with_lobby(lobby.timeouts(), lobby.overloads());
        self.totals.tell(&mut self.told, &counters, lost);
    }

    pub(super) fn end(&self) {
        for gauge in [&self.waiters, &self.expiry, &self.cooldown, &self.suspect, &self.next_report] {
            gauge.set(0.0);
        }
    }

    fn flight_ended(&self, reason: Reason, outcome: &'static str, took: std::time::Duration, waiters: usize) {
        let token = || Label::new("token", Arc::clone(&self.token));
        let labels = vec![token(), Label::new("reason", reason.as_str()), Label::new("outcome", outcome)];
        counter!("tokenflight_refreshes_total", labels.clone()).increment(1);
        histogram!("tokenflight_refresh_duration_seconds", labels).record(took);
        #[allow(clippy::cast_precision_loss)] // as above
        histogram!("tokenflight_requests_per_refresh", vec![token()]).record(waiters as f64);
    }
}

fn unix(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A figure that only grows: its name, an extra label, and a description.
pub(crate) type Total = (&'static str, Option<(&'static str, &'static str)>, &'static str);

const TOTALS: [Total; 16] = [
    ("tokenflight_requests_total", None, "Requests and subscriptions that reached the actor."),
    ("tokenflight_attempts_total", None, "Calls to the source."),
    ("tokenflight_rejections_total", None, "Reports that named the token in use."),
    ("tokenflight_wait_timeouts_total", None, "Requests whose own time ran out."),
    ("tokenflight_overloads_total", None, "Requests that found the queue full."),
    ("tokenflight_lost_answers_total", None, "Answers that found their subscriber stopped."),
    ("tokenflight_reports_total", Some(("kind", "replace")), REPORTS),
    ("tokenflight_reports_total", Some(("kind", "invalidate")), REPORTS),
    ("tokenflight_reports_total", Some(("kind", "discard")), REPORTS),
    ("tokenflight_reports_honoured_total", Some(("lane", "budget")), HONOURED),
    ("tokenflight_reports_honoured_total", Some(("lane", "confirmed")), HONOURED),
    ("tokenflight_reports_refused_total", Some(("by", "settle")), REFUSED),
    ("tokenflight_reports_refused_total", Some(("by", "budget")), REFUSED),
    ("tokenflight_reports_refused_total", Some(("by", "cooldown")), REFUSED),
    ("tokenflight_repeated_secrets_total", None, "Tokens whose secret had been reported before they came."),
    (
        "tokenflight_withheld_milliseconds_total",
        None,
        "How long the token in use was withheld from callers for a report.",
    ),
];

const REPORTS: &str = "Reports of a rejected token, by kind.";
const HONOURED: &str =
    "Reports that started or joined a flight, within the budget or confirmed by several APIs.";
const REFUSED: &str = "Reports that started no flight, by the reason of the refusal.";

/// The totals of an actor, or of a registry's shards, in the recorder.
pub(crate) struct Totals([Counter; TOTALS.len()]);

/// The values that the recorder has already received.
#[derive(Debug, Default)]
pub(crate) struct Told([u64; TOTALS.len()]);

impl Totals {
    /// Registers the totals under these names, with the label of their owner.
    pub(crate) fn new(owner: &Label, name_of: impl Fn(&str) -> String) -> Self {
        Self(TOTALS.map(|(name, label, _)| total(name_of(name), owner, label)))
    }

    pub(crate) fn describe(name_of: impl Fn(&str) -> String) {
        for (name, _, what) in TOTALS {
            describe_counter!(name_of(name), what);
        }
    }

    /// Passes on the increase since the last call.
    pub(crate) fn tell(&self, told: &mut Told, counters: &Counters, lost: u64) {
        for ((counter, told), now) in self.0.iter().zip(&mut told.0).zip(totals(counters, lost)) {
            if now > *told {
                counter.increment(now - *told);
                *told = now;
            }
        }
    }
}

/// A counter with the label of its owner, and one more label.
pub(crate) fn total(name: String, owner: &Label, label: Option<(&'static str, &'static str)>) -> Counter {
    let mut labels = vec![owner.clone()];
    labels.extend(label.map(|(key, value)| Label::new(key, value)));
    counter!(name, labels)
}

/// In the order of [`TOTALS`].
fn totals(counters: &Counters, lost: u64) -> [u64; TOTALS.len()] {
    [
        counters.requests,
        counters.attempts,
        counters.rejections,
        counters.timeouts,
        counters.overloads,
        lost,
        counters.replaces,
        counters.invalidates,
        counters.discards,
        counters.reports_honoured.saturating_sub(counters.reports_confirmed),
        counters.reports_confirmed,
        counters.refused_by_settle,
        counters.refused_by_budget,
        counters.refused_by_cooldown,
        counters.repeated_secrets,
        millis(counters.withheld),
    ]
}

impl std::fmt::Debug for Instruments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instruments")
    }
}

fn describe() {
    Totals::describe(str::to_owned);
    describe_counter!("tokenflight_refreshes_total", "Flights that ended, by reason and outcome.");
    describe_histogram!("tokenflight_refresh_duration_seconds", Unit::Seconds, "How long a flight took.");
    describe_histogram!("tokenflight_requests_per_refresh", "Callers that shared the outcome of a flight.");
    describe_gauge!("tokenflight_waiters", "Callers that wait for a token.");
    describe_gauge!(
        "tokenflight_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the token ends, in Unix time."
    );
    describe_gauge!("tokenflight_cooldown_seconds", Unit::Seconds, "Length of the last cooldown.");
    describe_gauge!(
        "tokenflight_suspect",
        "Whether the token in use was reported, and neither replaced nor confirmed."
    );
    describe_gauge!(
        "tokenflight_next_report_timestamp_seconds",
        Unit::Seconds,
        "When a report may start a flight again, in Unix time, as of the last report."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honoured_report_is_counted_in_one_lane() {
        let mut counters = Counters::default();
        (counters.reports_honoured, counters.reports_confirmed) = (7, 2);
        let told = totals(&counters, 0);
        let lanes: Vec<_> =
            TOTALS.iter().zip(told).filter(|((name, ..), _)| name.contains("honoured")).collect();
        let lane = |lane: &str| {
            let is_it = |total: &&(&Total, u64)| total.0.1 == Some(("lane", lane));
            lanes.iter().find(is_it).map(|(_, count)| *count)
        };
        assert_eq!((lane("budget"), lane("confirmed")), (Some(5), Some(2)));
    }
}

//! An actor's life for a metrics recorder (feature `metrics`). The names are part of the crate's interface; the
//! [guide in the crate's documentation](crate#metrics) lists them.

use std::sync::Arc;
use std::time::SystemTime;

use metrics::{
    Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::clock::Timestamp;
use crate::duration::millis;
use crate::flight::{Caller, Counters, Machine, Note, ReportKind};
use crate::lobby::Lobby;
use crate::source::Reason;

/// Those that change with every event are looked up once; those of a flight, once a flight.
pub(super) struct Instruments {
    token: Arc<str>,
    waiters: Gauge,
    expiry: Gauge,
    cooldown: Gauge,
    suspect: Gauge,
    next_report: Gauge,
    /// Each with what it has been told of so far.
    totals: [(Counter, u64); TOTALS.len()],
}

impl Instruments {
    pub(super) fn new(token: &Arc<str>) -> Self {
        describe();
        let total = |(name, label): (&'static str, Option<(&'static str, &'static str)>)| {
            let mut labels = vec![Label::new("token", Arc::clone(token))];
            labels.extend(label.map(|(key, value)| Label::new(key, value)));
            (counter!(name, labels), 0)
        };
        Self {
            waiters: gauge!("tokenflight_waiters", "token" => Arc::clone(token)),
            expiry: gauge!("tokenflight_expiry_timestamp_seconds", "token" => Arc::clone(token)),
            cooldown: gauge!("tokenflight_cooldown_seconds", "token" => Arc::clone(token)),
            suspect: gauge!("tokenflight_suspect", "token" => Arc::clone(token)),
            next_report: gauge!("tokenflight_next_report_timestamp_seconds", "token" => Arc::clone(token)),
            totals: TOTALS.map(total),
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
            Note::Failed { reason, took, waiters, cooldown, error, .. } => {
                self.flight_ended(*reason, error.kind(), *took, waiters + in_rounds);
                self.cooldown.set(cooldown.as_secs_f64());
            }
            Note::Reported { kind, next_in, .. } => {
                if *kind == ReportKind::Discard {
                    // A token that nobody is given any more has expired.
                    self.expiry.set(0.0);
                }
                self.next_report.set(unix(now.wall.checked_add(*next_in).unwrap_or(now.wall)));
            }
            Note::Started { .. } | Note::Retrying { .. } | Note::AskingAgain { .. } => {}
        }
    }

    pub(super) fn observe<W: Caller>(&mut self, machine: &Machine<W>, lobby: &Lobby, lost: u64) {
        #[allow(clippy::cast_precision_loss)] // nobody has 2^52 waiters
        self.waiters.set((machine.waiters() + lobby.waiters()) as f64);
        self.suspect.set(if machine.is_suspect() { 1.0 } else { 0.0 });
        let counters = machine.counters().with_lobby(lobby.timeouts(), lobby.overloads());
        for ((counter, told), now) in self.totals.iter_mut().zip(totals(&counters, lost)) {
            if now > *told {
                counter.increment(now - *told);
                *told = now;
            }
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

/// Those that only grow, each with a label of its own beside the token's name.
const TOTALS: [(&str, Option<(&str, &str)>); 14] = [
    ("tokenflight_requests_total", None),
    ("tokenflight_attempts_total", None),
    ("tokenflight_rejections_total", None),
    ("tokenflight_wait_timeouts_total", None),
    ("tokenflight_overloads_total", None),
    ("tokenflight_lost_answers_total", None),
    ("tokenflight_reports_total", Some(("kind", "replace"))),
    ("tokenflight_reports_total", Some(("kind", "invalidate"))),
    ("tokenflight_reports_total", Some(("kind", "discard"))),
    ("tokenflight_reports_refused_total", Some(("by", "settle"))),
    ("tokenflight_reports_refused_total", Some(("by", "budget"))),
    ("tokenflight_reports_refused_total", Some(("by", "cooldown"))),
    ("tokenflight_repeated_secrets_total", None),
    ("tokenflight_withheld_milliseconds_total", None),
];

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
    describe_counter!("tokenflight_refreshes_total", "Flights that ended, by reason and outcome.");
    describe_histogram!("tokenflight_refresh_duration_seconds", Unit::Seconds, "How long a flight took.");
    describe_histogram!("tokenflight_requests_per_refresh", "Callers that shared the outcome of a flight.");
    describe_gauge!("tokenflight_waiters", "Callers that wait for a token.");
    describe_gauge!(
        "tokenflight_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the token ends, in Unix time."
    );
    describe_gauge!(
        "tokenflight_cooldown_seconds",
        Unit::Seconds,
        "For how long the last failure closed the source."
    );
    describe_counter!("tokenflight_requests_total", "Requests and subscriptions that reached the actor.");
    describe_counter!("tokenflight_attempts_total", "Calls to the source.");
    describe_counter!("tokenflight_rejections_total", "Reports that named the token in use.");
    describe_counter!("tokenflight_reports_total", "Reports of a rejected token, by kind.");
    describe_counter!(
        "tokenflight_reports_refused_total",
        "Reports that started no flight, by what refused them."
    );
    describe_counter!(
        "tokenflight_repeated_secrets_total",
        "Tokens whose secret had been reported before they came."
    );
    describe_counter!(
        "tokenflight_withheld_milliseconds_total",
        "How long the token in use was withheld from callers for a report."
    );
    describe_gauge!(
        "tokenflight_suspect",
        "Whether the token in use was reported, and neither replaced nor confirmed."
    );
    describe_gauge!(
        "tokenflight_next_report_timestamp_seconds",
        Unit::Seconds,
        "When a report may start a flight again, in Unix time, as of the last report."
    );
    describe_counter!("tokenflight_wait_timeouts_total", "Requests whose own time ran out.");
    describe_counter!("tokenflight_overloads_total", "Requests that found the queue full.");
    describe_counter!("tokenflight_lost_answers_total", "Answers that found their subscriber stopped.");
}

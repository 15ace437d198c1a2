//! An actor's life for a metrics recorder (feature `metrics`). The names are part of the crate's interface; the
//! [guide in the crate's documentation](crate#metrics) lists them.

use std::sync::Arc;
use std::time::SystemTime;

use metrics::{
    Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::flight::{Counters, Note};
use crate::source::Reason;

/// Those that change with every event are looked up once; those of a flight, once a flight.
pub(super) struct Instruments {
    token: Arc<str>,
    waiters: Gauge,
    expiry: Gauge,
    cooldown: Gauge,
    /// Each with what it has been told of so far.
    totals: [(Counter, u64); 6],
}

impl Instruments {
    pub(super) fn new(token: &Arc<str>) -> Self {
        describe();
        let total = |name: &'static str| (counter!(name, "token" => Arc::clone(token)), 0);
        Self {
            waiters: gauge!("tokenflight_waiters", "token" => Arc::clone(token)),
            expiry: gauge!("tokenflight_expiry_timestamp_seconds", "token" => Arc::clone(token)),
            cooldown: gauge!("tokenflight_cooldown_seconds", "token" => Arc::clone(token)),
            totals: [
                total("tokenflight_requests_total"),
                total("tokenflight_attempts_total"),
                total("tokenflight_rejections_total"),
                total("tokenflight_wait_timeouts_total"),
                total("tokenflight_overloads_total"),
                total("tokenflight_lost_answers_total"),
            ],
            token: Arc::clone(token),
        }
    }

    pub(super) fn note(&self, note: &Note, in_round: usize) {
        match note {
            Note::Landed { reason, took, waiters, expires_at, .. } => {
                self.flight_ended(*reason, "ok", *took, waiters + in_round);
                self.cooldown.set(0.0);
                let expiry = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.expiry.set(expiry.as_secs_f64());
            }
            Note::Failed { reason, took, waiters, cooldown, error, .. } => {
                self.flight_ended(*reason, error.kind(), *took, waiters + in_round);
                self.cooldown.set(cooldown.as_secs_f64());
            }
            // A token that nobody is given any more has expired.
            Note::Rejected { .. } => self.expiry.set(0.0),
            Note::Started { .. } | Note::Retrying { .. } => {}
        }
    }

    pub(super) fn settle(&mut self, counters: &Counters, waiters: usize, lost: u64) {
        #[allow(clippy::cast_precision_loss)] // nobody has 2^52 waiters
        self.waiters.set(waiters as f64);
        let now = [
            counters.requests,
            counters.attempts,
            counters.rejections,
            counters.timeouts,
            counters.overloads,
            lost,
        ];
        for ((counter, told), now) in self.totals.iter_mut().zip(now) {
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
    describe_counter!(
        "tokenflight_rejections_total",
        "Tokens that the API rejected while they were current."
    );
    describe_counter!("tokenflight_wait_timeouts_total", "Requests whose own time ran out.");
    describe_counter!("tokenflight_overloads_total", "Requests that found the queue full.");
    describe_counter!("tokenflight_lost_answers_total", "Answers that found their subscriber stopped.");
}

//! The reports about a login: lines in the log, the user's own callback, and with feature `metrics` two gauges. The
//! gauges' names are part of the crate's interface. The [crate's documentation](crate#metrics) lists them.
//!
//! A logger, a recorder and a callback are foreign code. A panic of theirs is contained, because it must not end an
//! exchange: its message went to the panic hook.

use std::sync::Arc;

use super::NeedsLogin;
use crate::error::{SourceError, printable_name};
use crate::panics::contain;

/// A function of the user's own.
pub(super) type OnNeedsLogin = Arc<dyn Fn(&NeedsLogin) + Send + Sync>;

pub(super) struct Observer {
    /// The client's id.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    client: Arc<str>,
    /// The same for the log, on one line.
    shown: Arc<str>,
    callback: Option<OnNeedsLogin>,
    /// The last report. The same report is not repeated.
    told: Option<(Option<u64>, String)>,
}

impl Observer {
    pub(super) fn new(client: &str, callback: Option<OnNeedsLogin>) -> Self {
        let client = Arc::from(client);
        Self { shown: printable_name(&client), client, callback, told: None }
    }

    /// A user must log in.
    pub(super) fn needs_login(&mut self, needs: &NeedsLogin) {
        self.gauge(Gauge::NeedsLogin, true);
        let what = (needs.generation, needs.reason.clone());
        if self.told.as_ref() == Some(&what) {
            return;
        }
        self.told = Some(what);
        told(|| log::error!(target: "tokenflight", "client {}: {needs}", self.shown));
        if let Some(callback) = &self.callback {
            told(|| callback(needs));
        }
    }

    /// The login can be used.
    pub(super) fn is_logged_in(&mut self) {
        self.told = None;
        self.gauge(Gauge::NeedsLogin, false);
        self.show(Gauge::Unsaved);
    }

    /// The vault could not be written: the newest refresh token is only in memory.
    pub(super) fn not_saved(&self, failure: &str) {
        told(
            || log::error!(target: "tokenflight", "client {}: the new refresh token could not be written into the vault, and is only in memory: {failure}", self.shown),
        );
        self.unsaved(true);
    }

    /// A reminder that it is still unsaved.
    pub(super) fn still_unsaved(&self, error: &SourceError) {
        told(
            || log::warn!(target: "tokenflight", "client {}: the new refresh token is still only in memory: {error}", self.shown),
        );
    }

    /// The refresh token is saved.
    pub(super) fn saved(&self) {
        told(
            || log::warn!(target: "tokenflight", "client {}: the new refresh token is in the vault now", self.shown),
        );
        self.unsaved(false);
    }

    /// Whether the newest refresh token is only in memory.
    pub(super) fn unsaved(&self, is_unsaved: bool) {
        self.gauge(Gauge::Unsaved, is_unsaved);
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, clippy::unused_self))]
    fn gauge(&self, gauge: Gauge, value: bool) {
        #[cfg(feature = "metrics")]
        told(|| gauge.of(&self.client).set(f64::from(u8::from(value))));
    }

    /// Makes the gauge visible, with its present value. At first that is 0.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, clippy::unused_self))]
    fn show(&self, gauge: Gauge) {
        #[cfg(feature = "metrics")]
        told(|| gauge.of(&self.client).increment(0.0));
    }
}

/// Runs foreign code.
fn told(report: impl FnOnce()) {
    let _ = contain(report);
}

#[derive(Clone, Copy)]
enum Gauge {
    NeedsLogin,
    Unsaved,
}

#[cfg(feature = "metrics")]
impl Gauge {
    fn of(self, client: &Arc<str>) -> metrics::Gauge {
        let (name, description) = self.described();
        metrics::describe_gauge!(name, description);
        metrics::gauge!(name, "client" => Arc::clone(client))
    }

    fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::NeedsLogin => (
                "tokenflight_needs_login",
                "1 while the refresh token can no longer be used and a user must log in.",
            ),
            Self::Unsaved => (
                "tokenflight_refresh_token_unsaved",
                "1 while the newest refresh token is only in memory, because the vault cannot be written.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn needs(reason: &str) -> NeedsLogin {
        NeedsLogin { generation: Some(1), reason: reason.into(), at: None }
    }

    #[test]
    fn a_client_s_id_begins_no_line_of_its_own() {
        let observer = Observer::new("orders\nWARN forged", None);
        assert_eq!((&*observer.client, &*observer.shown), ("orders\nWARN forged", r"orders\nWARN forged"));
    }

    #[test]
    fn the_same_need_is_told_once_and_a_panic_is_contained() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let mut observer = Observer::new(
            "orders",
            Some(Arc::new(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                panic!("the user's own");
            })),
        );
        observer.needs_login(&needs("spent"));
        observer.needs_login(&needs("spent"));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        observer.needs_login(&needs("refused"));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        observer.is_logged_in();
        observer.needs_login(&needs("refused"));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn each_gauge_says_how_things_stand() {
        use metrics_util::debugging::{DebugValue, DebuggingRecorder};

        let recorder = DebuggingRecorder::new();
        let mut observer = Observer::new("orders", None);
        let gauges = || {
            let told = recorder.snapshotter().snapshot().into_hashmap();
            let mut told: Vec<_> =
                told.into_iter().map(|(key, (_, _, value))| (key.key().name().to_owned(), value)).collect();
            told.sort_by(|one, other| one.0.cmp(&other.0));
            told
        };
        let both = |value: f64| {
            ["tokenflight_needs_login", "tokenflight_refresh_token_unsaved"]
                .map(|name| (name.to_owned(), DebugValue::Gauge(value.into())))
        };
        metrics::with_local_recorder(&recorder, || {
            observer.needs_login(&needs("spent"));
            observer.unsaved(true);
            assert_eq!(gauges(), both(1.0));
            observer.is_logged_in();
            observer.unsaved(false);
            assert_eq!(gauges(), both(0.0));
        });
    }
}

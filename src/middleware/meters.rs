//! The metrics of the middlewares (feature `metrics`). The [crate's documentation](crate#metrics) lists them.

use std::sync::Arc;

/// A request to `origin` was sent again.
#[cfg(feature = "metrics")]
pub(super) fn replayed(token: &Arc<str>, origin: &str, why: &'static str) {
    count("tokenflight_replays_total", token, origin, why);
}

/// `origin` rejected the token, and it was reported.
#[cfg(feature = "metrics")]
pub(super) fn reported(token: &Arc<str>, origin: &str, why: &'static str) {
    count("tokenflight_origin_reports_total", token, origin, why);
}

/// The origins come from the program's own list. Therefore they are few.
#[cfg(feature = "metrics")]
fn count(name: &'static str, token: &Arc<str>, origin: &str, why: &'static str) {
    let labels = [("token", token.to_string()), ("origin", origin.to_owned()), ("reason", why.to_owned())];
    metrics::counter!(name, &labels).increment(1);
}

#[cfg(not(feature = "metrics"))]
pub(super) fn replayed(_: &Arc<str>, _: &str, _: &'static str) {}

#[cfg(not(feature = "metrics"))]
pub(super) fn reported(_: &Arc<str>, _: &str, _: &'static str) {}

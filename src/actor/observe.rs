//! The actor's log lines, metrics, and status.

#[cfg(feature = "metrics")]
mod instruments;
mod meters;
mod report;

#[cfg(all(feature = "metrics", feature = "registry"))]
pub(crate) use instruments::{Told, Total, Totals, total};
pub(super) use meters::Meters;

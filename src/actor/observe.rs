//! What an actor says about itself: in the log, to a metrics recorder, and in its status.

#[cfg(feature = "metrics")]
mod instruments;
mod meters;
mod report;

#[cfg(all(feature = "metrics", feature = "registry"))]
pub(crate) use instruments::{Told, Total, Totals, total};
pub(super) use meters::Meters;

//! The counters of a shared source, for callers, and with feature `metrics` for a recorder. The metrics' names are
//! part of the crate's interface. The [crate's documentation](crate#metrics) lists them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::SharedKey;

/// A shared source's counters. They can be read while an actor owns the source. A clone reads the same counters.
#[derive(Clone, Debug, Default)]
pub struct SharedStats(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    counts: [AtomicU64; COUNTED],
    #[cfg(feature = "metrics")]
    instruments: instruments::Instruments,
}

/// The counters, as indices of the array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Led,
    Adopted,
    Local,
    Pushes,
    Polls,
    Late,
    Unopened,
    StoreErrors,
    Mended,
}

/// The number of counters.
const COUNTED: usize = Count::Mended as usize + 1;

impl SharedStats {
    /// The counters of the source with this key. A recorder gets the name that the user has given the source.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    pub(super) fn of(key: &SharedKey) -> Self {
        Self(Arc::new(Counts {
            counts: Default::default(),
            #[cfg(feature = "metrics")]
            instruments: instruments::Instruments::new(key),
        }))
    }

    pub(super) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub(super) fn add(&self, what: Count, times: u64) {
        // Counters order no memory.
        self.0.counts[what as usize].fetch_add(times, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.0.instruments.add(what, times);
    }

    fn read(&self, what: Count) -> u64 {
        self.0.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Calls to the wrapped source under a lease, for the whole fleet.
    pub fn led(&self) -> u64 {
        self.read(Count::Led)
    }

    /// Tokens that another process had fetched.
    pub fn adopted(&self) -> u64 {
        self.read(Count::Adopted)
    }

    /// Calls to the wrapped source for this process alone, because the store did not answer, or no token came from
    /// it in time.
    pub fn local(&self) -> u64 {
        self.read(Count::Local)
    }

    /// Waits that ended with news from the store.
    pub fn pushes(&self) -> u64 {
        self.read(Count::Pushes)
    }

    /// Waits that ended with the lease, without news.
    pub fn polls(&self) -> u64 {
        self.read(Count::Polls)
    }

    /// Commits that were refused, because the lease had been lost.
    pub fn late(&self) -> u64 {
        self.read(Count::Late)
    }

    /// Values that could not be opened.
    pub fn unopened(&self) -> u64 {
        self.read(Count::Unopened)
    }

    /// Operations that failed, or took longer than `store_timeout`.
    pub fn store_errors(&self) -> u64 {
        self.read(Count::StoreErrors)
    }

    /// Values in the store that no process with a key had written, and that were deleted or are ignored.
    pub fn mended(&self) -> u64 {
        self.read(Count::Mended)
    }
}

#[cfg(feature = "metrics")]
mod instruments {
    use std::sync::{Arc, OnceLock};

    use metrics::{Counter, counter, describe_counter};

    use super::{COUNTED, Count};
    use crate::store::SharedKey;

    /// In the order of [`Count`].
    const TOTALS: [(&str, &str); COUNTED] = [
        ("tokenflight_shared_led_total", "Calls to the source under a lease, for the whole fleet."),
        ("tokenflight_shared_adopted_total", "Tokens that another process had fetched."),
        ("tokenflight_shared_local_total", "Calls to the source for this process alone, without the store."),
        ("tokenflight_shared_pushes_total", "Waits that ended with news from the store."),
        ("tokenflight_shared_polls_total", "Waits that ended with the lease, without news."),
        ("tokenflight_shared_late_total", "Commits that were refused, because the lease had been lost."),
        ("tokenflight_shared_unopened_total", "Values in the store that no key opened."),
        ("tokenflight_shared_store_errors_total", "Operations of the store that failed or took too long."),
        ("tokenflight_shared_mended_total", "Things in the store that no process with a key had written."),
    ];

    /// All counters of a source are made when the first of them counts. Therefore each of them is visible at zero,
    /// and the recorder may be installed after the source was built.
    #[derive(Debug, Default)]
    pub(super) struct Instruments {
        name: Arc<str>,
        counters: OnceLock<[Counter; COUNTED]>,
    }

    impl Instruments {
        pub(super) fn new(key: &SharedKey) -> Self {
            Self { name: key.name().into(), counters: OnceLock::new() }
        }

        pub(super) fn add(&self, what: Count, times: u64) {
            let made = || {
                TOTALS.map(|(total, description)| {
                    describe_counter!(total, description);
                    counter!(total, "source" => Arc::clone(&self.name))
                })
            };
            self.counters.get_or_init(made)[what as usize].increment(times);
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;

    #[test]
    fn each_counter_has_the_metric_of_its_name() {
        let key = SharedKey::new("orders", [("issuer", "https://auth.example")]).unwrap();
        let stats = SharedStats::of(&key);
        let recorder = DebuggingRecorder::new();
        let counts = [
            (Count::Led, "led"),
            (Count::Adopted, "adopted"),
            (Count::Local, "local"),
            (Count::Pushes, "pushes"),
            (Count::Polls, "polls"),
            (Count::Late, "late"),
            (Count::Unopened, "unopened"),
            (Count::StoreErrors, "store_errors"),
            (Count::Mended, "mended"),
        ];
        metrics::with_local_recorder(&recorder, || {
            for (times, (count, _)) in (1..).zip(counts) {
                stats.add(count, times);
            }
        });
        let told = recorder.snapshotter().snapshot().into_hashmap();
        assert_eq!(told.len(), counts.len());
        for (key, (_, _, value)) in told {
            let key = key.key();
            assert_eq!(
                key.labels().map(|label| (label.key(), label.value())).next(),
                Some(("source", "orders"))
            );
            let at =
                counts.iter().position(|(_, name)| key.name() == format!("tokenflight_shared_{name}_total"));
            let times = u64::try_from(at.expect("a known name")).unwrap() + 1;
            assert_eq!(value, DebugValue::Counter(times), "{}", key.name());
        }
    }
}

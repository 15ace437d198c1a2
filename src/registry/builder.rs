//! Makes a running registry from settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_rt::{Arbiter, ArbiterHandle};
use tokio::sync::mpsc;

use super::cell::Cells;
use super::common::{Bounds, Common, Counted};
use super::gate::{Gate, GateSettings};
use super::observe::{Label, Meters};
use super::seats::Seats;
use super::shard::{Shard, Start};
use super::{Inner, Key, TokenRegistry};
use crate::builder::{no_arbiter, on_own_thread, one_time};
use crate::clock::{Clock, SystemClock};
use crate::duration;
use crate::error::BuildError;
use crate::policy::RefreshPolicy;
use crate::settings::settings;
use crate::source::{BoxKeyed, KeyedSource};
use crate::sync::{AtomicUsize, Mutex};

settings! {
    #![serde(default)]

    /// The limits of a registry: its keys, and its calls at once.
    ///
    /// In a file the limits are a table. Unknown keys are refused.
    ///
    /// ```
    /// use tokenflight::registry::RegistryLimits;
    ///
    /// let limits: RegistryLimits = serde_json::from_str(r#"{ "max_keys": 500, "idle_timeout": "20m" }"#)?;
    /// assert_eq!(limits, RegistryLimits::default().max_keys(500).idle_timeout(std::time::Duration::from_secs(1200)));
    /// assert_eq!(limits.most_keys(), 500);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RegistryLimits {
        max_keys: usize,
        max_busy_keys: Option<usize>,
        max_waiters: usize,
        #[serde(deserialize_with = "duration::duration")]
        idle_timeout: Duration,
        max_calls: usize,
        max_calls_per_group: Option<usize>,
    }
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            max_keys: 10_000,
            max_busy_keys: None,
            max_waiters: 262_144,
            idle_timeout: Duration::from_secs(3_600),
            max_calls: 16,
            max_calls_per_group: None,
        }
    }
}

impl RegistryLimits {
    /// The present [`max_keys`](Self::max_keys), for `SharedKeys::remember`.
    pub fn most_keys(&self) -> usize {
        self.max_keys
    }

    /// The present [`max_calls`](Self::max_calls).
    pub fn most_calls(&self) -> usize {
        self.max_calls
    }

    /// The number of keys that are kept. At least 1, default 10,000. When one more comes, a key that was not used
    /// recently is evicted.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// The number of keys that may be busy at once: with a waiter or a flight. Busy keys are never evicted. At
    /// least 1, at most `max_keys`, which is the default. One more is answered with an error that
    /// [`is_too_many_keys`](crate::TokenError::is_too_many_keys).
    pub fn max_busy_keys(mut self, keys: usize) -> Self {
        self.max_busy_keys = Some(keys);
        self
    }

    /// The number of waiters, for all keys together. At least 1, default 262,144. (For one key, the policy has
    /// [`max_waiters`](RefreshPolicy::max_waiters).)
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// A key that was not used for this time is evicted, up to a quarter of it later. Longer than zero, default 1 h.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// The number of calls to the source at once. At least 1, default 16.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.max_calls = calls;
        self
    }

    /// The same for one [group](KeyedSource::group). At least 1, at most `max_calls`. Default: half of `max_calls`, at
    /// least 1.
    pub fn max_calls_per_group(mut self, calls: usize) -> Self {
        self.max_calls_per_group = Some(calls);
        self
    }

    fn check(&self) -> Result<(Bounds, GateSettings), BuildError> {
        let at_least_one = |field, value: usize| {
            if value == 0 {
                Err(BuildError::new(field, "is 0: no caller could be answered"))
            } else {
                Ok(value)
            }
        };
        let max_keys = at_least_one("max_keys", self.max_keys)?;
        let max_busy_keys = at_least_one("max_busy_keys", self.max_busy_keys.unwrap_or(max_keys))?;
        if max_busy_keys > max_keys {
            return Err(BuildError::new(
                "max_busy_keys",
                format!("is {max_busy_keys}, and max_keys is {max_keys}: raise max_keys, or lower this"),
            ));
        }
        at_least_one("max_waiters", self.max_waiters)?;
        let calls = at_least_one("max_calls", self.max_calls)?;
        let mut gate = GateSettings::with_calls(calls);
        if let Some(per_group) = self.max_calls_per_group {
            gate.per_group = at_least_one("max_calls_per_group", per_group)?;
            if per_group > calls {
                return Err(BuildError::new(
                    "max_calls_per_group",
                    format!("is {per_group}, and max_calls is {calls}: raise max_calls, or lower this"),
                ));
            }
        }
        if self.idle_timeout.is_zero() {
            return Err(BuildError::new("idle_timeout", "is 0: no key would be kept"));
        }
        Ok((Bounds { max_keys, max_busy_keys, idle: self.idle_timeout }, gate))
    }
}

/// The settings of a [`TokenRegistry`], and the ways to start it.
#[must_use = "it does nothing until it is started"]
pub struct TokenRegistryBuilder<K> {
    name: Arc<str>,
    source: BoxKeyed<K>,
    policy: RefreshPolicy,
    clock: Arc<dyn Clock>,
    limits: RegistryLimits,
    label: Option<Label<K>>,
    seed: Option<u64>,
    #[cfg(feature = "shared")]
    fleet: Option<super::fleet::FleetCalls>,
}

impl<K: Key> TokenRegistryBuilder<K> {
    pub(super) fn new(source: impl KeyedSource<K>) -> Self {
        Self {
            name: "tokens".into(),
            source: BoxKeyed::new(source),
            policy: RefreshPolicy::default(),
            clock: Arc::new(SystemClock),
            limits: RegistryLimits::default(),
            label: None,
            seed: None,
            #[cfg(feature = "shared")]
            fleet: None,
        }
    }

    /// The refresh policy for each key. Default: [`RefreshPolicy::default`].
    ///
    /// A registry does not refresh [in the background](RefreshPolicy::background), because a key that is not used
    /// must be evicted.
    pub fn policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The registry's name in the log, in metrics, and in the name of its thread. Without a NUL. Default: "tokens".
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// The name of a key in the log at `debug`, and in the metrics of calls and refreshes (label `key`). Keys with
    /// the same name are counted together. `None` gives a key no name. The closure runs at the end of each call and
    /// flight.
    ///
    /// Default: no key is named. A recorder keeps each name for ever. Therefore name classes of keys, or a few
    /// important keys, and no keys that a client outside of the program can choose.
    pub fn key_label(mut self, label: impl Fn(&K) -> Option<String> + Send + Sync + 'static) -> Self {
        self.label = Some(Arc::new(label));
        self
    }

    /// The clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The seed of the jitter, for a test that must be repeatable. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// All limits at once, for example from a file. Default: [`RegistryLimits::default`].
    pub fn limits(mut self, limits: RegistryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// See [`RegistryLimits::max_keys`].
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.limits = self.limits.max_keys(keys);
        self
    }

    /// See [`RegistryLimits::max_busy_keys`].
    pub fn max_busy_keys(mut self, keys: usize) -> Self {
        self.limits = self.limits.max_busy_keys(keys);
        self
    }

    /// See [`RegistryLimits::max_waiters`].
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.limits = self.limits.max_waiters(waiters);
        self
    }

    /// See [`RegistryLimits::idle_timeout`].
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.limits = self.limits.idle_timeout(time);
        self
    }

    /// See [`RegistryLimits::max_calls`].
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.limits = self.limits.max_calls(calls);
        self
    }

    /// See [`RegistryLimits::max_calls_per_group`].
    pub fn max_calls_per_group(mut self, calls: usize) -> Self {
        self.limits = self.limits.max_calls_per_group(calls);
        self
    }

    /// The number of calls at once of all processes of a fleet, in addition to this process's own
    /// [`max_calls`](RegistryLimits::max_calls): see [`FleetCalls`](super::FleetCalls). Default: no common limit.
    #[cfg(feature = "shared")]
    pub fn calls_of_fleet(mut self, calls: super::FleetCalls) -> Self {
        self.fleet = Some(calls);
        self
    }

    /// Starts it on this thread's arbiter, in one shard.
    ///
    /// # Errors
    /// An impossible policy or limit (the error names it), or no arbiter on this thread: see
    /// [`spawn_thread`](Self::spawn_thread). With feature `test-util` also: tokio's time is paused, and the clock
    /// is not.
    pub fn start(self) -> Result<TokenRegistry<K>, BuildError> {
        let arbiter = Arbiter::try_current().ok_or_else(no_arbiter)?;
        one_time(&*self.clock)?;
        self.start_on([&arbiter])
    }

    /// Starts it on these arbiters, a shard on each.
    ///
    /// # Errors
    /// An impossible policy or limit (the error names it); no arbiter, or a stopped one.
    pub fn start_on<'a>(
        self,
        arbiters: impl IntoIterator<Item = &'a ArbiterHandle>,
    ) -> Result<TokenRegistry<K>, BuildError> {
        let arbiters: Vec<_> = arbiters.into_iter().collect();
        if arbiters.is_empty() {
            return Err(BuildError::new("arbiters", "are none: give at least one arbiter"));
        }
        if arbiters.iter().any(|arbiter| !arbiter.alive()) {
            return Err(BuildError::new("arbiter", "has stopped: start the shard on a running arbiter"));
        }
        let Built { common, shards } = self.build(arbiters.len())?;
        let start = |(arbiter, start): (&ArbiterHandle, Start)| {
            let common = Arc::clone(&common);
            Shard::start_in_arbiter(arbiter, move |_| Shard::new(common, start))
        };
        let doors = arbiters.into_iter().zip(shards).map(start).collect();
        Ok(TokenRegistry(Arc::new(Inner { common, doors })))
    }

    /// Starts it on its own thread with its own actix System, in one shard. The caller may be plain tokio, or have
    /// no runtime at all. The thread ends with the registry.
    ///
    /// # Errors
    /// An impossible policy or limit (the error names it), or no thread is available.
    pub fn spawn_thread(self) -> Result<TokenRegistry<K>, BuildError> {
        let Built { common, shards } = self.build(1)?;
        let name = Arc::clone(&common.name);
        let mut doors = Vec::new();
        for start in shards {
            let common = Arc::clone(&common);
            doors.push(on_own_thread(&name, move || Shard::new(common, start))?);
        }
        Ok(TokenRegistry(Arc::new(Inner { common, doors })))
    }

    fn build(self, shards: usize) -> Result<Built<K>, BuildError> {
        self.policy.check()?;
        if self.policy.refreshes_by_itself() {
            return Err(BuildError::new(
                "background",
                "is not for a registry: unused keys are evicted; leave it off",
            ));
        }
        if self.name.contains('\0') {
            return Err(BuildError::new("name", "contains a NUL, which no thread name can contain"));
        }
        let (limits, gate) = self.limits.check()?;
        let gate = GateSettings {
            jitter: self.policy.jitter_share(),
            max_retry_after: self.policy.retry_after_limit(),
            ..gate
        };
        #[cfg(feature = "shared")]
        let fleet = self.fleet.map(super::FleetCalls::check).transpose()?;
        let mut dice = fastrand::Rng::with_seed(self.seed.unwrap_or_else(|| fastrand::u64(..)));
        #[cfg_attr(not(feature = "shared"), allow(unused_mut))]
        let mut gate = Gate::new(gate, dice.u64(..));
        #[cfg(feature = "shared")]
        if let Some(fleet) = &fleet {
            // No call before the store was asked.
            gate.join_fleet(fleet.slots());
        }
        let (doors, ears): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
        let common = Arc::new(Common {
            meters: Meters::new(&self.name, self.label),
            name: self.name,
            source: self.source,
            has_finished: crate::sync::AtomicBool::new(false),
            finishing: tokio::sync::Mutex::default(),
            policy: Arc::new(self.policy),
            cells: Arc::new(Cells::new(self.clock)),
            #[cfg(any(feature = "http", feature = "tower", feature = "awc"))]
            evidences: Mutex::new(super::evidences::Evidences::new()),
            limits,
            seats: Seats::new(self.limits.max_waiters),
            busy: AtomicUsize::new(0),
            doors,
            counted: Counted::default(),
            #[cfg(feature = "metrics")]
            figures: gate.figures().map(crate::sync::AtomicU64::new),
            #[cfg(feature = "shared")]
            fleet,
            gate: Mutex::new(gate),
        });
        let begin = |(number, heard)| Start {
            number,
            heard,
            seed: dice.u64(..),
            // The first shard gets it.
            #[cfg(feature = "shared")]
            course: (number == 0).then(|| super::fleet::Course::new(&common)).flatten(),
        };
        let shards = ears.into_iter().enumerate().map(begin).collect();
        Ok(Built { common, shards })
    }
}

/// The parts from which a registry is started.
struct Built<K> {
    common: Arc<Common<K>>,
    shards: Vec<Start>,
}

impl<K> fmt::Debug for TokenRegistryBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRegistryBuilder")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

//! The settings of a shared source.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::parts::Parts;
#[cfg(feature = "registry")]
use super::parts::check_free;
use super::seal::{self, KeyRing, SealKey};
use super::{Settings, SharedSource};
use crate::clock::{Clock, SystemClock};
use crate::duration;
use crate::error::BuildError;
use crate::settings::settings;
use crate::source::TokenSource;
use crate::store::SharedStore;

/// The behaviour while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnOutage {
    /// Calls the wrapped source, for this process alone.
    #[default]
    RefreshLocally,
    /// Fails. For auth servers that a fleet without a lease would overload.
    Fail,
}

settings! {
    /// The settings of [`SharedSource`], from code or by serde from a file, with the names of the setters, except the
    /// table `parts` (setter `part`) and the list `keys` (setter `key`).
    ///
    /// ```
    /// use tokenflight::source::SharedSourceBuilder;
    ///
    /// let settings = r#"{
    ///     "name": "orders-api",
    ///     "parts": { "issuer": "https://auth.example.com", "client": "my-app", "scope": "orders.read" },
    ///     "keys": [{ "id": "2026-11", "key": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" }],
    ///     "lease": "5s",
    ///     "on_outage": "refresh_locally"
    /// }"#;
    /// let builder: SharedSourceBuilder = serde_json::from_str(settings)?;
    /// assert!(!format!("{builder:?}").contains("0001"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[derive(Clone)]
    #[must_use = "it does nothing until it is built"]
    pub struct SharedSourceBuilder {
        name: String,
        #[serde(default)]
        parts: BTreeMap<String, String>,
        #[serde(default, deserialize_with = "seal::keys")]
        keys: Vec<SealKey>,
        #[serde(default)]
        in_clear: bool,
        #[serde(default = "default::lease", deserialize_with = "duration::duration")]
        lease: Duration,
        #[serde(default, deserialize_with = "duration::some_duration")]
        wait_limit: Option<Duration>,
        #[serde(default = "default::store_timeout", deserialize_with = "duration::duration")]
        store_timeout: Duration,
        #[serde(default = "default::retry_store", deserialize_with = "duration::duration")]
        retry_store: Duration,
        #[serde(default, deserialize_with = "duration::some_duration")]
        min_validity: Option<Duration>,
        #[serde(default = "default::missing_lifetime", deserialize_with = "duration::duration")]
        missing_lifetime: Duration,
        #[serde(default = "default::cooldown", deserialize_with = "duration::duration")]
        cooldown: Duration,
        #[serde(default, deserialize_with = "duration::some_duration")]
        max_cooldown: Option<Duration>,
        #[serde(default = "default::max_retry_after", deserialize_with = "duration::duration")]
        max_retry_after: Duration,
        #[serde(default)]
        on_outage: OnOutage,
        #[serde(skip, default = "default::clock")]
        clock: Arc<dyn Clock>,
    }
}

mod default {
    use super::{Arc, Clock, Duration, SystemClock};

    pub(super) fn lease() -> Duration {
        Duration::from_secs(5)
    }

    pub(super) fn store_timeout() -> Duration {
        Duration::from_secs(1)
    }

    pub(super) fn retry_store() -> Duration {
        Duration::from_secs(5)
    }

    pub(super) fn missing_lifetime() -> Duration {
        Duration::from_secs(300)
    }

    pub(super) fn cooldown() -> Duration {
        Duration::from_millis(250)
    }

    /// As in the policy. A first pause that is longer raises it, up to a minute.
    pub(super) fn max_cooldown(first: Duration) -> Duration {
        first.clamp(Duration::from_secs(10), Duration::from_secs(60))
    }

    pub(super) fn max_retry_after() -> Duration {
        Duration::from_secs(300)
    }

    pub(super) fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

impl SharedSourceBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            parts: BTreeMap::new(),
            keys: Vec::new(),
            in_clear: false,
            lease: default::lease(),
            wait_limit: None,
            store_timeout: default::store_timeout(),
            retry_store: default::retry_store(),
            min_validity: None,
            missing_lifetime: default::missing_lifetime(),
            cooldown: default::cooldown(),
            max_cooldown: None,
            max_retry_after: default::max_retry_after(),
            on_outage: OnOutage::default(),
            clock: default::clock(),
        }
    }

    /// Adds a part in which tokens differ: the issuer, the client's id, grant, scope, audience, resource, subject,
    /// the key of a `DPoP` proof. The parts that the source [names itself](TokenSource::identify) are in the key
    /// already, as with `ClientCredentials` and `JsonEndpoint`. Some sources cannot name all parts
    /// ([`UNNAMED`](crate::source::UNNAMED)): `source_fn`, a `JsonEndpoint` with `header_fn`, or either with your
    /// own `http` closure. For these at least one part is needed. Give two sources different parts if their tokens
    /// differ. The store holds a hash of all parts, keyed by a sub-key of the seal's key. With
    /// [`in_clear`](Self::in_clear) the hash is not keyed, and a short secret in a part can be guessed from it. A
    /// second value for the same part replaces the first.
    pub fn part(mut self, part: impl Into<String>, value: impl Into<String>) -> Self {
        self.parts.insert(part.into(), value.into());
        self
    }

    /// Adds a key. The first key seals, and all keys open. To rotate: give every process the new key as its second
    /// one. Then make it the first one. When the last old token has expired, remove the old key. Names in the store
    /// depend on the key whose id sorts first. Therefore let ids sort by age, as dates do. When that key is
    /// removed, the names change, which costs one call.
    ///
    /// `openssl rand -hex 32` makes a random key. For a key that can be guessed, [`build`](Self::build) writes a WARN.
    pub fn key(mut self, key: SealKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Tokens are stored in clear. Every user of the store can read and replace them. For tests, and for a store in
    /// this process's own memory. Default: no.
    pub fn in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// How long a process that died during a refresh delays the others: the lease is renewed each third of this
    /// time while the refresh runs. At least twice `store_timeout`. Default 5 s.
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time;
        self
    }

    /// How long a flight waits for other processes, in total. Then it continues without the store ([`OnOutage`]).
    /// While an owner renews its lease, the flight waits longer, up to the end of its attempt. Default: twice the
    /// lease, but at most half of the time for the attempt.
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = Some(limit);
        self
    }

    /// The time limit of one operation of the store. Default 1 s.
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit;
        self
    }

    /// How long a store that did not answer is not used, before a refresh tries it again. It doubles with each
    /// failed try, up to a minute. Default 5 s.
    pub fn retry_store(mut self, after: Duration) -> Self {
        self.retry_store = after;
        self
    }

    /// A token in the store that lasts no longer than this is replaced, and not used. Default: a tenth of its life,
    /// at most 10 s, as in the policy.
    pub fn min_validity(mut self, time: Duration) -> Self {
        self.min_validity = Some(time);
        self
    }

    /// How long a token stays in the store if its source did not state its lifetime. Default 5 min, as in the
    /// policy.
    pub fn missing_lifetime(mut self, lifetime: Duration) -> Self {
        self.missing_lifetime = lifetime;
        self
    }

    /// How long the whole fleet does not call the auth server after a failed refresh, unless the server refused the
    /// credential. It doubles with each failure in a row. Each pause is up to a fifth shorter, at random. Default
    /// 250 ms. Zero: no pause.
    pub fn cooldown(mut self, first: Duration) -> Self {
        self.cooldown = first;
        self
    }

    /// The longest of these pauses. Default 10 s, as in the policy, or [`cooldown`](Self::cooldown) if that is longer, up to
    /// 60 s.
    pub fn max_cooldown(mut self, limit: Duration) -> Self {
        self.max_cooldown = Some(limit);
        self
    }

    /// A longer `Retry-After` is cut to this. Default 5 min.
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.max_retry_after = limit;
        self
    }

    /// The behaviour while the store does not answer. Default: [`OnOutage::RefreshLocally`].
    pub fn on_outage(mut self, choice: OnOutage) -> Self {
        self.on_outage = choice;
        self
    }

    /// The clock: use the actor's clock. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Wraps a source.
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting.
    pub fn build<S, St>(self, source: S, store: St) -> Result<SharedSource<S, St>, BuildError>
    where
        S: TokenSource,
        St: SharedStore,
    {
        let parts = Parts::of(|part| source.identify(part));
        parts.check_shared()?;
        parts.check_named(!self.parts.is_empty())?;
        let mut named = parts.named;
        named.extend(self.parts.iter().map(|(part, value)| (part.clone(), Zeroizing::new(value.clone()))));
        let settings = self.settings(&named)?;
        Ok(SharedSource::assemble(source, store, settings, self.retry_store))
    }

    /// Wraps the source of a registry's keys. `name` gives the part in which a key differs, as [`part`](Self::part)
    /// does for one source. The parts that the source names for the key are used too. Two keys whose tokens differ
    /// must have different names. The store holds a hash of the name.
    ///
    /// ```
    /// use tokenflight::registry::TokenRegistry;
    /// use tokenflight::source::{SealKey, SharedSource};
    /// use tokenflight::store::MemoryStore;
    /// use tokenflight::{FetchContext, Token};
    ///
    /// # use std::hash::{BuildHasher, Hasher, RandomState};
    /// # let digits = || format!("{:016x}", RandomState::new().build_hasher().finish());
    /// # let key_from_your_secret_store = &[digits(), digits(), digits(), digits()].concat();
    /// # actix_rt::System::new().block_on(async {
    /// let fetches = |tenant: u64, _cx: FetchContext| async move { Ok(Token::new(format!("token-of-{tenant}"))) };
    /// let source = SharedSource::builder("tenants")
    ///     .part("issuer", "https://auth.example.com")
    ///     .key(SealKey::from_hex("2026-11", key_from_your_secret_store)?)
    ///     .build_keyed(fetches, MemoryStore::new(), |tenant: &u64| tenant.to_string())?;
    /// let tokens = TokenRegistry::builder(source).start()?;
    /// assert_eq!(tokens.get(&7).await?.secret(), "token-of-7");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// A setting that cannot work. The error names the setting. A closure without a [`part`](Self::part), because
    /// nothing would tell its tokens from those of another closure; any other source that cannot name all parts
    /// gets this error at its first call. A part with the name `key:name`, or whose name begins with `source:`.
    #[cfg(feature = "registry")]
    pub fn build_keyed<K, S, St>(
        self,
        source: S,
        store: St,
        name: impl Fn(&K) -> String + Send + Sync + 'static,
    ) -> Result<super::SharedKeys<K, S, St>, BuildError>
    where
        S: crate::source::KeyedSource<K>,
        St: SharedStore,
    {
        let known = Parts::of(|part| source.identify_all(part));
        known.check_shared()?;
        known.check_named(!self.parts.is_empty())?;
        check_free(self.parts.keys().map(String::as_str))?;
        let parts: Vec<_> =
            self.parts.iter().map(|(part, value)| (part.clone(), Zeroizing::new(value.clone()))).collect();
        let all = [(String::from("keys"), Zeroizing::new(String::new()))];
        let settings = self.settings(&all)?;
        Ok(super::SharedKeys::assemble(source, store, settings, parts, self.retry_store, Box::new(name)))
    }

    /// Checks everything except the source.
    fn settings(&self, parts: &[(String, Zeroizing<String>)]) -> Result<Settings, BuildError> {
        let ring = KeyRing::new(self.keys.clone(), self.in_clear)?;
        let key =
            ring.place(&self.name, parts.iter().map(|(part, value)| (part.as_str(), value.as_str())))?;
        for (field, time) in [
            ("wait_limit", self.wait_limit.unwrap_or(Duration::MAX)),
            ("store_timeout", self.store_timeout),
            ("retry_store", self.retry_store),
            ("missing_lifetime", self.missing_lifetime),
        ] {
            if time.is_zero() {
                return Err(BuildError::new(field, "must be longer than zero"));
            }
        }
        if self.lease < self.store_timeout.saturating_mul(2) {
            let (lease, limit) = (self.lease, self.store_timeout);
            let message =
                format!("{lease:?} is shorter than twice store_timeout {limit:?}: it could not be renewed");
            return Err(BuildError::new("lease", message));
        }
        let max_cooldown = self.max_cooldown.unwrap_or_else(|| default::max_cooldown(self.cooldown));
        if self.cooldown > max_cooldown {
            let (first, limit) = (self.cooldown, max_cooldown);
            let message = format!("{first:?} exceeds max_cooldown {limit:?}: raise that too");
            return Err(BuildError::new("cooldown", message));
        }
        Ok(Settings {
            ring: Arc::new(ring),
            key,
            lease: self.lease,
            wait_limit: self.wait_limit,
            store_timeout: self.store_timeout,
            min_validity: self.min_validity,
            missing_lifetime: self.missing_lifetime,
            cooldown: self.cooldown,
            max_cooldown,
            max_retry_after: self.max_retry_after,
            on_outage: self.on_outage,
            clock: Arc::clone(&self.clock),
        })
    }
}

impl fmt::Debug for SharedSourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSourceBuilder")
            .field("name", &self.name)
            .field("parts", &self.parts.keys().collect::<Vec<_>>())
            .field("keys", &self.keys)
            .field("in_clear", &self.in_clear)
            .field("lease", &self.lease)
            .field("on_outage", &self.on_outage)
            .finish_non_exhaustive()
    }
}

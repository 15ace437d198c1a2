//! The vaults in Redis: one value each, without an expiry.

use std::time::Duration;

use ::redis::{Value, cmd};

use super::RedisStore;
use super::link::Connection;
use super::scripts::{read_kept, read_swap};
use crate::duration::millis;
use crate::store::{SharedKey, StoreError};

impl RedisStore {
    /// The value of a vault.
    pub(crate) async fn kept(&self, key: &SharedKey) -> Result<Option<Vec<u8>>, StoreError> {
        let mut get = cmd("GET");
        get.arg(self.place(key, "vault"));
        let get = &get;
        let looks = |mut connection: Connection| async move { get.query_async(&mut connection.wire).await };
        read_kept(self.0.link.run::<Value, _>(looks).await?)
    }

    /// Replaces the value whose SHA-1 is `expected` (empty: there must be none). The `Err` has the present value.
    pub(crate) async fn swap_kept(
        &self,
        key: &SharedKey,
        expected: &str,
        value: &[u8],
    ) -> Result<Result<(), Option<Vec<u8>>>, StoreError> {
        let mut script = self.0.scripts.vault.prepare_invoke();
        script.key(self.place(key, "vault")).arg(expected).arg(value);
        read_swap(self.run::<Vec<Value>>(script).await?)
    }

    /// Takes the lock of a vault for this time, or renews it. Zero releases it. Returns whether `owner` has it
    /// then.
    pub(crate) async fn lock_kept(
        &self,
        key: &SharedKey,
        owner: &str,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let mut script = self.0.scripts.lock.prepare_invoke();
        script.key(self.place(key, "spending")).arg(owner).arg(millis(time));
        Ok(self.run::<u8>(script).await? == 1)
    }
}

//! What observers have of the slot.

use std::sync::Arc;

use super::Slot;
use crate::error::TokenError;
use crate::panics::contain;
use crate::sync::{lock, watch};
use crate::token::Token;

/// Who is told that another secret is published.
pub(crate) trait Observers: Default + std::fmt::Debug {
    fn tell(&self);
}

/// A waker is foreign code: its panic must not take the actor with it.
impl Observers for watch::Sender<()> {
    fn tell(&self) {
        contain(|| self.send_replace(()));
    }
}

/// Nobody.
#[cfg(feature = "registry")]
impl Observers for () {
    fn tell(&self) {}
}

/// Watches the token: see [`TokenHandle::watch`](crate::TokenHandle::watch).
///
/// It holds no lock and no guard between calls, so it can be kept across an await.
#[derive(Clone, Debug)]
pub struct TokenWatch {
    slot: Arc<Slot>,
    changes: watch::Receiver<()>,
    told_of_end: bool,
}

impl TokenWatch {
    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        let changes = slot.observers.subscribe();
        let told_of_end = lock(&slot.desk).closed;
        Self { slot, changes, told_of_end }
    }

    /// The token that is published, whether it is still usable or not; `None` before the first one, after a
    /// [discard](crate::TokenHandle::discard), and when the actor has ended.
    pub fn current(&self) -> Option<Token> {
        lock(&self.slot.desk).shown.clone()
    }

    /// Waits until there is another secret, or the token was discarded, or the actor has ended. Changes between two
    /// calls are told once. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped), when the end has been told.
    pub async fn changed(&mut self) -> Result<(), TokenError> {
        let closed = || lock(&self.slot.desk).closed;
        if self.told_of_end && closed() {
            return Err(TokenError::stopped());
        }
        self.changes.changed().await.map_err(|_| TokenError::stopped())?;
        self.told_of_end = lock(&self.slot.desk).closed;
        Ok(())
    }
}

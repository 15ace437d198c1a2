//! The observers of the slot.

use std::sync::Arc;

use super::Slot;
use crate::error::TokenError;
use crate::panics::contain;
use crate::sync::{lock, watch};
use crate::token::Token;

/// The observers that are told of another published secret.
pub(crate) trait Observers: Default + std::fmt::Debug {
    fn tell(&self);
}

/// A waker is foreign code. Its panic must not end the actor.
impl Observers for watch::Sender<()> {
    fn tell(&self) {
        contain(|| self.send_replace(()));
    }
}

/// No observers.
#[cfg(feature = "registry")]
impl Observers for () {
    fn tell(&self) {}
}

/// Watches the token: see [`TokenHandle::watch`](crate::TokenHandle::watch).
///
/// It holds no lock and no guard between calls, so a task can keep it across an await.
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

    /// The published token, usable or not. `None` before the first token, after a
    /// [discard](crate::TokenHandle::discard), and when the actor has ended.
    pub fn current(&self) -> Option<Token> {
        lock(&self.slot.desk).shown.clone()
    }

    /// Waits until there is another secret, or the token was discarded, or the actor has ended. Several changes
    /// between two calls are reported once. Dropping the future loses no change.
    ///
    /// # Errors
    /// [`is_stopped`](TokenError::is_stopped), after the actor's end was reported once.
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

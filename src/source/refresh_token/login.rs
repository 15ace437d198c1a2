//! The login in the vault: its owner, a new login, and a login that could not be written.

use std::time::Duration;

use tokio::sync::watch;

use super::spend::{LONGEST_WAIT, vault_failed};
use super::{Exchange, Inner, State};
use crate::error::SourceError;
use crate::transport::printable;
use crate::vault::{self, Record, RefreshTokenStore, Swap, VaultError};

const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Tries between two lines in the log: about a minute.
const TOLD_EVERY: u32 = 60;

impl<V: RefreshTokenStore> Inner<V> {
    /// A refresh token is sent only to the server that issued it, and only for the client to which it was issued.
    pub(super) fn foreign(&self, record: &Record) -> Option<String> {
        let (issuer, id) = (self.client.name_of_server(), self.client.id());
        let is_own = record.issuer() == issuer && record.client_id() == id;
        (!is_own).then(|| {
            format!(
                "the vault holds a login of the client {:?} at {:?}, and this is {id:?} at {issuer:?}: nothing was sent; \
                 use another vault, or log in anew",
                printable(record.client_id(), 80),
                printable(record.issuer(), 200)
            )
        })
    }

    /// Replaces the record in the vault by a new login.
    pub(super) async fn log_in(&self, refresh_token: &str) -> Result<(), VaultError> {
        // This source's own exchange may hold the lock for longer than the wait for the lock.
        if let Some(mut running) = self.running() {
            let _ = running.wait_for(Exchange::is_over).await;
        }
        let _lock = self.vault.lock(LONGEST_WAIT).await?;
        let record = self.first(refresh_token)?;
        let mut state = self.state.lock().await;
        let mut there = self.vault.load().await?;
        loop {
            match self.vault.swap(there.as_ref().map(vault::Stored::stamp), &record).await? {
                Swap::Done(_) => break,
                Swap::Moved(moved) => there = moved,
            }
        }
        // The unsaved record belonged to the old login.
        state.unsaved = None;
        state.has_login = true;
        state.observer.unsaved(false);
        state.observer.is_logged_in();
        Ok(())
    }

    /// Continues to write the unsaved record, each second, unless another task does. While this is under way, the
    /// process must not end.
    pub(super) async fn save_at_last(&self) {
        let (_alive, saver) = watch::channel(());
        {
            let mut state = self.state.lock().await;
            if state.saver.as_ref().is_some_and(|saver| saver.has_changed().is_ok()) {
                return;
            }
            state.saver = Some(saver);
        }
        for tries in 1_u32.. {
            let mut state = self.state.lock().await;
            if state.unsaved.is_none() {
                // A later unsaved record starts another task.
                state.saver = None;
                return;
            }
            drop(state);
            tokio::time::sleep(SAVE_EVERY).await;
            let Ok(_lock) = self.vault.lock(LONGEST_WAIT).await else { continue };
            let mut state = self.state.lock().await;
            if let Err(error) = self.save(&mut state).await
                && tries.is_multiple_of(TOLD_EVERY)
            {
                state.observer.still_unsaved(&error);
            }
        }
    }

    /// No refresh token is sent while a newer one is only in memory.
    pub(super) async fn save(&self, state: &mut State) -> Result<(), SourceError> {
        let Some(record) = state.unsaved.clone() else { return Ok(()) };
        let saved = async {
            let there = self.vault.load().await?;
            let is_newer = there.as_ref().is_some_and(|there| {
                there.record().login() != record.login() || there.record().generation() >= record.generation()
            });
            if is_newer {
                // A new login, or this very record, written by a try that was reported as failed.
                return Ok(true);
            }
            let stamp = there.as_ref().map(vault::Stored::stamp);
            Ok::<_, VaultError>(matches!(self.vault.swap(stamp, &record).await?, Swap::Done(_)))
        };
        match saved.await {
            Ok(true) => {
                state.unsaved = None;
                state.observer.saved();
                Ok(())
            }
            Ok(false) => {
                Err(SourceError::transient("the vault was written by another process at the same time"))
            }
            Err(error) => Err(vault_failed(
                error,
                "the newest refresh token is only in memory, because the vault failed",
            )),
        }
    }
}

//! The value of a key that a reader finds in the map itself: the token, and the moments until which no further
//! check is needed.
//!
//! With a hundred thousand keys each key is far away in memory. Therefore a reader takes as few steps as possible:
//! the map, the window, the token. When another token is published, a new window replaces this one.

use std::hash::Hash;
use std::sync::Arc;

use super::cell::{Cell, Cells, Nanos};
use crate::slot::{Calm, Front, Published, Read, Single};
use crate::sync::{AtomicU8, AtomicU64, Ordering};
use crate::token::Token;

/// One key's window.
#[derive(Debug)]
pub(super) struct Window {
    used: AtomicU8,
    /// On the boot clock, in nanoseconds: from this moment on a reader looks into the cell. Once it is zero, it
    /// stays zero.
    boot: AtomicU64,
    /// The same on the wall clock, since 1970.
    wall: u64,
    token: Option<Token>,
    pub(super) cell: Arc<Cell>,
}

impl Window {
    /// The key was used since the eviction last checked it.
    pub(super) const SINCE_HAND: u8 = 1;
    /// The key was used since the last search for idle keys.
    pub(super) const SINCE_SWEEP: u8 = 2;
    const USED: u8 = Self::SINCE_HAND | Self::SINCE_SWEEP;

    /// A window without a visible token.
    pub(super) fn blind(cell: Arc<Cell>) -> Self {
        Self { used: AtomicU8::new(Self::USED), boot: AtomicU64::new(0), wall: 0, token: None, cell }
    }

    /// The replacement of another window.
    fn instead_of(other: &Self, Calm { token, boot, wall }: Calm) -> Self {
        let used = AtomicU8::new(other.used.load(Ordering::Relaxed));
        Self { used, boot: AtomicU64::new(boot), wall, token: Some(token), cell: Arc::clone(&other.cell) }
    }

    /// Hides the token in this window for ever.
    fn blind_out(&self) {
        self.boot.store(0, Ordering::Relaxed);
    }

    /// The token, if it is usable. `now` is a moment less than a second ago. If this second matters, the cell decides.
    ///
    /// The moments belong to this very token, and never become later. Therefore it is enough to check them before
    /// the token is cloned.
    #[inline]
    pub(super) fn read(&self, now: Nanos) -> Read {
        let is_calm = now.boot < self.boot.load(Ordering::Relaxed) && now.wall < self.wall;
        match self.token.as_ref().filter(|_| is_calm) {
            Some(token) => Read { token: Some(token.clone()), reports: false },
            None => self.cell.slot.read_exactly(),
        }
    }

    /// Relaxed is enough: a use that is seen late costs at most one call.
    #[inline]
    pub(super) fn note_use(&self) {
        if self.used.load(Ordering::Relaxed) != Self::USED {
            self.used.store(Self::USED, Ordering::Relaxed);
        }
    }

    /// Whether the key was used since the last call with this mark.
    pub(super) fn was_used(&self, since: u8) -> bool {
        self.used.fetch_and(!since, Ordering::Relaxed) & since != 0
    }
}

/// The front of a key's slot: its window in the map.
pub(super) struct Frame<'a, K> {
    pub(super) cells: &'a Cells<K>,
    pub(super) key: &'a K,
    pub(super) cell: &'a Cell,
}

impl<K: Hash + Eq + Clone> Front<Single> for Frame<'_, K> {
    /// The key may have been removed meanwhile, and may have come back with another cell. Then there is nothing to
    /// do.
    fn show(&self, published: Option<&Published<Single>>) {
        let windows = self.cells.windows();
        let Some(window) = windows.get(self.key).filter(|it| std::ptr::eq(&raw const *it.cell, self.cell))
        else {
            return;
        };
        match published.and_then(Published::calm) {
            Some(calm) => drop(windows.insert(self.key.clone(), Window::instead_of(window, calm))),
            None => window.blind_out(),
        }
    }
}

#[cfg(test)]
mod tests;

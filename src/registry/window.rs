//! What a reader of a key finds in the map itself: the token, and the moments until which it need not look further.
//!
//! Of a hundred thousand keys each is far away in memory. So a reader takes as few steps as it can: the map, the window,
//! the token. Whenever another token is shown, another window takes the place of this one.

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
    /// On the boot clock, in nanoseconds: from here on a reader looks into the cell. Once it is zero, it stays zero.
    boot: AtomicU64,
    /// The same on the wall clock, since 1970.
    wall: u64,
    token: Option<Token>,
    pub(super) cell: Arc<Cell>,
}

impl Window {
    /// Used since the hand of the eviction came by.
    pub(super) const SINCE_HAND: u8 = 1;
    /// Used since the last look for idle keys.
    pub(super) const SINCE_SWEEP: u8 = 2;
    const USED: u8 = Self::SINCE_HAND | Self::SINCE_SWEEP;

    /// A window through which nobody sees anything.
    pub(super) fn blind(cell: Arc<Cell>) -> Self {
        Self { used: AtomicU8::new(Self::USED), boot: AtomicU64::new(0), wall: 0, token: None, cell }
    }

    /// Takes the place of another one.
    fn instead_of(other: &Self, Calm { token, boot, wall }: Calm) -> Self {
        let used = AtomicU8::new(other.used.load(Ordering::Relaxed));
        Self { used, boot: AtomicU64::new(boot), wall, token: Some(token), cell: Arc::clone(&other.cell) }
    }

    /// Nobody sees anything through it any more.
    fn blind_out(&self) {
        self.boot.store(0, Ordering::Relaxed);
    }

    /// The token, if it is usable. `now` is a moment less than a second ago. Where that second matters, the cell is asked.
    ///
    /// The moments are this very token's, and no later moment ever stands beside it. Therefore it is enough to look at
    /// them before the token is taken.
    #[inline]
    pub(super) fn read(&self, now: Nanos) -> Read {
        let is_calm = now.boot < self.boot.load(Ordering::Relaxed) && now.wall < self.wall;
        match self.token.as_ref().filter(|_| is_calm) {
            Some(token) => Read { token: Some(token.clone()), reports: false },
            None => self.cell.slot.read_exactly(),
        }
    }

    /// Relaxed is enough: a use that is seen late may cost a call, and nothing else.
    #[inline]
    pub(super) fn note_use(&self) {
        if self.used.load(Ordering::Relaxed) != Self::USED {
            self.used.store(Self::USED, Ordering::Relaxed);
        }
    }

    /// Whether it was used since this was asked last.
    pub(super) fn was_used(&self, since: u8) -> bool {
        self.used.fetch_and(!since, Ordering::Relaxed) & since != 0
    }
}

/// The window of a key stands before the slot of its cell.
pub(super) struct Frame<'a, K> {
    pub(super) cells: &'a Cells<K>,
    pub(super) key: &'a K,
    pub(super) cell: &'a Cell,
}

impl<K: Hash + Eq + Clone> Front<Single> for Frame<'_, K> {
    /// The key may have gone meanwhile, and come back with another cell: then there is nothing to do.
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

//! The names of the library's `src/sync.rs`, with loom's types behind them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};

pub(crate) mod watch;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("loom ends a model at its first panic")
}

/// Stands for arc_swap's: a list of everything that was ever stored, and one atomic number, the index of the last.
///
/// loom sees the number only. So a load may return an older value wherever the memory model allows that: it orders
/// no more than arc_swap promises, an acquiring load and a releasing swap. A mutex would order readers as well.
pub(crate) struct ArcSwapOption<T> {
    stored: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    last: AtomicUsize,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self { stored: std::sync::Mutex::new(vec![None]), last: AtomicUsize::new(0) }
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        let index = self.last.load(Ordering::Acquire);
        Loaded(self.stored()[index].clone())
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        // std's lock is not held where loom may change to another thread.
        let index = {
            let mut stored = self.stored();
            stored.push(value);
            stored.len() - 1
        };
        self.last.swap(index, Ordering::AcqRel);
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Vec<Option<Arc<T>>>> {
        self.stored.lock().expect("nothing panics under it")
    }
}

impl<T> fmt::Debug for ArcSwapOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArcSwapOption")
    }
}

/// Stands for arc_swap's guard.
pub(crate) struct Loaded<T>(Option<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

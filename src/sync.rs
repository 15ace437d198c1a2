//! What threads share: the types of std, arc-swap and tokio, or loom's where the interleavings are tried
//! (`tests/loom`).

#[cfg(feature = "registry")]
pub(crate) use std::sync::atomic::AtomicU8;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use tokio::sync::watch;

/// Nothing of this crate's that can panic runs under its locks, and of its users' only how they compare and hash the keys of
/// a registry. So a poisoned one is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

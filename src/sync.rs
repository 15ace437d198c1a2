//! The types that threads share: those of std, arc-swap and tokio, or loom's when the interleavings are tested
//! (`tests/loom`).

#[cfg(feature = "registry")]
pub(crate) use std::sync::atomic::AtomicU8;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use tokio::sync::watch;

/// No code of this crate that can panic runs under its locks. Of its users' code, only the comparison and hashing
/// of a registry's keys runs under them. Therefore a poisoned lock can be used like any other.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Bare primitives, as a lower bound of the cost of a read. None of them fetches anything.

use std::future::Future;
use std::hint::black_box;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::peer::Read;

struct Kept {
    _secret: String,
    end: Instant,
}

impl Kept {
    fn new() -> Arc<Self> {
        Arc::new(Self { _secret: "0".repeat(900), end: Instant::now() + Duration::from_secs(3600) })
    }
}

fn fresh(kept: &Kept) -> bool {
    Instant::now() < kept.end
}

/// The clock alone.
pub struct Now;

impl Read for Now {
    fn read(&self) -> impl Future<Output = ()> + Send {
        async {
            black_box(Instant::now());
        }
    }
}

/// A borrowed token: cannot be kept across an await for long.
pub struct Guard(ArcSwap<Kept>);

impl Guard {
    pub fn new() -> Self {
        Self(ArcSwap::new(Kept::new()))
    }
}

impl Read for Guard {
    fn read(&self) -> impl Future<Output = ()> + Send {
        async {
            let kept = self.0.load();
            black_box(fresh(&kept));
        }
    }
}

/// An owned token.
pub struct LoadFull(ArcSwap<Kept>);

impl LoadFull {
    pub fn new() -> Self {
        Self(ArcSwap::new(Kept::new()))
    }
}

impl Read for LoadFull {
    fn read(&self) -> impl Future<Output = ()> + Send {
        async {
            let kept = self.0.load_full();
            black_box(fresh(&kept).then_some(kept));
        }
    }
}

pub struct StdRwLock(RwLock<Arc<Kept>>);

impl StdRwLock {
    pub fn new() -> Self {
        Self(RwLock::new(Kept::new()))
    }
}

impl Read for StdRwLock {
    fn read(&self) -> impl Future<Output = ()> + Send {
        async {
            let kept = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
            black_box(fresh(&kept).then_some(kept));
        }
    }
}

pub struct TokioMutex(tokio::sync::Mutex<Arc<Kept>>);

impl TokioMutex {
    pub fn new() -> Self {
        Self(tokio::sync::Mutex::new(Kept::new()))
    }
}

impl Read for TokioMutex {
    fn read(&self) -> impl Future<Output = ()> + Send {
        async {
            let kept = Arc::clone(&*self.0.lock().await);
            black_box(fresh(&kept).then_some(kept));
        }
    }
}

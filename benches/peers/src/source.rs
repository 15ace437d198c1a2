//! The source of every peer's tokens: a stand-in for an authorization server that takes some time, counts its
//! calls, and fails on demand.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// As long as an access token often is.
const SECRET_LENGTH: usize = 900;
const HOUR: Duration = Duration::from_secs(3600);

/// A clone is the same source.
#[derive(Clone, Debug, Default)]
pub struct Source(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    calls: AtomicU64,
    takes_ms: AtomicU64,
    fails: AtomicBool,
    first_lasts_ms: AtomicU64,
    /// When each token ends, by its number less one.
    ends: Mutex<Vec<Instant>>,
}

/// A token as an authorization server gives it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub secret: String,
    pub lifetime: Duration,
}

/// "503".
#[derive(Clone, Copy, Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source refuses")
    }
}

impl std::error::Error for Refused {}

impl Source {
    /// Each call takes so long; tokens last an hour.
    pub fn taking(time: Duration) -> Self {
        let source = Self::default();
        source.takes(time);
        source
    }

    /// From now on each call takes so long.
    pub fn takes(&self, time: Duration) {
        self.0.takes_ms.store(millis(time), Relaxed);
    }

    /// The first token lasts only so long.
    pub fn first_lasts(self, lifetime: Duration) -> Self {
        self.0.first_lasts_ms.store(millis(lifetime), Relaxed);
        self
    }

    /// From now on every call fails.
    pub fn fail(&self) {
        self.0.fails.store(true, Relaxed);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Relaxed)
    }

    /// Whether the token of this number has ended.
    pub fn has_ended(&self, number: u64) -> bool {
        let ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(number)
            .ok()
            .and_then(|number| ends.get(number.wrapping_sub(1)))
            .is_none_or(|end| *end <= Instant::now())
    }

    /// One call.
    pub async fn fetch(&self) -> Result<Answer, Refused> {
        self.0.calls.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(self.0.takes_ms.load(Relaxed))).await;
        if self.0.fails.load(Relaxed) {
            return Err(Refused);
        }
        let mut ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.0.first_lasts_ms.load(Relaxed);
        let lifetime = if ends.is_empty() && first > 0 { Duration::from_millis(first) } else { HOUR };
        ends.push(Instant::now() + lifetime);
        Ok(Answer { secret: format!("{:0>SECRET_LENGTH$}", ends.len()), lifetime })
    }
}

/// Which of the source's tokens this is.
pub fn number(secret: &str) -> u64 {
    secret.trim_start_matches("Bearer ").parse().unwrap_or(0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

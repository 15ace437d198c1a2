//! What servers want to find in the next proof: a nonce, and their own time (RFC 9449 sections 8 and 9).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{Timestamp, moved, seconds_ahead};
use crate::transport::date;

pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// In bytes. Longer ones are ignored: a header of requests has no room for them.
const LONGEST: usize = 512;

/// Resources are remembered by their origin, the last ones of so many.
const MOST_ORIGINS: usize = 100;

/// A request that was sent with an older nonce is answered within this time.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// The nonce in an answer, if there is one by the syntax of section 8.1. Of several different ones, none is believed.
pub(super) fn nonce_of(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(DPOP_NONCE).iter().map(HeaderValue::as_bytes);
    let value = values.next()?;
    let is_sound = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_one = !value.is_empty() && value.len() <= LONGEST && value.iter().all(is_sound);
    (is_one && values.all(|other| other == value)).then(|| std::str::from_utf8(value).ok()).flatten()
}

/// How far the clock of whoever answered is ahead of `now`, in seconds.
fn clock_offset(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    date(headers).map(|date| seconds_ahead(date, now))
}

/// What one key knows of the resources at which it proves itself.
#[derive(Default)]
pub(super) struct Resources(Mutex<Vec<Resource>>);

struct Resource {
    origin: Box<str>,
    nonce: Option<Arc<str>>,
    /// By how many seconds its clock is ahead of ours.
    clock_offset: i64,
    /// Proofs with the present nonce whose answers have not come.
    unanswered: u32,
    /// The same with an older nonce, or with none.
    outdated: u32,
    /// When the present nonce came, by the boot clock.
    since: Duration,
}

/// What a proof needs.
pub(super) struct Wanted {
    pub(super) nonce: Option<Arc<str>>,
    /// The time by the server's clock.
    pub(super) now: SystemTime,
}

impl Resources {
    /// For a proof that is about to be sent.
    pub(super) fn wanted(&self, origin: &str, now: Timestamp) -> Wanted {
        self.at(origin, |resource| {
            resource.unanswered = resource.unanswered.saturating_add(1);
            Wanted { nonce: resource.nonce.clone(), now: moved(now.wall, resource.clock_offset) }
        })
    }

    /// From an answer. Returns whether a repetition of the request would have a nonce that the request had not.
    ///
    /// Nobody says to which request an answer belongs. A new nonce is one that the request had not. The present nonce is
    /// one that the request may not have had if proofs with an older one are still unanswered. So, of requests that were
    /// sent at the same time, each learns that it may be repeated, and a server that refuses the nonce which it has just
    /// given is not asked a third time.
    pub(super) fn learn(&self, origin: &str, headers: &HeaderMap, now: Timestamp) -> bool {
        let (nonce, clock_offset) = (nonce_of(headers), clock_offset(headers, now.wall));
        self.at(origin, |resource| {
            resource.clock_offset = clock_offset.unwrap_or(resource.clock_offset);
            if now.boot.saturating_sub(resource.since) > LONGEST_REQUEST {
                resource.outdated = 0;
            }
            let Some(nonce) = nonce.filter(|nonce| resource.nonce.as_deref() != Some(nonce)) else {
                let may_be_outdated = nonce.is_some() && resource.outdated > 0;
                resource.answered();
                return may_be_outdated;
            };
            resource.answered();
            resource.outdated = resource.outdated.saturating_add(std::mem::take(&mut resource.unanswered));
            resource.nonce = Some(nonce.into());
            resource.since = now.boot;
            true
        })
    }

    /// The resource, which becomes the last one to be forgotten.
    fn at<R>(&self, origin: &str, visit: impl FnOnce(&mut Resource) -> R) -> R {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter().position(|resource| &*resource.origin == origin) {
            Some(0) => {}
            Some(at) => known[..=at].rotate_right(1),
            None => {
                known.truncate(MOST_ORIGINS - 1);
                known.insert(0, Resource::new(origin));
            }
        }
        visit(&mut known[0])
    }
}

impl Resource {
    fn new(origin: &str) -> Self {
        Self {
            origin: origin.into(),
            nonce: None,
            clock_offset: 0,
            unanswered: 0,
            outdated: 0,
            since: Duration::ZERO,
        }
    }

    fn answered(&mut self) {
        let counter = if self.unanswered > 0 { &mut self.unanswered } else { &mut self.outdated };
        *counter = counter.saturating_sub(1);
    }
}

/// The nonce of the authorization server, apart from those of resources (RFC 9449 section 8).
#[derive(Default)]
pub(super) struct ServerNonce(Mutex<Option<Arc<str>>>);

impl ServerNonce {
    pub(super) fn get(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From an answer. Returns whether the answer has a nonce that is not `sent`.
    pub(super) fn learn(&self, headers: &HeaderMap, sent: Option<&str>) -> bool {
        let Some(nonce) = nonce_of(headers) else { return false };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(nonce) {
            *known = Some(nonce.into());
        }
        sent != Some(nonce)
    }
}

#[cfg(test)]
mod tests;

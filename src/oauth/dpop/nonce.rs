//! The server's requirements on the next proof: a nonce, and the server's own time (RFC 9449 sections 8 and 9).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{Timestamp, moved, seconds_ahead};
use crate::token::ProofNonce;
use crate::transport::date;

pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// In bytes. Longer nonces are ignored, because a request's header has no room for them.
const LONGEST: usize = 512;

/// The maximum number of remembered resources, by origin.
const MOST_ORIGINS: usize = 100;

/// A request with an older nonce is answered within this time.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// The nonce in an answer, if there is one by the syntax of section 8.1. If there are several different ones, none
/// is accepted.
pub(super) fn nonce_of(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(DPOP_NONCE).iter().map(HeaderValue::as_bytes);
    let value = values.next()?;
    let is_sound = |byte: &u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let is_one = !value.is_empty() && value.len() <= LONGEST && value.iter().all(is_sound);
    (is_one && values.all(|other| other == value)).then(|| std::str::from_utf8(value).ok()).flatten()
}

/// How far the server's clock is ahead of `now`, in seconds.
fn clock_offset(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    date(headers).map(|date| seconds_ahead(date, now))
}

/// The knowledge about the resources of one key.
#[derive(Default)]
pub(super) struct Resources(Mutex<Vec<Resource>>);

struct Resource {
    origin: Box<str>,
    nonce: Option<Arc<str>>,
    /// How far its clock is ahead of ours, in seconds.
    clock_offset: i64,
    /// Proofs with the present nonce that are not answered yet. Noted proofs do not count.
    unanswered: u32,
    /// Proofs with an older nonce, or with none, that are not answered yet.
    outdated: u32,
    /// When the present nonce came, by the boot clock.
    since: Duration,
}

/// The inputs of a proof.
pub(super) struct Wanted {
    pub(super) nonce: Option<Arc<str>>,
    /// The time by the server's clock.
    pub(super) now: SystemTime,
}

impl Resources {
    /// The inputs of a proof that is about to be sent. `is_noted`: its sender keeps the nonce. Such a proof need not
    /// be counted, and may be given up at any time.
    pub(super) fn wanted(&self, origin: &str, now: Timestamp, is_noted: bool) -> Wanted {
        self.at(origin, |resource| {
            if !is_noted {
                resource.unanswered = resource.unanswered.saturating_add(1);
            }
            Wanted { nonce: resource.nonce.clone(), now: moved(now.wall, resource.clock_offset) }
        })
    }

    /// Learns from an answer. Returns whether a repeated request would have a nonce that the request did not have.
    ///
    /// A sender that has noted its nonce says so: the answer's nonce is compared with `sent`.
    ///
    /// For all others it is not known to which request an answer belongs. A new nonce is one that the request did
    /// not have. If proofs with an older nonce are still unanswered, the request may not have had the present nonce.
    /// Therefore each of several requests that were sent at the same time learns that it may be repeated. A server
    /// that refuses the nonce which it has just given gets no third request.
    pub(super) fn learn(
        &self,
        origin: &str,
        headers: &HeaderMap,
        now: Timestamp,
        sent: Option<&ProofNonce>,
    ) -> bool {
        let (nonce, clock_offset) = (nonce_of(headers), clock_offset(headers, now.wall));
        self.at(origin, |resource| {
            resource.clock_offset = clock_offset.unwrap_or(resource.clock_offset);
            if now.boot.saturating_sub(resource.since) > LONGEST_REQUEST {
                resource.outdated = 0;
            }
            let may_be_outdated = nonce.is_some() && resource.outdated > 0;
            if sent.is_none() {
                resource.answered();
            }
            let is_new = nonce.is_some() && nonce != resource.nonce.as_deref();
            if is_new {
                resource.outdated =
                    resource.outdated.saturating_add(std::mem::take(&mut resource.unanswered));
                resource.nonce = nonce.map(Into::into);
                resource.since = now.boot;
            }
            match sent {
                Some(sent) => nonce.is_some() && nonce != sent.0.as_deref(),
                None => is_new || may_be_outdated,
            }
        })
    }

    /// The resource. It becomes the last one to be forgotten.
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

/// The nonce of the authorization server, separate from those of resources (RFC 9449 section 8).
#[derive(Default)]
pub(super) struct ServerNonce(Mutex<Option<Arc<str>>>);

impl ServerNonce {
    pub(super) fn get(&self) -> Option<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Learns from an answer. Returns whether the answer has a nonce that is not `sent`.
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
